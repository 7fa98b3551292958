//! Several tests at once, and what a test could have seen.

use super::student::{normal_below, student_below, student_quantile};

/// Probabilities of a family of tests, each raised so that all together err with at most the level (Holm 1979).
///
/// ```
/// use lowland::statistics::holm;
/// assert_eq!(holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
/// ```
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut raised, mut largest) = (vec![f64::NAN; p.len()], 0.0f64);
    for (place, i) in order.into_iter().enumerate() {
        largest = largest.max((p[i] * (p.len() - place) as f64).min(1.0));
        raised[i] = largest;
    }
    raised
}

/// The probability with which a two-sided test at `level` sees a true effect, whose estimate has this standard error
/// with so many degrees of freedom (infinite: the normal law).
pub fn power(effect: f64, standard_error: f64, df: f64, level: f64) -> f64 {
    let critical = student_quantile(1.0 - level / 2.0, df);
    let t = effect.abs() / standard_error;
    student_below(t - critical, df) + student_below(-t - critical, df)
}

/// The same of two one-sided tests within ± `bound`, where there is no effect.
pub fn power_of_equivalence(bound: f64, standard_error: f64, df: f64, level: f64) -> f64 {
    let critical = student_quantile(1.0 - level, df);
    (2.0 * student_below(bound / standard_error - critical, df) - 1.0).max(0.0)
}

/// The same of a rank correlation over `n` independent runs with `given` covariates: Fisher's z with the variance (1 +
/// ρ² / 2) / (n - 3 - given) (Bonett and Wright 2000).
///
/// ```
/// use lowland::statistics::power_of_correlation;
/// // With one covariate 33 runs see a true 0.5 in four cases of five, 199 a true 0.2.
/// assert!((power_of_correlation(0.5, 33, 1, 0.05) - 0.8).abs() < 0.01);
/// assert!((power_of_correlation(0.2, 199, 1, 0.05) - 0.8).abs() < 0.01);
/// ```
pub fn power_of_correlation(rho: f64, n: usize, given: usize, level: f64) -> f64 {
    let left = n as f64 - 3.0 - given as f64;
    if left <= 0.0 {
        return 0.0;
    }
    let critical = student_quantile(1.0 - level / 2.0, f64::INFINITY);
    let z = libm::atanh(rho.abs()) / ((1.0 + rho * rho / 2.0) / left).sqrt();
    normal_below(z - critical) + normal_below(-z - critical)
}

/// The least effect that the test sees with probability 0.8.
pub fn detectable(standard_error: f64, df: f64, level: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e3 * standard_error);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        match power(middle, standard_error, df, level) < 0.8 {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}
