//! Cross-entropy of masked rows against hard or soft labels, with its derivative in closed form (p - q).
//! Shader: `shaders/cross_entropy.wgsl`.

use super::{Adjoints, Lowering, Node, Op, Operation, OutputShape, Rule, Tangents, Tensor, TensorId};
use crate::gpu::{Count, Dispatch};

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
        let labels = match self.labels {
            Labels::Hard => cx.batch.hard.clone(),
            Labels::Soft => cx.batch.soft.clone(),
        };
        let tensor = cx.graph.tensor(z);
        let mut buffers = vec![("z", cx.buffer(z)), ("q", labels), ("out", cx.buffer(out))];
        let entry = match self.rule {
            Rule::Forward => "forward",
            Rule::Vjp => {
                buffers.push(("stat", cx.buffer(node.inputs[1])));
                buffers.push(("weight", cx.buffer(node.inputs[2])));
                "vjp"
            }
            Rule::Jvp | Rule::Second => {
                buffers.push(("stat", cx.buffer(node.inputs[1])));
                buffers.push(("z_dot", cx.buffer(node.inputs[2])));
                "jvp"
            }
            Rule::VjpJvp => {
                buffers.retain(|(name, _)| *name != "q");
                buffers.push(("stat", cx.buffer(node.inputs[1])));
                buffers.push(("weight", cx.buffer(node.inputs[2])));
                buffers.push(("z_dot", cx.buffer(node.inputs[3])));
                "vjp_jvp"
            }
        };
        let tangent = node.inputs.last().filter(|_| matches!(self.rule, Rule::Jvp | Rule::Second | Rule::VjpJvp));
        let lanes = cx.variants.row_lanes(Operation::CrossEntropy);
        let params = vec![
            ("width", tensor.cols),
            ("cols4", tensor.cols4()),
            ("soft", u32::from(self.labels == Labels::Soft)),
            ("z_layer", tangent.map_or(0, |id| cx.layer(*id))),
            ("weight_layer", if self.rule == Rule::Vjp { cx.layer(node.inputs[2]) } else { 0 }),
            ("out_layer", cx.layer(out)),
            ("bend", u32::from(self.rule == Rule::Second)),
        ];
        let grid = cx.rowwise(Count::Masked, lanes, cx.layers(out));
        let label = cx.graph.tensor(out).name.clone();
        cx.push(Dispatch {
            label,
            kernel: "cross_entropy",
            entry,
            constants: vec![("LANES", lanes)],
            buffers,
            params,
            grid,
        });
    }
}
