//! Multinomial logistic regression to convergence, in f64 on the host:
//! min over W, b of mean(-log softmax(W x + b)[y]) + λ/2 ‖W‖², by L-BFGS (Nocedal and Wright 2006, algorithm 7.5).
//!
//! scikit-learn's LogisticRegression with `C = 1 / (λ n)` has the same minimum. The bias is not penalised; the start is
//! 0, so that there is nothing random. [`ridge_path`] goes from the largest λ to the smallest, each from the one
//! before, and keeps the one with the best validation accuracy (the larger λ among equals).

use std::collections::VecDeque;

use rayon::prelude::*;

use super::data::Targets;
use super::features::Features;
use super::outcome::{Fit, Judged, judge};
use crate::interrupt::{self, Interrupted};

/// A fit.
#[derive(Clone, Debug)]
pub struct RidgeFit {
    /// W `[classes x width]`, then b `[classes]`.
    pub parameters: Vec<f64>,
    /// Mean cross-entropy in nats plus the ridge's term, at the end.
    pub loss: f64,
    /// Steps of L-BFGS.
    pub iterations: u32,
    /// Whether the largest component of the gradient fell under 1e-6.
    pub converged: bool,
}

/// Rows of features with their classes.
#[derive(Clone, Copy)]
struct Problem<'f> {
    values: &'f [f32],
    width: usize,
    labels: &'f [u32],
    /// Soft labels in place of those; empty where there are none.
    soft: &'f [Vec<f64>],
    classes: usize,
    lambda: f64,
}

/// Pairs that L-BFGS remembers.
const MEMORY: usize = 12;
const TOLERANCE: f64 = 1e-6;
const MOST_ITERATIONS: u32 = 3000;
/// Rows of one part of a sum; the parts are added in order, so that threads change nothing.
const BLOCK: usize = 64;

impl Problem<'_> {
    fn logits(&self, parameters: &[f64], row: &[f32]) -> Vec<f64> {
        let (w, b) = parameters.split_at(self.classes * self.width);
        let dot = |c: usize| -> f64 {
            w[c * self.width..][..self.width].iter().zip(row).map(|(w, x)| w * f64::from(*x)).sum()
        };
        (0..self.classes).map(|c| b[c] + dot(c)).collect()
    }

    /// Objective and gradient.
    fn evaluate(&self, parameters: &[f64]) -> (f64, Vec<f64>) {
        let n = self.labels.len() as f64;
        let split = self.classes * self.width;
        let part = |(block, (rows, labels)): (usize, (&[f32], &[u32]))| {
            let mut gradient = vec![0.0; parameters.len()];
            let mut loss = 0.0;
            for (i, (row, label)) in rows.chunks_exact(self.width).zip(labels).enumerate() {
                let soft = self.soft.get(block * BLOCK + i);
                let wanted = |c: usize| match soft {
                    Some(p) => p[c],
                    None => f64::from(u8::from(c == *label as usize)),
                };
                let z = self.logits(parameters, row);
                let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
                loss += match soft {
                    Some(p) => p.iter().zip(&z).map(|(p, z)| p * (top + total.ln() - z)).sum(),
                    None => top + total.ln() - z[*label as usize],
                };
                for c in 0..self.classes {
                    let residual = (z[c] - top).exp() / total - wanted(c);
                    let wide = &mut gradient[c * self.width..][..self.width];
                    wide.iter_mut().zip(row).for_each(|(g, x)| *g += residual * f64::from(*x));
                    gradient[split + c] += residual;
                }
            }
            (loss, gradient)
        };
        let blocks = self.values.par_chunks(BLOCK * self.width).zip(self.labels.par_chunks(BLOCK));
        let parts: Vec<(f64, Vec<f64>)> = blocks.enumerate().map(part).collect();
        let mut loss = 0.0;
        let mut gradient = vec![0.0; parameters.len()];
        for (l, g) in parts {
            loss += l;
            gradient.iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
        }
        gradient.iter_mut().for_each(|g| *g /= n);
        let w = &parameters[..split];
        gradient.iter_mut().zip(w).for_each(|(g, w)| *g += self.lambda * w);
        (loss / n + 0.5 * self.lambda * dot(w, w), gradient)
    }

    fn minimise(&self, start: Vec<f64>) -> Result<RidgeFit, Interrupted> {
        let mut x = start;
        let (mut value, mut gradient) = self.evaluate(&x);
        let mut pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
        let mut iterations = 0;
        let done = |g: &[f64]| g.iter().all(|g| g.abs() < TOLERANCE);
        while !done(&gradient) && iterations < MOST_ITERATIONS {
            iterations += 1;
            let direction = descent(&gradient, &pairs);
            let slope = dot(&gradient, &direction);
            let mut length = if pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
            let next = loop {
                interrupt::check()?;
                let to: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
                let (v, g) = self.evaluate(&to);
                // Armijo's condition; near the minimum rounding decides, and the gradient says more than the value.
                if v <= value + 1e-4 * length * slope || (v - value).abs() <= 1e-14 * value.abs() {
                    break Some((to, v, g));
                }
                length *= 0.5;
                if length < 1e-12 {
                    break None;
                }
            };
            let Some((to, v, g)) = next else { break };
            let s: Vec<f64> = to.iter().zip(&x).map(|(a, b)| a - b).collect();
            let y: Vec<f64> = g.iter().zip(&gradient).map(|(a, b)| a - b).collect();
            let curvature = dot(&s, &y);
            if curvature > 1e-16 * dot(&y, &y) {
                if pairs.len() == MEMORY {
                    pairs.pop_front();
                }
                pairs.push_back((s, y, 1.0 / curvature));
            }
            (x, value, gradient) = (to, v, g);
        }
        Ok(RidgeFit { converged: done(&gradient), parameters: x, loss: value, iterations })
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// -H g by the two-loop recursion.
fn descent(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut factors = Vec::with_capacity(pairs.len());
    for (s, y, rho) in pairs.iter().rev() {
        let a = rho * dot(s, &q);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= a * y);
        factors.push(a);
    }
    if let Some((s, y, _)) = pairs.back() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, rho), a) in pairs.iter().zip(factors.into_iter().rev()) {
        let b = rho * dot(y, &q);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (a - b) * s);
    }
    q
}

