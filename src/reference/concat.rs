//! A whole sentence's rows side by side for each masked position, and back; blocks are padded to a multiple of 4
//! columns.

use super::{Inputs, Twin};
use crate::ops::{Batch, Concat, Rule};

/// x [rows, cols] to [masked, tokens padded(cols)].
pub fn forward(batch: &Batch, x: &[f64], cols: usize, tokens: usize) -> Vec<f64> {
    let wide = cols.next_multiple_of(4);
    let mut out = vec![0.0; batch.index.len() * tokens * wide];
    for (m, row) in batch.index.iter().enumerate() {
        let [first, end, ..] = batch.spans[*row as usize].map(|n| n as usize);
        for t in 0..(end - first).min(tokens) {
            let at = (m * tokens + t) * wide;
            out[at..at + cols].copy_from_slice(&x[(first + t) * cols..(first + t + 1) * cols]);
        }
    }
    out
}

/// ȳ [masked, tokens padded(cols)] to x̄ [rows, cols].
pub fn vjp(batch: &Batch, y_bar: &[f64], cols: usize, tokens: usize) -> Vec<f64> {
    let wide = cols.next_multiple_of(4);
    let mut x_bar = vec![0.0; batch.rows() as usize * cols];
    for (m, row) in batch.index.iter().enumerate() {
        let [first, end, ..] = batch.spans[*row as usize].map(|n| n as usize);
        for t in 0..(end - first).min(tokens) {
            for c in 0..cols {
                x_bar[(first + t) * cols + c] += y_bar[(m * tokens + t) * wide + c];
            }
        }
    }
    x_bar
}

impl Twin for Concat {
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (batch, cols, tokens) = (inputs.frame.batch, self.cols as usize, self.tokens as usize);
        vec![match rule {
            Rule::Forward => forward(batch, inputs.of(0), cols, tokens),
            _ => vjp(batch, inputs.of(0), cols, tokens),
        }]
    }
}
