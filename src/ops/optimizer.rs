//! What happens to a gradient: accumulation over micro-batches, its norm, clipping, AdamW and SGD; for sharpness-aware
//! minimisation a step up along it and back; and the average of the parameters behind it. Not an operation of the graph
//! but programs of their own, over whole chunks. AdamW's dispatch is in `adamw.rs`. Shader: `shaders/optimizer.wgsl`.

use super::{Variants, adamw};
use crate::gpu::{Buffer, Count, Dispatch, Grid, Kernel};
use crate::kernels::optimizer as kernel;

/// One chunk of parameters with all that belongs to it.
pub struct ChunkBuffers {
    pub theta: Buffer,
    pub gradient: Buffer,
    /// AdamW's first moment, or SGD's momentum.
    pub first: Option<Buffer>,
    /// AdamW's second moment.
    pub second: Option<Buffer>,
    /// vec4 in each.
    pub size4: u32,
    /// To how many of them, from the begin, weight decay applies.
    pub decayed4: u32,
}

/// The update's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `rests` are 1 − `betas` before those were rounded.
    AdamW {
        betas: [f32; 2],
        rests: [f32; 2],
        eps: f32,
        decay: f32,
    },
    Sgd {
        momentum: f32,
        decay: f32,
    },
}

/// What the update reads and writes beside the chunks.
pub struct Shared {
    /// (Σ loss, Σ weight, Σ divergence, 0) of the step.
    pub tally: Buffer,
    /// (clipping factor, 1 after something was not finite, its step as bits, the gradient's norm)
    pub state: Buffer,
    /// One line per step: (loss, gradient norm, 1 when bad, step as bits).
    pub log: Buffer,
    /// Lines in the log before it starts again.
    pub ring: u32,
    /// Sums of squares by block; see [`square_blocks`].
    pub squares: Buffer,
    /// Lanes of a subgroup where AdamW of so many vec4 stores a lane's results after another's.
    pub apart: Option<(u32, u64)>,
}

/// As many vec4 as a narrow model of a few layers has; with fewer the kernel takes longer to be ready than it gains.
const LEAST_APART: u64 = 1 << 13;

/// [`Shared::apart`] as a device's other kernels store.
pub fn apart(variants: &Variants) -> Option<(u32, u64)> {
    variants.lanes_apart().map(|(lanes, least)| (lanes, least.min(LEAST_APART)))
}

/// vec4 of gradient that one workgroup squares and sums.
const BLOCK: u32 = 4096;

/// Blocks of all chunks.
pub fn square_blocks(sizes4: impl Iterator<Item = u32>) -> u32 {
    sizes4.map(|s| s.div_ceil(BLOCK)).sum()
}

pub(super) fn flat(size4: u32) -> Grid {
    Grid { count: Count::Fixed(size4), unit: 64, columns: 1, layers: 1 }
}

/// Parameters that only say how many vec4 there are.
fn sized(size4: u32) -> kernel::Params {
    kernel::Params { size4, ..Default::default() }
}

/// sum ← gradient after the first micro-batch of a step, sum + gradient after the others.
pub fn accumulate(label: &str, gradient: &Buffer, sum: &Buffer, size4: u32) -> Dispatch {
    let accumulate = kernel::Accumulate { g: gradient.clone(), sum: sum.clone(), params: sized(size4) };
    accumulate.dispatch(format!("{label}.accumulate"), flat(size4))
}

/// The norm of the gradient, the step's log line, and the state that an update or an ascent reads.
///
/// The losses were weighted by `scale`, a power of two, and so the gradient is as much too large: the update, the norm
/// and the log divide by it, which changes no bit.
pub fn measure_gradient(clip: f32, scale: f32, chunks: &[ChunkBuffers], shared: &Shared) -> Vec<Dispatch> {
    let mut all = Vec::new();
    let mut first = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        let square_sum = kernel::SquareSum {
            g: chunk.gradient.clone(),
            squares: shared.squares.clone(),
            params: kernel::Params { first, block: BLOCK, ..sized(chunk.size4) },
        };
        let grid = Grid { count: Count::Fixed(chunk.size4), unit: BLOCK, columns: 1, layers: 1 };
        all.push(square_sum.dispatch(format!("gradient norm {i}"), grid));
        first += chunk.size4.div_ceil(BLOCK);
    }
    let settle = kernel::Settle {
        parts: shared.squares.clone(),
        tally: shared.tally.clone(),
        state: shared.state.clone(),
        log: shared.log.clone(),
        params: kernel::Params { first, ring: shared.ring, clip, unscale: 1.0 / scale, ..Default::default() },
    };
    all.push(settle.dispatch("settle".into(), Grid { count: Count::Fixed(1), unit: 1, columns: 1, layers: 1 }));
    all
}

