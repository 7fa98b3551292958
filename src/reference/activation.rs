//! Twin of `shaders/activation.wgsl`: each function with its first and second derivative.

use crate::ops::Activation;

/// Φ(x), the standard normal distribution function.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// φ(x), its density.
pub fn normal_pdf(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Cubic share in the argument of tanh.
const CUBIC: f64 = 0.044715;

/// tanh u and the first two derivatives of u = √(2/π) (x + 0.044715 x³).
fn tanh_parts(x: f64) -> (f64, f64, f64) {
    let c = (2.0 / std::f64::consts::PI).sqrt();
    let u = c * (x + CUBIC * x * x * x);
    (u.tanh(), c * (1.0 + 3.0 * CUBIC * x * x), c * 6.0 * CUBIC * x)
}

/// σ(x), the logistic function.
pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// f(x).
pub fn forward(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Gelu => x * normal_cdf(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + tanh_parts(x).0),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x * logistic(x),
    }
}

/// f'(x).
pub fn slope(f: Activation, x: f64) -> f64 {
    match f {
        // Φ + x φ
        Activation::Gelu => normal_cdf(x) + x * normal_pdf(x),
        Activation::GeluTanh => {
            let (t, u1, _) = tanh_parts(x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * u1
        }
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::Silu => {
            let s = logistic(x);
            s + x * s * (1.0 - s)
        }
    }
}

/// f''(x); 0 at ReLU's kink.
pub fn bend(f: Activation, x: f64) -> f64 {
    match f {
        // φ (2 - x²)
        Activation::Gelu => normal_pdf(x) * (2.0 - x * x),
        Activation::GeluTanh => {
            let (t, u1, u2) = tanh_parts(x);
            (1.0 - t * t) * (u1 + 0.5 * x * (u2 - 2.0 * t * u1 * u1))
        }
        Activation::Relu => 0.0,
        Activation::Silu => {
            let s = logistic(x);
            s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))
        }
    }
}
