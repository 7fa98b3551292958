//! A matrix in the coordinates in which a prior is round: S A S with S diagonal.

use crate::curvature::operator::apply;
use crate::curvature::{CurvatureError, Operator, Refusal};

/// S A S of an operator A, S = D^½ one number for each of a vector's. Where it is 0 the parameter is held still.
pub struct Scaled<'o> {
    operator: &'o dyn Operator,
    scales: &'o [f64],
}

impl<'o> Scaled<'o> {
    /// The operator in coordinates x of w = w₀ + S x.
    ///
    /// # Errors
    /// Another number of scales than the operator has rows.
    pub fn new(operator: &'o dyn Operator, scales: &'o [f64]) -> Result<Scaled<'o>, CurvatureError> {
        match scales.len() == operator.size() {
            true => Ok(Scaled { operator, scales }),
            false => Err(Refusal::VectorSize { has: scales.len(), wanted: operator.size() }.into()),
        }
    }

    fn scaled(&self, v: &[f32]) -> Vec<f32> {
        v.iter().zip(self.scales).map(|(x, s)| (f64::from(*x) * s) as f32).collect()
    }

    fn block(&self, block: &[Vec<f32>]) -> Vec<Vec<f32>> {
        block.iter().map(|v| self.scaled(v)).collect()
    }
}

impl Operator for Scaled<'_> {
    fn size(&self) -> usize {
        self.operator.size()
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        Ok(self.block(&apply(self.operator, &self.block(block))?))
    }

    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.operator.quadratic_forms(&self.block(block))
    }

    fn weights(&self) -> &[f64] {
        self.operator.weights()
    }

    fn product_cost(&self, vectors: usize) -> f64 {
        self.operator.product_cost(vectors)
    }

    fn form_cost(&self, vectors: usize) -> f64 {
        self.operator.form_cost(vectors)
    }
}
