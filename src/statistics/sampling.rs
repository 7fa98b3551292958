//! Unbiased means where a few examples hold much of the sum: importance sampling and stratified sampling from a frame.
//!
//! A frame is a list of N examples of which something cheap is known (length, loss, 1 - Σ p²). The wanted number is T =
//! Σ w_i y_i over the frame, or over the population that the frame was drawn from; y is measured for few of them. Both
//! designs draw with replacement, so that their variance estimates are exact in expectation too: Hansen and Hurwitz
//! 1943; Neyman 1934 for the allocation; Cochran 1977, "Sampling techniques", chapters 9A and 12.
//!
//! A pilot of plain draws tells how large y is where the cheap number is large; its values are not used again.
//!
//! ```
//! use lowland::statistics::{Importance, Measured, Stratified, Target};
//! // Known of every sentence: its weight and something cheap. Measured: y, here ten times the cheap number.
//! let (weights, cheap): (Vec<f64>, Vec<f64>) = (0..500).map(|i| (1.0, if i % 100 == 0 { 90.0 } else { 1.0 })).unzip();
//! let measure = |i: usize| Measured { example: i, values: vec![10.0 * cheap[i], 10.0 * cheap[i]] };
//! let strata = Stratified::by_proxy(&weights, &cheap, 4)?;
//! let plain = Importance::new(&weights, &vec![1.0; 500], 1.0)?;
//! let pilot: Vec<Measured> = (0..200).map(|k| measure(plain.draw(1, k))).collect();
//! let size = strata.spread(&pilot, false);
//! let predicted: Vec<f64> = strata.strata.iter().map(|h| size[*h]).collect();
//! let design = Importance::new(&weights, &predicted, 0.1)?;
//! let sample: Vec<Measured> = (0..400).map(|k| measure(design.draw(2, k))).collect();
//! let mean = design.estimate(&sample, None, Target::TheseExamples);
//! assert!((mean.value - 18.9).abs() < 4.0 * mean.standard_error && mean.standard_error < 0.5);
//! # Ok::<(), lowland::statistics::DesignError>(())
//! ```

use serde::Serialize;

use super::components::{Parts, Target};
use crate::random::{Purpose, Stream};

/// A measured example: its place in the frame, and one value per draw of labels or probes of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Number in the frame.
    pub example: usize,
    /// At least two where the error's parts are wanted apart.
    pub values: Vec<f64>,
}

impl Measured {
    fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// Variance of the mean by the draws; NaN for a single one.
    fn noise(&self) -> f64 {
        let (n, mean) = (self.values.len() as f64, self.mean());
        self.values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n
    }
}

/// Why a design cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct DesignError(String);

fn checked(weights: &[f64], others: &[f64], what: &str) -> Result<Vec<f64>, DesignError> {
    let total: f64 = weights.iter().sum();
    if weights.is_empty() || weights.len() != others.len() {
        return Err(DesignError(format!("{} weights and {} {what} for a frame", weights.len(), others.len())));
    }
    if !weights.iter().all(|w| *w > 0.0) || !total.is_finite() || !others.iter().all(|x| x.is_finite()) {
        return Err(DesignError(format!("weights must be positive, weights and {what} finite")));
    }
    Ok(weights.iter().map(|w| w / total).collect())
}

/// Numbers drawn in proportion to weights.
#[derive(Clone, Debug)]
struct Urn(Vec<f64>);

impl Urn {
    fn new(weights: impl Iterator<Item = f64>) -> Urn {
        let mut sum = 0.0;
        Urn(weights
            .map(|w| {
                sum += w;
                sum
            })
            .collect())
    }

    fn draw(&self, stream: &mut Stream) -> usize {
        let x = stream.uniform() * self.0[self.0.len() - 1];
        self.0.partition_point(|c| *c <= x).min(self.0.len() - 1)
    }
}

