//! A linear classifier on the concatenated representations of all of a sentence's tokens after the last layer, what a
//! linear probe reads: its loss, and the loss's gradient by the classifier's or by the encoder's parameters. Nothing is
//! dropped out and nothing is masked; a sentence's class is the label of its one marked position.

use super::encoder::Encoder;
use super::on_device::Model;
use super::recipe::{Bound, Given, Recipe};
use crate::gpu::{Buffer, GpuError, Stamp, Step};
use crate::graph::{Dims, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::counts::MASKED;
use crate::ops::{Batch, Labels, concat};

/// Sizes of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentenceHead {
    /// Classes that it tells apart.
    pub classes: u32,
    /// Tokens of the longest sentence, T.
    pub tokens: u32,
}

impl SentenceHead {
    /// Features of a sentence, T blocks of the padded width D; those behind the width are 0.
    pub fn width(&self, encoder: &Encoder) -> u32 {
        concat::width(self.tokens, encoder.config.hidden_size)
    }

    /// vec4 of the memory of W [classes, T D] and of b [1, classes].
    pub fn sizes4(&self, encoder: &Encoder) -> [u32; 2] {
        [self.classes.next_multiple_of(4) * self.width(encoder) / 4, self.classes.div_ceil(4)]
    }

    /// Sizes of batches of this number of sentences.
    pub fn dims(&self, sentences: u32) -> Dims {
        Dims { rows: sentences * self.tokens, masked: sentences, sentences, probes: 1, longest: 0 }
    }
}

/// By what the loss is differentiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The classifier's parameters: the encoder runs forward only.
    Head,
    /// The encoder's, in which the language model's head has no part.
    Encoder,
}

/// What one side computes, and the names of what it takes and gives.
struct SentenceHeadRecipe {
    recipe: Recipe,
    loss: TensorId,
    /// W and b.
    head: [TensorId; 2],
    /// The gradient of each parameter of the side that the loss depends on, with the parameter's number.
    gradients: Vec<(usize, TensorId)>,
}

impl SentenceHeadRecipe {
    /// On an encoder without dropout.
    fn new(encoder: &Encoder, head: SentenceHead, side: Side) -> SentenceHeadRecipe {
        let mut graph = encoder.graph.clone();
        let x = encoder.represent(&mut graph, encoder.hidden.len() - 1);
        let w = graph.parameter("head.weight", head.classes, head.width(encoder));
        let b = graph.parameter("head.bias", 1, head.classes);
        let x = graph.concat(x, head.tokens);
        let logits = graph.linear(x, w, Some(b), None);
        let loss = graph.cross_entropy(logits, Labels::Hard);
        let weight = graph.input("weight", MASKED, 4);
        graph.prune(&[loss]);
        let forward = graph.nodes().len();
        let own: &[TensorId] = if side == Side::Head { &[w, b] } else { &encoder.tensors };
        let adjoints = graph.gradient_for(&[(loss, weight)], |id| own.contains(&id));
        let gradients: Vec<(usize, TensorId)> =
            own.iter().enumerate().filter_map(|(i, id)| Some((i, *adjoints.get(id)?))).collect();
        if encoder.recompute && side == Side::Encoder {
            graph.recompute(forward, &encoder.hidden);
        }
        graph.prune(&gradients.iter().map(|(_, id)| *id).chain([loss]).collect::<Vec<_>>());
        graph.fuse();
        let recipe = Recipe::new(graph, encoder, Labels::Hard)
            .give(Given::Weight, [weight])
            .give(Given::Caller, [w, b])
            .give(Given::Caller, gradients.iter().map(|(_, id)| *id))
            .keep(&[loss]);
        SentenceHeadRecipe { recipe, loss, head: [w, b], gradients }
    }
}

/// Where a side's pass reads and writes beside the encoder's parameters.
pub struct SideMemory<'m> {
    /// W and b.
    pub theta: &'m [Buffer; 2],
    /// Of the side's matrices; those that the loss does not depend on stay as they are.
    pub gradients: &'m [Buffer],
}

/// Loss and gradient of one side, planned on an adapter.
pub struct SentenceHeadPass {
    bound: Bound,
    loss: TensorId,
}

/// The model as a sentence head reads it: nothing is dropped out, and what is computed again in training is so here.
pub(super) fn read_by_head(model: &Model) -> Model {
    let mut own = model.without_dropout();
    own.encoder.recompute = model.encoder.recompute;
    own
}

impl SentenceHeadPass {
    /// Bytes of the pass beside its caller's memory, without taking them.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn bytes(model: &Model, head: SentenceHead, side: Side, sentences: u32) -> Result<u64, GpuError> {
        let model = read_by_head(model);
        SentenceHeadRecipe::new(&model.encoder, head, side).recipe.bytes(&model, &head.dims(sentences))
    }

    /// Plans for batches of up to `sentences`.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn new(
        model: &Model,
        head: SentenceHead,
        side: Side,
        memory: &SideMemory<'_>,
        sentences: u32,
    ) -> Result<SentenceHeadPass, GpuError> {
        let model = read_by_head(model);
        let made = SentenceHeadRecipe::new(&model.encoder, head, side);
        let gradients = made.gradients.iter().map(|(i, id)| (*id, memory.gradients[*i].clone()));
        let caller: Vec<(TensorId, Buffer)> =
            gradients.chain(made.head.into_iter().zip(memory.theta.iter().cloned())).collect();
        Ok(SentenceHeadPass { bound: made.recipe.plan(&model, head.dims(sentences), &caller)?, loss: made.loss })
    }

    /// How batches are laid out.
    pub fn layout(&self) -> &BatchLayout {
        &self.bound.layout
    }

    /// Dispatches of a pass.
    pub fn dispatches(&self) -> usize {
        self.bound.plan.program().len()
    }

    /// Memory of the losses of sentences, [sentences, 4].
    pub fn loss_buffer(&self) -> &Buffer {
        self.bound.buffer(self.loss)
    }

    /// Memory of the weights of sentences, [sentences, 4].
    pub fn weight_buffer(&self) -> &Buffer {
        &self.bound.batch.weight
    }

    /// Writes a batch and encodes its pass; every sentence weighs `weight`.
    ///
    /// # Errors
    /// As [`Program::encode`](crate::gpu::Program::encode).
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        weight: f32,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        self.bound.encode(encoder, batch, weight, step, stamp)
    }
}
