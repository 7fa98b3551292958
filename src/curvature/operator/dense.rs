//! A matrix written down, for tests, examples and models small enough to have one.

use crate::curvature::{CurvatureError, Operator, Refusal};

/// A symmetric matrix in f64, or one an example; products in f64, rounded once.
#[derive(Clone, Debug)]
pub struct Dense {
    size: usize,
    weights: Vec<f64>,
    /// Row by row, one an example.
    parts: Vec<Vec<f64>>,
    mean: Vec<f64>,
}

impl Dense {
    /// One matrix of `size` rows, row by row.
    pub fn new(size: usize, numbers: Vec<f64>) -> Result<Dense, CurvatureError> {
        Dense::of_examples(size, vec![1.0], vec![numbers])
    }

    /// A matrix an example and its weight; weights are scaled to sum to 1.
    pub fn of_examples(size: usize, weights: Vec<f64>, parts: Vec<Vec<f64>>) -> Result<Dense, CurvatureError> {
        let fits = weights.len() == parts.len() && parts.iter().all(|p| p.len() == size * size);
        let symmetric =
            |p: &Vec<f64>| (0..size * size).all(|i| (p[i] - p[i % size * size + i / size]).abs() <= 1e-12 * p[i].abs());
        if !fits || parts.is_empty() || !parts.iter().all(symmetric) {
            return Err(Refusal::NotSymmetric { size }.into());
        }
        let total: f64 = weights.iter().sum();
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let mean = (0..size * size).map(|j| parts.iter().zip(&weights).map(|(p, w)| w * p[j]).sum()).collect();
        Ok(Dense { size, weights, parts, mean })
    }

    fn product(&self, matrix: &[f64], v: &[f32]) -> Vec<f64> {
        matrix.chunks_exact(self.size).map(|row| row.iter().zip(v).map(|(a, x)| a * f64::from(*x)).sum()).collect()
    }
}

impl Operator for Dense {
    fn size(&self) -> usize {
        self.size
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        Ok(block.iter().map(|v| self.product(&self.mean, v).iter().map(|x| *x as f32).collect()).collect())
    }

    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        let form = |p: &Vec<f64>, v: &[f32]| self.product(p, v).iter().zip(v).map(|(a, x)| a * f64::from(*x)).sum();
        Ok(block.iter().map(|v| self.parts.iter().map(|p| form(p, v)).collect()).collect())
    }

    fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn product_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }

    fn form_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }
}
