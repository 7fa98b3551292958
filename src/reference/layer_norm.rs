//! Twin of `shaders/layer_norm.wgsl` and `shaders/layer_norm_scale.wgsl`, and on jets of
//! `shaders/layer_norm_tangent.wgsl`.

use super::jet::{self, Jet, Real};
use super::{Inputs, Twin, in_first_of_four, no_twin};
use crate::ops::{Affine, LayerNorm, Rule};

fn mean<R: Real>(numbers: impl Iterator<Item = R>, d: usize) -> R {
    numbers.sum::<R>() / R::from(d as f64)
}

/// (mean, variance) of a row, or (0, mean square) where the mean is not taken away.
fn moments<R: Real>(row: &[R], centred: bool) -> (R, R) {
    let centre = if centred { mean(row.iter().copied(), row.len()) } else { R::from(0.0) };
    let square = |v: &R| (*v - centre) * (*v - centre);
    (centre, mean(row.iter().map(square), row.len()))
}

/// (mean, 1/√(var + ε), 0, 0) of each row.
pub fn statistics<R: Real>(x: &[R], d: usize, eps: f64, centred: bool) -> Vec<R> {
    let (zero, one) = (R::from(0.0), R::from(1.0));
    x.chunks_exact(d)
        .flat_map(|row| {
            let (centre, variance) = moments(row, centred);
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
/// Without mean(h) where the mean is not taken away.
pub fn vjp<R: Real>(x: &[R], gamma: &[R], stat: &[R], y_bar: &[R], centred: bool) -> Vec<R> {
    let d = gamma.len();
    let mut x_bar = Vec::with_capacity(x.len());
    for ((row, g), s) in x.chunks_exact(d).zip(y_bar.chunks_exact(d)).zip(stat.chunks_exact(4)) {
        let x_hat: Vec<R> = row.iter().map(|v| (*v - s[0]) * s[1]).collect();
        let h: Vec<R> = g.iter().zip(gamma).map(|(g, gamma)| *g * *gamma).collect();
        let centre = if centred { mean(h.iter().copied(), d) } else { R::from(0.0) };
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
fn moving_statistics(x: &[Jet], d: usize, stat: &[f64], centred: bool) -> Vec<Jet> {
    let first = x.chunks_exact(d).zip(stat.chunks_exact(4)).next();
    let eps = first.map(|(row, s)| s[1].powi(-2) - moments(row, centred).1.value);
    statistics(x, d, eps.unwrap_or_default(), centred)
}

impl LayerNorm {
    /// What multiplies x̂, from γ if there is one.
    fn scale(&self, gamma: Option<Vec<Jet>>, d: usize) -> Vec<Jet> {
        let plus = Jet::from(if self.affine == Affine::None || self.affine.one_plus() { 1.0 } else { 0.0 });
        gamma.unwrap_or_else(|| vec![Jet::default(); d]).into_iter().map(|g| plus + g).collect()
    }
}

impl Twin for LayerNorm {
    /// Inputs as the operation's own `outputs` says.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        // A head is a row of its own.
        let (x, d, centred) = (inputs.of(0), inputs.cols(0) / self.heads as usize, self.centre);
        // γ at input i, moving along input j; without it numbers that stand still.
        let fixed = |i: usize| -> Vec<f64> {
            let gamma = self.affine.scales().then(|| inputs.of(i).iter().map(|g| Jet::from(*g)).collect());
            self.scale(gamma, d).iter().map(|s| s.value).collect()
        };
        let moving = |i: usize, j: usize| self.scale(self.affine.scales().then(|| inputs.moving(i, j)), d);
        let sums = |[gamma, beta]: [Vec<f64>; 2]| -> Vec<Vec<f64>> {
            [gamma].into_iter().chain(self.affine.shifts().then_some(beta)).collect()
        };
        match rule {
            Rule::Forward => {
                let stat = statistics(x, d, f64::from(self.eps), centred);
                let beta = if self.affine.shifts() { inputs.of(2) } else { &vec![0.0; d] };
                vec![forward(x, &fixed(1), beta, &stat), stat]
            }
            Rule::Vjp(0) => {
                let (stat, y_bar) = (inputs.of(1), inputs.of(2));
                let sums = self.sums.then(|| sums(scale_vjp(x, d, stat, y_bar)));
                [vjp(x, &fixed(3), stat, y_bar, centred)].into_iter().chain(sums.into_iter().flatten()).collect()
            }
            Rule::Vjp(_) => sums(scale_vjp(x, d, inputs.of(1), inputs.of(2))),
            Rule::Jvp => {
                let x = inputs.moving(0, 2);
                let stat = moving_statistics(&x, d, inputs.of(1), centred);
                let still = vec![0.0; d];
                let beta = jet::moving(&still, if self.affine.shifts() { inputs.of(5) } else { &still });
                let y = forward(&x, &moving(3, 4), &beta, &stat);
                // mean(x̂ ẋ) is the tangent of √(var + ε).
                let out = stat.chunks_exact(4).flat_map(|s| {
                    let deviation = Jet::from(1.0) / s[1];
                    [s[0].value, s[1].value, s[0].first, deviation.first]
                });
                vec![jet::firsts(&y), out.collect()]
            }
            Rule::VjpJvp(0) => {
                let x = inputs.moving(0, 3);
                let stat = moving_statistics(&x, d, inputs.of(1), centred);
                vec![jet::firsts(&vjp(&x, &moving(5, 6), &stat, &inputs.moving(2, 4), centred))]
            }
            Rule::VjpJvp(_) => {
                let x = inputs.moving(0, 3);
                let stat = moving_statistics(&x, d, inputs.of(1), centred);
                sums(scale_vjp(&x, d, &stat, &inputs.moving(2, 4)).map(|sums| jet::firsts(&sums)))
            }
            Rule::Second => {
                let x = inputs.moving(0, 3);
                let stat = moving_statistics(&x, d, inputs.of(1), centred);
                let y = forward(&x, &moving(4, 5), &vec![Jet::default(); d], &stat);
                let rows = y.chunks_exact(d).zip(inputs.of(2).chunks_exact(d));
                vec![in_first_of_four(rows.map(|(y, g)| y.iter().zip(g).map(|(y, g)| g * y.second).sum()))]
            }
            _ => no_twin(inputs),
        }
    }
}
