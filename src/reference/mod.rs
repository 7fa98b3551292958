//! The same operations in plain f64 Rust, on unpadded matrices: the oracle of the tests and of `lowland selftest`.
//!
//! [`run`] interprets a whole graph. Nothing here is fast, and nothing here is shared with the kernels.
//!
//! ```
//! use lowland::{ops::Activation, reference::activation};
//!
//! // gelu(x) = x Φ(x), and its slope by a central difference.
//! let (f, h) = (Activation::Gelu, 1e-6);
//! let difference = (activation::forward(f, 0.3 + h) - activation::forward(f, 0.3 - h)) / (2.0 * h);
//! assert!((activation::slope(f, 0.3) - difference).abs() < 1e-9);
//! ```

pub mod activation;
pub mod attention;
pub mod attention_tangent;
pub mod concat;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod ghost_norm;
pub mod layer_norm;
pub mod layer_norm_tangent;
pub mod linear;
pub mod loss_draw;

use std::collections::HashMap;

use crate::gpu::{Count, Step};
use crate::ops::attention_tangent::Kind;
use crate::ops::{
    AttentionTangent, Batch, Emit, GhostNorm, GramKind, Labels, LayerNorm, LayerNormTangent, Node, Op, Rule, Table,
    TensorId,
};

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
        Op::Activation(f, rule) => {
            let (slope, bend) = (|x: &f64| activation::slope(*f, *x), |x: &f64| activation::bend(*f, *x));
            match rule {
                Rule::Forward => vec![input(0).iter().map(|x| activation::forward(*f, *x)).collect()],
                Rule::VjpJvp => {
                    let bent = input(0).iter().zip(input(1)).zip(input(2)).map(|((x, g), d)| bend(x) * g * d);
                    let sloped = input(0).iter().zip(input(3)).map(|(x, g)| slope(x) * g);
                    vec![bent.zip(sloped).map(|(a, b)| a + b).collect()]
                }
                Rule::Second => {
                    let all = input(0).iter().zip(input(1)).zip(input(2)).map(|((x, g), d)| bend(x) * g * d * d);
                    vec![by_fours(&all.collect::<Vec<_>>(), cols(0))]
                }
                _ => vec![input(0).iter().zip(input(1)).map(|(x, g)| slope(x) * g).collect()],
            }
        }
        Op::Add => vec![plus(input(0).to_vec(), Some(input(1)))],
        Op::Attention(op) => {
            let spans = &frame.batch.spans[..frame.batch.rows() as usize];
            let keep = |i: usize, j: usize, head: usize| dropout::attention_keep(op, &frame.step, i, j, head);
            match op.rule {
                Rule::Forward => attention::forward(op, spans, input(0), &keep).into(),
                _ => vec![attention::vjp(op, spans, input(0), input(1), input(2), input(3), &keep)],
            }
        }
        Op::AttentionTangent(AttentionTangent { kind, of }) => {
            let spans = &frame.batch.spans[..frame.batch.rows() as usize];
            match kind {
                Kind::Jvp => attention_tangent::jvp(of, spans, input(0), input(3)).into(),
                Kind::Delta => vec![attention_tangent::delta(of, input(0), input(1), input(2), input(3), input(4))],
                Kind::VjpJvp => {
                    vec![attention_tangent::vjp_jvp(of, spans, input(0), input(1), input(2), input(3), input(4))]
                }
                Kind::Second => vec![attention_tangent::second(of, spans, input(0), input(2), input(3))],
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
                Rule::Jvp => vec![cross_entropy::jvp(input(0), width, &label, input(1), input(2))],
                Rule::VjpJvp => vec![cross_entropy::vjp_jvp(input(0), width, input(1), input(2), input(3))],
                Rule::Second => vec![cross_entropy::second(input(0), width, input(1), input(2))],
            }
        }
        Op::Concat { tokens } => vec![concat::forward(frame.batch, input(0), cols(0), *tokens as usize)],
        Op::ConcatBack { tokens, cols, addend } => {
            let x_bar = concat::vjp(frame.batch, input(0), *cols as usize, *tokens as usize);
            vec![plus(x_bar, addend.then(|| input(1)))]
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
        Op::Slope(f) => vec![input(0).iter().map(|x| activation::slope(*f, *x)).collect()],
        Op::GhostGram(op) => {
            let optional = |i: usize| if node.inputs.len() > i { (input(i), cols(i)) } else { (&[][..], 0) };
            let ((a, a_cols), (third, third_cols)) = (optional(1), optional(2));
            let masked = frame.graph.tensor(node.inputs[0]).rows == Count::Masked;
            let rows = ghost_norm::Rows { b: input(0), b_cols: cols(0), masked, a, a_cols, third, third_cols };
            let gram = |kind| ghost_norm::gram(kind, op.mask, op.most as usize, &rows, frame.batch);
            let mut sums = match op.kind {
                GramKind::Product { parts, .. } => gram(GhostNorm::Product { parts }),
                GramKind::Sum { parts } => gram(GhostNorm::Sum { parts }),
                GramKind::Scale => gram(GhostNorm::Scale),
                GramKind::Tables => gram(GhostNorm::Tables),
                GramKind::Tied => gram(GhostNorm::Tied),
            };
            if let GramKind::Product { parts, bias: true } = op.kind {
                sums = plus(sums, Some(&gram(GhostNorm::Sum { parts })));
            }
            vec![plus(sums, op.addend.then(|| input(node.inputs.len() - 1)))]
        }
        Op::GhostNorm(op) => {
            let optional = |i: usize| if node.inputs.len() > i { (input(i), cols(i)) } else { (&[][..], 0) };
            let ((a, a_cols), (third, third_cols)) = (optional(1), optional(2));
            let masked = frame.graph.tensor(node.inputs[0]).rows == Count::Masked;
            let rows = ghost_norm::Rows { b: input(0), b_cols: cols(0), masked, a, a_cols, third, third_cols };
            vec![ghost_norm::forward(*op, &rows, frame.batch)]
        }
        Op::LayerNorm(LayerNorm { rule, eps, addend, sums }) => match rule {
            Rule::Forward => layer_norm::forward(input(0), input(1), input(2), f64::from(*eps)).into(),
            _ => {
                let x_bar = layer_norm::vjp(input(0), input(1), input(2), input(3));
                let x_bar = plus(x_bar, addend.then(|| input(4)));
                match sums {
                    true => {
                        let [gamma_bar, beta_bar] = layer_norm::scale_vjp(input(0), cols(0), input(2), input(3));
                        vec![x_bar, gamma_bar, beta_bar]
                    }
                    false => vec![x_bar],
                }
            }
        },
        Op::LayerNormScale => layer_norm::scale_vjp(input(0), cols(0), input(1), input(2)).into(),
        Op::LayerNormTangent(kind) => match kind {
            LayerNormTangent::Jvp => {
                layer_norm_tangent::jvp(input(0), input(1), input(2), input(3), input(4), input(5)).into()
            }
            LayerNormTangent::VjpJvp => {
                vec![layer_norm_tangent::vjp_jvp(input(0), input(1), input(2), input(3), input(4), input(5), input(6))]
            }
            LayerNormTangent::Scale => {
                layer_norm_tangent::scale(input(0), cols(0), input(1), input(2), input(3), input(4)).into()
            }
            LayerNormTangent::Second => {
                vec![layer_norm_tangent::second(input(0), input(1), input(2), input(3), input(4), input(5))]
            }
        },
        Op::LossDraw(kind) => {
            let (step, keys) = (&frame.step, &frame.batch.keys);
            vec![loss_draw::forward(*kind, input(0), cols(0), input(1), keys, step.seed, step.counter[0] + k as u32)]
        }
        Op::RowGram(op) => {
            let masked = frame.graph.tensor(node.inputs[0]).rows == Count::Masked;
            vec![ghost_norm::row_gram(input(0), cols(0), masked, op.most as usize, frame.batch)]
        }
        Op::SentenceSum(op) => {
            let of_row = |r: usize| op_rows(frame, node.inputs[0], r);
            let mut out = vec![0.0; 4 * frame.batch.sentences as usize];
            for (r, row) in input(0).chunks_exact(cols(0)).enumerate() {
                out[4 * of_row(r)] += f64::from(op.factor) * row.iter().sum::<f64>();
            }
            vec![plus(out, op.addend.then(|| input(1)))]
        }
        Op::Linear(op) => {
            let mut next = 2;
            let mut optional = |wanted: bool| {
                next += usize::from(wanted);
                wanted.then(|| input(next - 1))
            };
            let (bias, addend) = (optional(op.bias), optional(op.addend));
            let mut c = linear::product(op.layout, input(0), (rows(0), cols(0)), input(1), (rows(1), cols(1)));
            if let Some(bias) = bias {
                for (i, c) in c.iter_mut().enumerate() {
                    *c += bias[i % bias.len()];
                }
            }
            let c = plus(c, addend);
            if op.sums {
                return vec![c, linear::column_sum(input(0), cols(0))];
            }
            match op.epilogue {
                crate::ops::Epilogue::None => vec![c],
                crate::ops::Epilogue::Activation(f) => {
                    let act = c.iter().map(|x| activation::forward(f, *x)).collect();
                    vec![c, act]
                }
                crate::ops::Epilogue::Dot => {
                    let z = input(node.inputs.len() - 1);
                    let n = frame.cols(node.inputs[node.inputs.len() - 1]);
                    vec![by_fours(&c.iter().zip(z).map(|(c, z)| c * z).collect::<Vec<_>>(), n)]
                }
                crate::ops::Epilogue::Times => {
                    let z = input(node.inputs.len() - 1);
                    vec![c.iter().zip(z).map(|(c, z)| c * z).collect()]
                }
                crate::ops::Epilogue::Slope(f) => {
                    let z = input(node.inputs.len() - 1);
                    vec![c.iter().zip(z).map(|(c, z)| c * activation::slope(f, *z)).collect()]
                }
            }
        }
    }
}

/// The sentence of a row of tokens or masked positions.
fn op_rows(frame: &Frame<'_>, id: TensorId, row: usize) -> usize {
    match frame.graph.tensor(id).rows {
        Count::Masked => frame.batch.sentence_of[row] as usize,
        _ => frame.batch.spans[row][3] as usize,
    }
}

/// Sums of every four columns (fewer at the end of a row).
fn by_fours(x: &[f64], cols: usize) -> Vec<f64> {
    x.chunks_exact(cols)
        .flat_map(|row| row.chunks(4).map(|four| four.iter().sum::<f64>()).collect::<Vec<_>>())
        .collect()
}

fn row(x: &[f64], cols: usize, r: usize) -> &[f64] {
    &x[r * cols..(r + 1) * cols]
}
