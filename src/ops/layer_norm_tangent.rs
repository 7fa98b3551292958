//! Layer norm along a direction: the tangents of its forward and reverse rules, and its second-order term.
//! Shader: `shaders/layer_norm_tangent.wgsl`.

use super::layer_norm_scale::{BETA_SUMS, GAMMA_SUMS};
use super::{LayerNorm, Lowering, Node, Op, Operation, OutputShape, Rule, Second, Tangents, Tensor, TensorId, reduce};
use crate::gpu::{Count, Grid};
use crate::kernels::layer_norm_tangent as kernel;

/// Which tangent of layer norm a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerNormTangent {
    /// (x, γ, stat, ẋ, γ̇, β̇) to (ẏ, stat_dot [rows, 4] = mean, 1/√(var + ε), mean(ẋ), mean(x̂ ẋ)).
    Jvp,
    /// (x, γ, stat_dot, ȳ, ẋ, γ̇, ȳ̇) to the tangent of x̄.
    VjpJvp,
    /// (x, stat_dot, ȳ, ẋ, ȳ̇) to the tangents of γ̄ and β̄.
    Scale,
    /// (x, γ, stat_dot, ȳ, ẋ, γ̇) to ⟨ȳ, D²y⟩ of each row, in the first of four columns.
    Second,
}

impl LayerNorm {
    /// Tangent of the forward or the reverse rule.
    pub(super) fn jvp(&self, g: &mut Tangents<'_>, node: &Node) {
        match self.rule {
            Rule::Forward => {
                let (x, gamma, beta) = (node.inputs[0], node.inputs[1], node.inputs[2]);
                let (y, stat) = (node.outputs[0], node.outputs[1]);
                let inputs = [x, gamma, stat, g.wanted(x), g.wanted(gamma), g.wanted(beta)];
                let name = g.dot(y);
                let made = g.push(Op::LayerNormTangent(LayerNormTangent::Jvp), &inputs, &name);
                g.set(y, made[0]);
                g.set(stat, made[1]);
            }
            _ => {
                let (x, gamma, stat, y_bar) = (node.inputs[0], node.inputs[1], node.inputs[2], node.inputs[3]);
                let out = node.outputs[0];
                let inputs = [x, gamma, g.wanted(stat), y_bar, g.wanted(x), g.wanted(gamma), g.wanted(y_bar)];
                let name = g.dot(out);
                let tangent = g.push(Op::LayerNormTangent(LayerNormTangent::VjpJvp), &inputs, &name)[0];
                let addend = if self.addend { g.of(node.inputs[4]) } else { None };
                let sum = addend.map_or(tangent, |addend| g.add(addend, tangent));
                g.set(out, sum);
            }
        }
    }

    /// Second-order term of y = norm(x).
    pub(super) fn second(&self, g: &mut Second<'_>, node: &Node, y_bar: TensorId) {
        let (x, gamma) = (node.inputs[0], node.inputs[1]);
        let inputs = [x, gamma, g.dot(node.outputs[1]), y_bar, g.dot(x), g.dot(gamma)];
        let terms = g.push(Op::LayerNormTangent(LayerNormTangent::Second), &inputs, "second(norm)");
        g.term(terms, 1.0);
    }
}

/// Tangent of [`Op::LayerNormScale`].
pub(super) fn scale_jvp(g: &mut Tangents<'_>, node: &Node) {
    let (x, stat, y_bar) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let inputs = [x, g.wanted(stat), y_bar, g.wanted(x), g.wanted(y_bar)];
    let name = g.dot(node.outputs[0]);
    let made = g.push(Op::LayerNormTangent(LayerNormTangent::Scale), &inputs, &name);
    for (output, tangent) in node.outputs.iter().zip(made) {
        g.set(*output, tangent);
    }
}

impl LayerNormTangent {
    pub(super) fn outputs(self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        let x = inputs[0];
        match self {
            LayerNormTangent::Jvp => vec![("", x.rows, x.cols, true), ("stat", x.rows, 4, true)],
            LayerNormTangent::VjpJvp => vec![("", x.rows, x.cols, true)],
            LayerNormTangent::Scale => {
                vec![("weight", Count::Fixed(1), x.cols, true), ("bias", Count::Fixed(1), x.cols, true)]
            }
            LayerNormTangent::Second => vec![("", x.rows, 4, true)],
        }
    }

    pub(super) fn lower(self, cx: &mut Lowering<'_>, node: &Node) {
        let input = |i: usize| cx.buffer(node.inputs[i]);
        let layer = |i: usize| cx.layer(node.inputs[i]);
        let (x, out) = (node.inputs[0], node.outputs[0]);
        let (code, fixed) = cx.count(x);
        let (rows, cols4) = (cx.graph.tensor(x).rows, cx.cols4(x));
        let params = kernel::Params { code, fixed, width: cx.graph.tensor(x).cols, cols4, ..Default::default() };
        let layers = cx.layers(out);
        let lanes = cx.variants.row_lanes(Operation::LayerNorm);
        let constants = kernel::Constants { lanes };
        let (label, grid) = (cx.name(out), cx.rowwise(rows, lanes, layers));
        match self {
            LayerNormTangent::Jvp => {
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
            LayerNormTangent::VjpJvp => {
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
            LayerNormTangent::Second => {
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
            LayerNormTangent::Scale => {
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
}
