//! A trace as it is asked for, and what follows from it: which estimator suits which matrix, and what does not go
//! together.

use super::Probing;
use crate::curvature::{CurvatureMatrix as M, Estimator as E, ProbeKind, Sampling};
use crate::ops::LossDraw;

/// Pairs of example and draw where nothing is said.
const PAIRS: u64 = 4096;
/// At most, where a relative error is wanted.
const MOST_PAIRS: u64 = 1 << 20;

/// What is asked of a trace; what is left out follows from the rest.
///
/// ```
/// use lowland::curvature::{CurvatureMatrix, Named, TraceRequest};
/// let plan = TraceRequest { matrix: Some(CurvatureMatrix::Fisher), ..TraceRequest::default() }.plan()?;
/// assert_eq!(plan.estimator.name(), "random-signs");
/// # Ok::<(), lowland::curvature::PlanError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceRequest {
    /// Default: random signs for the Fisher matrix, the data's labels for the empirical Fisher matrix and the noise
    /// covariance, else quadratic forms.
    pub estimator: Option<E>,
    /// Default: the Fisher matrix for estimators that draw, the empirical one for the data's labels, else the Hessian.
    pub matrix: Option<M>,
    /// Stop when standard error / |estimate| is at most this.
    pub rel_error: Option<f64>,
    /// At most this many pairs of example and draw, or probes; default 4096 pairs, 64 probes, 96 for Hutch++; with a
    /// relative error 2²⁰ pairs or 8192 probes.
    pub samples: Option<u64>,
    /// Do not stop before this many examples (draws; default 256, of a design its pilot of 512) or probes (default 16,
    /// Hutch++ 96, XTrace's smallest run 32).
    pub minimum: Option<usize>,
    /// Draws an example; default: 2 of a language, of given examples as many as `samples` allows.
    pub draws: Option<usize>,
    /// How a language's sentences are chosen.
    pub sentences: Sampling,
    /// Default: signs, for XTrace Gaussian.
    pub probe: Option<ProbeKind>,
    /// Of probes and draws.
    pub seed: u64,
}

/// A request made whole: its matrix and estimator go together.
#[derive(Clone, Debug, PartialEq)]
pub struct TracePlan {
    /// How the trace is estimated.
    pub estimator: E,
    /// Of which matrix.
    pub matrix: M,
    /// The rest, as it was asked for.
    pub request: TraceRequest,
}

/// Why a trace, or gradient noise, cannot be had as it was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// An estimator of other matrices.
    #[error("{estimator} does not estimate the trace of {matrix}")]
    Matrix {
        /// What was asked for.
        estimator: E,
        /// Of which it is none.
        matrix: M,
    },
    /// Draws, of an estimator without any.
    #[error("a number of draws belongs to estimators that draw labels or signs, not to {0}")]
    Draws(E),
    /// A design of sentences, of an estimator that does not draw.
    #[error("{sampling} sentences belong to estimators that draw labels or signs, not to {estimator}")]
    Sampling {
        /// The design.
        sampling: Sampling,
        /// Which it does not go with.
        estimator: E,
    },
    /// A number of samples, of an estimator that is exact given the examples.
    #[error("a number of samples has no meaning for {0}, which draws nothing")]
    Samples(E),
    /// A kind of probe vector, of an estimator without any.
    #[error("{0} has no probe vectors")]
    Probe(E),
    /// XTrace with signs.
    #[error("xtrace takes gaussian probes: its normalisation of what is left of them needs their symmetry")]
    XTraceSigns,
    /// A relative error that no estimate has.
    #[error("a relative error of {0}: it must be above 0 and below 1")]
    RelativeError(f64),
    /// XTrace over a sample of a population.
    #[error("xtrace has no data part of its error")]
    XTraceSample,
    /// Both samples and draws, where one follows from the other.
    #[error("every example is measured: samples and draws follow from each other")]
    SamplesAndDraws,
    /// A design over given examples, which have no frame.
    #[error("{0} sentences are drawn from a language, not from given examples")]
    SamplingOfExamples(Sampling),
    /// A design with one draw per sentence.
    #[error("{0} sentences need at least 2 draws each, which tell the error's parts apart")]
    FewDraws(Sampling),
    /// One sign of each example, which leaves the error of their part unknown.
    #[error("signs-and-residual needs at least 2 draws an example, which tell the error's parts apart")]
    OneSign,
    /// The covariance of one gradient.
    #[error("a noise covariance needs at least 2 examples")]
    OneDeviation,
    /// The noise of one gradient.
    #[error("gradient noise needs at least 2 examples")]
    OneGradient,
}

