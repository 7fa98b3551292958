//! The passes of a case that others publish: forward alone, and forward with backward, without an optimiser.

use std::time::Instant;

use lowland::gpu::Gpu;
use lowland::model::{Encoder, ForwardPass, GradientPass, Model, Recipe, Weights, dims_for};
use lowland::ops::{Device, Labels};
use serde_json::{Value, json};

use crate::Error;
use crate::peer::Peer;
use crate::race::{Times, WARM_UP};
use crate::steps::profile;
use crate::workload::Workload;

/// What the passes cost.
pub struct Passes {
    pub forward: Times,
    pub gradient: Times,
    /// Of the forward pass, and of the gradient.
    pub dispatches: [usize; 2],
    /// Kernel, seconds and dispatches of a gradient, the longest first.
    pub profile: Vec<(String, f64, usize)>,
    parameters: usize,
}

impl Passes {
    /// The numbers for the JSON file.
    pub fn json(&self, name: &str) -> Value {
        json!({
            "name": name, "parameters": self.parameters, "dispatches": self.dispatches,
            "forward": self.forward.json(), "gradient": self.gradient.json(), "profile": self.profile,
        })
    }
}

/// Times both passes beside the peer.
pub fn race(
    gpu: &Gpu,
    workload: &Workload,
    peer: &mut Option<Peer>,
    runs: usize,
    with_profile: bool,
) -> Result<Passes, Error> {
    let encoder = Encoder::new(&workload.model)?;
    let dims = dims_for(&workload.sentences, workload.sentences.len());
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let model = Model::new(&Device::of(gpu), &encoder, &weights)?;
    drop(weights);
    let forward = ForwardPass::new(&model, dims, Labels::Hard, false)?;
    let gradient = GradientPass::new(&model, dims, Labels::Hard)?;
    if let Some(peer) = peer {
        peer.ask(&workload.for_peer())?;
    }
    let (mut forward_times, mut gradient_times) = (Times::default(), Times::default());
    for round in 0..runs + WARM_UP {
        let start = Instant::now();
        forward.run(&workload.sentences)?;
        let ours = start.elapsed().as_secs_f64();
        let theirs = peer.as_mut().map(|peer| peer.seconds(json!({ "run": "forward" }))).transpose()?;
        let start = Instant::now();
        gradient.run(&workload.sentences)?;
        let whole = start.elapsed().as_secs_f64();
        let their_whole = peer.as_mut().map(|peer| peer.seconds(json!({ "run": "gradient" }))).transpose()?;
        if round >= WARM_UP {
            forward_times.push(ours, theirs);
            gradient_times.push(whole, their_whole);
        }
    }
    let timed = with_profile && gpu.capabilities().timestamps;
    Ok(Passes {
        forward: forward_times,
        gradient: gradient_times,
        dispatches: [
            Recipe::forward(&model.encoder, Labels::Hard, &[]).0.dispatches(&model, &dims)?.0,
            gradient.dispatches(),
        ],
        profile: if timed { profile(|| Ok(gradient.time(&workload.sentences)?))? } else { vec![] },
        parameters: encoder.parameter_count(),
    })
}
