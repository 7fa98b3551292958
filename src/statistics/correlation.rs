//! Correlations of pairs with bootstrap intervals: Pearson's r, Spearman's ρ (Pearson's of mid-ranks), Kendall's τ_b
//! (Kendall 1945: (C - D) / √((n₀ - n₁)(n₀ - n₂)), pairs tied in one of the two left out of its factor).
//!
//! The interval is the percentile one (Efron and Tibshirani 1993, chapter 13): pairs are drawn again with replacement, and
//! the quantiles of the coefficient over these draws are its ends.
//!
//! ```
//! use lowland::statistics::{Coefficient, correlate};
//! let x = [1.0, 2.0, 3.0, 4.0];
//! let c = correlate(Coefficient::Kendall, &x, &[1.0, 3.0, 2.0, 4.0], 1000, 0).unwrap();
//! assert!((c.value - 4.0 / 6.0).abs() < 1e-15);
//! assert!(c.low <= c.value && c.value <= c.high);
//! ```

use rayon::prelude::*;
use serde::Serialize;

use crate::random::{Purpose, Stream};

/// Which coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Coefficient {
    Pearson,
    Spearman,
    Kendall,
}

/// A coefficient with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    pub coefficient: Coefficient,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// Pairs.
    pub pairs: usize,
    /// Draws in which the coefficient exists (both sides vary).
    pub draws: usize,
}

/// Ends of the interval, as quantiles.
const ENDS: [f64; 2] = [0.025, 0.975];

impl Coefficient {
    /// The coefficient of pairs; `None` when one side does not vary.
    ///
    /// # Panics
    /// When the sides differ in length.
    pub fn of(self, x: &[f64], y: &[f64]) -> Option<f64> {
        assert_eq!(x.len(), y.len(), "a correlation is of pairs");
        match self {
            Coefficient::Pearson => pearson(x, y),
            Coefficient::Spearman => pearson(&ranks(x), &ranks(y)),
            Coefficient::Kendall => kendall(x, y),
        }
    }
}

/// A coefficient and its interval over so many bootstrap draws, a function of the seed.
///
/// `None` when it does not exist: fewer than two pairs, a side that does not vary, or values that are not finite.
pub fn correlate(coefficient: Coefficient, x: &[f64], y: &[f64], draws: u64, seed: u64) -> Option<Correlation> {
    if x.iter().chain(y).any(|v| !v.is_finite()) {
        return None;
    }
    let value = coefficient.of(x, y)?;
    let n = x.len() as u32;
    let mut drawn: Vec<f64> = (0..draws)
        .into_par_iter()
        .filter_map(|draw| {
            let mut stream = Stream::new(seed, Purpose::Bootstrap, draw);
            let (a, b): (Vec<f64>, Vec<f64>) = (0..n)
                .map(|_| {
                    let i = stream.below(n) as usize;
                    (x[i], y[i])
                })
                .unzip();
            coefficient.of(&a, &b)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let [low, high] = ENDS.map(|q| quantile(&drawn, q).unwrap_or(f64::NAN));
    Some(Correlation { coefficient, value, low, high, pairs: x.len(), draws: drawn.len() })
}

/// Quantile of sorted values with linear interpolation, numpy's default; `None` of nothing.
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let at = q * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    // What does not vary has no correlation; its sum of squares may still differ from 0 by rounding.
    let constant = |v: &[f64]| v.iter().all(|a| *a == v[0]);
    if x.len() < 2 || constant(x) || constant(y) {
        return None;
    }
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(a, b)| f(a - mx, b - my)).sum::<f64>();
    let scale = sum(&|a, _| a * a).sqrt() * sum(&|_, b| b * b).sqrt();
    Some((sum(&|a, b| a * b) / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(v: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..v.len()).collect();
    order.sort_by(|a, b| v[*a].total_cmp(&v[*b]));
    let mut ranks = vec![0.0; v.len()];
    let mut first = 0;
    while first < order.len() {
        let equal = order[first..].iter().take_while(|i| v[**i] == v[order[first]]).count();
        let rank = first as f64 + (equal as f64 + 1.0) / 2.0;
        order[first..first + equal].iter().for_each(|i| ranks[*i] = rank);
        first += equal;
    }
    ranks
}

fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mut difference, mut varies_x, mut varies_y) = (0i64, 0u64, 0u64);
    let sign = |a: f64, b: f64| i64::from(a > b) - i64::from(a < b);
    for i in 0..x.len() {
        for j in 0..i {
            let (a, b) = (sign(x[i], x[j]), sign(y[i], y[j]));
            difference += a * b;
            varies_x += a.unsigned_abs();
            varies_y += b.unsigned_abs();
        }
    }
    (varies_x > 0 && varies_y > 0).then(|| difference as f64 / ((varies_x as f64).sqrt() * (varies_y as f64).sqrt()))
}
