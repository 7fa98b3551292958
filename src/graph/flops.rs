//! What a graph costs in multiplications and additions of matrix products, the unit in which measurements are counted.

use super::{Dims, Emit, Graph};
use crate::ops::{Function, Sizes, Variants};

impl Graph {
    /// (nodes without probes, nodes with probes for one probe) at the sizes of `dims`, two for a multiplication with its
    /// addition. Norms of per-example gradients count as the inner products that they are. Attention's own products and Gram
    /// matrices do not count: files of measurements have always been in this unit.
    pub fn flops(&self, dims: &Dims, variants: &Variants) -> [f64; 2] {
        let sizes = Sizes { graph: self, dims, variants };
        let mut sums = [0.0; 2];
        for node in
            self.nodes().iter().filter(|n| !matches!(n.function, Function::Attention(_) | Function::GhostGram(_)))
        {
            let probes = self.tensor(node.outputs[0]).probes;
            sums[usize::from(probes)] += node.operation().flops(node, &sizes).unwrap_or(0.0);
        }
        sums
    }
}
