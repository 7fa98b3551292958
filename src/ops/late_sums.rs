//! Sums of blocks that nothing in a plan waits for, as those of a norm's gradients: they are added up behind its last
//! node, many in one dispatch. Their blocks lie one after another in memory of their own. Shader:
//! `shaders/late_sums.wgsl`.

use std::ops::Range;

use super::Scratch;
use super::column_sum::SUMS;
use super::layer_norm_scale::{BETA_SUMS, GAMMA_SUMS};
use super::linear_lowering::SPLITS;
use crate::gpu::{Buffer, Count, Dispatch, Grid, Kernel};
use crate::kernels::late_sums as kernel;

/// Jobs that a dispatch has parameters for.
const JOBS: usize = 64;

/// A sum over blocks of rows.
pub(crate) struct LateSum {
    /// Where the sum goes.
    pub out: Buffer,
    /// The bytes of the blocks' sums.
    pub part: Range<u64>,
    /// vec4 of a block's sum.
    pub size4: u32,
    /// The rows, and how many are a block.
    pub rows: Count,
    /// Rows of a block.
    pub block: u32,
}

/// Whether a piece of scratch memory holds sums of blocks that may wait.
pub(crate) fn may_wait(piece: Scratch) -> bool {
    [SPLITS, SUMS, GAMMA_SUMS, BETA_SUMS].contains(&piece)
}

/// The dispatches of sums, as many at once as go to one allocation, within `binding` bytes of one another; `window`
/// gives the memory of some bytes of their blocks.
pub(crate) fn dispatches(sums: Vec<LateSum>, window: &dyn Fn(Range<u64>) -> Buffer, binding: u64) -> Vec<Dispatch> {
    let mut groups: Vec<Vec<LateSum>> = Vec::new();
    for sum in sums {
        let room = |group: &Vec<LateSum>| {
            let all: Vec<&LateSum> = group.iter().chain([&sum]).collect();
            let outs: Vec<&Buffer> = all.iter().map(|s| &s.out).collect();
            let near = Buffer::spanning(&outs).is_some_and(|span| span.bytes() <= binding);
            let part = spanned(all.into_iter());
            group.len() < JOBS && near && part.end - part.start <= binding
        };
        match groups.iter_mut().find(|group| room(group)) {
            Some(group) => group.push(sum),
            None => groups.push(vec![sum]),
        }
    }
    groups.into_iter().map(|group| dispatch(&group, window)).collect()
}

/// The bytes that hold the blocks of all.
fn spanned<'a>(sums: impl Iterator<Item = &'a LateSum> + Clone) -> Range<u64> {
    let first = sums.clone().map(|s| s.part.start).min().unwrap_or(0);
    first..sums.map(|s| s.part.end).max().unwrap_or(first)
}

fn dispatch(group: &[LateSum], window: &dyn Fn(Range<u64>) -> Buffer) -> Dispatch {
    let part = spanned(group.iter());
    let outs: Vec<&Buffer> = group.iter().map(|s| &s.out).collect();
    let out = Buffer::spanning(&outs).expect("sums of one allocation");
    let mut params = kernel::Params { places: [[u32::MAX, 0, 0, 0]; JOBS], ..Default::default() };
    let mut workgroups = 0;
    for (job, sum) in group.iter().enumerate() {
        let to = ((sum.out.offset() - out.offset()) / 16) as u32;
        params.places[job] = [workgroups, ((sum.part.start - part.start) / 16) as u32, to, sum.size4];
        params.blocks[job] = [sum.rows.code(), sum.rows.fixed(), sum.block, 0];
        workgroups += sum.size4.div_ceil(64);
    }
    let grid = Grid { count: Count::Fixed(workgroups), unit: 1, columns: 1, layers: 1 };
    let sums = kernel::Forward { part: window(part), out, params };
    sums.dispatch(format!("{} late sums", group.len()), grid)
}
