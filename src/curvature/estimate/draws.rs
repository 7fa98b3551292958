//! The Fisher trace by labels or signs drawn for each example, or every label in turn: of given examples in rounds of
//! more draws, of a language in rounds of more sentences.

use super::{Estimated, Stage, TracePlan, Watch};
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    CurvatureError, Drawing, DrawnTrace, Examples, Named, Numbered, PlanError, Progress, Refusal, Scope, Setting,
    Stopping, Subject,
};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};

/// Examples of a language whose labels are enumerated, where nothing is said.
const ENUMERATED: u64 = 256;

/// Examples in a batch. Enumerating the labels of one takes long: so few of them that many are done when an interrupt
/// comes, and enough tokens that the adapter has work.
fn batch_of(kind: LossDraw, setting: &Setting<'_>, longest: usize) -> usize {
    if kind != LossDraw::Exact {
        return setting.chunks.batch;
    }
    let tokens = (EXACT / setting.model.encoder.parameter_count().max(1)).max(LEAST_TOKENS);
    setting.chunks.batch.min((tokens / longest.max(1)).max(1))
}

/// Tokens times parameters of a batch whose labels are enumerated, and tokens at the least.
const EXACT: usize = 1 << 31;
const LEAST_TOKENS: usize = 512;

/// The same examples with more draws, until the error is small enough. Of a population, draws cannot make up for
/// examples.
pub(super) fn of_examples(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    plan: &TracePlan,
    kind: LossDraw,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    watch(&Stage::Phase("examples"))?;
    let sentences = examples.all()?;
    let longest = sentences.iter().map(|s| s.ids.len()).max().unwrap_or(1);
    let subject = setting.subject_in(&sentences, batch_of(kind, setting, longest))?;
    let request = &plan.request;
    if request.draws.is_some() && request.samples.is_some() {
        return Err(PlanError::SamplesAndDraws.into());
    }
    let target = examples.target();
    let (mut draws, most) = match (kind, request.draws) {
        (LossDraw::Exact, _) => (1, 1),
        (_, Some(draws)) => (draws, draws),
        (_, None) => {
            let least = if request.samples.is_some() { 1 } else { 2 };
            let most = (plan.pairs() / sentences.len() as u64).max(least) as usize;
            (if request.rel_error.is_some() { most.min(8) } else { most }, most)
        }
    };
    let stop = Stopping { rel_error: request.rel_error, ..Stopping::after(most) };
    let mut spent = 0.0;
    // All examples with fewer draws: what an interrupt of the next round falls back to.
    let mut before: Option<Estimated> = None;
    loop {
        let (drawn, measured) = every_batch(plan, kind, draws, &subject, target, watch)?;
        let whole = measured == subject.examples();
        let Some(mut drawn) = drawn.filter(|_| whole || before.is_none()) else {
            let mut found = before.ok_or(CurvatureError::Interrupted)?;
            found.trace = found.trace.cut_short(true);
            return Ok(found);
        };
        let trace = &mut drawn.trace;
        spent += trace.gradient_equivalents;
        trace.reached = stop.satisfied(trace.estimate, trace.standard_error);
        // What draws can still lower must reach what the data part leaves.
        let wanted = stop.wanted(trace.estimate);
        let room = wanted.map_or(0.0, |w| (w * w - trace.standard_error_data.powi(2)).max(0.0).sqrt());
        let over = trace.reached || draws >= most || room == 0.0 || !whole;
        let share = (trace.standard_error_probe / room).powi(2) * 1.1;
        drawn.trace = drawn.trace.cut_short(!whole);
        let scope = Scope::of(&subject, target, spent).of_first(&subject, measured);
        let found = finish(drawn, kind, draws, &subject, scope);
        if over {
            return Ok(found);
        }
        before = Some(found);
        draws = ((draws as f64 * share).ceil() as usize).clamp(draws + 1, most);
    }
}

/// Goes through a subject's batches: the result, and the examples that it is of, fewer where there was an interrupt.
fn every_batch(
    plan: &TracePlan,
    kind: LossDraw,
    draws: usize,
    subject: &Subject,
    target: Target,
    watch: Watch<'_>,
) -> Result<(Option<DrawnTrace>, usize), CurvatureError> {
    let Some(mut drawing) = unless_interrupted(Drawing::new(subject, kind, plan.request.seed, draws))? else {
        return Ok((None, 0));
    };
    while unless_interrupted(one_batch(plan, &mut drawing, subject, watch))?.unwrap_or(false) {
        if unless_interrupted(look(plan, &drawing, subject, target, subject.examples(), watch))?.is_none() {
            break;
        }
    }
    let examples = drawing.examples();
    Ok(((examples > 0).then(|| drawing.result(subject, target)), examples))
}

/// The next batch with a look at every block of draws; false when there is none left.
fn one_batch(
    plan: &TracePlan,
    drawing: &mut Drawing,
    subject: &Subject,
    watch: Watch<'_>,
) -> Result<bool, CurvatureError> {
    let what = plan.estimator.name();
    drawing.watched(subject, &mut |progress| watch(&Stage::Counted { what, unit: "draw", progress }))
}

