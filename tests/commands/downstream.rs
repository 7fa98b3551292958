//! Training, probes, fine-tuning, enlarging and evaluating one after the other.

use lowland::model::WeightsFile;
use serde_json::Value;

use crate::folder::{Folder, number, text};

const CONFIG: &str = r#"
seed = 3
[language]
kind = "hmm"
hmm = { states = 4, vocabulary = 8, transition_concentration = 0.2, emission_concentration = 0.2, seed = 2 }
min_length = 3
max_length = 8
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
[train]
steps = 20
batch_size = 32
[evaluate]
sentences = 50
"#;

#[test]
fn the_commands_work_together() {
    let f = Folder::empty();
    f.write("run.toml", CONFIG);
    f.json(&["train", "run.toml", "output=run", "--json"]);
    let sizes = ["--train", "100", "--validation", "30", "--test", "60", "--seeds", "2", "--json"];
    let with = |first: &[&str]| f.json(&[first, &sizes].concat());
    let of = ["run/model", "run.toml", "--task", "task-3"];
    let probed = with(&[&["probe"][..], &of, &["--epochs", "5", "--export", "features.safetensors"]].concat());
    for key in [
        "task",
        "accuracy",
        "standard_deviation",
        "standard_error",
        "seeds",
        "per_seed",
        "chance",
        "majority",
        "bayes",
        "classes",
        "train",
        "validation",
        "test",
        "skipped",
        "features",
        "method",
        "seconds",
    ] {
        assert!(!probed[key].is_null(), "`{key}` in {probed}");
    }
    assert_eq!((&probed["task"], &probed["seeds"], &probed["train"]), (&"task-3".into(), &2.into(), &100.into()));
    let exported = WeightsFile::read(&f.path("features.safetensors")).unwrap();
    assert_eq!(exported.tensors["test"].0, [60, 10 * 16]);
    let looked =
        with(&[&["probe"][..], &of, &["--features", "lookup", "--method", "ridge", "--projection", "12"]].concat());
    assert_eq!((&looked["seeds"], &looked["standard_error"]), (&1.into(), &Value::Null));
    let flags = ["--features", "padded", "--padded-length", "10", "--epochs", "4", "--batch", "50", "--schedule"];
    let released = ["polynomial", "--warmup-steps", "2", "--feature-dropout", "0.1", "--encoder-dropout", "0.1"];
    let released = with(&[&["probe"][..], &of, &flags, &released].concat());
    assert_eq!(released["width"], 8 * 16);
    for word in ["2 steps of warm-up", "falling", "dropped with probability 0.1", "in training with dropout 0.1"] {
        assert!(released["method"].as_str().unwrap().contains(word), "{released}");
    }
    let pooled = with(&[&["finetune"][..], &of, &["--epochs", "2", "--pooled", "--clip", "1"]].concat());
    assert!(pooled["method"].as_str().unwrap().contains("pooler"), "{pooled}");
    let tuned = with(&[&["finetune"][..], &of, &["--epochs", "2"]].concat());
    assert_eq!(tuned["per_seed"].as_array().unwrap().len(), 2);

    let nats = ["--method", "ridge", "--labels", "drawn", "--label-sets", "2", "--standardise"];
    let sizes = ["--train-sizes", "40,20", "--validation", "30", "--test", "60", "--json"];
    let averaged = f.json(&[&["probe"][..], &of, &nats, &sizes].concat());
    assert_eq!((&averaged["labels"], &averaged["train"], &averaged["seeds"]), (&"drawn".into(), &40.into(), &2.into()));
    assert!(number(&averaged, "excess_nats") > 0.0 && number(&averaged, "excess_nats_standard_error") > 0.0);
    assert_eq!(averaged["label_sets"]["sizes"][1]["train"], 40, "{averaged}");
    let forgot =
        with(&[&["finetune"][..], &of, &["--epochs", "1", "--labels", "drawn", "--forgetting", "40"]].concat());
    assert!(forgot["forgetting"].is_number() && forgot["forgetting_standard_error"].is_number(), "{forgot}");
    assert!(probed["excess_nats"].is_null() && probed["forgetting"].is_null(), "not asked: {probed}");

    let enlarged = f.json(&["enlarge", "run/model", "hidden=32,layers=2", "large", "--json"]);
    assert_eq!((&enlarged["num_attention_heads"], &enlarged["intermediate_size"]), (&4.into(), &64.into()));
    let loss = |model: &str| number(&f.json(&["eval", model, "run.toml", "--count", "50", "--json"]), "loss");
    assert!((loss("large") - loss("run/model")).abs() < 1e-6);

    let eval = |more: &[&str]| f.json(&[&["eval", "run/model", "run.toml", "--count", "30", "--json"], more].concat());
    let (one, all) = (eval(&[]), eval(&["--positions", "all", "--per-example"]));
    assert_eq!((&one["count"], &one["masked_positions"], &all["count"]), (&30.into(), &30.into(), &30.into()));
    let positions = all["masked_positions"].as_f64().unwrap();
    assert!(positions > 90.0 && all["standard_error"].as_f64().unwrap() > 0.0, "{all}");
    let examples: Vec<f64> = all["per_example"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
    assert_eq!(examples.len(), 30);
    assert!((examples.iter().sum::<f64>() / positions - number(&all, "loss")).abs() < 1e-9);
    let sum = number(&all, "entropy_floor") + number(&all, "excess_loss");
    assert!((sum - number(&all, "expected_loss")).abs() < 1e-9);
    assert_eq!(number(&eval(&["evaluate.positions=all"]), "loss"), number(&all, "loss"), "flag and key are one");
    f.write("lines.jsonl", "{\"input_ids\":[0,4,3,2],\"masked_positions\":[2],\"labels\":[5]}\n");

    let probe = |more: &[&'static str]| [&["probe", "run/model", "run.toml", "--task", "task-3"], more].concat();
    for (arguments, wanted) in [
        (vec!["eval", "run/model", "lines.jsonl", "--positions", "all"], "--positions belongs to a run config"),
        (probe(&["--features", "padded", "--padded-length", "11"]), "positions for 10"),
        (probe(&["--features", "padded", "--padded-length", "9"]), "10 are needed"),
        (probe(&["--padded-length", "12"]), "--features padded"),
        (probe(&["--method", "ridge", "--warmup-steps", "3"]), "--warmup-steps belongs to --method adamw"),
        (probe(&["--feature-dropout", "1"]), "--feature-dropout: 1 must lie in [0, 1)"),
        (probe(&["--encoder-dropout=-1"]), "--encoder-dropout"),
        (probe(&["--features", "lookup", "--encoder-dropout", "0.1"]), "no encoder"),
        (probe(&["--train-sizes", "20", "--train", "30"]), "cannot be used with"),
        (probe(&["--labels", "all"]), "possible values: mode, drawn, posterior"),
        (vec!["finetune", "run/model", "run.toml", "--task", "task-3", "--labels", "posterior"], "take drawn"),
        (probe(&["--schedule", "polynomial", "--lr", "1e-8"]), "polynomial schedule ends"),
        (vec!["finetune", "run/model", "run.toml", "--task", "task-3", "--clip=-1"], "--clip"),
        (vec!["probe", "run/model", "run.toml", "--task", "A"], "task-K"),
        (vec!["probe", "run/model", "run.toml", "--task", "task"], "no task"),
        (vec!["probe", "run/model", "run.toml", "--task", "none.csv"], "cannot be read"),
        (vec!["probe", "run/model", "run.toml", "--task", "task-3", "--layer", "7"], "this model has 0"),
        (vec!["finetune", "run/model", "run.toml", "--task", "task-3", "--lr", "0"], "--lr 0 must be positive"),
        (
            vec!["probe", "run/model", "run.toml", "language.hmm.vocabulary=9", "--task", "task-3"],
            "has no token for the language's word `w8`",
        ),
        (vec!["enlarge", "run/model", "hidden=30", "other"], "no multiple"),
        (vec!["enlarge", "run/model", "width=32", "other"], "write `hidden="),
        (vec!["enlarge", "run/model", "hidden=32", "large"], "holds a model already"),
    ] {
        let output = f.lowland(&arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(wanted), "{arguments:?}: {error}");
    }
}
