//! A gradient and a whole AdamW step, and where their time goes.

use std::collections::HashMap;
use std::time::Instant;

use lowland::config::TrainSection;
use lowland::gpu::Gpu;
use lowland::model::{Encoder, GradientPass, Model, Weights, dims_for};
use lowland::ops::batch::Batch;
use lowland::ops::{Device, Labels, Variants};
use lowland::train::{Micro, Trainer};
use serde_json::{Value, json};

use crate::Error;
use crate::peer::Peer;
use crate::race::{Times, WARM_UP, quartiles};
use crate::workload::Workload;

/// What a workload cost.
pub struct Steps {
    pub gradient: Times,
    pub step: Times,
    pub dispatches: usize,
    /// Seconds until the first gradient was there: kernels compiled, or read from the driver's cache.
    pub first: f64,
    /// Seconds that the kernels alone took: pipelines made, and what the first step took longer than the median one, in
    /// which a software driver makes machine code.
    pub kernels: f64,
    parameters: usize,
    tokens: usize,
    /// Kernel, seconds and dispatches of a step, the longest first.
    pub profile: Vec<(String, f64, usize)>,
}

impl Steps {
    /// The numbers for the JSON file.
    pub fn json(&self, name: &str) -> Value {
        json!({
            "shape": name, "parameters": self.parameters, "tokens": self.tokens, "dispatches": self.dispatches,
            "first_seconds": self.first, "kernels_seconds": self.kernels, "gradient": self.gradient.json(),
            "step": self.step.json(), "profile": self.profile,
        })
    }
}

/// Times a workload beside the peer.
pub fn race(
    gpu: &Gpu,
    workload: &Workload,
    peer: &mut Option<Peer>,
    runs: usize,
    with_profile: bool,
) -> Result<Steps, Error> {
    let start = Instant::now();
    let encoder = Encoder::new(&workload.model)?;
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let dims = dims_for(&workload.sentences, workload.sentences.len());
    let batch_size = workload.sentences.len() as u32;
    let train = TrainSection { batch_size, steps: 1_000_000, ..TrainSection::default() };
    let making = Instant::now();
    // The variants of a run of so many steps.
    let device = Device::new(gpu, Variants::for_long(gpu.capabilities()));
    let mut trainer = Trainer::new(Model::new(&device, &encoder, &weights)?, &train, Labels::Hard, dims, 1)?;
    let made = making.elapsed().as_secs_f64();
    let pass = GradientPass::new(&trainer.model, dims, Labels::Hard)?;
    let masked: usize = workload.sentences.iter().map(|s| s.masked.len()).sum();
    let micros = [Micro { batch: Batch::new(pass.layout(), &workload.sentences), weight: 1.0 / masked as f32 }];
    let step = |gpu: &Gpu, trainer: &mut Trainer| -> Result<f64, Error> {
        let start = Instant::now();
        trainer.advance(&micros)?;
        gpu.finish()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let first_step = step(gpu, &mut trainer)?;
    let first = start.elapsed().as_secs_f64();
    if let Some(peer) = peer {
        peer.ask(&workload.for_peer())?;
    }
    let (mut gradient_times, mut step_times) = (Times::default(), Times::default());
    for round in 0..runs + WARM_UP {
        let start = Instant::now();
        pass.run(&workload.sentences)?;
        let gradient = start.elapsed().as_secs_f64();
        let whole = step(gpu, &mut trainer)?;
        let mut theirs = [None; 2];
        if let Some(peer) = peer {
            theirs = [Some(peer.seconds(json!({ "run": "gradient" }))?), Some(peer.seconds(json!({ "run": "step" }))?)];
        }
        if round >= WARM_UP {
            gradient_times.push(gradient, theirs[0]);
            step_times.push(whole, theirs[1]);
        }
    }
    let timed = with_profile && gpu.capabilities().timestamps;
    let dispatches = || -> Result<Vec<(String, f64)>, Error> {
        let gradient = trainer.pass().time(&workload.sentences)?;
        Ok(gradient.into_iter().chain(trainer.time_update()?).collect())
    };
    let profile = if timed { profile(dispatches)? } else { vec![] };
    Ok(Steps {
        kernels: made + first_step - step_times.seconds(),
        gradient: gradient_times,
        step: step_times,
        dispatches: trainer.dispatches(),
        first,
        parameters: encoder.parameter_count(),
        tokens: workload.sentences.iter().map(|s| s.ids.len()).sum(),
        profile,
    })
}

/// Seconds and dispatches of each kernel in `run`, which gives each dispatch's; medians of some repeats.
pub fn profile(run: impl Fn() -> Result<Vec<(String, f64)>, Error>) -> Result<Vec<(String, f64, usize)>, Error> {
    let mut repeats: HashMap<String, (Vec<f64>, usize)> = HashMap::new();
    for _ in 0..5 {
        let mut sums: HashMap<String, (f64, usize)> = HashMap::new();
        for (label, seconds) in run()? {
            let kernel = label.split(" | ").next().unwrap_or(&label).to_string();
            let sum = sums.entry(kernel).or_default();
            *sum = (sum.0 + seconds, sum.1 + 1);
        }
        for (kernel, (seconds, dispatches)) in sums {
            let all = repeats.entry(kernel).or_default();
            all.0.push(seconds);
            all.1 = dispatches;
        }
    }
    let mut all: Vec<_> = repeats.into_iter().map(|(kernel, (s, n))| (kernel, quartiles(&s)[1], n)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(all)
}
