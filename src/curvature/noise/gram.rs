//! Inner products of per-example gradients, G_ij = g_i · g_j. Σ = Σ_i (g_i - ḡ)(g_i - ḡ)ᵀ / (n - 1) has the eigenvalues
//! of the centred G / (n - 1).

use nalgebra::{DMatrix, SymmetricEigen};

use super::covariance::Noise;
use crate::curvature::{CurvatureError, Refusal};

/// Inner products of the gradients of n examples.
#[derive(Clone, Debug)]
pub struct Gram {
    n: usize,
    numbers: Vec<f64>,
}

impl Gram {
    /// Row by row.
    pub fn new(n: usize, numbers: Vec<f64>) -> Result<Gram, CurvatureError> {
        if n < 2 || numbers.len() != n * n {
            return Err(Refusal::FewProducts { examples: n, products: numbers.len() }.into());
        }
        if !numbers.iter().all(|x| x.is_finite()) {
            return Err(CurvatureError::NotFinite("an inner product of gradients"));
        }
        Ok(Gram { n, numbers })
    }

    /// The inner products, row by row.
    pub fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    fn row_sums(&self) -> Vec<f64> {
        self.numbers.chunks_exact(self.n).map(|row| row.iter().sum()).collect()
    }

    /// (g_i - ḡ) · (g_j - ḡ).
    pub fn centred(&self) -> Vec<f64> {
        let n = self.n as f64;
        let means: Vec<f64> = self.row_sums().iter().map(|s| s / n).collect();
        let mean = means.iter().sum::<f64>() / n;
        (0..self.n * self.n).map(|k| self.numbers[k] - means[k / self.n] - means[k % self.n] + mean).collect()
    }

    /// Norms, traces and the noise scale with jackknife errors.
    pub fn noise(&self) -> Noise {
        let own: Vec<f64> = (0..self.n).map(|i| self.numbers[i * self.n + i]).collect();
        let with_mean: Vec<f64> = self.row_sums().iter().map(|s| s / self.n as f64).collect();
        Noise::of(&own, &with_mean)
    }

    /// Eigenvalues of Σ, largest first: n - 1 of them, the rest are 0.
    pub fn covariance_eigenvalues(&self) -> Vec<f64> {
        let scale = (self.n - 1) as f64;
        let centred = self.centred();
        let matrix =
            DMatrix::from_fn(self.n, self.n, |i, j| (centred[i * self.n + j] + centred[j * self.n + i]) / 2.0 / scale);
        let mut values: Vec<f64> = SymmetricEigen::new(matrix).eigenvalues.iter().map(|x| x.max(0.0)).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        values.pop();
        values
    }

    /// ‖Σ‖_F² of the sample covariance, and the unbiased estimate of the population's: the former is too large by about
    /// (Tr Σ)² / n (Himeno and Yamada 2014; needs 4 examples, else NaN).
    pub fn covariance_squared_norm(&self) -> (f64, f64) {
        let n = self.n as f64;
        let centred = self.centred();
        let own: Vec<f64> = (0..self.n).map(|i| centred[i * self.n + i]).collect();
        let squares = centred.iter().map(|x| x * x).sum::<f64>() / (n - 1.0).powi(2);
        let trace = own.iter().sum::<f64>() / (n - 1.0);
        let fourth = own.iter().map(|x| x * x).sum::<f64>() / (n - 1.0);
        let unbiased =
            (n - 1.0) / (n * (n - 2.0) * (n - 3.0)) * ((n - 1.0) * (n - 2.0) * squares + trace * trace - n * fourth);
        (squares, if self.n < 4 { f64::NAN } else { unbiased })
    }
}
