//! What a run makes of an adapter that fails it: a device that is lost, memory that is short.

use std::cell::{Cell, RefCell};
use std::path::Path;

use lowland::config::Resolved;
use lowland::gpu::{Gpu, Options};
use lowland::train::{self, Observer, Progress, Quiet, RunError};

use crate::common::adapter::fresh;

const RUN: &str = r#"
seed = 3
[language]
random = { levels = 3, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 8
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
[train]
steps = 60
batch_size = 32
schedule = { kind = "constant", warmup = 0.0 }
checkpoint_every = 20
evaluate_every = 0
[evaluate]
sentences = 64
"#;

fn resolved(folder: &Path, more: &[&str]) -> Resolved {
    let mut overrides = vec![format!("output='{}'", folder.display())];
    overrides.extend(more.iter().map(|o| o.to_string()));
    Resolved::from_text(RUN, "run", &overrides).unwrap()
}

/// Ends a device at a step, once, and keeps what is said.
struct Loses<'g> {
    gpu: &'g Gpu,
    at: u64,
    done: Cell<bool>,
    said: RefCell<Vec<String>>,
}

impl Observer for Loses<'_> {
    fn progress(&self, progress: &Progress) {
        if progress.step >= self.at && !self.done.replace(true) {
            self.gpu.lose();
        }
    }

    fn note(&self, text: &str) {
        self.said.borrow_mut().push(text.into());
    }
}

/// Keeps what is said.
#[derive(Default)]
struct Says(RefCell<Vec<String>>);

impl Observer for Says {
    fn progress(&self, _: &Progress) {}

    fn note(&self, text: &str) {
        self.0.borrow_mut().push(text.into());
    }
}

#[test]
fn a_lost_device_is_opened_again_and_the_run_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    train::run(&fresh(), &resolved(&whole, &[]), &Quiet).unwrap();
    let own = fresh().reopen().unwrap();
    let observer = Loses { gpu: &own, at: 30, done: Cell::new(false), said: RefCell::default() };
    let outcome = train::run(&own, &resolved(&broken, &[]), &observer).unwrap();
    let said = observer.said.borrow().join("\n");
    assert!(said.contains("warning: the device was lost: it was given up; opening "), "{said}");
    assert!(said.contains("resumed at step 20"), "{said}");
    assert_eq!(outcome.steps, 60);
    let model = |folder: &Path| std::fs::read(folder.join("model/model.safetensors")).unwrap();
    assert!(model(&whole) == model(&broken));
    // Every line once.
    let steps = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
        text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["step"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(steps(&whole), steps(&broken));
    // The handle that was given is of no use any more, and says so.
    assert!(own.buffer("x", 256).is_err_and(|e| e.is_lost()));
}

/// An adapter with as much memory as a run with so many sentences at once takes.
fn with_room_for(folder: &Path, sentences: u32) -> Gpu {
    let asked = format!("train.micro_batch={sentences}");
    let outcome = train::run(&fresh().reopen().unwrap(), &resolved(&folder.join("room"), &[&asked]), &Quiet).unwrap();
    let choice = std::env::var("LOWLAND_ADAPTER").unwrap_or_else(|_| "software".into()).parse().unwrap();
    Gpu::open(&choice, Options { memory: Some(outcome.peak_bytes), ..Options::default() }).unwrap()
}

#[test]
fn auto_halves_the_sentences_at_once_until_there_is_room_and_the_run_keeps_that() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = with_room_for(folder.path(), 8);
    let output = folder.path().join("auto");
    let says = Says::default();
    train::run(&gpu, &resolved(&output, &["train.micro_batch=\"auto\""]), &says).unwrap();
    let said = says.0.take().join("\n");
    for half in ["16 sentences at once, where 32 had no room", "8 sentences at once, where 16 had no room"] {
        assert!(said.contains("out of memory on the adapter") && said.contains(half), "{said}");
    }
    assert!(!said.contains("4 sentences at once"), "{said}");
    let about = || -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(output.join("run.json")).unwrap()).unwrap()
    };
    assert_eq!(about()["micro_batch"], 8);
    // With all the memory there is, a run that goes on is still the same run.
    let more = resolved(&output, &["train.micro_batch=\"auto\"", "train.steps=80"]);
    train::run(&fresh(), &more, &says).unwrap();
    let said = says.0.take().join("\n");
    assert!(said.contains("resumed at step 60") && !said.contains("no room"), "{said}");
    assert_eq!(about()["micro_batch"], 8);
}

#[test]
fn with_a_number_the_size_that_fits_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = with_room_for(folder.path(), 8);
    let run = |more: &[&str]| train::run(&gpu, &resolved(&folder.path().join("run"), more), &Quiet);
    for more in [&[][..], &["train.micro_batch=32"]] {
        match run(more) {
            Err(RunError::Memory { fits: Some(8), micro_batch: 32, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(run(&["train.micro_batch=8"]).unwrap().steps, 60);
}
