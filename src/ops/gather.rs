//! The rows of masked positions, and their way back. Shader: `shaders/gather.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Tensor, TensorId};
use crate::gpu::{Count, Dispatch};

pub(super) fn outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    assert_eq!(inputs[0].rows, Count::Rows, "gather takes rows of tokens");
    vec![("", Count::Masked, inputs[0].cols, inputs[0].probes)]
}

pub(super) fn back_outputs(inputs: &[&Tensor]) -> Vec<OutputShape> {
    assert_eq!(inputs[0].rows, Count::Masked, "gather goes back from masked rows");
    vec![("", Count::Rows, inputs[0].cols, inputs.iter().any(|t| t.probes))]
}

pub(super) fn vjp(g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
    let x = node.inputs[0];
    g.contribute(x, |g, before| {
        let name = g.bar(x);
        let inputs: Vec<TensorId> = [y_bar].into_iter().chain(before).collect();
        g.push(Op::GatherBack { addend: before.is_some() }, &inputs, &name)[0]
    });
}

pub(super) fn lower(cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let dispatch = Dispatch {
        label: cx.graph.tensor(out).name.clone(),
        kernel: "gather",
        entry: "forward",
        constants: vec![],
        buffers: vec![("x", cx.buffer(x)), ("index", cx.batch.index.clone()), ("out", cx.buffer(out))],
        params: vec![("cols4", cx.graph.tensor(x).cols4()), ("in_layer", cx.layer(x)), ("out_layer", cx.layer(out))],
        grid: cx.elementwise(out),
    };
    cx.push(dispatch);
}

pub(super) fn lower_back(addend: bool, cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let mut buffers = vec![("x", cx.buffer(x)), ("index", cx.batch.inverse.clone()), ("out", cx.buffer(out))];
    let mut params = vec![
        ("cols4", cx.graph.tensor(x).cols4()),
        ("in_layer", cx.layer(x)),
        ("out_layer", cx.layer(out)),
        ("add", u32::from(addend)),
    ];
    if addend {
        buffers.push(("addend", cx.buffer(node.inputs[1])));
        params.push(("add_layer", cx.layer(node.inputs[1])));
    }
    let label = cx.graph.tensor(out).name.clone();
    let grid = cx.elementwise(out);
    cx.push(Dispatch { label, kernel: "gather", entry: "vjp", constants: vec![], buffers, params, grid });
}
