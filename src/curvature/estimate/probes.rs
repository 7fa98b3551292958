//! A trace by probe vectors, of any operator; and of a model over as many sentences of a language as the data part of
//! the error asks for.

use std::ops::Range;

use super::{Estimated, Stage, TracePlan, Watch};
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    CurvatureError, Estimator, Examples, HutchPlusPlus, Hutchinson, Named, Observe, Operator, PlanError, ProbeKind,
    Scope, Setting, Stopping, Trace, XTrace, XTraceReplicates, hutch_plus_plus, hutchinson, hutchinson_by_products,
    xtrace, xtrace_replicates,
};
use crate::ops::batch::Sentence;
use crate::statistics::{Estimate, Target};

/// How probes are taken; what is left out follows from the estimator.
#[derive(Clone, Debug, PartialEq)]
pub struct Probing {
    /// One of those with probe vectors.
    pub estimator: Estimator,
    /// Default: signs, for XTrace Gaussian.
    pub kind: Option<ProbeKind>,
    /// Of the probe vectors.
    pub seed: u64,
    /// Stop when standard error / |estimate| is at most this.
    pub rel_error: Option<f64>,
    /// At most this many probes, or products; default 64, for Hutch++ 96, with a relative error 8192.
    pub most: Option<usize>,
    /// Default 16, for Hutch++ 96, for XTrace's smallest run 32.
    pub minimum: Option<usize>,
    /// Vectors at once. Any number gives the same answer.
    pub block: usize,
}

impl Default for Probing {
    fn default() -> Self {
        let estimator = Estimator::QuadraticForm;
        Probing { estimator, kind: None, seed: 0, rel_error: None, most: None, minimum: None, block: 8 }
    }
}

impl Probing {
    /// Distribution of the probes.
    pub fn kind(&self) -> ProbeKind {
        let usual = if self.estimator == Estimator::Xtrace { ProbeKind::Gaussian } else { ProbeKind::Rademacher };
        self.kind.unwrap_or(usual)
    }

    fn stop(&self) -> Stopping {
        let (most, minimum) = match self.estimator {
            Estimator::HutchPlusPlus => (96, 96),
            Estimator::Xtrace => (64, 32),
            _ => (64, 16),
        };
        let most = if self.rel_error.is_some() { 8192 } else { most };
        Stopping {
            rel_error: self.rel_error,
            minimum: self.minimum.unwrap_or(minimum),
            most: self.most.unwrap_or(most),
        }
    }

    /// A few probes, which tell how large the parts of the error are.
    fn pilot(&self) -> Probing {
        Probing { rel_error: None, most: Some(self.minimum.unwrap_or(16)), ..self.clone() }
    }
}

/// A trace by probes, with those of parts of the vector where the estimator tells them.
#[derive(Clone, Debug)]
pub struct ProbeTrace {
    /// Of the whole matrix.
    pub trace: Trace,
    /// Of the diagonal block of each part of the vector.
    pub parts: Option<Vec<Estimate>>,
}

/// Bytes of probes that the host holds at once at most, where an operator or an estimator needs whole ones; or one
/// probe.
const MOST_HELD: usize = 256 << 20;

/// Tr A by one estimator as it is.
fn run(
    operator: &dyn Operator,
    parts: &[Range<usize>],
    what: &Probing,
    target: Target,
    observe: Observe<'_>,
) -> Result<ProbeTrace, CurvatureError> {
    let Probing { estimator, seed, .. } = *what;
    // Any number at once gives the same answer.
    let block = what.block.min((MOST_HELD / (4 * operator.size().max(1))).max(1));
    let (kind, stop) = (what.kind(), what.stop());
    let plain = Hutchinson { kind, seed, stop, block, target };
    let trace = match estimator {
        Estimator::Drawn(_) | Estimator::DataLabels | Estimator::SignsAndResidual => {
            return Err(PlanError::Probe(estimator).into());
        }
        Estimator::QuadraticForm => hutchinson(operator, &plain, observe)?,
        Estimator::Hutchinson => {
            let answer = hutchinson_by_products(operator, parts, &plain, observe)?;
            return Ok(ProbeTrace { trace: answer.trace, parts: Some(answer.parts) });
        }
        Estimator::HutchPlusPlus => {
            hutch_plus_plus(operator, &HutchPlusPlus { kind, seed, stop, block, target }, observe)?
        }
        Estimator::Xtrace if what.rel_error.is_some() => {
            xtrace_replicates(operator, &XTraceReplicates { seed, stop, block }, observe)?
        }
        Estimator::Xtrace => {
            let samples = what.most.unwrap_or(stop.most.min(2 * operator.size()));
            xtrace(operator, &XTrace { seed, first: 0, samples, block }, observe)?
        }
    };
    Ok(ProbeTrace { trace, parts: None })
}

/// Tr A of an operator by probe vectors, and the traces of `parts` of its vectors where the estimator tells them.
///
/// Where its examples are a sample and a relative error is wanted, a few probes first tell the data part of the error:
/// if that alone is too large, no more than these are taken, since probes cannot make up for examples.
/// [`Trace::reached`] is then false.
///
/// # Errors
/// An estimator without probes; as the estimators.
pub fn trace_by_probes(
    operator: &dyn Operator,
    parts: &[Range<usize>],
    what: &Probing,
    target: Target,
    observe: Observe<'_>,
) -> Result<ProbeTrace, CurvatureError> {
    let Some(rel_error) = what.rel_error.filter(|_| pilots(what, target)) else {
        return run(operator, parts, what, target, observe);
    };
    let first = run(operator, parts, &what.pilot(), target, observe)?;
    if first.trace.interrupted {
        return Ok(cut_short(first));
    }
    let hopeless = Guess::of(&first.trace, rel_error).hopeless;
    let then = if hopeless { &what.pilot() } else { what };
    match unless_interrupted(run(operator, parts, then, target, observe))? {
        None => Ok(cut_short(first)),
        Some(now) if now.trace.interrupted && !is_better(&now.trace, Some(&first.trace)) => Ok(cut_short(first)),
        Some(mut now) => {
            now.trace.reached &= !hopeless;
            Ok(now)
        }
    }
}

