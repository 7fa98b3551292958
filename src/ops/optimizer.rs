//! What happens to a gradient: accumulation over micro-batches, its norm, clipping, AdamW and SGD; for sharpness-aware
//! minimisation a step up along it and back. Not an operation of the graph but programs of their own, over whole chunks.
//! Shader: `shaders/optimizer.wgsl`.

use crate::gpu::{Buffer, Count, Dispatch, Grid};

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
    pub decay: bool,
}

/// The update's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    AdamW { betas: [f32; 2], eps: f32, decay: f32 },
    Sgd { momentum: f32, decay: f32 },
}

/// What the update reads and writes beside the chunks.
pub struct Shared {
    /// (Σ loss, Σ weight, Σ divergence, 0) of the step.
    pub tally: Buffer,
    /// (clipping factor, 1 after something was not finite, its step as bits, the gradient's norm)
    pub state: Buffer,
    /// A line a step: (loss, gradient norm, 1 when bad, step as bits).
    pub log: Buffer,
    /// Lines in the log before it starts again.
    pub ring: u32,
    /// Sums of squares by block; see [`square_blocks`].
    pub squares: Buffer,
}

/// vec4 of gradient that one workgroup squares and sums.
const BLOCK: u32 = 4096;

/// Blocks of all chunks.
pub fn square_blocks(sizes4: impl Iterator<Item = u32>) -> u32 {
    sizes4.map(|s| s.div_ceil(BLOCK)).sum()
}

fn flat(size4: u32) -> Grid {
    Grid { count: Count::Fixed(size4), unit: 64, columns: 1, layers: 1 }
}

/// sum ← gradient after the first micro-batch of a step, sum + gradient after the others.
pub fn accumulate(label: &str, gradient: &Buffer, sum: &Buffer, size4: u32) -> Dispatch {
    Dispatch {
        label: format!("{label}.accumulate"),
        kernel: "optimizer",
        entry: "accumulate",
        constants: vec![],
        buffers: vec![("g", gradient.clone()), ("sum", sum.clone())],
        params: vec![("size4", size4)],
        grid: flat(size4),
    }
}

/// The norm of the gradient, the step's log line, and the state that an update or an ascent reads.
///
/// The losses were weighted by `scale`, a power of two, and so the gradient is as much too large: the update, the norm and
/// the log divide by it, which changes no bit.
pub fn settle(clip: f32, scale: f32, chunks: &[ChunkBuffers], shared: &Shared) -> Vec<Dispatch> {
    let mut all = Vec::new();
    let mut first = 0;
    for (i, chunk) in chunks.iter().enumerate() {
        all.push(Dispatch {
            label: format!("gradient norm {i}"),
            kernel: "optimizer",
            entry: "square_sum",
            constants: vec![],
            buffers: vec![("g", chunk.gradient.clone()), ("squares", shared.squares.clone())],
            params: vec![("size4", chunk.size4), ("first", first), ("block", BLOCK)],
            grid: Grid { count: Count::Fixed(chunk.size4), unit: BLOCK, columns: 1, layers: 1 },
        });
        first += chunk.size4.div_ceil(BLOCK);
    }
    all.push(Dispatch {
        label: "settle".into(),
        kernel: "optimizer",
        entry: "settle",
        constants: vec![],
        buffers: vec![
            ("parts", shared.squares.clone()),
            ("tally", shared.tally.clone()),
            ("state", shared.state.clone()),
            ("log", shared.log.clone()),
        ],
        params: vec![
            ("first", first),
            ("ring", shared.ring),
            ("clip", clip.to_bits()),
            ("unscale", (1.0 / scale).to_bits()),
        ],
        grid: Grid { count: Count::Fixed(1), unit: 1, columns: 1, layers: 1 },
    });
    all
}

/// saved ← θ, θ ← θ + rho g / ‖g‖, by the norm that [`settle`] left; θ stays where something was not finite.
pub fn ascend(rho: f32, scale: f32, chunks: &[ChunkBuffers], saved: &[Buffer], shared: &Shared) -> Vec<Dispatch> {
    let one = |(i, (chunk, saved)): (usize, (&ChunkBuffers, &Buffer))| Dispatch {
        label: format!("ascend {i}"),
        kernel: "optimizer",
        entry: "ascend",
        constants: vec![],
        buffers: vec![
            ("g", chunk.gradient.clone()),
            ("settled", shared.state.clone()),
            ("theta", chunk.theta.clone()),
            ("saved", saved.clone()),
        ],
        params: vec![("size4", chunk.size4), ("rho", rho.to_bits()), ("unscale", (1.0 / scale).to_bits())],
        grid: flat(chunk.size4),
    };
    chunks.iter().zip(saved).enumerate().map(one).collect()
}

/// θ ← saved, bit for bit.
pub fn descend(chunks: &[ChunkBuffers], saved: &[Buffer]) -> Vec<Dispatch> {
    let one = |(i, (chunk, saved)): (usize, (&ChunkBuffers, &Buffer))| Dispatch {
        label: format!("descend {i}"),
        kernel: "optimizer",
        entry: "descend",
        constants: vec![],
        buffers: vec![("theta", chunk.theta.clone()), ("saved", saved.clone())],
        params: vec![("size4", chunk.size4)],
        grid: flat(chunk.size4),
    };
    chunks.iter().zip(saved).enumerate().map(one).collect()
}

/// The update of parameters and moments by the gradient that [`settle`] looked at.
pub fn apply(rule: Rule, chunks: &[ChunkBuffers], shared: &Shared) -> Vec<Dispatch> {
    let mut all = Vec::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let mut buffers =
            vec![("g", chunk.gradient.clone()), ("settled", shared.state.clone()), ("theta", chunk.theta.clone())];
        let mut params = vec![("size4", chunk.size4)];
        buffers.extend(chunk.first.iter().map(|b| ("first_moment", b.clone())));
        let entry = match rule {
            Rule::AdamW { betas, eps, decay } => {
                buffers.extend(chunk.second.iter().map(|b| ("second_moment", b.clone())));
                params.extend([("beta1", betas[0].to_bits()), ("beta2", betas[1].to_bits()), ("eps", eps.to_bits())]);
                params.push(("decay", if chunk.decay { decay.to_bits() } else { 0 }));
                "adamw"
            }
            Rule::Sgd { momentum, decay } => {
                params.push(("momentum", momentum.to_bits()));
                params.push(("decay", if chunk.decay { decay.to_bits() } else { 0 }));
                "sgd"
            }
        };
        all.push(Dispatch {
            label: format!("{entry} {i}"),
            kernel: "optimizer",
            entry,
            constants: vec![],
            buffers,
            params,
            grid: flat(chunk.size4),
        });
    }
    all
}
