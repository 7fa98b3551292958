//! A symmetric matrix known by what it does to vectors ([`Operator`]); one that is written down ([`Dense`]) and one
//! between two diagonals ([`ScaledOperator`]); probe vectors and the arithmetic on vectors. Nothing here knows a model.

mod dense;
mod probe;
pub(super) mod product_sums;
mod scaled;
pub(super) mod vector;

pub use dense::Dense;
pub use probe::{Block, ProbeKind, Probes, probe, probes};
pub use product_sums::ProductSums;
pub use scaled::ScaledOperator;
pub use vector::{dot, norm};

use std::ops::Range;

use super::error::unless_interrupted;
use super::{CurvatureError, Refusal};

/// A symmetric matrix A, the weighted mean of one matrix A_i an example: A = Σ w_i A_i.
pub trait Operator {
    /// Numbers in a vector.
    fn size(&self) -> usize;

    /// A v for each vector of a block.
    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError>;

    /// vᵀ A_i v for each vector of a block and each example, `[vector][example]`.
    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError>;

    /// The same as far as it came before an interrupt: of the first vectors over all examples, or, where there is no
    /// such vector, of the first examples, as many for each vector that was begun.
    fn quadratic_forms_so_far(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.quadratic_forms(block)
    }

    /// The same of random vectors, which an operator may make a piece at a time.
    fn quadratic_forms_of_probes_so_far(&self, probes: &Probes) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.quadratic_forms_so_far(&probes.vectors())
    }

    /// What a trace asks of the products with random vectors, which an operator may go through a piece at a time;
    /// `parts` are ranges of a vector.
    fn products_of_probes(&self, probes: &Probes, parts: &[Range<usize>]) -> Result<Vec<ProductSums>, CurvatureError> {
        let block = probes.vectors();
        let images = apply(self, &block)?;
        Ok(block.iter().zip(&images).map(|(v, image)| ProductSums::of(v, image, parts)).collect())
    }

    /// w_i of each example; they sum to 1. For a mean over masked positions A_i is of the mean over the example's own
    /// positions and w_i its share of them.
    fn weights(&self) -> &[f64];

    /// What the products with one block of so many vectors cost, in gradients over the same examples.
    fn product_cost(&self, vectors: usize) -> f64;

    /// What their quadratic forms cost, in gradients over the same examples.
    fn form_cost(&self, vectors: usize) -> f64;
}

/// How far an estimator has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Probes, draws or products until now.
    pub done: usize,
    /// At most so many.
    pub of: usize,
    /// The value so far and its standard error, where there is one.
    pub value: Option<(f64, f64)>,
}

/// Called after each block. [`CurvatureError::Interrupted`] ends the estimator: it gives what it has with `interrupted`
/// set, or passes that on where it has nothing. Other errors are passed on.
pub type Observe<'a> = &'a mut dyn FnMut(&Progress) -> Result<(), CurvatureError>;

/// [`Operator::apply`] with its answer checked.
pub(in crate::curvature) fn apply<O: Operator + ?Sized>(
    operator: &O,
    block: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>, CurvatureError> {
    let products = operator.apply(block)?;
    let fits = products.len() == block.len() && products.iter().all(|p| p.len() == operator.size());
    if !fits {
        return Err(Refusal::OtherShapes(block.len()).into());
    }
    // One sum finds any NaN or infinity.
    if products.iter().all(|p| dot(p, p).is_finite()) {
        Ok(products)
    } else {
        Err(CurvatureError::NotFinite("a product"))
    }
}

/// [`Operator::products_of_probes`] with its answer checked.
pub(in crate::curvature) fn products_of_probes(
    operator: &dyn Operator,
    probes: &Probes,
    parts: &[Range<usize>],
) -> Result<Vec<ProductSums>, CurvatureError> {
    let all = operator.products_of_probes(probes, parts)?;
    if all.len() != probes.numbers.len() || all.iter().any(|sums| sums.parts.len() != parts.len()) {
        return Err(Refusal::OtherShapes(probes.numbers.len()).into());
    }
    if all.iter().all(|sums| sums.square.is_finite()) { Ok(all) } else { Err(CurvatureError::NotFinite("a product")) }
}

/// [`Operator::quadratic_forms_of_probes_so_far`] with its answer checked.
pub(in crate::curvature) fn forms_of_probes_so_far(
    operator: &dyn Operator,
    block: &Probes,
) -> Result<Vec<Vec<f64>>, CurvatureError> {
    let vectors = block.numbers.len();
    let forms = unless_interrupted(operator.quadratic_forms_of_probes_so_far(block))?.unwrap_or_default();
    let seen = forms.first().map_or(0, Vec::len);
    let fits = forms.len() <= vectors && seen <= operator.weights().len() && forms.iter().all(|f| f.len() == seen);
    checked(forms, fits, vectors)
}

fn checked(forms: Vec<Vec<f64>>, fits: bool, vectors: usize) -> Result<Vec<Vec<f64>>, CurvatureError> {
    if !fits {
        return Err(Refusal::OtherShapes(vectors).into());
    }
    let finite = forms.iter().flatten().all(|x| x.is_finite());
    if finite { Ok(forms) } else { Err(CurvatureError::NotFinite("a quadratic form")) }
}

/// [`Operator::quadratic_forms`] with its answer checked.
pub(in crate::curvature) fn forms(
    operator: &dyn Operator,
    block: &[Vec<f32>],
) -> Result<Vec<Vec<f64>>, CurvatureError> {
    let forms = operator.quadratic_forms(block)?;
    let fits = forms.len() == block.len() && forms.iter().all(|f| f.len() == operator.weights().len());
    checked(forms, fits, block.len())
}
