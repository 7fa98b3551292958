//! A model's forward and gradient pass on an adapter, over batches up to a size.

use std::collections::HashMap;

use super::encoder::Encoder;
use super::store::Arena;
use crate::gpu::{Gpu, GpuError, Stamp, Step};
use crate::graph::{Dims, Graph, MemoryPlan, Plan, TensorId, fit};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::{Batch, BatchBuffers, Family, Labels, Variants};

/// The loss of one masked position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowLoss {
    /// Cross-entropy against the label.
    pub loss: f64,
    /// KL divergence of the label's distribution from the model's; for hard labels the loss itself.
    pub divergence: f64,
}

/// Sizes that hold any `per_batch` sentences in a row of a list.
pub fn dims_for(sentences: &[Sentence], per_batch: usize) -> Dims {
    let most = |f: fn(&Sentence) -> usize| {
        sentences.chunks(per_batch.max(1)).map(|c| c.iter().map(f).sum::<usize>()).max().unwrap_or(1).max(1) as u32
    };
    Dims {
        rows: most(|s| s.ids.len()),
        masked: most(|s| s.masked.len()),
        sentences: per_batch.min(sentences.len()).max(1) as u32,
        probes: 1,
    }
}

/// What a pass keeps of the adapter and the model.
pub(super) struct Bound {
    pub(super) plan: Plan,
    pub(super) batch: BatchBuffers,
    pub(super) layout: BatchLayout,
    pub(super) dims: Dims,
}

impl Bound {
    /// Writes a batch and encodes the plan; every masked position weighs `weight`.
    pub(super) fn encode(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        weight: f32,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        assert!(batch.fits(&self.dims), "a batch larger than the plan");
        self.batch.write(gpu, batch, weight);
        self.plan.program().encode_stamped(gpu, encoder, step, stamp)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        gpu: &Gpu,
        encoder: &Encoder,
        graph: &Graph,
        arena: &Arena,
        dims: Dims,
        variants: &Variants,
        labels: Labels,
        weight: Option<TensorId>,
        gradients: &[(TensorId, crate::gpu::Buffer)],
        keep: &[TensorId],
    ) -> Result<Bound, GpuError> {
        let mut outside: HashMap<TensorId, crate::gpu::Buffer> =
            encoder.tensors.iter().copied().zip(arena.matrices.iter().cloned()).collect();
        outside.extend(gradients.iter().cloned());
        // Refuse what cannot fit before the batch's own buffers are made.
        fit::check(gpu, graph, &dims, variants, &|id| outside.contains_key(&id))?;
        let layout = encoder.batch_layout(variants);
        let vocabulary = encoder.config.vocab_size;
        let batch = BatchBuffers::new(gpu, &dims, &layout, variants, vocabulary, labels == Labels::Soft)?;
        if let Some(weight) = weight {
            outside.insert(weight, batch.weight.clone());
        }
        let plan = Plan::new(gpu, graph, dims, variants, &batch, &outside, keep)?;
        Ok(Bound { plan, batch, layout, dims })
    }
}

/// Losses, and with them logits or hidden states, of batches.
pub struct ForwardPass {
    bound: Bound,
    loss: TensorId,
    logits: TensorId,
    hidden: Vec<TensorId>,
    classes: usize,
    width: usize,
}

impl ForwardPass {
    /// Plans for batches up to `dims`, without dropout. With `exports`, logits and hidden states stay readable.
    pub fn new(
        gpu: &Gpu,
        encoder: &Encoder,
        arena: &Arena,
        dims: Dims,
        variants: &Variants,
        labels: Labels,
        exports: bool,
    ) -> Result<ForwardPass, GpuError> {
        let encoder = &encoder.without_dropout();
        let (graph, loss) = encoder.with_loss(labels);
        let mut keep = vec![loss];
        if exports {
            keep.push(encoder.logits);
            keep.extend(&encoder.hidden);
        }
        let bound = Bound::new(gpu, encoder, &graph, arena, dims, variants, labels, None, &[], &keep)?;
        Ok(ForwardPass {
            bound,
            loss,
            logits: encoder.logits,
            hidden: encoder.hidden.clone(),
            classes: encoder.classes() as usize,
            width: encoder.config.hidden_size as usize,
        })
    }

