//! XTrace to a relative error: independent runs of it, whose scatter is an honest standard error.

use super::Stopping;
use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::Observe;
use crate::curvature::{CurvatureError, Estimator, Operator, Progress, Refusal, Trace, XTrace, xtrace};
use crate::statistics::{Estimate, Parts, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct XTraceReplicates {
    /// Of the probes.
    pub seed: u64,
    /// In products of all runs; `minimum` are those of the smallest run. Without a relative error all are spent.
    pub stop: Stopping,
    /// Vectors at once. Any number gives the same answer.
    pub block: usize,
}

/// Runs before their scatter is trusted: a standard error from so few has itself an error of about a quarter.
const FEWEST: usize = 8;

/// Tr A of the operator as it is, as the mean of runs of [`xtrace`] with probes of their own.
///
/// Trial runs of doubling size choose the size at which variance times cost is least, by XTrace's own errors, which
/// tend to be too small; they are used for nothing else. The standard error is that of the mean of the runs that
/// follow.
///
/// Interrupted, it is of the runs that were whole; before there are two of them, the last trial with its own error.
pub fn xtrace_replicates(
    operator: &dyn Operator,
    what: &XTraceReplicates,
    observe: Observe<'_>,
) -> Result<Trace, CurvatureError> {
    let stop = what.stop;
    if !stop.is_sensible() {
        return Err(Refusal::RelativeError.into());
    }
    let largest = 2 * operator.size();
    let mut size = stop.minimum.min(largest);
    if size < 4 || stop.most < size * (FEWEST + 1) {
        return Err(Refusal::FewRuns { runs: FEWEST, needed: size.max(4) * (FEWEST + 1), given: stop.most }.into());
    }
    let (mut next, mut samples, mut cost) = (0, 0, 0.0);
    let mut one = |size: usize, values: &[f64], samples: &mut usize| {
        let before = *samples;
        let run = XTrace { seed: what.seed, first: next, samples: size, block: what.block };
        next += size / 2;
        let value = (values.len() > 1).then(|| {
            let mean = Estimate::of_mean(values);
            (mean.value, mean.standard_error)
        });
        let trace =
            xtrace(operator, &run, &mut |p| observe(&Progress { done: before + p.done, of: stop.most, value }))?;
        *samples += trace.samples;
        cost += trace.gradient_equivalents;
        Ok::<_, CurvatureError>(trace)
    };
    let mut trial = one(size, &[], &mut samples)?;
    let mut interrupted = trial.interrupted;
    while !interrupted {
        // A run that would reach the goal by itself need not be larger, nor one that leaves too few of its size.
        let double = (2 * size).min(largest);
        let room = stop.most - samples >= double * (FEWEST + 1);
        if double == size || !room || stop.reached(trial.estimate, trial.standard_error) {
            break;
        }
        let Some(larger) = unless_interrupted(one(double, &[], &mut samples))?.filter(|t| !t.interrupted) else {
            interrupted = true;
            break;
        };
        let worth = |t: &Trace, size: usize| t.standard_error.powi(2) * size as f64;
        if worth(&larger, double) >= worth(&trial, size) {
            break;
        }
        (size, trial) = (double, larger);
    }
    let mut values = Vec::new();
    let (mut squares, mut reached) = (0.0, false);
    while samples + size <= stop.most && !reached && !interrupted {
        let Some(trace) = unless_interrupted(one(size, &values, &mut samples))?.filter(|t| !t.interrupted) else {
            interrupted = true;
            break;
        };
        values.push(trace.estimate);
        squares += trace.squared_norm.unwrap_or(f64::NAN);
        let mean = Estimate::of_mean(&values);
        reached = values.len() >= FEWEST && stop.reached(mean.value, mean.standard_error);
    }
    if values.len() < 2 {
        return Ok(Trace { samples, gradient_equivalents: cost, ..trial }.cut_short(true));
    }
    let Estimate { value, standard_error, .. } = Estimate::of_mean(&values);
    let parts = Parts { value, standard_error, standard_error_probe: standard_error, standard_error_data: 0.0 };
    let squared_norm = squares / values.len() as f64;
    let trace = Trace::of(Estimator::Xtrace, parts, Target::TheseExamples, values);
    let trace = Trace { samples, reached: reached || stop.rel_error.is_none(), gradient_equivalents: cost, ..trace };
    Ok(trace.with_squared_norm(squared_norm).cut_short(interrupted))
}
