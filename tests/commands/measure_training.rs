//! A run that is interrupted while it measures.

use serde_json::Value;

use crate::folder::{Folder, signal};

/// So much to measure that the signal comes while it is measured.
const RUN: &str = r#"
[train]
steps = 12
batch_size = 16
optimizer = { kind = "adamw", lr = 1e-2 }
evaluate_every = 4
checkpoint_every = 4
keep_checkpoints = 0
[evaluate]
sentences = 20
[measure]
every = 0
trace = { sentences = 6000, draws = 2 }
top = { count = 2, sentences = 24, tolerance = 1e-3 }
noise = { sentences = 40 }
hessian_trace = { probes = 6, sentences = 32 }
"#;

/// Lines of the metrics without what the clock tells.
fn metrics(f: &Folder, run: &str) -> Vec<Value> {
    let text = f.read(&format!("{run}/metrics.jsonl"));
    let one = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        for clock in ["seconds", "measure_seconds", "part_seconds", "sentences_per_second", "queue_idle"] {
            value.as_object_mut().unwrap().remove(clock);
        }
        value
    };
    text.lines().map(one).collect()
}

#[test]
fn what_an_interrupt_breaks_off_is_made_up_for() {
    let f = Folder::new(RUN);
    f.train(&["output=through"], 0);
    // The evaluation's line comes right before the measurement.
    let mut child = f.begin(&["train", "run.toml", "output=stopped"], "stopped/metrics.jsonl", |text| !text.is_empty());
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(f.path("stopped/checkpoints/step-0").exists(), "stopped before the first step");
    assert!(!f.read("stopped/metrics.jsonl").contains("fisher_trace"));
    f.train(&["output=stopped"], 0);
    assert_eq!(metrics(&f, "stopped"), metrics(&f, "through"));
    assert!(f.weights("stopped") == f.weights("through"));
}
