//! The Hessian or Gauss-Newton matrix of a model's mean loss as an [`Operator`].

use std::ops::Range;

use super::forms::{FormPass, Forms};
use super::products::{Matrix, ProductPass};
use crate::curvature::operator::product_sums::Summing;
use crate::curvature::{Block, CurvatureError, Operator, Probes, ProductSums, Subject};

/// A matrix of a subject. Plans are made when they are first needed.
pub struct ModelOperator<'s> {
    subject: &'s Subject,
    matrix: Matrix,
    products: std::cell::OnceCell<ProductPass>,
    forms: std::cell::OnceCell<FormPass>,
    gradient_flops: f64,
}

impl<'s> ModelOperator<'s> {
    /// The matrix of the mean loss per masked position, over the parameters that take part.
    pub fn new(subject: &'s Subject, matrix: Matrix) -> ModelOperator<'s> {
        let gradient_flops = subject.gradient_flops();
        ModelOperator { subject, matrix, products: Default::default(), forms: Default::default(), gradient_flops }
    }

    /// What is measured.
    pub fn subject(&self) -> &'s Subject {
        self.subject
    }

    /// Which matrix.
    pub fn matrix(&self) -> Matrix {
        self.matrix
    }

    /// Forgets the activations that quadratic forms keep of the last batch, so that the next ones compute them again.
    pub fn forget_forms(&self) {
        if let Some(pass) = self.forms.get() {
            pass.forget();
        }
    }

    fn product_pass(&self) -> Result<&ProductPass, CurvatureError> {
        made(&self.products, || ProductPass::new(self.subject, self.matrix))
    }

    fn form_pass(&self) -> Result<&FormPass, CurvatureError> {
        made(&self.forms, || FormPass::new(self.subject, self.matrix == Matrix::Hessian))
    }

    /// vᵀH_i v, vᵀG_i v and ⟨g_i, v⟩ of the sum of each example's losses.
    pub fn forms(&self, block: &[Vec<f32>]) -> Result<Vec<Forms>, CurvatureError> {
        self.form_pass()?.run(self.subject, block)
    }

    /// The same over the examples of one batch.
    pub fn forms_of_batch(&self, batch: usize, block: &[Vec<f32>]) -> Result<Vec<Forms>, CurvatureError> {
        self.form_pass()?.run_batches(self.subject, batch..batch + 1, block)
    }

    /// Of the mean over each example's positions.
    fn per_position(&self, forms: Vec<Forms>) -> Vec<Vec<f64>> {
        let masked = self.subject.masked();
        let one = |f: Forms| {
            let values = if self.matrix == Matrix::Hessian { f.hessian } else { f.ggn };
            values.iter().zip(&masked).map(|(v, m)| v / *m as f64).collect()
        };
        forms.into_iter().map(one).collect()
    }

    fn cost(&self, flops: [f64; 2], vectors: usize, width: usize) -> f64 {
        // With one batch its activations stay for the next block of vectors.
        let blocks = if self.subject.batches.len() == 1 { 1 } else { vectors.div_ceil(width.max(1)) };
        (flops[0] * blocks as f64 + flops[1] * vectors as f64) / self.gradient_flops
    }
}

/// The value of a cell, made when it is empty.
pub(super) fn made<T>(
    cell: &std::cell::OnceCell<T>,
    make: impl FnOnce() -> Result<T, CurvatureError>,
) -> Result<&T, CurvatureError> {
    if cell.get().is_none() {
        let value = make()?;
        let _ = cell.set(value);
    }
    Ok(cell.get().expect("just set"))
}

impl Operator for ModelOperator<'_> {
    fn size(&self) -> usize {
        self.subject.size()
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        self.product_pass()?.run(self.subject, block)
    }

    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        Ok(self.per_position(self.forms(block)?))
    }

    fn quadratic_forms_so_far(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        Ok(self.per_position(self.form_pass()?.run_so_far(self.subject, block)?))
    }

    fn quadratic_forms_of_probes_so_far(&self, probes: &Probes) -> Result<Vec<Vec<f64>>, CurvatureError> {
        Ok(self.per_position(self.form_pass()?.run_so_far(self.subject, Block::Probes(probes.clone()))?))
    }

    fn products_of_probes(&self, probes: &Probes, parts: &[Range<usize>]) -> Result<Vec<ProductSums>, CurvatureError> {
        let block = Block::Probes(probes.clone());
        let mut all: Vec<Summing> = (0..block.len()).map(|_| Summing::new(parts)).collect();
        self.product_pass()?.stream(self.subject, &block, &mut |k, range, image| {
            all[k].add(range.start, &block.numbers(k, range), image);
        })?;
        Ok(all.iter().map(Summing::sums).collect())
    }

    fn weights(&self) -> &[f64] {
        self.subject.weights()
    }

    fn product_cost(&self, vectors: usize) -> f64 {
        self.product_pass().map_or(0.0, |p| self.cost(p.flops(), vectors, p.width()))
    }

    fn form_cost(&self, vectors: usize) -> f64 {
        self.form_pass().map_or(0.0, |p| self.cost(p.flops(), vectors, vectors))
    }
}
