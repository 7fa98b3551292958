//! Hutchinson's trace: the mean of vᵀ A v over random v, through quadratic forms. Hutchinson 1990; Girard 1989.

use super::error::unless_interrupted;
use super::operator::{Observe, forms_so_far};
use super::{CurvatureError, Operator, ProbeKind, Progress, Trace, probes};
use crate::statistics::{Crossed, Parts, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Hutchinson {
    /// Distribution of the probes.
    pub kind: ProbeKind,
    /// Of the probes.
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
    /// Whether the examples are all there is, or a sample.
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
///
/// Interrupted, it is of the probes until then; of a population in the first block, of the examples until then.
pub fn hutchinson(operator: &dyn Operator, what: &Hutchinson, observe: Observe<'_>) -> Result<Trace, CurvatureError> {
    check(operator, what)?;
    let mut crossed = Crossed::new(operator.weights());
    let (mut cost, mut reached, mut interrupted, mut examples) = (0.0, false, false, None);
    let minimum = what.minimum.max(2);
    while crossed.rows().len() < what.samples && !reached && !interrupted {
        let done = crossed.rows().len();
        let block = probes(what.kind, what.seed, done..(done + what.block).min(what.samples), operator.size());
        let all = forms_so_far(operator, &block)?;
        let seen = all.first().map_or(0, Vec::len);
        let whole = seen == operator.weights().len();
        interrupted = !whole || all.len() < block.len();
        if !whole {
            // Fewer examples are a smaller sample of a population, and another target where they are the target themselves.
            if done == 0 && what.target == Target::Population && seen > 1 {
                crossed = Crossed::new(&operator.weights()[..seen]);
                all.iter().for_each(|values| crossed.push(values));
                // In gradients over those examples.
                cost = operator.form_cost(all.len());
                examples = Some(seen);
            }
            break;
        }
        cost += operator.form_cost(all.len());
        for values in all {
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
        let progress = Progress { done: crossed.rows().len(), of: what.samples, value };
        interrupted |= unless_interrupted(observe(&progress))?.is_none();
    }
    // What is complete was not cut short.
    interrupted &= !reached && crossed.rows().len() < what.samples;
    if crossed.rows().is_empty() {
        return Err(CurvatureError::Interrupted);
    }
    let values = crossed.rows().to_vec();
    let trace = Trace::of("hutchinson", crossed.parts(what.target), what.target, values);
    let variance = crossed.parts(Target::TheseExamples).standard_error.powi(2) * trace.samples as f64;
    let trace = Trace { reached: reached || what.rel_error.is_none(), gradient_equivalents: cost, examples, ..trace };
    let trace = match what.kind {
        ProbeKind::Gaussian => trace.with_squared_norm(variance / 2.0),
        ProbeKind::Rademacher => trace,
    };
    Ok(trace.cut_short(interrupted))
}