    /// Losses of all masked positions in order, batch after batch.
    pub fn losses(&self, gpu: &Gpu, sentences: &[Sentence]) -> Result<Vec<RowLoss>, GpuError> {
        let mut all = Vec::new();
        for chunk in sentences.chunks(self.bound.dims.sentences as usize) {
            all.extend(self.run(gpu, chunk)?);
        }
        Ok(all)
    }

    /// Runs one batch and reads its losses.
    pub fn run(&self, gpu: &Gpu, sentences: &[Sentence]) -> Result<Vec<RowLoss>, GpuError> {
        let batch = Batch::new(&self.bound.layout, sentences);
        assert!(batch.fits(&self.bound.dims), "a batch larger than the plan");
        self.bound.batch.write(gpu, &batch, 1.0);
        self.bound.plan.run(gpu, &batch.step(1))?;
        let buffer = self.bound.plan.buffer(self.loss).expect("the loss is kept");
        let stat: Vec<[f32; 4]> = gpu.read(buffer, batch.masked() as usize)?;
        Ok(stat.iter().map(|s| RowLoss { loss: f64::from(s[0]), divergence: f64::from(s[1]) }).collect())
    }

    /// Logits of the last batch's masked rows, `[masked x vocabulary]`, or `[masked x classes]` of a classifier.
    pub fn logits(&self, gpu: &Gpu, masked: usize) -> Result<Vec<f32>, GpuError> {
        self.matrix(gpu, self.logits, masked, self.classes)
    }

    /// Hidden states of the last batch, one matrix `[tokens x width]` for the embedding and each layer.
    pub fn hidden(&self, gpu: &Gpu, rows: usize) -> Result<Vec<Vec<f32>>, GpuError> {
        self.hidden.iter().map(|id| self.matrix(gpu, *id, rows, self.width)).collect()
    }

    fn matrix(&self, gpu: &Gpu, id: TensorId, rows: usize, cols: usize) -> Result<Vec<f32>, GpuError> {
        let buffer = self.bound.plan.buffer(id).expect("made with exports");
        let wide = cols.next_multiple_of(4);
        let padded: Vec<f32> = gpu.read(buffer, rows * wide)?;
        Ok(padded.chunks_exact(wide).flat_map(|row| row[..cols].to_vec()).collect())
    }
}

/// The gradient of a mean loss.
pub struct GradientPass {
    bound: Bound,
    loss: TensorId,
    /// The gradient of the last batch.
    pub gradient: Arena,
}

impl GradientPass {
    /// Bytes of activations, batch, gradient and dispatches of batches up to `dims`.
    pub fn bytes(
        gpu: &Gpu,
        encoder: &Encoder,
        dims: &Dims,
        variants: &Variants,
        labels: Labels,
    ) -> Result<u64, GpuError> {
        let (mut graph, loss, weight, gradients) = encoder.with_gradient(labels);
        let keep: Vec<TensorId> = gradients.iter().copied().chain([loss]).collect();
        graph.prune(&keep);
        graph.fuse();
        let outside = |id| encoder.tensors.contains(&id) || gradients.contains(&id) || id == weight;
        fit::check(gpu, &graph, dims, variants, &outside)?;
        let memory = MemoryPlan::new(&graph, dims, variants, &outside, &[loss]);
        let layout = encoder.batch_layout(variants);
        let soft = labels == Labels::Soft;
        let batch = BatchBuffers::bytes(dims, &layout, variants, encoder.config.vocab_size, soft);
        let dispatches = crate::graph::dispatches(gpu, &graph, *dims, variants, &layout)?.len() as u64;
        Ok(memory.bytes() + batch + Arena::bytes(encoder, gpu.alignment()) + 256 * dispatches)
    }

