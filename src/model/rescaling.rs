//! A model in another gauge: every piece times a power of the factors of the gauges that move it.
//!
//! With a factor a_k for each gauge k and M_pk its power for piece p the piece is multiplied by c_p = Π_k a_k^M_pk, and
//! its part of a trace of squared gradients is divided by c_p².

use super::encoder::Encoder;
use super::gauges::Gauge;
use super::parameters::Weights;

/// Factors on the pieces of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rescaling {
    factors: Vec<f64>,
}

impl Rescaling {
    /// Nothing is multiplied, of so many pieces.
    pub fn none(pieces: usize) -> Rescaling {
        Rescaling { factors: vec![1.0; pieces] }
    }

    /// The same, and a gauge moved by a factor above 0.
    pub fn and(mut self, gauge: &Gauge, factor: f64) -> Rescaling {
        assert_eq!(self.factors.len(), gauge.powers.len(), "a gauge of the same model");
        self.factors.iter_mut().zip(&gauge.powers).for_each(|(c, power)| *c *= factor.powi(*power));
        self
    }

    /// c_p of each piece.
    pub fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// What each piece's trace is multiplied by: 1 / c_p².
    pub fn on_traces(&self) -> Vec<f64> {
        self.factors.iter().map(|c| (c * c).recip()).collect()
    }

    /// Every number of a model times its factor, `[parameter][number]`, in double precision.
    pub fn numbers<'m>(&'m self, encoder: &'m Encoder, weights: &'m Weights) -> impl Iterator<Item = Vec<f64>> + 'm {
        let mut first = 0;
        weights.0.iter().enumerate().map(move |(parameter, values)| {
            let own = first;
            first += encoder.pieces_of(parameter).len();
            let one = |(i, w): (usize, &f32)| f64::from(*w) * self.factors[own + encoder.piece_of(parameter, i)];
            values.iter().enumerate().map(one).collect()
        })
    }

    /// The same in single precision: each number is rounded once, and where a factor is a power of two not at all.
    pub fn apply(&self, encoder: &Encoder, weights: &Weights) -> Weights {
        Weights(self.numbers(encoder, weights).map(|own| own.into_iter().map(|w| w as f32).collect()).collect())
    }
}
