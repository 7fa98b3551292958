//! The rows of masked positions, and their way back. Shader: `shaders/gather.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Tensor, TensorId};
use crate::gpu::Count;
use crate::kernels::gather as kernel;

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
    let gather = kernel::Forward {
        x: cx.buffer(x),
        index: cx.batch.index.clone(),
        out: cx.buffer(out),
        params: params(cx, node),
    };
    cx.push(gather, cx.name(out), cx.elementwise(out));
}

pub(super) fn lower_back(addend: bool, cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let addend = addend.then(|| node.inputs[1]);
    let back = kernel::Vjp {
        x: cx.buffer(x),
        addend: addend.map(|id| cx.buffer(id)),
        index: cx.batch.inverse.clone(),
        out: cx.buffer(out),
        params: kernel::Params {
            add: u32::from(addend.is_some()),
            add_layer: addend.map_or(0, |id| cx.layer(id)),
            ..params(cx, node)
        },
    };
    cx.push(back, cx.name(out), cx.elementwise(out));
}

fn params(cx: &Lowering<'_>, node: &Node) -> kernel::Params {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    kernel::Params { cols4: cx.cols4(x), in_layer: cx.layer(x), out_layer: cx.layer(out), ..Default::default() }
}
