//! An optimiser as one unit: the rule, the chunks it works on, what it keeps beside them, and the numbers of each step.
//! The dispatches are those of [`optimizer`](super::optimizer); the f64 twin is
//! [`reference::optimizer`](crate::reference::optimizer).

use super::block_ascent::{self, Climbed, Segment};
use super::optimizer::{self, ChunkBuffers, Rule, Shared};
use super::{Device, statistics};
use crate::gpu::{Buffer, Dispatch, Gpu, GpuError};

/// An update rule and its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// Loshchilov and Hutter 2019; `decay` applies to matrices.
    AdamW {
        /// Decay of the two moments in a step.
        betas: [f64; 2],
        /// Added to the root of the second moment.
        eps: f64,
        /// Weight decay, multiplied by the learning rate.
        decay: f64,
    },
    /// As torch.optim.SGD, without dampening.
    Sgd {
        /// Share of the last update that is kept.
        momentum: f64,
        /// Weight decay, added to the gradient.
        decay: f64,
    },
}

impl UpdateRule {
    /// AdamW with the constants of torch.optim.AdamW.
    pub const ADAMW: UpdateRule = UpdateRule::AdamW { betas: [0.9, 0.999], eps: 1e-8, decay: 0.01 };

    /// Moments that it keeps of each parameter.
    pub fn moments(self) -> usize {
        match self {
            UpdateRule::AdamW { .. } => 2,
            UpdateRule::Sgd { momentum, .. } => usize::from(momentum > 0.0),
        }
    }

    /// What the kernels read of a step with learning rate `lr`, after `taken` steps: (lr, 1 − β₁ᵗ, 1 − β₂ᵗ, 1 on the
    /// first step), and zeros.
    pub fn numbers(self, taken: u64, lr: f64) -> [f32; 8] {
        let t = (taken + 1) as f64;
        let corrections = match self {
            UpdateRule::AdamW { betas, .. } => betas.map(|b| (1.0 - b.powf(t)) as f32),
            UpdateRule::Sgd { .. } => [1.0; 2],
        };
        let first = if taken == 0 { 1.0 } else { 0.0 };
        [lr as f32, corrections[0], corrections[1], first, 0.0, 0.0, 0.0, 0.0]
    }

    fn rounded(self) -> Rule {
        match self {
            UpdateRule::AdamW { betas, eps, decay } => Rule::AdamW {
                betas: betas.map(|b| b as f32),
                rests: betas.map(|b| (1.0 - b) as f32),
                eps: eps as f32,
                decay: decay as f32,
            },
            UpdateRule::Sgd { momentum, decay } => Rule::Sgd { momentum: momentum as f32, decay: decay as f32 },
        }
    }
}

/// What is done to a gradient before the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    /// The norm to which a longer gradient is cut; 0 for none.
    pub clip: f32,
    /// What the losses were multiplied by: a power of two, taken off again without changing a bit.
    pub scale: f32,
}

impl Treatment {
    /// Neither clipped nor scaled.
    pub const PLAIN: Treatment = Treatment { clip: 0.0, scale: 1.0 };
}

/// The update of some chunks of parameters, and what it keeps on the adapter.
pub struct Optimizer {
    rule: UpdateRule,
    treatment: Treatment,
    chunks: Vec<ChunkBuffers>,
    shared: Shared,
}

impl Optimizer {
    /// Allocates the tally of the losses, the state, a log of `ring` lines and the sums of squares.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(
        Device { gpu, variants }: &Device,
        rule: UpdateRule,
        treatment: Treatment,
        chunks: Vec<ChunkBuffers>,
        ring: u32,
    ) -> Result<Optimizer, GpuError> {
        let blocks = optimizer::square_blocks(chunks.iter().map(|c| c.size4));
        let shared = Shared {
            tally: gpu.buffer("the tally", 16)?,
            state: gpu.buffer("the optimiser's state", 16)?,
            log: gpu.buffer("the log", u64::from(ring) * 16)?,
            ring,
            squares: gpu.buffer("the squares", u64::from(blocks) * 16)?,
            apart: optimizer::apart(variants),
        };
        Ok(Optimizer { rule, treatment, chunks, shared })
    }

    /// Adds a batch's losses to the step's tally.
    pub fn tally(&self, stat: &Buffer, weight: &Buffer) -> Dispatch {
        statistics::tally(stat, weight, &self.shared.tally)
    }

    /// The norm of the gradient, the step's log line, and the state that an update or an ascent reads.
    pub fn measure_gradient(&self) -> Vec<Dispatch> {
        optimizer::measure_gradient(self.treatment.clip, self.treatment.scale, &self.chunks, &self.shared)
    }

    /// saved ← θ, θ ← θ + rho g / ‖g‖, by the norm that [`measure_gradient`](Self::measure_gradient) left.
    pub fn ascend(&self, rho: f32, saved: &[Buffer]) -> Vec<Dispatch> {
        optimizer::ascend(rho, self.treatment.scale, &self.chunks, saved, &self.shared)
    }

    /// saved ← θ, θ ← θ + ε scaled by blocks, `block_ascent::ascend`.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn ascend_blocks(
        &self,
        gpu: &Gpu,
        rho: f32,
        segments: &[Segment],
        saved: &[Buffer],
    ) -> Result<Vec<Dispatch>, GpuError> {
        let one = |(chunk, saved): (&ChunkBuffers, &Buffer)| Climbed {
            theta: chunk.theta.clone(),
            gradient: chunk.gradient.clone(),
            saved: saved.clone(),
        };
        let chunks: Vec<Climbed> = self.chunks.iter().zip(saved).map(one).collect();
        block_ascent::ascend(gpu, rho, segments, &chunks, &self.shared.state)
    }

    /// θ ← saved.
    pub fn descend(&self, saved: &[Buffer]) -> Vec<Dispatch> {
        optimizer::descend(&self.chunks, saved)
    }

    /// The update of parameters and moments by the gradient that [`measure_gradient`](Self::measure_gradient) looked
    /// at.
    pub fn apply(&self) -> Vec<Dispatch> {
        optimizer::apply(self.rule.rounded(), &self.chunks, &self.shared)
    }

    /// averaged ← averaged + w (θ − averaged), with the w that [`numbers`](Self::numbers) gave.
    pub fn average(&self, averaged: &[Buffer]) -> Vec<Dispatch> {
        optimizer::average(&self.chunks, averaged, &self.shared)
    }

    /// Norm, log line and update.
    pub fn update(&self) -> Vec<Dispatch> {
        let mut all = self.measure_gradient();
        all.extend(self.apply());
        all
    }

    /// What the kernels read of a step; see [`UpdateRule::numbers`].
    pub fn numbers(&self, taken: u64, lr: f64) -> [f32; 8] {
        self.rule.numbers(taken, lr)
    }

    /// (clipping factor, 1 after something was not finite, its step as bits, the gradient's norm)
    pub fn state(&self) -> &Buffer {
        &self.shared.state
    }

    /// One line per step: (loss, gradient norm, 1 when bad, step as bits).
    pub fn log(&self) -> &Buffer {
        &self.shared.log
    }
}
