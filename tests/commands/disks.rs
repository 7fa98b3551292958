//! Disks and folders that fail a run: full in the middle of a checkpoint, read-only, gone. What was saved stays, the
//! message says what to do, and the same command goes on once it is done.

#[cfg(target_os = "linux")]
use std::process::Command;

use crate::RUN;
use crate::folder::{Folder, text};

/// Runs a script as root of a name space of its own, where a small disk can be mounted; what it prints.
///
/// `None`, with a note, where the system does not let a user do that.
#[cfg(target_os = "linux")]
fn with_disk(f: &Folder, script: &str) -> Option<String> {
    let allowed = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !allowed.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare -rm mount -t tmpfs` is not allowed here: {allowed:?}");
        return None;
    }
    std::fs::create_dir(f.path("disk")).unwrap();
    let script = format!("set -e; mount -t tmpfs -o size=4m none disk; {script}");
    let program = env!("CARGO_BIN_EXE_lowland");
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script, "script", program])
        .current_dir(f.path(""))
        .env("PROGRAM", program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_in_the_middle_of_a_checkpoint_costs_the_steps_since_the_last() {
    let f = Folder::new(RUN);
    // Little room is left: more than a file of a checkpoint needs, less than all of them.
    let script = r#"
        run() { "$PROGRAM" train run.toml output=disk/r train.steps=$1 2>said; echo "code $?"; cat said; }
        set +e
        run 20
        cp -r disk/r/checkpoints/step-20 before
        free=$(df --output=avail -B1 disk | tail -1)
        head -c $((free - 45056)) /dev/zero > disk/filler
        run 60
        echo "left: $(ls disk/r/checkpoints | tr '\n' ' ')"
        diff -r before disk/r/checkpoints/step-20 && echo intact
        echo again
        run 60
        rm disk/filler
        run 60
        cp -r disk/r kept
    "#;
    let Some(said) = with_disk(&f, script) else { return };
    let (first, again) = said.split_once("again\n").unwrap();
    assert!(first.contains("code 0\n") && first.contains("code 5\n") && first.contains("\nintact\n"), "{said}");
    assert!(first.contains("No space left on device"), "{said}");
    assert!(first.contains("make room and run the same command again"), "{said}");
    assert!(first.contains("left: step-20 \n"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // Still no room, then room.
    assert!(again.contains("code 5\n") && again.contains("code 0\n"), "{said}");
    assert!(again.contains("resumed at step 20"), "{said}");
    f.train(&["output=whole", "train.steps=20"], 0);
    f.train(&["output=whole", "train.steps=60"], 0);
    assert!(f.weights("whole") == f.weights("kept"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_read_only_is_said_and_nothing_is_lost() {
    let f = Folder::new(RUN);
    let script = r#"
        run() { "$PROGRAM" train run.toml output=disk/r train.steps=$1 2>said; echo "code $?"; cat said; }
        set +e
        run 20
        mount -o remount,ro disk
        run 60
        mount -o remount,rw disk
        run 60
    "#;
    let Some(said) = with_disk(&f, script) else { return };
    let codes: Vec<&str> = said.lines().filter(|line| line.starts_with("code ")).collect();
    assert_eq!(codes, ["code 0", "code 5", "code 0"], "{said}");
    assert!(said.contains("Read-only file system") && said.contains("resumed at step 20"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_vanishes_ends_the_run_and_is_not_made_again() {
    let f = Folder::new(RUN).set("LOWLAND_CLAIM_SECONDS", "1");
    let arguments = ["train", "run.toml", "output=r", "train.steps=1000000", "train.checkpoint_every=100"];
    let child = f.begin(&arguments, "r/metrics.jsonl", |text| text.contains("\"step\":200"));
    std::fs::rename(f.path("r"), f.path("elsewhere")).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert!([Some(5), Some(75)].contains(&output.status.code()), "{:?}: {error}", output.status);
    assert!(error.contains("error: ") && !error.contains("panicked"), "{error}");
    assert!(!f.path("r").exists(), "{error}");
    // Put back, it goes on.
    std::fs::rename(f.path("elsewhere"), f.path("r")).unwrap();
    let step: u64 = std::fs::read_dir(f.path("r/checkpoints"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .max()
        .unwrap();
    let said = f.train(&["output=r", &format!("train.steps={}", step + 20), "train.checkpoint_every=100"], 0);
    assert!(said.contains(&format!("resumed at step {step}")), "{said}");
}
