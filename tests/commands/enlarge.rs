//! `lowland enlarge`: every method writes the same function or nothing, and says what the trace becomes.

use serde_json::{Value, json};

use crate::folder::{Folder, number, text};

const CONFIG: &str = r#"
seed = 3
[language]
kind = "hmm"
hmm = { states = 4, vocabulary = 8, transition_concentration = 0.2, emission_concentration = 0.2, seed = 2 }
min_length = 3
max_length = 8
[model]
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 16
[train]
steps = 40
batch_size = 32
optimizer = { kind = "adamw", lr = 5e-3 }
[evaluate]
sentences = 50
"#;

fn trained() -> Folder {
    let f = Folder::empty();
    f.write("run.toml", CONFIG);
    f.json(&["train", "run.toml", "output=run", "--json"]);
    f
}

/// The exact Fisher trace of a model on the same sentences, as the command prints it.
fn measured(f: &Folder, model: &str) -> Value {
    let of = ["--matrix", "fisher", "--estimator", "exact-labels", "--count", "40", "--json"];
    f.json(&[&["measure", "trace", model, "run.toml"][..], &of].concat())
}

#[test]
fn every_method_keeps_the_function_and_predicts_the_trace() {
    let f = trained();
    let loss = |model: &str| number(&f.json(&["eval", model, "run.toml", "--count", "50", "--json"]), "loss");
    let small = measured(&f, "run/model");
    f.write("trace.json", &small.to_string());
    let mut traces = vec![];
    for (method, size) in [
        ("duplicate", "hidden=24"),
        ("paper", "hidden=24"),
        ("balanced", "hidden=24"),
        ("balanced", "hidden=8"),
        ("paper", "hidden=16,heads=2,layers=2,intermediate=16"),
        ("zero", "layers=3,intermediate=20"),
    ] {
        let out = format!("{method}-{size}");
        let said = f.json(&["enlarge", "run/model", size, &out, "--method", method, "--trace", "trace.json", "--json"]);
        assert_eq!(said["method"], json!(method));
        assert!(number(&said, "logit_difference") <= 1e-6, "{said}");
        assert!((loss(&out) - loss("run/model")).abs() < 1e-6, "{out}");
        let (wanted, found) = (number(&said, "predicted_trace"), number(&measured(&f, &out), "trace"));
        assert!((found / wanted - 1.0).abs() < 1e-5, "{out}: {found} and predicted {wanted}");
        traces.push(found);
        let scale = number(&said, "table_scale");
        match (method, size) {
            ("paper", "hidden=24") => assert!((scale - 1.0 / 3.0).abs() < 1e-12),
            ("balanced", _) => assert!(scale != 1.0),
            ("duplicate" | "zero", _) => assert_eq!(scale, 1.0),
            _ => {}
        }
    }
    assert!(traces[2] < traces[0].min(traces[1]) && traces[3] < number(&small, "trace"), "{traces:?}");
    // Without a measured trace nothing is predicted, and the model is the same.
    let said = f.json(&["enlarge", "run/model", "hidden=24", "again", "--method", "paper", "--json"]);
    assert_eq!(said["predicted_trace"], Value::Null);
    let bytes = |model: &str| std::fs::read(f.path(format!("{model}/model.safetensors"))).unwrap();
    assert_eq!(bytes("again"), bytes("paper-hidden=24"));
}

#[test]
fn what_would_be_another_function_is_not_written() {
    let f = trained();
    // A norm behind the tables with an ε that is not small beside what it divides by.
    let path = "run/model/config.json";
    let mut config: Value = serde_json::from_str(&f.read(path)).unwrap();
    config["layer_norm_eps"] = json!(1e-5);
    f.write(path, &config.to_string());
    let small = measured(&f, "run/model");
    f.write("trace.json", &small.to_string());
    for (method, more) in [("paper", &[][..]), ("balanced", &["--trace", "trace.json"])] {
        let output =
            f.lowland(&[&["enlarge", "run/model", "hidden=24", "other", "--method", method][..], more].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("of their spread") && error.contains("`layer_norm_eps` = 0.00001"), "{error}");
        assert!(!f.path("other").exists(), "nothing is written");
    }
    assert!(f.lowland(&["enlarge", "run/model", "hidden=24", "other", "--method", "duplicate"]).status.success());

    let hessian = f.json(&["measure", "trace", "run/model", "run.toml", "--samples", "2", "--count", "8", "--json"]);
    f.write("hessian.json", &hessian.to_string());
    let mut part = small.clone();
    let tensors = part["per_tensor"].as_object_mut().unwrap();
    let first = tensors.keys().next().unwrap().clone();
    let value = tensors.remove(&first).unwrap();
    f.write("part.json", &part.to_string());
    part["per_tensor"]["stranger"] = value;
    f.write("stranger.json", &part.to_string());
    let mut whole = small;
    whole["per_tensor"] = Value::Null;
    f.write("whole.json", &whole.to_string());
    f.write("broken.json", "{");
    let wanted = [
        (&[][..], 2, "--method balanced needs the small model's trace by tensor"),
        (&["--trace", "hessian.json"], 2, "is the trace of the matrix `hessian`"),
        (&["--trace", "part.json"], 2, &format!("lacks the trace of `{first}`")),
        (&["--trace", "stranger.json"], 2, "`stranger`, which the small model has not"),
        (&["--trace", "whole.json"], 2, "holds no trace by tensor"),
        (&["--trace", "broken.json"], 2, "is no JSON"),
        (&["--trace", "absent.json"], 5, "absent.json"),
    ];
    for (more, code, wanted) in wanted {
        let arguments = [&["enlarge", "run/model", "hidden=16", "third", "--method", "balanced"][..], more].concat();
        let output = f.lowland(&arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {error}");
        assert!(error.contains(wanted), "{more:?}: {error}");
        assert!(!f.path("third").exists());
    }
}
