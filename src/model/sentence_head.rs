//! A linear classifier on the concatenated representations of all of a sentence's tokens after the last layer, what a
//! linear probe reads: its loss, and the loss's gradient by the classifier's or by the encoder's parameters. Nothing is
//! dropped out and nothing is masked; a sentence's class is the label of its one marked position.

use super::encoder::Encoder;
use super::passes::Bound;
use super::store::Arena;
use crate::gpu::{Buffer, Gpu, GpuError, Stamp, Step};
use crate::graph::{Count, Dims, Graph, MemoryPlan, TensorId, fit};
use crate::ops::batch::BatchLayout;
use crate::ops::{Batch, BatchBuffers, Labels, Variants, concat};

/// Sizes of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentenceHead {
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

    /// Sizes of batches of so many sentences.
    pub fn dims(&self, sentences: u32) -> Dims {
        Dims { rows: sentences * self.tokens, masked: sentences, sentences, probes: 1 }
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

/// The graph of one side as it runs.
pub struct SentenceHeadGraph {
    pub graph: Graph,
    loss: TensorId,
    weight: TensorId,
    /// W and b.
    head: [TensorId; 2],
    /// The gradient of each parameter of the side that the loss depends on, with the parameter's number.
    gradients: Vec<(usize, TensorId)>,
}

impl SentenceHeadGraph {
    /// Builds the graph on an encoder without dropout.
    fn new(encoder: &Encoder, head: SentenceHead, side: Side) -> SentenceHeadGraph {
        let mut graph = encoder.graph.clone();
        let x = encoder.represent(&mut graph, encoder.hidden.len() - 1);
        let w = graph.parameter("head.weight", head.classes, head.width(encoder));
        let b = graph.parameter("head.bias", 1, head.classes);
        let x = graph.concat(x, head.tokens);
        let logits = graph.linear(x, w, Some(b), None);
        let loss = graph.cross_entropy(logits, Labels::Hard);
        let weight = graph.input("weight", Count::Masked, 4);
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
        SentenceHeadGraph { graph, loss, weight, head: [w, b], gradients }
    }

    /// Bytes of activations and batch, and dispatches, without taking them.
    pub fn plan(
        gpu: &Gpu,
        encoder: &Encoder,
        head: SentenceHead,
        side: Side,
        sentences: u32,
        variants: &Variants,
    ) -> Result<(u64, usize), GpuError> {
        let encoder = Encoder { recompute: encoder.recompute, ..encoder.without_dropout() };
        let made = SentenceHeadGraph::new(&encoder, head, side);
        let outside = |id| {
            encoder.tensors.contains(&id)
                || made.head.contains(&id)
                || id == made.weight
                || made.gradients.iter().any(|(_, g)| *g == id)
        };
        let (dims, layout) = (head.dims(sentences), encoder.batch_layout(variants));
        fit::check(gpu, &made.graph, &dims, variants, &outside)?;
        let memory = MemoryPlan::new(&made.graph, &dims, variants, &outside, &[made.loss]);
        let batch = BatchBuffers::bytes(&dims, &layout, variants, encoder.config.vocab_size, false);
        let dispatches = crate::graph::dispatches(gpu, &made.graph, dims, variants, &layout)?.len();
        Ok((memory.bytes() + batch, dispatches))
    }
}

/// Loss and gradient of one side, planned on an adapter.
pub struct SentenceHeadPass {
    bound: Bound,
    loss: TensorId,
}

impl SentenceHeadPass {
    /// Plans for batches of up to `sentences`. `theta` is the memory of W and b; the gradients go to `gradients`, the memory
    /// of the side's matrices, of which those that the loss does not depend on stay as they are.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        gpu: &Gpu,
        encoder: &Encoder,
        parameters: &Arena,
        head: SentenceHead,
        theta: &[Buffer; 2],
        side: Side,
        gradients: &[Buffer],
        sentences: u32,
        variants: &Variants,
    ) -> Result<SentenceHeadPass, GpuError> {
        let encoder = Encoder { recompute: encoder.recompute, ..encoder.without_dropout() };
        let made = SentenceHeadGraph::new(&encoder, head, side);
        let outside: Vec<(TensorId, Buffer)> = made
            .gradients
            .iter()
            .map(|(i, id)| (*id, gradients[*i].clone()))
            .chain(made.head.into_iter().zip(theta.iter().cloned()))
            .collect();
        let bound = Bound::new(
            gpu,
            &encoder,
            &made.graph,
            parameters,
            head.dims(sentences),
            variants,
            Labels::Hard,
            Some(made.weight),
            &outside,
            &[made.loss],
        )?;
        Ok(SentenceHeadPass { bound, loss: made.loss })
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
        self.bound.plan.buffer(self.loss).expect("the loss is kept")
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
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        weight: f32,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        self.bound.encode(gpu, encoder, batch, weight, step, stamp)
    }
}
