//! Transforms of graphs. They only emit nodes; what to emit is each operation's own rule.

use std::collections::HashMap;

use super::{Graph, Node, Role, TensorId};
use crate::ops::{Adjoints, Rule};

impl Graph {
    /// Appends the reverse pass from cotangents of some tensors and returns the adjoint of every tensor that has one.
    ///
    /// The gradient of a parameter is `adjoints[&parameter]`. Cotangents may have probes; then all adjoints have them.
    pub fn gradient(&mut self, cotangents: &[(TensorId, TensorId)]) -> HashMap<TensorId, TensorId> {
        let parameters: Vec<bool> = self.tensors().map(|(_, t)| t.role == Role::Parameter).collect();
        self.gradient_for(cotangents, |id| parameters[id.0 as usize])
    }

    /// The same for some parameters or inputs only; what leads to no other is left out.
    pub fn gradient_for(
        &mut self,
        cotangents: &[(TensorId, TensorId)],
        of: impl Fn(TensorId) -> bool,
    ) -> HashMap<TensorId, TensorId> {
        let mut wanted: Vec<bool> = self.tensors().map(|(id, t)| t.role != Role::Value && of(id)).collect();
        for node in self.nodes() {
            if node.reads().any(|i| wanted[i.0 as usize]) {
                for output in &node.outputs {
                    wanted[output.0 as usize] = true;
                }
            }
        }
        let forward: Vec<Node> = self.nodes().to_vec();
        let mut reverse = Adjoints::new(self, wanted, cotangents);
        for node in forward.iter().rev() {
            if let Some(incoming) = node.outputs.first().and_then(|o| reverse.of(*o)) {
                let operation = node.operation();
                assert!(
                    node.rule == Rule::Forward && operation.differentiable(),
                    "{} {:?} has no reverse rule: second derivatives are tangents of the gradient",
                    operation.name(),
                    node.rule
                );
                operation.vjp(node, &mut reverse, incoming);
            }
        }
        reverse.finish()
    }

    /// Nodes that lead to one of the tensors; the others are dropped.
    pub fn prune(&mut self, keep: &[TensorId]) {
        let mut needed: Vec<bool> = vec![false; self.tensors().count()];
        for id in keep {
            needed[id.0 as usize] = true;
        }
        let mut kept = Vec::with_capacity(self.nodes().len());
        for node in std::mem::take(self.nodes_mut()).into_iter().rev() {
            if node.outputs.iter().any(|o| needed[o.0 as usize]) {
                for input in node.reads() {
                    needed[input.0 as usize] = true;
                }
                kept.push(node);
            }
        }
        kept.reverse();
        *self.nodes_mut() = kept;
    }
}
