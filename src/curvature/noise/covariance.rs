//! The covariance Σ of gradients, an example's or a predicted token's, from scalars of each example: no vector of the
//! model's size. The noise scale Tr Σ / ‖G‖² has unbiased parts: Tr Σ, and ‖ḡ‖² - Tr Σ / n for the population's ‖E g‖²
//! (McCandlish et al. 2018, arXiv 1812.06162).

use serde::Serialize;

use crate::statistics::Estimate;

/// What is known of the gradients that one example gives: its own, or one for each of its predicted tokens. Those of
/// one example may hang together; examples are independent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cluster {
    /// m, the gradients.
    pub gradients: usize,
    /// Σ ‖g‖² over them.
    pub squares: f64,
    /// ‖Σ g‖².
    pub square_of_sum: f64,
    /// ⟨Σ g, ḡ⟩ with ḡ the mean over all gradients of all clusters.
    pub slope: f64,
}

impl Cluster {
    /// One gradient: ‖g‖² and ⟨g, ḡ⟩.
    pub fn single(square: f64, slope: f64) -> Cluster {
        Cluster { gradients: 1, squares: square, square_of_sum: square, slope }
    }

    /// Σ ‖g - ḡ‖² over them, from ‖ḡ‖².
    fn deviation(&self, mean_square: f64) -> f64 {
        self.squares - 2.0 * self.slope + self.gradients as f64 * mean_square
    }
}

/// Statistics of the noise.
#[derive(Clone, Debug, Serialize)]
pub struct Noise {
    /// n, the gradients that it is of.
    pub gradients: usize,
    /// ‖ḡ‖² as it is.
    pub mean_gradient_squared_norm: f64,
    /// Tr Σ, with its jackknife error over examples.
    pub trace_covariance: Estimate,
    /// ‖E g‖² from pairs of gradients of different examples: with one of each, ‖ḡ‖² - Tr Σ / n. Without bias and
    /// therefore at times negative near an optimum.
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

/// Sums over clusters.
#[derive(Clone, Copy)]
struct Sums {
    gradients: f64,
    /// Σ m².
    gradients_squared: f64,
    /// Σ ‖g‖² over all gradients.
    squares: f64,
    /// Σ ‖Σ g‖², an example each.
    squares_of_sums: f64,
    /// ‖Σ g‖² over all.
    square_of_sum: f64,
}

impl Sums {
    fn of(clusters: &[Cluster]) -> Sums {
        let sum = |f: fn(&Cluster) -> f64| clusters.iter().map(f).sum::<f64>();
        let gradients = sum(|c| c.gradients as f64);
        Sums {
            gradients,
            gradients_squared: sum(|c| (c.gradients * c.gradients) as f64),
            squares: sum(|c| c.squares),
            squares_of_sums: sum(|c| c.square_of_sum),
            square_of_sum: gradients * sum(|c| c.slope),
        }
    }

    /// Without one of them, whose slope is along the mean of all.
    fn without(&self, c: &Cluster) -> Sums {
        let m = c.gradients as f64;
        Sums {
            gradients: self.gradients - m,
            gradients_squared: self.gradients_squared - m * m,
            squares: self.squares - c.squares,
            squares_of_sums: self.squares_of_sums - c.square_of_sum,
            square_of_sum: self.square_of_sum - 2.0 * self.gradients * c.slope + c.square_of_sum,
        }
    }

    /// Tr Σ = Σ ‖g - ḡ‖² / (n - 1).
    fn trace(&self) -> f64 {
        (self.squares - self.square_of_sum / self.gradients) / (self.gradients - 1.0)
    }

    /// The mean of g · g' over pairs from different clusters.
    fn signal(&self) -> f64 {
        (self.square_of_sum - self.squares_of_sums) / (self.gradients * self.gradients - self.gradients_squared)
    }
}

impl Noise {
    /// From ‖g_i‖² and g_i · ḡ of each example, for more examples than a Gram matrix should have. Errors need 3
    /// examples.
    pub fn of(squared_norms: &[f64], with_mean: &[f64]) -> Noise {
        let single = |(square, slope): (&f64, &f64)| Cluster::single(*square, *slope);
        Noise::of_clusters(&squared_norms.iter().zip(with_mean).map(single).collect::<Vec<_>>())
    }

    /// From the gradients of examples that give several each. Errors are those of leaving out an example with all its
    /// gradients, and need 3 examples; Tr Σ divides by the number of gradients less 1 all the same (where those of an
    /// example hang together its bias is some share of 1 / examples).
    pub fn of_clusters(clusters: &[Cluster]) -> Noise {
        let all = Sums::of(clusters);
        let jackknife_of = |of: fn(&Sums) -> f64| {
            let left_out = match clusters.len() < 3 {
                true => vec![f64::NAN; clusters.len()],
                false => clusters.iter().map(|c| of(&all.without(c))).collect(),
            };
            jackknife(of(&all), &left_out)
        };
        Noise {
            gradients: all.gradients as usize,
            mean_gradient_squared_norm: all.square_of_sum / (all.gradients * all.gradients),
            trace_covariance: jackknife_of(Sums::trace),
            gradient_squared_norm: jackknife_of(Sums::signal),
            noise_scale: jackknife_of(|sums| sums.trace() / sums.signal()),
        }
    }
}

/// Σ ‖g - ḡ‖² n / (n - 1) of each example's gradients, n of all examples, whose sum over n is Tr Σ; from ‖ḡ‖².
pub fn cluster_deviations(clusters: &[Cluster], mean_square: f64) -> Vec<f64> {
    let n = clusters.iter().map(|c| c.gradients).sum::<usize>() as f64;
    let scale = n / (n - 1.0);
    clusters.iter().map(|c| scale * c.deviation(mean_square)).collect()
}

/// ‖g_i - ḡ‖² n / (n - 1) of each example, whose mean is Tr Σ; from ‖g_i‖², g_i · ḡ and ‖ḡ‖².
pub fn deviations(squared_norms: &[f64], with_mean: &[f64], mean_square: f64) -> Vec<f64> {
    let single = |(square, slope): (&f64, &f64)| Cluster::single(*square, *slope);
    cluster_deviations(&squared_norms.iter().zip(with_mean).map(single).collect::<Vec<_>>(), mean_square)
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
