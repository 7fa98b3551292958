//! Twin of `shaders/gather.wgsl`.

use super::{Inputs, Twin};
use crate::ops::{Gather, Rule};

/// The rows of the masked positions.
pub fn forward(index: &[u32], x: &[f64], cols: usize) -> Vec<f64> {
    index.iter().flat_map(|r| &x[*r as usize * cols..][..cols]).copied().collect()
}

/// Rows of masked positions back to their places among `rows`, zeros elsewhere.
pub fn vjp(index: &[u32], y_bar: &[f64], cols: usize, rows: usize) -> Vec<f64> {
    let mut x_bar = vec![0.0; rows * cols];
    for (r, bar) in index.iter().zip(y_bar.chunks_exact(cols)) {
        x_bar[*r as usize * cols..][..cols].copy_from_slice(bar);
    }
    x_bar
}

impl Twin for Gather {
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (index, x, cols) = (&inputs.frame.batch.index, inputs.of(0), inputs.cols(0));
        vec![match rule {
            Rule::Forward => forward(index, x, cols),
            _ => vjp(index, x, cols, inputs.frame.rows(inputs.node.outputs[0])),
        }]
    }
}
