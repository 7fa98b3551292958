//! Twin of `shaders/activation.wgsl`: each function and its derivative. Second derivatives come from jets.

use super::jet::{self, Jet, Real};
use super::{Inputs, Twin, no_twin, sums_of_four};
use crate::ops::{Activation, Rule};

/// Φ(x), the standard normal distribution function.
pub fn normal_cdf<R: Real>(x: R) -> R {
    R::from(0.5) * (-x * R::from(std::f64::consts::FRAC_1_SQRT_2)).erfc()
}

/// φ(x), its density.
pub fn normal_pdf<R: Real>(x: R) -> R {
    (R::from(-0.5) * x * x).exp() / R::from((2.0 * std::f64::consts::PI).sqrt())
}

/// Cubic share in the argument of tanh.
const CUBIC: f64 = 0.044715;

/// tanh u and the derivative of u = √(2/π) (x + 0.044715 x³).
fn tanh_parts<R: Real>(x: R) -> (R, R) {
    let c = R::from((2.0 / std::f64::consts::PI).sqrt());
    let u = c * (x + R::from(CUBIC) * x * x * x);
    (u.tanh(), c * (R::from(1.0) + R::from(3.0 * CUBIC) * x * x))
}

/// σ(x), the logistic function, by the exponential that does not overflow: its derivatives would be no numbers.
pub fn logistic<R: Real>(x: R) -> R {
    let one = R::from(1.0);
    if x.value() < 0.0 { x.exp() / (one + x.exp()) } else { one / (one + (-x).exp()) }
}

/// f(x).
pub fn forward<R: Real>(f: Activation, x: R) -> R {
    match f {
        Activation::Gelu => x * normal_cdf(x),
        Activation::GeluTanh => R::from(0.5) * x * (R::from(1.0) + tanh_parts(x).0),
        Activation::Relu => R::from(0.0).max(x),
        Activation::Silu => x * logistic(x),
        Activation::Tanh => x.tanh(),
    }
}

/// f'(x).
pub fn slope<R: Real>(f: Activation, x: R) -> R {
    let one = R::from(1.0);
    match f {
        // Φ + x φ
        Activation::Gelu => normal_cdf(x) + x * normal_pdf(x),
        Activation::GeluTanh => {
            let (t, u1) = tanh_parts(x);
            R::from(0.5) * (one + t) + R::from(0.5) * x * (one - t * t) * u1
        }
        Activation::Relu => R::from(f64::from(u8::from(x.value() > 0.0))),
        Activation::Silu => {
            let s = logistic(x);
            s + x * s * (one - s)
        }
        Activation::Tanh => one - x.tanh() * x.tanh(),
    }
}

/// f'(x) ȳ.
pub fn vjp<R: Real>(f: Activation, x: &[R], y_bar: &[R]) -> Vec<R> {
    x.iter().zip(y_bar).map(|(x, g)| slope(f, *x) * *g).collect()
}

/// f(x) along ẋ.
fn along(f: Activation, x: &[f64], x_dot: &[f64]) -> Vec<Jet> {
    jet::moving(x, x_dot).into_iter().map(|x| forward(f, x)).collect()
}

impl Twin for Activation {
    /// Forward, Slope: x. Vjp: (x, ȳ). VjpJvp: (x, ȳ, ẋ, ȳ̇). Second: (x, ȳ, ẋ), every four columns added up.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (f, x) = (*self, inputs.of(0));
        vec![match rule {
            Rule::Forward => x.iter().map(|x| forward(f, *x)).collect(),
            Rule::Slope => x.iter().map(|x| slope(f, *x)).collect(),
            Rule::Vjp(_) => vjp(f, x, inputs.of(1)),
            Rule::VjpJvp(_) => jet::firsts(&vjp(f, &inputs.moving(0, 2), &inputs.moving(1, 3))),
            Rule::Second => {
                let terms = along(f, x, inputs.of(2)).into_iter().zip(inputs.of(1)).map(|(y, g)| g * y.second);
                sums_of_four(&terms.collect::<Vec<f64>>(), inputs.cols(0))
            }
            _ => no_twin(inputs),
        }]
    }
}
