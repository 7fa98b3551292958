//! Layer norm along a direction: the tangents of its forward and reverse rules, and its second-order term.
//! Shader: `shaders/layer_norm_tangent.wgsl`.

use super::{LayerNorm, Lowering, Node, Op, Operation, OutputShape, Rule, Second, Tangents, Tensor, TensorId, reduce};
use crate::gpu::{Count, Dispatch, Grid};

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
        let names: &[&'static str] = match self {
            LayerNormTangent::Jvp => &["x", "gamma", "stat", "x_dot", "gamma_dot", "beta_dot"],
            LayerNormTangent::VjpJvp => &["x", "gamma", "stat_dot", "y_bar", "x_dot", "gamma_dot", "y_bar_dot"],
            LayerNormTangent::Scale => &["x", "stat_dot", "y_bar", "x_dot", "y_bar_dot"],
            LayerNormTangent::Second => &["x", "gamma", "stat_dot", "y_bar", "x_dot", "gamma_dot"],
        };
        let input = |name: &str| names.iter().position(|n| *n == name).map(|i| node.inputs[i]);
        let layer = |cx: &Lowering<'_>, name: &str| input(name).map_or(0, |id| cx.layer(id));
        let (x, out) = (node.inputs[0], node.outputs[0]);
        let [code, fixed] = cx.count(x);
        let tensor = cx.graph.tensor(x).clone();
        let mut buffers: Vec<_> = names.iter().zip(&node.inputs).map(|(n, id)| (*n, cx.buffer(*id))).collect();
        let mut params = vec![
            code,
            fixed,
            ("width", tensor.cols),
            ("cols4", tensor.cols4()),
            ("layer", layer(cx, "x_dot")),
            ("bar_layer", layer(cx, "y_bar")),
            ("vector_layer", layer(cx, "gamma_dot")),
            ("stat_layer", layer(cx, "stat_dot")),
        ];
        let label = cx.graph.tensor(out).name.clone();
        let kernel = "layer_norm_tangent";
        let layers = cx.layers(out);
        if self == LayerNormTangent::Scale {
            let block = cx.variants.sums().block;
            let cols4 = tensor.cols4();
            let gamma = reduce::blocks(cx, tensor.rows, block, u64::from(cols4), node.outputs[0], None);
            let beta = reduce::blocks(cx, tensor.rows, block, u64::from(cols4), node.outputs[1], None);
            buffers.extend([("gamma_bar", gamma.target.clone()), ("beta_bar", beta.target.clone())]);
            let groups = cols4.div_ceil(8);
            params.extend([("groups", groups), ("block", block), ("out_layer", gamma.layer)]);
            let grid = Grid { count: tensor.rows, unit: block, columns: groups, layers };
            cx.push(Dispatch { label, kernel, entry: "scale", constants: vec![], buffers, params, grid });
            gamma.finish(cx);
            beta.finish(cx);
            return;
        }
        buffers.push(("out", cx.buffer(out)));
        let entry = match self {
            LayerNormTangent::Jvp => {
                let stat_dot = node.outputs[1];
                buffers.push(("stat_out", cx.buffer(stat_dot)));
                params.retain(|(name, _)| *name != "stat_layer");
                params.push(("stat_layer", cx.layer(stat_dot)));
                "jvp"
            }
            LayerNormTangent::Second => {
                params.push(("out_layer", cx.layer(out)));
                "second"
            }
            _ => "vjp_jvp",
        };
        let lanes = cx.variants.row_lanes(Operation::LayerNorm);
        let grid = cx.rowwise(tensor.rows, lanes, layers);
        cx.push(Dispatch { label, kernel, entry, constants: vec![("LANES", lanes)], buffers, params, grid });
    }
}
