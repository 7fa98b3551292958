//! To whom a run's folder belongs, what a run may do in it, and how a finished run is trained longer.

use crate::RUN;
use crate::folder::{Folder, SMALL, text};
use lowland::config;
use serde_json::Value;

/// Names of folders that hold what gave way.
fn aside(f: &Folder, run: &str) -> Vec<String> {
    let entries = std::fs::read_dir(f.path(run)).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("before-")).collect()
}

#[test]
fn the_advice_after_a_failure_before_the_first_step_works_in_the_same_folder() {
    let f = Folder::new(RUN);
    let big = ["output=r", "train.batch_size=1048576", "model.intermediate_size=8192", "train.steps=1"];
    assert!(f.train(&big, 4).contains("train.micro_batch"));
    assert!(!f.path("r/run.json").exists(), "nothing is claimed for good");
    f.train(&["output=r", "train.batch_size=64", "train.micro_batch=8"], 0);
    // A model that is not there, then one of another shape.
    f.train(&["output=s", "train.start_from=nowhere"], 5);
    f.train(&["output=s", "train.start_from=r/model", "model.hidden_size=32"], 2);
    f.train(&["output=s", "train.start_from=r/model"], 0);
    assert!(aside(&f, "r").is_empty() && aside(&f, "s").is_empty());
}

#[test]
fn a_run_that_diverged_gives_way_and_nothing_of_it_is_lost() {
    let f = Folder::new(RUN);
    let error = f.train(&["output=r", "train.optimizer.lr=1e30"], 3);
    assert!(!error.contains("still good") && error.contains("Lower `train.optimizer.lr`"), "{error}");
    let diverged = f.read("r/result.json");
    let error = f.train(&["output=r"], 0);
    let [kept] = &aside(&f, "r")[..] else { panic!("{:?}", aside(&f, "r")) };
    assert!(error.contains(kept.as_str()), "{error}");
    assert_eq!(f.read(&format!("r/{kept}/result.json")), diverged);
    assert!(f.path(format!("r/{kept}/metrics.jsonl")).exists());
    f.train(&["output=straight"], 0);
    assert!(f.weights("r") == f.weights("straight") && f.result("r") == f.result("straight"));
    // With a checkpoint there is one that is still good, and it is kept as well.
    let error = f.train(&["output=s", "train.optimizer.lr=1e30", "train.checkpoint_every=1"], 3);
    assert!(error.contains("the last checkpoint, of step 1, is still good"), "{error}");
    assert_eq!(f.value("s/result.json")["checkpoint"], 1);
    f.train(&["output=s"], 0);
    assert!(f.path(format!("s/{}/checkpoints/step-1/MANIFEST.json", aside(&f, "s")[0])).exists());
    assert!(f.weights("s") == f.weights("straight"));
}

#[test]
fn a_folder_with_a_step_belongs_to_its_config() {
    let f = Folder::new(RUN);
    f.train(&["output=r"], 0);
    let error = f.train(&["output=r", "seed=5"], 2);
    assert!(error.contains("finished run of another config (it differs in `seed`)"), "{error}");
    f.unfinish("r");
    let error = f.train(&["output=r", "seed=5", "train.optimizer.lr=1e-3"], 2);
    assert!(error.contains("another config (it differs in `seed`, `train.optimizer.lr`)"), "{error}");
    assert!(aside(&f, "r").is_empty());
}

#[test]
fn checkpoints_of_another_config_are_refused_by_their_hash() {
    let f = Folder::new(RUN);
    f.train(&["output=r"], 0);
    f.unfinish("r");
    // A file that a power cut left empty.
    f.write("r/run.json", "");
    let error = f.train(&["output=r", "seed=5"], 2);
    assert!(error.contains("another config"), "{error}");
    // A folder of which nothing but the checkpoints is there.
    std::fs::remove_file(f.path("r/run.json")).unwrap();
    std::fs::remove_file(f.path("r/config.toml")).unwrap();
    let error = f.train(&["output=r", "seed=5"], 2);
    assert!(error.contains("step-60 belongs to another config"), "{error}");
    assert!(f.train(&["output=r"], 0).contains("resumed at step 60"));
}

