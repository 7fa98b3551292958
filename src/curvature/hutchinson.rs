//! Hutchinson's trace: the mean of vᵀ A v over random v, through quadratic forms. Hutchinson 1990; Girard 1989.

use super::operator::{Observe, forms};
use super::{CurvatureError, Operator, ProbeKind, Progress, Trace, probes};
use crate::statistics::{Crossed, Parts, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Hutchinson {
    pub kind: ProbeKind,
    pub seed: u64,
    /// At most so many probes.
    pub samples: usize,
    /// Stop when standard error / |estimate| is at most this.
    ///
    /// The standard error is itself estimated, with a relative error of about 1 / √(2 (K - 1)) from K probes, and a rule
    /// that looks at it after every probe stops early on a low one: take `minimum` large enough for the use.
    pub rel_error: Option<f64>,
    /// Do not stop before so many probes.
    pub minimum: usize,
    /// Probes at once. Any number gives the same answer.
    pub block: usize,
    pub target: Target,
}

impl Default for Hutchinson {
    fn default() -> Self {
        Hutchinson {
            kind: ProbeKind::Rademacher,
            seed: 0,
            samples: 64,
            rel_error: None,
            minimum: 16,
            block: 8,
            target: Target::TheseExamples,
        }
    }
}

/// Whether a stated relative error is reached; 0 ± 0 counts.
pub(super) fn within(parts: &Parts, rel_error: Option<f64>) -> bool {
    rel_error.is_some_and(|r| parts.standard_error <= r * parts.value.abs())
}

/// Refuses what has no answer.
pub(super) fn check(operator: &dyn Operator, what: &Hutchinson) -> Result<(), CurvatureError> {
    if what.samples < 2 || what.block == 0 || what.rel_error.is_some_and(|r| r.is_nan() || r <= 0.0) {
        return Err(CurvatureError::Request(
            "a trace needs at least 2 probes (for a standard error), blocks of at least 1 and a relative error above 0"
                .into(),
        ));
    }
    if what.target == Target::Population && operator.weights().len() < 2 {
        return Err(CurvatureError::Request("one example tells nothing of a population; take at least 2".into()));
    }
    Ok(())
}

/// Tr A, with the probe and the data part of its standard error by the crossed design (the same probes for all examples).
/// Gaussian probes also give ‖A‖_F² (half the variance of vᵀ A v).
pub fn hutchinson(operator: &dyn Operator, what: &Hutchinson, observe: Observe<'_>) -> Result<Trace, CurvatureError> {
    check(operator, what)?;
    let mut crossed = Crossed::new(operator.weights());
    let (mut cost, mut reached) = (0.0, false);
    let minimum = what.minimum.max(2);
    while crossed.rows().len() < what.samples && !reached {
        let done = crossed.rows().len();
        let block = probes(what.kind, what.seed, done..(done + what.block).min(what.samples), operator.size());
        cost += operator.form_cost(block.len());
        for values in forms(operator, &block)? {
            crossed.push(&values);
            // Probe by probe, so that the answer is not one of the block size.
            if what.rel_error.is_some() && crossed.rows().len() >= minimum {
                reached = within(&crossed.parts(what.target), what.rel_error);
            }
            if reached {
                break;
            }
        }
        let parts = crossed.parts(what.target);
        let value = (crossed.rows().len() > 1).then_some((parts.value, parts.standard_error));
        observe(&Progress { done: crossed.rows().len(), of: what.samples, value })?;
    }
    let values = crossed.rows().to_vec();
    let trace = Trace::of("hutchinson", crossed.parts(what.target), what.target, values);
    let variance = crossed.parts(Target::TheseExamples).standard_error.powi(2) * trace.samples as f64;
    let trace = Trace { reached: reached || what.rel_error.is_none(), gradient_equivalents: cost, ..trace };
    Ok(match what.kind {
        ProbeKind::Gaussian => trace.with_squared_norm(variance / 2.0),
        ProbeKind::Rademacher => trace,
    })
}
