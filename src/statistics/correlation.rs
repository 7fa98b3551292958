//! Correlations of pairs with bootstrap intervals: Pearson's r, Spearman's ρ (Pearson's of mid-ranks), Kendall's τ_b
//! (Kendall 1945: (C - D) / √((n₀ - n₁)(n₀ - n₂)), pairs tied in one of the two left out of its factor).
//!
//! The interval is the bootstrap's percentile one: pairs, or whole clusters of pairs that are not independent of each
//! other, are drawn again with replacement, and the quantiles of the coefficient over these draws are its ends.
//!
//! ```
//! use lowland::statistics::{Coefficient, correlate};
//! let x = [1.0, 2.0, 3.0, 4.0];
//! let c = correlate(Coefficient::Kendall, &x, &[1.0, 3.0, 2.0, 4.0], 1000, 0).unwrap();
//! assert!((c.value - 4.0 / 6.0).abs() < 1e-15);
//! assert!(c.low <= c.value && c.value <= c.high);
//! ```

use serde::Serialize;

use super::bootstrap::{bootstrap, members};

/// The coefficient of a correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Coefficient {
    /// Of the values: how well a straight line fits.
    Pearson,
    /// Of the ranks, those of equal values averaged.
    Spearman,
    /// τ-b: pairs of pairs in the same order less those in the other, corrected for ties.
    Kendall,
}

/// A coefficient with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Which one.
    pub coefficient: Coefficient,
    /// In -1 to 1; NaN where one side does not vary.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Pairs.
    pub pairs: usize,
    /// Clusters of pairs, which is what was drawn again; as many as pairs where each is its own.
    pub clusters: usize,
    /// Draws in which the coefficient exists (both sides vary).
    pub draws: usize,
}

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

    /// (r_xy - r_xz r_yz) / √((1 - r_xz²) (1 - r_yz²)), r this coefficient: what is left between x and y when z is
    /// given. `None` when a side does not vary or z determines one.
    ///
    /// # Panics
    /// When the sides differ in length.
    pub fn partial(self, x: &[f64], y: &[f64], z: &[f64]) -> Option<f64> {
        let (xy, xz, yz) = (self.of(x, y)?, self.of(x, z)?, self.of(y, z)?);
        let left = (1.0 - xz * xz) * (1.0 - yz * yz);
        // Three points determine each other; what rounding leaves of nothing is no coefficient.
        (left > 1e-12).then(|| ((xy - xz * yz) / left.sqrt()).clamp(-1.0, 1.0))
    }
}

/// A coefficient and its interval over `draws` bootstrap draws of pairs, a function of the seed.
///
/// `None` when it does not exist: fewer than two pairs, a side that does not vary, or values that are not finite.
pub fn correlate(coefficient: Coefficient, x: &[f64], y: &[f64], draws: u64, seed: u64) -> Option<Correlation> {
    let each: Vec<usize> = (0..x.len()).collect();
    Clusters { of: &each, draws, seed }.correlate(coefficient, x, y)
}

/// The clusters that pairs belong to (rows of one run), and how often whole clusters are drawn again for an interval.
#[derive(Clone, Copy, Debug)]
pub struct Clusters<'a> {
    /// The cluster of each pair.
    pub of: &'a [usize],
    /// How often they are drawn again.
    pub draws: u64,
    /// Of the draws.
    pub seed: u64,
}

impl Clusters<'_> {
    /// A coefficient of all pairs, with its interval over draws of clusters; `None` as for [`correlate`]. One cluster
    /// has no interval (NaN).
    pub fn correlate(&self, coefficient: Coefficient, x: &[f64], y: &[f64]) -> Option<Correlation> {
        self.interval(coefficient, &[x, y], |c| coefficient.of(&c[0], &c[1]))
    }

    /// The partial coefficient given z, with its interval as for [`correlate`](Self::correlate).
    pub fn partial(&self, coefficient: Coefficient, x: &[f64], y: &[f64], z: &[f64]) -> Option<Correlation> {
        self.interval(coefficient, &[x, y, z], |c| coefficient.partial(&c[0], &c[1], &c[2]))
    }

    fn interval(
        &self,
        coefficient: Coefficient,
        columns: &[&[f64]],
        of: impl Fn(&[Vec<f64>]) -> Option<f64> + Sync,
    ) -> Option<Correlation> {
        if columns.iter().flat_map(|c| c.iter()).any(|v| !v.is_finite()) {
            return None;
        }
        let rows = |rows: &[usize]| -> Vec<Vec<f64>> {
            columns.iter().map(|c| rows.iter().map(|i| c[*i]).collect()).collect()
        };
        let all: Vec<usize> = (0..columns[0].len()).collect();
        let value = of(&rows(&all))?;
        let clusters = members(self.of).len();
        let draws = if clusters > 1 { self.draws } else { 0 };
        let found = bootstrap(self.of, draws, self.seed, |drawn| of(&rows(drawn)));
        let (pairs, draws) = (all.len(), found.draws);
        Some(Correlation { coefficient, value, low: found.low, high: found.high, pairs, clusters, draws })
    }
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
pub(super) fn ranks(v: &[f64]) -> Vec<f64> {
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
