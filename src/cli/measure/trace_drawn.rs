//! Traces from squared gradient norms: labels or signs drawn for each example, every label in turn, or the data's own.

use super::trace::{Measured, Plan};
use super::{Evidence, Session, unless_interrupted};
use crate::cli::arguments::Common;
use crate::cli::examples::Source;
use crate::cli::failure::Failure;
use crate::curvature::{
    CurvatureError, CurvatureMatrix as M, Drawing, DrawnTrace, Estimator, Gradients, Matrix, ModelOperator, Named,
    Noise, Norms, Operator, Progress, Subject, Trace, covariance_trace, deviations, dot,
};
use crate::interrupt::{self, Interrupted};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Parts, Target, nested};

/// Pairs of example and draw where nothing is said.
pub(super) const PAIRS: u64 = 4096;
/// At most, where a relative error is wanted.
pub(super) const MOST_PAIRS: u64 = 1 << 20;
/// Examples of a language whose labels are enumerated, where nothing is said.
const ENUMERATED: u64 = 256;

pub(super) fn measure(session: &Session, common: &Common, plan: &Plan) -> Result<(Measured, Evidence), Failure> {
    let Some(kind) = plan.estimator.draw() else { return of_data(session, common, plan.matrix) };
    match &session.source {
        Source::File(sentences) => of_file(session, common, plan, kind, sentences.len() as u64),
        Source::Language(_) => of_language(session, common, plan, kind),
    }
}

/// The same examples with more draws, until the error is small enough. Of a population, draws cannot make up for examples.
fn of_file(
    session: &Session,
    common: &Common,
    plan: &Plan,
    kind: LossDraw,
    examples: u64,
) -> Result<(Measured, Evidence), Failure> {
    let sentences = session.sentences()?;
    let longest = sentences.iter().map(|s| s.ids.len()).max().unwrap_or(1);
    let subject = session.subject(common, &sentences, batch_of(kind, session, common, longest))?;
    if plan.draws.is_some() && plan.samples.is_some() {
        return Err(Failure::usage(
            "of a file every example is measured: give --samples or --draws, the other follows from the number of examples",
        ));
    }
    let target = session.target();
    let most_pairs = plan.samples.unwrap_or(if plan.rel_error.is_some() { MOST_PAIRS } else { PAIRS });
    let (mut draws, most) = match (kind, plan.draws) {
        (LossDraw::Exact, _) => (1, 1),
        (_, Some(draws)) => (draws, draws),
        (_, None) => {
            let most = (most_pairs / examples).max(if plan.samples.is_some() { 1 } else { 2 }) as usize;
            (if plan.rel_error.is_some() { most.min(8) } else { most }, most)
        }
    };
    let mut spent = 0.0;
    // All examples with fewer draws: what an interrupt of the next round falls back to.
    let mut before: Option<(Measured, Evidence)> = None;
    loop {
        let (drawn, examples) = all_batches(session, plan, common, kind, draws, &subject, target)?;
        let whole = examples == subject.examples();
        let Some(mut drawn) = drawn.filter(|_| whole || before.is_none()) else {
            let (mut measured, evidence) = before.ok_or(Interrupted)?;
            measured.trace = measured.trace.cut_short(true);
            return Ok((measured, evidence));
        };
        let trace = &mut drawn.trace;
        spent += trace.gradient_equivalents;
        let wanted = plan.rel_error.map(|r| r * trace.estimate.abs());
        trace.reached = wanted.is_none_or(|w| trace.standard_error <= w);
        // What draws can still lower must reach what the data part leaves.
        let room = wanted.map_or(0.0, |w| (w * w - trace.standard_error_data.powi(2)).max(0.0).sqrt());
        let over = trace.reached || draws >= most || room == 0.0 || !whole;
        let share = (trace.standard_error_probe / room).powi(2) * 1.1;
        drawn.trace = drawn.trace.cut_short(!whole);
        let evidence = session.evidence(common, &subject, target, spent).of_first(&subject, examples);
        let measured = (finish(drawn, kind, draws, &subject), evidence);
        if over {
            return Ok(measured);
        }
        before = Some(measured);
        draws = ((draws as f64 * share).ceil() as usize).clamp(draws + 1, most);
    }
}

/// Goes through a subject's batches: the result, and the examples that it is of, fewer where there was an interrupt.
fn all_batches(
    session: &Session,
    plan: &Plan,
    common: &Common,
    kind: LossDraw,
    draws: usize,
    subject: &Subject,
    target: Target,
) -> Result<(Option<DrawnTrace>, usize), Failure> {
    let Some(mut drawing) = unless_interrupted(Drawing::new(subject, kind, common.seed(), draws))? else {
        return Ok((None, 0));
    };
    let name = plan.estimator.name();
    while unless_interrupted(drawing.watched(subject, &mut |p| session.watch(name, "draw", p)))?.unwrap_or(false) {
        if unless_interrupted(look(session, plan, &drawing, subject, target, subject.examples()))?.is_none() {
            break;
        }
    }
    let examples = drawing.examples();
    Ok(((examples > 0).then(|| drawing.result(subject, target)), examples))
}

