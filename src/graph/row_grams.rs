//! The inner products of a layer's inputs, once for all draws.

use std::collections::HashMap;

use super::{Dims, Emit, Graph, Node, TensorId};
use crate::gpu::Count;
use crate::ops::{Function, GhostNorm, RowGram, Rule, call, instantiates};

impl Graph {
    /// Of squared norms with probes that are taken from a layer's input without, the input's inner products become a
    /// tensor of their own ([`RowGram`]), where sentences have more than `few` rows. `most` are the rows of the longest
    /// sentence.
    pub fn share_row_grams(&mut self, dims: &Dims, most: impl Fn(Count) -> u32, few: u32) {
        let nodes = std::mem::take(self.nodes_mut());
        let mut grams: HashMap<TensorId, TensorId> = HashMap::new();
        for mut node in nodes {
            if let Function::GhostNorm(GhostNorm::Product { parts }) = node.function
                && self.tensor(node.outputs[0]).probes
            {
                let (b, a) = (self.tensor(node.inputs[0]), self.tensor(node.inputs[1]));
                let most = most(a.rows);
                if !a.probes && most > few && !instantiates(b, a, parts, dims) {
                    let known = grams.get(&node.inputs[1]).copied();
                    let own = call(RowGram { most }, Rule::Forward, &node.inputs[1..2]);
                    let gram = known.unwrap_or_else(|| self.push(own, "row_gram")[0]);
                    grams.insert(node.inputs[1], gram);
                    node = Node {
                        function: GhostNorm::Weighted { parts }.into(),
                        inputs: vec![node.inputs[0], gram],
                        ..node
                    };
                }
            }
            self.nodes_mut().push(node);
        }
    }
}
