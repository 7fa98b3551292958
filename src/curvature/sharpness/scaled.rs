//! S A S for a diagonal S: a matrix in coordinates of which each has its own unit.

use crate::curvature::{CurvatureError, Operator, Refusal};

/// An operator with a scale for each number of a vector: S A S. Its trace is Σ s_j² A_jj.
pub struct ScaledOperator<'a> {
    operator: &'a dyn Operator,
    scales: &'a [f32],
}

impl<'a> ScaledOperator<'a> {
    /// S A S with S = diag(scales).
    ///
    /// # Errors
    /// Another number of scales than the operator has parameters.
    pub fn new(operator: &'a dyn Operator, scales: &'a [f32]) -> Result<ScaledOperator<'a>, CurvatureError> {
        match scales.len() == operator.size() {
            true => Ok(ScaledOperator { operator, scales }),
            false => Err(Refusal::VectorSize { has: scales.len(), wanted: operator.size() }.into()),
        }
    }

    fn scaled(&self, block: &[Vec<f32>]) -> Vec<Vec<f32>> {
        block.iter().map(|v| v.iter().zip(self.scales).map(|(x, s)| x * s).collect()).collect()
    }
}

impl Operator for ScaledOperator<'_> {
    fn size(&self) -> usize {
        self.operator.size()
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        Ok(self.scaled(&self.operator.apply(&self.scaled(block))?))
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
        let scaled = ScaledOperator::new(&matrix, &[2.0, 0.5]).unwrap();
        let unit = [vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(scaled.apply(&unit).unwrap(), [vec![12.0, 1.0], vec![1.0, 0.5]]);
        assert_eq!(scaled.quadratic_forms(&unit).unwrap(), [vec![12.0], vec![0.5]]);
        let top = top_eigenpairs(&scaled, &Lanczos { top: 1, ..Lanczos::default() }, &mut |_| Ok(())).unwrap();
        let want = (12.5 + (12.5f64 * 12.5 - 4.0 * 5.0).sqrt()) / 2.0;
        assert!((top.eigenvalues[0] - want).abs() < 1e-5);
        assert!(ScaledOperator::new(&matrix, &[1.0]).is_err());
    }
}
