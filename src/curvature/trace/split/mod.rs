//! Tr H of a language as Tr F + Tr(H - F): the Fisher (= Gauss-Newton) part by squared norms for random signs, what the
//! Hessian has beside it by quadratic forms of that part alone. Near the entropy floor the second is small and its
//! labels' noise is gone where the exact conditionals are known, so that few sentences are enough for it.
//!
//! A pilot tells the variances, from which follow the numbers of sentences, signs and vectors with the least cost for a
//! wanted error. Its values are not used again: the estimate is unbiased whatever the numbers are.

mod allocation;
mod residual;

use self::allocation::{Component, FORMS, FORWARD, SIGNS, Scatter};
use self::residual::{Lot, Plan, Residual, together, whole_batches};
use super::Stopping;
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    CurvatureError, Drawing, Estimator, Numbered, Observe, Progress, Refusal, Setting, Subject, Trace,
};
use crate::ops::batch::Sentence;
use crate::statistics::{Estimate, Parts, Target};

/// What to run.
#[derive(Clone, Debug)]
pub struct Split {
    /// Of sentences, signs and vectors.
    pub seed: u64,
    /// Signs of a sentence; `None` for as many as the pilot says. With one, the pilot tells the error's parts.
    pub draws: Option<usize>,
    /// In sentences whose signs are drawn: `minimum` are those of the pilot, which are not counted in `most`.
    pub stop: Stopping,
}

/// A trace by two parts.
#[derive(Clone, Debug)]
pub struct SplitTrace {
    /// Of the Hessian.
    pub trace: Trace,
    /// Tr F.
    pub fisher: Estimate,
    /// Tr(H - F).
    pub residual: Estimate,
    /// Signs of each sentence.
    pub draws: usize,
    /// The first sentence.
    pub first: Vec<Sentence>,
    /// Sentences whose signs were drawn, and their predicted positions.
    pub sentences: [usize; 2],
    /// Sentences of the frame that those of the residual were drawn from.
    pub frame: usize,
    /// Draws from it.
    pub measured: usize,
    /// Vectors of each.
    pub vectors: usize,
}

/// Frame and draws of the residual's pilot.
const FRAME: usize = 512;
const DRAWS: usize = 128;
/// Sentences of a frame at the least.
const LEAST: usize = 128;
/// Vectors of its batches.
const VECTORS: usize = 4;
/// Share of what a pilot asks for that is taken at first. What lacks then is known far better: of heavy tails a pilot's
/// variances are easily twice too large.
const FIRST: f64 = 0.5;
/// Times that more is taken where the error is not reached.
const ROUNDS: usize = 8;
/// First sentences of the pilot's two parts and of the residual, which no other part uses.
const PILOT: u64 = 1 << 40;
const PILOT_FRAME: u64 = 2 << 40;
const FRAMES: u64 = 3 << 40;

/// Everything so far.
struct Found {
    signs: Trace,
    positions: usize,
    lot: Lot,
}

impl Found {
    fn parts(&self) -> Parts {
        let square = |a: f64, b: f64| (a * a + b).sqrt();
        let (signs, lot) = (&self.signs, &self.lot);
        Parts {
            value: signs.estimate + lot.value,
            standard_error: square(signs.standard_error, lot.probe + lot.data),
            standard_error_probe: square(signs.standard_error_probe, lot.probe),
            standard_error_data: square(signs.standard_error_data, lot.data),
        }
    }

    fn finish(self, draws: usize, cost: f64, first: Vec<Sentence>, end: (bool, bool)) -> SplitTrace {
        let parts = self.parts();
        let sentences = self.signs.values.len();
        let (reached, interrupted) = end;
        let trace = Trace::of(Estimator::SignsAndResidual, parts, Target::Population, self.signs.values);
        let samples = sentences * draws;
        let trace = Trace { samples, reached, gradient_equivalents: cost / sentences as f64, ..trace };
        let lot = &self.lot;
        let error = self.signs.standard_error;
        SplitTrace {
            trace: trace.cut_short(interrupted),
            fisher: Estimate { value: self.signs.estimate, standard_error: error, samples },
            residual: Estimate {
                value: lot.value,
                standard_error: (lot.probe + lot.data).sqrt(),
                samples: lot.measured * lot.vectors,
            },
            draws,
            first,
            sentences: [sentences, self.positions],
            frame: lot.frame,
            measured: lot.measured,
            vectors: lot.vectors,
        }
    }
}

