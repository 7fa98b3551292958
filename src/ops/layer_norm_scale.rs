//! Gradients of layer norm's scale and shift: γ̄ = Σ_rows ȳ x̂ and β̄ = Σ_rows ȳ. Shader: `shaders/layer_norm_scale.wgsl`.

use super::{Lowering, Node, OutputShape, Tensor, TensorId, reduce};
use crate::gpu::{Count, Dispatch, Grid};

/// (x, stat, ȳ) to (γ̄, β̄), both [1, d].
pub(super) fn outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    let (x, y_bar) = (inputs[0], inputs[2]);
    vec![("weight", Count::Fixed(1), x.cols, y_bar.probes), ("bias", Count::Fixed(1), x.cols, y_bar.probes)]
}

pub(super) fn lower(cx: &mut Lowering<'_>, node: &Node) {
    lower_sums(cx, [node.inputs[0], node.inputs[1], node.inputs[2]], [node.outputs[0], node.outputs[1]]);
}

/// The dispatches of (x, stat, ȳ) to (γ̄, β̄).
pub(super) fn lower_sums(cx: &mut Lowering<'_>, [x, stat, y_bar]: [TensorId; 3], outputs: [TensorId; 2]) {
    let [code, fixed] = cx.count(x);
    let rows = cx.graph.tensor(x).rows;
    let cols4 = cx.graph.tensor(x).cols4();
    let block = cx.variants.sums().block;
    let gamma = reduce::blocks(cx, rows, block, u64::from(cols4), outputs[0], None);
    let beta = reduce::blocks(cx, rows, block, u64::from(cols4), outputs[1], None);
    let lanes = reduce::lanes(cx);
    let groups = cols4.div_ceil(lanes);
    let dispatch = Dispatch {
        label: cx.graph.tensor(outputs[0]).name.clone(),
        kernel: "layer_norm_scale",
        entry: "vjp",
        constants: vec![("LANES", lanes)],
        buffers: vec![
            ("x", cx.buffer(x)),
            ("stat", cx.buffer(stat)),
            ("y_bar", cx.buffer(y_bar)),
            ("gamma_bar", gamma.target.clone()),
            ("beta_bar", beta.target.clone()),
        ],
        params: vec![
            code,
            fixed,
            ("cols4", cols4),
            ("groups", groups),
            ("block", block),
            ("in_layer", cx.layer(y_bar)),
            ("out_layer", gamma.layer),
        ],
        grid: Grid { count: rows, unit: block, columns: groups, layers: cx.layers(y_bar) },
    };
    cx.push(dispatch);
    gamma.finish_both(beta, cx);
}
