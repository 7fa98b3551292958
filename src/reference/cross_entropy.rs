//! Twin of `shaders/cross_entropy.wgsl`; its rules along a direction are the loss and its adjoint on jets.

use super::jet::{self, Jet, Real};
use super::{Inputs, Twin, in_first_of_four, no_twin};
use crate::ops::{CrossEntropy, Labels, Rule};

/// The share of a word at a masked row.
pub type Label<'a> = &'a dyn Fn(usize, usize) -> f64;

/// stat [rows, 4] = (−Σ q log p, Σ q (log q − log p), log Σ exp(z − max), max z).
pub fn forward<R: Real>(z: &[R], width: usize, label: Label<'_>) -> Vec<R> {
    let mut stat = Vec::new();
    for (row, z) in z.chunks_exact(width).enumerate() {
        let top = z.iter().copied().fold(R::from(f64::NEG_INFINITY), R::max);
        let log_sum = z.iter().map(|v| (*v - top).exp()).sum::<R>().ln();
        let (mut loss, mut divergence) = (R::from(0.0), R::from(0.0));
        for (v, z) in z.iter().enumerate() {
            let q = label(row, v);
            let surprise = log_sum - (*z - top);
            loss += R::from(q) * surprise;
            if q > 0.0 {
                divergence += R::from(q) * (R::from(q.ln()) + surprise);
            }
        }
        stat.extend([loss, divergence, log_sum, top]);
    }
    stat
}

/// z̄ = weight (softmax(z) − q), the weight in the first of four columns.
pub fn vjp<R: Real>(z: &[R], width: usize, label: Label<'_>, stat: &[R], weight: &[f64]) -> Vec<R> {
    let mut z_bar = Vec::with_capacity(z.len());
    for (row, z) in z.chunks_exact(width).enumerate() {
        let (s, weight) = (&stat[4 * row..4 * row + 4], R::from(weight[4 * row]));
        let entry = |(v, z): (usize, &R)| weight * ((*z - s[3] - s[2]).exp() - R::from(label(row, v)));
        z_bar.extend(z.iter().enumerate().map(entry));
    }
    z_bar
}

impl Twin for CrossEntropy {
    /// Forward: z. Vjp: (z, stat, weight). Jvp, Second: (z, stat, ż). VjpJvp: (z, stat, weight, ż). Along ż, stat is
    /// computed again.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (z, width, batch) = (inputs.of(0), inputs.cols(0), inputs.frame.batch);
        let label = |row: usize, v: usize| match self.labels {
            Labels::Hard => f64::from(u8::from(batch.labels[row] as usize == v)),
            Labels::Soft => f64::from(batch.soft[row * width + v]),
        };
        let along = |of: fn(Jet) -> f64| {
            let stat = forward(&inputs.moving(0, 2), width, &label);
            in_first_of_four(stat.iter().step_by(4).map(|loss| of(*loss)))
        };
        vec![match rule {
            Rule::Forward => forward(z, width, &label),
            Rule::Vjp(_) => vjp(z, width, &label, inputs.of(1), inputs.of(2)),
            Rule::Jvp => along(|loss| loss.first),
            Rule::Second => along(|loss| loss.second),
            Rule::VjpJvp(_) => {
                let z = inputs.moving(0, 3);
                let stat = forward(&z, width, &label);
                jet::firsts(&vjp(&z, width, &label, &stat, inputs.of(2)))
            }
            _ => no_twin(inputs),
        }]
    }
}
