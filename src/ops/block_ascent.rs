//! The ascent of sharpness-aware minimisation scaled by blocks of parameters. Not an operation of the graph but
//! programs over whole chunks. Shader: `shaders/block_ascent.wgsl`.

use crate::gpu::{Buffer, Count, Dispatch, Gpu, GpuError, Grid, Kernel};
use crate::kernels::block_ascent as kernel;

/// A run of memory that belongs to one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The chunk that it lies in.
    pub chunk: usize,
    /// Its first vec4 there.
    pub first4: u32,
    /// vec4 in it.
    pub size4: u32,
    /// Number of its block.
    pub block: u32,
    /// Whether each entry is a block of its own.
    pub single: bool,
}

/// A chunk of parameters with its gradient and with room for what the parameters were.
pub struct Climbed {
    pub theta: Buffer,
    pub gradient: Buffer,
    pub saved: Buffer,
}

/// Which is which in a segment's block; as in the shader.
const SINGLE: u32 = 1 << 31;

/// Bytes that the tables and sums of an ascent take.
pub fn bytes(segments: usize, blocks: usize) -> u64 {
    32 * segments as u64 + 32 * blocks as u64
}

fn grid(count: u32) -> Grid {
    Grid { count: Count::Fixed(count), unit: 1, columns: 1, layers: 1 }
}

/// saved ← θ and θ ← θ + ε, by the state that the optimiser's measure of the gradient left; θ stays where something was
/// not finite. `segments` are all of the parameters' memory that is no padding, those of a block one after another.
///
/// # Errors
/// What the adapter says.
pub fn ascend(
    gpu: &Gpu,
    rho: f32,
    segments: &[Segment],
    chunks: &[Climbed],
    state: &Buffer,
) -> Result<Vec<Dispatch>, GpuError> {
    let mut blocks: Vec<[u32; 4]> = Vec::new();
    let mut by_chunk: Vec<Vec<[u32; 4]>> = vec![Vec::new(); chunks.len()];
    for (place, segment) in segments.iter().enumerate() {
        if segment.block as usize == blocks.len() {
            blocks.push([place as u32, 0, u32::from(segment.single), 0]);
        }
        blocks[segment.block as usize][1] += 1;
        let block = segment.block | if segment.single { SINGLE } else { 0 };
        by_chunk[segment.chunk].push([segment.first4, segment.size4, place as u32, block]);
    }
    let table = |label: &str, rows: &[[u32; 4]]| {
        let buffer = gpu.buffer(label, 16 * rows.len().max(1) as u64)?;
        gpu.write(&buffer, rows);
        Ok::<Buffer, GpuError>(buffer)
    };
    let parts = gpu.buffer("the sums of segments", 16 * segments.len() as u64)?;
    let scales = gpu.buffer("the scales of blocks", 16 * blocks.len() as u64)?;
    let norm = gpu.buffer("the length of the ascent", 16)?;
    let (mut squares, mut ascents) = (Vec::new(), Vec::new());
    for (i, (rows, chunk)) in by_chunk.iter().zip(chunks).enumerate().filter(|(_, (rows, _))| !rows.is_empty()) {
        let segments = table("segments of blocks", rows)?;
        let params = kernel::Params { count: rows.len() as u32, rho };
        let square = kernel::Squares {
            segments: segments.clone(),
            g: chunk.gradient.clone(),
            weights: chunk.theta.clone(),
            parts: parts.clone(),
            params,
        };
        squares.push(square.dispatch(format!("block squares {i}"), grid(params.count)));
        let ascend = kernel::Ascend {
            segments,
            g: chunk.gradient.clone(),
            settled: state.clone(),
            theta: chunk.theta.clone(),
            saved: chunk.saved.clone(),
            length: norm.clone(),
            scaled: scales.clone(),
            params,
        };
        ascents.push(ascend.dispatch(format!("block ascent {i}"), grid(params.count)));
    }
    let params = kernel::Params { count: blocks.len() as u32, rho };
    let scale = kernel::Scale { blocks: table("blocks", &blocks)?, summed: parts, scales: scales.clone(), params };
    let whole = kernel::Whole { scaled: scales, norm, params };
    squares.push(scale.dispatch("block scales".into(), grid(params.count)));
    squares.push(whole.dispatch("length of the ascent".into(), grid(1)));
    squares.extend(ascents);
    Ok(squares)
}
