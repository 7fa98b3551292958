//! A hidden Markov model as a language: a length, one hidden state per position, one word per state.
//!
//! p(x, z | n) = π(z₁) E(z₁, x₁) ∏ T(zₜ₋₁, zₜ) E(zₜ, xₜ). With aₜ(z) ∝ p(zₜ = z, x₁..xₜ₋₁) and
//! bₜ(z) ∝ p(xₜ₊₁..xₙ | zₜ = z), scaled at every position (Rabiner 1989, section V.A), the exact conditional is
//! p(xₜ = w | the other words) ∝ Σ_z aₜ(z) bₜ(z) E(z, w), and the posterior of a hidden state
//! p(zₜ = z | x) ∝ aₜ(z) E(z, xₜ) bₜ(z).
//!
//! ```
//! use lowland::language::{Hmm, Task, Truth};
//! let text = "initial a 1\ntransition a b 1\ntransition b a 1\nemission a x 1\nemission b x 1\nemission b y 3\n";
//! let language = Hmm::parse(text, "toy.txt", 2, 2).unwrap();
//! let known = language.conditional(&[0, 1]).unwrap();
//! assert!((known.log_probability - 0.75f64.ln()).abs() < 1e-12);
//! assert_eq!(language.label(&[0, 1], Task::State(2), false).unwrap().symbol, "b");
//! ```

use super::label::{Label, LabelError, Task};
use super::source::{LanguageError, list};
use super::{Known, Language, NoTruth, Prefixes, Truth, Words};
use crate::random::{Purpose, Stream};

/// Rows of probabilities with their cumulative sums as 64-bit thresholds: integers, so that every machine draws the
/// same.
#[derive(Clone, Debug)]
struct Rows {
    width: usize,
    p: Vec<f64>,
    upto: Vec<u64>,
}

impl Rows {
    /// Normalises rows of weights, each with a positive sum.
    fn new(width: usize, mut weights: Vec<f64>) -> Rows {
        let mut upto = Vec::with_capacity(weights.len());
        for row in weights.chunks_exact_mut(width) {
            let total: f64 = row.iter().sum();
            let mut sum = 0.0;
            for p in row {
                *p /= total;
                sum += *p;
                upto.push((sum * 18_446_744_073_709_551_616.0) as u64);
            }
        }
        Rows { width, p: weights, upto }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.p[i * self.width..][..self.width]
    }

    /// Draws from a row; never what has probability 0.
    fn draw(&self, i: usize, stream: &mut Stream) -> usize {
        let draw = u64::from(stream.bits()) << 32 | u64::from(stream.bits());
        let at = self.upto[i * self.width..][..self.width].partition_point(|upto| *upto <= draw).min(self.width - 1);
        // Rounding may leave a gap behind the last positive probability.
        (0..=at).rev().find(|j| self.row(i)[*j] > 0.0).unwrap_or(at)
    }
}

/// A hidden Markov model with lengths uniform in `min_length..=max_length`.
#[derive(Clone, Debug)]
pub struct Hmm {
    states: Vec<String>,
    words: Vec<String>,
    min_length: usize,
    max_length: usize,
    initial: Rows,
    transition: Rows,
    emission: Rows,
    /// The emission matrix with words as rows.
    by_word: Vec<f64>,
    notes: Vec<String>,
}

/// Non-negative weights of a model, to be normalised row by row.
pub(super) struct Matrices {
    pub states: Vec<String>,
    /// The words, in byte order.
    pub words: Vec<String>,
    /// `[states]`
    pub initial: Vec<f64>,
    /// `[states x states]`, from the row's state.
    pub transition: Vec<f64>,
    /// `[states x words]`
    pub emission: Vec<f64>,
}

/// Results of the forward and backward passes over a sentence.
struct Passes {
    /// aₜ(z) of the file's head, `[n x states]`, rows that sum to 1, or zeros behind an impossible word.
    before: Vec<f64>,
    /// bₜ(z), `[n x states]`, scaled.
    after: Vec<f64>,
    /// ln p(x | n)
    log_probability: f64,
}

impl Hmm {
    pub(super) fn from_matrices(m: Matrices, min_length: usize, max_length: usize) -> Result<Hmm, String> {
        if min_length == 0 || min_length > max_length {
            return Err(format!("min_length = {min_length} must lie in 1 to max_length = {max_length}"));
        }
        let (s, v) = (m.states.len(), m.words.len());
        let emission = Rows::new(v, m.emission);
        let by_word = (0..v).flat_map(|w| (0..s).map(move |z| (w, z))).map(|(w, z)| emission.p[z * v + w]).collect();
        Ok(Hmm {
            initial: Rows::new(s, m.initial),
            transition: Rows::new(s, m.transition),
            states: m.states,
            words: m.words,
            min_length,
            max_length,
            emission,
            by_word,
            notes: Vec::new(),
        })
    }

