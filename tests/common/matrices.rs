//! Matrices with known answers, for the estimators' tests.

use lowland::curvature::{CurvatureError, Dense, Operator};
use lowland::random::{Purpose, Stream};
use nalgebra::DMatrix;

/// A random orthogonal matrix.
pub fn orthogonal(n: usize, seed: u64) -> DMatrix<f64> {
    let mut stream = Stream::new(seed, Purpose::Test, 0);
    DMatrix::from_fn(n, n, |_, _| stream.normal()).qr().q()
}

/// A matrix with these eigenvalues and random eigenvectors.
pub fn with_spectrum(values: &[f64], seed: u64) -> Dense {
    let (n, q) = (values.len(), orthogonal(values.len(), seed));
    let a = &q * DMatrix::from_diagonal(&nalgebra::DVector::from_column_slice(values)) * q.transpose();
    Dense::new(n, ((&a + a.transpose()) / 2.0).iter().copied().collect()).unwrap()
}

/// One symmetric matrix per example, B_i plus a common C, with weights 1 to 3 and sizes that `spread` makes uneven.
pub fn of_examples(size: usize, examples: usize, spread: f64, seed: u64) -> Dense {
    let mut stream = Stream::new(seed, Purpose::Test, 1);
    let mut symmetric = |scale: f64| -> Vec<f64> {
        let a = DMatrix::from_fn(size, size, |_, _| stream.normal());
        let a = &a * a.transpose() * (scale / size as f64);
        ((&a + a.transpose()) / 2.0).iter().copied().collect()
    };
    let common = symmetric(1.0);
    let mut sizes = Stream::new(seed, Purpose::Test, 2);
    let parts = (0..examples).map(|_| {
        let own = symmetric((spread * sizes.normal()).exp());
        own.iter().zip(&common).map(|(a, b)| a + b).collect()
    });
    let parts = parts.collect();
    let weights = (0..examples).map(|_| 1.0 + f64::from(sizes.below(3))).collect();
    Dense::of_examples(size, weights, parts).unwrap()
}

/// Tr A and ‖A‖_F² of the mean matrix.
pub fn exact(matrix: &Dense) -> (f64, f64) {
    let n = matrix.size();
    let unit = |i: usize| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    let columns = matrix.apply(&(0..n).map(unit).collect::<Vec<_>>()).unwrap();
    let trace = (0..n).map(|i| f64::from(columns[i][i])).sum();
    (trace, columns.iter().flatten().map(|x| f64::from(*x).powi(2)).sum())
}

/// An operator that answers something not finite.
pub struct Broken;

impl Operator for Broken {
    fn size(&self) -> usize {
        4
    }
    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        Ok(block.iter().map(|_| vec![1.0, f32::NAN, 0.0, 0.0]).collect())
    }
    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        Ok(block.iter().map(|_| vec![f64::INFINITY]).collect())
    }
    fn weights(&self) -> &[f64] {
        &[1.0]
    }
    fn product_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }
    fn form_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }
}
