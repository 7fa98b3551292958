//! The words in which operations are written down: tensors, nodes, sizes, and the two places where rules emit nodes.

use std::collections::HashMap;

use super::counts::{MASKED, ROWS, SENTENCES};
use super::operation::Sizes;
use super::{Add, Function, Operation, Rule, Scratch, SentenceSum};
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
    /// For timings, errors and the `label` of dispatches.
    pub name: String,
    /// A fixed number, or what is known when a step runs.
    pub rows: Count,
    /// Logical columns; in memory a row is padded with zeros to a multiple of 4.
    pub cols: u32,
    /// Whether there is one for each probe.
    pub probes: bool,
    /// What it is to the graph.
    pub role: Role,
}

impl Tensor {
    /// vec4 in a row.
    pub fn cols4(&self) -> u32 {
        self.cols.div_ceil(4)
    }
}

/// A function under a rule, at its place in the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub function: Function,
    /// Which of its rules.
    pub rule: Rule,
    /// What the rule is applied to; which tensors, in which order, each operation says.
    pub inputs: Vec<TensorId>,
    /// What is added to the first output.
    pub addend: Option<TensorId>,
    /// What comes out, in the order of [`Operation::outputs`](super::Operation::outputs).
    pub outputs: Vec<TensorId>,
}

impl Node {
    /// What the function is as an operation.
    pub fn operation(&self) -> &dyn Operation {
        self.function.operation()
    }

    /// The inputs, to be given names: `let [x, gamma] = node.inputs();`.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn inputs<const N: usize>(&self) -> [TensorId; N] {
        named(self.function.name(), &self.inputs)
    }

    /// The outputs, in the same way.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn outputs<const N: usize>(&self) -> [TensorId; N] {
        named(self.function.name(), &self.outputs)
    }

    /// Every tensor that it reads: its inputs and its addend.
    pub fn reads(&self) -> impl Iterator<Item = &TensorId> {
        self.inputs.iter().chain(&self.addend)
    }

    /// The same, to be replaced by others.
    pub fn reads_mut(&mut self) -> impl Iterator<Item = &mut TensorId> {
        self.inputs.iter_mut().chain(&mut self.addend)
    }

    /// The pieces of scratch memory that it needs while it runs, with their bytes; those that it does without are left
    /// out.
    pub fn scratch(&self, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        self.operation().scratch(self, sizes).into_iter().filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// Bytes of what it reads and writes, each tensor once.
    pub fn bytes(&self, sizes: &Sizes<'_>) -> u64 {
        self.reads().chain(&self.outputs).map(|id| sizes.dims.bytes(sizes.tensor(*id))).sum()
    }
}

/// As many things as an operation has names for.
///
/// # Panics
/// When there are more or fewer.
pub(super) fn named<T: Copy, const N: usize>(operation: &str, all: &[T]) -> [T; N] {
    all.try_into().unwrap_or_else(|_| panic!("{operation}: {} tensors where there should be {N}", all.len()))
}

/// A node before it has outputs.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is computed.
    pub function: Function,
    /// Which of its rules.
    pub rule: Rule,
    /// What the rule is applied to.
    pub inputs: Vec<TensorId>,
    /// What is added to the first output.
    pub addend: Option<TensorId>,
}

/// A function under a rule, applied to tensors.
pub fn call(function: impl Into<Function>, rule: Rule, inputs: &[TensorId]) -> Call {
    Call { function: function.into(), rule, inputs: inputs.to_vec(), addend: None }
}

impl Call {
    /// The same with something added to the first output, if there is something.
    pub fn plus(self, addend: Option<TensorId>) -> Call {
        Call { addend, ..self }
    }
}

/// The largest batch that a plan has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Dims {
    /// Tokens, padding left out.
    pub rows: u32,
    /// Masked positions.
    pub masked: u32,
    /// Sentences.
    pub sentences: u32,
    /// Probes or draws that run at once.
    pub probes: u32,
    /// Tokens of a sentence at most; 0 where that is not known.
    pub longest: u32,
}

