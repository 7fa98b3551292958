//! A trace with its evidence ([`Trace`]), and the estimators of one: by probes of any operator (Hutchinson's, through
//! quadratic forms or products, Hutch++, XTrace), by draws of labels or signs at a subject's masked positions, by
//! draws about sentences that a design chooses from a language, and by parts of the Hessian.

mod conventions;
mod designed;
mod drawn;
mod hutchinson;
mod hutchpp;
mod label_split;
mod product_trace;
mod shown;
mod split;
mod stopping;
mod xtrace;
mod xtrace_replicates;

pub use conventions::{Balanced, Conventions, ConventionsOptions};
pub use designed::{Design, Designed, DesignedTrace, designed_trace};
pub use drawn::{Drawing, DrawnTrace, Norms};
pub use hutchinson::{Hutchinson, hutchinson};
pub use hutchpp::{HutchPlusPlus, hutch_plus_plus};
pub use label_split::{LabelSplit, LabelSplitOptions, WordGroups};
pub use product_trace::{ProductTrace, hutchinson_by_products};
pub use split::{Split, SplitTrace, split_trace};
pub use stopping::Stopping;
pub use xtrace::{XTrace, xtrace};
pub use xtrace_replicates::{XTraceReplicates, xtrace_replicates};

use serde::Serialize;

use super::Estimator;
use crate::statistics::{Parts, Target, nested};

/// An estimated trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// How it was estimated.
    pub estimator: Estimator,
    /// Whether the examples are all there is, or a sample.
    pub target: Target,
    /// Tr A.
    pub estimate: f64,
    /// √(probe² + data²).
    pub standard_error: f64,
    /// What is left when the examples are given.
    pub standard_error_probe: f64,
    /// Of the choice of examples; 0 where they are the target.
    pub standard_error_data: f64,
    /// Probe vectors used, or pairs of example and draw.
    pub samples: usize,
    /// Whether the error that was asked for is reached; true where none was.
    pub reached: bool,
    /// Whether an interrupt ended it; then it is of what was done until then.
    pub interrupted: bool,
    /// Examples that it is of, where an interrupt left fewer than were given.
    pub examples: Option<usize>,
    /// The estimate by each probe or example.
    pub values: Vec<f64>,
    /// ‖A‖_F², where the probes tell it.
    pub squared_norm: Option<f64>,
    /// (Tr A)² / ‖A‖_F²: K Gaussian probes have a relative error of √(2 / (K r_eff)).
    pub r_eff: Option<f64>,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
}

impl Trace {
    /// From a mean's parts; the rest as said.
    pub fn of(estimator: Estimator, parts: Parts, target: Target, values: Vec<f64>) -> Trace {
        Trace {
            estimator,
            target,
            estimate: parts.value,
            standard_error: parts.standard_error,
            standard_error_probe: parts.standard_error_probe,
            standard_error_data: parts.standard_error_data,
            samples: values.len(),
            reached: true,
            interrupted: false,
            examples: None,
            values,
            squared_norm: None,
            r_eff: None,
            gradient_equivalents: 0.0,
        }
    }

    /// From draws of labels or signs of their own for each example, `[example][draw]`; `weights` as in [`nested`].
    pub fn of_draws(estimator: Estimator, weights: &[f64], draws: &[Vec<f64>], target: Target) -> Trace {
        let means = draws.iter().map(|d| d.iter().sum::<f64>() / d.len() as f64).collect();
        let samples = draws.iter().map(Vec::len).sum();
        Trace { samples, ..Trace::of(estimator, nested(weights, draws, target), target, means) }
    }

    /// As an interrupt left it.
    pub fn cut_short(self, interrupted: bool) -> Trace {
        Trace { reached: self.reached && !interrupted, interrupted, ..self }
    }

    /// With ‖A‖_F² known.
    pub(super) fn with_squared_norm(mut self, squared_norm: f64) -> Trace {
        self.squared_norm = Some(squared_norm);
        self.r_eff = (squared_norm > 0.0).then(|| self.estimate * self.estimate / squared_norm);
        self
    }
}
