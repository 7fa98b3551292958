//! Tr(H - G) of a language: sentences by importance from a frame, quadratic forms by the batch.
//!
//! H_i - G_i = Σ_v (p_v - q_v) ∇²z_v, with the exact conditional q for the label. A forward pass tells how far p is
//! from q, and that is how large the residual is: sentences are drawn in proportion to it.

use super::allocation::Scatter;
use crate::curvature::{
    Block, CurvatureError, Numbered, Observe, ProbeKind, Probes, Progress, ResidualPass, Setting, Subject, divergence,
};
use crate::ops::batch::Sentence;
use crate::statistics::{Crossed, Estimate, Importance, Measured, Target};

/// Most sentences that share vectors.
pub(super) const BATCH: usize = 64;
/// Batches of a lot at the least: their scatter is its error, and that of few would tell it too badly.
pub(super) const BATCHES: usize = 16;
/// Fewest sentences that share vectors.
const SMALLEST: usize = 8;
/// Share of plain draws, which bounds what a wrong prediction can do: no draw weighs more than four. A sample that
/// misses the heaviest draws states too small an error.
const PLAIN: f64 = 0.25;
/// What a power must leave of the pilot's second moment to be taken: the least of noisy ones is too often chance.
const GAIN: f64 = 0.8;
/// Powers of the expected size that sentences may be drawn in proportion to; the first is the pilot's.
const POWERS: [f64; 3] = [1.0, 1.5, 2.0];

/// A sample from a frame of its own, by its variances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lot {
    pub value: f64,
    /// Variance by the vectors.
    pub probe: f64,
    /// By the choice of sentences.
    pub data: f64,
    pub frame: usize,
    pub measured: usize,
    /// Predicted positions of what was measured.
    pub positions: usize,
    pub vectors: usize,
    /// Of one draw from the frame.
    pub draw: Scatter,
    /// Between the language's sentences.
    pub between: f64,
}

/// A pass over sentences of a language, in lots.
pub(super) struct Residual<'a> {
    setting: &'a Setting<'a>,
    language: &'a dyn Numbered,
    seed: u64,
    measuring: Option<(Subject, ResidualPass)>,
    /// Number of the next vector.
    next: usize,
    /// Sentences are drawn in proportion to this power of the expected size.
    power: f64,
    /// Second moments of a draw that the last lot says each of [`POWERS`] would have.
    moments: [f64; POWERS.len()],
    pub cost: f64,
}

/// What a lot is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// First sentence of the frame, and its size.
    pub first: u64,
    pub frame: usize,
    /// Draws from it.
    pub draws: usize,
    /// Vectors of a batch.
    pub vectors: usize,
}