#[test]
fn what_changes_no_result_is_no_part_of_a_run() {
    let f = Folder::new(RUN);
    f.train(&["output=r"], 0);
    let keys =
        ["train.checkpoint_every=7", "train.keep_checkpoints=0", "train.evaluate_every=13", "train.recompute=true"];
    f.train(&[&["output=s"], &keys[..]].concat(), 0);
    assert!(f.weights("r") == f.weights("s"), "not a bit");
    assert_eq!(f.result("r"), f.result("s"), "nor in the result");
    // The same folder goes on with them.
    std::fs::remove_dir_all(f.path("r/checkpoints/step-60")).unwrap();
    f.unfinish("r");
    let error = f.train(&[&["output=r"], &keys[..]].concat(), 0);
    assert!(error.contains("resumed at step 40"), "{error}");
    assert_eq!(f.result("r"), f.result("s"));
    assert!(f.train(&["output=r", "train.evaluate_every=0"], 0).contains("finished already"));
}

#[test]
fn a_run_whose_adapter_gave_up_goes_on_with_a_smaller_micro_batch() {
    let f = Folder::new(RUN);
    f.train(&["output=r"], 0);
    assert!(f.train(&["output=r", "train.micro_batch=8"], 2).contains("it differs in `train.micro_batch`"));
    // As if the device was lost after step 40: "lower `train.micro_batch`, then run the same command again".
    std::fs::remove_dir_all(f.path("r/checkpoints/step-60")).unwrap();
    f.unfinish("r");
    let mut child = f.begin(&["train", "run.toml", "output=r", "train.micro_batch=8"], "r/run.json", |text| {
        text.contains("earlier_hashes")
    });
    let _ = child.kill();
    child.wait().unwrap();
    for again in ["resumed at step", "finished already"] {
        let error = f.train(&["output=r", "train.micro_batch=8"], 0);
        assert!(error.contains(again), "{error}");
    }
    // The first attempt's batch again, in a run that goes on.
    f.unfinish("r");
    let error = f.train(&["output=r"], 0);
    assert!(error.contains("warning: this run began with another `train.micro_batch`"), "{error}");
}

/// Makes a run's files as versions up to 0.1.0 wrote them: hashes of all keys, nothing about the length.
fn age(f: &Folder, run: &str, overrides: &[&str]) {
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
    let resolved = config::load(&f.path("run.toml"), &overrides).unwrap();
    let hash = resolved.hash_of_all();
    assert_ne!(hash, resolved.hash());
    let mut about = f.value(&format!("{run}/run.json"));
    about["hash"] = hash.clone().into();
    about.as_object_mut().unwrap().remove("steps");
    f.write(format!("{run}/run.json"), &about.to_string());
    for entry in std::fs::read_dir(f.path(run).join("checkpoints")).unwrap() {
        let name = format!("{run}/checkpoints/{}", entry.unwrap().file_name().to_string_lossy());
        let step = f.value(&format!("{name}/state.json"))["step"].as_u64().unwrap();
        let state = serde_json::json!({ "format_version": 1, "step": step, "config_hash": hash }).to_string();
        f.write(format!("{name}/state.json"), &state);
        let mut manifest = f.value(&format!("{name}/MANIFEST.json"));
        let entry = serde_json::json!({
            "bytes": state.len(), "blake3": blake3::hash(state.as_bytes()).to_hex().to_string()
        });
        manifest["files"]["state.json"] = entry;
        f.write(format!("{name}/MANIFEST.json"), &manifest.to_string());
    }
}

