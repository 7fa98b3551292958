//! How products become dispatches: the tiles of each variant, splits of long sums, windows of large matrices. Shader:
//! `shaders/linear.wgsl`.

use std::ops::Range;

use super::linear::{Epilogue, Layout, Linear};
use super::variant_table::stores_pairs;
use super::{
    Activation, Dims, Family, LinearVariant, Lowering, Node, Scratch, Sizes, Tensor, TensorId, Variants, column_sum,
    reduce,
};
use crate::gpu::Grid;
use crate::kernels::linear as kernel;

/// The splits' sums of a product over rows.
pub(super) const SPLITS: Scratch = Scratch("splits");

/// What one workgroup computes.
struct Shape {
    rows: u32,
    /// vec4 of columns.
    columns4: u32,
    /// Whether TN sums A's columns up on the way.
    sums: bool,
}

impl Shape {
    fn of(variant: LinearVariant) -> Shape {
        match variant {
            LinearVariant::Direct => Shape { rows: 32, columns4: 8, sums: false },
            LinearVariant::Tiled => Shape { rows: 64, columns4: 16, sums: false },
            LinearVariant::Cooperative(_) => Shape { rows: 64, columns4: 16, sums: false },
            LinearVariant::Register(block) => Shape { rows: block, columns4: block / 4, sums: false },
            LinearVariant::Subgroup(lanes) | LinearVariant::Uniform(lanes) => {
                Shape { rows: 4 * lanes, columns4: lanes, sums: true }
            }
        }
    }

    /// Rows of the depth that one split sums (TN): as the variants say, and fewer where C has few tiles, so that there
    /// is work for several cores; all where C has so many that splits only take memory.
    fn split(&self, dims: &Dims, variants: &Variants, a: &Tensor, c: &Tensor) -> u32 {
        let most = variants.sums().split;
        let tiles = a.cols.div_ceil(self.rows) * c.cols4().div_ceil(self.columns4);
        if tiles >= MANY_TILES {
            return dims.capacity(a.rows).next_multiple_of(4).max(most);
        }
        if variants.linear(Family::LinearTn).lanes().is_none() {
            return most;
        }
        let fair = (dims.capacity(a.rows) * tiles).div_ceil(ENOUGH_TILES).max(LEAST_SPLIT);
        most.min(fair.next_multiple_of(4))
    }
}

/// Workgroups that keep the cores of a software adapter busy to the end.
const ENOUGH_TILES: u32 = 16;
/// Workgroups that keep any adapter busy without splits: a table of 50,000 words and 384 columns in tiles of 64 x 64.
const MANY_TILES: u32 = 4096;
/// Rows below which another split costs more than it gains.
const LEAST_SPLIT: u32 = 256;

impl Linear {
    /// The splits' sums of a weight gradient, and of the gradient of a bias beside it.
    pub(super) fn split_sums(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        let Sizes { dims, variants, .. } = *sizes;
        let (a, out) = (sizes.tensor(node.inputs[0]), sizes.tensor(node.outputs[0]));
        let layers = |probes: bool| if probes { dims.probes } else { 1 };
        let split = self.shape(variants).split(dims, variants, a, out);
        let size4 = u64::from(a.cols) * u64::from(out.cols4());
        let mut wanted = vec![(SPLITS, reduce::workspace(dims, a.rows, split, size4, layers(out.probes), false))];
        if self.sums {
            let rows = if self.shape(variants).sums { split } else { variants.sums().block };
            let bytes = reduce::workspace(dims, a.rows, rows, u64::from(a.cols4()), layers(a.probes), false);
            wanted.push((column_sum::SUMS, bytes));
        }
        wanted
    }

    fn shape(&self, variants: &Variants) -> Shape {
        Shape::of(variants.linear(self.layout.family()))
    }

    /// C by rows of A: NT and NN. Each window of B's rows makes columns of C of its own (NT), or adds to C what its
    /// steps of the depth give (NN).
    pub(super) fn lower_rows(&self, cx: &mut Lowering<'_>, node: &Node) {
        let windows = cx.windows(node.inputs[1]);
        let last = windows.len() - 1;
        for (i, rows) in windows.into_iter().enumerate() {
            match self.layout {
                Layout::NN if last > 0 => {
                    let step = Linear {
                        bias: self.bias && i == 0,
                        epilogue: if i == last { self.epilogue } else { Epilogue::None },
                        ..*self
                    };
                    step.lower_window(cx, node, rows, i > 0);
                }
                _ => self.lower_window(cx, node, rows, false),
            }
        }
    }