    /// Notes on states that no sentence is in: the model of a file that is named in them.
    pub(super) fn noted(mut self, file: &str) -> Hmm {
        let s = self.states.len();
        let mut seen = vec![false; s];
        let mut now: Vec<usize> = (0..s).filter(|z| self.initial.row(0)[*z] > 0.0).collect();
        // A state more than max_length - 1 moves away is in no sentence either.
        for t in 0..self.max_length {
            now.retain(|z| !std::mem::replace(&mut seen[*z], true));
            if now.is_empty() || t + 1 == self.max_length {
                break;
            }
            let next: std::collections::BTreeSet<usize> = now
                .iter()
                .flat_map(|z| self.transition.row(*z).iter().enumerate().filter(|(_, p)| **p > 0.0).map(|(to, _)| to))
                .collect();
            now = next.into_iter().collect();
        }
        let missed: Vec<String> = (0..s).filter(|z| !seen[*z]).map(|z| format!("`{}`", self.states[z])).collect();
        if !missed.is_empty() {
            self.notes.push(format!("{file}: no sentence is ever in {}", list(&missed)));
        }
        self
    }

    /// Names of the hidden states.
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// Words of the shortest sentence.
    pub fn min_length(&self) -> usize {
        self.min_length
    }

    /// p(first state), p(next state | state) and p(word | state), rows one after another.
    pub fn probabilities(&self) -> [&[f64]; 3] {
        [&self.initial.p, &self.transition.p, &self.emission.p]
    }

    /// p(word | state) for each state.
    fn emits(&self, word: u32) -> &[f64] {
        let s = self.states.len();
        &self.by_word[word as usize * s..][..s]
    }

    fn passes(&self, words: &[u32]) -> Passes {
        let (s, n) = (self.states.len(), words.len());
        let mut before = vec![0.0; n * s];
        let mut after = vec![0.0; n * s];
        let mut log_probability = 0.0;
        if n > 0 {
            before[..s].copy_from_slice(self.initial.row(0));
            after[(n - 1) * s..].fill(1.0);
        }
        for t in 0..n {
            let (done, rest) = before.split_at_mut((t + 1) * s);
            let mut joint: Vec<f64> = done[t * s..].iter().zip(self.emits(words[t])).map(|(a, e)| a * e).collect();
            let scale: f64 = joint.iter().sum();
            log_probability += scale.ln();
            if scale > 0.0 && t + 1 < n {
                joint.iter_mut().for_each(|j| *j /= scale);
                let next = &mut rest[..s];
                for (from, weight) in joint.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                    next.iter_mut().zip(self.transition.row(from)).for_each(|(a, p)| *a += weight * p);
                }
            }
        }
        for t in (1..n).rev() {
            let (rest, done) = after.split_at_mut(t * s);
            let joint: Vec<f64> = done[..s].iter().zip(self.emits(words[t])).map(|(b, e)| b * e).collect();
            let here = &mut rest[(t - 1) * s..];
            for (from, b) in here.iter_mut().enumerate() {
                *b = self.transition.row(from).iter().zip(&joint).map(|(p, j)| p * j).sum();
            }
            let largest = here.iter().copied().fold(0.0, f64::max);
            if largest > 0.0 {
                here.iter_mut().for_each(|b| *b /= largest);
            }
        }
        Passes { before, after, log_probability }
    }

    /// p(hidden state at a position, from 0 | the sentence); `None` when the sentence has probability 0 or is too
    /// short.
    pub fn posterior(&self, words: &[u32], position: usize) -> Option<Vec<f64>> {
        let s = self.states.len();
        let word = *words.get(position)?;
        let passes = self.passes(words);
        let parts = passes.before[position * s..].iter().zip(&passes.after[position * s..]).zip(self.emits(word));
        normalised(parts.map(|((a, b), e)| a * b * e).collect())
    }
}

/// Numbers that sum to 1; `None` when they sum to 0.
fn normalised(mut p: Vec<f64>) -> Option<Vec<f64>> {
    let total: f64 = p.iter().sum();
    if total <= 0.0 {
        return None;
    }
    p.iter_mut().for_each(|p| *p /= total);
    Some(p)
}

