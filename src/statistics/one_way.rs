//! One-way random effects: values in groups, as the fits of several label sets (Searle, Casella, McCulloch 1992,
//! chapter 3, balanced data).
//!
//! With K groups of S values, MSB = S Σ (ȳ_k - ȳ)² / (K - 1) and MSW = Σ (y_ks - ȳ_k)² / (K (S - 1)), the variance
//! within groups is MSW, that between them (MSB - MSW) / S, and the squared error of the mean MSB / (K S).
//!
//! ```
//! use lowland::statistics::OneWay;
//! let found = OneWay::of(&[vec![1.0, 3.0], vec![5.0, 7.0]]);
//! assert_eq!((found.mean, found.within), (4.0, Some(2.0)));
//! // MSB = 2 (4 + 4) / 1 = 16.
//! assert_eq!((found.between, found.standard_error), (Some(7.0), Some(2.0)));
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mean over groups of equally many values, with its components of variance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OneWay {
    /// Over all values.
    pub mean: f64,
    /// Of the mean, groups being drawn; null for one group.
    pub standard_error: Option<f64>,
    /// Variance between groups, without that of the values within them; it may come out below 0. Where a group has one
    /// value, it holds both. Null for one group.
    pub between: Option<f64>,
    /// Variance within groups; null where each has one value.
    pub within: Option<f64>,
    /// Mean of each group.
    pub per_group: Vec<f64>,
}

impl OneWay {
    /// Of values by group.
    ///
    /// # Panics
    /// When there is none, or groups have different numbers of values.
    pub fn of(values: &[Vec<f64>]) -> OneWay {
        let (k, s) = (values.len() as f64, values[0].len() as f64);
        assert!(values.iter().all(|group| group.len() == values[0].len() && !group.is_empty()), "balanced groups");
        let per_group: Vec<f64> = values.iter().map(|group| group.iter().sum::<f64>() / s).collect();
        let mean = per_group.iter().sum::<f64>() / k;
        let within = (s > 1.0).then(|| {
            let squares =
                values.iter().zip(&per_group).flat_map(|(group, m)| group.iter().map(move |y| (y - m).powi(2)));
            squares.sum::<f64>() / (k * (s - 1.0))
        });
        let of_means = (k > 1.0).then(|| per_group.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (k - 1.0));
        OneWay {
            mean,
            standard_error: of_means.map(|v| (v / k).sqrt()),
            between: of_means.map(|v| v - within.unwrap_or(0.0) / s),
            within,
            per_group,
        }
    }
}