/// The minimum for one λ over the first `labels.len()` rows of the features.
pub fn ridge(features: &Features, labels: &[u32], classes: usize, lambda: f64) -> Result<RidgeFit, Interrupted> {
    let problem = problem(features, (labels, &[]), classes, lambda);
    problem.minimise(vec![0.0; classes * (features.width + 1)])
}

fn problem<'f>(
    features: &'f Features,
    (labels, soft): (&'f [u32], &'f [Vec<f64>]),
    classes: usize,
    lambda: f64,
) -> Problem<'f> {
    let values = &features.values[..labels.len() * features.width];
    Problem { values, width: features.width, labels, soft, classes, lambda }
}

/// The λ of `lambdas` with the best validation accuracy, or where posteriors are known the lowest validation
/// cross-entropy: (λ, its fit, whether all converged).
pub fn ridge_path<'a>(
    features: &Features,
    targets: impl Into<Targets<'a>>,
    classes: usize,
    lambdas: &[f64],
) -> Result<(f64, Fit, bool), Interrupted> {
    let targets: Targets<'_> = targets.into();
    let [train, validation, test] = targets.labels;
    let soft = if targets.soft { targets.posteriors[0] } else { &[] };
    let mut sorted = lambdas.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut start = vec![0.0; classes * (features.width + 1)];
    let mut best: Option<(f64, Judged, u32, Vec<f64>)> = None;
    let mut all_converged = true;
    for lambda in sorted {
        let fit = problem(features, (train, soft), classes, lambda).minimise(start)?;
        all_converged &= fit.converged;
        let judged = predict(features, &fit.parameters, classes, train.len(), (validation, targets.posteriors[1]));
        start = fit.parameters.clone();
        let better = |other: &Judged| match targets.known() {
            true => judged.loss < other.loss,
            false => judged.accuracy > other.accuracy,
        };
        if best.as_ref().is_none_or(|(_, other, _, _)| better(other)) {
            best = Some((lambda, judged, fit.iterations, fit.parameters));
        }
    }
    let (lambda, chosen, epoch, parameters) = best.expect("at least one ridge");
    let first = train.len() + validation.len();
    let found = predict(features, &parameters, classes, first, (test, targets.posteriors[2]));
    let fit = Fit {
        accuracy: found.accuracy,
        validation_accuracy: chosen.accuracy,
        validation_loss: chosen.loss,
        epoch,
        predictions: found.predictions,
        divergences: found.divergences,
        forgotten: None,
    };
    Ok((lambda, fit, all_converged))
}

/// What is predicted of the rows from `first` on.
fn predict(
    features: &Features,
    parameters: &[f64],
    classes: usize,
    first: usize,
    (labels, posteriors): (&[u32], &[Vec<f64>]),
) -> Judged {
    let problem = Problem { values: &[], width: features.width, labels: &[], soft: &[], classes, lambda: 0.0 };
    let rows = features.values[first * features.width..].par_chunks(features.width).take(labels.len());
    let logits: Vec<f64> = rows.flat_map_iter(|row| problem.logits(parameters, row)).collect();
    judge(&logits, classes, labels, posteriors)
}
