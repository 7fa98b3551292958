//! `[train]`: optimiser, schedule, batches and checkpoints with their defaults.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::AlgorithmKind;
use super::schedule::{ScheduleKind, Warmup};

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

/// The step of another run that a run begins at: with its weights and moments, at its place in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Folder of the other run, relative to the config file.
    pub from: PathBuf,
    /// Steps of it that this run begins behind; its checkpoint of that step must be there (`train.keep_checkpoints`).
    pub step: u64,
}

/// Learning rate and head by the model's width, so that one config goes for several: of a model of width d the learning
/// rate is multiplied by (base / d)^lr, and the scale of the norm before the output begins at (base / d)^head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WidthScaling {
    /// The width at which nothing is changed.
    pub base: u32,
    /// Exponent of the learning rate; 0 leaves it as it is.
    #[serde(default = "WidthScaling::default_lr")]
    pub lr: f64,
    /// Exponent of the norm's scale; 0 begins at 1 as without it.
    #[serde(default = "WidthScaling::default_head")]
    pub head: f64,
}

impl WidthScaling {
    fn default_lr() -> f64 {
        1.0
    }
    fn default_head() -> f64 {
        0.5
    }

    /// What the learning rate and the norm's scale are multiplied by in a model of a width.
    pub fn factors(&self, width: u32) -> [f64; 2] {
        let ratio = f64::from(self.base) / f64::from(width);
        [ratio.powf(self.lr), ratio.powf(self.head)]
    }
}

/// Ends training before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Training ends at the first evaluation whose excess loss is this or less, in nats.
    pub excess: f64,
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
    /// { excess = 0.006 }: ends training at the first evaluation (`evaluate_every`) whose exact excess loss is this or
    /// less. Left out: takes all `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
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
    /// { base = 16, lr = 1.0, head = 0.5 }: multiplies the learning rate by (base / width)^lr, and begins with a scale
    /// of the norm before the output of (base / width)^head. Left out: neither depends on the width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<WidthScaling>,
    /// Beside the optimiser's step: { kind = "plain" }, which is nothing, { kind = "label-noise", probability },
    /// { kind = "sam", rho, norm } or { kind = "adversarial", task, weight, ... }. Left out: plain.
    #[serde(skip_serializing_if = "AlgorithmKind::is_plain")]
    pub algorithm: AlgorithmKind,
    /// { kind = "linear" | "constant" | "cosine", warmup = share of the steps }, or { kind = "wsd", warmup, decay =
    /// share of the steps, the last ones, floor = share of the peak }.
    pub schedule: ScheduleKind,
    /// β of an exponential average of the weights, as 0.999: the mean of those behind each step so far, step i of t
    /// weighing β^(t - i). It becomes a model of its own, `model-ema`, with an evaluation of its own. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
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
    /// { from = folder of a run, step = N }: begins behind step N of another run, as a branch of it, with its weights
    /// and moments and at its place in the data. `steps`, and the shares of a schedule, count from the other's
    /// beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<Branch>,
    /// Steps between evaluations; 0 evaluates at the end only.
    pub evaluate_every: u64,
}

impl Default for TrainSection {
    fn default() -> Self {
        TrainSection {
            steps: 2000,
            stop: None,
            sentences: None,
            batch_size: 256,
            micro_batch: None,
            fitted: None,
            optimizer: OptimizerKind::AdamW(AdamW::default()),
            width: None,
            algorithm: AlgorithmKind::default(),
            schedule: ScheduleKind::Linear(Warmup::default()),
            ema: None,
            clip: 0.0,
            precision: Precision::F32,
            loss_scale: None,
            recompute: false,
            checkpoint_every: 500,
            keep_checkpoints: 3,
            start_from: None,
            branch: None,
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

    /// Peak learning rate of a model of a width.
    pub fn peak_lr(&self, width: u32) -> f64 {
        self.optimizer.lr() * self.width.map_or(1.0, |scaling| scaling.factors(width)[0])
    }

    /// The step that the run begins at.
    pub fn first_step(&self) -> u64 {
        self.branch.as_ref().map_or(0, |branch| branch.step)
    }

    /// Names what cannot be about when training begins and ends, with the key it stands at.
    pub(super) fn check_course(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((format!("train.{key}"), message));
        self.schedule.check()?;
        if let Some(WidthScaling { base, lr, head }) = self.width {
            if base == 0 {
                return bad("width.base", "must be at least 1: the width at which nothing is changed".into());
            }
            for (key, exponent) in [("width.lr", lr), ("width.head", head)] {
                if !exponent.is_finite() {
                    return bad(key, format!("{exponent} must be a number, as 1.0 or 0.5"));
                }
            }
            if head != 0.0 && self.start_from.is_some() {
                return bad("width.head", "is about new weights; set it to 0 with `train.start_from`".into());
            }
        }
        if let Some(ema) = self.ema
            && !(ema > 0.0 && ema < 1.0)
        {
            return bad("ema", format!("{ema} must lie between 0 and 1, as 0.999; leave it out for no average"));
        }
        if let Some(Stop { excess }) = self.stop {
            if !(excess > 0.0 && excess.is_finite()) {
                return bad("stop.excess", format!("{excess} must be positive, in nats"));
            }
            if self.evaluate_every == 0 {
                return bad("stop", "looks at evaluations on the way; set `train.evaluate_every`".into());
            }
        }
        if let Some(branch) = &self.branch {
            if self.start_from.is_some() {
                return bad("branch", "brings its weights along; leave out `train.start_from`".into());
            }
            if self.steps <= branch.step {
                let message = format!("{} leaves nothing to train behind step {}", self.steps, branch.step);
                return bad("steps", format!("{message}, where `train.branch` begins; they count from the other's 0"));
            }
        }
        Ok(())
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
