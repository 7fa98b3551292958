//! The procedure: a trace as it is asked for, from the choice of the estimator to the sentences that its error needs.
//! `lowland measure trace` is a call of [`estimate`] and prints what it gives.
//!
//! ```no_run
//! use lowland::curvature::{CurvatureMatrix, Examples, Setting, TraceRequest, estimate, unseen};
//! use lowland::prelude::*;
//! let model = Model::load(&Device::from_env()?, "runs/quickstart/model")?;
//! let examples = Examples::SampleOf(model.read_examples("held_out.jsonl")?.into());
//! let fisher =
//!     TraceRequest { matrix: Some(CurvatureMatrix::Fisher), rel_error: Some(0.01), ..TraceRequest::default() };
//! println!("{}", estimate(&Setting::of(&model), &examples, &fisher.plan()?, &mut unseen)?.trace);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod data_labels;
mod design;
mod draws;
mod plan;
mod probes;
mod split;

pub use plan::{PlanError, TracePlan, TraceRequest};
pub use probes::{ProbeTrace, Probing, trace_by_probes};

use super::{CurvatureError, Estimator, Examples, ProbeKind, Progress, Sampling, Scope, Setting, Trace};
use crate::model::{Encoder, TokenCount};
use crate::statistics::Estimate;

/// What a procedure is at.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// Something begins that has no measure.
    Phase(&'a str),
    /// `what` so far, counted in `unit`s.
    Counted {
        /// Name of an estimator, or of a part of the work.
        what: &'a str,
        /// One of what is counted.
        unit: &'a str,
        /// How many there are, and the value so far.
        progress: &'a Progress,
    },
    /// Gradients of single tokens come, of so many tokens.
    Tokens(TokenCount),
}

/// Called when something begins, and after each block of it. [`CurvatureError::Interrupted`] ends the procedure: it
/// gives what it has with `interrupted` set, or passes that on where it has nothing. Other errors are passed on.
pub type Watch<'a> = &'a mut dyn FnMut(&Stage<'_>) -> Result<(), CurvatureError>;

/// A watcher that lets a procedure run to its end.
///
/// # Errors
/// Never.
pub fn unseen(_: &Stage<'_>) -> Result<(), CurvatureError> {
    Ok(())
}

/// A trace with what its estimator knows beside it.
#[derive(Clone, Debug)]
pub struct Estimated {
    /// Of the whole matrix.
    pub trace: Trace,
    /// Each tensor's own block, in the order of the model's parameters; `None` where the estimator sees only sums over
    /// all of them.
    pub per_tensor: Option<Vec<(String, Estimate)>>,
    /// Draws an example; `None` for estimators that draw none.
    pub draws: Option<usize>,
    /// Distribution of the probe vectors; `None` for estimators without.
    pub probe: Option<ProbeKind>,
    /// Sentences of the frame that those measured were drawn from; `None` where there is none.
    pub frame: Option<usize>,
    /// The parts of a Hessian's trace that was estimated by these; `None` of other estimators.
    pub parts: Option<Parted>,
    /// What was measured.
    pub scope: Scope,
}

/// Tr H = Tr F + Tr(H - F) by its two parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parted {
    /// Tr F, by random signs.
    pub fisher: Estimate,
    /// Tr(H - F), by quadratic forms.
    pub residual: Estimate,
    /// Sentences that the second was measured on, some of a frame's several times.
    pub sentences: usize,
    /// Sentences of the frame that they were drawn from; `None` where all examples are measured.
    pub frame: Option<usize>,
    /// Vectors of each.
    pub vectors: usize,
}

impl Estimated {
    /// Sums of `per_tensor` over embeddings, each layer, what stands behind the layers, and the head, in the order of
    /// the parameters.
    pub fn per_layer(&self, encoder: &Encoder) -> Option<Vec<(String, f64)>> {
        let mut sums: Vec<(String, f64)> = Vec::new();
        for (name, value) in self.per_tensor.as_ref()? {
            let found = encoder.find(name).expect("one of the model's");
            let depth = encoder.parameters[found].role.depth();
            match sums.iter_mut().find(|(d, _)| *d == depth) {
                Some((_, sum)) => *sum += value.value,
                None => sums.push((depth, value.value)),
            }
        }
        Some(sums)
    }
}

/// Estimates a trace by a plan, on as many examples of a language, with as many draws or probes, as the relative error
/// needs. [`Trace::reached`] says whether it is there, [`Trace::interrupted`] whether an interrupt came first; then the
/// trace is of what was done until then.
///
/// # Errors
/// A plan that does not suit the examples ([`CurvatureError::Plan`]), an interrupt before anything was measured, what
/// is not finite, what the adapter says.
pub fn estimate(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    plan: &TracePlan,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    if plan.estimator == Estimator::Xtrace && matches!(examples, Examples::SampleOf(_)) {
        return Err(PlanError::XTraceSample.into());
    }
    watch(&Stage::Phase(&plan.estimator.to_string()))?;
    match (plan.estimator, plan.request.sentences, examples) {
        (Estimator::SignsAndResidual, _, Examples::Language { language, count, .. }) => {
            split::of_language(setting, (language.as_ref(), *count), plan, watch)
        }
        (Estimator::SignsAndResidual, ..) => split::of_examples(setting, examples, plan, watch),
        (Estimator::DataLabels, ..) => data_labels::estimate(setting, examples, plan.matrix, watch),
        (Estimator::Drawn(kind), Sampling::Designed(how), Examples::Language { language, count, .. }) => {
            design::estimate(setting, (language.as_ref(), *count), plan, kind, how, watch)
        }
        (Estimator::Drawn(_), Sampling::Designed(_), _) => {
            Err(PlanError::SamplingOfExamples(plan.request.sentences).into())
        }
        (Estimator::Drawn(kind), Sampling::Uniform, Examples::Language { language, count, .. }) => {
            draws::of_language(setting, (language.as_ref(), *count), plan, kind, watch)
        }
        (Estimator::Drawn(kind), Sampling::Uniform, _) => draws::of_examples(setting, examples, plan, kind, watch),
        _ => probes::estimate(setting, examples, plan, watch),
    }
}
