//! `lowland measure flatness` against double precision, and under changes of scale that the function does not know.

use std::path::Path;

use serde_json::Value;

use crate::common::fixtures::fixture;
use crate::folder::{Folder, number, text};
use crate::schema::{conforms, recorded_schema};

const RUN: &str = "[train]\nsteps = 30\nbatch_size = 64\n[evaluate]\nsentences = 100\n";

/// What is printed under `--json`, which must be as its schema says.
fn flatness(f: &Folder, model: &Path, examples: &Path, more: &[&str]) -> Value {
    let [model, examples] = [model, examples].map(|p| p.display().to_string());
    let value = f.json(&[&["measure", "flatness", &model, &examples], more, &["--json"]].concat());
    let schema = recorded_schema("measure-flatness");
    conforms(&value, &schema, &schema, "flatness");
    value
}

/// The same of a fixture by every label in turn.
fn exact(f: &Folder, name: &str, more: &[&str]) -> Value {
    let folder = fixture(name);
    flatness(f, &folder, &folder.join("examples.jsonl"), &[&["--estimator", "exact-labels"], more].concat())
}

fn recorded() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("flatness.json")).unwrap()).unwrap()
}

/// Equal to within single precision, or both null.
fn same(got: &Value, want: &Value, scale: f64, what: &str) {
    match (got.as_f64(), want.as_f64()) {
        (Some(got), Some(want)) => {
            assert!((got - want).abs() <= 1e-5 * want.abs() + 1e-6 * scale, "{what}: {got} against {want}")
        }
        _ => assert!(got.is_null() && want.is_null(), "{what}: {got} against {want}"),
    }
}

const MEASURES: [&str; 6] =
    ["trace", "scale_free_trace", "relative_flatness", "balanced_trace", "balanced_trace_all", "logit_scale"];

#[test]
fn flatness_is_that_of_double_precision() {
    let f = Folder::new(RUN);
    let recorded = recorded();
    assert!(recorded.as_object().unwrap().len() >= 16);
    for (name, want) in recorded.as_object().unwrap() {
        let got = exact(&f, name, &["--batch", "4"]);
        for measure in MEASURES {
            same(&got[measure], &want[measure], 0.0, &format!("{name} {measure}"));
            // Nothing is drawn, and the examples are the target.
            let error = &got[format!("{measure}_standard_error")];
            assert_eq!(error.as_f64(), got[measure].as_f64().map(|_| 0.0), "{name} {measure}");
        }
        let blocks = got["per_block"].as_array().unwrap();
        assert_eq!(blocks.len(), want["per_block"].as_object().unwrap().len(), "{name}");
        for block in blocks {
            let own = block["name"].as_str().unwrap();
            let want_block = &want["per_block"][own];
            assert!(want_block.is_array(), "{name}: {own} is no block of the fixture");
            let what = format!("{name} {own}");
            same(&block["trace"], &want_block[0], number(want, "trace"), &what);
            same(&block["squared_norm"], &want_block[1], 0.0, &what);
            same(&block["relative_flatness"], &want_block[2], want["relative_flatness"].as_f64().unwrap_or(0.0), &what);
        }
        let null = MEASURES.iter().filter(|m| got[**m].is_null());
        let notes = got["notes"].to_string();
        null.for_each(|m| assert!(notes.contains(m), "{name}: {m} is null for no reason: {notes}"));
    }
}

#[test]
fn drawn_flatness_is_within_its_error_of_the_exact_one() {
    let f = Folder::new(RUN);
    let recorded = recorded();
    for name in ["roberta-20", "gpt2-20", "llama-24"] {
        for estimator in ["random-signs", "sampled-labels"] {
            let folder = fixture(name);
            let more = ["--estimator", estimator, "--draws", "400", "--seed", "3"];
            let got = flatness(&f, &folder, &folder.join("examples.jsonl"), &more);
            for measure in MEASURES.iter().filter(|m| **m != "logit_scale" && !got[**m].is_null()) {
                let error = number(&got, &format!("{measure}_standard_error"));
                let z = (number(&got, measure) - number(&recorded[name], measure)) / error;
                assert!(error > 0.0 && z.abs() < 4.0, "{name} {estimator} {measure}: z = {z}");
            }
            let bias = number(&got, if name == "llama-24" { "balanced_trace_all_bias" } else { "balanced_trace_bias" });
            assert!(bias < 0.0, "{name} {estimator}: {bias}");
        }
    }
}

#[test]
fn into_a_larger_architecture_gives_its_traces() {
    let f = Folder::new(RUN);
    let got = exact(&f, "roberta-20", &["--into", "hidden=40,intermediate=72,heads=4"]);
    let own = exact(&f, "roberta-20", &[]);
    let embedded = &got["embedded"];
    assert!(own["embedded"].is_null());
    same(&got["balanced_trace"], &embedded["balanced"], 0.0, "the balanced trace is that of the larger model");
    assert!(number(embedded, "balanced") < number(embedded, "duplicate").min(number(embedded, "paper")));
    assert!(number(&got, "balanced_trace") < number(&own, "balanced_trace"), "biases are shared out");
    for measure in ["trace", "scale_free_trace", "relative_flatness", "balanced_trace_all"] {
        assert_eq!(got[measure], own[measure], "{measure} is of the model as it is");
    }
    let untied = exact(&f, "bert-untied", &["--into", "hidden=24"]);
    assert!(untied["embedded"]["balanced"].is_null() && untied["balanced_trace"].is_null());
    assert!(untied["notes"].to_string().contains("embedded.balanced"), "{}", untied["notes"]);
}

