//! The rise of the loss under noise on the weights, E L(θ + σ S ε) - L(θ) with ε standard normal and S = diag(s).
//!
//! A draw is a pair ±ε, of which odd orders in σ cancel: ½ (L(θ + σ S ε) + L(θ - σ S ε)) - L(θ) = ½ σ² εᵀ S H S ε + the
//! fourth order. The same draws serve every σ, and the same examples all losses, so that what is left of their scatter
//! is that of differences. Draws cross examples ([`Crossed`]).

use super::{MovedLosses, NoiseScale};
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    CurvatureError, Hutchinson, Matrix, ModelOperator, Observe, ProbeKind, Progress, Refusal, ScaledOperator, Stopping,
    Subject, Trace, hutchinson, probe,
};
use crate::statistics::{Crossed, Estimate, Target};

/// What to measure.
#[derive(Clone, Debug)]
pub struct PerturbationOptions {
    /// Sizes of the noise, in multiples of the scale.
    pub sigmas: Vec<f64>,
    /// Scale of each parameter's noise.
    pub scale: NoiseScale,
    /// Pairs ±ε.
    pub draws: usize,
    /// Of the pairs, and of the trace's probes, which are others.
    pub seed: u64,
    /// Probes of the trace beside the curve; with 0 there is none.
    pub probes: usize,
    /// Probes at once.
    pub block: usize,
    /// Whether the examples are all there is, or a sample.
    pub target: Target,
}

/// The noise curve of a model over examples.
#[derive(Clone, Debug)]
pub struct Perturbation {
    /// The rise at each σ, in nats.
    pub rise: Vec<Estimate>,
    /// 2 rise / σ² at the least σ: of σ → 0 it is the trace of S H S.
    pub limit: Estimate,
    /// Tr S H S by quadratic forms of random signs; `None` after an interrupt, or where it was not asked for.
    pub trace: Option<Trace>,
    /// Pairs ±ε that were measured.
    pub draws: usize,
    /// Whether an interrupt ended it.
    pub interrupted: bool,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
}

/// Of a forward pass, in gradients.
const FORWARD: f64 = 1.0 / 3.0;

/// So that the trace's probes are none of the curve's.
const OTHER: u64 = 0x5EED_0F5E_EDF0_0D5E;

impl Perturbation {
    /// Measures the curve, then the trace.
    ///
    /// # Errors
    /// No σ, or one that is not above 0; no draws; an interrupt before there was a draw; a loss that is not finite;
    /// what the adapter says.
    pub fn measure(
        subject: &Subject,
        what: &PerturbationOptions,
        observe: Observe<'_>,
    ) -> Result<Perturbation, CurvatureError> {
        let moved = MovedLosses::new(subject)?;
        let scales = what.scale.of(subject, moved.weights());
        let mut losses = |v: &[f32], factor: f64| moved.at(v, factor);
        let mut curve = noise_curve(&mut losses, &scales, subject.weights(), what, observe)?;
        if curve.interrupted || what.probes == 0 {
            return Ok(curve);
        }
        let operator = ModelOperator::new(subject, Matrix::Hessian);
        let scaled = ScaledOperator::new(&operator, &scales)?;
        let probing = Hutchinson {
            kind: ProbeKind::Rademacher,
            seed: what.seed ^ OTHER,
            stop: Stopping::after(what.probes),
            block: what.block,
            target: what.target,
        };
        curve.trace = unless_interrupted(hutchinson(&scaled, &probing, observe))?;
        curve.interrupted = curve.trace.as_ref().is_none_or(|trace| trace.interrupted);
        curve.gradient_equivalents += curve.trace.as_ref().map_or(0.0, |trace| trace.gradient_equivalents);
        Ok(curve)
    }
}

/// The losses of each example at θ + factor v, of (v, factor).
pub type LossesAt<'a> = dyn FnMut(&[f32], f64) -> Result<Vec<f64>, CurvatureError> + 'a;

