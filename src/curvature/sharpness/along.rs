//! Sharpness along a direction that is given: the curvature there, and the step at which the loss is back where it was.
//!
//! Along θ - η u the loss is L - η gᵀu + ½ η² uᵀHu + .. . *Directional sharpness* is uᵀHu / |u|². The *critical rate*
//! η_c is the step at which the loss rises above its value, and *critical sharpness* 2 / η_c (Kalra et al. 2026, arXiv
//! 2601.16979): of a quadratic uᵀHu / gᵀu, which is given beside it. It takes forward passes alone: doubling or halving
//! until η_c is enclosed, then bisection. A loss with several crossings may have a smaller one than the power of two
//! that encloses this.

use super::MovedLosses;
use crate::curvature::{CurvatureError, Matrix, ModelOperator, Refusal, Subject, norm};
use crate::statistics::{Estimate, Target};

/// Sharpness along a direction. Errors are of the choice of examples with the direction held fixed; of given examples
/// they are 0.
#[derive(Clone, Debug)]
pub struct SharpnessAlong {
    /// uᵀHu / |u|².
    pub directional: Estimate,
    /// uᵀHu / gᵀu, what `critical` is of a quadratic; or why there is none.
    pub quadratic_critical: Result<Estimate, NoCritical>,
    /// 2 / η_c, or why there is none.
    pub critical: Result<Estimate, NoCritical>,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
}

/// Why a direction has no critical step.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NoCritical {
    /// gᵀu is not above 0.
    #[error("the loss does not fall along the update (its slope there is {0:.3e})")]
    Uphill(f64),
    /// No step was found at which the loss rises.
    #[error("the loss is not above its value at any step up to {0:.1e}")]
    NeverRises(f64),
    /// Steps so small that rounding hides the fall.
    #[error("the fall of the loss along the update is lost in rounding (down to a step of {0:.1e})")]
    Rounding(f64),
}

/// Bisection ends when the bracket is this share of the step.
pub const CRITICAL_TOLERANCE: f64 = 1e-3;

/// Of a forward pass, in gradients.
const FORWARD: f64 = 1.0 / 3.0;

/// Doublings or halvings at most.
const MOST: i32 = 48;

impl SharpnessAlong {
    /// Measures along u.
    ///
    /// # Errors
    /// A direction of length 0; what is not finite; an interrupt; what the adapter says.
    pub fn measure(subject: &Subject, u: &[f32], target: Target) -> Result<SharpnessAlong, CurvatureError> {
        let length = norm(u);
        if !(length > 0.0 && length.is_finite()) {
            return Err(Refusal::NoDirection.into());
        }
        let unit: Vec<f32> = u.iter().map(|x| (f64::from(*x) / length) as f32).collect();
        let operator = ModelOperator::new(subject, Matrix::Hessian);
        let forms = operator.forms(std::slice::from_ref(&unit))?.swap_remove(0);
        let positions: Vec<f64> = subject.masked().iter().map(|m| *m as f64).collect();
        if !forms.hessian.iter().chain(&forms.slope).all(|x| x.is_finite()) {
            return Err(CurvatureError::NotFinite("a quadratic form"));
        }
        let directional = given(Estimate::of_ratio(&forms.hessian, &positions), target);
        let slope = Estimate::of_ratio(&forms.slope, &positions).value;
        let downhill = if slope > 0.0 { Ok(()) } else { Err(NoCritical::Uphill(slope * length)) };
        let quadratic = Estimate::of_ratio(&forms.hessian, &forms.slope);
        let quadratic = Estimate {
            value: length * quadratic.value,
            standard_error: length * quadratic.standard_error,
            ..quadratic
        };
        let mut passes = 0;
        let critical = match downhill {
            Err(why) => Err(why),
            Ok(()) => {
                let moved = MovedLosses::new(subject)?;
                let weights = subject.weights();
                let still = moved.at(u, 0.0)?;
                let mut rises = |step: f64| {
                    passes += 1;
                    let there = moved.at(u, -step)?;
                    Ok::<Vec<f64>, CurvatureError>(there.iter().zip(&still).map(|(a, b)| a - b).collect())
                };
                let guess = 2.0 / quadratic.value;
                let guess = if guess > 0.0 && guess.is_finite() { guess } else { 1.0 / length };
                critical_step(&mut rises, weights, guess)?.map(|step| {
                    let error = step.standard_error * 2.0 / step.value.powi(2);
                    given(Estimate { value: 2.0 / step.value, standard_error: error, samples: step.samples }, target)
                })
            }
        };
        let quadratic_critical = downhill.map(|()| given(quadratic, target));
        let gradient_equivalents =
            crate::curvature::Operator::form_cost(&operator, 1) + FORWARD * f64::from(passes + 1);
        Ok(SharpnessAlong { directional, quadratic_critical, critical, gradient_equivalents })
    }
}