impl Dims {
    /// Rows of memory for a count. Fixed numbers above 1 are padded to a multiple of 4 with rows of zeros, so that a
    /// parameter's rows can be read as columns four at a time.
    pub fn capacity(&self, count: Count) -> u32 {
        match count {
            Count::Fixed(1) => 1,
            Count::Fixed(n) => n.next_multiple_of(4),
            ROWS => self.rows,
            MASKED => self.masked,
            SENTENCES => self.sentences,
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
    fn push(&mut self, call: Call, name: &str) -> Vec<TensorId>;

    /// a + b.
    fn add(&mut self, a: TensorId, b: TensorId) -> TensorId {
        self.push(call(Add, Rule::Forward, &[a, b]), "sum")[0]
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
    pub fn push(&mut self, call: Call, name: &str) -> Vec<TensorId> {
        self.graph.push(call, name)
    }

    /// Says that the tangent of a node's first output is the same function of the tangent of its first input, plus its
    /// addend's: what holds of a function that is linear in its only input that moves.
    pub fn same_on_tangents(&mut self, node: &Node) {
        let addend = node.addend.and_then(|id| self.of(id));
        let name = self.dot(node.outputs[0]);
        let tangent = match self.of(node.inputs[0]) {
            Some(x_dot) => self.push(call(node.function.clone(), node.rule, &[x_dot]).plus(addend), &name)[0],
            None => addend.expect("some input has a tangent"),
        };
        self.set(node.outputs[0], tangent);
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
    adjoints: Option<&'g HashMap<TensorId, TensorId>>,
    sum: Option<TensorId>,
}

impl<'g> Second<'g> {
    /// An empty sum.
    pub fn new(
        graph: &'g mut dyn Emit,
        tangents: &'g HashMap<TensorId, TensorId>,
        adjoints: Option<&'g HashMap<TensorId, TensorId>>,
    ) -> Self {
        Second { graph, tangents, adjoints, sum: None }
    }

    /// The adjoint of a tensor.
    ///
    /// # Panics
    /// When it has none.
    pub fn bar(&self, id: TensorId) -> TensorId {
        let known = self.adjoints.and_then(|adjoints| adjoints.get(&id));
        *known.unwrap_or_else(|| panic!("`{}` has no adjoint", self.graph.tensor(id).name))
    }

    /// The tangent of a tensor, if it has one.
    pub fn of(&self, id: TensorId) -> Option<TensorId> {
        self.tangents.get(&id).copied()
    }

    /// The tangent of a tensor that must have one.
    ///
    /// # Panics
    /// When it has none.
    pub fn dot(&self, id: TensorId) -> TensorId {
        self.of(id).unwrap_or_else(|| panic!("`{}` has no tangent", self.graph.tensor(id).name))
    }

    /// Appends a node with one output.
    pub fn push(&mut self, call: Call, name: &str) -> TensorId {
        self.graph.push(call, name)[0]
    }

    /// Adds factor times the sum of a matrix's rows and columns to each sentence's sum.
    pub fn term(&mut self, terms: TensorId, factor: f32) {
        let sum = call(SentenceSum { factor }, Rule::Forward, &[terms]).plus(self.sum);
        self.sum = Some(self.graph.push(sum, "second")[0]);
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

    /// Emits a node whose outputs are not adjoints of one tensor.
    pub fn emit(&mut self, call: Call, name: &str) -> Vec<TensorId> {
        self.graph.push(call, name)
    }

    /// Adds what a node gives to the adjoint of `id`, in the node's own kernel where it can add. Nothing is emitted
    /// when `id` leads to nothing that is differentiated for.
    pub fn contribute(&mut self, id: TensorId, call: Call) {
        if !self.wants(id) {
            return;
        }
        let name = self.graph.bar(id);
        let before = self.of(id);
        let after = if call.function.operation().adds(call.rule) {
            self.graph.push(call.plus(before), &name)[0]
        } else {
            let own = self.graph.push(call, &name)[0];
            before.map_or(own, |before| self.graph.add(before, own))
        };
        self.adjoints.insert(id, after);
    }

    /// The reverse rule of a function that is linear in its only input.
    pub fn transpose(&mut self, node: &Node, y_bar: TensorId) {
        self.contribute(node.inputs[0], call(node.function.clone(), Rule::Vjp(0), &[y_bar]));
    }

    /// Adds a tensor that exists already to the adjoint of `id`.
    pub fn pass(&mut self, id: TensorId, contribution: TensorId) {
        if self.wants(id) {
            let after = self.of(id).map_or(contribution, |before| self.graph.add(before, contribution));
            self.adjoints.insert(id, after);
        }
    }
}
