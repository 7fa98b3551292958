//! Features of sentences to be read by the host, the concatenated representations of all tokens after the last layer
//! (what a linear probe reads) or the tangent of that of `<s>`; and the gradient by the encoder's parameters of a
//! function of them whose derivative by the features the host gives. Nothing is masked and nothing dropped.

use super::encoder::Encoder;
use super::on_device::Model;
use super::recipe::{Bound, Given, Recipe};
use super::sentence_head::read_by_head;
use crate::gpu::{Buffer, GpuError, Stamp, Step};
use crate::graph::{Dims, Emit, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::counts::MASKED;
use crate::ops::{Activation, Batch, Labels, concat};

/// What is taken of a sentence's token representations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentenceReading {
    /// All of them one after another, of sentences of up to so many tokens; zeros behind a shorter one.
    Tokens(u32),
    /// The hyperbolic tangent of that of the marked position, in sentences of up to so many tokens.
    Marked(u32),
}

impl SentenceReading {
    /// Numbers of a sentence in memory.
    fn width(self, encoder: &Encoder) -> u32 {
        match self {
            SentenceReading::Tokens(tokens) => concat::width(tokens, encoder.config.hidden_size),
            SentenceReading::Marked(_) => encoder.config.hidden_size.next_multiple_of(4),
        }
    }

    /// Sizes of batches of this number of sentences.
    fn dims(self, sentences: u32) -> Dims {
        let (SentenceReading::Tokens(tokens) | SentenceReading::Marked(tokens)) = self;
        Dims { rows: sentences * tokens, masked: sentences, sentences, probes: 1, longest: 0 }
    }
}

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

fn recipe(model: &Model, reading: SentenceReading, back: bool) -> Made {
    let encoder = &model.encoder;
    let mut graph = encoder.graph.clone();
    let x = encoder.represent(&mut graph, encoder.hidden.len() - 1);
    let features = match reading {
        SentenceReading::Tokens(tokens) => graph.concat(x, tokens),
        SentenceReading::Marked(_) => {
            let marked = graph.gather(x);
            graph.activation(Activation::Tanh, marked)
        }
    };
    graph.prune(&[features]);
    if !back {
        graph.fuse();
        let recipe = Recipe::new(graph, encoder, Labels::Hard).give(Given::Fresh("the features"), [features]);
        return Made { recipe, features, adjoint: None, gradients: vec![] };
    }
    let adjoint = graph.input("adjoint of the features", MASKED, graph.tensor(features).cols);
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
    pub fn bytes(model: &Model, reading: SentenceReading, back: bool, sentences: u32) -> Result<u64, GpuError> {
        let model = read_by_head(model);
        recipe(&model, reading, back).recipe.bytes(&model, &reading.dims(sentences))
    }

    /// Plans for batches of up to `sentences`.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn new(
        model: &Model,
        reading: SentenceReading,
        direction: FeatureDirection<'_>,
        sentences: u32,
    ) -> Result<SentenceFeaturesPass, GpuError> {
        let model = read_by_head(model);
        let made = recipe(&model, reading, matches!(direction, FeatureDirection::Back(_)));
        let caller: Vec<(TensorId, Buffer)> = match direction {
            FeatureDirection::Forward => vec![],
            FeatureDirection::Back(gradients) => {
                made.gradients.iter().map(|(i, id)| (*id, gradients[*i].clone())).collect()
            }
        };
        let bound = made.recipe.plan(&model, reading.dims(sentences), &caller)?;
        let width = reading.width(&model.encoder) as usize;
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