impl TraceRequest {
    /// Fills in the estimator and matrix that were left out.
    ///
    /// # Errors
    /// What does not go together.
    pub fn plan(self) -> Result<TracePlan, PlanError> {
        let estimator = self.estimator.unwrap_or(match self.matrix {
            Some(M::Fisher) => E::Drawn(LossDraw::Signs),
            Some(M::EmpiricalFisher | M::NoiseCovariance) => E::DataLabels,
            Some(M::Hessian | M::Ggn) | None => E::QuadraticForm,
        });
        let matrix = self.matrix.unwrap_or(match estimator {
            E::Drawn(_) => M::Fisher,
            E::DataLabels => M::EmpiricalFisher,
            _ => M::Hessian,
        });
        match (estimator, matrix) {
            (E::Drawn(_), M::Fisher | M::Ggn) | (E::DataLabels, M::EmpiricalFisher | M::NoiseCovariance) => {}
            (E::SignsAndResidual, M::Hessian) => {}
            (E::Drawn(_) | E::DataLabels | E::SignsAndResidual, matrix) => {
                return Err(PlanError::Matrix { estimator, matrix });
            }
            _ => {}
        }
        let draws = matches!(estimator, E::Drawn(LossDraw::Label | LossDraw::Signs));
        if self.draws.is_some() && !draws && estimator != E::SignsAndResidual {
            return Err(PlanError::Draws(estimator));
        }
        if estimator == E::SignsAndResidual && self.draws.is_some_and(|d| d < 2) {
            return Err(PlanError::OneSign);
        }
        if self.sentences != Sampling::Uniform && !draws {
            return Err(PlanError::Sampling { sampling: self.sentences, estimator });
        }
        if self.samples.is_some() && matches!(estimator, E::Drawn(LossDraw::Exact) | E::DataLabels) {
            return Err(PlanError::Samples(estimator));
        }
        if self.probe.is_some() && !estimator.has_probes() {
            return Err(PlanError::Probe(estimator));
        }
        if estimator == E::Xtrace && self.probe == Some(ProbeKind::Rademacher) {
            return Err(PlanError::XTraceSigns);
        }
        match self.rel_error {
            Some(r) if !(r > 0.0 && r < 1.0) => Err(PlanError::RelativeError(r)),
            _ => Ok(TracePlan { estimator, matrix, request: self }),
        }
    }
}

impl TracePlan {
    /// Pairs of example and draw at most.
    pub(super) fn pairs(&self) -> u64 {
        self.request.samples.unwrap_or(if self.request.rel_error.is_some() { MOST_PAIRS } else { PAIRS })
    }

    /// The same for probe vectors, `block` at once.
    pub(super) fn probing(&self, block: usize) -> Probing {
        let TraceRequest { rel_error, samples, minimum, probe, seed, .. } = self.request;
        let most = samples.map(|s| s as usize);
        Probing { estimator: self.estimator, kind: probe, seed, rel_error, most, minimum, block }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::Design;

    const ASKED: TraceRequest = TraceRequest {
        estimator: None,
        matrix: None,
        rel_error: None,
        samples: None,
        minimum: None,
        draws: None,
        sentences: Sampling::Uniform,
        probe: None,
        seed: 0,
    };

    #[test]
    fn what_is_left_out_follows_from_the_rest() {
        let of = |estimator, matrix| {
            let plan = TraceRequest { estimator, matrix, ..ASKED }.plan().unwrap();
            (plan.estimator, plan.matrix)
        };
        let signs = E::Drawn(LossDraw::Signs);
        assert_eq!(of(None, None), (E::QuadraticForm, M::Hessian));
        assert_eq!(of(None, Some(M::Fisher)), (signs, M::Fisher));
        assert_eq!(of(None, Some(M::NoiseCovariance)), (E::DataLabels, M::NoiseCovariance));
        assert_eq!(of(Some(signs), None), (signs, M::Fisher));
        assert_eq!(of(Some(E::DataLabels), None), (E::DataLabels, M::EmpiricalFisher));
        assert_eq!(of(Some(E::Xtrace), Some(M::Ggn)), (E::Xtrace, M::Ggn));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |request: TraceRequest| request.plan().unwrap_err();
        let exact = E::Drawn(LossDraw::Exact);
        let drawn = TraceRequest { estimator: Some(exact), ..ASKED };
        let matrix = Some(M::Hessian);
        assert_eq!(
            refused(TraceRequest { matrix, ..drawn.clone() }),
            PlanError::Matrix { estimator: exact, matrix: M::Hessian }
        );
        assert_eq!(refused(TraceRequest { draws: Some(2), ..drawn.clone() }), PlanError::Draws(exact));
        assert_eq!(refused(TraceRequest { samples: Some(2), ..drawn.clone() }), PlanError::Samples(exact));
        assert_eq!(refused(TraceRequest { probe: Some(ProbeKind::Gaussian), ..drawn }), PlanError::Probe(exact));
        let split = TraceRequest { estimator: Some(E::SignsAndResidual), ..ASKED };
        assert_eq!(split.clone().plan().unwrap().matrix, M::Hessian);
        let (estimator, matrix) = (E::SignsAndResidual, M::Ggn);
        assert_eq!(
            refused(TraceRequest { matrix: Some(matrix), ..split.clone() }),
            PlanError::Matrix { estimator, matrix }
        );
        assert_eq!(refused(TraceRequest { draws: Some(1), ..split }), PlanError::OneSign);
        let sampling = Sampling::Designed(Design::Stratified);
        assert_eq!(
            refused(TraceRequest { sentences: sampling, ..ASKED }),
            PlanError::Sampling { sampling, estimator: E::QuadraticForm }
        );
        let signs = TraceRequest { estimator: Some(E::Xtrace), probe: Some(ProbeKind::Rademacher), ..ASKED };
        assert_eq!(refused(signs), PlanError::XTraceSigns);
        assert_eq!(refused(TraceRequest { rel_error: Some(1.0), ..ASKED }), PlanError::RelativeError(1.0));
    }
}
