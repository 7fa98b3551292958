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
        ("//@unrol", "`//@unrol` is no annotation; these are: import, variant, if, else, end, unroll, optional"),
        ("//@ if A", "`//@` is no annotation"),
        ("    //@Import a.wgsl", "`//@Import` is no annotation"),
        ("let a = 1; //@unroll", "an annotation stands on a line of its own"),
        ("//@if", "`//@if` wants the name of one constant"),
        ("//@if A B", "`//@if` wants the name of one constant"),
        ("//@import", "`//@import` wants the name of one file"),
        ("//@end A", "`//@end` stands alone, but `A` follows it"),
        ("//@variant", "`//@variant` wants `NAME: KEY=VALUE"),
        ("//@variant wide LANES=8", "`//@variant` wants `NAME: KEY=VALUE"),
        ("//@variant wide:", "`//@variant` wants `NAME: KEY=VALUE"),
        ("//@variant wide: LANES", "`LANES` in the variant `wide` is not KEY=VALUE with a whole number"),
        ("//@variant wide: LANES=8u", "`LANES=8u` in the variant `wide`"),
        ("//@variant wide: LANES=8 LANES=4", "the variant `wide` sets `LANES` twice"),
        ("//@else", "//@else without //@if"),
        ("//@end", "//@end without //@if"),
        ("//@if A", "unknown constant `A`"),
    ] {
        let message = refused(&format!("fn a() {{}}\n{line}\n"));
        assert!(message.starts_with(&format!("shaders/a.wgsl:2: {what}")), "{line}: {message}");
    }
    assert!(refused("const A: u32 = 0u;\n//@if A").contains("//@if without //@end"));
    let inner = [("a.wgsl", "//@import common/b.wgsl"), ("common/b.wgsl", "//@variant wide: LANES=8")];
    assert!(expand(&inner, &[], false).unwrap_err().starts_with("shaders/common/b.wgsl:1: variants are declared in"));
}

#[test]
fn variants_are_read_in_order_and_once() {
    let variant = |name: &str, constants: &[(&str, u32)]| Variant {
        name: name.into(),
        constants: constants.iter().map(|(n, v)| (n.to_string(), *v)).collect(),
    };
    let read = |text: &str| shader_text::variants("a.wgsl", text).map_err(|e| e.to_string());
    let two = "//@variant wide: LANES=32 EACH=2\nfn a() {}\n//@variant flat: LANES=1";
    assert_eq!(read(two).unwrap(), [variant("wide", &[("LANES", 32), ("EACH", 2)]), variant("flat", &[("LANES", 1)])]);
    assert_eq!(
        Annotation::read("//@variant flat: LANES=1"),
        Ok(Some(Annotation::Variant(variant("flat", &[("LANES", 1)]))))
    );
    for again in ["//@variant wide: LANES=8", "//@variant other: LANES=1"] {
        assert!(read(&format!("{two}\n{again}")).unwrap_err().starts_with("shaders/a.wgsl:4: the variant"));
    }
}

/// What build.rs made of the files is what the preprocessor makes of them now.
#[test]
fn every_kernel_has_its_variants_and_entry_points() {
    for file in KERNEL_FILES {
        for variant in file.variants().unwrap() {
            let text = file.expand(&variant.given(), false).unwrap().text;
            for entry in file.entries {
                assert!(
                    text.contains(&format!("fn {}(", entry.name)),
                    "{} {}: {}",
                    file.name,
                    variant.name,
                    entry.name
                );
            }
        }
    }
    assert!(kernel_file("linear").unwrap().variants().unwrap().len() > 40);
    assert!(kernel_file("linea").is_err());
}
