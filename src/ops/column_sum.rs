//! Sums over rows, the gradient of a bias: out [1, n] = Σ_rows x [rows, n]. Shader: `shaders/column_sum.wgsl`.

use super::lowering::Scratch;
use super::{Lowering, Node, OutputShape, Tensor, TensorId, reduce};
use crate::gpu::{Count, Grid};
use crate::kernels::column_sum as kernel;

/// The blocks' sums, where there is more than one block.
pub(super) const SUMS: Scratch = Scratch("column sums");

pub(super) fn outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    vec![("", Count::Fixed(1), inputs[0].cols, inputs[0].probes)]
}

pub(super) fn lower(cx: &mut Lowering<'_>, node: &Node) {
    lower_sum(cx, node.inputs[0], node.outputs[0]);
}

/// The dispatches of out = Σ_rows x.
pub(super) fn lower_sum(cx: &mut Lowering<'_>, x: TensorId, out: TensorId) {
    let (code, fixed) = cx.count(x);
    let (rows, cols4, block) = (cx.graph.tensor(x).rows, cx.cols4(x), cx.variants.sums().block);
    let sums = reduce::blocks(cx, rows, block, u64::from(cols4), out, None, SUMS);
    let lanes = reduce::lanes(cx);
    let groups = cols4.div_ceil(lanes);
    let sum = kernel::Forward {
        x: cx.buffer(x),
        out: sums.target.clone(),
        params: kernel::Params { code, fixed, cols4, groups, block, in_layer: cx.layer(x), out_layer: sums.layer },
        constants: kernel::Constants { lanes },
    };
    cx.push(sum, cx.name(out), Grid { count: rows, unit: block, columns: groups, layers: cx.layers(out) });
    sums.finish(cx);
}
