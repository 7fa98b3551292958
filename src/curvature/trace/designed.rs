//! The Fisher trace of a language from sentences that a design draws out of a frame: a list of sentences of which a
//! forward pass tells how large their traces will be. Few of them are measured, most of those where much is to be
//! expected.
//!
//! A pilot of plain sentences chooses the design and the sizes of frame and sample; its values are not used again, so
//! that the estimate is unbiased whatever they are (`statistics::Importance`, `statistics::Stratified`).

use super::Stopping;
use crate::curvature::error::unless_interrupted;

use crate::curvature::{
    CurvatureError, Drawing, Estimator, Numbered, Observe, Progress, Refusal, Setting, Trace, uncertainty,
};
use crate::ops::LossDraw;
use crate::ops::batch::Sentence;
use crate::statistics::{Importance, Measured, Parts, Stratified, Target, nested};

/// How sentences are drawn from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// In strata of like prediction, with numbers of draws that a pilot fixes.
    Stratified,
    /// In proportion to the predicted size, one after another.
    Importance,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Designed {
    /// How sentences are drawn from the frame, and its pilot.
    pub design: Design,
    /// How labels or signs are drawn.
    pub kind: LossDraw,
    /// Of the sentences and of the draws.
    pub seed: u64,
    /// Draws of labels or signs a sentence; two or more tell the parts of the error apart.
    pub draws: usize,
    /// In sentences measured: `minimum` are those of the pilot, which are not counted in `most`.
    pub stop: Stopping,
    /// Sentences of the frame; `None` for as many as the pilot says.
    pub frame: Option<usize>,
}

/// A trace with what it took.
#[derive(Clone, Debug)]
pub struct DesignedTrace {
    /// Of the language.
    pub trace: Trace,
    /// The frame's first sentence.
    pub first: Vec<Sentence>,
    /// Sentences in the frame.
    pub frame: usize,
    /// Sentences measured, some of them several times; the pilot not counted, unless an interrupt left only that.
    pub measured: usize,
    /// Predicted positions in them.
    pub positions: usize,
}

/// Strata, and classes of the predictions.
const STRATA: usize = 12;
/// Share of plain draws, which bounds what a wrong prediction can do.
const PLAIN: f64 = 0.1;
/// A forward pass in gradients, with the drawing of its sentence.
const FORWARD: f64 = 0.4;
/// Largest frame.
const MOST: usize = 1 << 20;
/// Frames of growing size, at most.
const ROUNDS: usize = 4;

/// Where the sentences come from, and with which model they are measured.
#[derive(Clone, Copy)]
struct Origin<'a> {
    setting: &'a Setting<'a>,
    language: &'a dyn Numbered,
}

/// What is known of the frame.
#[derive(Default)]
struct Frame {
    sentences: Vec<Sentence>,
    weights: Vec<f64>,
    predicted: Vec<f64>,
}

impl Frame {
    /// More sentences, each with its weight and what the forward pass says.
    fn grow(&mut self, from: Origin<'_>, size: usize) -> Result<(), CurvatureError> {
        let now = self.sentences.len();
        if size > now {
            let more = from.language.sentences(now as u64..size as u64)?;
            self.predicted.extend(uncertainty(&from.setting.subject(&more)?)?);
            self.weights.extend(more.iter().map(|s| s.masked.len() as f64));
            self.sentences.extend(more);
        }
        Ok(())
    }

    /// Predicted positions of what was measured.
    fn positions(&self, sample: &[Measured]) -> usize {
        sample.iter().map(|m| self.sentences[m.example].masked.len()).sum()
    }
}