fn cut_short(found: ProbeTrace) -> ProbeTrace {
    ProbeTrace { trace: found.trace.cut_short(true), ..found }
}

/// Whether a few probes go first. XTrace has no data part.
fn pilots(what: &Probing, target: Target) -> bool {
    what.rel_error.is_some() && target == Target::Population && what.estimator != Estimator::Xtrace
}

/// What a few probes say of the data part.
struct Guess {
    /// Error by the choice of examples over what it may be: half of the squared error is the data's.
    share: f64,
    /// Whether it is too large whatever the probes are.
    hopeless: bool,
}

impl Guess {
    fn of(trace: &Trace, rel_error: f64) -> Guess {
        let wanted = rel_error * trace.estimate.abs();
        let data = trace.standard_error_data;
        Guess { share: data / (wanted / 2f64.sqrt()), hopeless: data >= wanted }
    }
}

/// Probes from which the error of what an interrupt left is trusted beside that of a whole measurement of fewer
/// examples.
const FEW: usize = 4;

/// Whether what an interrupt left is known better than what was there before it.
fn is_better(now: &Trace, before: Option<&Trace>) -> bool {
    before.is_none_or(|before| now.values.len() >= FEW && before.standard_error > now.standard_error)
}

/// Most sentences that a language's trace goes up to by itself.
const MOST_SENTENCES: u64 = 1 << 17;
/// Times that the sentences are made more.
const ROUNDS: usize = 5;

/// The trace of a model's matrix over examples. Where a language's is wanted to a relative error and no number of
/// sentences is given, it follows from the data part of a few probes.
pub(super) fn estimate(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    plan: &TracePlan,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    let what = plan.probing(setting.chunks.probes as usize);
    let target = if plan.estimator == Estimator::Xtrace { Target::TheseExamples } else { examples.target() };
    watch(&Stage::Phase("examples"))?;
    let mut sentences = examples.all()?;
    let mut spent = 0.0;
    // What an interrupt of the next, larger one falls back to.
    let mut before: Option<Estimated> = None;
    let mut hopeless = false;
    if let Some(rel_error) = what.rel_error.filter(|_| pilots(&what, target)) {
        for _ in 0..ROUNDS {
            let pilot = over(setting, &sentences, plan, &what.pilot(), target, spent, watch);
            let Some(now) = unless_interrupted(pilot)? else { return or_before(None, before) };
            if now.trace.interrupted {
                return or_before(Some(now), before);
            }
            let guess = Guess::of(&now.trace, rel_error);
            let cost = now.trace.gradient_equivalents;
            before = Some(now);
            hopeless = guess.hopeless;
            let Examples::Language { language, count: None, .. } = examples else { break };
            let have = sentences.len() as u64;
            if guess.share.is_nan() || guess.share <= 1.0 || have >= MOST_SENTENCES {
                break;
            }
            spent += cost * sentences.len() as f64;
            let wanted = (have as f64 * guess.share * guess.share * 1.1).min(MOST_SENTENCES as f64) as u64;
            match language.sentences(have..wanted.max(have + 1)) {
                Ok(more) => sentences.extend(more),
                Err(_) => return or_before(None, before),
            }
            hopeless = false;
        }
    }
    // Probes cannot make up for too few examples.
    let then = if hopeless { &what.pilot() } else { &what };
    let found = over(setting, &sentences, plan, then, target, spent, watch);
    let Some(mut found) = unless_interrupted(found)? else { return or_before(None, before) };
    found.trace.reached &= !hopeless;
    match found.trace.interrupted {
        true => or_before(Some(found), before),
        false => Ok(found),
    }
}

/// What an interrupt left, or what was there before it if that is known better.
fn or_before(now: Option<Estimated>, before: Option<Estimated>) -> Result<Estimated, CurvatureError> {
    let now = now.filter(|now| is_better(&now.trace, before.as_ref().map(|b| &b.trace)));
    let mut found = now.or(before).ok_or(CurvatureError::Interrupted)?;
    found.trace = found.trace.cut_short(true);
    Ok(found)
}

/// The trace over sentences; `spent` are gradients of single sentences that went before.
fn over(
    setting: &Setting<'_>,
    sentences: &[Sentence],
    plan: &TracePlan,
    what: &Probing,
    target: Target,
    spent: f64,
    watch: Watch<'_>,
) -> Result<Estimated, CurvatureError> {
    let subject = setting.subject(sentences)?;
    let operator = plan.matrix.operator(&subject)?;
    let (names, ranges): (Vec<&str>, Vec<_>) = subject.vectors().parts(subject.encoder()).unzip();
    let observe = &mut |progress: &_| watch(&Stage::Counted { what: plan.estimator.name(), unit: "probe", progress });
    let ProbeTrace { trace, parts } = run(&*operator, &ranges, what, target, observe)?;
    let cost = trace.gradient_equivalents + spent / sentences.len() as f64;
    let scope = Scope::of(&subject, target, cost).of_sums(plan.matrix.of_sums());
    let scope = match trace.examples {
        Some(examples) => scope.of_first(&subject, examples),
        None => scope,
    };
    let per_tensor = parts.map(|parts| names.into_iter().map(String::from).zip(parts).collect());
    Ok(Estimated { trace, per_tensor, draws: None, probe: Some(what.kind()), frame: None, parts: None, scope })
}
