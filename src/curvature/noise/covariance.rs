//! The covariance Σ of per-example gradients from scalars of each example: no vector of the model's size. The noise
//! scale Tr Σ / ‖G‖² has unbiased parts: Tr Σ, and ‖ḡ‖² - Tr Σ / n for the population's ‖E g‖² (McCandlish et al. 2018,
//! arXiv 1812.06162).

use serde::Serialize;

use crate::statistics::Estimate;

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
    /// From ‖g_i‖² and g_i · ḡ of each example, for more examples than a Gram matrix should have. Errors need 3
    /// examples.
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

/// Tr(Σ A) / (‖Σ‖_F ‖A‖_F), 1 where noise and curvature are proportional. `forms` are (g_i - ḡ)ᵀ A (g_i - ḡ), whose sum
/// over n - 1 is Tr(Σ A); the squared norms are of Σ and A.
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

/// Σ a / Σ b of values an example that were measured on the same examples (‖g_i‖² and Tr F_i, say), by the jackknife,
/// which takes their correlation into account.
pub fn ratio_paired(a: &[f64], b: &[f64]) -> Estimate {
    let (above, below): (f64, f64) = (a.iter().sum(), b.iter().sum());
    let left_out: Vec<f64> = a.iter().zip(b).map(|(x, y)| (above - x) / (below - y)).collect();
    jackknife(above / below, &left_out)
}
