//! Layer norm along a direction: the tangents of its forward and reverse rules, and its second-order term.
//! Shader: `shaders/layer_norm_tangent.wgsl`.

use super::{Family, LayerNorm, Lowering, Node, Rule, Tangents, TensorId, call, layer_norm_scale};
use crate::gpu::Grid;
use crate::kernels::layer_norm_tangent as kernel;

/// Emits the tangents of the forward and the reverse rules.
pub(super) fn jvp(norm: LayerNorm, node: &Node, g: &mut Tangents<'_>) {
    let name = g.dot(node.outputs[0]);
    let with_vectors = |rule: Rule, first: &[TensorId], vectors: &[TensorId]| {
        let gamma = vectors.first().copied();
        let moving = vectors.iter().map(|id| g.wanted(*id));
        call(norm, rule, &first.iter().copied().chain(gamma).chain(moving).collect::<Vec<_>>())
    };
    let tangent = match node.rule {
        Rule::Forward => {
            let (x, vectors, [_, stat]) = (node.inputs[0], &node.inputs[1..], node.outputs());
            with_vectors(Rule::Jvp, &[x, stat, g.wanted(x)], vectors)
        }
        Rule::Vjp(0) => {
            let ([x, stat, y_bar], vectors) = ([0, 1, 2].map(|i| node.inputs[i]), &node.inputs[3..]);
            let first = [x, g.wanted(stat), y_bar, g.wanted(x), g.wanted(y_bar)];
            with_vectors(Rule::VjpJvp(0), &first, vectors)
        }
        _ => {
            let [x, stat, y_bar] = node.inputs();
            call(norm, Rule::VjpJvp(1), &[x, g.wanted(stat), y_bar, g.wanted(x), g.wanted(y_bar)])
        }
    };
    let mut made = g.push(tangent, &name);
    if let Some(addend) = node.addend.and_then(|id| g.of(id)) {
        made[0] = g.add(addend, made[0]);
    }
    for (output, tangent) in node.outputs.iter().zip(made) {
        g.set(*output, tangent);
    }
}

/// Emits the dispatches of the rules along a direction.
pub(super) fn lower(norm: LayerNorm, node: &Node, cx: &mut Lowering<'_>) {
    let input = |i: usize| cx.buffer(node.inputs[i]);
    let vector = |i: usize| node.inputs.get(i).map(|id| cx.buffer(*id));
    let layer = |i: usize| cx.layer(node.inputs[i]);
    let vector_layer = |i: usize| node.inputs.get(i).map_or(0, |id| cx.layer(*id));
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let (code, fixed) = cx.count(x);
    let (rows, heads, width) = (cx.graph.tensor(x).rows, norm.heads, norm.width(cx.graph.tensor(x)));
    let cols4 = width.div_ceil(4);
    let params = kernel::Params { code, fixed, heads, width, cols4, ..Default::default() };
    let layers = cx.layers(out);
    let lanes = cx.variants.row_lanes(Family::LayerNorm);
    let constants = kernel::Constants {
        lanes,
        rms: !norm.centre,
        scale: norm.affine.scales(),
        one_plus: norm.affine.one_plus(),
        shift: norm.affine.shifts(),
    };
    let (label, grid) = (cx.name(out), Grid { columns: heads, ..cx.rowwise(rows, lanes, layers) });
    match node.rule {
        Rule::Jvp => {
            let jvp = kernel::Jvp {
                x: input(0),
                stat: input(1),
                x_dot: input(2),
                gamma: vector(3),
                gamma_dot: vector(4),
                beta_dot: vector(5),
                out: cx.buffer(out),
                stat_out: cx.buffer(node.outputs[1]),
                params: kernel::Params {
                    layer: layer(2),
                    vector_layer: vector_layer(4),
                    stat_layer: cx.layer(node.outputs[1]),
                    ..params
                },
                constants,
            };
            cx.push(jvp, label, grid);
        }
        Rule::VjpJvp(0) => {
            let vjp_jvp = kernel::VjpJvp {
                x: input(0),
                stat_dot: input(1),
                y_bar: input(2),
                x_dot: input(3),
                y_bar_dot: input(4),
                gamma: vector(5),
                gamma_dot: vector(6),
                out: cx.buffer(out),
                params: kernel::Params {
                    layer: layer(3),
                    bar_layer: layer(2),
                    vector_layer: vector_layer(6),
                    stat_layer: layer(1),
                    ..params
                },
                constants,
            };
            cx.push(vjp_jvp, label, grid);
        }
        Rule::Second => {
            let second = kernel::Second {
                x: input(0),
                stat_dot: input(1),
                y_bar: input(2),
                x_dot: input(3),
                gamma: vector(4),
                gamma_dot: vector(5),
                out: cx.buffer(out),
                params: kernel::Params {
                    layer: layer(3),
                    bar_layer: layer(2),
                    vector_layer: vector_layer(5),
                    stat_layer: layer(1),
                    out_layer: cx.layer(out),
                    ..params
                },
                constants,
            };
            cx.push(second, label, grid);
        }
        _ => {
            let block = cx.variants.sums().block;
            let (gamma, beta) = layer_norm_scale::blocks(cx, x, block, &node.outputs);
            let groups = cols4.div_ceil(8);
            let scale = kernel::Scale {
                x: input(0),
                stat_dot: input(1),
                y_bar: input(2),
                x_dot: input(3),
                y_bar_dot: input(4),
                gamma_bar: gamma.target.clone(),
                beta_bar: beta.as_ref().map(|beta| beta.target.clone()),
                params: kernel::Params {
                    layer: layer(3),
                    bar_layer: layer(2),
                    stat_layer: layer(1),
                    groups,
                    block: block * heads,
                    out_layer: gamma.layer,
                    ..params
                },
                constants: kernel::Constants { shift: norm.affine.shifts(), ..Default::default() },
            };
            cx.push(scale, label, Grid { count: rows, unit: block, columns: groups, layers });
            gamma.finish_with(beta, cx);
        }
    }
}
