//! The Fisher trace of a language from sentences that a design draws out of a frame: a list of sentences of which a forward
//! pass tells how large their traces will be. Few of them are measured, most of those where much is to be expected.
//!
//! A pilot of plain sentences chooses the design and the sizes of frame and sample; its values are not used again, so that
//! the estimate is unbiased whatever they are (`statistics::Importance`, `statistics::Stratified`).

use std::ops::Range;

use super::frame::uncertainty;
use super::{CurvatureError, Drawing, Observe, Progress, Subject, Trace};
use crate::ops::LossDraw;
use crate::ops::batch::Sentence;
use crate::statistics::{Importance, Measured, Parts, Stratified, Target};

/// How sentences are drawn from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// In strata of like prediction, with numbers of draws that a pilot fixes.
    Stratified,
    /// In proportion to the predicted size, one after another.
    Importance,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Designed {
    pub sampling: Sampling,
    pub kind: LossDraw,
    pub seed: u64,
    /// Draws of labels or signs a sentence; two or more tell the parts of the error apart.
    pub draws: usize,
    /// At most so many sentences measured, the pilot not counted.
    pub most: usize,
    /// Stop when standard error / |estimate| is at most this.
    pub rel_error: Option<f64>,
    /// Sentences of the frame; `None` for as many as the pilot says.
    pub frame: Option<usize>,
    pub pilot: usize,
}

