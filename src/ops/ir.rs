//! The words in which operations are written down: tensors, nodes, sizes, and the two places where rules emit nodes.

use std::collections::HashMap;

use super::{Op, SentenceSum};
use crate::gpu::Count;

/// Number of a tensor in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// Where a tensor's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A parameter of the model.
    Parameter,
    /// Given from outside: a probe, a cotangent.
    Input,
    /// Computed by a node.
    Value,
}

/// A matrix of the graph.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub rows: Count,
    /// Logical columns; in memory a row is padded with zeros to a multiple of 4.
    pub cols: u32,
    /// Whether there is one for each probe.
    pub probes: bool,
    pub role: Role,
}

impl Tensor {
    /// vec4 in a row.
    pub fn cols4(&self) -> u32 {
        self.cols.div_ceil(4)
    }
}

/// An operation at its place in the graph.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<TensorId>,
    pub outputs: Vec<TensorId>,
}

/// The largest batch that a plan has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dims {
    /// Tokens, padding left out.
    pub rows: u32,
    /// Masked positions.
    pub masked: u32,
    pub sentences: u32,
    /// Probes or draws that run at once.
    pub probes: u32,
}

impl Dims {
    /// Rows of memory for a count. Fixed numbers above 1 are padded to a multiple of 4 with rows of zeros, so that a
    /// parameter's rows can be read as columns four at a time.
    pub fn capacity(&self, count: Count) -> u32 {
        match count {
            Count::Fixed(1) => 1,
            Count::Fixed(n) => n.next_multiple_of(4),
            Count::Rows => self.rows,
            Count::Masked => self.masked,
            Count::Sentences => self.sentences,
        }
    }

    /// vec4 of one probe of a matrix.
    pub fn size4(&self, rows: Count, cols: u32) -> u64 {
        u64::from(self.capacity(rows)) * u64::from(cols.div_ceil(4))
    }

    /// Bytes of a tensor, all its probes.
    pub fn bytes(&self, tensor: &Tensor) -> u64 {
        let layers = if tensor.probes { u64::from(self.probes) } else { 1 };
        self.size4(tensor.rows, tensor.cols) * 16 * layers
    }
}

/// Where rules write their nodes: a graph, as far as an operation sees it.
pub trait Emit {
    /// A tensor of the graph.
    fn tensor(&self, id: TensorId) -> &Tensor;
    /// Appends a node; the operation says what comes out. Values are named by the node's name and a number.
    fn push(&mut self, op: Op, inputs: &[TensorId], name: &str) -> Vec<TensorId>;

    /// a + b.
    fn add(&mut self, a: TensorId, b: TensorId) -> TensorId {
        self.push(Op::Add, &[a, b], "sum")[0]
    }

    /// The adjoint's name.
    fn bar(&self, id: TensorId) -> String {
        format!("{}~", self.tensor(id).name)
    }
}

/// A pass along a direction under construction: the tangent of every tensor that has one.
pub struct Tangents<'g> {
    graph: &'g mut dyn Emit,
    tangents: HashMap<TensorId, TensorId>,
}

impl<'g> Tangents<'g> {
    /// A pass that starts from tangents of some tensors.
    pub fn new(graph: &'g mut dyn Emit, seeds: &[(TensorId, TensorId)]) -> Self {
        Tangents { graph, tangents: seeds.iter().copied().collect() }
    }

    /// The tangent of a tensor, if it has one.
    pub fn of(&self, id: TensorId) -> Option<TensorId> {
        self.tangents.get(&id).copied()
    }

    /// The tangent of a tensor that must have one.
    ///
    /// # Panics
    /// When it has none: operations with tangent kernels of their own take directions in which all their inputs move.
    pub fn wanted(&self, id: TensorId) -> TensorId {
        self.of(id).unwrap_or_else(|| panic!("`{}` has no tangent", self.graph.tensor(id).name))
    }

    /// Says what the tangent of a tensor is.
    pub fn set(&mut self, id: TensorId, tangent: TensorId) {
        self.tangents.insert(id, tangent);
    }

