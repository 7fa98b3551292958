//! An activation's slope, once for all draws.

use std::collections::HashMap;

use super::{Emit, Graph, Node, TensorId};
use crate::ops::{Epilogue, Function, Rule, call};

impl Graph {
    /// Of products with probes that are multiplied by the slope at a tensor without, the slope becomes a tensor of its
    /// own, so that it is computed once and not for every probe. For fused graphs.
    pub fn share_slopes(&mut self) {
        let with = |n: &Node| n.outputs.iter().any(|o| self.tensor(*o).probes);
        let first = self.nodes().iter().position(with).unwrap_or(self.nodes().len());
        let behind = self.nodes_mut().split_off(first);
        let mut slopes: HashMap<TensorId, TensorId> = HashMap::new();
        let mut changed: Vec<Node> = Vec::with_capacity(behind.len());
        for mut node in behind {
            let probes = self.tensor(node.outputs[0]).probes;
            if let (Function::Linear(linear), true) = (&mut node.function, probes)
                && let Epilogue::Slope(f) = linear.epilogue
                && let Some(z) = node.inputs.last_mut()
                && !self.tensor(*z).probes
            {
                linear.epilogue = Epilogue::Times;
                let known = slopes.get(z).copied();
                let slope = known.unwrap_or_else(|| self.push(call(f, Rule::Slope, &[*z]), "slope")[0]);
                slopes.insert(*z, slope);
                *z = slope;
            }
            changed.push(node);
        }
        self.nodes_mut().extend(changed);
    }
}