/// The curve of any loss: `losses(v, factor)` are those of each example at θ + factor v, `weights` their shares of the
/// mean. There is no trace beside it.
///
/// # Errors
/// As of [`Perturbation::measure`].
pub fn noise_curve(
    losses: &mut LossesAt<'_>,
    scales: &[f32],
    weights: &[f64],
    what: &PerturbationOptions,
    observe: Observe<'_>,
) -> Result<Perturbation, CurvatureError> {
    let sigmas = &what.sigmas;
    if sigmas.is_empty() || sigmas.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
        return Err(Refusal::NoiseSizes.into());
    }
    if what.draws == 0 {
        return Err(Refusal::NoDraws.into());
    }
    if what.target == Target::Population && weights.len() < 2 {
        return Err(Refusal::OneExample.into());
    }
    let least = (0..sigmas.len()).min_by(|a, b| sigmas[*a].total_cmp(&sigmas[*b])).expect("one at least");
    let mut rises = vec![Crossed::new(weights); sigmas.len()];
    let still = losses(&vec![0.0; scales.len()], 0.0)?;
    let estimate = |rise: &Crossed, factor: f64| {
        let parts = rise.parts(what.target);
        let samples = rise.rows().len();
        Estimate { value: factor * parts.value, standard_error: factor * parts.standard_error, samples }
    };
    let mut interrupted = false;
    while rises[0].rows().len() < what.draws && !interrupted {
        let draw = rises[0].rows().len();
        let mut noise = probe(ProbeKind::Gaussian, what.seed, draw as u64, scales.len());
        noise.iter_mut().zip(scales).for_each(|(x, s)| *x *= s);
        // A draw is of all sizes or of none.
        let mut pairs = Vec::with_capacity(sigmas.len());
        let mut all = || {
            for sigma in sigmas {
                let [up, down] = [losses(&noise, *sigma)?, losses(&noise, -sigma)?];
                let of = |i: usize| 0.5 * (up[i] + down[i]) - still[i];
                pairs.push((0..still.len()).map(of).collect::<Vec<f64>>());
            }
            Ok::<_, CurvatureError>(())
        };
        if unless_interrupted(all())?.is_none() {
            interrupted = true;
            break;
        }
        rises.iter_mut().zip(&pairs).for_each(|(rise, values)| rise.push(values));
        let so_far = estimate(&rises[least], 1.0);
        let value = (draw > 0).then_some((so_far.value, so_far.standard_error));
        let progress = Progress { done: draw + 1, of: what.draws, value };
        interrupted = unless_interrupted(observe(&progress))?.is_none() && draw + 1 < what.draws;
    }
    let draws = rises[0].rows().len();
    if draws == 0 {
        return Err(CurvatureError::Interrupted);
    }
    Ok(Perturbation {
        rise: rises.iter().map(|rise| estimate(rise, 1.0)).collect(),
        limit: estimate(&rises[least], 2.0 / sigmas[least].powi(2)),
        trace: None,
        draws,
        interrupted,
        gradient_equivalents: FORWARD * (1 + 2 * draws * sigmas.len()) as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [[f64; 3]; 3] = [[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 4.0]];

    fn options(sigmas: &[f64], draws: usize, target: Target) -> PerturbationOptions {
        let (scale, seed) = (NoiseScale::Plain, 3);
        PerturbationOptions { sigmas: sigmas.to_vec(), scale, draws, seed, probes: 2, block: 1, target }
    }

    fn form(x: &[f64]) -> f64 {
        (0..3).map(|i| (0..3).map(|j| x[i] * A[i][j] * x[j]).sum::<f64>()).sum()
    }

    /// A polynomial at v: example i has the slope i, (1 + i) of the form and a cubic term.
    fn polynomial(v: &[f32], factor: f64) -> Result<Vec<f64>, CurvatureError> {
        let x: Vec<f64> = v.iter().map(|v| factor * f64::from(*v)).collect();
        let one = |i: f64| 7.0 + i * x.iter().sum::<f64>() + 0.5 * (1.0 + i) * form(&x) + i * x[0].powi(3);
        Ok((0..4).map(|i| one(f64::from(i))).collect())
    }

    #[test]
    fn a_pair_leaves_the_quadratic_form_alone() {
        let what = options(&[0.5, 0.001, 2.0], 5, Target::TheseExamples);
        let scales = [1.0, 2.0, 0.5];
        let found = noise_curve(&mut polynomial, &scales, &[0.25; 4], &what, &mut |_| Ok(())).unwrap();
        let of = |k: u64| {
            let noise = probe(ProbeKind::Gaussian, what.seed, k, 3);
            form(&noise.iter().zip(scales).map(|(x, s)| f64::from(x * s)).collect::<Vec<f64>>())
        };
        // 1 + i is 2.5 in the mean.
        let forms: Vec<f64> = (0..5).map(|k| 2.5 * of(k)).collect();
        let want = Estimate::of_mean(&forms);
        for (rise, sigma) in found.rise.iter().zip(&what.sigmas) {
            let half = sigma * sigma / 2.0;
            assert!((rise.value - half * want.value).abs() < 1e-9 * (1.0 + half), "{sigma}: {rise}");
            assert!((rise.standard_error - half * want.standard_error).abs() < 1e-9 * (1.0 + half), "{sigma}: {rise}");
        }
        // Of a quadratic the limit is that of any size.
        assert!((found.limit.value - want.value).abs() < 1e-6 && found.draws == 5 && found.trace.is_none());
    }

    #[test]
    fn the_limit_is_the_trace_within_its_error() {
        let what = options(&[0.1], 4000, Target::TheseExamples);
        let found = noise_curve(&mut polynomial, &[1.0, 2.0, 0.5], &[0.25; 4], &what, &mut |_| Ok(())).unwrap();
        let trace = 2.5 * (2.0 + 4.0 + 0.25 * 4.0);
        assert!((found.limit.value - trace).abs() < 3.5 * found.limit.standard_error, "{}", found.limit);
        assert!(found.limit.standard_error < 0.03 * trace);
    }

    #[test]
    fn an_interrupt_leaves_whole_draws() {
        let what = options(&[0.1, 0.2], 9, Target::Population);
        let mut look = |p: &Progress| if p.done < 3 { Ok(()) } else { Err(CurvatureError::Interrupted) };
        let found = noise_curve(&mut polynomial, &[1.0; 3], &[0.25; 4], &what, &mut look).unwrap();
        assert!(found.interrupted && found.draws == 3 && found.rise[0].standard_error.is_finite());
        let refused = |what| noise_curve(&mut polynomial, &[1.0; 3], &[0.25; 4], &what, &mut |_| Ok(())).is_err();
        assert!(refused(options(&[], 1, Target::Population)) && refused(options(&[-1.0], 1, Target::Population)));
        assert!(refused(options(&[0.1], 0, Target::Population)));
    }
}
