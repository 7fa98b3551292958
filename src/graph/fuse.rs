//! Fusion: a product followed by elementwise operations on nothing but its result becomes one node, be they an
//! activation or a gate; the gradients of a weight and of the bias beside it become one, and so do layer norm's
//! gradients.

use std::collections::HashMap;

use super::{Emit, Graph, Node, TensorId};
use crate::ops::{Activation, Epilogue, Function, Layout, Linear, Rule};

impl Graph {
    /// Fuses products with the activation behind them, forward (both results are kept) and backward, and products ȳᵀ x
    /// with the column sums of ȳ. For graphs that are not transformed any more: the fused nodes have no rules.
    pub fn fuse(&mut self) {
        self.fuse_activation();
        self.fuse_gates();
        self.fuse_sums();
        self.fuse_scale();
    }

    fn fuse_activation(&mut self) {
        let uses = self.uses();
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
                _ => {
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

    /// How often each tensor is read.
    fn uses(&self) -> HashMap<TensorId, u32> {
        let mut uses = HashMap::new();
        for id in self.nodes().iter().flat_map(Node::reads) {
            *uses.entry(*id).or_insert(0) += 1;
        }
        uses
    }

    /// Gates, f(z) ⊙ u: their reverse rule into the product that gives the gradient of what went through, and then,
    /// where nothing reads f(z) any more, the gate itself into the product that gives u.
    fn fuse_gates(&mut self) {
        let uses = self.uses();
        let mut nodes = std::mem::take(self.nodes_mut());
        let gates: Vec<(TensorId, TensorId, Activation)> = nodes
            .iter()
            .filter_map(|n| match &n.function {
                Function::Linear(Linear { epilogue: Epilogue::Activation(f), .. }) => {
                    Some((n.outputs[0], n.outputs[1], *f))
                }
                _ => None,
            })
            .collect();
        for (z, open, f) in gates {
            // The gate's own product reads f(z), and the reverse rule that has gone.
            let gone = u32::from(fuse_gate_vjp(&mut nodes, &uses, z, open, f).is_some());
            if uses.get(&open) == Some(&(1 + gone)) {
                fuse_gate(&mut nodes, z, open, f);
            }
        }
        *self.nodes_mut() = nodes;
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

/// Where the product of two tensors is made that stands alone.
fn product_of(nodes: &[Node], fits: impl Fn(&[TensorId]) -> bool) -> Option<usize> {
    nodes.iter().position(|n| matches!(n.function, Function::Multiply(_)) && n.addend.is_none() && fits(&n.inputs))
}

/// The product with the gradient ȳ of f(z) ⊙ u, which nothing but the two products ȳ ⊙ u and ȳ ⊙ f(z) reads, gives ū =
/// ȳ ⊙ f(z) and z̄ = ȳ ⊙ u ⊙ f'(z).
fn fuse_gate_vjp(
    nodes: &mut Vec<Node>,
    uses: &HashMap<TensorId, u32>,
    z: TensorId,
    open: TensorId,
    f: Activation,
) -> Option<()> {
    let slope = nodes.iter().position(|n| {
        matches!((&n.function, n.rule), (Function::Activation(g), Rule::Vjp(0)) if *g == f)
            && n.inputs[0] == z
            && n.addend.is_none()
    })?;
    let open_bar = nodes[slope].inputs[1];
    let of_gate = nodes.iter().position(|n| n.outputs.contains(&open_bar))?;
    if !matches!(nodes[of_gate].function, Function::Multiply(_)) || nodes[of_gate].addend.is_some() {
        return None;
    }
    let [u, y_bar] = nodes[of_gate].inputs[..] else { return None };
    let of_u = product_of(nodes, |inputs| inputs == [open, y_bar])?;
    let product = nodes.iter().position(|n| n.outputs[0] == y_bar)?;
    let alone = uses.get(&open_bar) == Some(&1) && uses.get(&y_bar) == Some(&2);
    let fits = matches!(&nodes[product].function, Function::Linear(Linear { bias: false, .. }));
    if !alone || !fits || !plain(&nodes[product].function) || product > of_gate.min(of_u) {
        return None;
    }
    // What is computed again for the reverse pass may only come behind the product.
    let there = |id: TensorId| nodes.iter().position(|n| n.outputs.contains(&id)).is_none_or(|at| at < product);
    if !there(u) || !there(z) {
        return None;
    }
    let outputs = vec![nodes[of_u].outputs[0], nodes[slope].outputs[0]];
    let made = &mut nodes[product];
    if let Function::Linear(linear) = &mut made.function {
        linear.epilogue = Epilogue::GateVjp(f);
    }
    made.inputs.extend([u, z]);
    made.outputs = outputs;
    let mut gone = [slope, of_gate, of_u];
    gone.sort_unstable();
    gone.into_iter().rev().for_each(|i| drop(nodes.remove(i)));
    Some(())
}

/// The product u, which stands behind z, gives u and f(z) ⊙ u, and the one that gives z no longer gives f(z).
fn fuse_gate(nodes: &mut Vec<Node>, z: TensorId, open: TensorId, f: Activation) -> Option<()> {
    let through = product_of(nodes, |inputs| inputs[0] == open && inputs[1] != open)?;
    let u = nodes[through].inputs[1];
    let gate = nodes.iter().position(|n| n.outputs[0] == z)?;
    let product = nodes.iter().position(|n| n.outputs[0] == u)?;
    if product < gate || product > through || !plain(&nodes[product].function) {
        return None;
    }
    let out = nodes[through].outputs[0];
    let made = &mut nodes[product];
    if let Function::Linear(linear) = &mut made.function {
        linear.epilogue = Epilogue::Gate(f);
    }
    made.inputs.push(z);
    made.outputs.push(out);
    let made = &mut nodes[gate];
    if let Function::Linear(linear) = &mut made.function {
        linear.epilogue = Epilogue::None;
    }
    made.outputs.truncate(1);
    nodes.remove(through);
    Some(())
}
