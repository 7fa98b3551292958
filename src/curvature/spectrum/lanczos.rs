//! The eigenvalues of largest absolute value, with their vectors, by block Lanczos.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::krylov::{Krylov, Ritz};
use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::vector::{add_combination, combination, scale};
use crate::curvature::operator::{Observe, apply};
use crate::curvature::{CurvatureError, Operator, Progress, Refusal, norm};

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Lanczos {
    /// Eigenpairs wanted.
    pub top: usize,
    /// Residuals at most this times |λ|. The error of an eigenvalue is at most the residual, and mostly its square over
    /// the distance to the next one.
    pub tolerance: f64,
    /// At most so many products; memory is so many vectors.
    pub products: usize,
    /// Vectors a step. Eigenvalues that are repeated more often than this may be found fewer times.
    pub block: usize,
    /// Of the first vectors.
    pub seed: u64,
}

impl Default for Lanczos {
    fn default() -> Self {
        Lanczos { top: 5, tolerance: 1e-3, products: 200, block: 2, seed: 0 }
    }
}

/// Eigenpairs, largest absolute value first.
#[derive(Clone, Debug, Serialize)]
pub struct Eigenpairs {
    /// λ, with its sign.
    pub eigenvalues: Vec<f64>,
    /// ‖A v - λ v‖ with ‖v‖ = 1, from a product with v itself.
    pub residuals: Vec<f64>,
    /// Whether the residual is within the tolerance.
    pub converged: Vec<bool>,
    /// v of each, ‖v‖ = 1.
    #[serde(skip)]
    pub vectors: Vec<Vec<f32>>,
    /// Products, those for the residuals included.
    pub products: usize,
    /// What the products cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
    /// Whether an interrupt ended it: the pairs are those of the space until then, and residuals that were not measured
    /// any more are those of the recurrence.
    pub interrupted: bool,
}

/// What a residual is relative to: an eigenvalue near 0 has no size of its own, and rounding is relative to the
/// largest.
fn size_of(value: f64, scale: f64) -> f64 {
    value.abs().max(1e-4 * scale)
}

/// Whether a Ritz pair's residual is within half the tolerance: the residual that is measured at the end holds the
/// rounding of f32 as well.
fn close_to(ritz: &Ritz, i: usize, tolerance: f64, scale: f64) -> bool {
    ritz.residuals[i] <= 0.5 * tolerance * size_of(ritz.values[i], scale)
}

/// The `top` eigenvalues of largest absolute value, signs kept.
///
/// Where a Krylov space is exhausted (few distinct eigenvalues), it goes on from new directions until these change none
/// of the wanted values.
pub fn top_eigenpairs(
    operator: &dyn Operator,
    what: &Lanczos,
    observe: Observe<'_>,
) -> Result<Eigenpairs, CurvatureError> {
    top_eigenpairs_from(operator, what, &[], observe)
}

