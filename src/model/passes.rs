//! A model's forward and gradient pass on an adapter, over batches up to a size.

use std::collections::VecDeque;

use super::encoder::Encoder;
use super::on_device::Model;
use super::recipe::{Bound, Given, Recipe};
use super::store::Arena;
use crate::gpu::{GpuError, Staging, Stamp, Step};
use crate::graph::{Dims, Emit, MemoryPlan, TensorId};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::counts::MASKED;
use crate::ops::{Batch, Family, Labels};

/// The loss of one masked position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowLoss {
    /// Cross-entropy against the label.
    pub loss: f64,
    /// KL divergence of the label's distribution from the model's; for hard labels the loss itself.
    pub divergence: f64,
}

impl RowLoss {
    /// Of a row of the losses as kernels leave it.
    fn of(row: &[f32; 4]) -> RowLoss {
        RowLoss { loss: f64::from(row[0]), divergence: f64::from(row[1]) }
    }
}

/// Bytes of such a row.
const ROW_BYTES: usize = 16;
/// Batches on their way before the host waits for the oldest.
const IN_FLIGHT: usize = 2;

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
        longest: sentences.iter().map(|s| s.ids.len()).max().unwrap_or(0) as u32,
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

impl Recipe {
    /// The losses of an encoder, [masked, 4]: (recipe, losses). What is in `exports` stays readable too.
    pub fn forward(encoder: &Encoder, labels: Labels, exports: &[TensorId]) -> (Recipe, TensorId) {
        let of_masked_rows = |id: &TensorId| encoder.graph.tensor(*id).rows == MASKED;
        let (graph, loss) = match exports.iter().all(of_masked_rows) {
            true => gathering(encoder).with_loss(labels),
            false => encoder.with_loss(labels),
        };
        (Recipe::new(graph, encoder, labels).keep(&[loss]).keep(exports), loss)
    }

    /// The gradient of an encoder's mean loss, in an arena: (recipe, losses [masked, 4]).
    pub fn gradient(encoder: &Encoder, labels: Labels) -> (Recipe, TensorId) {
        let (mut graph, loss, weight, gradients) = gathering(encoder).with_gradient(labels);
        let keep: Vec<TensorId> = gradients.iter().copied().chain([loss]).collect();
        graph.prune(&keep);
        graph.fuse();
        let recipe = Recipe::new(graph, encoder, labels).give(Given::Weight, [weight]).keep(&[loss]);
        (recipe.give(Given::Gradient("the gradient"), gradients), loss)
    }
}

/// The encoder with masked rows alone wherever no other is read, for passes without tangents.
fn gathering(encoder: &Encoder) -> Encoder {
    let mut encoder = encoder.clone();
    encoder.graph.gather_early();
    encoder.graph.gather_queries();
    encoder
}

/// Bytes that a forward pass takes of the adapter at most, where nobody says how large batches are.
const ROOM: u64 = 1 << 30;

impl ForwardPass {
    /// A model without dropout, what is computed of it, and its losses.
    fn recipe(model: &Model, labels: Labels, exports: bool) -> (Model, Recipe, TensorId) {
        let model = model.without_dropout();
        let Encoder { logits, hidden, .. } = &model.encoder;
        let exported: Vec<TensorId> =
            if exports { [*logits].into_iter().chain(hidden.iter().copied()).collect() } else { vec![] };
        let (recipe, loss) = Recipe::forward(&model.encoder, labels, &exported);
        (model, recipe, loss)
    }

    /// Sentences at once: `most`, or half as many and so on, until the adapter binds all that [`new`](Self::new) plans
    /// for and it takes at most 1 GiB; one at least.
    pub fn batch_for(model: &Model, sentences: &[Sentence], most: usize, labels: Labels, exports: bool) -> usize {
        let (model, recipe, _) = ForwardPass::recipe(model, labels, exports);
        let fits = |batch: usize| {
            let dims = dims_for(sentences, batch);
            let bytes = || recipe.memory(&model.device, &dims).bytes() + recipe.batch_bytes(&model, &dims);
            recipe.check(&model.device, &dims).is_ok() && bytes() <= ROOM
        };
        let mut batch = most.min(sentences.len()).max(1);
        while batch > 1 && !fits(batch) {
            batch = batch.div_ceil(2);
        }
        batch
    }