/// Sentences with signs, in batches that go on.
struct Signs {
    subject: Subject,
    drawing: Drawing,
    /// What the pilot says of one sentence.
    scatter: Option<Scatter>,
}

impl Signs {
    fn new(
        setting: &Setting<'_>,
        language: &dyn Numbered,
        from: u64,
        count: usize,
        (seed, draws): (u64, usize),
    ) -> Result<Signs, CurvatureError> {
        let mut subject = setting.subject(&language.sentences(from..from + count as u64)?)?;
        subject.reserve(language.longest(), language.most_predicted());
        let drawing = Drawing::along_axes(&subject, seed, draws)?;
        Ok(Signs { subject, drawing, scatter: None })
    }

    fn run(&mut self, of: usize, observe: Observe<'_>) -> Result<(), CurvatureError> {
        while self.drawing.batch(&self.subject)? {
            observe(&Progress { done: self.drawing.examples(), of, value: None })?;
        }
        Ok(())
    }

    fn trace(&self) -> Trace {
        let trace = self.drawing.result(&self.subject, Target::Population).trace;
        match self.scatter {
            // A single sign of each does not tell the parts apart.
            Some(scatter) if trace.standard_error_probe.is_nan() => scatter.divide(trace),
            _ => trace,
        }
    }

    fn cost(&self) -> f64 {
        self.drawing.result(&self.subject, Target::Population).trace.gradient_equivalents
            * self.drawing.examples() as f64
    }

    fn positions(&self) -> usize {
        self.subject.masked().iter().sum()
    }
}

/// Numbers that a pilot asks for.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    sentences: usize,
    frame: usize,
    measured: usize,
    draws: usize,
    vectors: usize,
    /// Of the signs of one sentence.
    scatter: Scatter,
}

impl Numbers {
    fn of(what: &Split, signs: &Trace, pilot: usize, lot: &Lot) -> Numbers {
        // Of one sentence; the pilot has two signs of each.
        let own = |error: f64| pilot as f64 * error * error;
        let scatter =
            Scatter { between: own(signs.standard_error_data), within: 2.0 * own(signs.standard_error_probe) };
        let draws = what.draws.unwrap_or_else(|| scatter.repeats(SIGNS, 1));
        let vectors = lot.draw.repeats(FORMS, 2);
        let components = [
            scatter.component(SIGNS, draws),
            Component { variance: lot.between, cost: FORWARD },
            lot.draw.component(FORMS, vectors),
        ]
        // None is nothing: a pilot that saw no scatter has seen too little.
        .map(|c| Component { variance: c.variance.max(1e-9 * signs.estimate.powi(2) + f64::MIN_POSITIVE), ..c });
        // Where a pilot's variances, which are rough, do not do, there is more of everything.
        let wanted = what.stop.wanted(signs.estimate + lot.value).map(|error| error * error / 1.02);
        let mut numbers = allocation::numbers(components, wanted.unwrap_or(1.0));
        let most = what.stop.most as f64;
        if wanted.is_none() || numbers[0] > most {
            let factor = most / numbers[0];
            numbers = numbers.map(|x| x * factor);
        }
        let [sentences, frame, measured] = numbers;
        Numbers {
            sentences: (sentences.ceil() as usize).clamp(2, what.stop.most),
            frame: (frame.ceil() as usize).max(LEAST),
            measured: whole_batches(measured.ceil() as usize),
            draws,
            vectors,
            scatter,
        }
    }

