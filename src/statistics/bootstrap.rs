//! Percentile intervals from resampled clusters (Efron and Tibshirani 1993, chapter 13; clusters: Davison and Hinkley
//! 1997, section 3.8).
//!
//! Values measured several times on one run are not independent; whole runs are, so whole runs are drawn again.
//!
//! ```
//! use lowland::statistics::bootstrap;
//! let x = [1.0, 1.0, 5.0, 5.0];
//! let mean = |rows: &[usize]| Some(rows.iter().map(|i| x[*i]).sum::<f64>() / rows.len() as f64);
//! let interval = bootstrap(&[0, 0, 1, 1], 1000, 0, mean);
//! assert_eq!((interval.low, interval.high), (1.0, 5.0));
//! ```

use rayon::prelude::*;

use crate::random::{Purpose, Stream};

/// A 95 % interval over the draws in which the statistic exists; NaN where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The 2.5 % quantile of the draws.
    pub low: f64,
    /// The 97.5 % quantile of the draws.
    pub high: f64,
    /// Draws in which the statistic exists.
    pub draws: usize,
}

/// Ends of the interval, as quantiles.
const ENDS: [f64; 2] = [0.025, 0.975];

/// The rows of each cluster, in the order of first appearance.
pub fn members(clusters: &[usize]) -> Vec<Vec<usize>> {
    let mut names: Vec<usize> = Vec::new();
    let mut members: Vec<Vec<usize>> = Vec::new();
    for (row, cluster) in clusters.iter().enumerate() {
        match names.iter().position(|n| n == cluster) {
            Some(i) => members[i].push(row),
            None => {
                names.push(*cluster);
                members.push(vec![row]);
            }
        }
    }
    members
}

/// Draws as many clusters as there are, with replacement, and gives the statistic the rows of all that were drawn.
/// `clusters` has the cluster of each row. A function of the seed.
pub fn bootstrap(
    clusters: &[usize],
    draws: u64,
    seed: u64,
    statistic: impl Fn(&[usize]) -> Option<f64> + Sync,
) -> Interval {
    let members = members(clusters);
    let n = members.len() as u32;
    let drawn = (0..draws).into_par_iter().filter_map(|draw| {
        let mut stream = Stream::new(seed, Purpose::Bootstrap, draw);
        let rows: Vec<usize> = (0..n).flat_map(|_| &members[stream.below(n) as usize]).copied().collect();
        statistic(&rows)
    });
    Interval::of(drawn.collect())
}

impl Interval {
    /// The interval of a statistic's values over draws.
    pub fn of(mut drawn: Vec<f64>) -> Interval {
        drawn.sort_by(f64::total_cmp);
        let [low, high] = ENDS.map(|q| quantile(&drawn, q).unwrap_or(f64::NAN));
        Interval { low, high, draws: drawn.len() }
    }
}

/// Quantile of sorted values with linear interpolation, numpy's default; `None` of nothing.
pub(super) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let at = q * (sorted.len().checked_sub(1)? as f64);
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}
