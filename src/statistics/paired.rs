//! Differences of pairs: what one arm has more than the other, pair by pair.
//!
//! Interval and tests are Student's. Beside them stands the test of no difference by all changes of sign (Fisher 1935),
//! which assumes no normal law: enumerated for up to 16 pairs and drawn beyond. Of n pairs it is never below 2 / 2ⁿ.
//!
//! ```
//! use lowland::statistics::Paired;
//! let found = Paired::of(&[1.0, 2.0, 3.0], None, 1000, 0).unwrap();
//! // Of 8 changes of sign two have a sum as large.
//! assert_eq!((found.mean, found.p_signs), (2.0, 0.25));
//! assert!((found.p - 0.0742).abs() < 1e-4);
//! ```

use rayon::prelude::*;

use super::Estimate;
use super::bootstrap::Interval;
use super::student::{student_below, student_quantile};
use crate::random::{Purpose, Stream};

/// A mean difference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Over the pairs.
    pub mean: f64,
    /// Over the pairs.
    pub standard_error: f64,
    /// 95 %.
    pub interval: Interval,
    /// Of no difference, by Student's law.
    pub p: f64,
    /// Of no difference, by changes of sign.
    pub p_signs: f64,
    /// Two one-sided tests that the mean lies within the bounds; `None` where none were asked.
    pub p_equivalent: Option<f64>,
    /// Pairs.
    pub pairs: usize,
}

/// Pairs up to which all changes of sign are looked at.
const ENUMERATED: usize = 16;

impl Paired {
    /// Of differences. `None` for fewer than two, or where one is not finite.
    pub fn of(differences: &[f64], within: Option<f64>, draws: u64, seed: u64) -> Option<Paired> {
        let n = differences.len();
        if n < 2 || differences.iter().any(|d| !d.is_finite()) {
            return None;
        }
        let mean = Estimate::of_mean(differences);
        let df = (n - 1) as f64;
        let reach = student_quantile(0.975, df) * mean.standard_error;
        // Where pairs do not differ at all, the mean is known.
        let t = |edge: f64| match mean.standard_error > 0.0 {
            true => edge / mean.standard_error,
            false if edge == 0.0 => 0.0,
            false => edge * f64::INFINITY,
        };
        let p_equivalent = within.map(|bound| {
            let above = 1.0 - student_below(t(mean.value + bound), df);
            above.max(student_below(t(mean.value - bound), df))
        });
        Some(Paired {
            mean: mean.value,
            standard_error: mean.standard_error,
            interval: Interval { low: mean.value - reach, high: mean.value + reach, draws: 0 },
            p: (2.0 * student_below(-t(mean.value).abs(), df)).min(1.0),
            p_signs: signs(differences, draws, seed),
            p_equivalent,
            pairs: n,
        })
    }
}

/// The share of changes of sign whose sum is as large; of all of them up to [`ENUMERATED`] numbers.
pub(super) fn signs(differences: &[f64], draws: u64, seed: u64) -> f64 {
    let seen = differences.iter().sum::<f64>().abs() * (1.0 - 1e-12);
    let sum = |minus: &dyn Fn(usize) -> bool| {
        differences.iter().enumerate().map(|(i, d)| if minus(i) { -d } else { *d }).sum::<f64>()
    };
    if differences.len() <= ENUMERATED {
        let all = 1u64 << differences.len();
        let as_large = (0..all).filter(|signs| sum(&|i| signs >> i & 1 == 1).abs() >= seen).count();
        return as_large as f64 / all as f64;
    }
    let as_large = (0..draws).into_par_iter().filter(|draw| {
        let mut stream = Stream::new(seed, Purpose::Shuffle, *draw);
        let signs: Vec<bool> = differences.iter().map(|_| stream.below(2) == 0).collect();
        sum(&|i| signs[i]).abs() >= seen
    });
    (1 + as_large.count()) as f64 / (1 + draws) as f64
}
