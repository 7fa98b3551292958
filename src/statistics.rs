//! Estimates with their evidence: the one place where a mean gets a standard error and a correlation its interval.
//!
//! ```
//! use lowland::statistics::Estimate;
//! let e = Estimate::of_mean(&[1.0, 2.0, 3.0, 4.0]);
//! assert_eq!(e.value, 2.5);
//! assert!((e.standard_error - (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
//! assert_eq!(e.to_string(), "2.50 ± 0.65");
//! ```

mod bootstrap;
mod components;
mod correlation;
mod one_way;
mod paired;
mod power;
mod proportion;
mod sampling;
mod student;
mod within;

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

pub use bootstrap::{Interval, bootstrap};
pub use components::{Crossed, Parts, Target, draws_for, nested};
pub use correlation::{Clusters, Coefficient, Correlation, correlate};
pub use one_way::OneWay;
pub use paired::Paired;
pub use power::{detectable, holm, power, power_of_correlation, power_of_equivalence};
pub use proportion::Proportion;
pub use sampling::{DesignError, Importance, Measured, Stratified};
pub use student::{normal_below, student_below, student_quantile};
pub use within::{Effect, Within, ranks_within};

/// A value and the standard error of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// NaN where a single sample tells none.
    pub standard_error: f64,
    /// Independent samples that it is made of.
    pub samples: usize,
}

impl Estimate {
    /// The mean of independent samples and s / √n, with s² = Σ(x - x̄)² / (n - 1). One sample has no standard error
    /// (NaN).
    pub fn of_mean(samples: &[f64]) -> Estimate {
        let n = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / n;
        let squares = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        Estimate { value: mean, standard_error: (squares / (n - 1.0) / n).sqrt(), samples: samples.len() }
    }

    /// Σa / Σb for pairs drawn together (a loss and its number of masked positions), with the linearised standard
    /// error: that of the mean of (a - r b) / b̄. With every b = 1 it is [`of_mean`](Self::of_mean).
    pub fn of_ratio(above: &[f64], below: &[f64]) -> Estimate {
        let total: f64 = below.iter().sum();
        let ratio = above.iter().sum::<f64>() / total;
        let mean = total / below.len() as f64;
        let residuals: Vec<f64> = above.iter().zip(below).map(|(a, b)| (a - ratio * b) / mean).collect();
        Estimate { value: ratio, ..Estimate::of_mean(&residuals) }
    }
}

impl Estimate {
    /// Decimals that show two digits of the standard error; 4 where it is 0 or not known.
    pub fn decimals(&self) -> usize {
        match self.standard_error.is_finite() && self.standard_error > 0.0 {
            true => (1 - self.standard_error.log10().floor() as i32).clamp(0, 12) as usize,
            false => 4,
        }
    }
}

/// `2.50 ± 0.65`, rounded to two digits of the standard error.
impl Display for Estimate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = self.decimals();
        match self.standard_error.is_finite() {
            true => write!(f, "{:.decimals$} ± {:.decimals$}", self.value, self.standard_error),
            false => write!(f, "{:.decimals$}", self.value),
        }
    }
}
