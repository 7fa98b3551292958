//! A model as a static graph of operations on matrices, its transforms, its plan on an adapter.
//!
//! Every tensor is a matrix of rows (tokens, masked positions, or a fixed number) by columns, with an optional leading
//! axis of *probes* (tangents) or *draws* (adjoints). [`gradient`](Graph::gradient) appends the reverse pass; a
//! [`ExecutionPlan`] gives tensors memory by liveness and runs the whole as one list of dispatches.
//!
//! ```
//! use lowland::graph::{Emit, Graph};
//! use lowland::ops::counts::ROWS;
//! let mut g = Graph::default();
//! let x = g.input("x", ROWS, 8);
//! let w = g.parameter("w", 3, 8);
//! let y = g.linear(x, w, None, None);
//! assert_eq!((g.tensor(y).rows, g.tensor(y).cols), (ROWS, 3));
//! ```

mod build;
mod evaluate;
pub(crate) mod fit;
mod flops;
mod fuse;
mod ghost;
mod plan;
mod recompute;
mod relative;
mod row_grams;
mod rows;
mod slopes;
mod strides;
mod tangent;
mod transform;

pub use crate::gpu::Count;
pub use crate::ops::{Dims, Emit, Node, Role, Tensor, TensorId};
pub use build::LstmWeights;
pub use ghost::{GhostError, GramPart, NormTerm};
pub use plan::{ExecutionPlan, MemoryPlan, dispatches};
pub use relative::Relative;
pub use tangent::Terms;

use crate::ops::{Call, Function, Rule};

/// Tensors and nodes in the order of execution.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
}

impl Graph {
    /// All tensors with their numbers.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        self.tensors.iter().enumerate().map(|(i, t)| (TensorId(i as u32), t))
    }

    /// All nodes in the order of execution.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn nodes_mut(&mut self) -> &mut Vec<Node> {
        &mut self.nodes
    }

    /// Puts another function in a node's place, which makes the node's first result of other inputs; what else the node
    /// made is made no longer.
    ///
    /// # Panics
    /// When the inputs do not fit, or the result is not of the same shape.
    pub(crate) fn replace(&mut self, node: usize, function: Function, inputs: &[TensorId]) {
        let shapes: Vec<&Tensor> = inputs.iter().map(|id| self.tensor(*id)).collect();
        let (_, rows, cols, probes) = function.operation().outputs(Rule::Forward, &shapes)[0];
        let out = self.tensor(self.nodes[node].outputs[0]);
        assert_eq!((out.rows, out.cols, out.probes), (rows, cols, probes), "{} makes something else", function.name());
        let node = &mut self.nodes[node];
        (node.function, node.rule, node.inputs) = (function, Rule::Forward, inputs.to_vec());
        node.outputs.truncate(1);
    }

    fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(self.tensors.len() as u32 - 1)
    }

    fn set_rows(&mut self, id: TensorId, rows: Count) {
        self.tensors[id.0 as usize].rows = rows;
    }

    /// A parameter of `rows` x `cols`.
    pub fn parameter(&mut self, name: &str, rows: u32, cols: u32) -> TensorId {
        self.add_tensor(Tensor {
            name: name.into(),
            rows: Count::Fixed(rows),
            cols,
            probes: false,
            role: Role::Parameter,
        })
    }

    /// A matrix given from outside.
    pub fn input(&mut self, name: &str, rows: Count, cols: u32) -> TensorId {
        self.add_tensor(Tensor { name: name.into(), rows, cols, probes: false, role: Role::Input })
    }

    /// A matrix for each probe, given from outside.
    pub fn probe(&mut self, name: &str, rows: Count, cols: u32) -> TensorId {
        self.add_tensor(Tensor { name: name.into(), rows, cols, probes: true, role: Role::Input })
    }
}

impl Emit for Graph {
    fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }

    fn push(&mut self, call: Call, name: &str) -> Vec<TensorId> {
        let Call { function, rule, inputs, addend } = call;
        let shapes: Vec<&Tensor> = inputs.iter().map(|i| self.tensor(*i)).collect();
        let mut made = function.operation().outputs(rule, &shapes);
        if let Some(addend) = addend.map(|id| self.tensor(id)) {
            let (_, rows, cols, probes) = &mut made[0];
            let fits = (addend.rows, addend.cols) == (*rows, *cols) && function.operation().adds(rule);
            assert!(fits, "{}: {} cannot be added to {rule:?}", function.name(), addend.name);
            *probes |= addend.probes;
        }
        let outputs: Vec<TensorId> = made
            .into_iter()
            .map(|(suffix, rows, cols, probes)| {
                // A number, not the operands' names: those would double with every residual connection.
                let number = self.tensors.len();
                let name = match suffix {
                    "" => format!("{name}#{number}"),
                    _ => format!("{name}.{suffix}#{number}"),
                };
                self.add_tensor(Tensor { name, rows, cols, probes, role: Role::Value })
            })
            .collect();
        self.nodes.push(Node { function, rule, inputs, addend, outputs: outputs.clone() });
        outputs
    }
}
