//! A small training run: a config with some keys changed, an observer, and the folder that is left, from which the
//! model is loaded and measured.
//!
//!     cargo run --release --example train_small -- OUTPUT
//!
//! OUTPUT is a folder for the run, `runs/train_small` if none is given. A run that was broken off goes on from its last
//! checkpoint.

use std::error::Error;
use std::path::Path;

use lowland::prelude::*;
use lowland::{config, train};

/// Prints each evaluation.
struct Printer;

impl train::Observer for Printer {
    fn progress(&self, now: &train::Progress) {
        // Of a grammar the excess is known.
        if let Some((e, excess)) = now.evaluation.as_ref().and_then(|e| Some((e, e.excess_loss?))) {
            println!("step {:>3}: loss {:.3} nats, {excess:.3} above the entropy floor", now.step, e.loss);
        }
    }

    fn note(&self, text: &str) {
        println!("note: {text}");
    }
}

/// Trains into the folder that is named on the command line, or `runs/train_small`.
pub fn main() -> Result<(), Box<dyn Error>> {
    let output = std::env::args().nth(1);
    run(output.as_deref().unwrap_or("runs/train_small").as_ref())
}

/// Trains a small model and prints what became of it.
pub fn run(output: &Path) -> Result<(), Box<dyn Error>> {
    // The quick start's grammar, with a smaller model and few steps.
    let changes = [
        "model.hidden_size=32",
        "model.num_attention_heads=2",
        "model.intermediate_size=64",
        "train.steps=60",
        "train.batch_size=64",
        "train.evaluate_every=20",
        "evaluate.sentences=256",
        "measure.every=0",
        "measure.trace.sentences=64",
        "measure.top.sentences=32",
        "measure.top.products=10",
        "measure.noise.sentences=64",
        "measure.hessian_trace.sentences=32",
        "measure.hessian_trace.probes=4",
    ];
    let mut changes: Vec<String> = changes.map(String::from).to_vec();
    changes.push(format!("output={}", output.display()));
    let config = config::load("configs/quickstart.toml".as_ref(), &changes)?;
    let device = Device::from_env()?;
    let outcome = train::run(&device.gpu, &config, &Printer)?;
    println!("{} parameters, {} steps in {:.1} s", outcome.parameters, outcome.steps, outcome.seconds);

    // What is trained is a model like any other: held-out sentences, and the curvature there.
    let run = &config.config;
    let corpus = train::Corpus::open(&run.language, &run.objective, run.seed)?;
    let seed = train::held_out_seed(corpus.seed);
    let sentences: Vec<_> =
        (0..64).map(|i| train::held_out_sentence(corpus.language.as_ref(), corpus.tokens.as_ref(), seed, i)).collect();
    let model = Model::load(&device, outcome.folder.join("model"))?;
    let trace = model.over(&sentences)?.hessian().trace().of_population().probes(16)?;
    println!("trace of the Hessian {trace}");
    Ok(())
}
