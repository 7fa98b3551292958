//! The pages: README is short and names every command, every link leads somewhere, every page is listed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Paths of all pages below `docs` and beside the README.
fn pages() -> Vec<PathBuf> {
    let folder = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = folder(root().to_owned())
        .chain(folder(root().join("docs")))
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.sort();
    pages
}

/// The lines of a page that are not in a block of code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut code = false;
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            lines.push((i + 1, line));
        }
    }
    lines
}

/// Names of a page's headings in links, as GitHub makes them.
fn anchors(text: &str) -> HashSet<String> {
    let heading = |line: &str| line.trim_start_matches('#').trim().to_lowercase();
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    prose(text)
        .into_iter()
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| heading(line).chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-"))
        .collect()
}

/// Targets of the links of a page, those of pictures included.
fn links(text: &str) -> Vec<String> {
    let all: Vec<&str> = prose(text).into_iter().map(|(_, line)| line).collect();
    let all = all.join("\n");
    let mut parts = all.split("](");
    parts.next();
    parts.filter_map(|part| part.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn readme_has_at_most_120_lines() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= 120, "README.md has {lines} lines; what is more belongs in a page of docs");
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        for link in links(&read(&page)) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() {
                let known = anchors(&read(&target));
                assert!(known.contains(anchor), "{}: {link} has no such heading, of {known:?}", page.display());
            }
        }
    }
}

#[test]
fn every_page_of_docs_is_listed_with_a_line() {
    let list = read(&root().join("docs/README.md"));
    for page in pages().iter().filter(|page| page.starts_with(root().join("docs"))) {
        let name = page.file_name().unwrap().to_str().unwrap();
        let row = format!("| [{name}]({name}) | ");
        assert!(name == "README.md" || list.contains(&row), "docs/README.md has no row for {name}");
    }
}

#[test]
fn readme_names_every_command() {
    let help = Command::new(env!("CARGO_BIN_EXE_lowland")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let list = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    // A command's line has two blanks in front, the further lines of its explanation have more.
    let commands = list.lines().filter_map(|l| l.strip_prefix("  ")).filter(|l| !l.starts_with(' '));
    let readme = read(&root().join("README.md"));
    let mut seen = 0;
    for command in commands.filter_map(|l| l.split_whitespace().next()).filter(|c| *c != "help") {
        assert!(readme.contains(&format!("`lowland {command}`")), "README.md does not name `lowland {command}`");
        seen += 1;
    }
    assert!(seen > 10, "{seen} commands in\n{help}");
}

#[test]
fn continuous_integration_runs_the_test_line_of_the_readme() {
    let ci = read(&root().join(".ci/run"));
    let readme = read(&root().join("README.md"));
    assert!(ci.lines().any(|l| l == "make test"), "{ci}");
    assert!(readme.lines().any(|l| l.starts_with("make test ")), "README.md has no line `make test`");
}

/// The table of docs/regauge.md against what each type of model says of itself.
#[test]
fn the_table_of_gauges_is_what_each_type_has() {
    use lowland::model::{Encoder, GaugeKind, ModelConfig, ModelKind};
    let page = read(&root().join("docs/regauge.md"));
    let has = |kind: ModelKind, gauge: GaugeKind, tied: bool| {
        let config = ModelConfig { kind, tie_word_embeddings: tied, ..ModelConfig::default() };
        let encoder = Encoder::new(&config).unwrap();
        encoder.gauges(gauge, &encoder.pieces()).is_ok()
    };
    for kind in ModelKind::ALL {
        let cell = |gauge: GaugeKind| match [true, false].map(|tied| has(kind, gauge, tied)) {
            [true, true] => "yes",
            [true, false] => "tied",
            [false, true] => "untied",
            [false, false] => "no",
        };
        let row = GaugeKind::ALL[..6].iter().map(|gauge| cell(*gauge)).collect::<Vec<_>>().join(" | ");
        let row = format!("| `{}` | {row} |", kind.name());
        assert!(page.contains(&row), "docs/regauge.md has not the row\n{row}");
    }
}
