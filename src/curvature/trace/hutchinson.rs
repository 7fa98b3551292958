//! Hutchinson's trace: the mean of vᵀ A v over random v, through quadratic forms. Hutchinson 1990; Girard 1989.

use super::Stopping;
use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::{Observe, forms_of_probes_so_far};
use crate::curvature::{CurvatureError, Estimator, Operator, ProbeKind, Probes, Progress, Refusal, Trace};
use crate::statistics::{Crossed, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Hutchinson {
    /// Distribution of the probes.
    pub kind: ProbeKind,
    /// Of the probes.
    pub seed: u64,
    /// In probes.
    pub stop: Stopping,
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
            stop: Stopping::after(64).not_before(16),
            block: 8,
            target: Target::TheseExamples,
        }
    }
}

/// Refuses what has no answer.
pub(super) fn check(operator: &dyn Operator, what: &Hutchinson) -> Result<(), CurvatureError> {
    if what.stop.most < 2 || what.block == 0 || !what.stop.is_sensible() {
        return Err(Refusal::FewProbes.into());
    }
    if what.target == Target::Population && operator.weights().len() < 2 {
        return Err(Refusal::OneExample.into());
    }
    Ok(())
}

/// Whether the probes so far are enough. Asked after every probe, so that the answer is not one of the block size.
pub(super) fn ends(crossed: &Crossed, stop: &Stopping, target: Target) -> bool {
    // Parts cost a pass over all values so far.
    if stop.rel_error.is_none() || crossed.rows().len() < stop.minimum {
        return false;
    }
    let parts = crossed.parts(target);
    stop.reached(parts.value, parts.standard_error)
}

/// Tr A, with the probe and the data part of its standard error by the crossed design (the same probes for all
/// examples). Gaussian probes also give ‖A‖_F² (half the variance of vᵀ A v).
///
/// Interrupted, it is of the probes until then; of a population in the first block, of the examples until then.
pub fn hutchinson(operator: &dyn Operator, what: &Hutchinson, observe: Observe<'_>) -> Result<Trace, CurvatureError> {
    check(operator, what)?;
    let mut crossed = Crossed::new(operator.weights());
    let (mut cost, mut reached, mut interrupted, mut examples) = (0.0, false, false, None);
    // One probe has no scatter.
    let stop = what.stop.not_before(what.stop.minimum.max(2));
    while crossed.rows().len() < stop.most && !reached && !interrupted {
        let done = crossed.rows().len();
        let numbers = done..(done + what.block).min(stop.most);
        let block = Probes { kind: what.kind, seed: what.seed, numbers, size: operator.size() };
        let all = forms_of_probes_so_far(operator, &block)?;
        let seen = all.first().map_or(0, Vec::len);
        let whole = seen == operator.weights().len();
        interrupted = !whole || all.len() < block.numbers.len();
        if !whole {
            // Fewer examples are a smaller sample of a population, and another target where they are the target
            // themselves.
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
            reached = ends(&crossed, &stop, what.target);
            if reached {
                break;
            }
        }
        let parts = crossed.parts(what.target);
        let value = (crossed.rows().len() > 1).then_some((parts.value, parts.standard_error));
        let progress = Progress { done: crossed.rows().len(), of: stop.most, value };
        interrupted |= unless_interrupted(observe(&progress))?.is_none();
    }
    // What is complete was not cut short.
    interrupted &= !reached && crossed.rows().len() < stop.most;
    if crossed.rows().is_empty() {
        return Err(CurvatureError::Interrupted);
    }
    let values = crossed.rows().to_vec();
    let trace = Trace::of(Estimator::QuadraticForm, crossed.parts(what.target), what.target, values);
    let variance = crossed.parts(Target::TheseExamples).standard_error.powi(2) * trace.samples as f64;
    let trace = Trace { reached: reached || stop.rel_error.is_none(), gradient_equivalents: cost, examples, ..trace };
    let trace = match what.kind {
        ProbeKind::Gaussian => trace.with_squared_norm(variance / 2.0),
        ProbeKind::Rademacher => trace,
    };
    Ok(trace.cut_short(interrupted))
}
