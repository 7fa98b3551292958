//! How many lanes lavapipe gets, and that `lowland doctor` says why.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// `lowland doctor --json` on the software adapter with a cache folder of its own.
fn doctor(cache: &Path, set: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
    command.args(["--adapter", "software", "doctor", "--json"]).env("XDG_CACHE_HOME", cache);
    command.env_remove("LP_NATIVE_VECTOR_WIDTH").env_remove("MESA_SHADER_CACHE_DIR").env_remove("LOWLAND_VARIANT");
    command.envs(set.iter().copied()).output().unwrap()
}

fn features(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["features"].clone()
}

fn lavapipe(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stdout).contains("llvmpipe")
}

#[test]
fn a_width_that_is_set_is_kept_and_named() {
    let cache = tempfile::tempdir().unwrap();
    for (bits, lanes) in [("128", 4), ("256", 8)] {
        let output = doctor(cache.path(), &[("LP_NATIVE_VECTOR_WIDTH", bits)]);
        if !lavapipe(&output) {
            println!("skipped: no lavapipe on this machine");
            return;
        }
        let features = features(&output);
        assert_eq!(features["subgroup_size"], lanes);
        assert_eq!(features["lanes_because"], "LP_NATIVE_VECTOR_WIDTH is set");
        assert!(!cache.path().join("lowland/lanes").exists(), "nothing to measure");
    }
}

#[test]
fn without_one_the_lanes_are_measured_once_or_left_to_the_driver() {
    let cache = tempfile::tempdir().unwrap();
    let first = doctor(cache.path(), &[]);
    if !lavapipe(&first) {
        println!("skipped: no lavapipe on this machine");
        return;
    }
    let says = |output: &Output| features(output)["lanes_because"].as_str().unwrap().to_string();
    let noted = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("measuring");
    println!("{}", says(&first));
    if says(&first).starts_with("the driver's choice") {
        assert!(!noted(&first));
        return;
    }
    assert!(noted(&first));
    let bits = 32 * features(&first)["subgroup_size"].as_u64().unwrap();
    assert!(says(&first).starts_with(&format!("{bits}-bit vectors: products measured at ")), "{}", says(&first));
    let second = doctor(cache.path(), &[]);
    assert!(!noted(&second));
    assert_eq!(says(&second), says(&first));
}
