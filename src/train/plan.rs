//! The plan of a run: what it would take of the adapter, without taking it.

use serde::Serialize;

use super::kernels::{Kernels, Source};
use super::run::{RunError, Setup};
use crate::config::{OptimizerKind, Resolved};
use crate::gpu::Gpu;
use crate::graph::MemoryPlan;
use crate::model::Arena;
use crate::ops::{BatchBuffers, Labels, Variants};

/// What `lowland train --dry-run` prints.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    pub parameters: usize,
    pub layers: u32,
    pub vocabulary: u32,
    pub adapter: String,
    pub variants: Variants,
    /// Where they come from.
    pub variants_source: Source,
    pub micro_batch: u32,
    pub dispatches_per_micro_batch: usize,
    /// Multiplications and additions of a whole step, forward and backward.
    pub flops_per_step: f64,
    pub bytes: PlanBytes,
    /// Why it does not fit, if it does not.
    pub refused: Option<String>,
}

/// Memory on the adapter, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct PlanBytes {
    pub parameters: u64,
    pub gradients: u64,
    pub optimizer: u64,
    pub activations: u64,
    /// The same without reuse of memory.
    pub activations_unshared: u64,
    pub batch: u64,
    pub total: u64,
}

/// Plans a run without allocating its memory.
pub fn plan(gpu: &Gpu, resolved: &Resolved) -> Result<PlanReport, RunError> {
    let setup = Setup::new(gpu, resolved)?;
    let Setup { encoder, dims, kernels: Kernels { variants, source, .. }, .. } = &setup;
    let train = &resolved.config.train;
    let (mut graph, loss, weight, gradients) = encoder.with_gradient(setup.labels);
    graph.prune(&gradients.iter().copied().chain([loss]).collect::<Vec<_>>());
    graph.fuse();
    let outside = |id| encoder.tensors.contains(&id) || gradients.contains(&id) || id == weight;
    let memory = MemoryPlan::new(&graph, dims, variants, &outside, &[loss]);
    let arena = Arena::bytes(encoder, gpu.alignment());
    let moments = match &train.optimizer {
        OptimizerKind::AdamW(_) => 2,
        OptimizerKind::Sgd(o) => u64::from(o.momentum > 0.0),
    };
    let several = u64::from(train.micro_batch() < train.batch_size);
    let layout = encoder.batch_layout(variants);
    let soft = setup.labels == Labels::Soft;
    let batch = BatchBuffers::bytes(dims, &layout, variants, encoder.config.vocab_size, soft);
    let bytes = PlanBytes {
        parameters: arena,
        gradients: arena * (1 + several),
        optimizer: arena * moments,
        activations: memory.bytes(),
        activations_unshared: memory.unshared,
        batch,
        total: arena * (2 + several + moments) + memory.bytes() + batch,
    };
    let micros = f64::from(train.batch_size.div_ceil(train.micro_batch()));
    let tokens = u64::from(setup.corpus.language.max_length() as u32 + 2);
    let pairs = u64::from(dims.sentences) * tokens * tokens;
    let flops = encoder.forward_flops(u64::from(dims.rows), u64::from(dims.masked), pairs) as f64;
    Ok(PlanReport {
        parameters: encoder.parameter_count(),
        layers: encoder.config.num_hidden_layers,
        vocabulary: encoder.config.vocab_size,
        adapter: gpu.info().name.clone(),
        variants: *variants,
        variants_source: *source,
        micro_batch: train.micro_batch(),
        dispatches_per_micro_batch: crate::graph::dispatches(gpu, &graph, *dims, variants, &layout)?.len(),
        flops_per_step: 3.0 * flops * micros,
        bytes,
        refused: memory.check(gpu).err().map(|e| e.to_string()),
    })
}
