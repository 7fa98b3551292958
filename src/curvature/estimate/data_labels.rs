//! Traces of second moments of the gradients for the data's own labels: nothing is drawn, and what scatters are the
//! examples.

use super::{Estimated, Stage, Watch};
use crate::curvature::{
    CurvatureError, CurvatureMatrix, Estimator, Examples, Matrix, MeanGradient, Norms, PlanError, Scope, Setting,
    Subject, Trace, covariance_trace, deviations, dot,
};
use crate::interrupt;
use crate::statistics::{Estimate, Parts, Target, nested};

/// Tr of the mean of g_i g_iᵀ, g_i the gradient of an example's summed loss, or of their covariance.
pub(super) fn estimate(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    matrix: CurvatureMatrix,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    watch(&Stage::Phase("examples"))?;
    let subject = setting.subject(&examples.all()?)?;
    let target = examples.target();
    let norms = Norms::measure(&subject, &mut |progress| {
        watch(&Stage::Counted { what: "gradient norms", unit: "example", progress })
    })?;
    if matrix == CurvatureMatrix::NoiseCovariance {
        // Without the mean gradient there is no trace yet.
        interrupt::check()?;
        return of_deviations(&subject, &norms, target);
    }
    // Fewer than there are after an interrupt.
    let n = norms.squared.len();
    let single: Vec<Vec<f64>> = norms.squared.iter().map(|x| vec![*x]).collect();
    let parts = nested(&vec![1.0; n], &single, target);
    let trace = by_examples(parts.value, parts.standard_error, target, norms.squared.clone());
    let tensors = subject.encoder().parameters.iter().zip(&norms.per_parameter).enumerate();
    let per_tensor = tensors
        .filter(|(i, _)| subject.vectors().contains(*i))
        .map(|(_, (p, values))| (p.name.clone(), known(values.iter().sum::<f64>() / n as f64, n)))
        .collect();
    let scope = Scope::of(&subject, target, norms.gradient_equivalents).of_sums(true).of_first(&subject, n);
    Ok(found(trace.cut_short(norms.interrupted), per_tensor, scope))
}

/// Tr of the covariance, from ‖g_i‖² and ⟨g_i, ḡ⟩; the error is the jackknife's.
fn of_deviations(subject: &Subject, norms: &Norms, target: Target) -> Result<Estimated, CurvatureError> {
    let n = subject.examples();
    if n < 2 {
        return Err(PlanError::OneDeviation.into());
    }
    let mean = MeanGradient::measure(subject, Matrix::Ggn)?;
    let square = dot(&mean.gradient, &mean.gradient);
    let error = mean.noise(&norms.squared).trace_covariance.standard_error;
    let value = covariance_trace(&norms.squared, square);
    // Their mean is the trace.
    let trace = by_examples(value, error, target, deviations(&norms.squared, &mean.slopes, square));
    let own =
        |name: &str| subject.encoder().parameters.iter().position(|p| p.name == name).expect("one of the model's");
    let per_tensor = subject
        .vectors()
        .parts(subject.encoder())
        .map(|(name, range)| {
            let part = &mean.gradient[range];
            let square = dot(part, part);
            (name.to_string(), known(covariance_trace(&norms.per_parameter[own(name)], square), n))
        })
        .collect();
    let scope = Scope::of(subject, target, norms.gradient_equivalents + 1.0 + mean.form_cost).of_sums(true);
    Ok(found(trace, per_tensor, scope))
}

/// A trace whose only error is that of the choice of examples.
fn by_examples(value: f64, error: f64, target: Target, values: Vec<f64>) -> Trace {
    let data = if target == Target::Population { error } else { 0.0 };
    let parts = Parts { value, standard_error: data, standard_error_probe: 0.0, standard_error_data: data };
    Trace::of(Estimator::DataLabels, parts, target, values)
}

fn known(value: f64, samples: usize) -> Estimate {
    Estimate { value, standard_error: f64::NAN, samples }
}

fn found(trace: Trace, per_tensor: Vec<(String, Estimate)>, scope: Scope) -> Estimated {
    Estimated { trace, per_tensor: Some(per_tensor), draws: None, probe: None, frame: None, parts: None, scope }
}