/// saved ← θ, θ ← θ + rho g / ‖g‖, by the norm that [`measure_gradient`] left; θ stays where something was not finite.
pub fn ascend(rho: f32, scale: f32, chunks: &[ChunkBuffers], saved: &[Buffer], shared: &Shared) -> Vec<Dispatch> {
    let one = |(i, (chunk, saved)): (usize, (&ChunkBuffers, &Buffer))| {
        let ascend = kernel::Ascend {
            g: chunk.gradient.clone(),
            settled: shared.state.clone(),
            theta: chunk.theta.clone(),
            saved: saved.clone(),
            params: kernel::Params { rho, unscale: 1.0 / scale, ..sized(chunk.size4) },
        };
        ascend.dispatch(format!("ascend {i}"), flat(chunk.size4))
    };
    chunks.iter().zip(saved).enumerate().map(one).collect()
}

/// θ ← saved, bit for bit.
pub fn descend(chunks: &[ChunkBuffers], saved: &[Buffer]) -> Vec<Dispatch> {
    let one = |(i, (chunk, saved)): (usize, (&ChunkBuffers, &Buffer))| {
        let params = sized(chunk.size4);
        let descend = kernel::Descend { theta: chunk.theta.clone(), saved: saved.clone(), params };
        descend.dispatch(format!("descend {i}"), flat(chunk.size4))
    };
    chunks.iter().zip(saved).enumerate().map(one).collect()
}

/// The update of parameters and moments by the gradient that [`measure_gradient`] looked at.
pub fn apply(rule: Rule, chunks: &[ChunkBuffers], shared: &Shared) -> Vec<Dispatch> {
    let one = |(i, chunk): (usize, &ChunkBuffers)| {
        let decayed4 = chunk.decayed4;
        match rule {
            Rule::AdamW { betas: [beta1, beta2], rests: [rest1, rest2], eps, decay } => {
                let numbers = adamw::Params { size4: chunk.size4, beta1, beta2, rest1, rest2, eps, decay, decayed4 };
                adamw::dispatch(i, chunk, shared, numbers)
            }
            Rule::Sgd { momentum, decay } => {
                let params = kernel::Params { momentum, decay, decayed4, ..sized(chunk.size4) };
                let sgd = kernel::Sgd {
                    g: chunk.gradient.clone(),
                    settled: shared.state.clone(),
                    theta: chunk.theta.clone(),
                    first_moment: chunk.first.clone(),
                    params,
                };
                sgd.dispatch(format!("sgd {i}"), flat(chunk.size4))
            }
        }
    };
    chunks.iter().enumerate().map(one).collect()
}

/// averaged ← averaged + w (θ − averaged), w the step's [`average_weight`]; nothing where something was not finite.
pub fn average(chunks: &[ChunkBuffers], averaged: &[Buffer], shared: &Shared) -> Vec<Dispatch> {
    let one = |(i, (chunk, averaged)): (usize, (&ChunkBuffers, &Buffer))| {
        let average = kernel::Average {
            settled: shared.state.clone(),
            theta: chunk.theta.clone(),
            averaged: averaged.clone(),
            params: sized(chunk.size4),
        };
        average.dispatch(format!("average {i}"), flat(chunk.size4))
    };
    chunks.iter().zip(averaged).enumerate().map(one).collect()
}

/// What the newest weights weigh in an exponential average of decay `beta` that has `taken` weights before them:
/// (1 − β) / (1 − β^t), t = `taken` + 1. The first weigh all.
pub fn average_weight(beta: f64, taken: u64) -> f64 {
    (1.0 - beta) / (1.0 - beta.powf((taken + 1) as f64))
}
