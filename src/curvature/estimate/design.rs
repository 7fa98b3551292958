//! A language's trace from sentences that a design draws out of a frame.

use super::{Estimated, Stage, TracePlan, Watch};
use crate::curvature::{
    CurvatureError, Design, Designed, Named, Numbered, PlanError, Scope, Setting, Stopping, designed_trace,
};
use crate::ops::LossDraw;
use crate::statistics::Target;

/// Sentences of the pilot, where nothing is said.
const PILOT: usize = 512;

pub(super) fn estimate(
    setting: &Setting<'_>,
    (language, count): (&dyn Numbered, Option<u64>),
    plan: &TracePlan,
    kind: LossDraw,
    design: Design,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    let request = &plan.request;
    let draws = request.draws.unwrap_or(2);
    if draws < 2 {
        return Err(PlanError::FewDraws(request.sentences).into());
    }
    let frame = count.map(|count| count as usize);
    let stop = Stopping {
        rel_error: request.rel_error,
        minimum: request.minimum.unwrap_or(PILOT.min(frame.unwrap_or(PILOT))),
        most: (plan.pairs() as usize / draws).max(2),
    };
    let what = Designed { design, kind, seed: request.seed, draws, stop, frame };
    let found = designed_trace(setting, language, &what, &mut |progress| {
        watch(&Stage::Counted { what: plan.estimator.name(), unit: "sentence", progress })
    })?;
    let first = setting.subject(&found.first)?;
    let scope = Scope {
        examples: found.measured,
        masked: found.positions,
        ..Scope::of(&first, Target::Population, found.trace.gradient_equivalents)
    };
    let frame = Some(found.frame);
    Ok(Estimated { trace: found.trace, per_tensor: None, draws: Some(draws), probe: None, frame, parts: None, scope })
}