    /// Plans for batches up to `dims`.
    pub fn new(
        gpu: &Gpu,
        encoder: &Encoder,
        arena: &Arena,
        dims: Dims,
        variants: &Variants,
        labels: Labels,
    ) -> Result<GradientPass, GpuError> {
        let (mut graph, loss, weight, gradients) = encoder.with_gradient(labels);
        let keep: Vec<TensorId> = gradients.iter().copied().chain([loss]).collect();
        graph.prune(&keep);
        graph.fuse();
        let gradient = Arena::new(gpu, encoder, "the gradient")?;
        let outside: Vec<_> = gradients.into_iter().zip(gradient.matrices.iter().cloned()).collect();
        let bound = Bound::new(gpu, encoder, &graph, arena, dims, variants, labels, Some(weight), &outside, &[loss])?;
        Ok(GradientPass { bound, loss, gradient })
    }

    /// The memory plan of the activations.
    pub fn memory(&self) -> &MemoryPlan {
        &self.bound.plan.memory
    }

    /// Dispatches a pass.
    pub fn dispatches(&self) -> usize {
        self.bound.plan.program().len()
    }

    /// Largest batch.
    pub fn dims(&self) -> &Dims {
        &self.bound.dims
    }

    /// How batches are laid out.
    pub fn layout(&self) -> &BatchLayout {
        &self.bound.layout
    }

    /// Memory of the losses of masked rows, [masked, 4].
    pub fn loss_buffer(&self) -> &crate::gpu::Buffer {
        self.bound.plan.buffer(self.loss).expect("the loss is kept")
    }

    /// Memory of the weights of masked rows, [masked, 4].
    pub fn weight_buffer(&self) -> &crate::gpu::Buffer {
        &self.bound.batch.weight
    }

    /// Writes a batch and encodes its gradient; every masked position weighs `weight`.
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
    ) -> Result<(), GpuError> {
        self.encode_stamped(gpu, encoder, batch, weight, step, None)
    }

    /// The same with a timestamp before or behind it.
    ///
    /// # Errors
    /// As [`Program::encode`](crate::gpu::Program::encode).
    pub fn encode_stamped(
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

    /// For each dispatch the part of the variant table that it belongs to.
    pub fn families(&self) -> &[Option<Family>] {
        self.bound.plan.families()
    }

    /// Runs a batch with a timestamp around every dispatch.
    pub fn time(&self, gpu: &Gpu, sentences: &[Sentence]) -> Result<Vec<(String, f64)>, GpuError> {
        let batch = Batch::new(&self.bound.layout, sentences);
        self.time_batch(gpu, &batch, 1.0 / batch.masked() as f32)
    }

    /// The same for a batch that is packed already.
    pub fn time_batch(&self, gpu: &Gpu, batch: &Batch, weight: f32) -> Result<Vec<(String, f64)>, GpuError> {
        self.bound.batch.write(gpu, batch, weight);
        self.bound.plan.program().time(gpu, &batch.step(1))
    }

    /// The losses and the gradient of the mean loss over one batch, waiting for both.
    pub fn run(&self, gpu: &Gpu, sentences: &[Sentence]) -> Result<Vec<RowLoss>, GpuError> {
        let batch = Batch::new(&self.bound.layout, sentences);
        let mut encoder = gpu.encoder();
        self.encode(gpu, &mut encoder, &batch, 1.0 / batch.masked() as f32, &batch.step(1))?;
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        let stat: Vec<[f32; 4]> = gpu.read(self.loss_buffer(), batch.masked() as usize)?;
        Ok(stat.iter().map(|s| RowLoss { loss: f64::from(s[0]), divergence: f64::from(s[1]) }).collect())
    }
}
