//! Gradient noise from the inner products of per-example gradients, G_ij = g_i · g_j; no vector of the model's size.
//!
//! Σ = Σ_i (g_i - ḡ)(g_i - ḡ)ᵀ / (n - 1) has the eigenvalues of the centred G / (n - 1). The noise scale Tr Σ / ‖G‖² has
//! unbiased parts: Tr Σ, and ‖ḡ‖² - Tr Σ / n for the population's ‖E g‖² (McCandlish et al. 2018, arXiv 1812.06162).

use nalgebra::{DMatrix, SymmetricEigen};
use serde::Serialize;

use super::CurvatureError;
use crate::statistics::Estimate;

/// Inner products of the gradients of n examples.
#[derive(Clone, Debug)]
pub struct Gram {
    n: usize,
    numbers: Vec<f64>,
}

/// Statistics of the noise.
#[derive(Clone, Debug, Serialize)]
pub struct Noise {
    /// n, the gradients that it is of.
    pub examples: usize,
    /// ‖ḡ‖² as it is.
    pub mean_gradient_squared_norm: f64,
    /// Tr Σ, with its jackknife error.
    pub trace_covariance: Estimate,
    /// ‖ḡ‖² - Tr Σ / n, without bias and therefore at times negative near an optimum.
    pub gradient_squared_norm: Estimate,
    /// The quotient of the two; meaningless where the denominator is not well above its error.
    pub noise_scale: Estimate,
}

/// Σ_i (θ_(i) - mean)² (n - 1) / n over leave-one-out values.
fn jackknife(value: f64, left_out: &[f64]) -> Estimate {
    let n = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / n;
    let squares: f64 = left_out.iter().map(|x| (x - mean).powi(2)).sum();
    Estimate { value, standard_error: (squares * (n - 1.0) / n).sqrt(), samples: left_out.len() }
}

impl Noise {
    /// From ‖g_i‖² and g_i · ḡ of each example, for more examples than a Gram matrix should have. Errors need 3 examples.
    pub fn of(squared_norms: &[f64], with_mean: &[f64]) -> Noise {
        let count = squared_norms.len();
        let n = count as f64;
        let squares: f64 = squared_norms.iter().sum();
        let sum = n * with_mean.iter().sum::<f64>();
        // Of m examples with Σ ‖g‖² = `squares` and ‖Σ g‖² = `sum`.
        let trace = |squares: f64, sum: f64, m: f64| (squares - sum / m) / (m - 1.0);
        let signal = |squares: f64, sum: f64, m: f64| (sum - squares) / (m * (m - 1.0));
        let without = |of: fn(f64, f64) -> f64| -> Vec<f64> {
            let one = |(own, dot): (&f64, &f64)| {
                let (squares, sum, m) = (squares - own, sum - 2.0 * n * dot + own, n - 1.0);
                of(trace(squares, sum, m), signal(squares, sum, m))
            };
            if count < 3 { vec![f64::NAN; count] } else { squared_norms.iter().zip(with_mean).map(one).collect() }
        };
        let (t, s) = (trace(squares, sum, n), signal(squares, sum, n));
        Noise {
            examples: count,
            mean_gradient_squared_norm: sum / (n * n),
            trace_covariance: jackknife(t, &without(|t, _| t)),
            gradient_squared_norm: jackknife(s, &without(|_, s| s)),
            noise_scale: jackknife(t / s, &without(|t, s| t / s)),
        }
    }
}

/// ‖g_i - ḡ‖² n / (n - 1) of each example, whose mean is Tr Σ; from ‖g_i‖², g_i · ḡ and ‖ḡ‖².
pub fn deviations(squared_norms: &[f64], with_mean: &[f64], mean_square: f64) -> Vec<f64> {
    let n = squared_norms.len() as f64;
    let scale = n / (n - 1.0);
    let one = |(own, dot): (&f64, &f64)| scale * (own - 2.0 * dot + mean_square);
    squared_norms.iter().zip(with_mean).map(one).collect()
}

/// Tr Σ = Σ ‖g_i - ḡ‖² / (n - 1), from ‖g_i‖² and ‖ḡ‖².
pub fn covariance_trace(squared_norms: &[f64], mean_square: f64) -> f64 {
    let n = squared_norms.len() as f64;
    (squared_norms.iter().sum::<f64>() - n * mean_square) / (n - 1.0)
}

impl Gram {
    /// Row by row.
    pub fn new(n: usize, numbers: Vec<f64>) -> Result<Gram, CurvatureError> {
        if n < 2 || numbers.len() != n * n {
            return Err(CurvatureError::Request(format!(
                "gradient noise needs the gradients of at least 2 examples; got {n} and {} inner products",
                numbers.len()
            )));
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

/// Tr(Σ A) / (‖Σ‖_F ‖A‖_F), 1 where noise and curvature are proportional. `forms` are (g_i - ḡ)ᵀ A (g_i - ḡ), whose sum over
/// n - 1 is Tr(Σ A); the squared norms are of Σ and A.
pub fn alignment(forms: &[f64], covariance_squared_norm: f64, squared_norm: f64) -> f64 {
    let trace = forms.iter().sum::<f64>() / (forms.len() as f64 - 1.0);
    trace / (covariance_squared_norm * squared_norm).sqrt()
}

/// a / b of independent estimates, by the delta method.
pub fn ratio_independent(a: Estimate, b: Estimate) -> Estimate {
    let value = a.value / b.value;
    let parts = (a.standard_error / b.value).hypot(value * b.standard_error / b.value);
    Estimate { value, standard_error: parts, samples: a.samples.min(b.samples) }
}

/// Σ a / Σ b of values an example that were measured on the same examples (‖g_i‖² and Tr F_i, say), by the jackknife, which
/// takes their correlation into account.
pub fn ratio_paired(a: &[f64], b: &[f64]) -> Estimate {
    let (above, below): (f64, f64) = (a.iter().sum(), b.iter().sum());
    let left_out: Vec<f64> = a.iter().zip(b).map(|(x, y)| (above - x) / (below - y)).collect();
    jackknife(above / below, &left_out)
}
