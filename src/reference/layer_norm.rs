//! Twin of `shaders/layer_norm.wgsl` and `shaders/layer_norm_scale.wgsl`, and on jets of
//! `shaders/layer_norm_tangent.wgsl`.

use super::jet::{self, Jet, Real};
use super::{Inputs, Twin, in_first_of_four, no_twin};
use crate::ops::{LayerNorm, Rule};

fn mean<R: Real>(numbers: impl Iterator<Item = R>, d: usize) -> R {
    numbers.sum::<R>() / R::from(d as f64)
}

/// (mean, variance) of a row.
fn moments<R: Real>(row: &[R]) -> (R, R) {
    let centre = mean(row.iter().copied(), row.len());
    let square = |v: &R| (*v - centre) * (*v - centre);
    (centre, mean(row.iter().map(square), row.len()))
}

/// (mean, 1/√(var + ε), 0, 0) of each row.
pub fn statistics<R: Real>(x: &[R], d: usize, eps: f64) -> Vec<R> {
    let (zero, one) = (R::from(0.0), R::from(1.0));
    x.chunks_exact(d)
        .flat_map(|row| {
            let (centre, variance) = moments(row);
            [centre, one / (variance + R::from(eps)).sqrt(), zero, zero]
        })
        .collect()
}

/// y = γ x̂ + β over rows as wide as γ.
pub fn forward<R: Real>(x: &[R], gamma: &[R], beta: &[R], stat: &[R]) -> Vec<R> {
    let rows = x.chunks_exact(gamma.len()).zip(stat.chunks_exact(4));
    let scaled = |(row, s): (&[R], &[R])| -> Vec<R> {
        row.iter().zip(gamma).zip(beta).map(|((v, g), b)| *g * (*v - s[0]) * s[1] + *b).collect()
    };
    rows.flat_map(scaled).collect()
}

/// x̄ = r (h - mean(h) - x̂ mean(h x̂)), h = γ ȳ.
pub fn vjp<R: Real>(x: &[R], gamma: &[R], stat: &[R], y_bar: &[R]) -> Vec<R> {
    let d = gamma.len();
    let mut x_bar = Vec::with_capacity(x.len());
    for ((row, g), s) in x.chunks_exact(d).zip(y_bar.chunks_exact(d)).zip(stat.chunks_exact(4)) {
        let x_hat: Vec<R> = row.iter().map(|v| (*v - s[0]) * s[1]).collect();
        let h: Vec<R> = g.iter().zip(gamma).map(|(g, gamma)| *g * *gamma).collect();
        let centre = mean(h.iter().copied(), d);
        let along = mean(h.iter().zip(&x_hat).map(|(h, x)| *h * *x), d);
        x_bar.extend(h.iter().zip(&x_hat).map(|(h, x)| s[1] * (*h - centre - *x * along)));
    }
    x_bar
}

/// (γ̄, β̄) = (Σ_rows ȳ x̂, Σ_rows ȳ).
pub fn scale_vjp<R: Real>(x: &[R], d: usize, stat: &[R], y_bar: &[R]) -> [Vec<R>; 2] {
    let mut gamma_bar = vec![R::from(0.0); d];
    let mut beta_bar = vec![R::from(0.0); d];
    for ((row, g), s) in x.chunks_exact(d).zip(y_bar.chunks_exact(d)).zip(stat.chunks_exact(4)) {
        for c in 0..d {
            gamma_bar[c] += g[c] * (row[c] - s[0]) * s[1];
            beta_bar[c] += g[c];
        }
    }
    [gamma_bar, beta_bar]
}

/// The statistics of rows that move. The kernels are given (mean, 1/√(var + ε)) at t = 0, which tells ε.
fn moving_statistics(x: &[Jet], d: usize, stat: &[f64]) -> Vec<Jet> {
    let eps = x.chunks_exact(d).zip(stat.chunks_exact(4)).next().map(|(row, s)| s[1].powi(-2) - moments(row).1.value);
    statistics(x, d, eps.unwrap_or_default())
}

impl Twin for LayerNorm {
    /// Inputs as the operation's own `outputs` says.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (x, d) = (inputs.of(0), inputs.cols(0));
        match rule {
            Rule::Forward => {
                let stat = statistics(x, d, f64::from(self.eps));
                vec![forward(x, inputs.of(1), inputs.of(2), &stat), stat]
            }
            Rule::Vjp(0) => {
                let (stat, y_bar) = (inputs.of(2), inputs.of(3));
                let sums = self.sums.then(|| scale_vjp(x, d, stat, y_bar));
                [vjp(x, inputs.of(1), stat, y_bar)].into_iter().chain(sums.into_iter().flatten()).collect()
            }
            Rule::Vjp(_) => scale_vjp(x, d, inputs.of(1), inputs.of(2)).into(),
            Rule::Jvp => {
                let x = inputs.moving(0, 3);
                let stat = moving_statistics(&x, d, inputs.of(2));
                let y = forward(&x, &inputs.moving(1, 4), &jet::moving(&vec![0.0; d], inputs.of(5)), &stat);
                // mean(x̂ ẋ) is the tangent of √(var + ε).
                let out = stat.chunks_exact(4).flat_map(|s| {
                    let deviation = Jet::from(1.0) / s[1];
                    [s[0].value, s[1].value, s[0].first, deviation.first]
                });
                vec![jet::firsts(&y), out.collect()]
            }
            Rule::VjpJvp(0) => {
                let x = inputs.moving(0, 4);
                let stat = moving_statistics(&x, d, inputs.of(2));
                vec![jet::firsts(&vjp(&x, &inputs.moving(1, 5), &stat, &inputs.moving(3, 6)))]
            }
            Rule::VjpJvp(_) => {
                let x = inputs.moving(0, 3);
                let stat = moving_statistics(&x, d, inputs.of(1));
                scale_vjp(&x, d, &stat, &inputs.moving(2, 4)).map(|sums| jet::firsts(&sums)).into()
            }
            Rule::Second => {
                let x = inputs.moving(0, 4);
                let stat = moving_statistics(&x, d, inputs.of(2));
                let y = forward(&x, &inputs.moving(1, 5), &vec![Jet::default(); d], &stat);
                let rows = y.chunks_exact(d).zip(inputs.of(3).chunks_exact(d));
                vec![in_first_of_four(rows.map(|(y, g)| y.iter().zip(g).map(|(y, g)| g * y.second).sum()))]
            }
            _ => no_twin(inputs),
        }
    }
}
