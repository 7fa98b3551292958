//! The procedure of gradient noise: norms, the mean gradient, inner products, and how noise and curvature go together.
//! `lowland measure noise` is a call of [`gradient_noise`] and prints what it gives.

use super::relabel::relabelled;
use super::{Bartlett, ExampleTraces, Gram, HessianTraces, MeanGradient, Noise, alignment, deviations};
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    CurvatureError, Drawing, Examples, Gradients, GramPass, Hutchinson, LabelSource, Matrix, ModelOperator, Norms,
    Operator, PlanError, ProductTrace, Scope, Setting, Stage, Stopping, Subject, Watch, hutchinson_by_products, norm,
};
use crate::interrupt;
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};

/// What is asked about gradient noise.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseRequest {
    /// Labels of the gradients.
    pub labels: LabelSource,
    /// Largest number of examples whose covariance eigenvalues are computed.
    pub eigenvalues_up_to: usize,
    /// Probe vectors of the Hessian's trace, where noise and curvature are to be compared.
    pub bartlett: Option<usize>,
    /// Of labels, probes and draws.
    pub seed: u64,
}

impl Default for NoiseRequest {
    fn default() -> Self {
        NoiseRequest { labels: LabelSource::Data, eigenvalues_up_to: 512, bartlett: None, seed: 0 }
    }
}

/// Gradient noise over examples. g_i is the gradient of example i's loss, summed over its masked positions; ḡ their
/// mean; Σ their covariance with n - 1. What an interrupt came before is `None`.
#[derive(Clone, Debug)]
pub struct GradientNoise {
    /// Examples that were to be measured; an interrupt may leave fewer.
    pub examples: usize,
    /// ‖g_i‖² of each example.
    pub squared_norms: Vec<f64>,
    /// ‖ḡ‖² as it is, with the bias Tr Σ / n of a population's.
    pub mean_gradient_squared_norm: Option<f64>,
    /// Its trace and scale, where there are examples enough.
    pub noise: Option<Noise>,
    /// Of Σ, largest first, n - 1 of them.
    pub covariance_eigenvalues: Option<Vec<f64>>,
    /// Where it was asked for.
    pub comparison: Option<Comparison>,
    /// What was measured.
    pub scope: Scope,
    /// Whether an interrupt ended it.
    pub interrupted: bool,
}

/// Three traces over the same examples, all of an example's summed loss, and how Σ and the Hessian lie to each other.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Tr Σ.
    pub trace_covariance: Estimate,
    /// By random signs.
    pub trace_fisher: Estimate,
    /// By probe vectors.
    pub trace_hessian: Estimate,
    /// The quotients of the three.
    pub ratios: Bartlett,
    /// Tr(Σ H) / (‖Σ‖_F ‖H‖_F), 1 where the two are proportional; `None` without the inner products of gradients, NaN
    /// of too few examples for ‖Σ‖_F.
    pub alignment: Option<f64>,
    /// Examples whose (g_i - ḡ)ᵀ H (g_i - ḡ) gave Tr(Σ H).
    pub alignment_examples: usize,
    gradient_equivalents: f64,
}

/// Measures gradient noise over all examples.
///
/// # Errors
/// Fewer than 2 examples, an interrupt before anything was measured, what is not finite, what the adapter says.
pub fn gradient_noise(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    request: &NoiseRequest,
    watch: Watch<'_>,
) -> Result<GradientNoise, CurvatureError> {
    watch(&Stage::Phase("examples"))?;
    let mut sentences = examples.all()?;
    if sentences.len() < 2 {
        return Err(PlanError::OneGradient.into());
    }
    if request.labels == LabelSource::Model {
        watch(&Stage::Phase("labels"))?;
        sentences = relabelled(setting, &sentences, request.seed)?;
    }
    let subject = setting.subject(&sentences)?;
    let n = subject.examples();
    let norms = Norms::measure(&subject, &mut |progress| {
        watch(&Stage::Counted { what: "gradient norms", unit: "example", progress })
    })?;
    let mut cost = norms.gradient_equivalents;
    // Each part is there or was interrupted, and then so is all that follows.
    watch(&Stage::Phase("mean gradient"))?;
    let mean = match norms.interrupted {
        true => None,
        false => unless_interrupted(MeanGradient::measure(&subject, Matrix::Hessian))?,
    };
    if !norms.squared.iter().chain(mean.iter().flat_map(|w| &w.slopes)).all(|x| x.is_finite()) {
        return Err(CurvatureError::NotFinite("a gradient's norm"));
    }
    let noise = mean.as_ref().map(|mean| mean.noise(&norms.squared));
    cost += mean.as_ref().map_or(0.0, |mean| 1.0 + mean.form_cost);
    let wanted = n <= request.eigenvalues_up_to;
    watch(&Stage::Phase("inner products"))?;
    let gram = match wanted && mean.is_some() {
        true => unless_interrupted(setting.subject_in(&sentences, n).and_then(inner_products))?,
        false => None,
    };
    cost += gram.as_ref().map_or(0.0, |(_, cost)| *cost);
    let gram = gram.map(|(gram, _)| gram);
    watch(&Stage::Phase("eigenvalues"))?;
    let covariance_eigenvalues = match gram.clone() {
        Some(gram) => interrupt::or_stop(move || gram.covariance_eigenvalues()).ok(),
        None => None,
    };
    let comparison = match (&mean, &noise, request.bartlett) {
        (Some(mean), Some(noise), Some(samples)) => {
            let known = Known { squared_norms: &norms.squared, mean, gram: gram.as_ref(), noise };
            let what = Hutchinson {
                stop: Stopping::after(samples).not_before(16),
                seed: request.seed,
                block: setting.chunks.probes as usize,
                target: Target::Population,
                ..Hutchinson::default()
            };
            unless_interrupted(compare(&subject, &known, &what, watch))?
        }
        _ => None,
    };
    cost += comparison.as_ref().map_or(0.0, |c| c.gradient_equivalents);
    Ok(GradientNoise {
        examples: n,
        mean_gradient_squared_norm: mean.as_ref().map(|mean| norm(&mean.gradient).powi(2)),
        interrupted: noise.is_none()
            || wanted && covariance_eigenvalues.is_none()
            || request.bartlett.is_some() && comparison.is_none(),
        scope: Scope::of(&subject, Target::Population, cost).of_first(&subject, norms.squared.len()),
        squared_norms: norms.squared,
        noise,
        covariance_eigenvalues,
        comparison,
    })
}

