//! Twin of `shaders/ghost_norm.wgsl` and `shaders/ghost_gram.wgsl`: the gradients of each sentence are formed, and
//! their squares and products added up.

use std::collections::HashMap;

use super::{Inputs, Twin};
use crate::ops::counts::MASKED;
use crate::ops::{Batch, GhostNorm, Parts, RowGram, Rule};

/// What the norms are taken from: the adjoint's rows, the other inputs, and the batch.
pub struct Rows<'a> {
    pub b: &'a [f64],
    pub b_cols: usize,
    pub masked: bool,
    pub a: &'a [f64],
    pub a_cols: usize,
    /// Statistics of layer norm, or the head's adjoint.
    pub third: &'a [f64],
    pub third_cols: usize,
}

impl<'a> Rows<'a> {
    /// Of a node's inputs; those that it does not have are empty.
    pub(super) fn new(inputs: &'a Inputs<'_>) -> Rows<'a> {
        let optional = |i: usize| inputs.get(i).map_or((&[][..], 0), |values| (values, inputs.cols(i)));
        let ((b, b_cols), (a, a_cols), (third, third_cols)) = (optional(0), optional(1), optional(2));
        let masked = inputs.frame.graph.tensor(inputs.node.inputs[0]).rows == MASKED;
        Rows { b, b_cols, masked, a, a_cols, third, third_cols }
    }
}

impl Twin for GhostNorm {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        vec![forward(*self, &Rows::new(inputs), inputs.frame.batch)]
    }
}

impl Twin for RowGram {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let rows = Rows::new(inputs);
        vec![row_gram(rows.b, rows.b_cols, rows.masked, self.most as usize, inputs.frame.batch)]
    }
}

/// Gradient of each part of a parameter, by place.
type Gradients = Vec<HashMap<(usize, usize), f64>>;

fn dot(a: &HashMap<(usize, usize), f64>, b: &HashMap<(usize, usize), f64>) -> f64 {
    a.iter().filter_map(|(at, x)| b.get(at).map(|y| x * y)).sum()
}

/// Rows of a sentence: its tokens, or its masked positions.
fn own_rows(masked: bool, batch: &Batch, sentence: u32) -> Vec<usize> {
    if masked {
        (0..batch.index.len()).filter(|m| batch.sentence_of[*m] == sentence).collect()
    } else {
        (0..batch.ids.len()).filter(|r| batch.spans[*r][3] == sentence).collect()
    }
}

/// Twin of `shaders/row_gram.wgsl`: inner products of the rows of a within each sentence, [rows, most], folded to below
/// the diagonal.
pub fn row_gram(a: &[f64], cols: usize, masked: bool, most: usize, batch: &Batch) -> Vec<f64> {
    let mut out = vec![0.0; a.len() / cols * most];
    for sentence in 0..batch.sentences {
        let own = own_rows(masked, batch, sentence);
        for (i, t) in own.iter().enumerate() {
            for (j, s) in own[..=i].iter().enumerate() {
                let inner: f64 = (0..cols).map(|c| a[t * cols + c] * a[s * cols + c]).sum();
                out[t * most + j] = if i == j { inner } else { 2.0 * inner };
            }
        }
    }
    out
}

/// Σ_{t,s} g[t, s] (b_t·b_s) of each part of a sentence, g being the inner products of the inputs as they are folded.
fn weighted(parts: Parts, rows: &Rows<'_>, batch: &Batch, sentence: u32) -> [f64; 4] {
    let own = own_rows(rows.masked, batch, sentence);
    let mut out = [0.0; 4];
    for (columns, out) in parts.columns(rows.b_cols as u32).into_iter().zip(&mut out) {
        let b = |t: usize| &rows.b[t * rows.b_cols..][columns.start as usize..(columns.end as usize).min(rows.b_cols)];
        for t in &own {
            for (j, s) in own.iter().enumerate() {
                let inner: f64 = b(*t).iter().zip(b(*s)).map(|(x, y)| x * y).sum();
                *out += rows.a[t * rows.a_cols + j] * inner;
            }
        }
    }
    out
}

