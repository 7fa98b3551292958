//! The same operations in plain f64 Rust, on unpadded matrices: the oracle of the tests and of `lowland selftest`.
//!
//! [`run`] interprets a whole graph. Nothing here is fast, and nothing here is shared with the kernels. Forward and
//! reverse rules are written over a number type ([`jet::Real`]); the rules along a direction (`Jvp`, `VjpJvp`, `Second`
//! of [`Rule`]) are the same code run on numbers that carry their derivatives ([`jet::Jet`]).
//!
//! ```
//! use lowland::{ops::Activation, reference::{activation, jet::Jet}};
//!
//! // gelu(x) = x Φ(x), its slope by a central difference, by the reverse rule and by a jet.
//! let (f, h) = (Activation::Gelu, 1e-6);
//! let difference = (activation::forward(f, 0.3 + h) - activation::forward(f, 0.3 - h)) / (2.0 * h);
//! assert!((activation::slope(f, 0.3) - difference).abs() < 1e-9);
//! assert!((activation::forward(f, Jet::along(0.3, 1.0)).first - difference).abs() < 1e-9);
//! ```

pub mod activation;
mod add;
pub(crate) mod along_axes;
pub(crate) mod attention;
mod cached_attention;
pub(crate) mod concat;
pub(crate) mod cross_entropy;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod gather;
mod ghost_gram;
pub(crate) mod ghost_norm;
pub(crate) mod group_draw;
pub mod jet;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod loss_draw;
pub(crate) mod lstm;
mod multiply;
pub(crate) mod optimizer;
mod place_heads;
mod repeat_heads;
mod rotary;
mod sentence_sum;

use std::collections::HashMap;

use crate::gpu::{Count, Step};
use crate::ops::counts::{MASKED, ROWS, SENTENCES};
use crate::ops::{Batch, Emit, Function, Node, Rule, TensorId, every_operation};
use jet::Jet;

/// Values of tensors, `[probes] x rows x cols`, row-major.
pub type Values = HashMap<TensorId, Vec<f64>>;

/// A graph's nodes and tensors, as the interpreter sees them.
pub struct Frame<'a> {
    /// Names and shapes of tensors.
    pub graph: &'a dyn Emit,
    /// The batch that gives rows their number.
    pub batch: &'a Batch,
    /// Keys of the random streams.
    pub step: Step,
}

impl Frame<'_> {
    /// Rows of a tensor in this batch.
    pub fn rows(&self, id: TensorId) -> usize {
        match self.graph.tensor(id).rows {
            Count::Fixed(n) => n as usize,
            ROWS => self.batch.rows() as usize,
            MASKED => self.batch.masked() as usize,
            SENTENCES => self.batch.sentences as usize,
        }
    }

    fn cols(&self, id: TensorId) -> usize {
        self.graph.tensor(id).cols as usize
    }

    fn layers(&self, id: TensorId) -> usize {
        if self.graph.tensor(id).probes { self.step.probes as usize } else { 1 }
    }
}

/// What a node's twin reads: the inputs at one probe.
struct Inputs<'a> {
    frame: &'a Frame<'a>,
    node: &'a Node,
    values: &'a Values,
    probe: usize,
}

impl Inputs<'_> {
    /// A tensor's part of this probe, or the whole when it has no probes.
    fn values(&self, id: TensorId) -> &[f64] {
        let all = &self.values[&id];
        let size = self.frame.rows(id) * self.frame.cols(id);
        let probes = self.frame.graph.tensor(id).probes;
        if probes { &all[self.probe * size..(self.probe + 1) * size] } else { all }
    }

    /// Input i, if the node has one.
    fn get(&self, i: usize) -> Option<&[f64]> {
        self.node.inputs.get(i).map(|id| self.values(*id))
    }

    /// What is added to the first output, if something is.
    fn addend(&self) -> Option<&[f64]> {
        self.node.addend.map(|id| self.values(id))
    }

    /// Input i, which the node must have.
    fn of(&self, i: usize) -> &[f64] {
        self.get(i).unwrap_or_else(|| panic!("{} has no input {i}", self.node.function.name()))
    }

    /// Input i moving along input j.
    fn moving(&self, i: usize, j: usize) -> Vec<Jet> {
        jet::moving(self.of(i), self.of(j))
    }

    fn rows(&self, i: usize) -> usize {
        self.frame.rows(self.node.inputs[i])
    }

    fn cols(&self, i: usize) -> usize {
        self.frame.cols(self.node.inputs[i])
    }

    /// The sentence of each row of tokens.
    fn spans(&self) -> &[[u32; 4]] {
        &self.frame.batch.spans[..self.frame.batch.rows() as usize]
    }
}

/// Computes every node in order. `values` holds parameters and inputs and receives the rest.
pub fn run(frame: &Frame<'_>, nodes: &[Node], values: &mut Values) {
    for node in nodes {
        let layers = node.outputs.iter().map(|o| frame.layers(*o)).max().unwrap_or(1);
        let mut outputs: Vec<Vec<f64>> = vec![Vec::new(); node.outputs.len()];
        for probe in 0..layers {
            let inputs = Inputs { frame, node, values, probe };
            let twin = twin(&node.function);
            let mut made = twin.evaluate(node.rule, &inputs);
            if let (Some(addend), false) = (inputs.addend(), twin.adds()) {
                made[0] = plus(std::mem::take(&mut made[0]), addend);
            }
            for (all, one) in outputs.iter_mut().zip(made) {
                all.extend(one);
            }
        }
        for (id, value) in node.outputs.iter().zip(outputs) {
            assert_eq!(
                value.len(),
                frame.layers(*id) * frame.rows(*id) * frame.cols(*id),
                "{}",
                frame.graph.tensor(*id).name
            );
            values.insert(*id, value);
        }
    }
}

/// The f64 twin of an operation.
trait Twin {
    /// The outputs of a rule at one probe, without the node's addend unless it [`adds`](Twin::adds).
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>>;

    /// Whether it adds the addend itself, since other outputs are made of the sum.
    fn adds(&self) -> bool {
        false
    }
}

/// In the place of the twin of an operation that is not in the list.
struct NoTwin;

impl Twin for NoTwin {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        no_twin(inputs)
    }
}

/// The twin of each operation of the list.
macro_rules! twins {
    ($($file:ident::$name:ident,)*) => {
        fn twin(function: &Function) -> &dyn Twin {
            match function {
                $(Function::$name(operation) => operation,)*
                Function::Own(_) => &NoTwin,
            }
        }
    };
}
every_operation!(twins);

/// Ends where a rule has no twin.
fn no_twin(inputs: &Inputs<'_>) -> ! {
    panic!("{} {:?} has no twin", inputs.node.function.name(), inputs.node.rule)
}

/// x plus an addend.
fn plus(mut x: Vec<f64>, addend: &[f64]) -> Vec<f64> {
    x.iter_mut().zip(addend).for_each(|(x, a)| *x += a);
    x
}

/// One number per row, in the first of four columns.
fn in_first_of_four(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    numbers.flat_map(|n| [n, 0.0, 0.0, 0.0]).collect()
}

/// Sums of every four columns (fewer at the end of a row).
fn sums_of_four(x: &[f64], cols: usize) -> Vec<f64> {
    x.chunks_exact(cols)
        .flat_map(|row| row.chunks(4).map(|four| four.iter().sum::<f64>()).collect::<Vec<_>>())
        .collect()
}
