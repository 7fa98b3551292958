//! Hutch++: the trace on a sketched range exactly, on the rest by probes. Meyer, Musco, Musco, Woodruff 2021,
//! arXiv 2010.09649.

use super::Stopping;
use super::hutchinson::ends;
use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::vector::{add_combination, dots, orthogonalise, scale};
use crate::curvature::operator::{Observe, apply, forms};
use crate::curvature::{CurvatureError, Estimator, Operator, ProbeKind, Progress, Refusal, Trace, dot, norm, probes};
use crate::statistics::{Crossed, Estimate, Parts, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct HutchPlusPlus {
    /// Distribution of the probes.
    pub kind: ProbeKind,
    /// Of the probes.
    pub seed: u64,
    /// In products and quadratic forms: a third to find the range, a third on it, a third on the rest. With a relative
    /// error the range is that of `minimum` samples, and what it leaves gets probes until then. The range stays, so
    /// that the scatter of these probes is the whole probe part.
    pub stop: Stopping,
    /// Vectors at once. Any number gives the same answer.
    pub block: usize,
    /// Whether the examples are all there is, or a sample.
    pub target: Target,
}

impl Default for HutchPlusPlus {
    fn default() -> Self {
        HutchPlusPlus {
            kind: ProbeKind::Rademacher,
            seed: 0,
            stop: Stopping::after(96).not_before(96),
            block: 8,
            target: Target::TheseExamples,
        }
    }
}

/// An orthonormal basis of the span of vectors; those that lie in the span of the ones before are left out.
pub(super) fn orthonormal(vectors: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let mut basis: Vec<Vec<f32>> = vec![];
    let largest = vectors.iter().map(|v| norm(v)).fold(0.0, f64::max);
    for mut v in vectors {
        // Scaled before and after, so that the rounding of f32 is relative to what is left.
        let before = norm(&v);
        if before <= 1e-12 * largest || before == 0.0 {
            continue;
        }
        scale(&mut v, 1.0 / before);
        orthogonalise(&mut v, &basis);
        let left = norm(&v);
        // Below this only rounding is left: an arbitrary direction, which the sketch does not need.
        if left > 1e-6 {
            scale(&mut v, 1.0 / left);
            orthogonalise(&mut v, &basis);
            let left = norm(&v);
            scale(&mut v, 1.0 / left);
            basis.push(v);
        }
    }
    basis
}

/// Tr A = Tr Qᵀ A Q + E gᵀ (I - Q Qᵀ) A (I - Q Qᵀ) g. Only the range needs products; both traces are quadratic forms,
/// with values an example, so that the data part is known too. The probe part is the scatter of the second term and is
/// valid whatever Q is; ‖A‖_F² is the mean of ‖A v‖² over the sketch. Interrupted, it is of the probes until then.
pub fn hutch_plus_plus(
    operator: &dyn Operator,
    what: &HutchPlusPlus,
    observe: Observe<'_>,
) -> Result<Trace, CurvatureError> {
    let size = operator.size();
    let stop = what.stop;
    let first = if stop.rel_error.is_some() { stop.minimum.min(stop.most) } else { stop.most };
    let third = first / 3;
    if third < 2 || what.block == 0 {
        return Err(Refusal::FewForHutchPlusPlus.into());
    }
    if !stop.is_sensible() {
        return Err(Refusal::RelativeError.into());
    }
    if what.target == Target::Population && operator.weights().len() < 2 {
        return Err(Refusal::OneExample.into());
    }
    let (mut cost, mut done) = (0.0, 0);
    let mut sketch = vec![];
    // vᵀ A v of the sketch's probes: what there is to give before anything is known of the rest.
    let mut plain = vec![];
    while sketch.len() < third {
        let block = probes(what.kind, what.seed, sketch.len()..(sketch.len() + what.block).min(third), size);
        let Some(images) = unless_interrupted(apply(operator, &block))? else { return sketched(&plain, what, cost) };
        cost += operator.product_cost(block.len());
        done += block.len();
        plain.extend(block.iter().zip(&images).map(|(v, image)| dot(v, image)));
        sketch.extend(images);
        if unless_interrupted(observe(&Progress { done, of: stop.most, value: None }))?.is_none() {
            return sketched(&plain, what, cost);
        }
    }
    let squared_norm = sketch.iter().map(|y| dot(y, y)).sum::<f64>() / third as f64;
    let basis = orthonormal(sketch);
    let mut known = vec![0.0; operator.weights().len()];
    for block in basis.chunks(what.block) {
        let Some(all) = unless_interrupted(forms(operator, block))? else { return sketched(&plain, what, cost) };
        cost += operator.form_cost(block.len());
        done += block.len();
        for values in all {
            known.iter_mut().zip(&values).for_each(|(k, x)| *k += x);
        }
        if unless_interrupted(observe(&Progress { done, of: stop.most, value: None }))?.is_none() {
            return sketched(&plain, what, cost);
        }
    }
    let most = if stop.rel_error.is_some() { stop.most.saturating_sub(done).max(third) } else { third };
    let of_rest = stop.not_before(third);
    let (mut reached, mut interrupted) = (false, false);
    let mut crossed = Crossed::new(operator.weights());
    while crossed.rows().len() < most && !reached && !interrupted {
        let first = third + crossed.rows().len();
        let mut block = probes(what.kind, what.seed, first..(first + what.block).min(third + most), size);
        for g in &mut block {
            let minus: Vec<f64> = dots(&basis, g).iter().map(|c| -c).collect();
            add_combination(g, &basis, &minus);
        }
        let Some(all) = unless_interrupted(forms(operator, &block))? else {
            interrupted = true;
            break;
        };
        cost += operator.form_cost(block.len());
        for values in all {
            crossed.push(&values.iter().zip(&known).map(|(x, k)| x + k).collect::<Vec<_>>());
            // After every probe, so that blocks change no number.
            reached = ends(&crossed, &of_rest, what.target);
            if reached {
                break;
            }
        }
        let parts = crossed.parts(what.target);
        let value = (crossed.rows().len() > 1).then_some((parts.value, parts.standard_error));
        let progress = Progress { done: done + crossed.rows().len(), of: stop.most, value };
        interrupted = unless_interrupted(observe(&progress))?.is_none();
    }
    interrupted &= !reached && crossed.rows().len() < most;
    if crossed.rows().len() < 2 {
        return sketched(&plain, what, cost);
    }
    let trace = Trace::of(Estimator::HutchPlusPlus, crossed.parts(what.target), what.target, crossed.rows().to_vec());
    let samples = third + basis.len() + crossed.rows().len();
    let reached = reached || stop.rel_error.is_none();
    let trace = Trace { samples, reached, gradient_equivalents: cost, ..trace }.with_squared_norm(squared_norm);
    Ok(trace.cut_short(interrupted))
}

/// What an interrupt leaves before there are two probes of the rest: the plain mean over the sketch's probes. Its
/// values are means over the examples, so that of a population only the probe part of the error is known.
fn sketched(plain: &[f64], what: &HutchPlusPlus, cost: f64) -> Result<Trace, CurvatureError> {
    if plain.is_empty() {
        return Err(CurvatureError::Interrupted);
    }
    let probe = Estimate::of_mean(plain);
    let data = if what.target == Target::Population { f64::NAN } else { 0.0 };
    let parts = Parts {
        value: probe.value,
        standard_error: probe.standard_error.hypot(data),
        standard_error_probe: probe.standard_error,
        standard_error_data: data,
    };
    let trace = Trace::of(Estimator::HutchPlusPlus, parts, what.target, plain.to_vec());
    Ok(Trace { gradient_equivalents: cost, ..trace }.cut_short(true))
}
