//! Fusion: a product followed by an elementwise operation on nothing but its result becomes one node, the gradients of
//! a weight and of the bias beside it become one, and so do layer norm's gradients.

use super::{Emit, Graph, Node, TensorId};
use crate::ops::{Epilogue, Function, Layout, Linear, Rule};

impl Graph {
    /// Fuses products with the activation behind them, forward (both results are kept) and backward, and products ȳᵀ x
    /// with the column sums of ȳ. For graphs that are not transformed any more: the fused nodes have no rules.
    pub fn fuse(&mut self) {
        self.fuse_activation();
        self.fuse_sums();
        self.fuse_scale();
    }

    fn fuse_activation(&mut self) {
        let mut uses: std::collections::HashMap<TensorId, u32> = std::collections::HashMap::new();
        for node in self.nodes() {
            for id in node.reads() {
                *uses.entry(*id).or_insert(0) += 1;
            }
        }
        let nodes = std::mem::take(self.nodes_mut());
        let mut fused: Vec<Node> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let epilogue = match (&node.function, node.rule) {
                (Function::Activation(f), Rule::Forward) => Epilogue::Activation(*f),
                // The slope's other factor must be the product, used here only.
                (Function::Activation(f), Rule::Vjp(0)) if uses.get(&node.inputs[1]) == Some(&1) => Epilogue::Slope(*f),
                _ => Epilogue::None,
            };
            let operand = match epilogue {
                Epilogue::Activation(_) => node.inputs[0],
                Epilogue::Slope(_) => node.inputs[1],
                Epilogue::None | Epilogue::Times | Epilogue::Dot => {
                    fused.push(node);
                    continue;
                }
            };
            let producer = fused.iter_mut().rev().find(|p| p.outputs[0] == operand);
            match producer {
                Some(p) if plain(&p.function) => {
                    if let Function::Linear(linear) = &mut p.function {
                        linear.epilogue = epilogue;
                    }
                    if let Epilogue::Activation(_) = epilogue {
                        p.outputs.push(node.outputs[0]);
                    } else {
                        p.inputs.push(node.inputs[0]);
                        p.outputs = node.outputs;
                    }
                }
                _ => fused.push(node),
            }
        }
        *self.nodes_mut() = fused;
    }

    fn fuse_sums(&mut self) {
        let nodes = std::mem::take(self.nodes_mut());
        let mut fused: Vec<Node> = Vec::with_capacity(nodes.len());
        for node in nodes {
            let product = match node.function {
                Function::ColumnSum(_) => fused.iter_mut().rev().find(|p| self.sums_beside(p, &node)),
                _ => None,
            };
            match product {
                Some(p) => {
                    if let Function::Linear(linear) = &mut p.function {
                        linear.sums = true;
                    }
                    p.outputs.push(node.outputs[0]);
                }
                None => fused.push(node),
            }
        }
        *self.nodes_mut() = fused;
    }

    /// Layer norm's two reverse rules, the one for its scale and shift and the one for its input, where they stand side
    /// by side.
    fn fuse_scale(&mut self) {
        let nodes = std::mem::take(self.nodes_mut());
        let mut fused: Vec<Node> = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            if let (Function::LayerNorm(norm), Rule::Vjp(0), Some(scale)) =
                (&mut node.function, node.rule, fused.last())
                && matches!((&scale.function, scale.rule), (Function::LayerNorm(_), Rule::Vjp(1)))
                && scale.inputs == node.inputs[..3]
            {
                norm.sums = true;
                node.outputs.extend(&scale.outputs);
                fused.pop();
            }
            fused.push(node);
        }
        *self.nodes_mut() = fused;
    }

    /// Whether a product reads what a column sum does, with as many probes in both results.
    fn sums_beside(&self, product: &Node, sum: &Node) -> bool {
        matches!(product.function, Function::Linear(Linear { layout: Layout::TN, sums: false, .. }))
            && product.inputs[0] == sum.inputs[0]
            && self.tensor(product.outputs[0]).probes == self.tensor(sum.outputs[0]).probes
    }
}

/// A product that has room for an epilogue.
fn plain(function: &Function) -> bool {
    use crate::ops::Layout::{NN, NT};
    matches!(function, Function::Linear(Linear { layout: NT | NN, epilogue: Epilogue::None, .. }))
}
