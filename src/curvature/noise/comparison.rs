//! Gradient noise beside curvature over the same examples.

use super::{Bartlett, Cluster, ExampleTraces, Gram, HessianTraces, Noise, alignment, cluster_deviations};
use crate::curvature::{
    CurvatureError, Drawing, Gradients, Hutchinson, Matrix, ModelOperator, Operator, ProductTrace, Stage, Stopping,
    Subject, Watch, hutchinson_by_products, norm,
};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};

/// Three traces over the same examples, all of the loss that the gradients are of (an example's summed loss, or a
/// predicted token's), and how Σ and the Hessian lie to each other.
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
    /// Gradients whose (g_i - ḡ)ᵀ H (g_i - ḡ) gave Tr(Σ H).
    pub alignment_gradients: usize,
    pub(super) gradient_equivalents: f64,
}

/// What is known of the gradients before they are compared with curvature.
pub(super) struct Known<'a> {
    /// Of each example.
    pub clusters: &'a [Cluster],
    /// ḡ.
    pub mean: &'a [f32],
    pub gram: Option<&'a Gram>,
    pub noise: &'a Noise,
    /// Its examples have one of the gradients each.
    pub single: &'a Subject,
}

/// Draws of signs an example for Tr F.
const DRAWS: usize = 16;
/// Deviations whose quadratic forms give Tr(Σ H), each over all examples.
const DEVIATIONS: usize = 64;

/// Tr F and Tr H over the examples of `subject`, and Tr(Σ H) over some of the gradients.
///
/// # Errors
/// An interrupt; what the adapter says.
pub(super) fn compare(
    subject: &Subject,
    known: &Known<'_>,
    what: &Hutchinson,
    watch: Watch<'_>,
) -> Result<Comparison, CurvatureError> {
    let n = subject.examples();
    let masked = subject.masked();
    let mean = known.mean;
    let gradients: Vec<f64> = known.clusters.iter().map(|c| c.gradients as f64).collect();
    let covariance = cluster_deviations(known.clusters, norm(mean).powi(2));
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
    // The matrices are of the mean loss per position: times the mean number of positions that a gradient is of.
    let positions = masked.iter().sum::<usize>() as f64 / known.single.examples() as f64;
    let probes = trace.standard_error_probe / trace.estimate.abs();
    let mut cost = drawn.trace.gradient_equivalents + trace.gradient_equivalents;
    let some = known.single.examples().min(DEVIATIONS);
    let forms = deviation_forms(known.single, &operator, mean, some, positions)?;
    cost += operator.form_cost(some);
    let squared = known.gram.map(|g| g.covariance_squared_norm().1);
    let hessian_square = trace.squared_norm.unwrap_or(f64::NAN) * positions * positions;
    let whole = Estimate::of_ratio(&hessian, &gradients);
    Ok(Comparison {
        trace_covariance: known.noise.trace_covariance,
        trace_fisher: Estimate::of_ratio(&fisher, &gradients),
        trace_hessian: Estimate { standard_error: whole.standard_error.hypot(whole.value * probes), ..whole },
        ratios: Bartlett::of(ExampleTraces {
            covariance: Some(&covariance),
            fisher: &fisher,
            hessian: Some(HessianTraces::Whole(&hessian, probes)),
        }),
        alignment: squared.map(|s| alignment(&forms, s, hessian_square)),
        alignment_gradients: some,
        gradient_equivalents: cost,
    })
}

/// (g_i - ḡ)ᵀ H (g_i - ḡ) of a few gradients, spread evenly over all. Tr(Σ H) is a sum over n - 1; over them it is
/// scaled to that.
fn deviation_forms(
    single: &Subject,
    operator: &ModelOperator<'_>,
    mean: &[f32],
    some: usize,
    positions: f64,
) -> Result<Vec<f64>, CurvatureError> {
    let gradients = Gradients::new(single)?;
    let mut block = Vec::with_capacity(some);
    for number in 0..some {
        let mut own = gradients.of_example(single, number * single.examples() / some)?;
        own.iter_mut().zip(mean).for_each(|(g, m)| *g -= m);
        block.push(own);
    }
    let weights = operator.weights();
    let n = single.examples() as f64;
    let scale = n / (n - 1.0);
    let few = some as f64;
    let of = |values: &Vec<f64>| {
        let form = positions * values.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>();
        form * scale * (few - 1.0) / few
    };
    Ok(operator.quadratic_forms(&block)?.iter().map(of).collect())
}