/// g_i·g_j of examples in one batch, and the cost.
fn inner_products(together: Subject) -> Result<(Gram, f64), CurvatureError> {
    let pass = GramPass::new(&together)?;
    Ok((pass.run(&together)?, pass.cost(&together)))
}

/// What is known of the gradients before they are compared with curvature.
struct Known<'a> {
    squared_norms: &'a [f64],
    mean: &'a MeanGradient,
    gram: Option<&'a Gram>,
    noise: &'a Noise,
}

/// Draws of signs an example for Tr F.
const DRAWS: usize = 16;
/// Deviations whose quadratic forms give Tr(Σ H), each over all examples.
const DEVIATIONS: usize = 64;

fn compare(
    subject: &Subject,
    known: &Known<'_>,
    what: &Hutchinson,
    watch: Watch<'_>,
) -> Result<Comparison, CurvatureError> {
    let n = subject.examples();
    let masked = subject.masked();
    let mean = &known.mean.gradient;
    let covariance = deviations(known.squared_norms, &known.mean.slopes, norm(mean).powi(2));
    let mut drawing = Drawing::new(subject, LossDraw::Signs, what.seed, DRAWS)?;
    let drawn = drawing.run(subject, Target::Population, &Stopping::after(n), &mut |progress| {
        watch(&Stage::Counted { what: "fisher", unit: "example", progress })
    })?;
    if drawn.trace.interrupted {
        return Err(CurvatureError::Interrupted);
    }
    let fisher: Vec<f64> = drawing.per_example().iter().map(|(trace, positions)| trace * *positions as f64).collect();
    let operator = ModelOperator::new(subject, Matrix::Hessian);
    let ProductTrace { trace, per_example, .. } = hutchinson_by_products(&operator, &[], what, &mut |progress| {
        watch(&Stage::Counted { what: "hessian", unit: "probe", progress })
    })?;
    if trace.interrupted {
        return Err(CurvatureError::Interrupted);
    }
    let hessian: Vec<f64> = per_example.iter().zip(&masked).map(|(t, m)| t * *m as f64).collect();
    // Of the mean over examples of summed losses: the mean loss per position times the mean number of positions.
    let positions = masked.iter().sum::<usize>() as f64 / n as f64;
    let probes = trace.standard_error_probe / trace.estimate.abs();
    let mut cost = drawn.trace.gradient_equivalents + trace.gradient_equivalents;
    let examples = n.min(DEVIATIONS);
    let forms = deviation_forms(subject, &operator, mean, examples, positions)?;
    cost += operator.form_cost(examples);
    let squared = known.gram.map(|g| g.covariance_squared_norm().1);
    let hessian_square = trace.squared_norm.unwrap_or(f64::NAN) * positions * positions;
    let whole = Estimate::of_mean(&hessian);
    Ok(Comparison {
        trace_covariance: known.noise.trace_covariance,
        trace_fisher: Estimate::of_mean(&fisher),
        trace_hessian: Estimate { standard_error: whole.standard_error.hypot(whole.value * probes), ..whole },
        ratios: Bartlett::of(ExampleTraces {
            covariance: Some(&covariance),
            fisher: &fisher,
            hessian: Some(HessianTraces::Whole(&hessian, probes)),
        }),
        alignment: squared.map(|s| alignment(&forms, s, hessian_square)),
        alignment_examples: examples,
        gradient_equivalents: cost,
    })
}

/// (g_i - ḡ)ᵀ H (g_i - ḡ) of the first few examples. Tr(Σ H) is a sum over n - 1; over them it is scaled to that.
fn deviation_forms(
    subject: &Subject,
    operator: &ModelOperator<'_>,
    mean: &[f32],
    examples: usize,
    positions: f64,
) -> Result<Vec<f64>, CurvatureError> {
    let gradients = Gradients::new(subject)?;
    let mut block = Vec::with_capacity(examples);
    for example in 0..examples {
        let mut own = gradients.of_example(subject, example)?;
        own.iter_mut().zip(mean).for_each(|(g, m)| *g -= m);
        block.push(own);
    }
    let weights = operator.weights();
    let n = subject.examples() as f64;
    let scale = n / (n - 1.0);
    let few = examples as f64;
    let of = |values: &Vec<f64>| {
        let form = positions * values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>();
        form * scale * (few - 1.0) / few
    };
    Ok(operator.quadratic_forms(&block)?.iter().map(of).collect())
}