/// Squared norms of each sentence's gradients, [sentences, 4].
pub fn forward(op: GhostNorm, rows: &Rows<'_>, batch: &Batch) -> Vec<f64> {
    if let GhostNorm::Weighted { parts } = op {
        return (0..batch.sentences).flat_map(|s| weighted(parts, rows, batch, s)).collect();
    }
    let one = |s: u32| {
        let gradients = sentence(op, rows, batch, s);
        let mut out = [0.0; 4];
        match op {
            // ‖g + g'‖² − ‖g‖² − ‖g'‖² of the embedding's and the head's gradient of the table.
            GhostNorm::Tied => out[0] = 2.0 * dot(&gradients[0], &gradients[1]),
            _ => gradients.iter().zip(&mut out).for_each(|(g, out)| *out = dot(g, g)),
        }
        out
    };
    (0..batch.sentences).flat_map(one).collect()
}

/// Inner products of the gradients of sentences i and j ≤ i, [sentences, most], of the parts in `mask`.
pub fn gram(op: GhostNorm, mask: u32, most: usize, rows: &Rows<'_>, batch: &Batch) -> Vec<f64> {
    let all: Vec<Gradients> = (0..batch.sentences).map(|s| sentence(op, rows, batch, s)).collect();
    let mut out = vec![0.0; all.len() * most];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all[..=i].iter().enumerate() {
            out[i * most + j] = match op {
                GhostNorm::Tied => dot(&a[0], &b[1]) + dot(&b[0], &a[1]),
                _ => (0..a.len()).filter(|part| mask >> part & 1 == 1).map(|part| dot(&a[part], &b[part])).sum(),
            };
        }
    }
    out
}

fn sentence(op: GhostNorm, rows: &Rows<'_>, batch: &Batch, sentence: u32) -> Gradients {
    let own = own_rows(rows.masked, batch, sentence);
    let b = |t: usize| &rows.b[t * rows.b_cols..(t + 1) * rows.b_cols];
    let a = |t: usize| &rows.a[t * rows.a_cols..(t + 1) * rows.a_cols];
    let third = |t: usize| &rows.third[t * rows.third_cols..(t + 1) * rows.third_cols];
    let mut parts = vec![HashMap::new(); 4];
    let mut add = |part: usize, at: (usize, usize), value: f64| *parts[part].entry(at).or_insert(0.0) += value;
    match op {
        GhostNorm::Weighted { .. } => unreachable!("taken from the inputs' inner products, without a gradient"),
        GhostNorm::Product { parts } | GhostNorm::Sum { parts } => {
            for (part, columns) in parts.columns(rows.b_cols as u32).into_iter().enumerate() {
                for (t, i) in own.iter().flat_map(|t| columns.clone().map(move |i| (*t, i as usize))) {
                    let Some(bar) = b(t).get(i) else { continue };
                    match op {
                        GhostNorm::Sum { .. } => add(part, (i, 0), *bar),
                        _ => a(t).iter().enumerate().for_each(|(j, x)| add(part, (i, j), bar * x)),
                    }
                }
            }
        }
        GhostNorm::Scale { heads } => {
            let wide = rows.b_cols / heads as usize;
            for t in &own {
                for (i, (bar, x)) in b(*t).iter().zip(a(*t)).enumerate() {
                    let s = &third(*t)[i / wide * 4..];
                    add(0, (i % wide, 0), bar * (x - s[0]) * s[1]);
                    add(1, (i % wide, 0), *bar);
                }
            }
        }
        GhostNorm::Tables => {
            for t in &own {
                for (table, row) in batch.ids[*t][..3].iter().enumerate() {
                    b(*t).iter().enumerate().for_each(|(i, bar)| add(table, (*row as usize, i), *bar));
                }
            }
        }
        GhostNorm::Tied => {
            for t in own_rows(false, batch, sentence) {
                b(t).iter().enumerate().for_each(|(i, bar)| add(0, (batch.ids[t][0] as usize, i), *bar));
            }
            for m in own_rows(true, batch, sentence) {
                for (word, bar) in third(m).iter().enumerate() {
                    a(m).iter().enumerate().for_each(|(i, h)| add(1, (word, i), bar * h));
                }
            }
        }
    }
    parts
}
