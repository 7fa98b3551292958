//! Sums of blocks of rows, added up in order: the second half of every long sum. Shader: `shaders/reduce.wgsl`.

use super::{Dims, Lowering, TensorId};
use crate::gpu::{Buffer, Count, Dispatch, Grid};

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
}

/// Bytes of workspace for sums of `size4` vec4 over blocks of `rows`, 0 when one block holds them all.
pub(super) fn workspace(dims: &Dims, rows: Count, block: u32, size4: u64, layers: u32, addend: bool) -> u64 {
    let blocks = dims.capacity(rows).div_ceil(block);
    if blocks <= 1 && !addend { 0 } else { u64::from(blocks) * size4 * 16 * u64::from(layers) }
}

/// Prepares sums of `size4` vec4 over blocks of rows, into `out`.
pub(super) fn blocks(
    cx: &mut Lowering<'_>,
    rows: Count,
    block: u32,
    size4: u64,
    out: TensorId,
    addend: Option<TensorId>,
) -> Blocks {
    let count = cx.dims.capacity(rows).div_ceil(block);
    let single = workspace(cx.dims, rows, block, size4, 1, addend.is_some()) == 0;
    let target = if single { cx.buffer(out) } else { cx.workspace() };
    let layer = if single { cx.layer(out) } else { count * size4 as u32 };
    Blocks { target, layer, rows, block, size4: size4 as u32, out, addend, single }
}

impl Blocks {
    /// Adds the blocks up, where there is more than one.
    pub fn finish(self, cx: &mut Lowering<'_>) {
        if self.single {
            return;
        }
        let mut buffers = vec![("part", self.target), ("out", cx.buffer(self.out))];
        if let Some(addend) = self.addend {
            buffers.push(("addend", cx.buffer(addend)));
        }
        let dispatch = Dispatch {
            label: format!("{}.reduce", cx.graph.tensor(self.out).name),
            kernel: "reduce",
            entry: "forward",
            constants: vec![],
            buffers,
            params: vec![
                ("code", self.rows.code()),
                ("fixed", self.rows.fixed()),
                ("block", self.block),
                ("size4", self.size4),
                ("in_layer", self.layer),
                ("out_layer", cx.layer(self.out)),
                ("add", u32::from(self.addend.is_some())),
            ],
            grid: Grid { count: Count::Fixed(self.size4), unit: 64, columns: 1, layers: cx.layers(self.out) },
        };
        cx.push(dispatch);
    }
}
