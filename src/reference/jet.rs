//! Numbers that carry their first and second derivative along one direction, and what the twins ask of a number.
//!
//! A twin is written once, over [`Real`]. Run on f64 it gives values; run on [`Jet`]s it gives their derivatives too.
//! So the oracle of a tangent or second-order rule is the forward or reverse rule itself, and no formula is derived
//! twice.
//!
//! ```
//! use lowland::reference::jet::{Jet, Real};
//!
//! // x³ at x = 2, moving by 1: 8, 12, 12.
//! let x = Jet::along(2.0, 1.0);
//! assert_eq!(x * x * x, Jet { value: 8.0, first: 12.0, second: 12.0 });
//! assert_eq!(x.exp().second, 2.0f64.exp());
//! ```

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// What the twins are computed in.
pub trait Real:
    Copy
    + From<f64>
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Sum
{
    /// The number without its derivatives, by which comparisons are made.
    fn value(self) -> f64;
    /// eˣ.
    fn exp(self) -> Self;
    /// log x.
    fn ln(self) -> Self;
    /// √x.
    fn sqrt(self) -> Self;
    /// tanh x.
    fn tanh(self) -> Self;
    /// 1 − erf x.
    fn erfc(self) -> Self;

    /// The larger of two numbers, `self` where they are equal.
    fn max(self, other: Self) -> Self {
        if other.value() > self.value() { other } else { self }
    }
}

impl Real for f64 {
    fn value(self) -> f64 {
        self
    }

    fn exp(self) -> f64 {
        self.exp()
    }

    fn ln(self) -> f64 {
        self.ln()
    }

    fn sqrt(self) -> f64 {
        self.sqrt()
    }

    fn tanh(self) -> f64 {
        self.tanh()
    }

    fn erfc(self) -> f64 {
        libm::erfc(self)
    }
}

/// x(0), x'(0) and x''(0) of a number that moves with t.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Jet {
    /// x(0).
    pub value: f64,
    /// x'(0).
    pub first: f64,
    /// x''(0).
    pub second: f64,
}

impl Jet {
    /// x + t ẋ.
    pub fn along(value: f64, first: f64) -> Jet {
        Jet { value, first, second: 0.0 }
    }

    /// f of this number, given f, f' and f'' at its value.
    fn through(self, f: f64, f1: f64, f2: f64) -> Jet {
        Jet { value: f, first: f1 * self.first, second: f2 * self.first * self.first + f1 * self.second }
    }
}

impl From<f64> for Jet {
    fn from(value: f64) -> Jet {
        Jet { value, first: 0.0, second: 0.0 }
    }
}

impl Add for Jet {
    type Output = Jet;
    fn add(self, b: Jet) -> Jet {
        Jet { value: self.value + b.value, first: self.first + b.first, second: self.second + b.second }
    }
}

impl AddAssign for Jet {
    fn add_assign(&mut self, b: Jet) {
        *self = *self + b;
    }
}

impl Neg for Jet {
    type Output = Jet;
    fn neg(self) -> Jet {
        Jet { value: -self.value, first: -self.first, second: -self.second }
    }
}

impl Sub for Jet {
    type Output = Jet;
    fn sub(self, b: Jet) -> Jet {
        self + -b
    }
}

impl Mul for Jet {
    type Output = Jet;
    fn mul(self, b: Jet) -> Jet {
        Jet {
            value: self.value * b.value,
            first: self.first * b.value + self.value * b.first,
            second: self.second * b.value + 2.0 * self.first * b.first + self.value * b.second,
        }
    }
}

impl Div for Jet {
    type Output = Jet;
    /// q from q b = a: the derivatives of both sides are equal.
    fn div(self, b: Jet) -> Jet {
        let value = self.value / b.value;
        let first = (self.first - value * b.first) / b.value;
        let second = (self.second - 2.0 * first * b.first - value * b.second) / b.value;
        Jet { value, first, second }
    }
}

impl Sum for Jet {
    fn sum<I: Iterator<Item = Jet>>(numbers: I) -> Jet {
        numbers.fold(Jet::default(), Add::add)
    }
}

impl Real for Jet {
    fn value(self) -> f64 {
        self.value
    }

    fn exp(self) -> Jet {
        let e = self.value.exp();
        self.through(e, e, e)
    }

    fn ln(self) -> Jet {
        let x = self.value;
        self.through(x.ln(), 1.0 / x, -1.0 / (x * x))
    }

