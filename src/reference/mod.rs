//! The same operations in plain f64 Rust, on unpadded matrices: the oracle of the tests and of `lowland selftest`.
//!
//! [`run`] interprets a whole graph. Nothing here is fast, and nothing here is shared with the kernels.
//!
//! ```
//! use lowland::reference::gelu;
//!
//! // gelu(x) = x Φ(x), and its slope by a central difference.
//! let h = 1e-6;
//! let difference = (gelu::forward(0.3 + h) - gelu::forward(0.3 - h)) / (2.0 * h);
//! assert!((gelu::slope(0.3) - difference).abs() < 1e-9);
//! ```

pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;

use std::collections::HashMap;

use crate::gpu::{Count, Step};
use crate::ops::{Batch, Emit, Labels, LayerNorm, Node, Op, Rule, Table, TensorId};

/// Values of tensors, `[probes] x rows x cols`, row-major.
pub type Values = HashMap<TensorId, Vec<f64>>;

/// A graph's nodes and tensors, as the interpreter sees them.
pub struct Frame<'a> {
    pub graph: &'a dyn Emit,
    pub batch: &'a Batch,
    pub step: Step,
}

impl Frame<'_> {
    /// Rows of a tensor in this batch.
    pub fn rows(&self, id: TensorId) -> usize {
        match self.graph.tensor(id).rows {
            Count::Fixed(n) => n as usize,
            Count::Rows => self.batch.rows() as usize,
            Count::Masked => self.batch.masked() as usize,
            Count::Sentences => self.batch.sentences as usize,
        }
    }

    fn cols(&self, id: TensorId) -> usize {
        self.graph.tensor(id).cols as usize
    }

    fn layers(&self, id: TensorId) -> usize {
        if self.graph.tensor(id).probes { self.step.probes as usize } else { 1 }
    }

    /// Probe k of a tensor; the tensor itself when it has no probes.
    fn layer<'v>(&self, values: &'v Values, id: TensorId, k: usize) -> &'v [f64] {
        let all = &values[&id];
        let size = self.rows(id) * self.cols(id);
        if self.graph.tensor(id).probes { &all[k * size..(k + 1) * size] } else { all }
    }
}

