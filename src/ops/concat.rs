//! The rows of a whole sentence side by side, a row for each masked position: [rows, D] to [masked, T padded(D)], with
//! zeros behind a sentence of fewer than T tokens; and the way back. What a linear probe reads. Shader:
//! `shaders/concat.wgsl`.

use super::{Adjoints, Lowering, Node, Op, OutputShape, Tensor, TensorId};
use crate::gpu::{Count, Dispatch};

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
    let x = node.inputs[0];
    let width = cx.graph.tensor(x).cols;
    dispatch(cx, node, "forward", [tokens, width], false);
}

pub(super) fn lower_back(tokens: u32, addend: bool, cx: &mut Lowering<'_>, node: &Node) {
    let width = cx.graph.tensor(node.outputs[0]).cols;
    dispatch(cx, node, "vjp", [tokens, width], addend);
}

fn dispatch(cx: &mut Lowering<'_>, node: &Node, entry: &'static str, [tokens, width]: [u32; 2], addend: bool) {
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let mut buffers = vec![("x", cx.buffer(x)), ("spans", cx.batch.spans.clone()), ("out", cx.buffer(out))];
    let mut params = vec![
        ("width", width),
        ("cols4", width.div_ceil(4)),
        ("places", tokens),
        ("in_layer", cx.layer(x)),
        ("out_layer", cx.layer(out)),
        ("add", u32::from(addend)),
    ];
    if entry == "forward" {
        buffers.push(("index", cx.batch.index.clone()));
    }
    if addend {
        buffers.push(("addend", cx.buffer(node.inputs[1])));
        params.push(("add_layer", cx.layer(node.inputs[1])));
    }
    let label = cx.graph.tensor(out).name.clone();
    let grid = cx.elementwise(out);
    cx.push(Dispatch { label, kernel: "concat", entry, constants: vec![], buffers, params, grid });
}
