//! A recipe of a measurement on an adapter. It runs in two phases: what has no probes once a batch, what has probes
//! once for every block of them, over activations and adjoints that stay where they are.

use std::cell::Cell;

use crate::curvature::{CurvatureError, Subject};
use crate::gpu::{GpuError, Step};
use crate::graph::{Emit, Graph, TensorId};
use crate::model::{Bound, Encoder, Recipe};
use crate::ops::{Batch, Dims};

/// Bytes of activations, adjoints and tangents that a pass may take. Software adapters have the machine's memory and
/// a heap of 2 GiB at the least.
const BUDGET: u64 = 1 << 30;

/// A recipe on the subject's adapter, with as many probes at once as the budget allows.
pub(super) struct Pass {
    pub(super) bound: Bound,
    /// The batch whose first phase ran last.
    pub(super) resident: Cell<Option<usize>>,
    /// Multiplications and additions of the phases' products, the second for one probe.
    pub(super) flops: [f64; 2],
}

impl Pass {
    /// Bytes that a pass takes of the adapter.
    pub(super) fn bytes(subject: &Subject, recipe: &Recipe) -> Result<u64, CurvatureError> {
        let model = &subject.model;
        Ok(recipe.bytes(model, &recipe.fitted(&model.device, subject.dims, BUDGET))?)
    }

    /// Plans a recipe.
    pub(super) fn new(subject: &Subject, recipe: Recipe) -> Result<Pass, CurvatureError> {
        let model = &subject.model;
        let dims = recipe.fitted(&model.device, subject.dims, BUDGET);
        let flops = recipe.graph().flops(&dims, &model.device.variants);
        Ok(Pass { bound: recipe.plan(model, dims, &[])?, resident: Cell::new(None), flops })
    }

    /// The largest batch and the probes at once.
    pub(super) fn dims(&self) -> Dims {
        self.bound.dims
    }

    /// Runs a batch for probes `first ..` of a seed's draws, `probes` of them.
    pub(super) fn run(
        &self,
        subject: &Subject,
        batch: usize,
        weight: f32,
        step: Step,
    ) -> Result<Batch, CurvatureError> {
        let packed = Batch::new(&self.bound.layout, &subject.sentences[subject.batches[batch].clone()]);
        let step = Step { counts: packed.step(step.probes).counts, ..step };
        let gpu = subject.gpu();
        let mut encoder = gpu.encoder();
        if self.resident.get() != Some(batch) {
            self.resident.set(None);
            self.bound.write(&packed, weight)?;
            self.bound.plan.program().encode(gpu, &mut encoder, &step)?;
        }
        if let Some(probes) = self.bound.plan.probes() {
            probes.encode(gpu, &mut encoder, &step)?;
        }
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        self.resident.set(Some(batch));
        Ok(packed)
    }

    /// Seconds of every dispatch of both phases, from timestamps, on the batch that ran last.
    pub(super) fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        let batch = self.resident.get().unwrap_or(0);
        let packed = Batch::new(&self.bound.layout, &subject.sentences[subject.batches[batch].clone()]);
        let step = packed.step(probes);
        let mut all = self.bound.plan.program().time(subject.gpu(), &step)?;
        if let Some(second) = self.bound.plan.probes() {
            all.extend(second.time(subject.gpu(), &step)?);
        }
        Ok(all)
    }
}

/// A probe of every parameter: (parameter, probe).
pub(super) fn directions(encoder: &Encoder, graph: &mut Graph) -> Vec<(TensorId, TensorId)> {
    let of = |graph: &mut Graph, id: &TensorId| {
        let tensor = graph.tensor(*id).clone();
        (*id, graph.probe(&format!("along {}", tensor.name), tensor.rows, tensor.cols))
    };
    encoder.tensors.iter().map(|id| of(graph, id)).collect()
}