/// Measures sentences `of` the frame with draws of a seed, a batch at a time, until `enough` says so. Interrupted, it
/// ends with the sentences until then, if there are any that count.
fn measure(
    from: Origin<'_>,
    what: &Designed,
    seed: u64,
    frame: &Frame,
    of: &mut dyn FnMut(usize) -> Vec<usize>,
    enough: &mut dyn FnMut(&[Measured]) -> Result<Next, CurvatureError>,
) -> Result<Sample, CurvatureError> {
    let take = |numbers: &[usize]| numbers.iter().map(|i| frame.sentences[*i].clone()).collect::<Vec<_>>();
    let mut numbers = of(0);
    let mut subject = from.setting.subject(&take(&numbers))?;
    subject.reserve(from.language.longest(), from.language.most_predicted());
    let mut drawing = Drawing::new(&subject, what.kind, seed, what.draws)?;
    let mut sample: Vec<Measured> = vec![];
    let interrupted = loop {
        let stopped = loop {
            match unless_interrupted(drawing.batch(&subject))? {
                Some(true) => {}
                Some(false) => break false,
                None => break true,
            }
        };
        let new = drawing.values()[sample.len()..].iter().zip(&numbers[sample.len()..]);
        sample.extend(
            new.map(|(values, example)| Measured { example: *example, values: values.clone() }).collect::<Vec<_>>(),
        );
        if stopped && sample.len() < 2 {
            return Err(CurvatureError::Interrupted);
        }
        let next = enough(&sample)?;
        if stopped || next == Next::Stop {
            break true;
        }
        if next == Next::Enough {
            break false;
        }
        let more = of(numbers.len());
        if more.is_empty() {
            break false;
        }
        subject.extend(&take(&more))?;
        numbers.extend(more);
    };
    let cost = drawing.result(&subject, Target::Population).trace.gradient_equivalents * sample.len() as f64;
    Ok(Sample { measured: sample, cost, interrupted })
}

/// Sentences with their values.
struct Sample {
    measured: Vec<Measured>,
    cost: f64,
    interrupted: bool,
}

/// How a sample goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Enough,
    /// An interrupt.
    Stop,
}

