//! `[train]`: optimiser, schedule, batches and checkpoints with their defaults.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::AlgorithmKind;

/// AdamW, as torch.optim.AdamW. Weight decay applies to matrices, not to biases and layer norms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { lr: 1e-3, betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.01 }
    }
}

/// Stochastic gradient descent, as torch.optim.SGD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Peak learning rate.
    pub lr: f64,
    /// Momentum; 0 needs no memory for it.
    pub momentum: f64,
    /// L2 penalty's factor, added to the gradient of matrices.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { lr: 1e-3, momentum: 0.0, weight_decay: 0.0 }
    }
}

/// The optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerKind {
    /// { kind = "adamw", lr, betas, eps, weight_decay }
    AdamW(AdamW),
    /// { kind = "sgd", lr, momentum, weight_decay }
    Sgd(Sgd),
}

impl OptimizerKind {
    /// Peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            OptimizerKind::AdamW(o) => o.lr,
            OptimizerKind::Sgd(o) => o.lr,
        }
    }
}

/// Share of the steps over which the learning rate rises from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Warmup {
    /// Share of all steps over which the learning rate rises linearly from 0.
    pub warmup: f64,
}

impl Default for Warmup {
    fn default() -> Self {
        Warmup { warmup: 0.06 }
    }
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Falls linearly to 0 at the last step.
    Linear(Warmup),
    /// Stays.
    Constant(Warmup),
    /// Falls to 0 along half a cosine.
    Cosine(Warmup),
}

impl ScheduleKind {
    /// Factor on the peak learning rate at a step counted from 0.
    ///
    /// ```
    /// use lowland::config::{ScheduleKind, Warmup};
    /// let schedule = ScheduleKind::Linear(Warmup { warmup: 0.5 });
    /// assert_eq!([schedule.factor(0, 4), schedule.factor(1, 4), schedule.factor(3, 4)], [0.5, 1.0, 0.5]);
    /// ```
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let (ScheduleKind::Linear(w) | ScheduleKind::Constant(w) | ScheduleKind::Cosine(w)) = self;
        let warm = (w.warmup * steps as f64).round();
        let now = step as f64;
        if now < warm {
            return (now + 1.0) / warm;
        }
        let left = ((steps as f64 - now) / (steps as f64 - warm).max(1.0)).clamp(0.0, 1.0);
        match self {
            ScheduleKind::Linear(_) => left,
            ScheduleKind::Constant(_) => 1.0,
            ScheduleKind::Cosine(_) => 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
        }
    }
}

/// The precision of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All arithmetic in f32.
    #[default]
    F32,
    /// Operands of products rounded to f16, sums in f32.
    Mixed,
}

/// Sentences at once: a number, or "auto", which is the batch, halved until the adapter has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number of sentences, or \"auto\"")]
pub enum MicroBatch {
    /// So many.
    Sentences(u32),
    /// As many as the adapter has room for.
    Fitting(Fitting),
}

/// As many as the adapter has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fitting {
    /// "auto"
    Auto,
}

impl MicroBatch {
    /// "auto"
    pub const AUTO: MicroBatch = MicroBatch::Fitting(Fitting::Auto);
}

impl From<u32> for MicroBatch {
    fn from(sentences: u32) -> MicroBatch {
        MicroBatch::Sentences(sentences)
    }
}

/// The training of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Optimiser steps; a finished run goes on when they are raised.
    pub steps: u64,
    /// Sentences of the training set, gone over again and again, in another order each time. Left out: ever new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentences: Option<u64>,
    /// Sentences per step.
    pub batch_size: u32,
    /// Sentences at once; gradients are added up over a batch when smaller. "auto": the batch size, halved until the
    /// adapter has room; the run keeps the size that was found. Left out: the batch size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<MicroBatch>,
    /// What "auto" stands for on this adapter, as far as it is known; no key of a config.
    #[serde(skip)]
    pub fitted: Option<u32>,
    /// { kind = "adamw", lr, betas, eps, weight_decay } or { kind = "sgd", lr, momentum, weight_decay }.
    pub optimizer: OptimizerKind,
    /// Beside the optimiser's step: { kind = "plain" }, which is nothing, { kind = "label-noise", probability },
    /// { kind = "sam", rho } or { kind = "adversarial", task, weight, ... }. Left out: plain.
    #[serde(skip_serializing_if = "AlgorithmKind::is_plain")]
    pub algorithm: AlgorithmKind,
    /// { kind = "linear" | "constant" | "cosine", warmup = share of the steps }.
    pub schedule: ScheduleKind,
    /// Largest norm of the gradient over all parameters; 0 is no clipping.
    pub clip: f64,
    /// Steps between checkpoints, with one at the end; 0 is none but the one at an interrupt.
    pub checkpoint_every: u64,
    /// "f32", or "mixed": products of f16 operands with f32 sums on adapters with cooperative matrices; weights,
    /// moments and everything else stay f32.
    pub precision: Precision,
    /// A power of two that losses are multiplied by before the backward pass, and updates divided by: it keeps small
    /// adjoints from vanishing in f16. Left out: 1024 with mixed precision, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Forget what a layer computed inside after the forward pass and compute it again in the backward pass: less
    /// memory, a third more arithmetic, the same gradient.
    pub recompute: bool,
    /// Newest checkpoints that are kept; 0 keeps all.
    pub keep_checkpoints: u32,
    /// Model folder to begin with instead of random weights, relative to the config file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Steps between evaluations; 0 evaluates at the end only.
    pub evaluate_every: u64,
}

impl Default for TrainSection {
    fn default() -> Self {
        TrainSection {
            steps: 2000,
            sentences: None,
            batch_size: 256,
            micro_batch: None,
            fitted: None,
            optimizer: OptimizerKind::AdamW(AdamW::default()),
            algorithm: AlgorithmKind::default(),
            schedule: ScheduleKind::Linear(Warmup::default()),
            clip: 0.0,
            precision: Precision::F32,
            loss_scale: None,
            recompute: false,
            checkpoint_every: 500,
            keep_checkpoints: 3,
            start_from: None,
            evaluate_every: 100,
        }
    }
}

impl TrainSection {
    /// The factor on losses before the backward pass.
    pub fn loss_scale(&self) -> f32 {
        let default = if self.precision == Precision::Mixed { 1024.0 } else { 1.0 };
        self.loss_scale.unwrap_or(default) as f32
    }

    /// Sentences at once.
    pub fn micro_batch(&self) -> u32 {
        let asked = match self.micro_batch {
            None => None,
            Some(MicroBatch::Sentences(sentences)) => Some(sentences),
            Some(MicroBatch::Fitting(Fitting::Auto)) => self.fitted,
        };
        asked.unwrap_or(self.batch_size).min(self.batch_size)
    }
}
