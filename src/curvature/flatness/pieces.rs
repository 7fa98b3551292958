//! What the trace is in another gauge, by its law: of the squared gradients that were sampled, each times what its
//! piece's scale makes of it. One measurement tells of all gauges, each with its own standard error.

use super::LeastTrace;
use super::balance::Least;
use super::samples::Samples;
use crate::model::{Gauge, Rescaling};
use crate::statistics::Estimate;

/// The traces of all pieces of a model, as they were sampled.
#[derive(Clone, Debug)]
pub struct PieceTraces {
    samples: Samples,
    traces: Vec<f64>,
}

/// The least trace, and where it is.
#[derive(Clone, Debug)]
pub struct LeastGauge {
    /// What the trace is there.
    pub least: LeastTrace,
    /// The factor of each gauge; 1 of those that are held.
    pub factors: Vec<f64>,
    /// Names of the gauges that are held, since one of their sides has no trace.
    pub held: Vec<String>,
}

impl PieceTraces {
    /// The first columns of the samples are the traces of so many pieces.
    pub(super) fn new(samples: Samples, pieces: usize) -> PieceTraces {
        let traces = (0..pieces).map(|i| samples.combined(&[(i, 1.0)]).value).collect();
        PieceTraces { samples, traces }
    }

    /// T_p of each piece.
    pub(super) fn values(&self) -> &[f64] {
        &self.traces
    }

    /// The trace of the model with its pieces multiplied: Σ T_p / c_p².
    pub fn under(&self, rescaling: &Rescaling) -> Estimate {
        self.combined(&rescaling.on_traces())
    }

    /// The least trace over some gauges, starting from a model whose pieces are multiplied already.
    pub fn least(&self, from: &Rescaling, gauges: &[Gauge]) -> LeastGauge {
        let scales = from.on_traces();
        let traces: Vec<f64> = self.traces.iter().zip(&scales).map(|(t, c)| t * c).collect();
        let Least { factors, logs, slopes, held } = Least::of(&traces, &gauges.iter().collect::<Vec<_>>());
        let of = |c: &[f64]| self.combined(&c.iter().zip(&scales).map(|(c, s)| c * s).collect::<Vec<_>>());
        let variance: f64 = slopes.iter().map(|y| of(y).standard_error.powi(2)).sum();
        let least = LeastTrace { trace: of(&factors), bias: 0.0 - 0.5 * variance };
        LeastGauge { least, factors: logs.into_iter().map(f64::exp).collect(), held }
    }

    fn combined(&self, coefficients: &[f64]) -> Estimate {
        self.samples.combined(&coefficients.iter().copied().enumerate().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GaugeKind;
    use crate::ops::LossDraw;
    use crate::statistics::Target;

    /// One piece against another; a third is not moved.
    fn gauge() -> Gauge {
        Gauge { kind: GaugeKind::Tables, layer: None, powers: vec![1, -1, 0] }
    }

    fn of(examples: &[[f64; 3]]) -> PieceTraces {
        let mut samples = Samples::new(3, 0, LossDraw::Signs, Target::Population);
        examples.iter().for_each(|own| samples.push(1, own.iter().map(|t| vec![*t]).collect(), &[]));
        PieceTraces::new(samples, 3)
    }

    #[test]
    fn the_law_and_its_least() {
        let traces = of(&[[3.0, 1.0, 5.0], [5.0, 3.0, 7.0]]);
        let own = Rescaling::none(3);
        for a in [0.25, 1.0, 3.0] {
            let there = traces.under(&own.clone().and(&gauge(), a));
            assert!((there.value - (4.0 / (a * a) + 2.0 * a * a + 6.0)).abs() < 1e-12, "{a}");
            // Of two examples whose sums differ by 2 / a² + 2 a² + 2 the mean has half of that.
            assert!((there.standard_error - (1.0 / (a * a) + a * a + 1.0)).abs() < 1e-12, "{a}");
            // From wherever one starts the least is the same, and the factors lead there.
            let least = traces.least(&own.clone().and(&gauge(), a), &[gauge()]);
            assert!((least.least.trace.value - (2.0 * 8f64.sqrt() + 6.0)).abs() < 1e-12, "{a}");
            assert!(((least.factors[0] * a).powi(4) - 2.0).abs() < 1e-9, "{a}");
        }
    }

    /// Every sample of 8 examples whose trace on one side is 1.3 or 0.7 with equal chances, 1 on the other: the least
    /// is 2 √A, of the truth 2, and in the mean over all samples less. The stated bias says by how much in the mean.
    #[test]
    fn the_stated_bias_is_what_the_least_is_off_in_the_mean_over_all_samples() {
        let (n, spread) = (8, 0.3);
        let [mut off, mut stated] = [0.0; 2];
        for signs in 0..1_u32 << n {
            let example = |i: u32| [1.0 + if signs >> i & 1 == 1 { spread } else { -spread }, 1.0, 0.0];
            let traces = of(&(0..n).map(example).collect::<Vec<_>>());
            let least = traces.least(&Rescaling::none(3), &[gauge()]).least;
            off += least.trace.value - 2.0;
            stated += least.bias;
        }
        let share = stated / off;
        assert!(off < 0.0 && (share - 1.0).abs() < 0.05, "stated {share} times what it is");
    }
}
