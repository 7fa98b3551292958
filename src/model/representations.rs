//! Representations of all tokens after a layer: what probes read.

use super::on_device::Model;
use super::recipe::{Bound, Recipe};
use crate::gpu::GpuError;
use crate::graph::{Dims, TensorId};
use crate::ops::Labels;
use crate::ops::batch::Sentence;

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
        let model = model.without_dropout();
        let (graph, target) = model.encoder.representations(layer);
        let recipe = Recipe::new(graph, &model.encoder, Labels::Hard).keep(&[target]);
        let width = model.encoder.config.hidden_size as usize;
        Ok(RepresentationPass { bound: recipe.plan(&model, dims, &[])?, target, width })
    }

    /// Representations of the tokens of one batch, sentence after sentence, `[tokens x D]`.
    pub fn run(&self, sentences: &[Sentence]) -> Result<Vec<f32>, GpuError> {
        let batch = self.bound.run(sentences)?;
        self.bound.matrix(self.target, batch.rows() as usize, self.width)
    }
}
