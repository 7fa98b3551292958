//! Cross-entropy of masked rows against hard or soft labels, with its derivative in closed form (p - q).
//! Shader: `shaders/cross_entropy.wgsl`.

use super::counts::MASKED;
use super::operation::{self, no_rule};
use super::{Adjoints, Family, Lowering, Node, Operation, OutputShape, Rule, Sizes, Tangents, Tensor, TensorId, call};
use crate::gpu::MOST_ITERATIONS;
use crate::kernels::cross_entropy as kernel;

/// Which labels of the batch a loss is taken against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Labels {
    /// One word per masked position.
    Hard,
    /// One distribution over the vocabulary per masked position.
    Soft,
}

/// The loss of rows of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// What the logits are compared with.
    pub labels: Labels,
}

/// Lanes of a row: those of the variant, and several where one lane's loops over a row, three of them, would be longer
/// than a software driver lets them be.
fn lanes(cols4: u32, variant: u32) -> u32 {
    let alone = variant == 1 && 3 * u64::from(cols4) > MOST_ITERATIONS;
    if alone { 32 } else { variant }
}

impl Operation for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    /// Forward: logits to stat [masked, 4] = (loss, divergence, log Σ exp, max). Vjp: (logits, stat, weight) to z̄, one
    /// for each probe of the weights. Jvp: (logits, stat, ż) to ⟨p − q, ż⟩, Second: to ⟨ż, (diag p − ppᵀ) ż⟩, both in
    /// the first column of [masked, 4]. VjpJvp: (logits, stat, weight, ż) to weight (diag p − ppᵀ) ż.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        match rule {
            Rule::Forward => {
                let [_] = operation::inputs(self, inputs);
                vec![("", MASKED, 4, false)]
            }
            Rule::Vjp(0) => {
                let [z, _, weight] = operation::inputs(self, inputs);
                vec![("", MASKED, z.cols, weight.probes)]
            }
            Rule::Jvp | Rule::Second => {
                let [_, _, _] = operation::inputs(self, inputs);
                vec![("", MASKED, 4, true)]
            }
            Rule::VjpJvp(0) => {
                let [z, _, _, _] = operation::inputs(self, inputs);
                vec![("", MASKED, z.cols, true)]
            }
            _ => no_rule(self, rule),
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn family(&self, _: Rule) -> Option<Family> {
        Some(Family::CrossEntropy)
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, weight: TensorId) {
        let ([logits], [stat]) = (node.inputs(), node.outputs());
        g.contribute(logits, call(*self, Rule::Vjp(0), &[logits, stat, weight]));
    }

    /// The tangent of the loss, and that of z̄.
    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let [out] = node.outputs();
        let tangent = match node.rule {
            Rule::Forward => {
                let [logits] = node.inputs();
                call(*self, Rule::Jvp, &[logits, out, g.wanted(logits)])
            }
            _ => {
                let [logits, stat, weight] = node.inputs();
                call(*self, Rule::VjpJvp(0), &[logits, stat, weight, g.wanted(logits)])
            }
        };
        let tangent = g.push(tangent, &g.dot(out))[0];
        g.set(out, tangent);
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let (z, [out]) = (node.inputs[0], node.outputs());
        let layer = |i: usize| cx.layer(node.inputs[i]);
        let (z_layer, weight_layer) = match node.rule {
            Rule::Vjp(_) => (0, layer(2)),
            Rule::Jvp | Rule::Second => (layer(2), 0),
            Rule::VjpJvp(_) => (layer(3), 0),
            _ => (0, 0),
        };
        let params = kernel::Params {
            width: cx.graph.tensor(z).cols,
            cols4: cx.cols4(z),
            soft: u32::from(self.labels == Labels::Soft),
            z_layer,
            weight_layer,
            out_layer: cx.layer(out),
            bend: u32::from(node.rule == Rule::Second),
        };
        let lanes = lanes(cx.cols4(z), cx.variants.row_lanes(Family::CrossEntropy));
        let constants = kernel::Constants { lanes };
        let (label, grid) = (cx.name(out), cx.rowwise(MASKED, lanes, cx.layers(out)));
        let (z, out) = (cx.buffer(z), cx.buffer(out));
        let q = match self.labels {
            Labels::Hard => cx.batch.hard.clone(),
            Labels::Soft => cx.batch.soft.clone(),
        };
        match node.rule {
            Rule::Vjp(_) => {
                let [_, stat, weight] = node.inputs().map(|id| cx.buffer(id));
                cx.push(kernel::Vjp { z, q, stat, weight, out, params, constants }, label, grid);
            }
            Rule::Jvp | Rule::Second => {
                let [_, stat, z_dot] = node.inputs().map(|id| cx.buffer(id));
                cx.push(kernel::Jvp { z, q, stat, z_dot, out, params, constants }, label, grid);
            }
            Rule::VjpJvp(_) => {
                let [_, stat, weight, z_dot] = node.inputs().map(|id| cx.buffer(id));
                cx.push(kernel::VjpJvp { z, stat, weight, z_dot, out, params, constants }, label, grid);
            }
            _ => cx.push(kernel::Forward { z, q, out, params, constants }, label, grid),
        }
    }
}