/// Examples in a batch. Enumerating the labels of one takes long: so few of them that many are done when an interrupt comes, and
/// enough tokens that the adapter has work.
fn batch_of(kind: LossDraw, session: &Session, common: &Common, longest: usize) -> u32 {
    if kind != LossDraw::Exact {
        return common.on.batch;
    }
    let tokens = (EXACT / session.model.encoder.parameter_count().max(1)).max(LEAST_TOKENS);
    common.on.batch.min((tokens / longest.max(1)).max(1) as u32)
}

/// Tokens times parameters of a batch whose labels are enumerated, and tokens at the least.
const EXACT: usize = 1 << 31;
const LEAST_TOKENS: usize = 512;

/// Sentences with a few draws each, in rounds until the error is small enough or the pairs are spent.
fn of_language(
    session: &Session,
    common: &Common,
    plan: &Plan,
    kind: LossDraw,
) -> Result<(Measured, Evidence), Failure> {
    let Source::Language(held_out) = &session.source else { unreachable!("called for a language") };
    let draws = if kind == LossDraw::Exact { 1 } else { plan.draws.unwrap_or(2) };
    let pairs = plan.samples.unwrap_or(if plan.rel_error.is_some() { MOST_PAIRS } else { PAIRS });
    let most = match (common.on.count, kind) {
        (Some(count), _) => count.min(plan.samples.map_or(u64::MAX, |s| (s / draws as u64).max(2))),
        (None, LossDraw::Exact) if plan.rel_error.is_none() => ENUMERATED,
        (None, _) => (pairs / draws as u64).max(2),
    };
    let size = batch_of(kind, session, common, held_out.longest() as usize);
    let batch = u64::from(size);
    let first = if plan.rel_error.is_some() { most.min(batch) } else { most };
    let mut subject = session.subject(common, &held_out.sentences(0..first)?, size)?;
    subject.reserve(held_out.longest(), 1);
    let mut drawing = Drawing::new(&subject, kind, common.seed(), draws)?;
    let minimum = plan.minimum.unwrap_or(256);
    let mut looked = 0;
    let mut result: Option<DrawnTrace> = None;
    let name = plan.estimator.name();
    'rounds: loop {
        loop {
            let more = drawing.watched(&subject, &mut |p| session.watch(name, "draw", p));
            match unless_interrupted(more)? {
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
            let seen = look(session, plan, &drawing, &subject, Target::Population, most as usize);
            let Some(mut drawn) = unless_interrupted(seen)? else { break 'rounds };
            let wanted = plan.rel_error.map(|r| r * drawn.trace.estimate.abs());
            drawn.trace.reached = wanted.is_none_or(|w| drawn.trace.standard_error <= w);
            let over = drawn.trace.reached && plan.rel_error.is_some() && done >= minimum;
            result = Some(drawn);
            if over {
                break;
            }
        }
        let drawn = result.as_ref().ok_or_else(|| Failure::usage("no examples"))?;
        let done = drawing.examples() as u64;
        if (drawn.trace.reached && done >= minimum as u64) || done >= most {
            break;
        }
        let next = most.min(done + batch.max(done / 2 / batch * batch));
        let Ok(more) = held_out.sentences(done..next) else { break };
        subject.extend(&more)?;
    }
    if drawing.examples() == 0 {
        return Err(Interrupted.into());
    }
    let ended = |drawn: &DrawnTrace| {
        let done = drawn.trace.values.len() as u64;
        (drawn.trace.reached && plan.rel_error.is_some() && done >= minimum as u64) || done >= most
    };
    let drawn = match result.filter(ended) {
        Some(drawn) => drawn,
        None => {
            let mut drawn = drawing.result(&subject, Target::Population);
            drawn.trace = drawn.trace.cut_short(true);
            drawn
        }
    };
    let mut evidence = session.evidence(common, &subject, Target::Population, drawn.trace.gradient_equivalents);
    // A round may end before its last batch.
    evidence.count = drawing.examples();
    evidence.masked_positions = drawing.per_example().iter().map(|(_, positions)| positions).sum();
    Ok((finish(drawn, kind, draws, &subject), evidence))
}

/// The result so far, shown.
fn look(
    session: &Session,
    plan: &Plan,
    drawing: &Drawing,
    subject: &Subject,
    target: Target,
    of: usize,
) -> Result<DrawnTrace, CurvatureError> {
    let drawn = drawing.result(subject, target);
    let value = Some((drawn.trace.estimate, drawn.trace.standard_error));
    session.watch(plan.estimator.name(), "example", &Progress { done: drawing.examples(), of, value })?;
    Ok(drawn)
}

fn finish(drawn: DrawnTrace, kind: LossDraw, draws: usize, subject: &Subject) -> Measured {
    let mut trace = drawn.trace;
    let exact = kind == LossDraw::Exact;
    if exact {
        let masked: usize = subject.masked()[..trace.values.len()].iter().sum();
        trace.samples = masked * subject.encoder().classes() as usize;
    }
    let unknown = |value| Estimate { value, standard_error: f64::NAN, samples: trace.values.len() };
    let per_tensor = drawn.per_tensor.into_iter().map(|(name, value)| (name, unknown(value))).collect();
    Measured { trace, per_tensor: Some(per_tensor), draws: (!exact).then_some(draws), probe: None, frame: None }
}

/// Tr of the mean of g_i g_iᵀ, g_i the gradient of an example's summed loss at the data's labels, or of their covariance.
fn of_data(session: &Session, common: &Common, matrix: M) -> Result<(Measured, Evidence), Failure> {
    let subject = session.subject(common, &session.sentences()?, common.on.batch)?;
    let norms = Norms::measure(&subject, &mut |p| session.watch("gradient norms", "example", p))?;
    // Fewer than there are after an interrupt.
    let n = norms.squared.len();
    if matrix == M::NoiseCovariance {
        // Without the mean gradient there is no trace yet.
        interrupt::check()?;
        return of_deviations(session, common, &subject, &norms);
    }
    let single: Vec<Vec<f64>> = norms.squared.iter().map(|x| vec![*x]).collect();
    let parts = nested(&vec![1.0; n], &single, session.target());
    // Nothing is drawn: what scatters are the examples.
    let data = if session.sampled { parts.standard_error } else { 0.0 };
    let parts =
        Parts { value: parts.value, standard_error: data, standard_error_probe: 0.0, standard_error_data: data };
    let trace = Trace::of(Estimator::DataLabels.name(), parts, session.target(), norms.squared.clone())
        .cut_short(norms.interrupted);
    let tensors = subject.encoder().parameters.iter().zip(&norms.per_parameter).enumerate();
    let per_tensor = tensors
        .filter(|(i, _)| subject.vectors().contains(*i))
        .map(|(_, (p, values))| {
            let sum: f64 = values.iter().sum();
            (p.name.clone(), Estimate { value: sum / n as f64, standard_error: f64::NAN, samples: n })
        })
        .collect();
    let evidence =
        session.evidence(common, &subject, session.target(), norms.gradient_equivalents).of_first(&subject, n);
    Ok((Measured { trace, per_tensor: Some(per_tensor), draws: None, probe: None, frame: None }, evidence))
}

/// Tr of the covariance, from ‖g_i‖² and ⟨g_i, ḡ⟩; the error is the jackknife's.
fn of_deviations(
    session: &Session,
    common: &Common,
    subject: &Subject,
    norms: &Norms,
) -> Result<(Measured, Evidence), Failure> {
    let n = subject.examples();
    if n < 2 {
        return Err(Failure::usage("a noise covariance needs at least 2 examples; give more (--count)"));
    }
    let mean = Gradients::new(subject)?.mean(subject)?;
    let operator = ModelOperator::new(subject, Matrix::Ggn);
    let slopes = operator.forms(std::slice::from_ref(&mean))?.swap_remove(0).slope;
    let noise = Noise::of(&norms.squared, &slopes);
    let square = dot(&mean, &mean);
    // Their mean is the trace.
    let deviations = deviations(&norms.squared, &slopes, square);
    let value = covariance_trace(&norms.squared, square);
    let data = if session.sampled { noise.trace_covariance.standard_error } else { 0.0 };
    let parts = Parts { value, standard_error: data, standard_error_probe: 0.0, standard_error_data: data };
    let trace = Trace::of(Estimator::DataLabels.name(), parts, session.target(), deviations);
    let own =
        |name: &str| subject.encoder().parameters.iter().position(|p| p.name == name).expect("one of the model's");
    let per_tensor = subject
        .vectors()
        .parts(subject.encoder())
        .map(|(name, range)| {
            let value = covariance_trace(&norms.per_parameter[own(name)], dot(&mean[range.clone()], &mean[range]));
            (name.to_string(), Estimate { value, standard_error: f64::NAN, samples: n })
        })
        .collect();
    let cost = norms.gradient_equivalents + 1.0 + operator.form_cost(1);
    let evidence = session.evidence(common, subject, session.target(), cost);
    Ok((Measured { trace, per_tensor: Some(per_tensor), draws: None, probe: None, frame: None }, evidence))
}