/// Seeds of the pilot's draws and of each round's, unlike each other.
fn seed_of(seed: u64, round: u64) -> u64 {
    seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A trace with its cost in all, and whether an interrupt ended it.
struct Round {
    parts: Parts,
    terms: Vec<f64>,
    measured: usize,
    positions: usize,
    cost: f64,
    interrupted: bool,
}

impl Round {
    /// The plain mean over the pilot: what there is before a design has measured anything.
    fn of_pilot(frame: &Frame, pilot: &[Measured], cost: f64) -> Round {
        let weights: Vec<f64> = pilot.iter().map(|m| frame.weights[m.example]).collect();
        let values: Vec<Vec<f64>> = pilot.iter().map(|m| m.values.clone()).collect();
        let parts = nested(&weights, &values, Target::Population);
        let positions = frame.positions(pilot);
        Round { parts, terms: terms(pilot), measured: pilot.len(), positions, cost, interrupted: true }
    }

    fn finish(self, what: &Designed, frame: &Frame, seen: usize) -> DesignedTrace {
        let trace = Trace::of(Estimator::Drawn(what.kind), self.parts, Target::Population, self.terms);
        let gradient_equivalents = self.cost / self.measured as f64;
        let samples = self.measured * what.draws;
        let trace = Trace { samples, reached: reached(what, &self.parts), gradient_equivalents, ..trace };
        let first = frame.sentences[..1].to_vec();
        let (measured, positions) = (self.measured, self.positions);
        DesignedTrace { trace: trace.cut_short(self.interrupted), first, frame: seen, measured, positions }
    }
}

/// The mean over its draws of each sentence.
fn terms(sample: &[Measured]) -> Vec<f64> {
    sample.iter().map(|m| m.values.iter().sum::<f64>() / m.values.len() as f64).collect()
}

fn reached(what: &Designed, parts: &Parts) -> bool {
    what.stop.satisfied(parts.value, parts.standard_error)
}

/// Tr F of the language.
///
/// Interrupted, it is what the design has measured until then if that is a sample of its own (draws with replacement),
/// else the round before, else the pilot.
///
/// # Errors
/// Draws that do not make sense; what the adapter says.
pub fn designed_trace(
    setting: &Setting<'_>,
    language: &dyn Numbered,
    what: &Designed,
    observe: Observe<'_>,
) -> Result<DesignedTrace, CurvatureError> {
    if what.kind == LossDraw::Exact || what.draws < 2 || what.stop.minimum < 16 || what.stop.most < 2 {
        return Err(Refusal::SmallDesign.into());
    }
    if what.frame.is_some_and(|n| n < what.stop.minimum) {
        return Err(Refusal::SmallFrame(what.stop.minimum).into());
    }
    let from = Origin { setting, language };
    let mut frame = Frame::default();
    frame.grow(from, what.stop.minimum)?;
    let pilot_seed = seed_of(what.seed, 1 << 32);
    let mut all = |done: usize| if done == 0 { (0..what.stop.minimum).collect() } else { vec![] };
    let pilot = measure(from, what, pilot_seed, &frame, &mut all, &mut |_| Ok(Next::Enough))?;
    let mut before = Round::of_pilot(&frame, &pilot.measured, pilot.cost);
    if pilot.interrupted {
        return Ok(before.finish(what, &frame, frame.sentences.len()));
    }
    let mut cost = pilot.cost;
    let each = cost / pilot.measured.len() as f64;
    let guess = Guess::of(&frame, &pilot.measured, what.design)?;
    let (mut size, planned) = guess.sizes(what, each);
    for number in 0..ROUNDS {
        let seen = frame.sentences.len();
        let grown = frame.grow(from, size);
        cost += FORWARD * (frame.sentences.len() - seen) as f64;
        let last = number + 1 == ROUNDS;
        let measured = grown.and_then(|()| {
            let draws = Draws { seed: seed_of(what.seed, number as u64), planned, last };
            round(from, what, &frame, &pilot.measured, draws, observe)
        });
        let Some(mut now) = unless_interrupted(measured)? else {
            return Ok(Round { interrupted: true, ..before }.finish(what, &frame, seen));
        };
        cost += now.cost;
        now.cost = cost;
        let grow = what.design == Design::Importance && what.frame.is_none() && size < MOST;
        if now.interrupted || reached(what, &now.parts) || !grow || now.measured >= what.stop.most || last {
            return Ok(now.finish(what, &frame, frame.sentences.len()));
        }
        before = now;
        size = (2 * size).min(MOST);
    }
    unreachable!("the last round returns")
}

/// A sample that is to be measured.
#[derive(Clone, Copy)]
struct Draws {
    seed: u64,
    /// Sentences, as the pilot says.
    planned: usize,
    /// Whether no larger frame follows.
    last: bool,
}

/// Measures a sample of the frame by the design that the pilot says. Its cost is its own.
fn round(
    from: Origin<'_>,
    what: &Designed,
    frame: &Frame,
    pilot: &[Measured],
    Draws { seed, planned, last }: Draws,
    observe: Observe<'_>,
) -> Result<Round, CurvatureError> {
    let strata = Stratified::by_proxy(&frame.weights, &frame.predicted, STRATA)?;
    let mut newest = None;
    let mut look = |sample: &[Measured], parts: Parts| {
        newest = Some(parts);
        let value = Some((parts.value, parts.standard_error));
        let seen = unless_interrupted(observe(&Progress { done: sample.len(), of: what.stop.most, value }))?;
        Ok::<_, CurvatureError>(match (seen, what.stop.rel_error) {
            (None, _) => Next::Stop,
            (_, Some(_)) if reached(what, &parts) => Next::Enough,
            _ => Next::More,
        })
    };
    let (sample, terms) = match what.design {
        Design::Importance => {
            let by_stratum = strata.spread(pilot, false);
            let predicted: Vec<f64> = strata.strata.iter().map(|h| by_stratum[*h]).collect();
            let design = Importance::new(&frame.weights, &predicted, PLAIN)?;
            // In batches, so that the end does not hang on how many are measured at once.
            let step = if what.stop.rel_error.is_some() { 256 } else { what.stop.most };
            let mut draw = |done: usize| {
                (done..what.stop.most.min(done + step)).map(|k| design.draw(seed, k as u64)).collect::<Vec<_>>()
            };
            let mut enough = |sample: &[Measured]| {
                let next = look(sample, design.estimate(sample, None, Target::Population))?;
                // The frame's own part does not fall with draws.
                let stuck = what.frame.is_none() && !last && sample.len() >= 2 * planned;
                Ok(match next {
                    Next::Enough if sample.len() < what.stop.minimum => Next::More,
                    Next::More if stuck => Next::Enough,
                    next => next,
                })
            };
            let sample = measure(from, what, seed, frame, &mut draw, &mut enough)?;
            let terms = design.terms(&sample.measured);
            (sample, terms)
        }
        Design::Stratified => {
            let mut design = strata;
            design.allocate(&design.spread(pilot, true), planned.min(what.stop.most));
            let mut draw = |done: usize| if done == 0 { design.sample(seed) } else { vec![] };
            let wanted = draw(0).len();
            let mut enough = |sample: &[Measured]| match sample.len() < wanted {
                // Some strata only: no estimate.
                true => Err(CurvatureError::Interrupted),
                false => look(sample, design.estimate(sample, Target::Population)).map(|_| Next::Enough),
            };
            let sample = measure(from, what, seed, frame, &mut draw, &mut enough)?;
            let terms = terms(&sample.measured);
            (sample, terms)
        }
    };
    let parts = newest.expect("looked at least once");
    let interrupted = sample.interrupted && !(what.stop.rel_error.is_some() && reached(what, &parts));
    let positions = frame.positions(&sample.measured);
    Ok(Round { parts, terms, measured: sample.measured.len(), positions, cost: sample.cost, interrupted })
}

/// What a pilot says of the variances.
struct Guess {
    mean: f64,
    /// Of y between sentences, the draws' own part taken out.
    between: f64,
    /// Of one draw of the design, given the frame.
    design: f64,
}

impl Guess {
    fn of(frame: &Frame, pilot: &[Measured], how: Design) -> Result<Guess, crate::statistics::DesignError> {
        let n = pilot.len() as f64;
        let y: Vec<f64> = pilot.iter().map(|m| m.values.iter().sum::<f64>() / m.values.len() as f64).collect();
        let mean = y.iter().sum::<f64>() / n;
        let own = |m: &Measured, y: f64| {
            let k = m.values.len() as f64;
            m.values.iter().map(|v| (v - y).powi(2)).sum::<f64>() / (k - 1.0) / k
        };
        let noise = pilot.iter().zip(&y).map(|(m, y)| own(m, *y)).sum::<f64>() / n;
        let scatter = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let strata = Stratified::by_proxy(&frame.weights, &frame.predicted, STRATA)?;
        let design = match how {
            Design::Stratified => {
                let spread = strata.spread(pilot, true);
                strata.shares().iter().zip(&spread).map(|(w, s)| w * s).sum::<f64>().powi(2)
            }
            Design::Importance => {
                let spread = strata.spread(pilot, false);
                let size: f64 = strata.shares().iter().zip(&spread).map(|(w, s)| w * s).sum();
                let share = |i: usize| PLAIN + (1.0 - PLAIN) * spread[strata.strata[i]] / size;
                let second = pilot.iter().zip(&y).map(|(m, y)| y * y / share(m.example)).sum::<f64>() / n;
                second - mean * mean
            }
        };
        // Neither is nothing: a pilot that saw no scatter has seen too little.
        let least = 1e-6 * mean * mean + f64::MIN_POSITIVE;
        Ok(Guess { mean, between: (scatter - noise).max(least), design: design.max(least) })
    }

    /// Sentences of the frame and of the sample: between / N + design / n as wanted at the least cost.
    fn sizes(&self, what: &Designed, each: f64) -> (usize, usize) {
        let ratio = (self.between * each / (self.design * FORWARD)).sqrt();
        let n = match what.stop.rel_error {
            Some(r) => {
                // A tenth more: a pilot's variances are rough.
                let variance = (r * self.mean).powi(2) / 1.1;
                let (frame, sample) = match what.frame {
                    Some(frame) => (self.between / frame as f64, self.design),
                    None => (0.0, self.design + self.between / ratio),
                };
                if variance > frame { sample / (variance - frame) } else { what.stop.most as f64 }
            }
            None => what.stop.most as f64,
        };
        let n = (n.ceil() as usize).clamp(2, what.stop.most);
        let frame = what.frame.unwrap_or_else(|| ((n as f64 * ratio).ceil() as usize).clamp(what.stop.minimum, MOST));
        (frame.max(what.stop.minimum), n)
    }
}
