//! Representations of all tokens after a layer: what probes read.

use super::on_device::Model;
use super::recipe::{Bound, Recipe};
use crate::gpu::GpuError;
use crate::graph::{Dims, TensorId};
use crate::ops::Labels;
use crate::ops::batch::Sentence;
use crate::random::Purpose;

/// A forward pass up to one layer.
pub struct RepresentationPass {
    bound: Bound,
    target: TensorId,
    width: usize,
}

impl RepresentationPass {
    /// Plans for batches up to `dims`, without dropout; see
    /// [`Encoder::representations`](super::Encoder::representations) for what a layer is.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn new(model: &Model, dims: Dims, layer: usize) -> Result<RepresentationPass, GpuError> {
        RepresentationPass::dropping(model, dims, layer, 0.0)
    }

    /// The same with hidden states and attention weights dropped with probability `p`; see [`draw`](Self::draw).
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn dropping(model: &Model, dims: Dims, layer: usize, p: f64) -> Result<RepresentationPass, GpuError> {
        let model = model.with_dropout(p);
        let (graph, target) = model.encoder.representations(layer);
        let recipe = Recipe::new(graph, &model.encoder, Labels::Hard).keep(&[target]);
        let width = model.encoder.config.hidden_size as usize;
        Ok(RepresentationPass { bound: recipe.plan(&model, dims, &[])?, target, width })
    }

    /// Representations of the tokens of one batch, sentence after sentence, `[tokens x D]`.
    pub fn run(&self, sentences: &[Sentence]) -> Result<Vec<f32>, GpuError> {
        self.draw(sentences, 0, 0)
    }

    /// The same with what is dropped a function of (seed, number of the draw, place in the batch).
    pub fn draw(&self, sentences: &[Sentence], seed: u64, number: u64) -> Result<Vec<f32>, GpuError> {
        let key = [seed as u32, (seed >> 32) as u32 ^ Purpose::Dropout as u32];
        let batch = self.bound.run_drawing(sentences, key, [number as u32, (number >> 32) as u32])?;
        self.bound.matrix(self.target, batch.rows() as usize, self.width)
    }
}