    /// Plans for batches up to `dims`, without dropout. With `exports`, logits and hidden states stay readable.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn new(model: &Model, dims: Dims, labels: Labels, exports: bool) -> Result<ForwardPass, GpuError> {
        let (model, recipe, loss) = ForwardPass::recipe(model, labels, exports);
        let Encoder { logits, hidden, .. } = &model.encoder;
        Ok(ForwardPass {
            bound: recipe.plan(&model, dims, &[])?,
            loss,
            logits: *logits,
            hidden: hidden.clone(),
            classes: model.encoder.classes() as usize,
            width: model.encoder.config.hidden_size as usize,
        })
    }

    /// Losses of all masked positions in order, batch after batch; the host packs a batch while the adapter is at the
    /// one before it.
    pub fn losses(&self, sentences: &[Sentence]) -> Result<Vec<RowLoss>, GpuError> {
        let gpu = &self.bound.gpu;
        let (mut all, mut on_their_way) = (Vec::new(), VecDeque::new());
        for chunk in sentences.chunks(self.bound.dims.sentences as usize) {
            let batch = Batch::new(&self.bound.layout, chunk);
            let mut encoder = gpu.encoder();
            self.bound.encode(&mut encoder, &batch, 1.0, &batch.step(1), None)?;
            let losses = gpu.stage(&mut encoder, self.bound.buffer(self.loss), batch.masked() as usize * ROW_BYTES)?;
            let submission = gpu.submit(encoder);
            losses.map();
            on_their_way.push_back((losses, submission));
            if on_their_way.len() > IN_FLIGHT
                && let Some(oldest) = on_their_way.pop_front()
            {
                all.extend(self.taken(oldest)?);
            }
        }
        for next in on_their_way {
            all.extend(self.taken(next)?);
        }
        Ok(all)
    }

    /// Waits for losses that are on their way.
    fn taken(&self, (losses, submission): (Staging, wgpu::SubmissionIndex)) -> Result<Vec<RowLoss>, GpuError> {
        self.bound.gpu.wait(submission)?;
        let rows: Vec<[f32; 4]> = bytemuck::pod_collect_to_vec(&losses.take(&self.bound.gpu)?);
        Ok(rows.iter().map(RowLoss::of).collect())
    }

    /// Runs one batch and reads its losses.
    pub fn run(&self, sentences: &[Sentence]) -> Result<Vec<RowLoss>, GpuError> {
        let batch = self.bound.run(sentences)?;
        read_losses(&self.bound, self.loss, batch.masked())
    }

    /// Logits of the last batch's masked rows, `[masked x vocabulary]`, or `[masked x classes]` of a classifier.
    pub fn logits(&self, masked: usize) -> Result<Vec<f32>, GpuError> {
        self.bound.matrix(self.logits, masked, self.classes)
    }

    /// Hidden states of the last batch, one matrix `[tokens x width]` for the embedding and each layer.
    pub fn hidden(&self, rows: usize) -> Result<Vec<Vec<f32>>, GpuError> {
        self.hidden.iter().map(|id| self.bound.matrix(*id, rows, self.width)).collect()
    }
}

/// Losses of the first `masked` rows.
fn read_losses(bound: &Bound, loss: TensorId, masked: u32) -> Result<Vec<RowLoss>, GpuError> {
    let rows: Vec<[f32; 4]> = bound.gpu.read(bound.buffer(loss), masked as usize)?;
    Ok(rows.iter().map(RowLoss::of).collect())
}

/// The gradient of a mean loss.
pub struct GradientPass {
    bound: Bound,
    loss: TensorId,
}

impl GradientPass {
    /// Plans for batches up to `dims`.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn new(model: &Model, dims: Dims, labels: Labels) -> Result<GradientPass, GpuError> {
        let (recipe, loss) = Recipe::gradient(&model.encoder, labels);
        Ok(GradientPass { bound: recipe.plan(model, dims, &[])?, loss })
    }

    /// The gradient of the last batch.
    pub fn gradient(&self) -> &Arena {
        self.bound.gradient()
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
        self.bound.buffer(self.loss)
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
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        weight: f32,
        step: &Step,
    ) -> Result<(), GpuError> {
        self.bound.encode(encoder, batch, weight, step, None)
    }

    /// The same with a timestamp before or behind it.
    ///
    /// # Errors
    /// As [`Program::encode`](crate::gpu::Program::encode).
    pub fn encode_stamped(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        weight: f32,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        self.bound.encode(encoder, batch, weight, step, stamp)
    }

    /// For each dispatch the part of the variant table that it belongs to.
    pub fn families(&self) -> &[Option<Family>] {
        self.bound.plan.families()
    }

    /// Runs a batch with a timestamp around every dispatch.
    pub fn time(&self, sentences: &[Sentence]) -> Result<Vec<(String, f64)>, GpuError> {
        let batch = Batch::new(&self.bound.layout, sentences);
        self.time_batch(&batch, 1.0 / batch.masked() as f32)
    }

    /// The same for a batch that is packed already.
    pub fn time_batch(&self, batch: &Batch, weight: f32) -> Result<Vec<(String, f64)>, GpuError> {
        self.bound.write(batch, weight)?;
        self.bound.plan.program().time(&self.bound.gpu, &batch.step(1))
    }

    /// The losses and the gradient of the mean loss over one batch, waiting for both.
    pub fn run(&self, sentences: &[Sentence]) -> Result<Vec<RowLoss>, GpuError> {
        let batch = Batch::new(&self.bound.layout, sentences);
        let gpu = &self.bound.gpu;
        let mut encoder = gpu.encoder();
        self.encode(&mut encoder, &batch, 1.0 / batch.masked() as f32, &batch.step(1))?;
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        read_losses(&self.bound, self.loss, batch.masked())
    }
}
