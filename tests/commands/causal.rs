//! Next words from the command line: train, evaluate, measure, probe, sweep and report, and what is refused.

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, text};
use serde_json::Value;

const CONFIG: &str = r#"
seed = 3
[language]
kind = "hmm"
hmm = { states = 3, vocabulary = 6, transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }
min_length = 3
max_length = 7
[model]
type = "lstm"
bidirectional = false
hidden_size = 16
num_hidden_layers = 1
[objective]
kind = "causal"
[train]
steps = 100
batch_size = 32
optimizer = { kind = "adamw", lr = 5e-3 }
evaluate_every = 50
checkpoint_every = 50
[evaluate]
sentences = 300
[measure]
every = 0
trace = { sentences = 64, draws = 2 }
noise = { sentences = 64 }
"#;

fn folder() -> Folder {
    let f = Folder::empty();
    f.write("run.toml", CONFIG);
    f
}

#[test]
fn a_causal_run_is_trained_evaluated_measured_probed_and_reported() {
    let f = folder();
    f.train(&["output=run"], 0);
    let result = f.value("run/result.json");
    let (first, last) = (number(&result, "entropy_floor"), number(&result, "loss"));
    assert!((first + number(&result, "excess_loss") - last).abs() < 1e-9);
    assert!(number(&result, "positions") > 900.0, "all tokens of 300 sentences");
    let curvature = &result["curvature"];
    assert_eq!(curvature["loss_normaliser"], "predicted_token");
    let each = number(curvature, "tokens_per_example");
    assert!(each > 4.0 && each < 8.0, "{each}");

    let eval = f.json(&["eval", "run/model", "run.toml", "--count", "2000", "--json"]);
    assert_eq!((&eval["loss_normaliser"], &eval["count"]), (&"predicted_token".into(), &2000.into()));
    let (excess, paired) = (number(&eval, "excess_loss"), number(&eval, "excess_loss_paired"));
    let error = number(&eval, "excess_loss_paired_standard_error");
    assert!((excess - paired).abs() < 4.0 * error && error > 0.0, "{eval}");
    assert!(number(&eval, "excess_loss_standard_error") < error, "what is summed out does not scatter");
    // The same sentences' mean loss is that of the words drawn: loss + log p = paired.
    let floor = f.json(&["language", "floor", "run.toml", "--count", "2000", "--json"]);
    let apart = (number(&eval, "entropy_floor") - number(&floor, "entropy_floor")).abs();
    assert!(apart < 5.0 * number(&floor, "standard_error"), "{eval} {floor}");
    assert_eq!(floor["per_position"].as_array().unwrap().len(), 8);
    assert!(floor["predicted_tokens"].as_u64().unwrap() > 8000);
    let (printed, _) = f.printed(&["language", "floor", "run.toml"]);
    assert!(printed.contains("nats a predicted token") && printed.contains("behind 7 words"), "{printed}");

    let common = ["run/model", "run.toml", "--count", "60", "--json"];
    let measure = |what: &[&str]| f.json(&[&["measure"], what, &common].concat());
    let trace = measure(&["trace", "--estimator", "exact-labels"]);
    assert_eq!((&trace["loss_normaliser"], &trace["count"]), (&"predicted_token".into(), &60.into()));
    let noise = measure(&["noise", "--bartlett", "--samples", "32"]);
    assert_eq!((&noise["per"], &noise["loss_normaliser"]), (&"example".into(), &"sentence".into()));
    let tokens = number(&noise, "tokens_per_example");
    assert_eq!(tokens, number(&noise, "masked_positions") / 60.0);
    let bartlett = &noise["bartlett"];
    let fisher = number(&bartlett["trace_fisher"], "value");
    let want = number(&trace, "trace") * tokens;
    assert!((fisher / want - 1.0).abs() < 0.15, "{fisher} against {want}: of summed losses");
    let ratio = number(&bartlett["covariance_over_fisher"], "value");
    assert!((ratio * fisher / number(&noise, "trace_covariance") - 1.0).abs() < 1e-6);
    let single = measure(&["noise", "--per", "token", "--bartlett", "--samples", "32"]);
    assert_eq!((&single["per"], &single["loss_normaliser"]), (&"token".into(), &"predicted_token".into()));
    assert_eq!((&single["tokens_per_example"], &single["count"]), (&noise["tokens_per_example"], &60.into()));
    let squares = single["per_example_squared_norm"].as_array().unwrap().len();
    assert_eq!(squares as f64, number(&single, "masked_positions"));
    let of = |report: &Value, key: &str| number(&report["bartlett"][key], "value");
    assert!((of(&single, "trace_fisher") * tokens / fisher - 1.0).abs() < 1e-6);
    let ratio = number(&single, "trace_covariance") / of(&single, "trace_fisher");
    assert!((of(&single, "covariance_over_fisher") / ratio - 1.0).abs() < 1e-6);
    let (_, said) = f.printed(&["measure", "noise", "run/model", "run.toml", "--count", "60", "--per", "token"]);
    assert!(said.contains("gradients of single tokens") && said.contains("times those of the 60 examples"), "{said}");
    // Which loss each matrix is of.
    let covariance = measure(&["trace", "--matrix", "noise_covariance"]);
    let apart = number(&covariance, "trace") / number(&noise, "trace_covariance") - 1.0;
    assert!(apart.abs() < 1e-5 && covariance["loss_normaliser"] == "sentence", "{covariance}");
    for (what, normaliser) in [
        (["trace", "--matrix", "empirical_fisher"].as_slice(), "sentence"),
        (&["trace", "--matrix", "noise_covariance", "--estimator", "data-labels"], "sentence"),
        (&["trace", "--matrix", "hessian", "--samples", "4"], "predicted_token"),
        (&["spectrum", "--matrix", "noise_covariance", "--top", "1"], "sentence"),
        (&["spectrum", "--top", "1"], "predicted_token"),
        (&["sharpness"], "predicted_token"),
    ] {
        assert_eq!(measure(what)["loss_normaliser"], normaliser, "{what:?}");
    }
    let (printed, _) = f.printed(&["measure", "spectrum", "run/model", "run.toml", "--count", "9", "--top", "1"]);
    assert!(printed.contains("the mean over all predicted tokens"), "{printed}");
    let (printed, _) = f.printed(&["eval", "run/model", "run.toml", "--count", "9"]);
    assert!(printed.contains("a predicted token, 9 examples with "), "{printed}");
    let same = f.json(&["eval", "run/model", "run.toml", "--json"]);
    for key in ["excess_loss_paired", "excess_loss_paired_standard_error"] {
        assert!((number(&same, key) - number(&result, key)).abs() < 1e-5, "{key}: {same} {result}");
    }

    let task = ["--task", "task-3", "--train", "60", "--validation", "30", "--test", "30", "--json"];
    let probe = f.json(&[["probe", "run/model", "run.toml", "--features", "last"].as_slice(), &task].concat());
    assert_eq!(probe["features"], "last of layer 1");
    let fine = f.json(&[["finetune", "run/model", "run.toml", "--epochs", "1"].as_slice(), &task].concat());
    assert_eq!(fine["features"], "</s>, all layers trained");
    let output = f.lowland(&[["probe", "run/model", "run.toml", "--features", "first"].as_slice(), &task].concat());
    let error = text(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("take \"last\""), "{error}");
    f.printed(&["report", "run"]);
    let page = f.read("run/report.html");
    assert!(page.contains("nats for a predicted token") && page.contains("summed losses"), "the page says per what");
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_place() {
    let f = folder();
    let bert = fixture("roberta-20");
    let lstm = fixture("lstm-plain");
    let [bert, lstm] = [bert.to_str().unwrap(), lstm.to_str().unwrap()];
    f.write("bad.toml", &CONFIG.replace("bidirectional = false", "bidirectional = true"));
    f.write("next.jsonl", "{\"input_ids\":[0,4,5,2]}\n");
    f.write("worse.jsonl", "{\"input_ids\":[0,4,5,2]}\n{\"input_ids\":[0]}\n");
    let cases: &[(&[&str], &[&str])] = &[
        (&["train", "bad.toml"], &["bad.toml", "objective.kind", "has seen the word"]),
        (&["train", "run.toml", "objective.mask={ bernoulli = 0.2 }"], &["objective.mask", "masks nothing"]),
        (&["train", "run.toml", "objective.positions={ from = 2, to = 1 }"], &["objective.positions.to"]),
        (&["eval", bert, "next.jsonl"], &["next.jsonl:1", "no labels"]),
        (&["eval", lstm, "worse.jsonl"], &["worse.jsonl:2", "no token but the first"]),
    ];
    for (arguments, wanted) in cases {
        let output = f.lowland(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty() && !error.contains("panicked"), "{arguments:?}: {error}");
        assert!(wanted.iter().all(|word| error.contains(word)), "{arguments:?}: {error}");
    }
    // A model of the other kind, asked by a config of next words; and the positions of masks.
    f.train(&["output=both", "model.bidirectional=true", "objective.kind=mlm", "train.steps=2"], 0);
    f.train(&["output=one", "train.steps=2"], 0);
    for (arguments, wanted) in [
        (["eval", "both/model", "run.toml", "--json"].as_slice(), "has seen the word"),
        (&["measure", "trace", "both/model", "run.toml"], "has seen the word"),
        (&["eval", "one/model", "run.toml", "--positions", "all"], "--positions"),
    ] {
        let output = f.lowland(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(wanted), "{arguments:?}: {error}");
    }
    let found = f.json(&["eval", "one/model", "next.jsonl", "--json"]);
    assert_eq!((&found["masked_positions"], &found["excess_loss"]), (&3.into(), &Value::Null));
}

const SWEEP: &str = r#"
base = "run.toml"
intervention = "size"
output = "OUT"
[grid]
"train.steps" = [4, 8]
[[zip]]
label = ["small", "large"]
"model.hidden_size" = [8, 16]
[examine]
sentences = 40
lookup = true
enlarge = "largest"
[examine.measure]
trace = { sentences = 24 }
noise = { sentences = 24 }
[[examine.probe]]
task = "task-3"
method = "ridge"
ridge = [1e-2]
train = 60
validation = 30
test = 60
"#;

#[test]
fn a_sweep_compares_causal_models_of_one_objective() {
    let f = folder();
    f.write("sweep.toml", SWEEP);
    f.printed(&["sweep", "run", "sweep.toml"]);
    let table = f.value("OUT/table.json");
    assert_eq!(table["objective"], "causal");
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5, "{table}");
    for row in &rows[..4] {
        assert_eq!(row["curvature"]["loss_normaliser"], "predicted_token");
        assert!(number(&row["evaluation"], "excess_loss_paired_standard_error") > 0.0);
        assert!(number(&row["evaluation"], "positions") > 150.0 && number(&row["evaluation"], "excess_loss") > 0.0);
        // The function is kept: the embedded model's loss is not measured, its trace is.
        assert!(number(&row["curvature"], "fisher_trace") > 0.0);
    }
    // What the language says of next words stands beside the models, apart from what it says of masked ones.
    let lookup = &rows[4];
    assert_eq!(lookup["run"], "lookup");
    let accuracy = number(&lookup["downstream"][0], "accuracy");
    assert!(accuracy > 0.4 && accuracy <= 1.0, "{lookup}");
    let folders = std::fs::read_dir(f.path("OUT/runs")).unwrap();
    let folders: Vec<String> = folders.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders.iter().filter(|name| name.starts_with("lookup-next-")).count(), 1, "{folders:?}");
    let task = ["--task", "task-3", "--train", "60", "--validation", "30", "--test", "60", "--ridge", "1e-2", "--json"];
    let model = format!("OUT/runs/{}/model", rows[0]["run"].as_str().unwrap());
    let flags = ["--features", "lookup", "--method", "ridge", "seed=0"];
    let probe = f.json(&[&["probe", &model, "run.toml"][..], &flags, &task].concat());
    assert_eq!(probe["features"], "lookup of next words");
    assert_eq!(number(&probe, "accuracy"), accuracy);
    f.printed(&["report", "OUT"]);
    assert!(f.read("OUT/report.html").contains("nats for a predicted token"));
    let mixed = SWEEP.replace("\"train.steps\" = [4, 8]", "\"objective.kind\" = [\"mlm\", \"causal\"]");
    f.write("mixed.toml", &mixed);
    let output = f.lowland(&["sweep", "plan", "mixed.toml"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("predicts other words"), "{error}");
    // Masks of one position or of all have no meaning for next words.
    f.write("masked.toml", &SWEEP.replace("lookup = true", "positions = \"all\""));
    let output = f.lowland(&["sweep", "plan", "masked.toml"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("[examine] `positions`") && error.contains("`objective.positions`"), "{error}");
}