#[test]
fn folders_of_earlier_versions_are_recognised() {
    let f = Folder::new(RUN);
    f.train(&["output=whole"], 0);
    f.train(&["output=r"], 0);
    age(&f, "r", &["output=r"]);
    assert!(f.train(&["output=r"], 0).contains("finished already"));
    // They kept no state at the end.
    std::fs::remove_dir_all(f.path("r/checkpoints/step-60")).unwrap();
    f.unfinish("r");
    // With other keys that change nothing and another length, stopped before the next checkpoint, and again.
    f.train_killed("r", &["train.keep_checkpoints=5", "train.steps=100000"], 70);
    for step in (60..1000).step_by(20) {
        let _ = std::fs::remove_dir_all(f.path("r/checkpoints").join(format!("step-{step}")));
    }
    let error = f.train(&["output=r", "train.steps=30"], 2);
    assert!(error.contains("of which 40 are taken") && error.contains("Give 40 or more"), "{error}");
    f.train(&["output=straight", "train.steps=80"], 0);
    // Fewer than were planned, and more than were taken.
    let error = f.train(&["output=r", "train.steps=80"], 0);
    assert!(error.contains("given another length at step 40"), "{error}");
    assert!(f.weights("r") == f.weights("straight") && f.result("r") == f.result("straight"));
    // The folder of a finished old run, trained longer.
    f.train(&["output=s"], 0);
    age(&f, "s", &["output=s"]);
    std::fs::remove_dir_all(f.path("s/checkpoints/step-60")).unwrap();
    let error = f.train(&["output=s", "train.steps=80"], 0);
    assert!(
        error.contains("goes on from the checkpoint at step 40") && error.contains("resumed at step 40"),
        "{error}"
    );
    assert!(f.weights("s") == f.weights("straight"));
}

