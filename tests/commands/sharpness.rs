//! `lowland measure perturb`, and what `measure sharpness` tells of an optimiser's update.

use serde_json::Value;

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, text};
use crate::schema::{conforms, recorded_schema};

const RUN: &str = "[train]\nsteps = 30\nbatch_size = 64\ncheckpoint_every = 15\nkeep_checkpoints = 0\n\
                   optimizer = { kind = \"adamw\", lr = 3e-3 }\n[evaluate]\nsentences = 100\n";

/// What is printed under `--json`, which must be as its schema says.
fn measure(f: &Folder, what: &str, arguments: &[&str]) -> Value {
    let value = f.json(&[&["measure", what], arguments, &["--json"]].concat());
    let schema = recorded_schema(&format!("measure-{what}"));
    conforms(&value, &schema, &schema, what);
    value
}

#[test]
fn a_checkpoint_tells_the_sharpness_along_its_update() {
    let f = Folder::new(RUN);
    f.train(&["output=run"], 0);
    let quick = ["--count", "64", "--tolerance", "1e-2", "--sharpness-batch", "32"];
    let checkpoint = ["run/checkpoints/step-15", "run.toml"];
    let got = measure(&f, "sharpness", &[&checkpoint[..], &quick, &["--update", "run.toml"]].concat());
    assert_eq!(got["update"], "adamw");
    assert_eq!(number(&got, "update_examples"), 32.0);
    for key in [
        "directional",
        "quadratic_critical",
        "critical",
        "preconditioned_eigenvalue",
        "preconditioned_trace",
        "sqrt_diagonal_trace",
    ] {
        let error = number(&got, &format!("{key}_standard_error"));
        assert!(number(&got, key).is_finite() && error > 0.0, "{key}: {} ± {error}", got[key]);
    }
    assert!(number(&got, "sqrt_diagonal_trace_bias") < 0.0);
    // Along the update by the gradient of all the examples.
    let [own, relative] = ["critical", "relative_critical"].map(|key| number(&got, key));
    assert!(relative > 0.2 * own && relative < 5.0 * own, "{relative} and {own}");
    // Curvature along the update is within that of all directions.
    assert!(number(&got, "directional") <= 1.05 * number(&got, "largest_eigenvalue"));

    // A model without moments goes along its gradient, and has no units of Adam's.
    let plain = measure(&f, "sharpness", &[&["run/model", "run.toml"][..], &quick].concat());
    assert_eq!(plain["update"], "gradient");
    for key in ["preconditioned_eigenvalue", "preconditioned_trace", "relative_critical"] {
        assert!(plain[key].is_null() && plain["notes"].to_string().contains(key), "{key}: {}", plain["notes"]);
    }
    assert!(plain["notes"].to_string().contains("checkpoints/step-N"), "{}", plain["notes"]);

    // A checkpoint away from its run has no constants.
    std::fs::create_dir_all(f.path("elsewhere/checkpoints")).unwrap();
    std::fs::rename(f.path("run/checkpoints/step-30"), f.path("elsewhere/checkpoints/step-30")).unwrap();
    let lost = measure(&f, "sharpness", &[&["elsewhere/checkpoints/step-30", "run.toml"][..], &quick].concat());
    assert_eq!(lost["update"], "gradient");
    assert!(lost["notes"].to_string().contains("config.toml"), "{}", lost["notes"]);
}

#[test]
fn noise_on_the_weights_begins_with_the_trace() {
    let f = Folder::new(RUN);
    f.train(&["output=run"], 0);
    let got =
        measure(&f, "perturb", &["run/model", "run.toml", "--count", "64", "--sigma", "0.02,0.005", "--draws", "24"]);
    assert_eq!((&got["scale"], &got["labels"]), (&"tensor".into(), &"exact".into()));
    let list = |key: &str| got[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>();
    let (sigma, rise, error) = (list("sigma"), list("rise"), list("rise_standard_error"));
    assert_eq!(sigma, [0.02, 0.005]);
    assert!(rise[0] > rise[1] && error.iter().all(|e| *e > 0.0));
    // The limit is that of the least size, whichever place it has.
    let limit = 2.0 * rise[1] / (0.005 * 0.005);
    assert!((number(&got, "limit") / limit - 1.0).abs() < 1e-12);
    let apart = number(&got, "limit") - number(&got, "trace");
    let both = number(&got, "limit_standard_error").hypot(number(&got, "trace_standard_error"));
    assert!(apart.abs() < 4.0 * both, "{apart} with {both}");
    assert_eq!(got["notes"].as_array().unwrap().len(), 0, "{}", got["notes"]);

    // Of a file labels are the data's, and one draw has no error.
    let folder = fixture("roberta-20");
    let [model, examples] = [folder.clone(), folder.join("examples.jsonl")].map(|p| p.display().to_string());
    let one = measure(&f, "perturb", &[&model, &examples, "--sigma", "0.01", "--draws", "1", "--scale", "plain"]);
    assert_eq!((&one["labels"], &one["scale"]), (&"data".into(), &"plain".into()));
    assert!(one["rise_standard_error"][0].is_null() && one["limit_standard_error"].is_null());

    for (more, says) in [
        (&["--sigma", "0"][..], "above 0"),
        (&["--sigma", "-0.1"], "sigma"),
        (&["--sigma", "x"], "sigma"),
        (&[], "--sigma"),
        (&["--sigma", "0.1", "--scale", "rows"], "tensor"),
        (&["--sigma", "0.1", "--draws", "0"], "draws"),
    ] {
        let output = f.lowland(&[&["measure", "perturb", &model, &examples], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(text(&output.stderr).contains(says), "{more:?}: {}", text(&output.stderr));
    }
    let table = f.lowland(&["measure", "perturb", &model, &examples, "--sigma", "0.01", "--draws", "2"]);
    let table = text(&table.stdout);
    assert!(table.contains("rise at 0.01") && table.contains("trace"), "{table}");
}
