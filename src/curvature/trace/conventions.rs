//! The trace of one function in several parametrisations, from one measurement by tensor: the model's own, the two in
//! which a small model is embedded in a larger architecture, and the flattest of those between
//! ([`Law`](crate::model::Law)).

use super::{Drawing, Stopping};
use crate::curvature::{CurvatureError, Observe, Refusal, Subject};
use crate::model::{Law, Shares, Unlawful};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};

/// Fisher traces of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Conventions {
    /// Over the model's own parameters.
    pub own: Estimate,
    /// Tables as they are, the norm before a tied head divided by r.
    pub duplicate: Estimate,
    /// Tables divided by r.
    pub paper: Estimate,
    /// Tables times the s of the least trace, or why none is the least.
    pub balanced: Result<Balanced, Unlawful>,
}

/// The least trace over all scales of the tables, 2 √(E G) + R.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balanced {
    /// The error is the delta method's, with the covariance of E, G and R over the examples.
    pub trace: Estimate,
    /// What the square root of two estimates adds in the mean, to second order: -√(E G) / 4 times the variance of E' /
    /// E - G' / G. It is not taken off `trace`.
    pub bias: f64,
    /// Factor on the tables.
    pub scale: f64,
}

/// What is drawn, and for what the errors are.
#[derive(Clone, Copy, Debug)]
pub struct ConventionsOptions {
    /// How labels or signs are drawn.
    pub kind: LossDraw,
    /// Of the draws.
    pub seed: u64,
    /// Draws for each sentence; two or more tell the parts of the error apart.
    pub draws: usize,
    /// Whether the sentences are all there is, or a sample.
    pub target: Target,
}

impl Conventions {
    /// Measures a small model by tensor. Every parameter must take part.
    ///
    /// # Errors
    /// What a trace by drawn labels or signs can end with; an interrupt.
    pub fn measure(
        subject: &Subject,
        law: &Law,
        what: &ConventionsOptions,
        observe: Observe<'_>,
    ) -> Result<Conventions, CurvatureError> {
        let left_out = subject.vectors().left_out();
        if let Some(name) = left_out.first() {
            return Err(Refusal::LeftOut { name: name.to_string() }.into());
        }
        let own = vec![1.0; subject.encoder().parameters.len()];
        let sums = law.factors().into_iter().chain([own]);
        let mut drawing = Drawing::new(subject, what.kind, what.seed, what.draws)?.keeping(sums);
        let drawn = drawing.run(subject, what.target, &Stopping::after(usize::MAX), observe)?;
        if drawn.trace.interrupted {
            return Err(CurvatureError::Interrupted);
        }
        let of =
            |tables: f64, norm: f64, rest: f64, own: f64| drawing.combined(&[tables, norm, rest, own], what.target);
        let at = |s: f64| of(1.0 / (s * s), s * s, 1.0, 0.0);
        let value = |e: Estimate| e.value;
        let shares = Shares {
            tables: value(of(1.0, 0.0, 0.0, 0.0)),
            norm: value(of(0.0, 1.0, 0.0, 0.0)),
            rest: value(of(0.0, 0.0, 1.0, 0.0)),
        };
        let balanced = law.flattest(&shares).map(|scale| {
            // Where the trace is least its slope along s is 0: the error is that of the trace at this s, held fixed.
            let between = of(1.0 / shares.tables, -1.0 / shares.norm, 0.0, 0.0).standard_error;
            Balanced { trace: at(scale), bias: bias_of_root(shares.tables, shares.norm, between), scale }
        });
        Ok(Conventions { own: of(0.0, 0.0, 0.0, 1.0), duplicate: at(1.0), paper: at(1.0 / law.width()), balanced })
    }
}

/// What 2 √(E G) of two estimates is off in the mean, to second order; `between` is the standard error of E' / E - G' /
/// G.
fn bias_of_root(tables: f64, norm: f64, between: f64) -> f64 {
    -(tables * norm).sqrt() / 4.0 * between * between
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn the_bias_of_a_root_is_that_of_many_draws() {
        let (tables, norm) = (40.0, 0.2);
        for (own, shared) in [(0.2, 0.0), (0.1, 0.15), (0.0, 0.2)] {
            let mut random = Stream::new(1, Purpose::Test, 0);
            let draws: Vec<f64> = (0..200_000)
                .map(|_| {
                    let common = shared * random.normal();
                    let [e, g] = [tables, norm].map(|value| value * (1.0 + common + own * random.normal()));
                    2.0 * (e * g).max(0.0).sqrt()
                })
                .collect();
            let mean = Estimate::of_mean(&draws);
            let wanted = 2.0 * (tables * norm).sqrt() + bias_of_root(tables, norm, own * 2f64.sqrt());
            // Terms of fourth order: a tenth of the second-order one at these errors.
            let beyond = 0.1 * bias_of_root(tables, norm, own * 2f64.sqrt()).abs();
            let error = (mean.value - wanted).abs();
            assert!(error < 4.0 * mean.standard_error + beyond, "{own} {shared}: {mean} and {wanted}");
            assert!(own == 0.0 || 2.0 * (tables * norm).sqrt() - mean.value > 6.0 * mean.standard_error);
        }
    }
}
