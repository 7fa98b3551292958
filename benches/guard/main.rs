//! What must not change while the code changes its shape: lists of dispatches, the numbers of every command on the
//! recorded models, and the bits of short training runs.
//!
//! ```sh
//! cargo bench --bench guard -- record FOLDER     # before the first edit
//! cargo bench --bench guard -- compare FOLDER    # after each step: ends with 1 and names what moved
//! ```
//!
//! With `--cases` it looks at the lists of the self-test's cases alone, with `--commands` at what the commands do. A
//! record belongs to one adapter, driver and width of vectors. A dispatch is known by a hash of the SPIR-V of its entry
//! point, its grid, its parameters' values and the sizes of its buffers: a renamed kernel, variable, buffer or
//! parameter moves nothing.

mod commands;
mod dispatches;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The lines of each thing that is guarded, by its name. What stands behind ` # ` is for people and not compared.
pub type Record = BTreeMap<String, Vec<String>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (how, folder, which) = match words.as_slice() {
        [how @ ("record" | "compare"), folder] => (*how, PathBuf::from(folder), ["case ", "command "].as_slice()),
        [how @ ("record" | "compare"), folder, "--cases"] => (*how, PathBuf::from(folder), ["case "].as_slice()),
        [how @ ("record" | "compare"), folder, "--commands"] => (*how, PathBuf::from(folder), ["command "].as_slice()),
        _ => {
            eprintln!("usage: cargo bench --bench guard -- record|compare FOLDER [--cases|--commands]");
            return ExitCode::from(2);
        }
    };
    let now = make(which);
    let path = folder.join("guard.json");
    if how == "record" {
        write(&path, &now);
        println!("{} lists in {}", now.len(), path.display());
        return ExitCode::SUCCESS;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}; record it first", path.display()));
    let mut before: Record = serde_json::from_str(&text).expect("written by `record`");
    before.retain(|name, _| name == "adapter" || which.iter().any(|w| name.starts_with(w)));
    let moved = moved(&before, &now);
    moved.iter().for_each(|line| println!("{line}"));
    println!(
        "{} of {} lists are equal",
        before.iter().filter(|(k, v)| now.get(*k).is_some_and(|n| same(v, n))).count(),
        before.len()
    );
    if moved.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn make(which: &[&str]) -> Record {
    let choice = std::env::var("LOWLAND_ADAPTER").unwrap_or("software".into()).parse().expect("LOWLAND_ADAPTER");
    let gpu = lowland::gpu::Gpu::open(&choice, Default::default()).expect("an adapter");
    let mut all = Record::new();
    let lanes = gpu.capabilities().subgroup_size;
    all.insert("adapter".into(), vec![format!("{} {} {lanes} lanes", gpu.info().name, gpu.info().driver_info)]);
    if which.contains(&"case ") {
        dispatches::of_cases(&gpu, &mut all);
    }
    drop(gpu);
    if which.contains(&"command ") {
        commands::run_all(&mut all);
    }
    all
}

/// A line for each list that differs, with the first place where it does, is new or is gone.
fn moved(before: &Record, now: &Record) -> Vec<String> {
    let gone = before.keys().filter(|k| !now.contains_key(*k)).map(|k| format!("gone: {k}"));
    let other = now.iter().filter_map(|(k, v)| match before.get(k) {
        None => Some(format!("new: {k}")),
        Some(old) if !same(old, v) => Some(format!("moved: {k}\n{}", first_difference(old, v))),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

fn compared(line: &str) -> &str {
    line.split(" # ").next().unwrap_or(line)
}

fn same(before: &[String], now: &[String]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| compared(a) == compared(b))
}

fn first_difference(before: &[String], now: &[String]) -> String {
    let at = before.iter().zip(now).take_while(|(a, b)| compared(a) == compared(b)).count();
    let line = |all: &[String]| all.get(at).map_or("nothing", String::as_str).to_string();
    let lengths = format!("line {} of {}, now of {}", at + 1, before.len(), now.len());
    format!("  {lengths}\n  was {}\n  is  {}", line(before), line(now))
}

fn write(path: &Path, record: &Record) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the folder of the record");
    std::fs::write(path, serde_json::to_string_pretty(record).expect("strings") + "\n").expect("the record");
}

/// 16 hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_string()
}
