//! Less memory for more arithmetic: what a layer computed inside is forgotten after the forward pass and computed again
//! from the layer's input when the backward pass comes to it. Chen et al. 2016, "Training deep nets with sublinear
//! memory cost".
//!
//! A graph holds nothing by itself: a tensor lives from its node to its last use. So it is enough that the backward
//! pass uses copies of the layer's nodes. They are the same kernels on the same inputs, random streams included, and
//! give the same bits.

use std::collections::HashMap;

use super::{Graph, Node, TensorId};
use crate::ops::Emit;

impl Graph {
    /// Recomputes what lies between two neighbouring `boundaries` where nodes behind the first `forward` ones use it.
    /// The boundaries are kept, and so is what a later part of the forward pass uses. Copies that lead to nothing are
    /// left to [`prune`](Graph::prune).
    pub fn recompute(&mut self, forward: usize, boundaries: &[TensorId]) {
        let mut nodes = std::mem::take(self.nodes_mut());
        let backward = nodes.split_off(forward);
        let mut ends: Vec<usize> =
            boundaries.iter().filter_map(|b| nodes.iter().position(|n| n.outputs.contains(b))).collect();
        ends.sort_unstable();
        // Segment s lies behind end s - 1, up to end s; what lies before the first or behind the last end is kept.
        let segment_of = |node: usize| {
            let s = ends.iter().filter(|end| **end < node).count();
            (s > 0 && s < ends.len()).then_some(s)
        };
        let mut inside: HashMap<TensorId, usize> = HashMap::new();
        for (i, node) in nodes.iter().enumerate() {
            for input in node.reads() {
                if inside.get(input).is_some_and(|s| segment_of(i) != Some(*s)) {
                    inside.remove(input);
                }
            }
            if let Some(s) = segment_of(i) {
                inside.extend(node.outputs.iter().filter(|o| !boundaries.contains(o)).map(|o| (*o, s)));
            }
        }
        let segments: Vec<Vec<Node>> = (0..ends.len())
            .map(|s| {
                let of = nodes.iter().enumerate().filter(|(i, _)| segment_of(*i) == Some(s));
                of.map(|(_, node)| node.clone()).collect()
            })
            .collect();
        *self.nodes_mut() = nodes;
        let mut again: HashMap<TensorId, TensorId> = HashMap::new();
        for mut node in backward {
            for input in node.reads_mut() {
                let Some(s) = inside.get(input) else { continue };
                if !again.contains_key(input) {
                    self.copy(&segments[*s], &inside, &mut again);
                }
                *input = again[input];
            }
            self.nodes_mut().push(node);
        }
    }

    /// Appends copies of a segment's nodes.
    fn copy(&mut self, segment: &[Node], inside: &HashMap<TensorId, usize>, again: &mut HashMap<TensorId, TensorId>) {
        for node in segment {
            let mut copy = node.clone();
            copy.reads_mut().for_each(|i| *i = again.get(i).copied().unwrap_or(*i));
            let mut outputs = Vec::with_capacity(node.outputs.len());
            for output in &node.outputs {
                let mut tensor = self.tensor(*output).clone();
                tensor.name += " again";
                let made = self.add_tensor(tensor);
                if inside.contains_key(output) {
                    again.insert(*output, made);
                }
                outputs.push(made);
            }
            self.nodes_mut().push(Node { outputs, ..copy });
        }
    }
}