#[test]
fn a_finished_run_is_trained_longer_with_the_same_bits() {
    let f = Folder::new(RUN);
    f.train(&["output=straight", "train.steps=97"], 0);
    f.train(&["output=r", "train.steps=55"], 0);
    let first = f.read("r/result.json");
    let error = f.train(&["output=r", "train.steps=97"], 0);
    assert!(error.contains("trained longer: from the 55 steps") && error.contains("resumed at step 55"), "{error}");
    assert!(error.contains("ends as if that had been asked for at once"), "{error}");
    assert!(f.weights("r") == f.weights("straight"));
    assert_eq!(f.result("r"), f.result("straight"));
    assert_eq!(f.read("r/result-55.json"), first, "the first result is kept");
    assert_eq!(f.value("r/result.json")["earlier_lengths"], serde_json::json!([{ "steps": 55, "until": 55 }]));
    assert_eq!(f.value("r/run.json")["hash"], f.value("straight/run.json")["hash"]);
    let config: toml::Table = f.read("r/config.toml").parse().unwrap();
    assert_eq!(config["train"]["steps"].as_integer(), Some(97));
    assert!(f.train(&["output=r", "train.steps=97"], 0).contains("finished already"));
    // Steps are not taken back.
    let error = f.train(&["output=r", "train.steps=55"], 2);
    assert!(error.contains("Give 97 or more"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_longer_run_that_is_killed_goes_on_with_the_same_bits() {
    let f = Folder::new(RUN);
    f.train(&["output=straight", "train.steps=600"], 0);
    f.train(&["output=r"], 0);
    f.train_killed("r", &["train.steps=600"], 70);
    assert!(!f.path("r/result.json").exists(), "an unfinished run has no result");
    f.train(&["output=r", "train.steps=600"], 0);
    assert!(f.weights("r") == f.weights("straight") && f.result("r") == f.result("straight"));
}

#[test]
fn a_schedule_that_depends_on_the_length_is_said() {
    let f = Folder::new(RUN);
    for kind in ["linear", "cosine"] {
        let schedule = format!("train.schedule.kind={kind}");
        let output = format!("output={kind}");
        f.train(&[&schedule, &output, "train.schedule.warmup=0.1"], 0);
        let error = f.train(&[&schedule, &output, "train.schedule.warmup=0.1", "train.steps=90"], 0);
        assert!(error.contains("goes on by the schedule of the new length"), "{error}");
        assert_eq!(f.value(&format!("{kind}/result.json"))["steps"], 90);
        let lines = f.read(&format!("{kind}/metrics.jsonl"));
        let rates: Vec<(u64, f64)> = lines
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap())
            .filter_map(|l| Some((l["step"].as_u64()?, l["learning_rate"].as_f64()?)))
            .collect();
        let at = |step: u64| rates.iter().find(|(s, _)| *s == step).unwrap().1;
        assert!(at(60) < at(70) && at(90) < at(70), "{rates:?}");
    }
    // A warm-up that is a share of the steps is of the schedule too.
    f.train(&["output=warm", "train.schedule.warmup=0.5"], 0);
    let error = f.train(&["output=warm", "train.schedule.warmup=0.5", "train.steps=90"], 0);
    assert!(error.contains("goes on by the schedule of the new length"), "{error}");
}

#[test]
fn without_its_last_state_a_run_says_what_to_do() {
    let f = Folder::new(RUN);
    f.train(&["output=r", "train.checkpoint_every=0"], 0);
    let error = f.train(&["output=r", "train.steps=90"], 2);
    assert!(error.contains("last state was not kept") && error.contains("train.start_from"), "{error}");
    f.train(&["output=s", "train.steps=90", "train.start_from=r/model"], 0);
}

/// A sweep's runs of an earlier version, whose ids were hashes of all keys.
#[test]
fn a_sweeps_runs_under_their_earlier_ids_are_found() {
    let f = Folder::new(RUN);
    f.write("s.toml", "base = \"run.toml\"\noutput = \"s\"\n[grid]\nseed = [1, 2]\n[examine]\nsentences = 50\n");
    let plan = lowland::sweep::plan(&f.path("s.toml")).unwrap();
    assert!(f.lowland(&["sweep", "run", "s.toml"]).status.success());
    for run in &plan.runs {
        let earlier = run.earlier_id.as_ref().expect("checkpoint_every is no default here");
        assert_eq!(*earlier, run.resolved.hash_of_all());
        std::fs::rename(f.path("s/runs").join(&run.id), f.path("s/runs").join(earlier)).unwrap();
    }
    let table = f.read("s/table.json");
    let again = f.lowland(&["sweep", "run", "s.toml"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(!text(&again.stderr).contains("run 1 of 2"), "nothing is run anew: {}", text(&again.stderr));
    assert_eq!(f.read("s/table.json"), table);
    assert_eq!(std::fs::read_dir(f.path("s/runs")).unwrap().count(), 2);
    // Where checkpoints are examined, what is kept of them is part of a run, and ids are what they were.
    f.write(
        "c.toml",
        "base = \"run.toml\"\n[grid]\ntrain.keep_checkpoints = [0]\n[examine]\nmodels = \"checkpoints\"\n",
    );
    let plan = lowland::sweep::plan(&f.path("c.toml")).unwrap();
    assert_eq!(plan.runs[0].id, plan.runs[0].resolved.hash_of_all());
}

#[test]
fn with_default_keys_a_hash_is_what_it_was() {
    let resolved = config::Resolved::from_text("seed = 1\n", "run", &[]).unwrap();
    assert_eq!(resolved.hash(), resolved.hash_of_all());
    let text = format!("{SMALL}{RUN}").replace("keep_checkpoints = 2", "").replace("evaluate_every = 20", "");
    let resolved = config::Resolved::from_text(&text, "run", &["train.checkpoint_every=500".into()]).unwrap();
    assert_eq!(resolved.hash(), resolved.hash_of_all());
}

#[test]
fn old_checkpoints_that_a_kill_left_are_removed_by_who_goes_on_with_nothing_to_train() {
    let f = Folder::new(RUN);
    let kept = |run: &str| {
        let entries = std::fs::read_dir(f.path(format!("{run}/checkpoints"))).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    f.train(&["output=r", "train.keep_checkpoints=0"], 0);
    assert_eq!(kept("r"), ["step-20", "step-40", "step-60"]);
    // As if killed between the newest checkpoint and the removal of the oldest.
    f.unfinish("r");
    let said = f.train(&["output=r"], 0);
    assert!(said.contains("resumed at step 60"), "{said}");
    assert_eq!(kept("r"), ["step-40", "step-60"]);
}

#[test]
fn files_half_written_by_a_kill_are_removed_by_who_goes_on() {
    let f = Folder::new(RUN);
    f.train(&["output=r"], 0);
    // As if killed while it wrote a model, and its result.
    f.unfinish("r");
    std::fs::create_dir_all(f.path("r/model")).unwrap();
    let left = ["r/model/config.11929.tmp", "r/model/model.11929.tmp", "r/result.7.tmp"];
    let kept = ["r/mine.tmp", "r/notes.a7.tmp"];
    for name in left.iter().chain(&kept) {
        f.write(name, "{");
    }
    f.train(&["output=r"], 0);
    for (names, wanted) in [(&left[..], false), (&kept, true)] {
        names.iter().for_each(|name| assert_eq!(f.path(name).exists(), wanted, "{name}"));
    }
}
