//! Cross-entropy of masked rows against hard or soft labels, with its derivative in closed form (p - q).
//! Shader: `shaders/cross_entropy.wgsl`.

use super::{Adjoints, Lowering, Node, Op, Operation, OutputShape, Rule, Tensor, TensorId};
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
    /// Forward: logits to stat [masked, 4] = (loss, divergence, log Σ exp, max). Vjp: (logits, stat, weight) to z̄.
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        match self.rule {
            Rule::Forward => vec![("", Count::Masked, 4, false)],
            Rule::Vjp => vec![("", Count::Masked, inputs[0].cols, false)],
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
        };
        let lanes = cx.variants.row_lanes(Operation::CrossEntropy);
        let params =
            vec![("width", tensor.cols), ("cols4", tensor.cols4()), ("soft", u32::from(self.labels == Labels::Soft))];
        let grid = cx.rowwise(Count::Masked, lanes, 1);
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
