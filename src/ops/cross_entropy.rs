//! Cross-entropy of masked rows against hard or soft labels, with its derivative in closed form (p - q).
//! Shader: `shaders/cross_entropy.wgsl`.

use super::{Adjoints, Lowering, Node, Op, Operation, OutputShape, Rule, Tangents, Tensor, TensorId};
use crate::gpu::Count;
use crate::kernels::cross_entropy as kernel;

/// Which labels of the batch a loss is taken against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Labels {
    /// One word a masked position.
    Hard,
    /// A distribution over the vocabulary a masked position.
    Soft,
}

/// The loss, or its vjp with respect to the logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    pub rule: Rule,
    pub labels: Labels,
}

impl CrossEntropy {
    /// Forward: logits to stat [masked, 4] = (loss, divergence, log Σ exp, max). Vjp: (logits, stat, weight) to z̄, one for
    /// each probe of the weights.
    /// Jvp: (logits, stat, ż) to ⟨p − q, ż⟩, Second: to ⟨ż, (diag p − ppᵀ) ż⟩, both in the first column of [masked, 4].
    /// VjpJvp: (logits, stat, weight, ż) to weight (diag p − ppᵀ) ż.
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        match self.rule {
            Rule::Forward => vec![("", Count::Masked, 4, false)],
            Rule::Vjp => vec![("", Count::Masked, inputs[0].cols, inputs[2].probes)],
            Rule::Jvp | Rule::Second => vec![("", Count::Masked, 4, true)],
            Rule::VjpJvp => vec![("", Count::Masked, inputs[0].cols, true)],
        }
    }

    pub(super) fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, weight: TensorId) {
        let (logits, stat) = (node.inputs[0], node.outputs[0]);
        let op = Op::CrossEntropy(CrossEntropy { rule: Rule::Vjp, ..*self });
        g.contribute(logits, |g, before| {
            let name = g.bar(logits);
            let z_bar = g.push(op, &[logits, stat, weight], &name)[0];
            before.map_or(z_bar, |before| g.add(before, z_bar))
        });
    }

    /// The tangent of the loss, and that of z̄.
    pub(super) fn jvp(&self, g: &mut Tangents<'_>, node: &Node) {
        let logits = node.inputs[0];
        let name = g.dot(node.outputs[0]);
        let (rule, inputs) = match self.rule {
            Rule::Forward => (Rule::Jvp, vec![logits, node.outputs[0], g.wanted(logits)]),
            _ => (Rule::VjpJvp, vec![logits, node.inputs[1], node.inputs[2], g.wanted(logits)]),
        };
        let tangent = g.push(Op::CrossEntropy(CrossEntropy { rule, ..*self }), &inputs, &name)[0];
        g.set(node.outputs[0], tangent);
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let (z, out) = (node.inputs[0], node.outputs[0]);
        let input = |i: usize| cx.buffer(node.inputs[i]);
        let layer = |i: usize| cx.layer(node.inputs[i]);
        let (z_layer, weight_layer) = match self.rule {
            Rule::Forward => (0, 0),
            Rule::Vjp => (0, layer(2)),
            Rule::Jvp | Rule::Second => (layer(2), 0),
            Rule::VjpJvp => (layer(3), 0),
        };
        let params = kernel::Params {
            width: cx.graph.tensor(z).cols,
            cols4: cx.cols4(z),
            soft: u32::from(self.labels == Labels::Soft),
            z_layer,
            weight_layer,
            out_layer: cx.layer(out),
            bend: u32::from(self.rule == Rule::Second),
        };
        let lanes = cx.variants.row_lanes(Operation::CrossEntropy);
        let constants = kernel::Constants { lanes };
        let (label, grid) = (cx.name(out), cx.rowwise(Count::Masked, lanes, cx.layers(out)));
        let (z, out) = (cx.buffer(z), cx.buffer(out));
        let q = match self.labels {
            Labels::Hard => cx.batch.hard.clone(),
            Labels::Soft => cx.batch.soft.clone(),
        };
        match self.rule {
            Rule::Forward => cx.push(kernel::Forward { z, q, out, params, constants }, label, grid),
            Rule::Vjp => {
                let [stat, weight] = [1, 2].map(input);
                cx.push(kernel::Vjp { z, q, stat, weight, out, params, constants }, label, grid);
            }
            Rule::Jvp | Rule::Second => {
                let [stat, z_dot] = [1, 2].map(input);
                cx.push(kernel::Jvp { z, q, stat, z_dot, out, params, constants }, label, grid);
            }
            Rule::VjpJvp => {
                let [stat, weight, z_dot] = [1, 2, 3].map(input);
                cx.push(kernel::VjpJvp { z, stat, weight, z_dot, out, params, constants }, label, grid);
            }
        }
    }
}