impl Language for Hmm {
    fn vocabulary(&self) -> &[String] {
        &self.words
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn sample(&self, seed: u64, index: u64) -> Words {
        let mut stream = Stream::new(seed, Purpose::Sentence, index);
        let n = self.min_length + stream.below((self.max_length - self.min_length + 1) as u32) as usize;
        let mut words = Words::with_capacity(n);
        let mut state = self.initial.draw(0, &mut stream);
        for t in 0..n {
            if t > 0 {
                state = self.transition.draw(state, &mut stream);
            }
            words.push(self.emission.draw(state, &mut stream) as u32);
        }
        words
    }

    fn truth(&self) -> Result<&dyn Truth, NoTruth> {
        Ok(self)
    }
}

impl Truth for Hmm {
    fn conditional(&self, words: &[u32]) -> Option<Known> {
        let known = self.conditional_unchecked(words);
        known.log_probability.is_finite().then_some(known)
    }

    /// The log probability includes that of the length, so that all sentences together have probability 1.
    fn conditional_unchecked(&self, words: &[u32]) -> Known {
        let (s, v) = (self.states.len(), self.words.len());
        let passes = self.passes(words);
        let at = |t: usize| {
            let mut p = vec![0.0; v];
            for z in 0..s {
                let weight = passes.before[t * s + z] * passes.after[t * s + z];
                if weight > 0.0 {
                    p.iter_mut().zip(self.emission.row(z)).for_each(|(p, e)| *p += weight * e);
                }
            }
            normalised(p).unwrap_or_else(|| vec![0.0; v])
        };
        let possible = (self.min_length..=self.max_length).contains(&words.len());
        let lengths = (self.max_length - self.min_length + 1) as f64;
        Known {
            log_probability: if possible { passes.log_probability - lengths.ln() } else { f64::NEG_INFINITY },
            conditional: (0..words.len()).map(at).collect(),
        }
    }

    /// The next word by the forward pass; the end by the lengths that are still possible, which hang on no word.
    fn prefixes(&self, words: &[u32]) -> Option<Prefixes> {
        let (s, v, n) = (self.states.len(), self.words.len(), words.len());
        if !(self.min_length..=self.max_length).contains(&n) {
            return None;
        }
        let mut state = self.initial.row(0).to_vec();
        let mut next = Vec::with_capacity(n + 1);
        let mut log_probability = 0.0;
        for k in 0..=n {
            let ends = match k < self.min_length {
                true => 0.0,
                false => 1.0 / (self.max_length - k + 1) as f64,
            };
            let mut p = vec![0.0; v + 1];
            for (z, weight) in state.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                p.iter_mut().zip(self.emission.row(z)).for_each(|(p, e)| *p += weight * e * (1.0 - ends));
            }
            p[v] = ends;
            let chosen = p[words.get(k).map_or(v, |w| *w as usize)];
            log_probability += chosen.ln();
            next.push(p);
            let Some(word) = words.get(k) else { break };
            let joint = normalised(state.iter().zip(self.emits(*word)).map(|(a, e)| a * e).collect())?;
            state = vec![0.0; s];
            for (from, weight) in joint.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                state.iter_mut().zip(self.transition.row(from)).for_each(|(a, p)| *a += weight * p);
            }
        }
        Some(Prefixes { log_probability, next })
    }

    fn label_names(&self, task: Task) -> Result<Vec<String>, LabelError> {
        match task {
            Task::State(k) if k <= self.max_length => Ok(self.states.clone()),
            Task::State(word) => Err(LabelError::NoSuchWord { word, longest: self.max_length }),
            _ => Err(LabelError::NoSpans),
        }
    }

    /// The most likely hidden state at word K given the whole sentence; the prior is always part of it.
    fn label(&self, words: &[u32], task: Task, _with_prior: bool) -> Option<Label> {
        let Task::State(k) = task else { return None };
        let posterior = self.posterior(words, k.checked_sub(1)?)?;
        let best = (1..posterior.len()).fold(0, |best, z| if posterior[z] > posterior[best] { z } else { best });
        Some(Label { symbol: self.states[best].clone(), probability: posterior[best] })
    }

    fn label_posterior(&self, words: &[u32], task: Task, _with_prior: bool) -> Option<Vec<f64>> {
        let Task::State(k) = task else { return None };
        self.posterior(words, k.checked_sub(1)?)
    }

    fn label_is_posterior_mode(&self, task: Task, _with_prior: bool) -> bool {
        matches!(task, Task::State(_))
    }
}

impl Hmm {
    /// Reads a file of matrices; see [`Hmm::parse`].
    pub fn read(path: &std::path::Path, min_length: usize, max_length: usize) -> Result<Hmm, LanguageError> {
        let text = super::source::read_text(path)?;
        Hmm::parse(&text, &path.display().to_string(), min_length, max_length)
    }
}
