//! The preprocessor of `shaders/` alone, and what it says of annotations that cannot be read.

use lowland::gpu::annotations::{Annotation, Variant};
use lowland::gpu::shader_text::{self, Expanded};
use lowland::gpu::{KERNEL_FILES, kernel_file};

/// Files by name.
fn reader<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| files.iter().find(|(n, _)| *n == name).map(|(_, text)| text.to_string())
}

fn expand(files: &[(&str, &str)], constants: &[(&str, u32)], images: bool) -> Result<Expanded, String> {
    shader_text::expand(files[0].0, &reader(files), constants, images).map_err(|e| e.to_string())
}

/// The lines of a single file with these constants, without empty ones.
fn lines(text: &str, constants: &[(&str, u32)]) -> Vec<String> {
    let expanded = expand(&[("a.wgsl", text)], constants, false).unwrap();
    expanded.text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect()
}

/// What is wrong with a file.
fn refused(text: &str) -> String {
    expand(&[("a.wgsl", text)], &[], false).unwrap_err()
}

#[test]
fn a_file_is_imported_once_and_lines_keep_their_places() {
    let files = [
        ("a.wgsl", "//@import common/b.wgsl\n//@import common/c.wgsl\nfn a() {}"),
        ("common/b.wgsl", "//@import common/c.wgsl\nfn b() {}"),
        ("common/c.wgsl", "enable f16;\nfn c() {}"),
    ];
    let expanded = expand(&files, &[], false).unwrap();
    assert_eq!(expanded.text, "enable f16;\nfn c() {}\nfn b() {}\nfn a() {}\n", "`enable` first, each file once");
    let places: Vec<String> = (1..=4).map(|line| expanded.locate(line)).collect();
    assert_eq!(
        places,
        ["common/c.wgsl:1", "common/c.wgsl:2", "common/b.wgsl:2", "a.wgsl:3"].map(|p| format!("shaders/{p}"))
    );
    let missing = expand(&[("a.wgsl", "\n//@import common/b.wgsl")], &[], false).unwrap_err();
    assert_eq!(missing, "shaders/a.wgsl:2: imports `common/b.wgsl`, which is not in shaders/");
}

#[test]
fn parts_are_kept_by_constants_and_what_follows_from_them() {
    let text = "const LANES: u32 = 4u;\nconst MORE: u32 = (LANES - 4u) * 2u;\n//@if MORE\nmany\n//@if \
        OTHER\nnever\n//@end\n//@else\nfew\n//@end";
    assert_eq!(lines(text, &[]), ["const LANES: u32 = 4u;", "const MORE: u32 = (LANES - 4u) * 2u;", "few"]);
    let text = text.replace("//@if OTHER\nnever\n//@end\n", "");
    assert_eq!(
        lines(&text, &[("LANES", 8)]),
        ["const LANES: u32 = 8u;", "const MORE: u32 = (LANES - 4u) * 2u;", "many"]
    );
    let unknown = expand(&[("a.wgsl", &text)], &[("LANE", 8)], false).unwrap_err();
    assert_eq!(unknown, "shaders/a.wgsl:1: has no constant `LANE`");
}

#[test]
fn a_file_that_a_part_left_out_imports_is_still_to_come() {
    let files = [
        ("a.wgsl", "const A: u32 = 0u;\n//@if A\n//@import common/b.wgsl\n//@else\n//@import common/b.wgsl\n//@end"),
        ("common/b.wgsl", "fn b() {}"),
    ];
    for constants in [vec![], vec![("A", 1)]] {
        assert!(expand(&files, &constants, false).unwrap().text.ends_with("u;\nfn b() {}\n"), "{constants:?}");
    }
    let open = [("a.wgsl", "//@import common/b.wgsl\n//@end"), ("common/b.wgsl", "const A: u32 = 1u;\n//@if A")];
    assert_eq!(expand(&open, &[], false).unwrap_err(), "shaders/common/b.wgsl:2: //@if without //@end");
}

#[test]
fn loops_are_written_out_one_in_another() {
    let text = "const N: u32 = 2u;\n//@unroll\nfor (var i = 0u; i < N; i++) {\n//@unroll\nfor (var j = i; j < i + 1u; \
        j++) {\nx[i][j]\n}\n}";
    let inner = |i: u32| {
        [format!("{{ const i = {i}u;"), format!("{{ const j = {i}u;"), "x[i][j]".into(), "}".into(), "}".into()]
    };
    let expected: Vec<String> =
        ["const N: u32 = 2u;".to_string()].into_iter().chain(inner(0)).chain(inner(1)).collect();
    assert_eq!(lines(text, &[]), expected);
    assert!(refused("//@unroll\nwhile true {\n}").contains("a.wgsl:2: //@unroll wants `for (var"));
    assert!(refused("//@unroll\nfor (var i = 0u; i < p.n; i++) {\n}").contains("`p.n` is not a known constant"));
    assert!(refused("//@unroll\nfor (var i = 0u; i < 2u; i++) {").contains("wants its closing brace"));
    assert!(refused("//@unroll").contains("a.wgsl:1"));
}