    /// So much of what a pilot asks for.
    fn times(self, share: f64) -> Numbers {
        let of = |n: usize| (n as f64 * share).ceil() as usize;
        Numbers {
            sentences: of(self.sentences).max(2),
            frame: of(self.frame).max(LEAST),
            measured: whole_batches(of(self.measured)),
            ..self
        }
    }

    /// What a variance takes beside what there is, by what was seen of it: sentences with signs and what they cost, and
    /// draws of the residual and what they and their frames cost. Of a part at the most as much again.
    fn lacking(&self, found: &Found, costs: [f64; 2], variance: f64) -> Numbers {
        let (signs, lot) = (&found.signs, &found.lot);
        let there = [signs.values.len(), lot.measured].map(|n| n as f64);
        let own = [signs.standard_error.powi(2), lot.probe + lot.data];
        let component = |j: usize| Component { variance: own[j] * there[j], cost: costs[j] / there[j] };
        let more = allocation::more([component(0), component(1)], there, variance);
        let [sentences, measured] = std::array::from_fn(|j| match more[j] {
            0.0 => 0.0,
            more => more.clamp(0.05 * there[j], there[j]),
        });
        let measured = if measured > 0.0 { whole_batches(measured.ceil() as usize) } else { 0 };
        // A frame as large beside its draws as what there is, since lots count by their draws.
        let frame = lot.frame as f64 * measured as f64 / there[1];
        Numbers { sentences: sentences.ceil() as usize, frame: (frame.ceil() as usize).max(LEAST), measured, ..*self }
    }
}