fn given(estimate: Estimate, target: Target) -> Estimate {
    let known = target == Target::TheseExamples;
    Estimate { standard_error: if known { 0.0 } else { estimate.standard_error }, ..estimate }
}

/// The step at which the mean of `rises(step)`, each example's loss there less its loss at 0, goes through 0 from
/// below;
/// `weights` are the examples' shares of the mean. The error is the delta method's, by the slope between 0.9 and 1.1 of
/// the step.
///
/// # Errors
/// Those of `rises`.
pub fn critical_step(
    rises: &mut dyn FnMut(f64) -> Result<Vec<f64>, CurvatureError>,
    weights: &[f64],
    guess: f64,
) -> Result<Result<Estimate, NoCritical>, CurvatureError> {
    let total: f64 = weights.iter().sum();
    let mean = |values: &[f64]| values.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() / total;
    // A loss that is not finite any more has risen.
    let mut at = |step: f64| match rises(step) {
        Ok(values) => Ok(Some(values)),
        Err(CurvatureError::NotFinite(_)) => Ok(None),
        Err(error) => Err(error),
    };
    let risen = |values: &Option<Vec<f64>>| values.as_ref().is_none_or(|v| mean(v) > 0.0);
    let mut step = guess;
    let up = !risen(&at(step)?);
    let mut found = false;
    for _ in 0..MOST {
        step *= if up { 2.0 } else { 0.5 };
        if risen(&at(step)?) == up {
            found = true;
            break;
        }
    }
    if !found {
        return Ok(Err(if up { NoCritical::NeverRises(step) } else { NoCritical::Rounding(step) }));
    }
    let [mut low, mut high] = if up { [step / 2.0, step] } else { [step, 2.0 * step] };
    while high - low > CRITICAL_TOLERANCE * high {
        let middle = 0.5 * (low + high);
        if risen(&at(middle)?) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let step = 0.5 * (low + high);
    let samples = weights.len();
    let ends = [at(0.9 * step)?, at(1.1 * step)?, at(step)?];
    let [Some(before), Some(behind), Some(here)] = ends else {
        return Ok(Ok(Estimate { value: step, standard_error: f64::NAN, samples }));
    };
    let slope = (mean(&behind) - mean(&before)) / (0.2 * step);
    let here: Vec<f64> = here.iter().zip(weights).map(|(x, w)| x * w).collect();
    let scatter = Estimate::of_ratio(&here, weights).standard_error;
    Ok(Ok(Estimate { value: step, standard_error: scatter / slope.abs(), samples }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_of_a_parabola_is_found_from_any_guess() {
        // Example i: -a η + ½ b η²; the means are 3 and 0.5, so that η_c = 12.
        let mut rises = |s: f64| Ok(vec![-2.0 * s + 0.5 * 0.25 * s * s, -4.0 * s + 0.5 * 0.75 * s * s]);
        for guess in [1e-3, 1.0, 11.9, 12.1, 5e4] {
            let found = critical_step(&mut rises, &[0.5, 0.5], guess).unwrap().unwrap();
            assert!((found.value / 12.0 - 1.0).abs() < CRITICAL_TOLERANCE, "{guess}: {found}");
            // The examples are -24 + 18 and -48 + 54 there, the slope is -3 + 6.
            assert!((found.standard_error - 6.0 / 3.0).abs() < 0.05, "{guess}: {found}");
        }
        let mut falls = |s: f64| Ok(vec![-s]);
        assert!(matches!(critical_step(&mut falls, &[1.0], 1.0).unwrap(), Err(NoCritical::NeverRises(_))));
        let mut climbs = |s: f64| Ok(vec![s]);
        assert!(matches!(critical_step(&mut climbs, &[1.0], 1.0).unwrap(), Err(NoCritical::Rounding(_))));
    }

    #[test]
    fn a_loss_that_overflows_has_risen() {
        let mut wall = |s: f64| if s > 5.0 { Err(CurvatureError::NotFinite("it")) } else { Ok(vec![-s]) };
        let found = critical_step(&mut wall, &[1.0], 0.1).unwrap().unwrap();
        assert!((found.value - 5.0).abs() < 0.01 && found.standard_error.is_nan());
    }
}
