//! `lowland regauge`: the same function in another gauge or nothing, and what the trace becomes.

use lowland::model::{Loaded, load};
use serde_json::{Value, json};

use crate::common::fixtures::fixture;
use crate::folder::{Folder, SMALL, number, text};
use crate::schema::{conforms, recorded_schema};

const RUN: &str = "[train]\nsteps = 60\nbatch_size = 32\noptimizer = { kind = \"adamw\", lr = 5e-3 }\n\
                   [evaluate]\nsentences = 50\n";
const EXACT: [&str; 5] = ["--estimator", "exact-labels", "--count", "24", "--json"];

fn trained() -> Folder {
    let f = Folder::empty();
    f.write("run.toml", &format!("{SMALL}{RUN}"));
    f.json(&["train", "run.toml", "output=run", "--json"]);
    f
}

/// What the command prints, which must be as its schema says, and what the new folder says.
fn regauge(f: &Folder, out: &str, more: &[&str]) -> Value {
    let said = f.json(&[&["regauge", "run/model", out], more].concat());
    let schema = recorded_schema("regauge");
    conforms(&said, &schema, &schema, "regauge");
    assert_eq!(said, f.value(&format!("{out}/regauge.json")));
    said
}

fn measured(f: &Folder, model: &str) -> Value {
    f.json(&[&["measure", "flatness", model, "run.toml"][..], &EXACT].concat())
}

#[test]
fn of_a_trained_model_the_trace_is_a_over_a_squared_plus_b_a_squared_plus_c() {
    let f = trained();
    let loss = |model: &str| number(&f.json(&["eval", model, "run.toml", "--count", "50", "--json"]), "loss");
    let own = measured(&f, "run/model");
    let mut traces = vec![];
    for (a, factor) in [("1/4", 0.25), ("0.5", 0.5), ("2", 2.0), ("4", 4.0)] {
        let out = format!("tables-{factor}");
        let said = regauge(&f, &out, &[&["run.toml", "--tables", a][..], &EXACT].concat());
        assert_eq!(said["gauges"], json!({ "tables": factor }));
        assert!(number(&said, "logit_difference") <= 1e-6 && number(&said, "rounding_difference") == 0.0, "{said}");
        assert!((loss(&out) - loss("run/model")).abs() < 1e-6, "{out}");
        let new = measured(&f, &out);
        let (predicted, found) = (number(&said, "predicted_trace"), number(&new, "trace"));
        assert!((predicted / found - 1.0).abs() < 1e-5, "{out}: predicted {predicted}, measured {found}");
        assert!((number(&said, "trace") / number(&own, "trace") - 1.0).abs() < 1e-9);
        for measure in ["scale_free_trace", "relative_flatness", "balanced_trace", "balanced_trace_all"] {
            let share = number(&new, measure) / number(&own, measure);
            assert!((share - 1.0).abs() < 1e-5, "{out}: {measure} times {share}");
        }
        traces.push((factor, found));
        // The tokenizer comes along.
        for file in ["vocab.txt", "tokenizer.json", "tokenizer_config.json"] {
            assert_eq!(f.read(&format!("run/model/{file}")), f.read(&format!("{out}/{file}")), "{file}");
        }
    }
    // A, B and C from three of five measurements; the others are by the law.
    traces.push((1.0, number(&own, "trace")));
    let [(_, t1), (_, t2), (_, t3)] = [traces[0], traces[4], traces[3]];
    // t1 - t2 = 15 A - 15/16 B and t3 - t2 = 15 B - 15/16 A, at a² = 1/16, 1 and 16.
    let (x, y) = ((t1 - t2) / 15.0, (t3 - t2) / 15.0);
    let a = (x + y / 16.0) / (1.0 - 1.0 / 256.0);
    let b = y + a / 16.0;
    let c = t2 - a - b;
    assert!(a > 0.0 && b > 0.0 && c > 0.0, "{a} {b} {c}");
    for (factor, found) in traces {
        let law = a / (factor * factor) + b * factor * factor + c;
        assert!((law / found - 1.0).abs() < 1e-4, "{factor}: {law} and {found}");
    }
}