#[test]
fn read_only_vectors_become_images() {
    let text = "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;\n@group(0) @binding(1) var<storage, \
        read_write> y: array<vec4<f32>>;\ny[0] = x[x[1].y + 2u] + box[0];";
    let expanded = expand(&[("a.wgsl", text)], &[], true).unwrap().text;
    let load = |index: &str| format!("textureLoad(x, vec2<u32>(({index}) & 4095u, ({index}) >> 12u))");
    assert!(expanded.starts_with(
        "@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>;\n@group(0) \
         @binding(1) var<storage, read_write> y"
    ));
    assert!(
        expanded.ends_with(&format!("y[0] = {} + box[0];\n", load(&format!("{}.y + 2u", load("1"))))),
        "{expanded}"
    );
}

#[test]
fn an_annotation_that_cannot_be_read_is_refused_with_its_line() {
    for (line, what) in [
        ("//@unrol", "`//@unrol` is no annotation; these are: import, variants, if, else, end, unroll, optional"),
        ("//@ if A", "`//@` is no annotation"),
        ("    //@Import a.wgsl", "`//@Import` is no annotation"),
        ("let a = 1; //@unroll", "an annotation stands on a line of its own"),
        ("//@if", "`//@if` wants the name of one constant"),
        ("//@if A B", "`//@if` wants the name of one constant"),
        ("//@import", "`//@import` wants the name of one file"),
        ("//@end A", "`//@end` stands alone, but `A` follows it"),
        ("//@variant wide: LANES=8", "`//@variant` is no annotation"),
        ("//@variants", "`//@variants` wants `KEY=VALUE KEY=VALUE|VALUE ..`"),
        ("//@variants wide: LANES=8", "`wide:` is not KEY=VALUE or KEY=VALUE|VALUE with whole numbers"),
        ("//@variants LANES", "`LANES` is not KEY=VALUE"),
        ("//@variants =8", "`=8` is not KEY=VALUE"),
        ("//@variants LANES=8u", "`LANES=8u` is not KEY=VALUE"),
        ("//@variants LANES=4|", "`LANES=4|` is not KEY=VALUE"),
        ("//@variants LANES=4 | 8", "`|` is not KEY=VALUE"),
        ("//@variants LANES=8 LANES=4", "a variant sets `LANES` twice"),
        ("//@else", "//@else without //@if"),
        ("//@end", "//@end without //@if"),
        ("//@if A", "unknown constant `A`"),
    ] {
        let message = refused(&format!("fn a() {{}}\n{line}\n"));
        assert!(message.starts_with(&format!("shaders/a.wgsl:2: {what}")), "{line}: {message}");
    }
    assert!(refused("const A: u32 = 0u;\n//@if A").contains("//@if without //@end"));
    let inner = [("a.wgsl", "//@import common/b.wgsl"), ("common/b.wgsl", "//@variants LANES=8")];
    assert!(expand(&inner, &[], false).unwrap_err().starts_with("shaders/common/b.wgsl:1: variants are declared in"));
}

#[test]
fn variants_are_every_choice_of_their_values_in_order_and_once() {
    let read = |text: &str| shader_text::variants("a.wgsl", text).map_err(|e| e.to_string());
    let names = |text: &str| read(text).unwrap().iter().map(Variant::to_string).collect::<Vec<_>>();
    let two = "//@variants LANES=32 EACH=2\nfn a() {}\n//@variants LANES=1";
    assert_eq!(names(two), ["LANES=32 EACH=2", "LANES=1"]);
    let product = "//@variants ROWS=16|32 WIDE=1 LANES=8|4";
    let all = [(16, 8), (16, 4), (32, 8), (32, 4)].map(|(rows, lanes)| format!("ROWS={rows} WIDE=1 LANES={lanes}"));
    assert_eq!(names(product), all);
    assert_eq!(read(product).unwrap()[1].given(), [("ROWS", 16), ("WIDE", 1), ("LANES", 4)]);
    assert_eq!(Annotation::read(product), Ok(Some(Annotation::Variants(read(product).unwrap()))));
    for (again, which) in [("LANES=1", "LANES=1"), ("EACH=3|2 LANES=32", "EACH=2 LANES=32"), ("N=5|5", "N=5")] {
        let message = read(&format!("{two}\n//@variants {again}")).unwrap_err();
        assert_eq!(message, format!("shaders/a.wgsl:4: the variant `{which}` is there already"));
    }
}

/// What build.rs made of the files is what the preprocessor makes of them now.
#[test]
fn every_kernel_has_its_variants_and_entry_points() {
    for file in KERNEL_FILES {
        for variant in file.variants().unwrap() {
            let text = file.expand(&variant.given(), false).unwrap().text;
            for entry in file.entries {
                assert!(text.contains(&format!("fn {}(", entry.name)), "{} {variant}: {}", file.name, entry.name);
            }
        }
    }
    assert!(kernel_file("linear").unwrap().variants().unwrap().len() > 40);
    assert!(kernel_file("linea").is_err());
}
