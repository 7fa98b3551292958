//! Twin of `shaders/gelu.wgsl`.

/// Φ(x), the standard normal distribution function.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// φ(x), its density.
pub fn normal_pdf(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// x Φ(x).
pub fn forward(x: f64) -> f64 {
    x * normal_cdf(x)
}

/// gelu'(x) = Φ(x) + x φ(x).
pub fn slope(x: f64) -> f64 {
    normal_cdf(x) + x * normal_pdf(x)
}

/// gelu''(x) = φ(x) (2 - x²).
pub fn bend(x: f64) -> f64 {
    normal_pdf(x) * (2.0 - x * x)
}