impl<'a> Residual<'a> {
    pub fn new(setting: &'a Setting<'a>, language: &'a dyn Numbered, seed: u64) -> Residual<'a> {
        let (power, moments) = (POWERS[0], [0.0; POWERS.len()]);
        Residual { setting, language, seed, measuring: None, next: 0, power, moments, cost: 0.0 }
    }

    /// Takes the power that the pilot says to be the best, and what its draws are worth then.
    pub fn settle(&mut self, pilot: Lot) -> Lot {
        let at = |i: usize| self.moments[i];
        let least = (0..POWERS.len()).min_by(|a, b| at(*a).total_cmp(&at(*b))).unwrap_or(0);
        let best = if at(least) < GAIN * at(0) { least } else { 0 };
        self.power = POWERS[best];
        let gain = if at(0) > 0.0 { at(best) / at(0) } else { 1.0 };
        let draw = Scatter { between: pilot.draw.between * gain, within: pilot.draw.within * gain };
        Lot { draw, ..pilot }
    }

    /// Sentences with the exact distributions of their labels where these are known.
    fn sentences(&self, plan: Plan) -> Result<Vec<Sentence>, CurvatureError> {
        let numbers = plan.first..plan.first + plan.frame as u64;
        Ok(match self.language.exact_sentences(numbers.clone())? {
            Some(sentences) => sentences,
            None => self.language.sentences(numbers)?,
        })
    }

    /// Measures a lot; an interrupt leaves nothing of it.
    pub fn lot(&mut self, plan: Plan, observe: Observe<'_>) -> Result<Lot, CurvatureError> {
        let frame = self.sentences(plan)?;
        let weights: Vec<f64> = frame.iter().map(|s| s.masked.len() as f64).collect();
        let away = divergence(&self.setting.subject(&frame)?)?;
        let known = frame.iter().all(|s| s.soft.len() == s.masked.len());
        let sizes: Vec<f64> = away.iter().zip(&weights).map(|(d, n)| size(d / n, known)).collect();
        let to = |power: f64| -> Vec<f64> { sizes.iter().map(|s| s.powf(power)).collect() };
        self.cost += super::allocation::FORWARD * frame.len() as f64;
        let design = Importance::new(&weights, &to(self.power), PLAIN)?;
        let drawn: Vec<usize> = (0..plan.draws).map(|k| design.draw(self.seed ^ plan.first, k as u64)).collect();
        let total: f64 = weights.iter().sum();
        let scale = |i: usize| weights[i] / total / design.probabilities()[i];

        let mut sample: Vec<Measured> = Vec::with_capacity(plan.draws);
        let (mut means, mut parts) = (vec![], [0.0; 3]);
        let together = sharing(plan.draws);
        for own in drawn.chunks_exact(together) {
            let forms = self.forms(own.iter().map(|i| frame[*i].clone()).collect(), plan.vectors)?;
            let mut crossed = Crossed::new(&vec![1.0; own.len()]);
            for form in &forms {
                crossed.push(&own.iter().zip(form).map(|(i, y)| scale(*i) * y / weights[*i]).collect::<Vec<f64>>());
            }
            means.push(crossed.rows().iter().sum::<f64>() / forms.len() as f64);
            parts.iter_mut().zip(crossed.components()).for_each(|(sum, part)| *sum += part);
            let values = |(j, i): (usize, &usize)| Measured {
                example: *i,
                values: forms.iter().map(|form| form[j] / weights[*i]).collect(),
            };
            sample.extend(own.iter().enumerate().map(values));
            observe(&Progress { done: sample.len(), of: plan.draws, value: None })?;
        }
        for (moment, power) in self.moments.iter_mut().zip(POWERS) {
            let other = Importance::new(&weights, &to(power), PLAIN)?;
            let one = |own: &Measured| {
                let (i, mean) = (own.example, own.values.iter().sum::<f64>() / own.values.len() as f64);
                scale(i) * mean * mean * weights[i] / total / other.probabilities()[i]
            };
            *moment = sample.iter().map(one).sum::<f64>() / sample.len() as f64;
        }
        let (m, k, batches) = (sample.len() as f64, plan.vectors as f64, means.len() as f64);
        let [shared, draw, both] = parts.map(|sum| sum / batches);
        // Of the mean, the frame given: a batch has draws and vectors of its own.
        let mean = Estimate::of_mean(&means);
        let given = mean.standard_error.powi(2);
        let probe = ((shared / batches + both / m) / k).clamp(0.0, given);
        let of = |target: Target| design.estimate(&sample, None, target).standard_error.powi(2);
        let frames = of(Target::Population) - of(Target::TheseExamples);
        Ok(Lot {
            value: mean.value,
            probe,
            data: given - probe + frames,
            frame: frame.len(),
            measured: sample.len(),
            positions: sample.iter().map(|own| frame[own.example].masked.len()).sum(),
            vectors: plan.vectors,
            draw: Scatter { between: draw.max(0.0), within: (both + BATCH as f64 * shared).max(0.0) },
            between: frames * frame.len() as f64,
        })
    }

    /// Forms of new vectors over a batch, `[vector][sentence]`.
    fn forms(&mut self, sentences: Vec<Sentence>, vectors: usize) -> Result<Vec<Vec<f64>>, CurvatureError> {
        match &mut self.measuring {
            Some((subject, _)) => subject.extend(&sentences)?,
            None => {
                let mut subject = self.setting.subject_in(&sentences, BATCH)?;
                subject.reserve(self.language.longest(), self.language.most_predicted());
                let pass = ResidualPass::new(&subject)?;
                self.measuring = Some((subject, pass));
            }
        }
        let (subject, pass) = self.measuring.as_ref().expect("just made");
        let numbers = self.next..self.next + vectors;
        self.next = numbers.end;
        let probes = Probes { kind: ProbeKind::Rademacher, seed: self.seed, numbers, size: subject.size() };
        let flops = pass.flops();
        self.cost += (flops[0] + flops[1] * vectors as f64) / subject.gradient_flops() * sentences.len() as f64;
        pass.run(subject, subject.batches.len() - 1, Block::Probes(probes))
    }
}

/// How many of so many sentences share vectors.
fn sharing(draws: usize) -> usize {
    (draws / BATCHES).clamp(SMALLEST, BATCH)
}

/// A number of draws that is a whole number of batches, as many as make an error, and no fewer than `least`.
pub(super) fn whole_batches(least: usize) -> usize {
    let draws = least.max(BATCHES * SMALLEST);
    draws.next_multiple_of(if draws < BATCHES * BATCH { BATCHES } else { BATCH })
}

/// How large a residual is to be expected: p - q where q is known is as √KL; at a drawn label it is 1 - p_y.
fn size(divergence: f64, known: bool) -> f64 {
    if known { divergence.sqrt() } else { 1.0 - (-divergence).exp() }
}

/// Lots together, each by its number of draws.
pub(super) fn together(lots: &[Lot]) -> Lot {
    let all: usize = lots.iter().map(|lot| lot.measured).sum();
    let share = |lot: &Lot| lot.measured as f64 / all as f64;
    let sum = |of: fn(&Lot) -> f64| lots.iter().map(|lot| share(lot) * of(lot)).sum::<f64>();
    let variance = |of: fn(&Lot) -> f64| lots.iter().map(|lot| share(lot).powi(2) * of(lot)).sum::<f64>();
    Lot {
        value: sum(|lot| lot.value),
        probe: variance(|lot| lot.probe),
        data: variance(|lot| lot.data),
        frame: lots.iter().map(|lot| lot.frame).sum(),
        measured: all,
        positions: lots.iter().map(|lot| lot.positions).sum(),
        vectors: lots.last().map_or(0, |lot| lot.vectors),
        draw: Scatter { between: sum(|lot| lot.draw.between), within: sum(|lot| lot.draw.within) },
        between: sum(|lot| lot.between),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_whole_batches_and_never_few() {
        for least in [1, 127, 128, 129, 200, 1000, 1024, 1025, 1087, 5000] {
            let draws = whole_batches(least);
            let own = sharing(draws);
            assert!(draws >= least && draws % own == 0 && draws / own >= BATCHES, "{least}: {draws} by {own}");
            assert!(draws < least.max(BATCHES * SMALLEST) + BATCH, "{least}: {draws}");
        }
    }
}
