//! XTrace: every probe is left out once and measured on what the others' range leaves. Epperly, Tropp, Webber 2023,
//! arXiv 2301.07825, with Gaussian probes and the paper's normalisation of what is left of them.

use nalgebra::DMatrix;

use super::hutchpp::orthonormal;
use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::vector::dots;
use crate::curvature::operator::{Observe, apply};
use crate::curvature::{CurvatureError, Estimator, Operator, ProbeKind, Progress, Refusal, Trace, dot, probes};
use crate::statistics::{Estimate, Parts, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct XTrace {
    /// Of the probes.
    pub seed: u64,
    /// Number of the first probe.
    pub first: usize,
    /// Products in all; half of them with probes, half with their range's basis.
    pub samples: usize,
    /// Vectors at once. Any number gives the same answer.
    pub block: usize,
}

impl Default for XTrace {
    fn default() -> Self {
        XTrace { seed: 0, first: 0, samples: 64, block: 8 }
    }
}

/// Products so far and what they cost.
#[derive(Default)]
struct Count {
    done: usize,
    cost: f64,
}

/// Products of vectors, as many as an interrupt allows.
fn products(
    operator: &dyn Operator,
    vectors: &[Vec<f32>],
    what: &XTrace,
    count: &mut Count,
    observe: Observe<'_>,
) -> Result<Vec<Vec<f32>>, CurvatureError> {
    let mut out = vec![];
    for block in vectors.chunks(what.block) {
        let Some(images) = unless_interrupted(apply(operator, block))? else { break };
        out.extend(images);
        count.done += block.len();
        count.cost += operator.product_cost(block.len());
        let progress = Progress { done: count.done, of: what.samples / 2 * 2, value: None };
        if unless_interrupted(observe(&progress))?.is_none() {
            break;
        }
    }
    Ok(out)
}

/// Tr A of the operator as it is (its examples are the target), through `samples` full products.
///
/// The standard error is std / √s over the s leave-one-out estimates, which are not independent of each other: it tends
/// to be too small ([`xtrace_replicates`](super::xtrace_replicates) has an honest one). Memory: four vectors a probe.
///
/// Interrupted with products on the range, it is XTrace with as many probes as there are of these; before that, the
/// plain mean of ωᵀ A ω over the probes until then.
pub fn xtrace(operator: &dyn Operator, what: &XTrace, observe: Observe<'_>) -> Result<Trace, CurvatureError> {
    let (n, s) = (operator.size(), what.samples / 2);
    if s < 2 || what.block == 0 {
        return Err(Refusal::FewForXTrace.into());
    }
    if s > n {
        return Err(Refusal::XTraceOfFew { samples: what.samples, least: s, size: n }.into());
    }
    let mut count = Count::default();
    let mut omega = probes(ProbeKind::Gaussian, what.seed, what.first..what.first + s, n);
    let mut y = products(operator, &omega, what, &mut count, observe)?;
    let squared_norm = y.iter().map(|y| dot(y, y)).sum::<f64>() / y.len() as f64;
    if y.len() < s {
        return plain(&omega, &y, &count, squared_norm);
    }
    let mut basis = orthonormal(y.clone());
    let z = products(operator, &basis, what, &mut count, observe)?;
    let interrupted = z.len() < basis.len();
    if interrupted {
        // The range of the first probes is spanned by as many of the basis, where none was left out.
        if z.len() < 2 || basis.len() < s {
            return plain(&omega, &y, &count, squared_norm);
        }
        omega.truncate(z.len());
        y.truncate(z.len());
        basis.truncate(z.len());
    }
    let (s, rank) = (omega.len(), basis.len());
    let small = |rows: &[Vec<f32>], columns: &[Vec<f32>]| {
        let columns: Vec<Vec<f64>> = columns.iter().map(|c| dots(rows, c)).collect();
        DMatrix::from_fn(rows.len(), columns.len(), |i, j| columns[j][i])
    };
    let h = small(&basis, &z);
    let h = (&h + h.transpose()) / 2.0;
    let values = if rank < s {
        // The probes' images span less than there are probes: that span is the whole range, and the trace exact on it.
        vec![h.trace(); s]
    } else {
        let (w, r) = (small(&basis, &omega), small(&basis, &y));
        let inverse = r.clone().try_inverse().ok_or(Refusal::SingularSketch)?;
        let one = |i: usize| {
            // Q without probe i projects as Q (I - v vᵀ) Qᵀ, v along row i of R⁻¹.
            let v = inverse.row(i).transpose().normalize();
            let (w, r) = (w.column(i), r.column(i));
            let u = w - &v * v.dot(&w);
            // μ = ω - Q u is what the others leave of ω; A ω = Q r.
            let rest = w.dot(&r) - 2.0 * r.dot(&u) + u.dot(&(&h * &u));
            let square = dot(&omega[i], &omega[i]) - u.norm_squared();
            h.trace() - v.dot(&(&h * &v)) + (n - s + 1) as f64 / square * rest
        };
        (0..s).map(one).collect()
    };
    let mean = Estimate::of_mean(&values);
    let error = mean.standard_error;
    let parts =
        Parts { value: mean.value, standard_error: error, standard_error_probe: error, standard_error_data: 0.0 };
    let trace = Trace::of(Estimator::Xtrace, parts, Target::TheseExamples, values);
    let trace = Trace { samples: count.done, gradient_equivalents: count.cost, ..trace };
    Ok(trace.with_squared_norm(squared_norm).cut_short(interrupted))
}

/// What an interrupt leaves without a range.
fn plain(omega: &[Vec<f32>], y: &[Vec<f32>], count: &Count, squared_norm: f64) -> Result<Trace, CurvatureError> {
    if y.is_empty() {
        return Err(CurvatureError::Interrupted);
    }
    let values: Vec<f64> = omega.iter().zip(y).map(|(v, image)| dot(v, image)).collect();
    let mean = Estimate::of_mean(&values);
    let (value, error) = (mean.value, mean.standard_error);
    let parts = Parts { value, standard_error: error, standard_error_probe: error, standard_error_data: 0.0 };
    let trace = Trace::of(Estimator::Xtrace, parts, Target::TheseExamples, values);
    let trace = Trace { samples: count.done, gradient_equivalents: count.cost, ..trace };
    Ok(trace.with_squared_norm(squared_norm).cut_short(true))
}
