//! S A S for a diagonal S: a matrix in coordinates of which each has its own unit.

use super::{Operator, apply};
use crate::curvature::{CurvatureError, Refusal};

/// An operator A in coordinates x of w = w₀ + S x, with a scale for each number of a vector: S A S. Its trace is
/// Σ s_j² A_jj; where s_j is 0 the number is held still.
pub struct ScaledOperator<'a, S> {
    operator: &'a dyn Operator,
    scales: &'a [S],
}

impl<'a, S: Copy + Into<f64>> ScaledOperator<'a, S> {
    /// S A S with S = diag(scales).
    ///
    /// # Errors
    /// Another number of scales than the operator has parameters.
    pub fn new(operator: &'a dyn Operator, scales: &'a [S]) -> Result<ScaledOperator<'a, S>, CurvatureError> {
        match scales.len() == operator.size() {
            true => Ok(ScaledOperator { operator, scales }),
            false => Err(Refusal::VectorSize { has: scales.len(), wanted: operator.size() }.into()),
        }
    }

    fn scaled(&self, block: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let one = |(x, s): (&f32, &S)| (f64::from(*x) * (*s).into()) as f32;
        block.iter().map(|v| v.iter().zip(self.scales).map(one).collect()).collect()
    }
}

impl<S: Copy + Into<f64>> Operator for ScaledOperator<'_, S> {
    fn size(&self) -> usize {
        self.operator.size()
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        Ok(self.scaled(&apply(self.operator, &self.scaled(block))?))
    }

    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.operator.quadratic_forms(&self.scaled(block))
    }

    fn quadratic_forms_so_far(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.operator.quadratic_forms_so_far(&self.scaled(block))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::{Dense, Lanczos, top_eigenpairs};

    #[test]
    fn a_scaled_matrix_is_the_matrix_between_two_diagonals() {
        let matrix = Dense::new(2, vec![3.0, 1.0, 1.0, 2.0]).unwrap();
        let scaled = ScaledOperator::new(&matrix, &[2.0f32, 0.5]).unwrap();
        let unit = [vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(scaled.apply(&unit).unwrap(), [vec![12.0, 1.0], vec![1.0, 0.5]]);
        assert_eq!(scaled.quadratic_forms(&unit).unwrap(), [vec![12.0], vec![0.5]]);
        let top = top_eigenpairs(&scaled, &Lanczos { top: 1, ..Lanczos::default() }, &mut |_| Ok(())).unwrap();
        let want = (12.5 + (12.5f64 * 12.5 - 4.0 * 5.0).sqrt()) / 2.0;
        assert!((top.eigenvalues[0] - want).abs() < 1e-5);
        assert!(ScaledOperator::new(&matrix, &[1.0f32]).is_err());
    }
}
