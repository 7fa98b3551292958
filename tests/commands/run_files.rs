//! A run's files as other programs and people find them: TensorBoard's events after a crash, paths that are no text.

use std::collections::BTreeMap;
use std::path::Path;

use crate::RUN;
use crate::folder::{Folder, text};

/// One field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, Field::Number(varint(&mut bytes))));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, Field::Bytes(value)));
        bytes = rest;
    }
    found
}

/// The steps of each tag of a folder's event files, as TensorBoard's reader has them: files in the order of their
/// names; a `session_log` with status START, in a file whose version is 2, drops that step and later ones of all
/// before.
fn read_events(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.display().to_string().contains("/events.out.tfevents.")).collect();
    files.sort();
    let mut tags: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let (mut at, mut version) = (0, false);
        while at + 12 < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let Some(event) = bytes.get(at + 12..at + 12 + length) else { break };
            at += 16 + length;
            let mut step = 0;
            for (number, field) in fields(event) {
                match (number, field) {
                    (2, Field::Number(value)) => step = value,
                    (3, Field::Bytes(text)) => version = text == b"brain.Event:2",
                    (5, Field::Bytes(summary)) => {
                        for (_, value) in fields(summary) {
                            let Field::Bytes(value) = value else { panic!() };
                            let Some((_, Field::Bytes(tag))) = fields(value).into_iter().next() else { panic!() };
                            tags.entry(text(tag)).or_default().push(step);
                        }
                    }
                    (7, Field::Bytes([0x08, 1])) if version => {
                        tags.values_mut().for_each(|steps| steps.retain(|s| *s < step));
                    }
                    _ => {}
                }
            }
        }
    }
    tags
}

#[cfg(unix)]
#[test]
fn tensorboard_sees_every_step_once_after_a_crash() {
    let f = Folder::new(RUN);
    let arguments = ["train", "run.toml", "output=r", "train.steps=400", "train.checkpoint_every=100"];
    f.train(&[&["output=whole"], &arguments[3..]].concat(), 0);
    // Before the first checkpoint, after it, and twice from the same one.
    for step in [50, 130, 190, 270] {
        let mut child = f.begin(&arguments, "r/metrics.jsonl", |text| {
            let last = text.lines().rev().find_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
            last.is_some_and(|l| l["step"].as_u64() >= Some(step))
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    f.train(&arguments[2..], 0);
    let (whole, resumed) = (read_events(&f.path("whole")), read_events(&f.path("r")));
    assert_eq!(whole["train/loss"], (1..=40).map(|i| 10 * i).collect::<Vec<u64>>());
    assert_eq!(whole["held_out/loss"].len(), 21);
    assert_eq!(resumed, whole);
    // Trained longer, the same file goes on.
    f.train(&["output=r", "train.steps=450", "train.checkpoint_every=100"], 0);
    assert_eq!(read_events(&f.path("r"))["train/loss"], (1..=45).map(|i| 10 * i).collect::<Vec<u64>>());
}

/// In a folder whose name no TOML and no JSON can hold.
#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_no_text_work_or_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let f = Folder::new(RUN);
    let inside = f.path(std::ffi::OsStr::from_bytes(b"nu\xe9"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(f.path("run.toml"), inside.join("run.toml")).unwrap();
    std::fs::write(inside.join("toy.txt"), "S NP VP 1\nNP dogs 0.7\nNP cats 0.3\nVP sleep 1\n").unwrap();
    let language = "[language]\nrules = \"toy.txt\"\nmax_length = 8\n";
    let text_of = std::fs::read_to_string(inside.join("run.toml")).unwrap();
    let from = text_of.find("[language]").unwrap();
    let toy = format!("{}{language}{}", &text_of[..from], &text_of[text_of.find("[model]").unwrap()..]);
    std::fs::write(inside.join("toy.toml"), &toy).unwrap();
    let run = |folder: &Path, arguments: &[&std::ffi::OsStr], code: i32| {
        let output = f.command(&[]).args(arguments).current_dir(folder).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(!error.contains("panicked"), "{arguments:?}: {error}");
        (text(&output.stdout), error)
    };
    let os = |words: &[&'static str]| words.iter().map(|w| std::ffi::OsStr::new(*w)).collect::<Vec<_>>();
    // Inside.
    for arguments in [os(&["config", "show", "toy.toml"]), os(&["config", "show", "toy.toml", "--json"])] {
        run(&inside, &arguments, 0);
    }
    let (out, _) = run(&inside, &os(&["train", "toy.toml", "output=out", "--json"]), 0);
    serde_json::from_str::<serde_json::Value>(&out).unwrap();
    let kept: toml::Table = std::fs::read_to_string(inside.join("out/config.toml")).unwrap().parse().unwrap();
    assert!(!kept.contains_key("output") && kept["language"]["rules"].as_str() == Some("grammar.txt"));
    assert!(run(&inside, &os(&["train", "toy.toml", "output=out"]), 0).1.contains("finished already"));
    run(&inside, &os(&["eval", "out/model", "toy.toml", "--count", "10", "--json"]), 0);
    run(&inside, &os(&["report", "out"]), 0);
    // A model is named from the folder that keeps the config.
    run(&inside, &os(&["train", "toy.toml", "output=next", "train.start_from=out/model"]), 0);
    let kept: toml::Table = std::fs::read_to_string(inside.join("next/config.toml")).unwrap().parse().unwrap();
    assert_eq!(kept["train"]["start_from"].as_str(), Some("../out/model"));
    run(&inside, &os(&["train", "next/config.toml", "output=next"]), 0);
    std::fs::write(inside.join("s.toml"), "base = \"toy.toml\"\noutput = \"s\"\n[grid]\nseed = [1]\n").unwrap();
    run(&inside, &os(&["sweep", "plan", "s.toml", "--json"]), 0);
    run(&inside, &os(&["sweep", "run", "s.toml", "--json"]), 0);
    run(&inside, &os(&["sweep", "status", "s.toml", "--json"]), 0);
    // From outside, by the path that is no text.
    let config = Path::new(std::ffi::OsStr::from_bytes(b"nu\xe9")).join("toy.toml");
    let show = [std::ffi::OsStr::new("config"), "show".as_ref(), config.as_os_str()];
    let (out, _) = run(f.path("").as_path(), &show, 0);
    assert!(out.contains("toy.txt"), "{out}");
    run(f.path("").as_path(), &[&show[..], &["--json".as_ref()]].concat(), 0);
    let train = [std::ffi::OsStr::new("train"), config.as_os_str(), "output=outside".as_ref()];
    run(f.path("").as_path(), &train, 0);
    // A model that the folder's config could not name.
    let refused = [&train[..2], &["output=other".as_ref(), "train.start_from=out/model".as_ref()]].concat();
    let (_, error) = run(f.path("").as_path(), &refused, 2);
    assert!(error.contains("train.start_from") && error.contains("not UTF-8"), "{error}");
    assert!(!f.path("other").exists(), "before anything is made");
}
