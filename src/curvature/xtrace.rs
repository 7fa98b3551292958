//! XTrace: every probe is left out once and measured on what the others' range leaves. Epperly, Tropp, Webber 2023,
//! arXiv 2301.07825, with Gaussian probes and the paper's
//! normalisation of what is left of them.

use nalgebra::DMatrix;

use super::hutchpp::orthonormal;
use super::operator::{Observe, apply};
use super::vector::dots;
use super::{CurvatureError, Operator, ProbeKind, Progress, Trace, dot, probes};
use crate::statistics::{Estimate, Parts, Target};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct XTrace {
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

fn products(
    operator: &dyn Operator,
    vectors: &[Vec<f32>],
    what: &XTrace,
    count: &mut Count,
    observe: Observe<'_>,
) -> Result<Vec<Vec<f32>>, CurvatureError> {
    let mut out = vec![];
    for block in vectors.chunks(what.block) {
        out.extend(apply(operator, block)?);
        count.done += block.len();
        count.cost += operator.product_cost(block.len());
        observe(&Progress { done: count.done, of: what.samples / 2 * 2, value: None })?;
    }
    Ok(out)
}

/// Tr A of the operator as it is (its examples are the target), through `samples` full products.
///
/// The standard error is std / √s over the s leave-one-out estimates, which are not independent of each other: it tends to
/// be too small ([`xtrace_replicates`](super::xtrace_replicates) has an honest one). Memory: four vectors a probe.
pub fn xtrace(operator: &dyn Operator, what: &XTrace, observe: Observe<'_>) -> Result<Trace, CurvatureError> {
    let (n, s) = (operator.size(), what.samples / 2);
    if s < 2 || what.block == 0 {
        return Err(CurvatureError::Request("XTrace needs at least 4 samples and blocks of at least 1".into()));
    }
    if s > n {
        return Err(CurvatureError::Request(format!(
            "XTrace with {} samples needs at least {s} parameters, not {n}",
            what.samples
        )));
    }
    let mut count = Count::default();
    let omega = probes(ProbeKind::Gaussian, what.seed, what.first..what.first + s, n);
    let y = products(operator, &omega, what, &mut count, observe)?;
    let squared_norm = y.iter().map(|y| dot(y, y)).sum::<f64>() / s as f64;
    let basis = orthonormal(y.clone());
    let rank = basis.len();
    let z = products(operator, &basis, what, &mut count, observe)?;
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
        let inverse = r
            .clone()
            .try_inverse()
            .ok_or_else(|| CurvatureError::Request("XTrace's sketch is singular; take fewer samples".into()))?;
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
    let trace = Trace::of("xtrace", parts, Target::TheseExamples, values);
    Ok(Trace { samples: count.done, gradient_equivalents: count.cost, ..trace }.with_squared_norm(squared_norm))
}
