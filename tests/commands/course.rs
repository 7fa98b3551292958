//! When a run begins and ends: at a step of another one, and at an excess loss.

use serde_json::{Value, json};

use crate::RUN;
use crate::folder::{Folder, SMALL};

fn lines(f: &Folder, run: &str) -> Vec<Value> {
    f.read(&format!("{run}/metrics.jsonl")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Steps and excess losses of a run's evaluations.
fn evaluations(f: &Folder, run: &str) -> Vec<(u64, f64)> {
    let of = |line: &Value| Some((line["step"].as_u64()?, line["excess_loss"].as_f64()?));
    lines(f, run).iter().filter_map(of).collect()
}

const TRUNK: [&str; 3] =
    ["train.schedule={kind=\"wsd\", warmup=0.0, decay=0.2}", "train.checkpoint_every=20", "train.keep_checkpoints=0"];
/// The last half falls, from step 20 on.
const DECAYED: [&str; 2] = ["train.schedule={kind=\"wsd\", warmup=0.0, decay=0.5, floor=0.1}", "train.steps=40"];

#[test]
fn a_branch_with_a_decay_is_the_run_that_decayed_there() {
    let f = Folder::new(RUN);
    f.train(&[&["output=trunk"], &TRUNK[..]].concat(), 0);
    f.train(&[&["output=whole"], &DECAYED[..]].concat(), 0);
    let fork = ["train.branch={from=\"trunk\", step=20}"];
    let said = f.train(&[&["output=branch"], &DECAYED[..], &fork].concat(), 0);
    assert!(said.contains("branched at step 20 of trunk"), "{said}");
    assert!(said.contains("are those of this run's schedule"), "{said}");
    assert!(f.weights("branch") == f.weights("whole") && f.weights("branch") != f.weights("trunk"));
    assert_eq!(f.result("branch"), f.result("whole"));
    // Its own lines, from where it begins.
    let of = |run: &str| -> Vec<(u64, Value)> {
        let line = |l: &Value| (l["step"].as_u64().unwrap(), l["loss"].clone());
        lines(&f, run).iter().filter(|l| l["loss"].is_number()).map(line).collect()
    };
    assert_eq!(of("branch"), of("whole")[2..]);
    assert_eq!(evaluations(&f, "branch"), evaluations(&f, "whole")[1..]);
    // Without a checkpoint of its own it begins there again.
    f.unfinish("branch");
    std::fs::remove_dir_all(f.path("branch/checkpoints")).unwrap();
    let said = f.train(&[&["output=branch", "train.checkpoint_every=10"], &DECAYED[..], &fork].concat(), 0);
    assert!(!said.contains("finished already"), "{said}");
    assert!(f.weights("branch") == f.weights("whole"));
    // Another rate from there on: a run of its own, with a note.
    let other = ["output=other", "train.optimizer.lr=1e-3", "train.steps=40", fork[0]];
    let said = f.train(&[&other[..], &TRUNK[..1]].concat(), 0);
    assert!(said.contains("were others than this run's schedule has"), "{said}");
    assert!(f.weights("other") != f.weights("branch"));
}

#[test]
fn a_branch_that_is_killed_goes_on_with_the_same_bits() {
    let f = Folder::new(RUN);
    f.train(&[&["output=trunk"], &TRUNK[..]].concat(), 0);
    let branch = ["train.branch={from=\"trunk\", step=20}", "train.steps=400", "train.checkpoint_every=50"];
    f.train(&[&["output=straight"], &branch[..]].concat(), 0);
    f.train_killed("r", &branch, 130);
    let said = f.train(&[&["output=r"], &branch[..]].concat(), 0);
    assert!(said.contains("resumed at step") && !said.contains("branched"), "{said}");
    assert!(f.weights("r") == f.weights("straight") && f.result("r") == f.result("straight"));
    assert_eq!(evaluations(&f, "r"), evaluations(&f, "straight"));
}

#[test]
fn what_is_no_step_of_a_run_is_no_branch() {
    let f = Folder::new(RUN);
    f.train(&[&["output=trunk"], &TRUNK[..]].concat(), 0);
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (&["train.branch={from=\"nowhere\", step=20}"], 5, &["nowhere"]),
        (&["train.branch={from=\".\", step=20}"], 2, &["train.branch.from", "no folder of a run"]),
        (&["train.branch={from=\"trunk\", step=30}"], 2, &["train.branch.step", "of 20, 40, 60", "keep_checkpoints"]),
        (&["train.branch={from=\"trunk\", step=60}"], 2, &["train.steps", "nothing to train behind step 60"]),
        (&["train.branch={from=\"trunk\", step=20}", "seed=4"], 2, &["another `seed`", "a branch has the same"]),
        (&["train.branch={from=\"trunk\", step=20}", "model.hidden_size=32"], 2, &["`model.hidden_size`"]),
        (&["train.branch={from=\"trunk\", step=20}", "train.batch_size=16"], 2, &["`train.batch_size`"]),
        (
            &["train.branch={from=\"trunk\", step=20}", "train.optimizer={kind=\"sgd\", momentum=0.9}"],
            2,
            &["trained by adamw", "no moments for sgd with momentum"],
        ),
        (
            &["train.branch={from=\"trunk\", step=20}", "train.start_from=trunk/model"],
            2,
            &["train.branch", "leave out `train.start_from`"],
        ),
        (&["train.branch={from=\"trunk\"}"], 2, &["missing field `step`"]),
    ];
    for (overrides, code, wanted) in cases {
        let said = f.train(&[&["output=r"], overrides].concat(), code);
        for words in wanted {
            assert!(said.contains(words), "{overrides:?}: `{words}` is not in: {said}");
        }
        assert!(!f.path("r/config.toml").exists(), "{overrides:?} left something");
    }
    std::fs::write(f.path("trunk/checkpoints/step-20/moments.safetensors"), "").unwrap();
    let said = f.train(&["output=r", "train.branch={from=\"trunk\", step=20}"], 2);
    assert!(said.contains("damaged") && said.contains("moments.safetensors"), "{said}");
}

#[test]
fn a_run_stops_at_the_first_evaluation_that_is_low_enough() {
    let f = Folder::new(RUN);
    let often = ["train.evaluate_every=5", "train.steps=200"];
    f.train(&[&["output=all"], &often[..]].concat(), 0);
    let all = evaluations(&f, "all");
    // Between two steps' losses, at a step without a line of the log.
    let (step, excess) = *all.iter().find(|(step, _)| *step == 45).unwrap();
    assert!(all.iter().all(|(s, e)| *s >= step || *e > excess), "{all:?}");
    let stop = format!("train.stop={{excess={}}}", excess * (1.0 + 1e-9));
    let run = [&["output=r", stop.as_str()], &often[..]].concat();
    f.train(&run, 0);
    let result = f.value("r/result.json");
    assert_eq!((&result["status"], result["steps"].as_u64()), (&json!("done"), Some(step)));
    assert_eq!(result["stop"], json!({ "excess": excess * (1.0 + 1e-9), "reached": true }));
    assert_eq!(result["excess_loss"].as_f64(), Some(excess));
    let said: Vec<Value> =
        lines(&f, "r").iter().map(|l| l["stop"]["reached"].clone()).filter(|r| !r.is_null()).collect();
    assert_eq!(said, [vec![json!(false); 9], vec![json!(true)]].concat());
    let last = lines(&f, "r").iter().rev().find(|l| l["loss"].is_number()).unwrap()["step"].as_u64();
    assert_eq!(last, Some(step), "the last steps have their line");
    // The schedule is constant: the model of a run of so many steps.
    f.train(&["output=short", "train.steps=45"], 0);
    assert!(f.weights("r") == f.weights("short"));
    for more in ["train.steps=200", "train.steps=300"] {
        let again = f.train(&[&run[..], &[more]].concat(), 0);
        assert!(again.contains("finished already"), "{again}");
    }
    // As if killed behind the evaluation that ended it: it ends there again.
    f.unfinish("r");
    f.train(&run, 0);
    assert!(f.weights("r") == f.weights("short"));
    let again = f.value("r/result.json");
    assert_eq!((&again["steps"], &again["stop"]), (&result["steps"], &result["stop"]));
    assert_eq!(evaluations(&f, "r"), all[..10]);
    // How often is looked changes where such a run ends, and where it is looked at.
    let said = f.train(&[&run[..], &["train.evaluate_every=20"]].concat(), 2);
    assert!(said.contains("`train.evaluate_every`"), "{said}");
    let never = [&["output=never", "train.stop={excess=1e-9}", "train.steps=20"], &often[..1]].concat();
    f.train(&never, 0);
    let result = f.value("never/result.json");
    assert_eq!((result["steps"].as_u64(), &result["stop"]["reached"]), (Some(20), &json!(false)));
    // A bound that was not reached does not keep a run from being trained longer.
    f.train(&[&never[..], &["train.steps=30"]].concat(), 0);
    assert_eq!(f.value("never/result.json")["steps"], 30);
    // A tighter bound goes on as a branch of the run that stopped.
    let branch = ["output=tight", "train.branch={from=\"r\", step=45}", "train.stop={excess=1e-9}", "train.steps=60"];
    f.train(&[&branch[..], &often[..1]].concat(), 0);
    f.train(&["output=sixty"], 0);
    assert!(f.weights("tight") == f.weights("sixty"));
}

#[test]
fn a_stopped_run_of_a_sweep_is_asked_at_the_step_where_it_stopped() {
    let f = Folder::new(RUN);
    f.train(&["output=all", "train.evaluate_every=5"], 0);
    let excess = evaluations(&f, "all").iter().find(|(step, _)| *step == 45).unwrap().1;
    let stop = format!("stop = {{ excess = {} }}", excess * (1.0 + 1e-9));
    f.write(
        "base.toml",
        &format!("{SMALL}{RUN}").replace("evaluate_every = 20", &format!("evaluate_every = 5\n{stop}")),
    );
    f.write("s.toml", "base = \"base.toml\"\noutput = \"s\"\n[grid]\nseed = [3]\n[examine]\nsentences = 50\n");
    f.printed(&["sweep", "run", "s.toml"]);
    let table = f.value("s/table.json");
    let row = &table["rows"][0];
    assert_eq!((row["step"].as_u64(), row["last"].as_bool()), (Some(45), Some(true)), "{row}");
    let time = row["noise_time"].as_f64().unwrap();
    assert!((time - 45.0 * 4e-6 / 32.0).abs() < 1e-12, "{time}");
}

/// f32 tensors of a file, by name.
fn tensors(f: &Folder, file: &str) -> std::collections::BTreeMap<String, Vec<f64>> {
    let file = lowland::model::WeightsFile::read(&f.path(file)).unwrap();
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
    file.tensors.into_iter().map(|(name, (_, values))| (name, wide(values))).collect()
}

#[test]
fn an_average_of_the_weights_is_that_of_every_step() {
    let f = Folder::new(RUN);
    let (steps, beta) = (12usize, 0.8f64);
    let every = ["train.steps=12", "train.checkpoint_every=1", "train.keep_checkpoints=0", "train.evaluate_every=4"];
    f.train(&[&["output=r", "train.ema=0.8"], &every[..]].concat(), 0);
    f.train(&[&["output=plain"], &every[..]].concat(), 0);
    assert!(f.weights("r") == f.weights("plain"), "the run itself is as without");
    // Its own definition, from the weights behind each step.
    let file = |step: usize| tensors(&f, &format!("r/checkpoints/step-{step}/model.safetensors"));
    let behind: Vec<_> = (1..=steps).map(file).collect();
    let weight = |i: usize| beta.powi((steps - 1 - i) as i32);
    let whole: f64 = (0..steps).map(weight).sum();
    let average = tensors(&f, "r/model-ema/model.safetensors");
    assert_eq!(average.len(), behind[0].len());
    for (name, got) in &average {
        for (j, got) in got.iter().enumerate() {
            let want = (0..steps).map(|i| weight(i) * behind[i][name][j]).sum::<f64>() / whole;
            assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{name} {j}: {got}, {want}");
        }
    }
    assert_ne!(average, behind[steps - 1], "it is not the last model");
    assert_eq!(tensors(&f, "r/checkpoints/step-1/ema.safetensors"), behind[0], "the first step weighs all");
    // A model folder as any other, whose evaluation is the one that the run gives.
    let result = f.value("r/result.json");
    let eval = f.json(&["eval", "r/model-ema", "run.toml", "--count", "100", "--json"]);
    let (own, again) = (result["ema"]["excess_loss"].as_f64().unwrap(), eval["excess_loss"].as_f64().unwrap());
    assert!((own / again - 1.0).abs() < 1e-5, "{own} {again}");
    assert!((own / result["excess_loss"].as_f64().unwrap() - 1.0).abs() > 1e-4);
    let said: Vec<(u64, bool)> = lines(&f, "r")
        .iter()
        .filter(|l| l["held_out_loss"].is_number())
        .map(|l| (l["step"].as_u64().unwrap(), l["ema"]["excess_loss"].is_number()))
        .collect();
    assert_eq!(said, [(0, false), (4, true), (8, true), (12, true)]);
    assert!(f.value("plain/result.json")["ema"].is_null() && !f.path("plain/model-ema").exists());
}

#[test]
fn an_average_of_the_weights_is_killed_resumed_and_branched_to_the_bit() {
    let f = Folder::new(RUN);
    let of = |run: &str| std::fs::read(f.path(format!("{run}/model-ema/model.safetensors"))).unwrap();
    let run = ["train.ema=0.95", "train.steps=400", "train.checkpoint_every=50", "train.keep_checkpoints=0"];
    f.train(&[&["output=straight"], &run[..]].concat(), 0);
    f.train_killed("r", &run, 130);
    assert!(f.train(&[&["output=r"], &run[..]].concat(), 0).contains("resumed at step"));
    assert!(of("r") == of("straight") && f.result("r") == f.result("straight"));
    assert_eq!(evaluations(&f, "r"), evaluations(&f, "straight"));
    // A branch with the same decay goes on with the average; one with another begins its own.
    let fork = "train.branch={from=\"straight\", step=350}";
    f.train(&[&["output=branch", fork], &run[..]].concat(), 0);
    assert!(of("branch") == of("straight"));
    f.train(&["output=own", fork, "train.ema=0.999999", "train.steps=352"], 0);
    let read = |file: &str| tensors(&f, file);
    let average = read("own/model-ema/model.safetensors");
    f.train(&["output=one", fork, "train.steps=351"], 0);
    let (first, second) = (read("one/model/model.safetensors"), read("own/model/model.safetensors"));
    for (name, got) in &average {
        for (j, got) in got.iter().enumerate() {
            let mean = (first[name][j] + second[name][j]) / 2.0;
            assert!((got - mean).abs() <= 1e-6 * (1.0 + mean.abs()), "{name} {j}: {got}, {mean}");
        }
    }
    for (value, words) in [("1.0", "between 0 and 1"), ("0", "between 0 and 1"), ("-0.1", "between 0 and 1")] {
        let said = f.train(&["output=bad", &format!("train.ema={value}")], 2);
        assert!(said.contains("train.ema") && said.contains(words), "{said}");
    }
}
