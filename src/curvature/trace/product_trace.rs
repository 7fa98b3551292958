//! Hutchinson's trace through full products: dearer than quadratic forms, but it tells the trace of every part of the
//! vector and, by E‖A v‖² = ‖A‖_F², r_eff with any kind of probe.

use std::ops::Range;

use super::hutchinson::{check, ends};
use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::{Observe, forms_of_probes_so_far, products_of_probes};
use crate::curvature::{CurvatureError, Estimator, Hutchinson, Operator, Probes, Progress, Trace};
use crate::statistics::{Crossed, Estimate, Target};

/// A trace with those of parts of the vector.
#[derive(Clone, Debug)]
pub struct ProductTrace {
    /// Of the whole vector.
    pub trace: Trace,
    /// Σ v_j (A v)_j over each part, with its error over the probes alone.
    pub parts: Vec<Estimate>,
    /// Mean over the probes of vᵀ A_i v for each example; empty where the examples are the target.
    pub per_example: Vec<f64>,
}

/// Tr A and the traces of diagonal blocks. Where a population is the target, the same probes' quadratic forms tell the
/// data part of the error, at their own cost. Interrupted, it is of the probes until then.
pub fn hutchinson_by_products(
    operator: &dyn Operator,
    parts: &[Range<usize>],
    what: &Hutchinson,
    observe: Observe<'_>,
) -> Result<ProductTrace, CurvatureError> {
    check(operator, what)?;
    let stop = what.stop.not_before(what.stop.minimum.max(2));
    let population = what.target == Target::Population;
    let weights = if population { operator.weights() } else { &[1.0] };
    let (mut crossed, examples) = (Crossed::new(weights), weights.len());
    let (mut squares, mut by_part) = (vec![], vec![vec![]; parts.len()]);
    let (mut cost, mut reached, mut interrupted) = (0.0, false, false);
    while crossed.rows().len() < stop.most && !reached && !interrupted {
        let done = crossed.rows().len();
        let numbers = done..(done + what.block).min(stop.most);
        let vectors = numbers.len();
        let block = Probes { kind: what.kind, seed: what.seed, numbers, size: operator.size() };
        let Some(products) = unless_interrupted(products_of_probes(operator, &block, parts))? else {
            interrupted = true;
            break;
        };
        let values = match population {
            true => forms_of_probes_so_far(operator, &block)?,
            false => products.iter().map(|sums| vec![sums.form]).collect(),
        };
        // Of fewer examples it is no row of the design.
        if values.len() < vectors || values.iter().any(|own| own.len() < examples) {
            interrupted = true;
            break;
        }
        cost += operator.product_cost(vectors);
        cost += if population { operator.form_cost(vectors) } else { 0.0 };
        for (sums, values) in products.iter().zip(&values) {
            crossed.push(values);
            squares.push(sums.square);
            by_part.iter_mut().zip(&sums.parts).for_each(|(own, part)| own.push(*part));
            reached = ends(&crossed, &stop, what.target);
            if reached {
                break;
            }
        }
        let so_far = crossed.parts(what.target);
        let value = (crossed.rows().len() > 1).then_some((so_far.value, so_far.standard_error));
        let progress = Progress { done: crossed.rows().len(), of: stop.most, value };
        interrupted = unless_interrupted(observe(&progress))?.is_none();
    }
    interrupted &= !reached && crossed.rows().len() < stop.most;
    if crossed.rows().is_empty() {
        return Err(CurvatureError::Interrupted);
    }
    let trace = Trace::of(Estimator::Hutchinson, crossed.parts(what.target), what.target, crossed.rows().to_vec());
    let trace = Trace { reached: reached || stop.rel_error.is_none(), gradient_equivalents: cost, ..trace };
    let per_example = if population { crossed.examples() } else { vec![] };
    Ok(ProductTrace {
        trace: trace.with_squared_norm(squares.iter().sum::<f64>() / squares.len() as f64).cut_short(interrupted),
        parts: by_part.iter().map(|values| Estimate::of_mean(values)).collect(),
        per_example,
    })
}
