//! GELU with the exact erf: gelu(x) = x Φ(x). Hendrycks and Gimpel 2016. Shader: `shaders/gelu.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Rule, Tensor, TensorId};
use crate::gpu::Dispatch;

pub(super) fn outputs(rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
    let x = inputs[0];
    if rule == Rule::Vjp {
        assert_eq!((x.rows, x.cols), (inputs[1].rows, inputs[1].cols), "gelu: {} and its cotangent differ", x.name);
    }
    vec![("", x.rows, x.cols, inputs.iter().any(|t| t.probes))]
}

pub(super) fn vjp(g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
    let x = node.inputs[0];
    g.contribute(x, |g, before| {
        let name = g.bar(x);
        let x_bar = g.push(Op::Gelu(Rule::Vjp), &[x, y_bar], &name)[0];
        before.map_or(x_bar, |before| g.add(before, x_bar))
    });
}

pub(super) fn lower(rule: Rule, cx: &mut Lowering<'_>, node: &Node) {
    let out = node.outputs[0];
    let x = node.inputs[0];
    let [code, fixed] = cx.count(out);
    let mut buffers = vec![("x", cx.buffer(x)), ("out", cx.buffer(out))];
    let mut params = vec![
        code,
        fixed,
        ("cols4", cx.graph.tensor(out).cols4()),
        ("a_layer", cx.layer(x)),
        ("out_layer", cx.layer(out)),
    ];
    let entry = match rule {
        Rule::Forward => "forward",
        Rule::Vjp => {
            buffers.push(("g", cx.buffer(node.inputs[1])));
            params.push(("b_layer", cx.layer(node.inputs[1])));
            "vjp"
        }
    };
    let label = cx.graph.tensor(out).name.clone();
    let grid = cx.elementwise(out);
    cx.push(Dispatch { label, kernel: "gelu", entry, constants: vec![], buffers, params, grid });
}
