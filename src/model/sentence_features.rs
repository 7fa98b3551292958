//! The concatenated representations of all of a sentence's tokens after the last layer, what a linear probe reads, as
//! features to be read by the host; and the gradient by the encoder's parameters of a function of them whose derivative
//! by the features the host gives. Nothing is masked and nothing dropped.

use super::on_device::Model;
use super::recipe::{Bound, Given, Recipe};
use super::sentence_head::{SentenceHead, read_by_head};
use crate::gpu::{Buffer, GpuError, Stamp, Step};
use crate::graph::TensorId;
use crate::ops::batch::BatchLayout;
use crate::ops::counts::MASKED;
use crate::ops::{Batch, Labels};

/// Which way a pass goes.
#[derive(Clone, Copy)]
pub enum FeatureDirection<'g> {
    /// To the features.
    Forward,
    /// On from their adjoints to the gradient, in this memory, a buffer for each of the encoder's matrices; those that
    /// the features do not depend on stay as they are.
    Back(&'g [Buffer]),
}

/// Features, or a gradient from their adjoints, planned on an adapter.
pub struct SentenceFeaturesPass {
    bound: Bound,
    features: TensorId,
    adjoint: Option<TensorId>,
    width: usize,
}

/// What a pass computes: the recipe, the features, their adjoint, the gradients with the matrices' numbers.
struct Made {
    recipe: Recipe,
    features: TensorId,
    adjoint: Option<TensorId>,
    gradients: Vec<(usize, TensorId)>,
}

fn recipe(model: &Model, head: SentenceHead, back: bool) -> Made {
    let encoder = &model.encoder;
    let mut graph = encoder.graph.clone();
    let x = encoder.represent(&mut graph, encoder.hidden.len() - 1);
    let features = graph.concat(x, head.tokens);
    graph.prune(&[features]);
    if !back {
        graph.fuse();
        let recipe = Recipe::new(graph, encoder, Labels::Hard).give(Given::Fresh("the features"), [features]);
        return Made { recipe, features, adjoint: None, gradients: vec![] };
    }
    let adjoint = graph.input("adjoint of the features", MASKED, head.width(encoder));
    let forward = graph.nodes().len();
    let adjoints = graph.gradient_for(&[(features, adjoint)], |id| encoder.tensors.contains(&id));
    let gradients: Vec<(usize, TensorId)> =
        encoder.tensors.iter().enumerate().filter_map(|(i, id)| Some((i, *adjoints.get(id)?))).collect();
    if encoder.recompute {
        graph.recompute(forward, &encoder.hidden);
    }
    graph.prune(&gradients.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    graph.fuse();
    let recipe = Recipe::new(graph, encoder, Labels::Hard)
        .give(Given::Fresh("the features' adjoint"), [adjoint])
        .give(Given::Caller, gradients.iter().map(|(_, id)| *id));
    Made { recipe, features, adjoint: Some(adjoint), gradients }
}

impl SentenceFeaturesPass {
    /// Bytes of the pass beside its caller's memory, without taking them.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn bytes(model: &Model, head: SentenceHead, back: bool, sentences: u32) -> Result<u64, GpuError> {
        let model = read_by_head(model);
        recipe(&model, head, back).recipe.bytes(&model, &head.dims(sentences))
    }

    /// Plans for batches of up to `sentences`. Of `head` the tokens of the longest sentence count.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn new(
        model: &Model,
        head: SentenceHead,
        direction: FeatureDirection<'_>,
        sentences: u32,
    ) -> Result<SentenceFeaturesPass, GpuError> {
        let model = read_by_head(model);
        let made = recipe(&model, head, matches!(direction, FeatureDirection::Back(_)));
        let caller: Vec<(TensorId, Buffer)> = match direction {
            FeatureDirection::Forward => vec![],
            FeatureDirection::Back(gradients) => {
                made.gradients.iter().map(|(i, id)| (*id, gradients[*i].clone())).collect()
            }
        };
        let bound = made.recipe.plan(&model, head.dims(sentences), &caller)?;
        let width = head.width(&model.encoder) as usize;
        Ok(SentenceFeaturesPass { bound, features: made.features, adjoint: made.adjoint, width })
    }

    /// Numbers of a sentence, those of padding in memory included, which are 0.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How batches are laid out.
    pub fn layout(&self) -> &BatchLayout {
        &self.bound.layout
    }

    /// Dispatches of a pass.
    pub fn dispatches(&self) -> usize {
        self.bound.plan.program().len()
    }

    /// Encodes the pass over a batch.
    ///
    /// # Errors
    /// As [`Program::encode`](crate::gpu::Program::encode).
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        self.bound.encode(encoder, batch, 1.0, step, stamp)
    }

    /// Waits and reads the features of `sentences`, `[sentences, width]`.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn read(&self, sentences: usize) -> Result<Vec<f32>, GpuError> {
        self.bound.gpu.read(self.bound.buffer(self.features), sentences * self.width)
    }

    /// Writes the derivative by the features, `[sentences, width]`, for a pass that goes back.
    ///
    /// # Panics
    /// Where the pass goes forward.
    pub fn write(&self, adjoint: &[f32]) {
        let id = self.adjoint.expect("a pass that goes back");
        self.bound.gpu.write(self.bound.buffer(id), adjoint);
    }
}
