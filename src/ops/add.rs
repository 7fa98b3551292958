//! out = a + b, elementwise. Shader: `shaders/add.wgsl`.

use super::{Adjoints, Lowering, Node, OutputShape, Tensor, TensorId};
use crate::kernels::add as kernel;

pub(super) fn outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    let [a, b] = inputs else { panic!("add takes two matrices") };
    assert_eq!((a.rows, a.cols), (b.rows, b.cols), "add: {} and {} differ in shape", a.name, b.name);
    vec![("", a.rows, a.cols, a.probes || b.probes)]
}

pub(super) fn vjp(g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
    g.pass(node.inputs[0], y_bar);
    g.pass(node.inputs[1], y_bar);
}

pub(super) fn lower(cx: &mut Lowering<'_>, node: &Node) {
    let (a, b, out) = (node.inputs[0], node.inputs[1], node.outputs[0]);
    let (code, fixed) = cx.count(out);
    let sum = kernel::Forward {
        a: cx.buffer(a),
        b: cx.buffer(b),
        out: cx.buffer(out),
        params: kernel::Params {
            code,
            fixed,
            cols4: cx.cols4(out),
            a_layer: cx.layer(a),
            b_layer: cx.layer(b),
            out_layer: cx.layer(out),
            ..Default::default()
        },
    };
    cx.push(sum, cx.name(out), cx.elementwise(out));
}
