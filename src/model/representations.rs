//! Representations of all tokens after a layer: what probes read.

use super::encoder::Encoder;
use super::passes::Bound;
use super::store::Arena;
use crate::gpu::{Gpu, GpuError};
use crate::graph::{Dims, TensorId};
use crate::ops::batch::Sentence;
use crate::ops::{Batch, Labels, Variants};

/// A forward pass up to one layer.
pub struct RepresentationPass {
    bound: Bound,
    target: TensorId,
    width: usize,
}

impl RepresentationPass {
    /// Plans for batches up to `dims`, without dropout; see [`Encoder::representations`] for what a layer is.
    pub fn new(
        gpu: &Gpu,
        encoder: &Encoder,
        arena: &Arena,
        dims: Dims,
        variants: &Variants,
        layer: usize,
    ) -> Result<RepresentationPass, GpuError> {
        let encoder = &encoder.without_dropout();
        let (graph, target) = encoder.representations(layer);
        let bound = Bound::new(gpu, encoder, &graph, arena, dims, variants, Labels::Hard, None, &[], &[target])?;
        Ok(RepresentationPass { bound, target, width: encoder.config.hidden_size as usize })
    }

    /// Representations of the tokens of one batch, sentence after sentence, `[tokens x D]`.
    pub fn run(&self, gpu: &Gpu, sentences: &[Sentence]) -> Result<Vec<f32>, GpuError> {
        let batch = Batch::new(&self.bound.layout, sentences);
        assert!(batch.fits(&self.bound.dims), "a batch larger than the plan");
        self.bound.batch.write(gpu, &batch, 1.0);
        self.bound.plan.run(gpu, &batch.step(1))?;
        let wide = self.width.next_multiple_of(4);
        let buffer = self.bound.plan.buffer(self.target).expect("the target is kept");
        let mut values: Vec<f32> = gpu.read(buffer, batch.rows() as usize * wide)?;
        if wide != self.width {
            values = values.chunks_exact(wide).flat_map(|row| row[..self.width].to_vec()).collect();
        }
        Ok(values)
    }
}
