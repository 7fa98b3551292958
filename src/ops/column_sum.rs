//! Sums over rows, the gradient of a bias: out [1, n] = Σ_rows x [rows, n]. Shader: `shaders/column_sum.wgsl`.

use super::{Lowering, Node, OutputShape, Tensor, reduce};
use crate::gpu::{Count, Dispatch, Grid};

pub(super) fn outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    vec![("", Count::Fixed(1), inputs[0].cols, inputs[0].probes)]
}

pub(super) fn lower(cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let [code, fixed] = cx.count(x);
    let rows = cx.graph.tensor(x).rows;
    let cols4 = cx.graph.tensor(x).cols4();
    let sums = reduce::blocks(cx, rows, cx.variants.sums().block, u64::from(cols4), out, None);
    let groups = cols4.div_ceil(8);
    let dispatch = Dispatch {
        label: cx.graph.tensor(out).name.clone(),
        kernel: "column_sum",
        entry: "forward",
        constants: vec![],
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
