//! No line of code, of a comment or of prose is wider than 120 columns.

use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line at most; `cargo fmt` leaves strings and comments as they are.
const MOST: usize = 120;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files with one of these endings below a folder.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => all.extend(files(&entry, endings)),
            false if entry.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) => all.push(entry),
            false => {}
        }
    }
    all
}

/// Whether a line is too wide and could be broken: not a row of a table, a heading, a link or an address.
fn is_too_wide(line: &str) -> bool {
    let whole = line.starts_with('|') || line.starts_with('#') || line.contains("](") || line.contains("://");
    line.chars().count() > MOST && !whole
}

/// `path:line` of every such line of some files.
fn too_wide(files: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(root()).unwrap().display();
        let lines = text.lines().enumerate().filter(|(_, line)| is_too_wide(line));
        found.extend(lines.map(|(i, _)| format!("{path}:{}", i + 1)));
    }
    found
}

#[test]
fn code_and_its_comments_have_at_most_120_columns() {
    let folders = ["src", "tests", "benches", "examples", "build"].map(|folder| root().join(folder));
    let mut all: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder, &["rs", "wgsl"])).collect();
    all.push(root().join("build.rs"));
    assert_eq!(too_wide(&all), [""; 0]);
}

#[test]
fn pages_have_at_most_120_columns() {
    let mut all = files(&root().join("docs"), &["md"]);
    all.extend(["README.md", "CONTRIBUTING.md"].map(|page| root().join(page)));
    assert_eq!(too_wide(&all), [""; 0]);
}

#[test]
fn what_can_be_broken_is_told_from_what_cannot() {
    let wide = "word ".repeat(30);
    assert!(is_too_wide(&wide) && is_too_wide(&format!("/// {wide}")));
    assert!(!is_too_wide(&"ε".repeat(MOST)), "columns are characters");
    for whole in
        [format!("| {wide}|"), format!("## {wide}"), format!("{wide}[page](page.md)"), format!("{wide}http://x")]
    {
        assert!(!is_too_wide(&whole), "{whole}");
    }
}