/// The same with a space that begins at given vectors, as eigenvectors of a matrix near by (a warm start): the values
/// are the same to within the tolerance, after fewer products. As many vectors as a block has are used.
pub fn top_eigenpairs_from(
    operator: &dyn Operator,
    what: &Lanczos,
    start: &[Vec<f32>],
    observe: Observe<'_>,
) -> Result<Eigenpairs, CurvatureError> {
    let size = operator.size();
    if what.top == 0 || what.top > size || what.block == 0 || what.products < what.top || what.tolerance.is_nan() {
        return Err(Refusal::Eigenvalues { top: what.top, size, products: what.products, block: what.block }.into());
    }
    let mut krylov = Krylov::new(size, what.block, what.seed, start);
    let (mut cost, mut looked, mut restarts, mut before) = (0.0, 0, 0, None::<Vec<f64>>);
    let mut interrupted = false;
    let ritz = loop {
        let products = krylov.basis.len() - krylov.done();
        if unless_interrupted(krylov.step(operator))?.is_none() {
            interrupted = true;
            if krylov.done() == 0 {
                return Err(CurvatureError::Interrupted);
            }
            break krylov.ritz();
        }
        cost += operator.product_cost(products);
        let done = krylov.done();
        let last = krylov.complete(size) || done + what.block > what.products;
        let restarted = krylov.restarts > restarts;
        // A small dense eigenproblem at every step would cost more than the products; every tenth part is as good.
        if !last && !restarted && (done < what.top || done < looked + what.block.max(looked / 10)) {
            if unless_interrupted(observe(&Progress { done, of: what.products, value: None }))?.is_none() {
                interrupted = true;
                break krylov.ritz();
            }
            continue;
        }
        looked = done;
        let ritz = krylov.ritz();
        let value = ritz.values.first().map(|v| (*v, ritz.residuals[0]));
        if unless_interrupted(observe(&Progress { done, of: what.products, value }))?.is_none() {
            interrupted = true;
            break ritz;
        }
        let wanted = &ritz.values[..what.top.min(done)];
        let converged = done >= what.top && (0..what.top).all(|i| close_to(&ritz, i, what.tolerance, krylov.scale));
        let same = |old: &Vec<f64>| {
            old.len() == wanted.len()
                && old.iter().zip(wanted).all(|(a, b)| (a - b).abs() <= what.tolerance * krylov.scale)
        };
        // A new direction that is not yet explored may still hold an eigenvalue as far out as its residual allows.
        let least = wanted.last().map_or(0.0, |v| v.abs());
        let explored = |i: usize| {
            close_to(&ritz, i, what.tolerance, krylov.scale)
                || ritz.values[i].abs() + ritz.residuals[i] <= least * (1.0 + what.tolerance)
        };
        let settled = krylov.restarts == 0
            || restarted && before.as_ref().is_some_and(same) && (0..ritz.values.len()).all(explored);
        if last || converged && settled {
            break ritz;
        }
        if restarted {
            (restarts, before) = (krylov.restarts, Some(wanted.to_vec()));
        }
    };
    let found = what.top.min(ritz.values.len());
    let basis = &krylov.basis[..krylov.done()];
    let mut pairs = Eigenpairs {
        eigenvalues: ritz.values[..found].to_vec(),
        residuals: vec![],
        converged: vec![],
        vectors: ritz.coordinates[..found].iter().map(|c| combination(basis, c)).collect(),
        products: krylov.done(),
        gradient_equivalents: cost,
        interrupted,
    };
    for v in &mut pairs.vectors {
        let length = norm(v);
        scale(v, 1.0 / length);
    }
    for start in (0..found).step_by(what.block) {
        let block = &pairs.vectors[start..found.min(start + what.block)];
        let images = if pairs.interrupted { None } else { unless_interrupted(apply(operator, block))? };
        let Some(images) = images else {
            pairs.interrupted = true;
            break;
        };
        pairs.gradient_equivalents += operator.product_cost(block.len());
        pairs.products += block.len();
        for (v, mut image) in block.iter().zip(images) {
            let value = pairs.eigenvalues[pairs.residuals.len()];
            add_combination(&mut image, std::slice::from_ref(v), &[-value]);
            let residual = norm(&image);
            pairs.residuals.push(residual);
            pairs.converged.push(residual <= what.tolerance * size_of(value, krylov.scale));
        }
    }
    for i in pairs.residuals.len()..found {
        pairs.residuals.push(ritz.residuals[i]);
        pairs.converged.push(ritz.residuals[i] <= what.tolerance * size_of(ritz.values[i], krylov.scale));
    }
    Ok(pairs)
}

/// One eigenvalue per line with its residual.
impl Display for Eigenpairs {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, (value, residual)) in self.eigenvalues.iter().zip(&self.residuals).enumerate() {
            let known = if self.converged[i] { "" } else { ", not converged" };
            let end = if i + 1 < self.eigenvalues.len() { "\n" } else { "" };
            write!(f, "{}. {value:.6} (residual {residual:.1e}{known}){end}", i + 1)?;
        }
        Ok(())
    }
}
