//! Passes along a direction. The tangent of a gradient graph is a Hessian-vector product (forward over reverse:
//! Pearlmutter 1994); second-order terms of a forward graph add up to vᵀHv without one.

use std::collections::{BTreeSet, HashMap};

use super::{Emit, Graph, Node, Role, TensorId};
use crate::ops::{Rule, Second, SentenceSum, Tangents, call};

/// Which second-order terms are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// All of them.
    All,
    /// Those whose mean over random probes is not 0. A product ẋ Ẇ of tangents that have no parameter in common joins
    /// different blocks of the matrix: it is in no trace, and scatter in a quadratic form. Left out, the sum is
    /// that of all terms for a probe of one parameter's single number, and in the mean over probes with independent
    /// numbers.
    Mean,
}

impl Graph {
    /// Appends the tangents of all nodes from those of some tensors and returns the tangent of every tensor that has
    /// one.
    ///
    /// Seeds are usually a probe for every parameter; then, with `gradient` applied before, the tangent of a
    /// parameter's adjoint is that parameter's part of H v.
    pub fn tangent(&mut self, seeds: &[(TensorId, TensorId)]) -> HashMap<TensorId, TensorId> {
        self.tangent_of(self.nodes().len(), seeds)
    }

    /// The same of the nodes before `end` only: of a forward pass, with its adjoints left as they are.
    pub fn tangent_of(&mut self, end: usize, seeds: &[(TensorId, TensorId)]) -> HashMap<TensorId, TensorId> {
        let primal: Vec<Node> = self.nodes()[..end].to_vec();
        let mut tangents = Tangents::new(self, seeds);
        for node in &primal {
            if node.reads().all(|id| tangents.of(*id).is_none()) {
                continue;
            }
            let operation = node.operation();
            assert!(
                matches!(node.rule, Rule::Forward | Rule::Vjp(_)) && operation.differentiable(),
                "{} {:?} has no tangent: third derivatives are not taken",
                operation.name(),
                node.rule
            );
            operation.jvp(node, &mut tangents);
        }
        tangents.finish()
    }

    /// Appends ⟨ȳ, D²f[ẋ, ẋ]⟩ of the nodes before `end`, summed up by sentence, [probes][sentences, 4] in the first
    /// column. With a loss, the loss's own term ⟨ż, D²ℓ ż⟩ of rows that weigh `weight` is part of it; then, with
    /// adjoints of the sum of the losses, the sums are vᵀH_i v of every sentence i, and without adjoints vᵀG_i v
    /// (Gauss-Newton).
    pub fn second_order(
        &mut self,
        end: usize,
        loss: Option<(TensorId, f32)>,
        adjoints: Option<&HashMap<TensorId, TensorId>>,
        tangents: &HashMap<TensorId, TensorId>,
    ) -> Option<TensorId> {
        self.second_order_of(Terms::All, end, loss, adjoints, tangents)
    }

    /// The same of some of the terms.
    pub fn second_order_of(
        &mut self,
        which: Terms,
        end: usize,
        loss: Option<(TensorId, f32)>,
        adjoints: Option<&HashMap<TensorId, TensorId>>,
        tangents: &HashMap<TensorId, TensorId>,
    ) -> Option<TensorId> {
        let primal: Vec<Node> = self.nodes()[..end].to_vec();
        let apart = match which {
            Terms::All => vec![false; end],
            Terms::Mean => self.products_apart(&primal),
        };
        let mut second = Second::new(self, tangents, adjoints);
        for (node, apart) in primal.iter().zip(apart) {
            let out = node.outputs[0];
            match loss {
                Some((loss, weight)) if loss == out => {
                    let [logits] = node.inputs();
                    let own = call(node.function.clone(), Rule::Second, &[logits, loss, second.dot(logits)]);
                    let terms = second.push(own, "second(loss)");
                    second.term(terms, weight);
                }
                _ if apart => {}
                _ => {
                    if let Some(y_bar) = adjoints.and_then(|a| a.get(&out)) {
                        node.operation().second(node, &mut second, *y_bar);
                    }
                }
            }
        }
        second.finish()
    }

    /// Of each node whether it is a product of two inputs that no parameter is behind both of.
    fn products_apart(&self, primal: &[Node]) -> Vec<bool> {
        let mut behind: HashMap<TensorId, BTreeSet<TensorId>> = self
            .tensors()
            .filter(|(_, tensor)| tensor.role == Role::Parameter)
            .map(|(id, _)| (id, BTreeSet::from([id])))
            .collect();
        let mut apart = Vec::with_capacity(primal.len());
        for node in primal {
            let of = |id: &TensorId| behind.get(id).cloned().unwrap_or_default();
            apart.push(node.operation().bilinear() && of(&node.inputs[0]).is_disjoint(&of(&node.inputs[1])));
            let all: BTreeSet<TensorId> = node.reads().flat_map(of).collect();
            behind.extend(node.outputs.iter().map(|out| (*out, all.clone())));
        }
        apart
    }

    /// Appends the sum over each sentence of a matrix's rows and columns, [sentences, 4] in the first column.
    pub fn sentence_sum(&mut self, terms: TensorId) -> TensorId {
        self.push(call(SentenceSum { factor: 1.0 }, Rule::Forward, &[terms]), "sum")[0]
    }
}