/// Computes every node in order. `values` holds parameters and inputs and receives the rest.
pub fn run(frame: &Frame<'_>, nodes: &[Node], values: &mut Values) {
    for node in nodes {
        let layers = node.outputs.iter().map(|o| frame.layers(*o)).max().unwrap_or(1);
        let mut outputs: Vec<Vec<f64>> = vec![Vec::new(); node.outputs.len()];
        for k in 0..layers {
            for (all, one) in outputs.iter_mut().zip(evaluate(frame, node, values, k)) {
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

/// The outputs of a node for probe k.
fn evaluate(frame: &Frame<'_>, node: &Node, values: &Values, k: usize) -> Vec<Vec<f64>> {
    let input = |i: usize| frame.layer(values, node.inputs[i], k);
    let cols = |i: usize| frame.cols(node.inputs[i]);
    let rows = |i: usize| frame.rows(node.inputs[i]);
    let plus = |mut x: Vec<f64>, addend: Option<&[f64]>| {
        for (x, a) in x.iter_mut().zip(addend.into_iter().flatten()) {
            *x += a;
        }
        x
    };
    match &node.op {
        Op::Add => vec![plus(input(0).to_vec(), Some(input(1)))],
        Op::Attention(op) => {
            let spans = &frame.batch.spans[..frame.batch.rows() as usize];
            let keep = |i: usize, j: usize, head: usize| dropout::attention_keep(op, &frame.step, i, j, head);
            match op.rule {
                Rule::Forward => attention::forward(op, spans, input(0), &keep).into(),
                Rule::Vjp => vec![attention::vjp(op, spans, input(0), input(1), input(2), input(3), &keep)],
            }
        }
        Op::ColumnSum => vec![linear::column_sum(input(0), cols(0))],
        Op::CrossEntropy(op) => {
            let width = cols(0);
            let label = |row: usize, v: usize| match op.labels {
                Labels::Hard => f64::from(u8::from(frame.batch.labels[row] as usize == v)),
                Labels::Soft => f64::from(frame.batch.soft[row * width + v]),
            };
            match op.rule {
                Rule::Forward => vec![cross_entropy::forward(input(0), width, &label)],
                Rule::Vjp => vec![cross_entropy::vjp(input(0), width, &label, input(1), input(2))],
            }
        }
        Op::Dropout(op) => vec![dropout::forward(op, &frame.step, input(0), cols(0))],
        Op::Embedding(op) => {
            let used: Vec<(usize, &[f64])> =
                (0..3).filter(|t| op.uses[*t]).enumerate().map(|(i, t)| (t, input(i))).collect();
            vec![embedding::forward(&frame.batch.ids, &used, cols(0))]
        }
        Op::EmbeddingScatter { table, rows, addend } => {
            let column = Table::ALL.iter().position(|t| t == table).expect("one of the three");
            let sum = embedding::scatter(&frame.batch.ids, column, *rows as usize, input(0), cols(0));
            vec![plus(sum, addend.then(|| input(1)))]
        }
        Op::Gather => {
            vec![frame.batch.index.iter().flat_map(|r| row(input(0), cols(0), *r as usize).to_vec()).collect()]
        }
        Op::GatherBack { addend } => {
            let mut out = vec![0.0; frame.rows(node.outputs[0]) * cols(0)];
            for (m, r) in frame.batch.index.iter().enumerate() {
                let at = *r as usize * cols(0);
                out[at..at + cols(0)].copy_from_slice(row(input(0), cols(0), m));
            }
            vec![plus(out, addend.then(|| input(1)))]
        }
        Op::Gelu(rule) => match rule {
            Rule::Forward => vec![input(0).iter().map(|x| gelu::forward(*x)).collect()],
            Rule::Vjp => vec![input(0).iter().zip(input(1)).map(|(x, g)| gelu::slope(*x) * g).collect()],
        },
        Op::LayerNorm(LayerNorm { rule, eps, addend }) => match rule {
            Rule::Forward => layer_norm::forward(input(0), input(1), input(2), f64::from(*eps)).into(),
            Rule::Vjp => {
                let x_bar = layer_norm::vjp(input(0), input(1), input(2), input(3));
                vec![plus(x_bar, addend.then(|| input(4)))]
            }
        },
        Op::LayerNormScale => layer_norm::scale_vjp(input(0), cols(0), input(1), input(2)).into(),
        Op::Linear(op) => {
            let mut next = 2;
            let mut optional = |wanted: bool| {
                next += usize::from(wanted);
                wanted.then(|| input(next - 1))
            };
            let (bias, addend) = (optional(op.bias), optional(op.addend));
            let mut c = linear::product(op.layout, input(0), (rows(0), cols(0)), input(1), (rows(1), cols(1)));
            let width = frame.cols(node.outputs[0]);
            if let Some(bias) = bias {
                for (i, c) in c.iter_mut().enumerate() {
                    *c += bias[i % width];
                }
            }
            let c = plus(c, addend);
            if op.sums {
                return vec![c, linear::column_sum(input(0), cols(0))];
            }
            match op.epilogue {
                crate::ops::Epilogue::None => vec![c],
                crate::ops::Epilogue::Gelu => {
                    let act = c.iter().map(|x| gelu::forward(*x)).collect();
                    vec![c, act]
                }
                crate::ops::Epilogue::Slope => {
                    let z = input(node.inputs.len() - 1);
                    vec![c.iter().zip(z).map(|(c, z)| c * gelu::slope(*z)).collect()]
                }
            }
        }
    }
}

fn row(x: &[f64], cols: usize, r: usize) -> &[f64] {
    &x[r * cols..(r + 1) * cols]
}