    fn sqrt(self) -> Jet {
        let root = self.value.sqrt();
        self.through(root, 0.5 / root, -0.25 / (root * self.value))
    }

    fn tanh(self) -> Jet {
        let t = self.value.tanh();
        let slope = 1.0 - t * t;
        self.through(t, slope, -2.0 * t * slope)
    }

    fn erfc(self) -> Jet {
        let x = self.value;
        let slope = -std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
        self.through(libm::erfc(x), slope, -2.0 * x * slope)
    }
}

/// The numbers x + t ẋ.
pub fn moving(x: &[f64], x_dot: &[f64]) -> Vec<Jet> {
    assert_eq!(x.len(), x_dot.len(), "a tangent for each number");
    x.iter().zip(x_dot).map(|(x, d)| Jet::along(*x, *d)).collect()
}

/// The first derivatives.
pub fn firsts(x: &[Jet]) -> Vec<f64> {
    x.iter().map(|x| x.first).collect()
}

#[cfg(test)]
mod tests {
    use super::{Jet, Real};

    /// Step of the differences; two of them are extrapolated to an error of O(h⁴).
    const H: f64 = 1e-3;

    /// The differences err by h⁴ times a fifth or sixth derivative, and by rounding over h²: 1e-10 of numbers near 1.
    const BOUND: f64 = 2e-9;

    /// A function of one number on f64 and on jets.
    type Both = (&'static str, fn(f64) -> f64, fn(Jet) -> Jet);

    /// One body for both kinds of numbers.
    macro_rules! functions {
        ($($name:literal: |$x:ident| $body:expr;)*) => {
            [$({
                fn f<R: Real>($x: R) -> R {
                    $body
                }
                let both: Both = ($name, f::<f64>, f::<Jet>);
                both
            }),*]
        };
    }

    #[test]
    fn every_function_of_a_jet_has_the_derivatives_of_its_differences() {
        let functions = functions! {
            "x + x": |x| x + x + R::from(0.3);
            "x - 1": |x| R::from(0.7) - x;
            "x x": |x| x * x * x;
            "1 / x": |x| R::from(1.3) / x;
            "x / (1 + x x)": |x| x / (R::from(1.0) + x * x);
            "-x": |x| -x;
            "+=": |x| { let mut y = x * x; y += x; y };
            "sum": |x| [x, x * x, R::from(2.0)].into_iter().sum();
            "exp": |x| x.exp();
            "ln": |x| x.ln();
            "sqrt": |x| x.sqrt();
            "tanh": |x| x.tanh();
            "erfc": |x| x.erfc();
            "max": |x| x.max(x * x) * x;
            "all at once": |x| ((x.tanh() * x.erfc()).exp() + x.sqrt()).ln() / x;
        };
        // The number goes along a curve, whose second derivative a function of a function meets.
        for (at, slope, second) in [(0.6, 1.0, 0.0), (1.7, -0.8, 0.5), (0.9, 0.4, -1.1)] {
            let curve = |t: f64| at + slope * t + 0.5 * second * t * t;
            for (name, plain, jets) in functions {
                let got = jets(Jet { value: at, first: slope, second });
                let f = |t: f64| plain(curve(t));
                let once = |h: f64| (f(h) - f(-h)) / (2.0 * h);
                let twice = |h: f64| (f(h) - 2.0 * f(0.0) + f(-h)) / (h * h);
                let extrapolated = |d: &dyn Fn(f64) -> f64| (4.0 * d(H) - d(2.0 * H)) / 3.0;
                for (what, got, want) in [
                    ("value", got.value, f(0.0)),
                    ("first", got.first, extrapolated(&once)),
                    ("second", got.second, extrapolated(&twice)),
                ] {
                    assert!(
                        (got - want).abs() < BOUND * want.abs().max(1.0),
                        "{name} at {at}: {what} {got}, not {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_larger_of_two_jets_is_the_larger_value_and_the_first_of_equals() {
        let (a, b) = (Jet::along(1.0, 5.0), Jet::along(2.0, -3.0));
        assert_eq!((Real::max(a, b), Real::max(b, a)), (b, b));
        assert_eq!(Real::max(a, Jet::from(1.0)), a);
        assert_eq!(Real::max(Jet::from(f64::NEG_INFINITY), a), a);
    }
}
