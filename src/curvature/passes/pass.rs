//! A recipe of a measurement on an adapter. It runs in two phases: what has no probes once a batch, what has probes
//! once for every block of them, over activations and adjoints that stay where they are.

use std::cell::Cell;

use crate::curvature::{CurvatureError, Subject};
use crate::gpu::{Buffer, GpuError, Step};
use crate::graph::{Emit, Graph, TensorId};
use crate::interrupt;
use crate::model::{Bound, Encoder, Recipe};
use crate::ops::{Batch, Dims};

/// Bytes of activations, adjoints and tangents that a pass may take. Software adapters have the machine's memory and
/// a heap of 2 GiB at the least.
const BUDGET: u64 = 1 << 30;

/// Bytes of matrices that a vector is packed into at once.
const PACKED: u64 = 32 << 20;

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

/// Memory of a vector of the model's size for each probe.
pub(super) struct ProbeVectors {
    buffers: Vec<Buffer>,
    /// Bytes of one probe of each matrix.
    strides: Vec<u64>,
}

impl ProbeVectors {
    /// The memory of a tensor with probes for each of the model's matrices.
    pub(super) fn of(subject: &Subject, pass: &Pass, tensors: &[TensorId]) -> ProbeVectors {
        let strides = subject.model.encoder.matrices.iter().map(|m| m.padded_len() as u64 * 4).collect();
        ProbeVectors { buffers: tensors.iter().map(|id| pass.bound.buffer(*id).clone()).collect(), strides }
    }

    pub(super) fn write(&self, subject: &Subject, block: &[Vec<f32>]) -> Result<(), CurvatureError> {
        let mut upload = subject.gpu().upload();
        for (k, vector) in block.iter().enumerate() {
            interrupt::check()?;
            // A few matrices at once, so that a large model's vector is not there twice.
            let mut first = 0;
            while first < self.strides.len() {
                let mut end = first + 1;
                while end < self.strides.len() && self.strides[first..=end].iter().sum::<u64>() < PACKED {
                    end += 1;
                }
                let packed = subject.vectors.pack(&subject.model.encoder, vector, first..end);
                for ((buffer, stride), values) in
                    self.buffers[first..end].iter().zip(&self.strides[first..]).zip(&packed)
                {
                    upload.write_at(buffer, stride * k as u64, values);
                }
                first = end;
            }
        }
        Ok(())
    }

    /// Adds what is there to vectors.
    pub(super) fn read(&self, subject: &Subject, sums: &mut [Vec<f64>]) -> Result<(), GpuError> {
        let parts: Vec<(&Buffer, usize)> =
            self.buffers.iter().zip(&self.strides).map(|(b, s)| (b, *s as usize * sums.len())).collect();
        let all: Vec<Vec<f32>> =
            subject.gpu().read_many(&parts)?.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
        for (k, sum) in sums.iter_mut().enumerate() {
            let layer = |stride: &u64| k * *stride as usize / 4..(k + 1) * *stride as usize / 4;
            let packed: Vec<&[f32]> = all.iter().zip(&self.strides).map(|(v, s)| &v[layer(s)]).collect();
            subject.vectors.accumulate(&subject.model.encoder, &packed, sum);
        }
        Ok(())
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