    /// What a window of B's rows gives of C; `onto` what is there already instead of the node's addend.
    fn lower_window(&self, cx: &mut Lowering<'_>, node: &Node, rows_of_b: Range<u32>, onto: bool) {
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let count = cx.graph.tensor(a).rows;
        let dot = self.epilogue == Epilogue::Dot;
        // In `Dot` a column of the result stands for four of C.
        let cols4 = if dot { cx.graph.tensor(out).cols } else { cx.cols4(out) };
        let taken = rows_of_b.end - rows_of_b.start;
        // One window of B has all of C's columns, and all of the depth.
        let whole = taken == cx.dims.capacity(cx.graph.tensor(b).rows);
        let nt = self.layout == Layout::NT;
        let n4 = if nt && !whole { taken / 4 } else { cols4 };
        let variant = cx.variants.linear(self.layout.family());
        let tall = tall(variant, cx.cols4(a), n4);
        let Shape { rows, columns4, .. } = Shape::of(variant);
        let unit = if tall { 2 * rows } else { rows };
        let tiles_n = n4.div_ceil(columns4);
        let uniform = matches!(variant, LinearVariant::Uniform(_))
            && n4.is_multiple_of(columns4)
            && u64::from(cx.dims.capacity(count)) * u64::from(n4) >= cx.variants.sums().apart
            && cx.dims.capacity(count).div_ceil(unit) * tiles_n <= Grid::FOLD
            && !dot
            && !onto;
        let addend = if onto { None } else { node.addend };
        let (bias, z) = (self.bias_input(node), self.epilogue_input(node));
        let (epilogue, f) = match self.epilogue {
            Epilogue::None => (0, None),
            Epilogue::Activation(f) => (1, Some(f)),
            Epilogue::Slope(f) => (2, Some(f)),
            Epilogue::Dot => (3, None),
            Epilogue::Times => (4, None),
            Epilogue::Gate(f) => (5, Some(f)),
            Epilogue::GateVjp(f) => (6, Some(f)),
        };
        // A gate's reverse rule has no bias, and the kernel no binding to spare.
        let beside = bias.or(self.gated_input(node));
        let layer = |id: Option<TensorId>| id.map_or(0, |id| cx.layer(id));
        let product = kernel::Forward {
            a: cx.buffer(a),
            b: cx.rows_of(b, &rows_of_b),
            bias: beside.map(|id| cx.buffer(id)),
            addend: addend.map(|id| cx.buffer(id)),
            z: z.map(|id| cx.buffer(id)),
            out: (!dot).then(|| cx.buffer(out)),
            act: self.epilogue.gives_two().then(|| cx.buffer(node.outputs[1])),
            terms: dot.then(|| cx.buffer(out)),
            params: kernel::Params {
                m_code: count.code(),
                m_fixed: count.fixed(),
                k_fixed: if nt || whole { 4 * cx.cols4(a) } else { taken },
                a4: cx.stride4(a),
                b4: cx.cols4(b),
                c4: if dot { cols4 } else { cx.stride4(out) },
                n4,
                a_first: if nt { 0 } else { rows_of_b.start / 4 },
                c_first: if nt { rows_of_b.start / 4 } else { 0 },
                tiles_n,
                a_layer: cx.layer(a),
                b_layer: cx.layer(b),
                c_layer: cx.layer(out),
                bias_layer: layer(beside),
                z_layer: layer(z),
                terms_stride: if z.is_some() { 4 * cx.cols4(out) } else { 0 },
                ..Default::default()
            },
            constants: kernel::Constants {
                layout: u32::from(self.layout == Layout::NN),
                bias: bias.is_some(),
                addend: addend.is_some(),
                onto,
                tall,
                uniform,
                pairs: uniform && variant.lanes().is_some_and(stores_pairs),
                epilogue,
                activation: f.map_or(0, Activation::code),
                ..constants(variant)
            },
        };
        let grid = Grid { count, unit, columns: tiles_n, layers: cx.layers(out) };
        cx.push(product, cx.name(out), grid);
    }

