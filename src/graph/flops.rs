//! What a graph costs in multiplications and additions of matrix products, the unit in which measurements are counted.

use super::{Count, Dims, Emit, Graph, Node};
use crate::ops::{GhostNorm, Layout, Op};

impl Graph {
    /// (nodes without probes, nodes with probes for one probe) at the sizes of `dims`, two for a multiplication with its
    /// addition. Norms of per-example gradients count as the inner products that they are.
    pub fn flops(&self, dims: &Dims) -> [f64; 2] {
        let mut sums = [0.0; 2];
        for node in self.nodes() {
            let probes = self.tensor(node.outputs[0]).probes;
            sums[usize::from(probes)] += self.node_flops(node, dims);
        }
        sums
    }

    fn node_flops(&self, node: &Node, dims: &Dims) -> f64 {
        let rows = |i: usize| match self.tensor(node.inputs[i]).rows {
            Count::Fixed(n) => f64::from(n),
            count => f64::from(dims.capacity(count)),
        };
        let cols = |i: usize| f64::from(self.tensor(node.inputs[i]).cols);
        match &node.op {
            Op::Linear(op) => {
                let (m, k) = if op.layout == Layout::TN { (cols(0), rows(0)) } else { (rows(0), cols(0)) };
                let n = if op.layout == Layout::NT { rows(1) } else { cols(1) };
                2.0 * m * n * k
            }
            // Half of the pairs, each a multiplication and an addition.
            Op::RowGram(_) | Op::GhostNorm(GhostNorm::Weighted { .. }) => {
                rows(0) * rows(0) / f64::from(dims.sentences.max(1)) * cols(0)
            }
            Op::GhostNorm(_) if node.inputs.len() > 1 => {
                let per_sentence = rows(0) / f64::from(dims.sentences.max(1));
                rows(0) * per_sentence * (cols(0) + cols(1))
            }
            _ => 0.0,
        }
    }
}
