//! The table of `docs/architecture.md` against what the files of `src` import, and every file of tests in a binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Imports = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => all.extend(files(&entry)),
            false if entry.extension().is_some_and(|e| e == "rs") => all.push(entry),
            false => {}
        }
    }
    all.sort();
    all
}

/// The first folder of a path below `src`, or its file's stem.
fn room(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_string()
}

/// The code of a file: no comments, and no tests at its end.
fn code(text: &str) -> String {
    let tests = |line: &str| line.starts_with("#[cfg(") && line.contains("test");
    let lines = text.lines().take_while(|line| !tests(line));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The words that stand first behind every `crate::`, also where a brace follows: `crate::{gpu::Gpu, ops}`.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut all = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let Some(list) = part.strip_prefix('{') else {
            all.insert(word(part));
            continue;
        };
        let (mut depth, mut begins) = (1, true);
        for (i, c) in list.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 {
                break;
            }
            if begins && !c.is_whitespace() {
                all.insert(word(&list[i..]));
            }
            begins = depth == 1 && (c == ',' || begins && c.is_whitespace());
        }
    }
    all
}

/// The code of a file of `src`; that of `kernels` is what `build.rs` wrote.
fn code_of(path: &Path) -> String {
    let made = include_str!(concat!(env!("OUT_DIR"), "/kernels.rs"));
    let text = fs::read_to_string(root().join("src").join(path)).unwrap();
    code(if path == Path::new("kernels.rs") { made } else { &text })
}

/// What each room of `src` imports.
fn imports() -> Imports {
    let src = root().join("src");
    let paths: Vec<PathBuf> = files(&src).iter().map(|p| p.strip_prefix(&src).unwrap().to_path_buf()).collect();
    let rooms: BTreeSet<String> = paths.iter().map(|p| room(p)).filter(|r| r != "lib" && r != "main").collect();
    let mut all: Imports = rooms.iter().map(|r| (r.clone(), BTreeSet::new())).collect();
    for path in paths.iter().filter(|p| rooms.contains(&room(p))) {
        for name in named(&code_of(path)) {
            assert!(rooms.contains(&name), "{}: `crate::{name}` is no room", path.display());
            if name != room(path) {
                all.get_mut(&room(path)).unwrap().insert(name);
            }
        }
    }
    all
}

/// The table: each room with those it may import; `None` where it may import any.
fn table() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let ticked = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_string).collect::<BTreeSet<_>>();
    let rows = page.lines().skip_while(|l| !l.starts_with("| room |")).skip(2).take_while(|l| l.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [room, _, from] = cells[..] else { panic!("{row}") };
        let known = from == "any" || from == "nothing" || !ticked(from).is_empty();
        assert!(known, "which rooms is `{from}`?");
        (room.trim_matches('`').to_string(), (from != "any").then(|| ticked(from)))
    })
    .collect()
}

#[test]
fn rooms_import_what_the_table_allows() {
    let (imports, table) = (imports(), table());
    assert!(imports.keys().eq(table.keys()), "rooms {:?}, in the table {:?}", imports.keys(), table.keys());
    for (room, from) in &imports {
        let Some(allowed) = &table[room] else { continue };
        let more: Vec<&String> = from.iter().filter(|f| *f != "interrupt" && !allowed.contains(*f)).collect();
        assert!(more.is_empty(), "`{room}` imports {more:?}, which docs/architecture.md does not allow");
        let fewer: Vec<&String> = allowed.difference(from).collect();
        assert!(fewer.is_empty(), "`{room}` imports nothing of {fewer:?}: take it out of the table");
    }
}

#[test]
fn no_rooms_import_each_other_in_a_circle() {
    let imports = imports();
    let mut left: BTreeSet<&String> = imports.keys().collect();
    while !left.is_empty() {
        let free: Vec<&String> =
            left.iter().copied().filter(|room| imports[*room].iter().all(|from| !left.contains(from))).collect();
        assert!(!free.is_empty(), "each of {left:?} imports another of them");
        free.iter().for_each(|room| assert!(left.remove(room)));
    }
}

#[test]
fn imports_are_read_in_every_spelling() {
    let text = [
        "use crate::gpu::{Gpu, crate_name};",
        "use crate::{ops, graph::{ExecutionPlan, fit},",
        "    model::Arena};",
        "// crate::train",
        "fn f() { crate::text::read() }",
        "#[cfg(test)]",
        "mod tests { use crate::cli::x; }",
    ];
    let found: Vec<String> = named(&code(&text.join("\n"))).into_iter().collect();
    assert_eq!(found, ["gpu", "graph", "model", "ops", "text"]);
}

#[test]
fn the_lowest_rooms_name_no_command_flag_or_key() {
    let src = root().join("src");
    let words = ["`lowland ", "`--", " --", "`train.", "`model.", "`evaluate.", "exit code", "exit_code"];
    for path in ["gpu", "ops", "graph"].iter().flat_map(|room| files(&src.join(room))) {
        let text = fs::read_to_string(&path).unwrap();
        for word in words {
            let line = text.lines().position(|line| line.contains(word));
            assert!(line.is_none(), "{}:{}: `{word}` is a word of the rooms above", path.display(), line.unwrap() + 1);
        }
    }
}

#[test]
fn only_the_command_line_names_commands_and_flags() {
    let src = root().join("src");
    for path in files(&src) {
        let path = path.strip_prefix(&src).unwrap();
        // The colours of a page are named as CSS wants it, the options of a queue as the queue does.
        if ["cli", "main", "kernels"].contains(&room(path).as_str())
            || path.ends_with("report/palette.rs")
            || path.ends_with("sweep/queue.rs")
        {
            continue;
        }
        let code = code_of(path);
        for word in ["`lowland ", "`--", "\"--"] {
            let line = code.lines().find(|line| line.contains(word));
            assert!(line.is_none(), "{}: {line:?}: say it in src/cli/advice.rs", path.display());
        }
    }
}

#[test]
fn every_file_of_tests_is_in_a_binary() {
    let tests = root().join("tests");
    for path in files(&tests) {
        let path = path.strip_prefix(&tests).unwrap();
        let (folder, stem) = (room(path), path.file_stem().unwrap().to_str().unwrap());
        if folder == "common" || stem == "main" {
            continue;
        }
        let main = fs::read_to_string(tests.join(&folder).join("main.rs"));
        let main = main.unwrap_or_else(|_| panic!("cargo does not see tests/{}", path.display()));
        assert!(main.lines().any(|l| l == format!("mod {stem};")), "tests/{folder}/main.rs has no `mod {stem};`");
    }
}
