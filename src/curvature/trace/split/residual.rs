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
pub(super) const BATCHES: usize = 32;
/// Fewest sentences that share vectors.
const SMALLEST: usize = 4;
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
        let mut sample = Sample::of(&design, &weights);
        for own in drawn.chunks_exact(sharing(plan.draws)) {
            let forms = self.forms(own.iter().map(|i| frame[*i].clone()).collect(), plan.vectors)?;
            sample.push(own, &forms);
            observe(&Progress { done: sample.measured.len(), of: plan.draws, value: None })?;
        }
        for (moment, power) in self.moments.iter_mut().zip(POWERS) {
            *moment = sample.moment(&Importance::new(&weights, &to(power), PLAIN)?);
        }
        Ok(sample.lot())
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

/// Draws from a frame, in batches that have vectors of their own.
struct Sample<'a> {
    design: &'a Importance,
    /// Predicted positions of the frame's sentences.
    weights: &'a [f64],
    total: f64,
    /// Of a position.
    measured: Vec<Measured>,
    /// The estimates of the batches.
    means: Vec<f64>,
    /// Components of single values by vector, draw and both, summed over the batches.
    components: [f64; 3],
}

impl<'a> Sample<'a> {
    fn of(design: &'a Importance, weights: &'a [f64]) -> Sample<'a> {
        let total = weights.iter().sum();
        Sample { design, weights, total, measured: vec![], means: vec![], components: [0.0; 3] }
    }

    /// How many times its share of the frame a sentence counts.
    fn scale(&self, i: usize) -> f64 {
        self.weights[i] / self.total / self.design.probabilities()[i]
    }

    /// A batch: sentences of the frame, and their forms `[vector][sentence]`.
    fn push(&mut self, own: &[usize], forms: &[Vec<f64>]) {
        let position = |form: &[f64], j: usize| form[j] / self.weights[own[j]];
        let mut crossed = Crossed::new(&vec![1.0; own.len()]);
        for form in forms {
            let values: Vec<f64> = (0..own.len()).map(|j| self.scale(own[j]) * position(form, j)).collect();
            crossed.push(&values);
        }
        let values = |j: usize| forms.iter().map(|form| position(form, j)).collect();
        let measured: Vec<Measured> = (0..own.len()).map(|j| Measured { example: own[j], values: values(j) }).collect();
        self.measured.extend(measured);
        self.means.push(crossed.rows().iter().sum::<f64>() / forms.len() as f64);
        self.components.iter_mut().zip(crossed.components()).for_each(|(sum, part)| *sum += part);
    }

    /// Second moment that a draw of another design would have.
    fn moment(&self, other: &Importance) -> f64 {
        let one = |own: &Measured| {
            let (i, mean) = (own.example, own.values.iter().sum::<f64>() / own.values.len() as f64);
            self.scale(i) * mean * mean * self.weights[i] / self.total / other.probabilities()[i]
        };
        self.measured.iter().map(one).sum::<f64>() / self.measured.len() as f64
    }

    /// Batches are independent and alike, the frame given: their scatter is the error of their mean, without bias and
    /// whatever the draws of one have in common. A frame is a sample too, which adds its own.
    fn lot(&self) -> Lot {
        let vectors = self.measured[0].values.len();
        let (m, k, batches) = (self.measured.len() as f64, vectors as f64, self.means.len() as f64);
        let [shared, draw, both] = self.components.map(|sum| sum / batches);
        let mean = Estimate::of_mean(&self.means);
        let given = mean.standard_error.powi(2);
        let probe = ((shared / batches + both / m) / k).clamp(0.0, given);
        let of = |target: Target| self.design.estimate(&self.measured, None, target).standard_error.powi(2);
        let frames = of(Target::Population) - of(Target::TheseExamples);
        Lot {
            value: mean.value,
            probe,
            data: given - probe + frames,
            frame: self.weights.len(),
            measured: self.measured.len(),
            vectors,
            draw: Scatter { between: draw.max(0.0), within: (both + BATCH as f64 * shared).max(0.0) },
            between: frames * self.weights.len() as f64,
        }
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
        vectors: lots.last().map_or(0, |lot| lot.vectors),
        draw: Scatter { between: sum(|lot| lot.draw.between), within: sum(|lot| lot.draw.within) },
        between: sum(|lot| lot.between),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All draws of two sentences of a frame of three and all signs of two vectors, in each of two batches: matrices
    /// [[a, b], [b, c]] in the sentences' place, whose forms of signs are a + c ± 2 b.
    #[test]
    fn a_lot_has_the_mean_and_the_variance_of_all_its_outcomes() {
        let (weights, sizes) = ([1.0, 2.0, 1.0], [0.5, 1.0, 3.0]);
        let (traces, crossed) = ([4.0, -6.0, 9.0], [1.5, 0.5, -2.0]);
        let design = Importance::new(&weights, &sizes, PLAIN).unwrap();
        let chances = design.probabilities();
        let outcomes: Vec<(f64, [usize; 2], [f64; 2])> = (0..36)
            .map(|o| {
                let own = [o % 3, o / 3 % 3];
                let sign = |bit: usize| if ((o / 9) >> bit) & 1 == 0 { 1.0 } else { -1.0 };
                (chances[own[0]] * chances[own[1]] / 4.0, own, [sign(0), sign(1)])
            })
            .collect();
        let forms = |own: &[usize; 2], signs: &[f64; 2]| -> Vec<Vec<f64>> {
            signs.iter().map(|s| own.iter().map(|i| traces[*i] + 2.0 * s * crossed[*i]).collect()).collect()
        };
        let (mut whole, mut mean, mut square, mut stated) = (0.0, 0.0, 0.0, 0.0);
        for (p, own, signs) in &outcomes {
            for (q, other, others) in &outcomes {
                let mut sample = Sample::of(&design, &weights);
                sample.push(own, &forms(own, signs));
                sample.push(other, &forms(other, others));
                let lot = sample.lot();
                let chance = p * q;
                whole += chance;
                mean += chance * lot.value;
                square += chance * lot.value * lot.value;
                stated += chance * (lot.probe + lot.data - lot.between / lot.frame as f64);
            }
        }
        assert!((whole - 1.0).abs() < 1e-12, "{whole}");
        // Per position of the frame.
        assert!((mean - (4.0 - 6.0 + 9.0) / 4.0).abs() < 1e-12, "{mean}");
        let variance = square - mean * mean;
        assert!((stated / variance - 1.0).abs() < 1e-10, "stated {stated}, of all outcomes {variance}");
    }

    #[test]
    fn lots_are_whole_batches_and_never_few() {
        for least in [1, 127, 128, 129, 200, 1000, 1024, 1025, 1087, 5000] {
            let draws = whole_batches(least);
            let own = sharing(draws);
            assert!(draws >= least && draws.is_multiple_of(own) && draws / own >= BATCHES, "{least}: {draws} by {own}");
            assert!(draws < least.max(BATCHES * SMALLEST) + BATCH, "{least}: {draws}");
        }
    }
}
