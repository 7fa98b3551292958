//! Passes along a direction. The tangent of a gradient graph is a Hessian-vector product (forward over reverse: Pearlmutter
//! 1994); second-order terms of a forward graph add up to vᵀHv without one.

use std::collections::HashMap;

use super::{Emit, Graph, Node, TensorId};
use crate::ops::{CrossEntropy, Op, Rule, Second, SentenceSum, Tangents};

impl Graph {
    /// Appends the tangents of all nodes from those of some tensors and returns the tangent of every tensor that has one.
    ///
    /// Seeds are usually a probe for every parameter; then, with `gradient` applied before, the tangent of a parameter's
    /// adjoint is that parameter's part of H v.
    pub fn tangent(&mut self, seeds: &[(TensorId, TensorId)]) -> HashMap<TensorId, TensorId> {
        let primal: Vec<Node> = self.nodes().to_vec();
        let mut tangents = Tangents::new(self, seeds);
        for node in &primal {
            node.op.jvp(&mut tangents, node);
        }
        tangents.finish()
    }

    /// Appends vᵀH_i v of every sentence i from the tangents and adjoints of a forward graph, [probes][sentences, 4] in the
    /// first column: the loss's own term and ⟨ȳ, D²f[ẋ, ẋ]⟩ of every operation. Without adjoints, vᵀG_i v (Gauss-Newton).
    ///
    /// H_i is the Hessian of the sum of the sentence's losses when `adjoints` come from cotangents 1.
    pub fn quadratic_form(
        &mut self,
        loss: TensorId,
        adjoints: Option<&HashMap<TensorId, TensorId>>,
        tangents: &HashMap<TensorId, TensorId>,
    ) -> TensorId {
        let primal: Vec<Node> = self.nodes().to_vec();
        let node = primal.iter().find(|n| n.outputs.first() == Some(&loss)).expect("a loss is computed by a node");
        let Op::CrossEntropy(op) = &node.op else { panic!("`{}` is no cross-entropy", self.tensor(loss).name) };
        let inputs = [node.inputs[0], loss, tangents[&node.inputs[0]]];
        let bend = self.push(Op::CrossEntropy(CrossEntropy { rule: Rule::Second, ..*op }), &inputs, "second(loss)")[0];
        let mut second = Second::new(self, tangents);
        second.term(bend, 1.0);
        if let Some(adjoints) = adjoints {
            for node in &primal {
                let Some(y_bar) = node.outputs.first().and_then(|o| adjoints.get(o)) else { continue };
                // The adjoint of the loss is its weight; the loss's term is there already.
                if node.outputs[0] != loss {
                    node.op.second(&mut second, node, *y_bar);
                }
            }
        }
        second.finish().expect("the loss's term at least")
    }

    /// Appends the sum over each sentence of a matrix's rows and columns, [sentences, 4] in the first column.
    pub fn sentence_sum(&mut self, terms: TensorId) -> TensorId {
        self.push(Op::SentenceSum(SentenceSum { factor: 1.0, addend: false }), &[terms], "sum")[0]
    }
}