#[test]
fn balance_leads_to_the_least_and_says_its_error_and_bias() {
    let f = trained();
    let own = measured(&f, "run/model");
    let said = regauge(&f, "flat", &[&["run.toml", "--balance"][..], &EXACT].concat());
    let new = measured(&f, "flat");
    let least = number(&own, "balanced_trace_all");
    for (what, value) in [
        ("predicted", number(&said, "predicted_trace")),
        ("measured", number(&new, "trace")),
        ("the new model's least", number(&new, "balanced_trace_all")),
    ] {
        assert!((value / least - 1.0).abs() < 1e-5, "{what}: {value}, not {least}");
    }
    assert!(least < 0.9 * number(&own, "trace"), "{least}");
    assert_eq!(said["balanced"], json!(true));
    let keys: Vec<&String> = said["gauges"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["attention_norm.0", "feed_forward_norm.0", "query_key.0", "tables", "value_output.0"]);
    assert_eq!(number(&said, "predicted_trace_bias"), number(&own, "balanced_trace_all_bias"));
    assert!(number(&said, "rounding_difference") > 0.0, "its factors are no powers of two");
    let error = number(&said, "predicted_trace_standard_error");
    assert!((error / number(&own, "balanced_trace_all_standard_error") - 1.0).abs() < 1e-9, "{error}");

    // What a least holds still may be moved beside it.
    let both = regauge(&f, "both", &[&["run.toml", "--balance", "--residual", "2"][..], &EXACT].concat());
    let (predicted, found) = (number(&both, "predicted_trace"), number(&measured(&f, "both"), "trace"));
    assert!((predicted / found - 1.0).abs() < 1e-5 && predicted < least, "{predicted}, {found}, {least}");
    // By drawn signs it is the same within its error.
    let drawn = regauge(&f, "drawn", &["run.toml", "--residual", "0.5", "--count", "200", "--json"]);
    let exact =
        regauge(&f, "exact", &["run.toml", "--residual", "0.5", "--count", "200", EXACT[0], EXACT[1], "--json"]);
    let error = number(&drawn, "predicted_trace_standard_error");
    let z = (number(&drawn, "predicted_trace") - number(&exact, "predicted_trace")) / error;
    assert!(error > 0.0 && z.abs() < 4.0, "z = {z}");
    assert!(drawn["predicted_trace_bias"].is_null());
}

#[test]
fn without_examples_nothing_is_measured_and_every_type_is_written() {
    let f = Folder::empty();
    for (name, flags) in [
        ("bert-18", &["--tables", "--final-norm", "--query-key", "--value-output"][..]),
        ("postnorm-tiny", &["--tables", "--final-norm", "--query-key", "--value-output"]),
        ("roberta-20", &["--tables", "--residual", "--final-norm", "--query-key", "--value-output"]),
        ("bert-untied", &["--final-norm", "--query-key", "--value-output"]),
        ("lstm-16", &["--tables", "--final-norm"]),
        ("lstm-untied", &["--final-norm"]),
        ("gpt2-20", &["--query-key", "--value-output"]),
        ("opt-18", &["--query-key", "--value-output"]),
        ("gpt_neox-20", &["--final-norm", "--query-key", "--value-output"]),
        ("llama-24", &["--final-norm", "--query-key", "--value-output"]),
        ("mistral-16", &["--final-norm", "--query-key", "--value-output"]),
        ("qwen2-16", &["--query-key", "--value-output"]),
        ("olmo-16", &["--query-key", "--value-output"]),
        ("olmo2-18", &["--final-norm", "--value-output"]),
    ] {
        let model = fixture(name).display().to_string();
        let factors: Vec<&str> = flags.iter().zip(["4", "1/4", "2", "0.5", "4"]).flat_map(|(f, a)| [*f, a]).collect();
        let said = f.json(&[&["regauge", &model, name][..], &factors, &["--json"]].concat());
        assert!(number(&said, "logit_difference") <= 1e-6, "{name}: {said}");
        for null in ["trace", "trace_standard_error", "predicted_trace", "predicted_trace_bias", "measured"] {
            assert!(said[null].is_null(), "{name}: {null}");
        }
        // And it is another model, in the same shapes.
        let [old, new] = [fixture(name), f.path(name)].map(|folder| load(&folder).unwrap());
        let shapes = |loaded: &Loaded| -> Vec<(String, Vec<usize>)> {
            loaded.encoder.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect()
        };
        assert_eq!(shapes(&old), shapes(&new), "{name}");
        assert!(old.weights.0 != new.weights.0, "{name}");
    }
    let printed = f.printed(&["regauge", &fixture("roberta-20").display().to_string(), "again", "--tables", "2"]).0;
    assert!(printed.contains("times 2.0000") && printed.contains("the same within"), "{printed}");
}