/// A trace with what it took.
#[derive(Clone, Debug)]
pub struct DesignedTrace {
    pub trace: Trace,
    /// Sentences in the frame.
    pub frame: usize,
    /// Sentences measured, some of them several times; the pilot not counted.
    pub measured: usize,
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

/// Where the sentences come from and how they are measured.
pub struct Population<'a, 'g> {
    /// Sentences of the language by number.
    pub sentences: &'a dyn Fn(Range<u64>) -> Vec<Sentence>,
    /// Sentences with the model.
    pub subject: &'a dyn Fn(&[Sentence]) -> Result<Subject<'g>, CurvatureError>,
    /// Tokens of the longest sentence.
    pub longest: u32,
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
    fn grow(&mut self, from: &Population<'_, '_>, size: usize) -> Result<(), CurvatureError> {
        let now = self.sentences.len();
        if size > now {
            let more = (from.sentences)(now as u64..size as u64);
            self.predicted.extend(uncertainty(&(from.subject)(&more)?)?);
            self.weights.extend(more.iter().map(|s| s.masked.len() as f64));
            self.sentences.extend(more);
        }
        Ok(())
    }
}

/// Measures sentences `of` the frame with draws of a seed, a batch at a time, until `enough` says so.
fn measure(
    from: &Population<'_, '_>,
    what: &Designed,
    seed: u64,
    frame: &Frame,
    of: &mut dyn FnMut(usize) -> Vec<usize>,
    enough: &mut dyn FnMut(&[Measured]) -> Result<bool, CurvatureError>,
) -> Result<(Vec<Measured>, f64), CurvatureError> {
    let take = |numbers: &[usize]| numbers.iter().map(|i| frame.sentences[*i].clone()).collect::<Vec<_>>();
    let mut numbers = of(0);
    let mut subject = (from.subject)(&take(&numbers))?;
    subject.reserve(from.longest, 1);
    let mut drawing = Drawing::new(&subject, what.kind, seed, what.draws)?;
    let mut sample: Vec<Measured> = vec![];
    loop {
        while drawing.batch(&subject)? {}
        let new = drawing.values()[sample.len()..].iter().zip(&numbers[sample.len()..]);
        sample.extend(
            new.map(|(values, example)| Measured { example: *example, values: values.clone() }).collect::<Vec<_>>(),
        );
        if enough(&sample)? {
            break;
        }
        let more = of(numbers.len());
        if more.is_empty() {
            break;
        }
        subject.extend(&take(&more))?;
        numbers.extend(more);
    }
    let cost = drawing.result(&subject, Target::Population).trace.gradient_equivalents * sample.len() as f64;
    Ok((sample, cost))
}

/// Seeds of the pilot's draws and of each round's, unlike each other.
fn seed_of(seed: u64, round: u64) -> u64 {
    seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Tr F of the language.
///
/// # Errors
/// Draws that do not make sense; what the adapter says.
pub fn designed_trace(
    from: &Population<'_, '_>,
    what: &Designed,
    observe: Observe<'_>,
) -> Result<DesignedTrace, CurvatureError> {
    let refuse = |message: &str| Err(CurvatureError::Request(message.into()));
    if what.kind == LossDraw::Exact || what.draws < 2 || what.pilot < 16 || what.most < 2 {
        return refuse(
            "a design needs drawn labels or signs, at least 2 draws a sentence, 2 sentences and a pilot of 16",
        );
    }
    if what.frame.is_some_and(|n| n < what.pilot) {
        return Err(CurvatureError::Request(format!("a frame has at least the {} sentences of the pilot", what.pilot)));
    }
    let design_error = |e: crate::statistics::DesignError| CurvatureError::Request(e.to_string());
    let mut frame = Frame::default();
    frame.grow(from, what.pilot)?;
    let pilot_seed = seed_of(what.seed, 1 << 32);
    let mut all = |done: usize| if done == 0 { (0..what.pilot).collect() } else { vec![] };
    let (pilot, mut cost) = measure(from, what, pilot_seed, &frame, &mut all, &mut |_| Ok(true))?;
    let each = cost / pilot.len() as f64;
    let guess = Guess::of(&frame, &pilot, what.sampling).map_err(design_error)?;
    let (mut size, planned) = guess.sizes(what, each);
    for round in 0..ROUNDS {
        let before = frame.sentences.len();
        frame.grow(from, size)?;
        cost += FORWARD * (frame.sentences.len() - before) as f64;
        let seed = seed_of(what.seed, round as u64);
        let strata = Stratified::by_proxy(&frame.weights, &frame.predicted, STRATA).map_err(design_error)?;
        let mut last = None;
        let mut look = |sample: &[Measured], parts: Parts| {
            observe(&Progress { done: sample.len(), of: what.most, value: Some((parts.value, parts.standard_error)) })?;
            last = Some(parts);
            Ok::<_, CurvatureError>(what.rel_error.is_some_and(|r| parts.standard_error <= r * parts.value.abs()))
        };
        let (sample, spent, terms) = match what.sampling {
            Sampling::Importance => {
                let by_stratum = strata.spread(&pilot, false);
                let predicted: Vec<f64> = strata.strata.iter().map(|h| by_stratum[*h]).collect();
                let design = Importance::new(&frame.weights, &predicted, PLAIN).map_err(design_error)?;
                // In batches, so that the end does not hang on how many are measured at once.
                let step = if what.rel_error.is_some() { 256 } else { what.most };
                let mut draw = |done: usize| {
                    (done..what.most.min(done + step)).map(|k| design.draw(seed, k as u64)).collect::<Vec<_>>()
                };
                let mut enough = |sample: &[Measured]| {
                    let parts = design.estimate(sample, None, Target::Population);
                    let reached = look(sample, parts)?;
                    // The frame's own part does not fall with draws.
                    let stuck = what.frame.is_none() && round + 1 < ROUNDS && sample.len() >= 2 * planned;
                    Ok((reached && sample.len() >= what.pilot) || stuck)
                };
                let (sample, spent) = measure(from, what, seed, &frame, &mut draw, &mut enough)?;
                let terms = design.terms(&sample);
                (sample, spent, terms)
            }
            Sampling::Stratified => {
                let mut design = strata;
                design.allocate(&design.spread(&pilot, true), planned.min(what.most));
                let mut draw = |done: usize| if done == 0 { design.sample(seed) } else { vec![] };
                let mut enough = |sample: &[Measured]| look(sample, design.estimate(sample, Target::Population));
                let (sample, spent) = measure(from, what, seed, &frame, &mut draw, &mut enough)?;
                let terms = sample.iter().map(|m| m.values.iter().sum::<f64>() / m.values.len() as f64).collect();
                (sample, spent, terms)
            }
        };
        cost += spent;
        let parts = last.expect("looked at least once");
        let reached = what.rel_error.is_none_or(|r| parts.standard_error <= r * parts.value.abs());
        let grow = what.sampling == Sampling::Importance && what.frame.is_none() && size < MOST;
        if reached || !grow || sample.len() >= what.most || round + 1 == ROUNDS {
            let name = if what.kind == LossDraw::Label { "sampled-labels" } else { "random-signs" };
            let trace = Trace::of(name, parts, Target::Population, terms);
            let gradient_equivalents = cost / sample.len() as f64;
            let samples = sample.len() * what.draws;
            let trace = Trace { samples, reached, gradient_equivalents, ..trace };
            return Ok(DesignedTrace { trace, frame: frame.sentences.len(), measured: sample.len() });
        }
        size = (2 * size).min(MOST);
    }
    unreachable!("the last round returns")
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
    fn of(frame: &Frame, pilot: &[Measured], sampling: Sampling) -> Result<Guess, crate::statistics::DesignError> {
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
        let design = match sampling {
            Sampling::Stratified => {
                let spread = strata.spread(pilot, true);
                strata.shares().iter().zip(&spread).map(|(w, s)| w * s).sum::<f64>().powi(2)
            }
            Sampling::Importance => {
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
        let n = match what.rel_error {
            Some(r) => {
                // A tenth more: a pilot's variances are rough.
                let variance = (r * self.mean).powi(2) / 1.1;
                let (frame, sample) = match what.frame {
                    Some(frame) => (self.between / frame as f64, self.design),
                    None => (0.0, self.design + self.between / ratio),
                };
                if variance > frame { sample / (variance - frame) } else { what.most as f64 }
            }
            None => what.most as f64,
        };
        let n = (n.ceil() as usize).clamp(2, what.most);
        let frame = what.frame.unwrap_or_else(|| ((n as f64 * ratio).ceil() as usize).clamp(what.pilot, MOST));
        (frame.max(what.pilot), n)
    }
}