/// The variance that a frame adds where it is itself a sample: Σ (w_i (y_i - T))² over the frame, seen through the
/// design's inclusion weights.
fn frame_variance(terms: impl Iterator<Item = f64>, frame: usize) -> f64 {
    let n = frame as f64;
    terms.sum::<f64>() * n / (n - 1.0)
}

/// Draws with probability π_i, estimate Σ w_j y_j / π_j / n.
#[derive(Clone, Debug)]
pub struct Importance {
    weights: Vec<f64>,
    probabilities: Vec<f64>,
    urn: Urn,
}

impl Importance {
    /// π_i = α w_i + (1 - α) w_i g_i / Σ w g, with g the predicted size of y (best: √E y²) and α = `plain`, a share of
    /// plain draws that bounds what a wrong prediction can do: no weight w_i / π_i is above 1 / α.
    pub fn new(weights: &[f64], predicted: &[f64], plain: f64) -> Result<Importance, DesignError> {
        let weights = checked(weights, predicted, "predictions")?;
        if !(plain > 0.0 && plain <= 1.0) || predicted.iter().any(|g| *g < 0.0) {
            return Err(DesignError(format!(
                "predictions must not be negative, and the share of plain draws ({plain}) above 0"
            )));
        }
        let sum: f64 = weights.iter().zip(predicted).map(|(w, g)| w * g).sum();
        let share = |g: f64| if sum > 0.0 { plain + (1.0 - plain) * g / sum } else { 1.0 };
        let probabilities: Vec<f64> = weights.iter().zip(predicted).map(|(w, g)| w * share(*g)).collect();
        Ok(Importance { urn: Urn::new(probabilities.iter().copied()), weights, probabilities })
    }

    /// Probability of each example of the frame in one draw.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// The example of draw `number`, a function of the seed and the number. An example may come more than once; each
    /// time it needs label draws of its own.
    pub fn draw(&self, seed: u64, number: u64) -> usize {
        self.urn.draw(&mut Stream::new(seed, Purpose::Sample, number))
    }

    /// w_j y_j / π_j of each measured example: their plain mean is the estimate without a control.
    pub fn terms(&self, sample: &[Measured]) -> Vec<f64> {
        sample.iter().map(|m| self.weights[m.example] / self.probabilities[m.example] * m.mean()).collect()
    }

    /// The mean over the frame, or over its population. `control` is a prediction of every y of the frame, fixed before
    /// these draws: its mean is known, so that only y minus control is sampled.
    pub fn estimate(&self, sample: &[Measured], control: Option<&[f64]>, target: Target) -> Parts {
        let n = sample.len() as f64;
        let predicted = |i: usize| control.map_or(0.0, |c| c[i]);
        let known: f64 = (0..self.weights.len()).map(|i| self.weights[i] * predicted(i)).sum();
        let scale = |m: &Measured| self.weights[m.example] / self.probabilities[m.example];
        let terms: Vec<f64> = sample.iter().map(|m| scale(m) * (m.mean() - predicted(m.example))).collect();
        let mean = terms.iter().sum::<f64>() / n;
        let value = known + mean;
        let scatter = terms.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (n - 1.0) / n;
        let probe = sample.iter().map(|m| scale(m).powi(2) * m.noise()).sum::<f64>() / (n * n);
        let frame = match target {
            Target::TheseExamples => 0.0,
            Target::Population => frame_variance(
                sample.iter().map(|m| {
                    let noise = m.noise();
                    let square = (m.mean() - value).powi(2) - if noise.is_nan() { 0.0 } else { noise };
                    self.weights[m.example].powi(2) / self.probabilities[m.example] * square / n
                }),
                self.weights.len(),
            ),
        };
        Parts { standard_error: (scatter + frame.max(0.0)).sqrt(), ..Parts::of(value, probe, scatter - probe + frame) }
    }
}

