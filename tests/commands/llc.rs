//! `lowland measure spectrum --nbeta` against double precision, and `lowland measure llc`.

use std::path::Path;

use serde_json::Value;

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, text};
use crate::schema::{conforms, recorded_schema};

const RUN: &str = "[train]\nsteps = 30\nbatch_size = 64\n[evaluate]\nsentences = 100\n";

fn measured(f: &Folder, what: &str, model: &Path, examples: &Path, more: &[&str]) -> Value {
    let [model, examples] = [model, examples].map(|p| p.display().to_string());
    let value = f.json(&[&["measure", what, &model, &examples], more, &["--json"]].concat());
    let schema = recorded_schema(&format!("measure-{what}"));
    conforms(&value, &schema, &schema, what);
    value
}

fn of_fixture(f: &Folder, what: &str, name: &str, more: &[&str]) -> Value {
    let folder = fixture(name);
    measured(f, what, &folder, &folder.join("examples.jsonl"), more)
}

#[test]
fn quadratic_coefficients_are_those_of_double_precision() {
    let f = Folder::new(RUN);
    let recorded: Value = serde_json::from_slice(&std::fs::read(fixture("llc.json")).unwrap()).unwrap();
    assert!(recorded.as_object().unwrap().len() >= 8);
    let mut squares = Vec::new();
    for (number_of_model, (name, want)) in recorded.as_object().unwrap().iter().enumerate() {
        // Each width of each prior on a quarter of the models.
        let prior = ["block", "isotropic"][number_of_model % 2];
        let gamma = ["1", "100"][number_of_model / 2 % 2];
        let values: Vec<&Value> = want[prior]["values"].as_array().unwrap().iter().collect();
        let own: Vec<&&Value> = values.iter().filter(|v| v[1].as_f64() == gamma.parse().ok()).collect();
        let nbeta: Vec<String> = own.iter().map(|v| v[0].to_string()).collect();
        let nbeta = nbeta.join(",");
        let more = ["--matrix", "ggn", "--density", "--nbeta", &nbeta, "--prior", prior, "--gamma", gamma];
        let more = [&more[..], &["--density-probes", "8", "--steps", "60", "--top", "1"]].concat();
        let got = of_fixture(&f, "spectrum", name, &more);
        let what = format!("{name} {prior} {gamma}");
        let off = number(&got, "scaled_largest") / want[prior]["largest"].as_f64().unwrap() - 1.0;
        assert!(off.abs() < 1e-4, "{what}: the largest eigenvalue is off by {off}");
        let trace = &got["scaled_trace"];
        let z = (number(trace, "value") - want[prior]["trace"].as_f64().unwrap()) / number(trace, "standard_error");
        assert!(z.abs() < 4.5, "{what}: trace, z = {z}");
        for (i, own) in own.iter().enumerate() {
            for (k, field) in ["lambda_q", "log_volume"].iter().enumerate() {
                let at = |name: &str| got[name][i].as_f64().unwrap();
                let error = at(&format!("{field}_standard_error")).hypot(at(&format!("{field}_truncation")));
                let z = (at(field) - own[2 + k].as_f64().unwrap()) / error;
                assert!(z.abs() < 4.5, "{what} {field}: {} against {}, z = {z}", at(field), own[2 + k]);
                squares.push(z * z);
            }
        }
        let frozen = if prior == "block" { number(want, "frozen") } else { 0.0 };
        assert_eq!(number(&got, "frozen_parameters"), frozen, "{what}");
    }
    // Errors as large as they are said to be; the sums at several nβ go together.
    let mean = squares.iter().sum::<f64>() / squares.len() as f64;
    assert!((0.4..2.0).contains(&mean), "mean square of {} z: {mean}", squares.len());
}

#[test]
fn negative_curvature_beyond_the_prior_is_null_with_a_note() {
    let f = Folder::new(RUN);
    let more = ["--density", "--nbeta", "0.001,1e6", "--steps", "20", "--density-probes", "2"];
    let got = of_fixture(&f, "spectrum", "roberta-20", &more);
    assert!(got["lambda_q"][0].is_number() && got["lambda_q"][1].is_null(), "{}", got["lambda_q"]);
    assert!(got["log_volume"][1].is_null() && got["notes"].to_string().contains("nβ = 1000000"), "{}", got["notes"]);
    let plain = of_fixture(&f, "spectrum", "roberta-20", &["--density", "--steps", "20", "--density-probes", "2"]);
    assert!(plain.get("lambda_q").is_none(), "only where it is asked for");
}

#[test]
fn chains_of_a_language_say_what_they_are_worth() {
    let f = Folder::new(RUN);
    f.train(&["output=run"], 0);
    let (model, run) = (f.path("run/model"), f.path("run.toml"));
    let more = ["--nbeta", "100", "--gamma", "1e4", "--count", "32", "--steps", "40", "--directions", "4"];
    let got = measured(&f, "llc", &model, &run, &more);
    assert_eq!((&got["labels"], &got["target"]), (&"conditional".into(), &"these examples".into()));
    assert!(got["reliable"] == false && got["reached"] == false, "40 steps are too few: {got}");
    assert!(got["notes"].to_string().contains("effective samples"), "{}", got["notes"]);
    assert!(number(&got, "llc_standard_error") > 0.0 && number(&got, "lambda_q") > 0.0);
    assert!(number(&got, "loss") > 0.0 && number(&got, "steps") == 40.0 && number(&got, "burn_in") == 20.0);
    let again = measured(&f, "llc", &model, &run, &more);
    assert_eq!(got["llc"], again["llc"], "a seed is a run");
    let other = measured(&f, "llc", &model, &run, &[&more[..], &["--probe-seed", "1", "--no-quadratic"]].concat());
    assert!(other["llc"] != got["llc"] && other["lambda_q"].is_null());
    let shown =
        f.lowland(&[&["measure", "llc", &model.display().to_string(), &run.display().to_string()], &more[..]].concat());
    assert!(text(&shown.stdout).contains("not reliable") && text(&shown.stderr).contains("not reliable"));
}

#[test]
fn what_cannot_be_had_is_refused() {
    let f = Folder::new(RUN);
    let folder = fixture("roberta-20");
    let refused = |what: &str, more: &[&str], words: &str| {
        let [model, examples] = [folder.clone(), folder.join("examples.jsonl")].map(|p| p.display().to_string());
        let output = f.lowland(&[&["measure", what, &model, &examples], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    };
    refused("llc", &[], "--nbeta");
    refused("llc", &["--nbeta=-1"], "above 0");
    refused("llc", &["--nbeta", "100", "--chains", "1"], "chains");
    refused("llc", &["--nbeta", "100", "--gamma", "0"], "above 0");
    refused("llc", &["--nbeta", "100", "--prior", "flat"], "isotropic");
    refused("llc", &["--nbeta", "100", "--only", "nothing"], "no parameter");
    refused("spectrum", &["--nbeta", "100"], "--density");
    refused("spectrum", &["--density", "--nbeta", "100,x"], "above 0");
}