    /// C as a sum over rows, cut into splits: TN. In windows of C's rows there is one split.
    pub(super) fn lower_sum(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let (ta, tc) = (cx.graph.tensor(a), cx.graph.tensor(out));
        let shape = self.shape(cx.variants);
        let windows = cx.windows(out);
        let rows = ta.rows;
        let split = match windows.len() {
            1 => shape.split(cx.dims, cx.variants, ta, tc),
            _ => cx.dims.capacity(rows).next_multiple_of(4),
        };
        let size4 = u64::from(ta.cols) * u64::from(tc.cols4());
        // One split adds the addend itself; several leave it to the sum of their results.
        let single = reduce::workspace(cx.dims, rows, split, size4, 1, false) == 0;
        let (own, left) = if single { (node.addend, None) } else { (None, node.addend) };
        let sums = reduce::blocks(cx, rows, split, size4, out, left, SPLITS);
        let bias_bar = if self.sums { node.outputs.get(1).copied() } else { None };
        let also = bias_bar
            .filter(|_| shape.sums)
            .map(|bias_bar| reduce::blocks(cx, rows, split, u64::from(ta.cols4()), bias_bar, None, column_sum::SUMS));
        let one = windows.len() == 1;
        for window in windows {
            let m_fixed = window.end.min(ta.cols) - window.start;
            let (tiles_n, tiles_m) = (tc.cols4().div_ceil(shape.columns4), m_fixed.div_ceil(shape.rows));
            let product = kernel::Forward {
                a: cx.buffer(a),
                b: cx.buffer(b),
                bias: None,
                addend: own.map(|id| cx.rows_of(id, &window)),
                z: None,
                out: Some(if one { sums.target.clone() } else { cx.rows_of(out, &window) }),
                act: also.as_ref().map(|also| also.target.clone()),
                terms: None,
                params: kernel::Params {
                    m_fixed,
                    k_code: rows.code(),
                    k_fixed: rows.fixed(),
                    split,
                    a4: cx.stride4(a),
                    b4: cx.stride4(b),
                    c4: tc.cols4(),
                    n4: tc.cols4(),
                    a_first: window.start / 4,
                    tiles_n,
                    tiles_m,
                    a_layer: cx.layer(a),
                    b_layer: cx.layer(b),
                    c_layer: sums.layer,
                    sums4: ta.cols4(),
                    sums_layer: also.as_ref().map_or(0, |also| also.layer),
                    ..Default::default()
                },
                constants: kernel::Constants {
                    layout: 2,
                    addend: own.is_some(),
                    sums: also.is_some(),
                    ..constants(cx.variants.linear(self.layout.family()))
                },
            };
            let grid = Grid { count: rows, unit: split, columns: tiles_n * tiles_m, layers: cx.layers(out) };
            cx.push(product, cx.name(out), grid);
        }
        match (also, bias_bar) {
            (Some(also), _) => sums.finish_with(Some(also), cx),
            (None, Some(bias_bar)) => {
                sums.finish(cx);
                column_sum::lower_sum(cx, a, bias_bar);
            }
            (None, None) => sums.finish(cx),
        }
    }
}

/// Whether a product by subgroups takes twice as many rows at once: with 8 lanes, where a load serves half as many
/// columns as with 16, and where the product is so large that it pays for code that takes twice as long to compile.
fn tall(variant: LinearVariant, depth4: u32, columns4: u32) -> bool {
    variant.lanes() == Some(8) && 16 * u64::from(depth4) * u64::from(columns4) >= TALL
}

/// Depth times columns from which on a product is tall: 256 x 256, or 128 x 512.
const TALL: u64 = 1 << 16;

/// The constants of a way to run.
fn constants(variant: LinearVariant) -> kernel::Constants {
    let plain = kernel::Constants::default();
    match variant {
        LinearVariant::Direct => plain,
        LinearVariant::Tiled => kernel::Constants { tiled: true, ..plain },
        LinearVariant::Cooperative(small) => kernel::Constants { cooperative: true, small, ..plain },
        LinearVariant::Register(block) => kernel::Constants { register: true, block, ..plain },
        LinearVariant::Subgroup(lanes) | LinearVariant::Uniform(lanes) => {
            kernel::Constants { subgroup: true, lanes, ..plain }
        }
    }
}