/// Strata of a frame, each with a number of draws.
#[derive(Clone, Debug)]
pub struct Stratified {
    /// The stratum of each example.
    pub strata: Vec<usize>,
    /// Draws in each; where they reach the stratum's size it is taken whole.
    pub draws: Vec<usize>,
    weights: Vec<f64>,
    members: Vec<Vec<usize>>,
    urns: Vec<Urn>,
}

impl Stratified {
    /// At most `count` strata by a cheap `proxy` of the size of y, each with a like share of Σ w |proxy|, so that the
    /// tail is cut finely. Equal proxies stay together.
    pub fn by_proxy(weights: &[f64], proxy: &[f64], count: usize) -> Result<Stratified, DesignError> {
        let shares = checked(weights, proxy, "proxies")?;
        let mut order: Vec<usize> = (0..proxy.len()).collect();
        order.sort_by(|a, b| proxy[*a].total_cmp(&proxy[*b]));
        let size = |i: usize| shares[i] * (proxy[i].abs() + f64::MIN_POSITIVE);
        let whole: f64 = order.iter().map(|i| size(*i)).sum();
        let mut strata = vec![0; proxy.len()];
        let (mut sum, mut cell, mut stratum) = (0.0, 0, 0);
        for (place, &i) in order.iter().enumerate() {
            let now = ((sum + size(i) / 2.0) / whole * count as f64) as usize;
            if place > 0 && now > cell && proxy[order[place - 1]] != proxy[i] {
                (cell, stratum) = (now, stratum + 1);
            }
            strata[i] = stratum;
            sum += size(i);
        }
        Stratified::new(weights, strata)
    }

    /// Given strata, numbered from 0.
    pub fn new(weights: &[f64], strata: Vec<usize>) -> Result<Stratified, DesignError> {
        let weights = checked(weights, &vec![0.0; strata.len()], "strata")?;
        let count = strata.iter().max().map_or(0, |m| m + 1);
        let mut members = vec![vec![]; count];
        for (i, s) in strata.iter().enumerate() {
            members[*s].push(i);
        }
        if let Some(empty) = members.iter().position(Vec::is_empty) {
            return Err(DesignError(format!("stratum {empty} of {count} has no example")));
        }
        let urns = members.iter().map(|m| Urn::new(m.iter().map(|i| weights[*i]))).collect();
        Ok(Stratified { draws: vec![0; count], strata, weights, members, urns })
    }

    /// Share of the whole weight in each stratum.
    pub fn shares(&self) -> Vec<f64> {
        self.members.iter().map(|m| m.iter().map(|i| self.weights[*i]).sum()).collect()
    }

    /// Examples in each stratum.
    pub fn sizes(&self) -> Vec<usize> {
        self.members.iter().map(Vec::len).collect()
    }

    /// Root mean square of y about its mean (`centred`) or about 0 in each stratum, from a pilot sample of plain draws.
    /// A stratum with fewer than two of them takes the larger of its nearest neighbours' values.
    pub fn spread(&self, pilot: &[Measured], centred: bool) -> Vec<f64> {
        let count = self.members.len();
        let known: Vec<Option<f64>> = (0..count)
            .map(|h| {
                let y: Vec<f64> = pilot.iter().filter(|m| self.strata[m.example] == h).map(Measured::mean).collect();
                let n = y.len() as f64;
                let mean = if centred { y.iter().sum::<f64>() / n } else { 0.0 };
                let squares: f64 = y.iter().map(|y| (y - mean).powi(2)).sum();
                (y.len() > 1).then(|| (squares / if centred { n - 1.0 } else { n }).sqrt())
            })
            .collect();
        let near = |h: usize| {
            let below = known[..h].iter().rev().find_map(|s| *s);
            let above = known[h..].iter().find_map(|s| *s);
            below.unwrap_or(0.0).max(above.unwrap_or(0.0))
        };
        (0..count).map(|h| known[h].unwrap_or_else(|| near(h))).collect()
    }

