//! Who works in a folder, as processes see it: no locks of the file system, claims left by the dead, claims taken over.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::RUN;
use crate::folder::{Folder, signal, text};
use serde_json::Value;

const SWEEP: &str = "base = \"run.toml\"\noutput = \"OUT\"\n[grid]\nseed = [1, 2]\n[examine]\nsentences = 50\n";

/// More steps than the run takes before it is stopped.
const LONG: [&str; 5] = ["train", "run.toml", "output=r", "train.steps=1000000", "train.evaluate_every=0"];

/// A claim that a process of another machine has just renewed.
const ELSEWHERE: &str = "{\"host\":\"elsewhere\",\"process\":17,\"machine\":\"another\",\
                         \"token\":\"0123456789abcdef\",\"beat\":\"000000000007\"}\n";

fn stepped(text: &str) -> bool {
    text.contains("gradient_norm")
}

/// Step of the last line of the metrics.
fn last_step(metrics: &str) -> Option<u64> {
    metrics.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok()?["step"].as_u64())
}

#[test]
fn a_file_system_without_locks_is_no_other_process() {
    let f = Folder::new(RUN);
    f.write("no_locks.c", "#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n");
    let mut cc = Command::new("cc");
    match cc.args(["-shared", "-fPIC", "-o"]).arg(f.path("no_locks.so")).arg(f.path("no_locks.c")).status() {
        Ok(status) if status.success() => {}
        other => return eprintln!("skipped: cc makes no shared library here ({other:?})"),
    }
    f.write("s.toml", &SWEEP.replace("OUT", "s"));
    let without = |arguments: &[&str]| {
        let output = f.command(arguments).env("LD_PRELOAD", f.path("no_locks.so")).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, error) = without(&["train", "run.toml", "output=r"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(f.path("r/result.json").exists());
    let (code, out, error) = without(&["sweep", "run", "s.toml", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let tally: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((tally["done"].as_u64(), tally["claimed_elsewhere"].as_u64()), (Some(2), Some(0)), "{out}");
}

#[test]
fn a_folder_at_work_is_left_alone_and_free_when_its_process_ends() {
    let f = Folder::new(RUN);
    let mut child = f.begin(&LONG, "r/metrics.jsonl", stepped);
    let error = f.train(&["output=r"], 75);
    assert!(
        error.contains(&format!("process {}", child.id())) && error.contains("works in this run folder"),
        "{error}"
    );
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(!f.path("r/run.lock").exists(), "an end that is told gives the claim back");
    // And by a second signal, which waits for nothing.
    child = f.begin(&LONG, "r/run.lock", |_| true);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(20));
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(matches!(child.wait().unwrap().code(), Some(75 | 130)));
    assert!(!f.path("r/run.lock").exists());
}

#[test]
fn after_kill_9_the_same_machine_goes_on_at_once() {
    let f = Folder::new(RUN);
    let mut child = f.begin(&LONG, "r/metrics.jsonl", |text| text.contains("\"step\":30"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(f.path("r/run.lock").exists(), "nobody was there to remove it");
    let last = last_step(&f.read("r/metrics.jsonl"));
    let begun = Instant::now();
    let dead = format!("\"process\":{},", child.id());
    let child = f.begin(&LONG, "r/run.lock", |text| text.contains("\"process\":") && !text.contains(&dead));
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
    // It takes steps of its own before it is stopped: an interrupt before that has nothing to go on with.
    let begun = Instant::now();
    while last_step(&f.read("r/metrics.jsonl")) <= last {
        assert!(begun.elapsed() < Duration::from_secs(120), "no step beyond {last:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("resumed at step"), "{}", text(&output.stderr));
}

#[test]
fn runs_in_others_hands_are_said_and_end_with_75() {
    let f = Folder::new(RUN);
    f.write("s.toml", &SWEEP.replace("OUT", "s"));
    let plan: Value = serde_json::from_slice(&f.lowland(&["sweep", "plan", "s.toml", "--json"]).stdout).unwrap();
    let folder = format!("s/runs/{}", plan["runs"][0]["id"].as_str().unwrap());
    std::fs::create_dir_all(f.path(&folder)).unwrap();
    let claim = format!("{folder}/sweep.lock");
    f.write(&claim, ELSEWHERE);
    let output = f.lowland(&["sweep", "run", "s.toml", "--json"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{error}");
    let tally: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((tally["done"].as_u64(), tally["claimed_elsewhere"].as_u64()), (Some(1), Some(1)));
    assert!(error.contains("1 of 2 runs are in the hands of other processes"), "{error}");
    let status: Value = serde_json::from_slice(&f.lowland(&["sweep", "status", "s.toml", "--json"]).stdout).unwrap();
    assert_eq!((&status["runs"][0]["state"], &status["runs"][1]["state"]), (&"running".into(), &"done".into()));
    assert_eq!(f.read(&claim), ELSEWHERE, "it was left alone");
    // The training alone is claimed, by `lowland train` in the same folder.
    std::fs::rename(f.path(&claim), f.path(format!("{folder}/run.lock"))).unwrap();
    let output = f.lowland(&["sweep", "run", "s.toml"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("1 of 2 runs done, 1 in the hands"), "{}", text(&output.stdout));
    assert!(!f.path(format!("{folder}/failure.json")).exists(), "that is no failure");
    std::fs::remove_file(f.path(format!("{folder}/run.lock"))).unwrap();
    assert!(f.lowland(&["sweep", "run", "s.toml"]).status.success());
}

#[test]
fn who_lost_its_claim_stops_writing_and_says_so() {
    let f = Folder::new(RUN);
    let child = f.begin(&LONG, "r/metrics.jsonl", stepped);
    std::fs::rename(f.path("r/run.lock"), f.path("r/gone")).unwrap();
    f.write("r/run.lock", ELSEWHERE);
    let output = child.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{error}");
    assert!(
        error.contains("process 17 on elsewhere took over") && error.contains("nothing more is written"),
        "{error}"
    );
    assert_eq!(f.read("r/run.lock"), ELSEWHERE);
}

#[test]
fn stopped_beyond_its_time_a_process_is_taken_over_from_and_the_bits_are_the_same() {
    let f = Folder::new(RUN);
    let steps = "train.steps=2000";
    f.train(&["output=whole", steps], 0);
    let arguments = ["train", "run.toml", "output=r", steps];
    let begin = |arguments: &[&str]| {
        let mut command = f.command(arguments);
        command.env("LOWLAND_CLAIM_SECONDS", "1").stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::piped());
        command
    };
    let child = begin(&arguments).spawn().unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(f.path("r/metrics.jsonl")).is_ok_and(|text| text.contains("\"step\":50")) {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, "-STOP");
    std::thread::sleep(Duration::from_millis(1500));
    let second = begin(&arguments).output().unwrap();
    assert!(second.status.success(), "{}", text(&second.stderr));
    let result = f.read("r/result.json");
    signal(&child, "-CONT");
    let first = child.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(75), "{}", text(&first.stderr));
    assert!(text(&first.stderr).contains("nothing more is written here"), "{}", text(&first.stderr));
    assert_eq!(f.read("r/result.json"), result);
    assert!(f.weights("r") == f.weights("whole") && f.result("r") == f.result("whole"));
}
