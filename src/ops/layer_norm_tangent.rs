//! Layer norm along a direction: the tangents of its forward and reverse rules, and its second-order term.
//! Shader: `shaders/layer_norm_tangent.wgsl`.

use super::layer_norm_scale::{BETA_SUMS, GAMMA_SUMS};
use super::{Family, LayerNorm, Lowering, Node, Rule, Tangents, call, reduce};
use crate::gpu::Grid;
use crate::kernels::layer_norm_tangent as kernel;

/// Emits the tangents of the forward and the reverse rules.
pub(super) fn jvp(norm: LayerNorm, node: &Node, g: &mut Tangents<'_>) {
    let name = g.dot(node.outputs[0]);
    let tangent = match node.rule {
        Rule::Forward => {
            let ([x, gamma, beta], [_, stat]) = (node.inputs(), node.outputs());
            call(norm, Rule::Jvp, &[x, gamma, stat, g.wanted(x), g.wanted(gamma), g.wanted(beta)])
        }
        Rule::Vjp(0) => {
            let [x, gamma, stat, y_bar] = node.inputs();
            let inputs = [x, gamma, g.wanted(stat), y_bar, g.wanted(x), g.wanted(gamma), g.wanted(y_bar)];
            call(norm, Rule::VjpJvp(0), &inputs)
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
pub(super) fn lower(node: &Node, cx: &mut Lowering<'_>) {
    let input = |i: usize| cx.buffer(node.inputs[i]);
    let layer = |i: usize| cx.layer(node.inputs[i]);
    let (x, out) = (node.inputs[0], node.outputs[0]);
    let (code, fixed) = cx.count(x);
    let (rows, cols4) = (cx.graph.tensor(x).rows, cx.cols4(x));
    let params = kernel::Params { code, fixed, width: cx.graph.tensor(x).cols, cols4, ..Default::default() };
    let layers = cx.layers(out);
    let lanes = cx.variants.row_lanes(Family::LayerNorm);
    let constants = kernel::Constants { lanes };
    let (label, grid) = (cx.name(out), cx.rowwise(rows, lanes, layers));
    match node.rule {
        Rule::Jvp => {
            let jvp = kernel::Jvp {
                x: input(0),
                gamma: input(1),
                stat: input(2),
                x_dot: input(3),
                gamma_dot: input(4),
                beta_dot: input(5),
                out: cx.buffer(out),
                stat_out: cx.buffer(node.outputs[1]),
                params: kernel::Params {
                    layer: layer(3),
                    vector_layer: layer(4),
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
                gamma: input(1),
                stat_dot: input(2),
                y_bar: input(3),
                x_dot: input(4),
                gamma_dot: input(5),
                y_bar_dot: input(6),
                out: cx.buffer(out),
                params: kernel::Params {
                    layer: layer(4),
                    bar_layer: layer(3),
                    vector_layer: layer(5),
                    stat_layer: layer(2),
                    ..params
                },
                constants,
            };
            cx.push(vjp_jvp, label, grid);
        }
        Rule::Second => {
            let second = kernel::Second {
                x: input(0),
                gamma: input(1),
                stat_dot: input(2),
                y_bar: input(3),
                x_dot: input(4),
                gamma_dot: input(5),
                out: cx.buffer(out),
                params: kernel::Params {
                    layer: layer(4),
                    bar_layer: layer(3),
                    vector_layer: layer(5),
                    stat_layer: layer(2),
                    out_layer: cx.layer(out),
                    ..params
                },
                constants,
            };
            cx.push(second, label, grid);
        }
        _ => {
            let block = cx.variants.sums().block;
            let sum = |out, scratch| reduce::blocks(cx, rows, block, u64::from(cols4), out, None, scratch);
            let (gamma, beta) = (sum(node.outputs[0], GAMMA_SUMS), sum(node.outputs[1], BETA_SUMS));
            let groups = cols4.div_ceil(8);
            let scale = kernel::Scale {
                x: input(0),
                stat_dot: input(1),
                y_bar: input(2),
                x_dot: input(3),
                y_bar_dot: input(4),
                gamma_bar: gamma.target.clone(),
                beta_bar: beta.target.clone(),
                params: kernel::Params {
                    layer: layer(3),
                    bar_layer: layer(2),
                    stat_layer: layer(1),
                    groups,
                    block,
                    out_layer: gamma.layer,
                    ..params
                },
                constants: Default::default(),
            };
            cx.push(scale, label, Grid { count: rows, unit: block, columns: groups, layers });
            gamma.finish(cx);
            beta.finish(cx);
        }
    }
}
