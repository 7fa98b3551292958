//! Twin of `shaders/rotary.wgsl`, with the sines and cosines of f64.

use super::{Inputs, Twin};
use crate::ops::{Rotary, Rule};

impl Twin for Rotary {
    /// Forward: x. Vjp: ȳ, turned back.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (mut out, mut cols) = (inputs.of(0).to_vec(), inputs.cols(0));
        let repeated = |rule: Rule, x: &[f64], cols: usize| self.repeat.map(|repeat| repeat.of_rows(rule, x, cols));
        if rule != Rule::Forward
            && let Some((added, few)) = repeated(rule, &out, cols)
        {
            (out, cols) = (added, few);
        }
        let sign = if rule == Rule::Forward { 1.0 } else { -1.0 };
        let pairs = self.frequencies.len();
        for (row, id) in out.chunks_exact_mut(cols).zip(&inputs.frame.batch.ids) {
            for head in row.chunks_mut(self.padded() as usize).take(self.heads as usize) {
                for (i, frequency) in self.frequencies.iter().enumerate() {
                    let (sin, cos) = (sign * f64::from(id[1]) * f64::from(*frequency)).sin_cos();
                    let (a, b) = (head[i], head[i + pairs]);
                    head[i] = a * cos - b * sin;
                    head[i + pairs] = b * cos + a * sin;
                }
            }
        }
        if rule == Rule::Forward
            && let Some((all, _)) = repeated(rule, &out, cols)
        {
            out = all;
        }
        vec![out]
    }
}
