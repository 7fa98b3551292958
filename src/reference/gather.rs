//! Twin of `shaders/gather.wgsl`.

use super::{Inputs, plus};

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

pub(super) fn evaluate(inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
    vec![forward(&inputs.frame.batch.index, inputs.of(0), inputs.cols(0))]
}

/// The reverse rule, with an addend where there is a second input.
pub(super) fn evaluate_back(inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
    let rows = inputs.frame.rows(inputs.node.outputs[0]);
    vec![plus(vjp(&inputs.frame.batch.index, inputs.of(0), inputs.cols(0), rows), inputs.get(1))]
}
