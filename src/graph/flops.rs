//! What a graph costs in multiplications and additions of matrix products, the unit in which measurements are counted.

use super::{Dims, Emit, Graph, Node};
use crate::ops::{Function, GhostNorm, Sizes, Variants};

impl Graph {
    /// (nodes without probes, nodes with probes for one probe) at the sizes of `dims`, two for a multiplication with
    /// its addition.
    pub fn flops(&self, dims: &Dims, variants: &Variants) -> [f64; 2] {
        let sizes = Sizes { graph: self, dims, variants };
        let mut sums = [0.0; 2];
        for node in self.nodes() {
            let probes = self.tensor(node.outputs[0]).probes;
            sums[usize::from(probes)] += counted(node, &sizes);
        }
        sums
    }
}

/// What a node counts: the operation's own number, but for three that files of measurements have always counted
/// otherwise. Attention's products and Gram matrices are left out; norms of a scale and of a tied table are taken for
/// products of all pairs of rows.
fn counted(node: &Node, sizes: &Sizes<'_>) -> f64 {
    match &node.function {
        Function::Attention(_) | Function::GhostGram(_) => 0.0,
        Function::GhostNorm(GhostNorm::Scale { .. } | GhostNorm::Tied) => {
            let (b, a) = (node.inputs[0], node.inputs[1]);
            sizes.rows(b) * sizes.rows_per_sentence(b) * (sizes.cols(b) + sizes.cols(a))
        }
        _ => node.operation().flops(node, sizes).unwrap_or(0.0),
    }
}
