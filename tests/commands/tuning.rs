//! `lowland selftest --tune` and where a run's kernels come from: measured, kept, asked for, or chosen.

use std::path::PathBuf;

use serde_json::Value;

use crate::folder::{Folder, text};

const RUN: &str = "
[train]
steps = 20
batch_size = 16
checkpoint_every = 10
evaluate_every = 0
[evaluate]
sentences = 20
";

/// A folder with a cache of its own. Every cache folder is new: nothing is to be measured anew for it.
fn cached() -> Folder {
    let f = Folder::new(RUN).set("LP_NATIVE_VECTOR_WIDTH", "256").without("LOWLAND_VARIANT");
    let cache = f.path("cache");
    f.set("XDG_CACHE_HOME", cache)
}

/// Where the variants of a run would come from.
fn source(f: &Folder, more: &[&str]) -> String {
    let arguments = [&["train", "run.toml", "--dry-run", "--json"], more].concat();
    f.json(&arguments)["variants_source"].as_str().unwrap().to_string()
}

#[test]
fn a_measured_choice_is_used_by_runs_of_the_same_shapes_and_kept_by_those_that_go_on() {
    let f = cached();
    assert_eq!(source(&f, &[]), "default");
    let tuned = f.json(&["selftest", "--tune", "run.toml", "--json"]);
    let file = PathBuf::from(tuned["file"].as_str().unwrap());
    assert!(file.starts_with(f.path("cache")), "{}", file.display());
    // What is kept is the fastest but for noise.
    for m in tuned["measured"].as_array().unwrap() {
        let same = |n: &&Value| {
            n["operation"] == m["operation"] && n["variant"] == tuned["variants"][n["operation"].as_str().unwrap()]
        };
        let kept = tuned["measured"].as_array().unwrap().iter().find(same).unwrap();
        assert!(m["seconds"].as_f64().unwrap() >= 0.96 * kept["seconds"].as_f64().unwrap(), "{m} beats {kept}");
    }
    assert_eq!(source(&f, &[]), "tuned");
    assert_eq!(source(&f, &["train.batch_size=8"]), "default", "other shapes");
    assert_eq!(source(&f, &["--variant", "linear=direct"]), "overridden");
    assert_eq!(source(&f, &["adapter.variant.linear=direct"]), "overridden");

    // A choice that nobody would make by themselves, to tell it from the others.
    let mut odd: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    odd["variants"]["linear_tn"] = "direct".into();
    odd["variants"]["sums"] = "tiny".into();
    std::fs::write(&file, odd.to_string()).unwrap();
    f.json(&["train", "run.toml", "output=run", "--json"]);
    let about = f.value("run/run.json");
    assert_eq!((&about["variants"], &about["variants_source"]), (&odd["variants"], &"tuned".into()));
    assert!(f.path("run/tuning.json").exists());
    let model = f.path("run/model/model.safetensors");
    let weights = std::fs::read(&model).unwrap();

    // As if stopped behind the checkpoint of step 10; meanwhile the kept file is damaged.
    std::fs::write(&file, "{").unwrap();
    assert_eq!(source(&f, &[]), "default", "a damaged file counts as none");
    std::fs::remove_file(f.path("run/result.json")).unwrap();
    std::fs::remove_dir_all(f.path("run/model")).unwrap();
    std::fs::remove_dir_all(f.path("run/checkpoints/step-20")).unwrap();
    let output = f.lowland(&["train", "run.toml", "output=run"]);
    assert!(text(&output.stderr).contains("resumed at step 10"));
    let about = f.value("run/run.json");
    assert_eq!((&about["variants"], &about["variants_source"]), (&odd["variants"], &"kept".into()));
    assert_eq!(std::fs::read(&model).unwrap(), weights, "the same kernels give the same bits");
}

#[test]
fn a_variant_that_cannot_run_is_refused_with_exit_code_2() {
    let f = cached();
    for arguments in [
        &["train", "run.toml", "--variant", "linear=fast"][..],
        &["train", "run.toml", "--variant", "products=direct"],
        &["train", "run.toml", "adapter.variant.attention=tiled"],
        &["selftest", "--time", "--variant", "linear"],
    ] {
        let output = f.lowland(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn compiled_pipelines_are_kept_and_a_damaged_file_counts_as_none() {
    let f = cached();
    let doctor = f.json(&["doctor", "--json"]);
    let folder = f.path("cache/lowland/pipelines");
    if doctor["chosen"]["backend"] != "Vulkan" {
        assert!(!folder.exists(), "only Vulkan gives pipelines away");
        return;
    }
    let files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let kept = std::fs::read(&files[0]).unwrap();
    for damaged in [&kept[..kept.len() / 2], b"", &[kept.clone(), b"more".to_vec()].concat()] {
        std::fs::write(&files[0], damaged).unwrap();
        assert_eq!(f.json(&["doctor", "--json"])["kernel"], doctor["kernel"]);
        // Written anew, and whole.
        assert_ne!(std::fs::read(&files[0]).unwrap(), damaged);
    }
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "a file where a folder should be").unwrap();
    assert_eq!(f.json(&["doctor", "--json"])["kernel"]["passed"], true, "a cache that cannot be kept is no error");
}
