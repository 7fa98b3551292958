//! Sums over rows, the gradient of a bias: out [1, n] = Σ_rows x [rows, n]. Shader: `shaders/column_sum.wgsl`.

use super::{Lowering, Node, OutputShape, Tensor, TensorId, reduce};
use crate::gpu::{Count, Dispatch, Grid};

pub(super) fn outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    vec![("", Count::Fixed(1), inputs[0].cols, inputs[0].probes)]
}

pub(super) fn lower(cx: &mut Lowering<'_>, node: &Node) {
    lower_sum(cx, node.inputs[0], node.outputs[0]);
}

/// The dispatches of out = Σ_rows x.
pub(super) fn lower_sum(cx: &mut Lowering<'_>, x: TensorId, out: TensorId) {
    let [code, fixed] = cx.count(x);
    let rows = cx.graph.tensor(x).rows;
    let cols4 = cx.graph.tensor(x).cols4();
    let sums = reduce::blocks(cx, rows, cx.variants.sums().block, u64::from(cols4), out, None);
    let lanes = reduce::lanes(cx);
    let groups = cols4.div_ceil(lanes);
    let dispatch = Dispatch {
        label: cx.graph.tensor(out).name.clone(),
        kernel: "column_sum",
        entry: "forward",
        constants: vec![("LANES", lanes)],
        buffers: vec![("x", cx.buffer(x)), ("out", sums.target.clone())],
        params: vec![
            code,
            fixed,
            ("cols4", cols4),
            ("groups", groups),
            ("block", cx.variants.sums().block),
            ("in_layer", cx.layer(x)),
            ("out_layer", sums.layer),
        ],
        grid: Grid { count: rows, unit: cx.variants.sums().block, columns: groups, layers: cx.layers(out) },
    };
    cx.push(dispatch);
    sums.finish(cx);
}
