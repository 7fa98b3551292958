//! Sums of blocks of rows, added up in order: the second half of every long sum. Shader: `shaders/reduce.wgsl`.

use super::late_sums::LateSum;
use super::{Dims, Family, Lowering, Scratch, Sizes, TensorId};
use crate::gpu::{Buffer, Count, Grid};
use crate::kernels::reduce as kernel;

/// Where the sums of blocks go: the output itself when there is one block, else a workspace.
pub(super) struct Blocks {
    pub target: Buffer,
    /// vec4 between probes in `target`.
    pub layer: u32,
    rows: Count,
    block: u32,
    size4: u32,
    out: TensorId,
    addend: Option<TensorId>,
    single: bool,
    scratch: Scratch,
}

/// Bytes of workspace for sums of `size4` vec4 over blocks of `rows`, 0 when one block holds them all.
pub(super) fn workspace(dims: &Dims, rows: Count, block: u32, size4: u64, layers: u32, addend: bool) -> u64 {
    let blocks = dims.capacity(rows).div_ceil(block);
    if blocks <= 1 && !addend { 0 } else { u64::from(blocks) * size4 * 16 * u64::from(layers) }
}

/// Bytes of workspace for sums of a matrix's columns as long as variants say, into `out`.
pub(super) fn column_workspace(sizes: &Sizes<'_>, x: TensorId, out: TensorId) -> u64 {
    let (x, layers) = (sizes.tensor(x), sizes.layers(out));
    workspace(sizes.dims, x.rows, sizes.variants.sums().block, u64::from(x.cols4()), layers, false)
}

/// Invocations of a workgroup that sums rows, each a vec4 of columns: one subgroup where products are
/// summed so too.
pub(super) fn lanes(cx: &Lowering<'_>) -> u32 {
    cx.variants.linear(Family::LinearTn).lanes().unwrap_or(8)
}

/// Prepares sums of `size4` vec4 over blocks of rows, into `out`; several blocks go to the node's `scratch` first.
pub(super) fn blocks(
    cx: &Lowering<'_>,
    rows: Count,
    block: u32,
    size4: u64,
    out: TensorId,
    addend: Option<TensorId>,
    scratch: Scratch,
) -> Blocks {
    let count = cx.dims.capacity(rows).div_ceil(block);
    let single = workspace(cx.dims, rows, block, size4, 1, addend.is_some()) == 0;
    let target = if single { cx.buffer(out) } else { cx.scratch(scratch) };
    let layer = if single { cx.layer(out) } else { count * size4 as u32 };
    Blocks { target, layer, rows, block, size4: size4 as u32, out, addend, single, scratch }
}

impl Blocks {
    /// Adds the blocks up, where there is more than one.
    pub fn finish(self, cx: &mut Lowering<'_>) {
        self.add_up(None, cx);
    }

    /// Adds the blocks of this sum up and of another, if there is one, in one dispatch; both over the same blocks and
    /// with as many probes.
    pub fn finish_with(self, also: Option<Blocks>, cx: &mut Lowering<'_>) {
        let alike = |also: &Blocks| (self.rows, self.block, self.single) == (also.rows, also.block, also.single);
        assert!(also.as_ref().is_none_or(alike), "sums over the same blocks");
        self.add_up(also, cx);
    }

    /// The same at the end of the plan.
    fn late(&self, cx: &Lowering<'_>, first: u64) -> LateSum {
        let blocks = u64::from(cx.dims.capacity(self.rows).div_ceil(self.block));
        let part = first..first + blocks * u64::from(self.size4) * 16;
        LateSum { out: cx.buffer(self.out), part, size4: self.size4, rows: self.rows, block: self.block }
    }

    fn add_up(self, also: Option<Blocks>, cx: &mut Lowering<'_>) {
        if self.single {
            return;
        }
        if let Some(first) = (cx.late)(self.scratch) {
            assert!(self.addend.is_none(), "an addend may be gone when late sums are added up");
            let late = self.late(cx, first);
            cx.sums.push(late);
            if let Some(also) = also {
                let first = (cx.late)(also.scratch).expect("the sums of a node wait together");
                let late = also.late(cx, first);
                cx.sums.push(late);
            }
            return;
        }
        let constants = kernel::Constants { addend: self.addend.is_some(), also: also.is_some() };
        let mut params = kernel::Params {
            code: self.rows.code(),
            fixed: self.rows.fixed(),
            block: self.block,
            size4: self.size4,
            in_layer: self.layer,
            out_layer: cx.layer(self.out),
            ..Default::default()
        };
        let mut size4 = self.size4;
        if let Some(also) = &also {
            size4 += also.size4;
            params.also_size4 = also.size4;
            params.also_in_layer = also.layer;
            params.also_layer = cx.layer(also.out);
        }
        let reduce = kernel::Forward {
            part: self.target,
            addend: self.addend.map(|id| cx.buffer(id)),
            out: cx.buffer(self.out),
            also: also.as_ref().map(|also| cx.buffer(also.out)),
            also_part: also.map(|also| also.target),
            params,
            constants,
        };
        let grid = Grid { count: Count::Fixed(size4), unit: 64, columns: 1, layers: cx.layers(self.out) };
        cx.push(reduce, format!("{}.reduce", cx.name(self.out)), grid);
    }
}
