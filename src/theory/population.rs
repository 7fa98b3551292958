//! All masked sentences of a small language with their probabilities, and the loss that a model has on each.

use crate::language::Brackets;

/// Longest sentence that is enumerated: 11,088 masked sentences of the Dyck-like language, 24,576 of soft brackets.
pub const LONGEST: usize = 12;

/// Why an experiment cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TheoryError {
    /// An odd length.
    #[error("sentences of {0} brackets: the length must be even, so that as many are opened as closed")]
    Odd(usize),
    /// A length under 4.
    #[error("sentences of {0} brackets: the flattest solution is the only one of its kind from 4 brackets on")]
    Short(usize),
    /// A length over [`LONGEST`].
    #[error("sentences of {0} brackets: all masked sentences are enumerated, which is done up to {LONGEST} brackets")]
    Long(usize),
    /// Too few or too many neurons.
    #[error("{neurons} neurons: the network has 2 to {most}")]
    Neurons {
        /// Asked for.
        neurons: usize,
        /// The most that there may be.
        most: usize,
    },
    /// What the language refuses.
    #[error("{0}")]
    Language(String),
}

/// The loss of an output f on a sentence whose target is y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// (f - y)² / 2, y the masked bracket: +1 or -1.
    Squared,
    /// The cross-entropy of a logit f, y the probability of an opening bracket; less the least, its entropy.
    Logistic,
}

/// 1 / (1 + e^-x).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Loss {
    /// The loss over the least that is possible with this target; 0 where f is right.
    pub fn value(self, f: f64, y: f64) -> f64 {
        match self {
            Loss::Squared => 0.5 * (f - y) * (f - y),
            Loss::Logistic => {
                let share = |p: f64, log_q: f64| if p > 0.0 { p * (p.ln() - log_q) } else { 0.0 };
                // log σ(f), written so that it holds for large |f|.
                let log_sigmoid = |x: f64| x.min(0.0) - (-x.abs()).exp().ln_1p();
                share(y, log_sigmoid(f)) + share(1.0 - y, log_sigmoid(-f))
            }
        }
    }

    /// Its derivative by f.
    pub fn slope(self, f: f64, y: f64) -> f64 {
        match self {
            Loss::Squared => f - y,
            Loss::Logistic => sigmoid(f) - y,
        }
    }

    /// Its second derivative by f.
    pub fn bend(self, f: f64) -> f64 {
        match self {
            Loss::Squared => 1.0,
            Loss::Logistic => sigmoid(f) * sigmoid(-f),
        }
    }

    /// The second derivative where f is right.
    pub fn least_bend(self, y: f64) -> f64 {
        match self {
            Loss::Squared => 1.0,
            Loss::Logistic => y * (1.0 - y),
        }
    }
}

/// Masked sentences, their probabilities and targets. Shape letters: N sentences of T places.
#[derive(Clone, Debug)]
pub struct Population {
    /// T.
    pub width: usize,
    /// The loss of every sentence.
    pub loss: Loss,
    /// N x T: +1, -1, and 0 at the mask.
    sentences: Vec<f64>,
    /// N.
    pub(super) targets: Vec<f64>,
    /// N, with sum 1.
    pub(super) probability: Vec<f64>,
}

/// Even, long enough and short enough.
fn check(length: usize) -> Result<(), TheoryError> {
    match length {
        length if length % 2 == 1 => Err(TheoryError::Odd(length)),
        length if length < 4 => Err(TheoryError::Short(length)),
        length if length > LONGEST => Err(TheoryError::Long(length)),
        _ => Ok(()),
    }
}

impl Population {
    /// The masked sentences of the Dyck-like language: T/2 opening and T/2 closing brackets in any order, all equally
    /// likely, masked at a uniform place: N = T C(T, T/2). S is minus the masked bracket.
    ///
    /// # Errors
    /// An odd length, one under 4 or over [`LONGEST`].
    pub fn dyck(length: usize) -> Result<Population, TheoryError> {
        check(length)?;
        let mut population =
            Population { width: length, loss: Loss::Squared, sentences: vec![], targets: vec![], probability: vec![] };
        for word in (0u32..1 << length).filter(|w| w.count_ones() as usize == length / 2) {
            for masked in 0..length {
                let sign = |s: usize| if word >> s & 1 == 1 { 1.0 } else { -1.0 };
                population.push((0..length).map(|s| if s == masked { 0.0 } else { sign(s) }), sign(masked), 1.0);
            }
        }
        Ok(population.normalised())
    }

    /// The masked sentences of soft brackets ([`Brackets`]): N = T 2^(T-1); the target is the exact probability that
    /// the masked bracket opens.
    ///
    /// # Errors
    /// A length as for [`dyck`](Self::dyck), a `kappa` that the language refuses.
    pub fn brackets(length: usize, kappa: f64) -> Result<Population, TheoryError> {
        check(length)?;
        let language = Brackets::new(length, kappa).map_err(TheoryError::Language)?;
        let mut population =
            Population { width: length, loss: Loss::Logistic, sentences: vec![], targets: vec![], probability: vec![] };
        for others in 0u32..1 << (length - 1) {
            let sign = |s: usize| if others >> s & 1 == 1 { 1.0 } else { -1.0 };
            let sum = 2 * i64::from(others.count_ones()) - (length as i64 - 1);
            for masked in 0..length {
                let z = (0..length).map(|s| match s.cmp(&masked) {
                    std::cmp::Ordering::Less => sign(s),
                    std::cmp::Ordering::Equal => 0.0,
                    std::cmp::Ordering::Greater => sign(s - 1),
                });
                population.push(z, sigmoid(language.logit(sum)), language.weight_of_others(sum));
            }
        }
        Ok(population.normalised())
    }

    fn push(&mut self, z: impl Iterator<Item = f64>, target: f64, weight: f64) {
        self.sentences.extend(z);
        self.targets.push(target);
        self.probability.push(weight);
    }

    fn normalised(mut self) -> Population {
        let total: f64 = self.probability.iter().sum();
        self.probability.iter_mut().for_each(|p| *p /= total);
        self
    }

    /// N.
    pub fn count(&self) -> usize {
        self.targets.len()
    }

    /// Sentence `i`, of T places.
    pub fn sentence(&self, i: usize) -> &[f64] {
        &self.sentences[i * self.width..][..self.width]
    }

    /// S of sentence `i`.
    pub fn sum(&self, i: usize) -> f64 {
        self.sentence(i).iter().sum()
    }

    /// The mean over sentences of a function of a sentence's number.
    pub fn mean(&self, of: impl Fn(usize) -> f64) -> f64 {
        (0..self.count()).map(|i| self.probability[i] * of(i)).sum()
    }

    /// The probabilities added up, for draws.
    pub(super) fn cumulative(&self) -> Vec<f64> {
        cumulated(&self.probability)
    }
}

/// Probabilities added up.
pub(super) fn cumulated(probability: &[f64]) -> Vec<f64> {
    let add = |sum: &mut f64, p: &f64| {
        *sum += p;
        Some(*sum)
    };
    probability.iter().scan(0.0, add).collect()
}
