//! The rows of a whole sentence side by side, a row for each masked position: [rows, D] to [masked, T padded(D)], with
//! zeros behind a sentence of fewer than T tokens; and the way back. What a linear probe reads. Shader:
//! `shaders/concat.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Tensor, TensorId};
use crate::gpu::Count;
use crate::kernels::concat as kernel;

/// Columns of T blocks of D, each padded to a multiple of 4.
pub fn width(tokens: u32, cols: u32) -> u32 {
    tokens * cols.next_multiple_of(4)
}

pub(super) fn outputs(tokens: u32, inputs: &[&Tensor]) -> Vec<OutputShape> {
    assert_eq!(inputs[0].rows, Count::Rows, "concat takes rows of tokens");
    vec![("", Count::Masked, width(tokens, inputs[0].cols), inputs[0].probes)]
}

pub(super) fn back_outputs(cols: u32, inputs: &[&Tensor]) -> Vec<OutputShape> {
    assert_eq!(inputs[0].rows, Count::Masked, "concat goes back from masked rows");
    vec![("", Count::Rows, cols, inputs.iter().any(|t| t.probes))]
}

pub(super) fn vjp(tokens: u32, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
    let x = node.inputs[0];
    let cols = g.tensor(x).cols;
    g.contribute(x, |g, before| {
        let name = g.bar(x);
        let inputs: Vec<TensorId> = [y_bar].into_iter().chain(before).collect();
        g.push(Op::ConcatBack { tokens, cols, addend: before.is_some() }, &inputs, &name)[0]
    });
}

pub(super) fn lower(tokens: u32, cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let concat = kernel::Forward {
        x: cx.buffer(x),
        index: cx.batch.index.clone(),
        spans: cx.batch.spans.clone(),
        out: cx.buffer(out),
        params: kernel::Params { places: tokens, ..params(cx, node, cx.graph.tensor(x).cols) },
    };
    cx.push(concat, cx.name(out), cx.elementwise(out));
}

pub(super) fn lower_back(tokens: u32, addend: bool, cx: &mut Lowering<'_>, node: &Node) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let addend = addend.then(|| node.inputs[1]);
    let back = kernel::Vjp {
        x: cx.buffer(x),
        addend: addend.map(|id| cx.buffer(id)),
        spans: cx.batch.spans.clone(),
        out: cx.buffer(out),
        params: kernel::Params {
            places: tokens,
            add: u32::from(addend.is_some()),
            add_layer: addend.map_or(0, |id| cx.layer(id)),
            ..params(cx, node, cx.graph.tensor(out).cols)
        },
    };
    cx.push(back, cx.name(out), cx.elementwise(out));
}

fn params(cx: &Lowering<'_>, node: &Node, width: u32) -> kernel::Params {
    let (in_layer, out_layer) = (cx.layer(node.inputs[0]), cx.layer(node.outputs[0]));
    kernel::Params { width, cols4: width.div_ceil(4), in_layer, out_layer, ..Default::default() }
}