#[test]
fn what_cannot_be_had_is_refused() {
    let f = Folder::new(RUN);
    let refused = |name: &str, more: &[&str], words: &str| {
        let folder = fixture(name);
        let [model, examples] = [folder.clone(), folder.join("examples.jsonl")].map(|p| p.display().to_string());
        let output = f.lowland(&[&["measure", "flatness", &model, &examples], more].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    };
    refused("roberta-20", &["--only", "*.bias"], "word_embeddings");
    refused("roberta-20", &["--into", "hidden=30"], "multiple");
    refused("gpt2-20", &["--into", "hidden=40"], "gpt2");
    refused("roberta-20", &["--into", "wide"], "hidden=128");
    refused("roberta-20", &["--estimator", "hutchinson"], "random-signs");
    refused("roberta-20", &["--label-groups", "1"], "label-groups");
    refused("roberta-20", &["--label-groups", "64"], "2..=63");
}

/// Both parts of a trained model's trace over its language, drawn and by every label, and those of `[measure]`.
fn parts_of_a_population(f: &Folder) {
    let split = |more: &[&str]| {
        let all = [&["--count", "200", "--label-groups", "2"], more].concat();
        flatness(f, &f.path("run/model"), &f.path("run.toml"), &all)
    };
    let (drawn, exact) = (split(&[]), split(&["--estimator", "exact-labels"]));
    // The tokens that are no words are one group more.
    assert_eq!(exact["label_groups"], 3);
    let sum = number(&exact, "trace_between") + number(&exact, "trace_within");
    assert!((sum / number(&exact, "trace") - 1.0).abs() < 1e-5, "{sum} of {}", exact["trace"]);
    for part in ["trace_between", "trace_within"] {
        let (value, error) = (number(&drawn, part), number(&drawn, &format!("{part}_standard_error")));
        let z = (value - number(&exact, part)) / error;
        assert!(error > 0.0 && z.abs() < 4.0, "{part}: {value} with {error}, z = {z}");
        assert!(number(&exact, &format!("{part}_standard_error")) > 0.0, "sentences are drawn");
    }
}

/// Of a file token v is in group v modulo N, as in `fixtures/make_label_split.py`.
#[test]
fn the_trace_in_two_parts_is_that_of_double_precision() {
    let f = Folder::new(RUN);
    let recorded: Value = serde_json::from_slice(&std::fs::read(fixture("label_split.json")).unwrap()).unwrap();
    for name in ["bert-18", "gpt_neox-20"] {
        let got = exact(&f, name, &["--label-groups", "3"]);
        for (part, want) in ["trace_between", "trace_within"].iter().zip(recorded[name]["3"].as_array().unwrap()) {
            same(&got[part], want, 0.0, &format!("{name} {part}"));
            assert_eq!(got[format!("{part}_standard_error")], 0.0);
        }
        assert_eq!(got["label_groups"], 3);
        let plain = exact(&f, name, &[]);
        assert!(["trace_between", "trace_within", "label_groups"].iter().all(|part| plain[part].is_null()));
        assert_eq!(plain["trace"], got["trace"]);
    }
}

#[test]
fn a_language_is_a_population() {
    let f = Folder::new(RUN);
    f.train(&["output=run"], 0);
    parts_of_a_population(&f);
    let got = flatness(&f, &f.path("run/model"), &f.path("run.toml"), &["--count", "300", "--batch", "64"]);
    assert_eq!((&got["target"], number(&got, "count"), number(&got, "draws")), (&"population".into(), 300.0, 2.0));
    let exact = ["--count", "300", "--estimator", "exact-labels"];
    let exact = flatness(&f, &f.path("run/model"), &f.path("run.toml"), &exact);
    for measure in MEASURES {
        let (value, error) = (number(&got, measure), number(&got, &format!("{measure}_standard_error")));
        // Of the same sentences: less than the error over sentences and draws.
        let z = (value - number(&exact, measure)) / error;
        assert!(error > 0.0 && z.abs() < 4.0, "{measure}: {value} with {error}, z = {z}");
    }
    let blocks: f64 = got["per_block"].as_array().unwrap().iter().map(|b| number(b, "trace")).sum();
    let weighted = |b: &Value| number(b, "trace") * number(b, "squared_norm");
    let scale_free: f64 = got["per_block"].as_array().unwrap().iter().map(weighted).sum();
    assert!((blocks / number(&got, "trace") - 1.0).abs() < 1e-9);
    assert!((scale_free / number(&got, "scale_free_trace") - 1.0).abs() < 1e-9);
    let errors = got["per_block"].as_array().unwrap().iter().filter(|b| b["trace_standard_error"].is_null()).count();
    assert_eq!(errors, 0, "every block has its error");
}