#[test]
fn what_a_type_lacks_and_what_is_another_function_is_refused() {
    let f = Folder::empty();
    let refused = |name: &str, more: &[&str], words: &[&str]| {
        let model = fixture(name).display().to_string();
        let output = f.lowland(&[&["regauge", &model, "out"], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name} {more:?}: {said}");
        words.iter().for_each(|w| assert!(said.contains(w), "{name} {more:?}: {said}"));
        assert!(!f.path("out").exists(), "{name} {more:?}: something is written");
    };
    let has =
        "A model of type \"bert\" with a tied head has --tables, --final-norm, --query-key, --value-output, --balance";
    refused("bert-18", &["--residual", "2"], &["without a norm before them", has]);
    refused("bert-18", &[], &["which gauge?", has]);
    refused("bert-untied", &["--tables", "2"], &["the head is not tied", "with a head of its own has --final-norm"]);
    refused("postnorm-16", &["--residual", "0.5"], &["--residual: layers read the residual stream as it is"]);
    refused("gpt2-20", &["--residual", "2"], &["--residual: the head is the table of words", "--tables"]);
    refused("gpt2-20", &["--final-norm", "2"], &["--final-norm: the head is the table of words"]);
    refused("gpt_neox-20", &["--tables", "2"], &["the head is not tied", "--residual"]);
    refused("opt-120-postnorm", &["--tables", "2"], &["without a norm before them"]);
    refused("olmo-16", &["--final-norm", "2"], &["no parameters"]);
    refused("olmo2-18", &["--query-key", "2"], &["queries and keys are normalised"]);
    refused("olmo2-18", &["--residual", "2"], &["without a norm before them"]);
    refused("lstm-16", &["--residual", "2"], &["between -1 and 1"]);
    refused("lstm-16", &["--query-key", "2"], &["no attention"]);
    refused("lstm-16", &["--value-output", "2"], &["no attention"]);
    // Norms whose ε is not small: that of config.json under its own name, or one that is no key.
    refused("postnorm-16", &["--tables", "1/4"], &["of their spread", "more than 1e-6", "`layer_norm_eps` = 1e-5"]);
    refused("gpt2-20", &["--tables", "4"], &["`layer_norm_epsilon` = 1e-5", "Nothing is written"]);
    refused("opt-18", &["--tables", "1/4"], &[": ε = 1e-5"]);
    // Flags.
    refused("bert-18", &["--tables", "0"], &["a factor lies between"]);
    refused("bert-18", &["--tables=-2"], &["a factor lies between"]);
    refused("bert-18", &["--tables", "two"], &["write a number"]);
    refused("bert-18", &["--balance"], &["EXAMPLES"]);
    refused("bert-18", &["--tables", "2", "--draws", "3"], &["EXAMPLES"]);
    let examples = fixture("bert-18").join("examples.jsonl").display().to_string();
    refused("bert-18", &[&examples, "--balance", "--tables", "2"], &["--balance"]);
    refused("bert-18", &[&examples, "model.hidden_size=3", "--tables", "2"], &["overrides belong to a run config"]);
    // A folder with a model is left alone.
    let model = fixture("bert-18").display().to_string();
    let output = f.lowland(&["regauge", &model, &model, "--tables", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("holds a model already"));
    let absent = f.lowland(&["regauge", "absent", "out", "--tables", "2"]);
    assert_eq!(absent.status.code(), Some(5), "{}", text(&absent.stderr));
}