    /// Spreads `total` draws in proportion to share times `spread` (Neyman), at least two per stratum. A stratum that
    /// would be drawn as often as it has examples is taken whole and leaves its rest to the others.
    pub fn allocate(&mut self, spread: &[f64], total: usize) {
        let (shares, sizes) = (self.shares(), self.sizes());
        let mut whole = vec![false; sizes.len()];
        loop {
            let taken: usize = (0..sizes.len()).filter(|h| whole[*h]).map(|h| sizes[h]).sum();
            let rest = total.saturating_sub(taken) as f64;
            let sum: f64 = (0..sizes.len()).filter(|h| !whole[*h]).map(|h| shares[h] * spread[h]).sum();
            let mut changed = false;
            for h in 0..sizes.len() {
                if whole[h] {
                    continue;
                }
                let n = if sum > 0.0 { rest * shares[h] * spread[h] / sum } else { rest * shares[h] };
                self.draws[h] = (n.round() as usize).max(2);
                if self.draws[h] >= sizes[h] {
                    (whole[h], self.draws[h], changed) = (true, sizes[h], true);
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Whether a stratum is taken whole.
    fn whole(&self, h: usize) -> bool {
        self.draws[h] >= self.members[h].len()
    }

    /// The examples to measure: whole strata in order, the others drawn in proportion to weight, with replacement; draw
    /// j of stratum h is a function of the seed, h and j.
    pub fn sample(&self, seed: u64) -> Vec<usize> {
        let of = |h: usize| -> Vec<usize> {
            if self.whole(h) {
                return self.members[h].clone();
            }
            let one = |j| self.urns[h].draw(&mut Stream::new(seed, Purpose::Sample, (h as u64) << 32 | j));
            (0..self.draws[h] as u64).map(|j| self.members[h][one(j)]).collect()
        };
        (0..self.members.len()).flat_map(of).collect()
    }

    /// The mean over the frame, or over its population, from the examples of [`sample`](Self::sample). The allocation
    /// must not depend on these values: a pilot is a sample of its own.
    ///
    /// An example of a whole stratum needs two draws or more for a standard error.
    pub fn estimate(&self, sample: &[Measured], target: Target) -> Parts {
        let mut by = vec![vec![]; self.members.len()];
        for m in sample {
            by[self.strata[m.example]].push(m);
        }
        let shares = self.shares();
        let mean = |h: usize| -> f64 {
            if self.whole(h) {
                by[h].iter().map(|m| self.weights[m.example] * m.mean()).sum()
            } else {
                shares[h] * by[h].iter().map(|m| m.mean()).sum::<f64>() / by[h].len() as f64
            }
        };
        let value: f64 = (0..by.len()).map(mean).sum();
        let (mut scatter, mut probe, mut frame) = (0.0, 0.0, vec![]);
        for (h, sample) in by.iter().enumerate() {
            let (n, share, whole) = (sample.len() as f64, shares[h], self.whole(h));
            // Variance of the stratum's part, by its draws of labels, and in all.
            let scale = |m: &Measured| if whole { self.weights[m.example] } else { share / n };
            let noise: f64 = sample.iter().map(|m| scale(m).powi(2) * m.noise()).sum();
            let centre = sample.iter().map(|m| m.mean()).sum::<f64>() / n;
            let squares: f64 = sample.iter().map(|m| (m.mean() - centre).powi(2)).sum();
            probe += noise;
            scatter += if whole { noise } else { share * share * squares / (n - 1.0) / n };
            frame.extend(sample.iter().map(|m| {
                let noise = m.noise();
                let square = (m.mean() - value).powi(2) - if noise.is_nan() { 0.0 } else { noise };
                self.weights[m.example] * scale(m) * square
            }));
        }
        let frame = match target {
            Target::TheseExamples => 0.0,
            Target::Population => frame_variance(frame.into_iter(), self.weights.len()),
        };
        Parts { standard_error: (scatter + frame.max(0.0)).sqrt(), ..Parts::of(value, probe, scatter - probe + frame) }
    }
}
