//! How many lanes lavapipe gets, and that `lowland doctor` says why.

use std::process::Output;

use serde_json::Value;

use crate::folder::{Folder, text};

/// A folder that is its own cache of what was measured, with the width left to the program.
fn cached() -> Folder {
    let f = Folder::empty();
    let cache = f.path("");
    f.set("XDG_CACHE_HOME", cache)
        .without("LP_NATIVE_VECTOR_WIDTH")
        .without("MESA_SHADER_CACHE_DIR")
        .without("LOWLAND_VARIANT")
}

/// `lowland doctor --json` on the software adapter.
fn doctor(f: &Folder, set: &[(&str, &str)]) -> Output {
    f.command(&["--adapter", "software", "doctor", "--json"]).envs(set.iter().copied()).output().unwrap()
}

fn features(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["features"].clone()
}

fn lavapipe(output: &Output) -> bool {
    text(&output.stdout).contains("llvmpipe")
}

#[test]
fn a_width_that_is_set_is_kept_and_named() {
    let f = cached();
    for (bits, lanes) in [("128", 4), ("256", 8)] {
        let output = doctor(&f, &[("LP_NATIVE_VECTOR_WIDTH", bits)]);
        if !lavapipe(&output) {
            println!("skipped: no lavapipe on this machine");
            return;
        }
        let features = features(&output);
        assert_eq!(features["subgroup_size"], lanes);
        assert_eq!(features["lanes_because"], "LP_NATIVE_VECTOR_WIDTH is set");
        assert!(!f.path("lowland/lanes").exists(), "nothing to measure");
    }
}

#[test]
fn without_one_the_lanes_are_measured_once_or_left_to_the_driver() {
    let f = cached();
    let first = doctor(&f, &[]);
    if !lavapipe(&first) {
        println!("skipped: no lavapipe on this machine");
        return;
    }
    let says = |output: &Output| features(output)["lanes_because"].as_str().unwrap().to_string();
    let noted = |output: &Output| text(&output.stderr).contains("measuring");
    println!("{}", says(&first));
    if says(&first).starts_with("the driver's choice") {
        assert!(!noted(&first));
        return;
    }
    assert!(noted(&first));
    let bits = 32 * features(&first)["subgroup_size"].as_u64().unwrap();
    assert!(says(&first).starts_with(&format!("{bits}-bit vectors: products measured at ")), "{}", says(&first));
    let second = doctor(&f, &[]);
    assert!(!noted(&second));
    assert_eq!(says(&second), says(&first));
}