/// Tr H of the language.
///
/// Interrupted, it is of what was whole until then, at the least the pilot.
///
/// # Errors
/// A pilot or a sample that is too small; an interrupt before the pilot was whole; what the adapter says.
pub fn split_trace(
    setting: &Setting<'_>,
    language: &dyn Numbered,
    what: &Split,
    observe: Observe<'_>,
) -> Result<SplitTrace, CurvatureError> {
    if what.stop.minimum < 16 || what.stop.most < 2 || what.draws == Some(0) {
        return Err(Refusal::SmallSplit.into());
    }
    if !what.stop.is_sensible() {
        return Err(Refusal::RelativeError.into());
    }
    let pilot = what.stop.minimum;
    let mut signs = Signs::new(setting, language, PILOT, pilot, (what.seed ^ PILOT, 2))?;
    signs.run(pilot, observe)?;
    let mut residual = Residual::new(setting, language, what.seed);
    let plan = Plan { first: PILOT_FRAME, frame: FRAME, draws: DRAWS, vectors: VECTORS };
    let lot = residual.lot(plan, observe)?;
    let settled = residual.settle(lot);
    let mut found = Found { signs: signs.trace(), positions: signs.positions(), lot };
    let numbers = Numbers::of(what, &found.signs, pilot, &settled);
    let pilot_cost = signs.cost();
    let pilot_residual = residual.cost;
    // The rest of the pilot is done with.
    let first = signs.subject.sentences[..1].to_vec();
    drop(signs);

    // So many sentences as are asked for, at once; for an error, step by step.
    let mut now = if what.stop.rel_error.is_some() { numbers.times(FIRST) } else { numbers };
    let mut lots: Vec<Lot> = vec![];
    let mut whole: Option<Signs> = None;
    let mut signs_cost = 0.0;
    let mut frames = FRAMES;
    for _ in 0..ROUNDS {
        let round = (|| {
            let signs = match whole.take() {
                None => {
                    let seed = (what.seed, numbers.draws);
                    let mut signs = Signs::new(setting, language, 0, now.sentences, seed)?;
                    signs.scatter = Some(numbers.scatter);
                    signs.run(now.sentences, observe)?;
                    signs
                }
                Some(mut signs) => {
                    let done = signs.subject.examples();
                    let more = now.sentences.min(what.stop.most - done);
                    if more > 0 {
                        signs.subject.extend(&language.sentences(done as u64..(done + more) as u64)?)?;
                        signs.run(done + more, observe)?;
                    }
                    signs
                }
            };
            let plan = Plan { first: frames, frame: now.frame, draws: now.measured, vectors: now.vectors };
            let lot = (now.measured > 0).then(|| residual.lot(plan, observe)).transpose()?;
            Ok::<_, CurvatureError>((signs, lot))
        })();
        let Some((signs, lot)) = unless_interrupted(round)? else {
            let draws = if lots.is_empty() { 2 } else { numbers.draws };
            return Ok(found.finish(draws, pilot_cost + signs_cost + residual.cost, first, (false, true)));
        };
        frames += now.frame as u64;
        lots.extend(lot);
        found = Found { signs: signs.trace(), positions: signs.positions(), lot: together(&lots) };
        let parts = found.parts();
        let value = Some((parts.value, parts.standard_error));
        let done = signs.drawing.examples();
        let seen = unless_interrupted(observe(&Progress { done, of: what.stop.most, value }))?;
        let reached = what.stop.satisfied(parts.value, parts.standard_error);
        signs_cost = signs.cost();
        whole = Some(signs);
        if reached || seen.is_none() || done >= what.stop.most {
            break;
        }
        let wanted = what.stop.wanted(parts.value).unwrap_or(parts.standard_error);
        now = numbers.lacking(&found, [signs_cost, residual.cost - pilot_residual], wanted * wanted / 1.05);
    }
    let parts = found.parts();
    let reached = what.stop.satisfied(parts.value, parts.standard_error);
    let cost = pilot_cost + signs_cost + residual.cost;
    Ok(found.finish(numbers.draws, cost, first, (reached, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs of 1,000 sentences and 256 draws from a frame of 2,000, with these variances.
    fn found(signs: f64, lot: f64) -> Found {
        let parts = Parts {
            value: 90.0,
            standard_error: signs.sqrt(),
            standard_error_probe: 0.0,
            standard_error_data: signs.sqrt(),
        };
        let signs = Trace::of(Estimator::SignsAndResidual, parts, Target::Population, vec![90.0; 1000]);
        let none = Scatter { between: 0.0, within: 0.0 };
        let (probe, data) = (lot / 4.0, lot * 0.75);
        let lot = Lot { value: 5.0, probe, data, frame: 2000, measured: 256, vectors: 2, draw: none, between: 0.0 };
        Found { signs, positions: 1000, lot }
    }

    #[test]
    fn of_what_there_is_enough_of_nothing_is_taken_and_of_the_rest_at_the_most_as_much_again() {
        let scatter = Scatter { between: 1.0, within: 1.0 };
        let numbers = Numbers { sentences: 9, frame: 9, measured: 9, draws: 1, vectors: 2, scatter };
        let lacking = |signs: f64, lot: f64, variance: f64| {
            let Numbers { sentences, frame, measured, .. } =
                numbers.lacking(&found(signs, lot), [900.0, 900.0], variance);
            [sentences, frame, measured]
        };
        // Both alike: nearly half as much again takes nearly a third off the variance.
        let [sentences, frame, measured] = lacking(1.0, 1.0, 2.0 / 1.499);
        assert!((499..=500).contains(&sentences), "{sentences}");
        assert_eq!([frame, measured], [1000, 128]);
        // Far from it: as much again.
        assert_eq!(lacking(1.0, 1.0, 0.1), [1000, 2000, 256]);
        // All of the error is the residual's, and the other way round.
        let [sentences, frame, measured] = lacking(1e-6, 1.0, 0.5);
        assert_eq!([sentences, frame * 256], [0, measured * 2000]);
        assert!((250..=256).contains(&measured), "{measured}");
        let [sentences, _, measured] = lacking(1.0, 1e-6, 0.5);
        assert!(measured == 0 && (990..=1000).contains(&sentences), "{sentences}");
        // Next to nothing lacks: a twentieth, of the residual in whole batches with a frame to match.
        assert_eq!(lacking(1.0, 1.0, 1.99), [50, 1000, 128]);
    }
}