/// Sentences with a few draws each, in rounds until the error is small enough or the pairs are spent.
pub(super) fn of_language(
    setting: &Setting<'_>,
    (language, count): (&dyn Numbered, Option<u64>),
    plan: &TracePlan,
    kind: LossDraw,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    let request = &plan.request;
    let draws = if kind == LossDraw::Exact { 1 } else { request.draws.unwrap_or(2) };
    let most = match (count, kind) {
        (Some(count), _) => count.min(request.samples.map_or(u64::MAX, |s| (s / draws as u64).max(2))),
        (None, LossDraw::Exact) if request.rel_error.is_none() => ENUMERATED,
        (None, _) => (plan.pairs() / draws as u64).max(2),
    };
    let stop = Stopping {
        rel_error: request.rel_error,
        minimum: request.minimum.unwrap_or(256),
        most: usize::try_from(most).unwrap_or(usize::MAX),
    };
    let size = batch_of(kind, setting, language.longest() as usize);
    let batch = size as u64;
    let first = if stop.rel_error.is_some() { most.min(batch) } else { most };
    let mut subject = setting.subject_in(&language.sentences(0..first)?, size)?;
    subject.reserve(language.longest(), language.most_predicted());
    let mut drawing = Drawing::new(&subject, kind, request.seed, draws)?;
    // Whether a result is the last one.
    let over = |drawn: &DrawnTrace| {
        let (done, trace) = (drawn.trace.values.len(), &drawn.trace);
        stop.ends(done, trace.estimate, trace.standard_error) || done >= stop.most
    };
    let mut looked = 0;
    let mut result: Option<DrawnTrace> = None;
    'rounds: loop {
        loop {
            match unless_interrupted(one_batch(plan, &mut drawing, &subject, watch))? {
                Some(true) => {}
                Some(false) => break,
                None => break 'rounds,
            }
            let done = drawing.examples();
            // Looking costs a pass over all values so far.
            if done < looked + looked / 50 && done < subject.examples() {
                continue;
            }
            looked = done;
            let seen = look(plan, &drawing, &subject, Target::Population, stop.most, watch);
            let Some(mut drawn) = unless_interrupted(seen)? else { break 'rounds };
            let (value, error) = (drawn.trace.estimate, drawn.trace.standard_error);
            drawn.trace.reached = stop.satisfied(value, error);
            result = Some(drawn);
            if stop.ends(done, value, error) {
                break;
            }
        }
        let trace = &result.as_ref().ok_or(Refusal::NoExamples)?.trace;
        let done = drawing.examples();
        if (trace.reached && done >= stop.minimum) || done >= stop.most {
            break;
        }
        let done = done as u64;
        let next = most.min(done + batch.max(done / 2 / batch * batch));
        let Ok(more) = language.sentences(done..next) else { break };
        subject.extend(&more)?;
    }
    if drawing.examples() == 0 {
        return Err(CurvatureError::Interrupted);
    }
    let drawn = match result.filter(over) {
        Some(drawn) => drawn,
        None => {
            let mut drawn = drawing.result(&subject, Target::Population);
            drawn.trace = drawn.trace.cut_short(true);
            drawn
        }
    };
    // A round may end before its last batch.
    let scope = Scope {
        examples: drawing.examples(),
        masked: drawing.per_example().iter().map(|(_, positions)| positions).sum(),
        ..Scope::of(&subject, Target::Population, drawn.trace.gradient_equivalents)
    };
    Ok(finish(drawn, kind, draws, &subject, scope))
}

/// The result so far, shown.
fn look(
    plan: &TracePlan,
    drawing: &Drawing,
    subject: &Subject,
    target: Target,
    of: usize,
    watch: Watch<'_>,
) -> Result<DrawnTrace, CurvatureError> {
    let drawn = drawing.result(subject, target);
    let value = Some((drawn.trace.estimate, drawn.trace.standard_error));
    let progress = &Progress { done: drawing.examples(), of, value };
    watch(&Stage::Counted { what: plan.estimator.name(), unit: "example", progress })?;
    Ok(drawn)
}

fn finish(drawn: DrawnTrace, kind: LossDraw, draws: usize, subject: &Subject, scope: Scope) -> Estimated {
    let mut trace = drawn.trace;
    let exact = kind == LossDraw::Exact;
    if exact {
        let masked: usize = subject.masked()[..trace.values.len()].iter().sum();
        trace.samples = masked * subject.encoder().classes() as usize;
    }
    let unknown = |value| Estimate { value, standard_error: f64::NAN, samples: trace.values.len() };
    let per_tensor = drawn.per_tensor.into_iter().map(|(name, value)| (name, unknown(value))).collect();
    Estimated {
        trace,
        per_tensor: Some(per_tensor),
        draws: (!exact).then_some(draws),
        probe: None,
        frame: None,
        parts: None,
        scope,
    }
}