    /// A tensor of the graph.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        self.graph.tensor(id)
    }

    /// Appends a node.
    pub fn push(&mut self, op: Op, inputs: &[TensorId], name: &str) -> Vec<TensorId> {
        self.graph.push(op, inputs, name)
    }

    /// a + b.
    pub fn add(&mut self, a: TensorId, b: TensorId) -> TensorId {
        self.graph.add(a, b)
    }

    /// The tangent's name.
    pub fn dot(&self, id: TensorId) -> String {
        format!("{}'", self.graph.tensor(id).name)
    }

    /// All tangents.
    pub fn finish(self) -> HashMap<TensorId, TensorId> {
        self.tangents
    }
}

/// The second-order terms of a forward graph along tangents: ⟨ȳ, D²f[ẋ, ẋ]⟩ of every operation, summed up by sentence.
pub struct Second<'g> {
    graph: &'g mut dyn Emit,
    tangents: &'g HashMap<TensorId, TensorId>,
    sum: Option<TensorId>,
}

impl<'g> Second<'g> {
    /// An empty sum.
    pub fn new(graph: &'g mut dyn Emit, tangents: &'g HashMap<TensorId, TensorId>) -> Self {
        Second { graph, tangents, sum: None }
    }

    /// The tangent of a tensor.
    ///
    /// # Panics
    /// When it has none.
    pub fn dot(&self, id: TensorId) -> TensorId {
        *self.tangents.get(&id).unwrap_or_else(|| panic!("`{}` has no tangent", self.graph.tensor(id).name))
    }

    /// Appends a node with one output.
    pub fn push(&mut self, op: Op, inputs: &[TensorId], name: &str) -> TensorId {
        self.graph.push(op, inputs, name)[0]
    }

    /// Adds factor times the sum of a matrix's rows and columns to each sentence's sum.
    pub fn term(&mut self, terms: TensorId, factor: f32) {
        let op = Op::SentenceSum(SentenceSum { factor, addend: self.sum.is_some() });
        let inputs: Vec<TensorId> = [terms].into_iter().chain(self.sum).collect();
        self.sum = Some(self.graph.push(op, &inputs, "second")[0]);
    }

    /// The sums, [probes][sentences, 4], in the first column.
    pub fn finish(self) -> Option<TensorId> {
        self.sum
    }
}

/// The reverse pass under construction: which tensors get an adjoint, and what it is so far.
pub struct Adjoints<'g> {
    graph: &'g mut dyn Emit,
    wanted: Vec<bool>,
    adjoints: HashMap<TensorId, TensorId>,
}

impl<'g> Adjoints<'g> {
    /// A reverse pass that starts from cotangents and goes to the tensors that are wanted.
    pub fn new(graph: &'g mut dyn Emit, wanted: Vec<bool>, cotangents: &[(TensorId, TensorId)]) -> Self {
        Adjoints { graph, wanted, adjoints: cotangents.iter().copied().collect() }
    }

    /// The adjoint of a tensor so far.
    pub fn of(&self, id: TensorId) -> Option<TensorId> {
        self.adjoints.get(&id).copied()
    }

    /// All adjoints.
    pub fn finish(self) -> HashMap<TensorId, TensorId> {
        self.adjoints
    }

    /// A tensor of the graph.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        self.graph.tensor(id)
    }

    /// Whether the adjoint of a tensor leads to a parameter.
    pub fn wants(&self, id: TensorId) -> bool {
        self.wanted.get(id.0 as usize).copied().unwrap_or(false)
    }

    /// Emits nodes whose outputs are not adjoints of one tensor.
    pub fn emit(&mut self, op: Op, inputs: &[TensorId], name: &str) -> Vec<TensorId> {
        self.graph.push(op, inputs, name)
    }

    /// Adds a contribution to the adjoint of `id`: `emit` gets what is there already and returns the sum.
    pub fn contribute(&mut self, id: TensorId, emit: impl FnOnce(&mut dyn Emit, Option<TensorId>) -> TensorId) {
        if self.wants(id) {
            let before = self.of(id);
            let after = emit(self.graph, before);
            self.adjoints.insert(id, after);
        }
    }

    /// Adds a tensor that exists already to the adjoint of `id`.
    pub fn pass(&mut self, id: TensorId, contribution: TensorId) {
        self.contribute(id, |g, before| match before {
            Some(before) => g.add(before, contribution),
            None => contribution,
        });
    }
}
