//! Soft brackets: sentences of a fixed number of brackets that prefer as many opening as closing ones.
//!
//! P(x) ∝ exp(-κ (Σ x)²) over {+1, -1}ᵀ, +1 an opening bracket. With S the sum of the others, the exact conditional is
//! p(xₜ = +1 | the others) = σ(-4κS): its logit is linear in S, the one feature that a model needs. As κ → ∞ (T even)
//! only balanced sentences are left, the Dyck-like language of the paper's section 6 without its order.
//!
//! ```
//! use lowland::language::{Brackets, Language, Task, Truth};
//! let language = Brackets::new(4, 0.1).unwrap();
//! let words = language.encode(&["(", "(", ")", "("]).unwrap();
//! let known = language.conditional(&words).unwrap();
//! assert!((known.conditional[2][0] - 1.0 / (1.0 + f64::exp(0.4 * 3.0))).abs() < 1e-15); // S = 3
//! assert_eq!(language.label(&words, Task::Sum, false).unwrap().symbol, "2");
//! ```

use super::label::{Label, LabelError, Task};
use super::{Known, Language, NoTruth, Prefixes, Truth, Words, entropy};
use crate::random::{Purpose, Stream};

/// Brackets with a preference for balance.
#[derive(Clone, Debug)]
pub struct Brackets {
    length: usize,
    kappa: f64,
    words: [String; 2],
    /// ln Σ exp(-κ (Σ x)²) over all sentences.
    log_normaliser: f64,
    /// The probabilities of 0, 1, .. opening brackets, added up, as 64-bit thresholds: integers, so that every machine
    /// draws the same.
    upto: Vec<u64>,
}

/// Number of an opening bracket in the vocabulary, which is in byte order.
const OPENS: u32 = 0;

/// Names of the label "S > 0", by its value.
const POSITIVE: [&str; 2] = ["not positive", "positive"];

/// ln C(n, k).
fn log_choose(n: usize, k: usize) -> f64 {
    let factorial = |i: usize| libm::lgamma(i as f64 + 1.0);
    factorial(n) - factorial(k) - factorial(n - k)
}

/// ln Σ exp.
fn log_sum(logs: &[f64]) -> f64 {
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logs.iter().map(|l| libm::exp(l - largest)).sum::<f64>().ln()
}

impl Brackets {
    /// Sentences of `length` brackets; with `kappa` = 0 all are equally likely.
    ///
    /// # Errors
    /// No bracket, or a `kappa` that is not a number from 0 to 100.
    pub fn new(length: usize, kappa: f64) -> Result<Brackets, String> {
        if length == 0 {
            return Err("a sentence has at least one bracket".into());
        }
        if !(0.0..=100.0).contains(&kappa) {
            return Err(format!("kappa = {kappa} must lie in 0 to 100"));
        }
        let sum = |opening: usize| 2.0 * opening as f64 - length as f64;
        let logs: Vec<f64> = (0..=length).map(|k| log_choose(length, k) - kappa * sum(k) * sum(k)).collect();
        let log_normaliser = log_sum(&logs);
        let mut total = 0.0;
        let upto = logs.iter().map(|l| {
            total += libm::exp(l - log_normaliser);
            (total * 18_446_744_073_709_551_616.0) as u64
        });
        Ok(Brackets { length, kappa, words: ["(", ")"].map(String::from), log_normaliser, upto: upto.collect() })
    }

    /// The logit of an opening bracket beside others of sum S.
    pub fn logit(&self, sum_of_others: i64) -> f64 {
        -4.0 * self.kappa * sum_of_others as f64
    }

    /// The probability of others in one given arrangement, up to a factor: the weights of both sentences that they are
    /// part of.
    pub fn weight_of_others(&self, sum: i64) -> f64 {
        let weight = |sum: i64| libm::exp(-self.kappa * (sum * sum) as f64 - self.log_normaliser);
        weight(sum + 1) + weight(sum - 1)
    }

    fn opening(&self, sum_of_others: i64) -> f64 {
        1.0 / (1.0 + libm::exp(-self.logit(sum_of_others)))
    }

    /// The sum of a sentence.
    fn sum(words: &[u32]) -> i64 {
        words.iter().map(|w| if *w == OPENS { 1 } else { -1 }).sum()
    }

    /// The classes of a task by name, in the order of the sum.
    fn classes(&self, task: Task) -> Option<Vec<String>> {
        let even = self.length.is_multiple_of(2);
        match task {
            Task::Positive => Some(POSITIVE.map(String::from).to_vec()),
            Task::Sign if even => Some(["negative", "zero", "positive"].map(String::from).to_vec()),
            Task::Sign => Some(["negative", "positive"].map(String::from).to_vec()),
            Task::Sum => Some((0..=self.length).map(|k| (2 * k as i64 - self.length as i64).to_string()).collect()),
            _ => None,
        }
    }
}

impl Language for Brackets {
    fn vocabulary(&self) -> &[String] {
        &self.words
    }

    fn max_length(&self) -> usize {
        self.length
    }

    fn sample(&self, seed: u64, index: u64) -> Words {
        let mut stream = Stream::new(seed, Purpose::Sentence, index);
        let draw = u64::from(stream.bits()) << 32 | u64::from(stream.bits());
        let mut opening = self.upto.partition_point(|upto| *upto <= draw).min(self.length);
        // All arrangements are equally likely: each place opens with the share that is left.
        let one = |places: usize| {
            let opens = (stream.below(places as u32) as usize) < opening;
            opening -= usize::from(opens);
            if opens { OPENS } else { 1 - OPENS }
        };
        (1..=self.length).rev().map(one).collect()
    }

    fn truth(&self) -> Result<&dyn Truth, NoTruth> {
        Ok(self)
    }
}

impl Truth for Brackets {
    fn conditional(&self, words: &[u32]) -> Option<Known> {
        (words.len() == self.length).then(|| self.conditional_unchecked(words))
    }

    fn conditional_unchecked(&self, words: &[u32]) -> Known {
        let sum = Brackets::sum(words);
        let others = |word: &u32| if *word == OPENS { sum - 1 } else { sum + 1 };
        let row = |word: &u32| vec![self.opening(others(word)), self.opening(-others(word))];
        let possible = words.len() == self.length;
        let log = -self.kappa * (sum * sum) as f64 - self.log_normaliser;
        Known {
            log_probability: if possible { log } else { f64::NEG_INFINITY },
            conditional: words.iter().map(row).collect(),
        }
    }

    /// By the arrangements of the brackets that are left. A sentence ends at its length and nowhere else.
    fn prefixes(&self, words: &[u32]) -> Option<Prefixes> {
        if words.len() != self.length {
            return None;
        }
        // ln of the sum over what may follow, for a sum so far and so many brackets to come.
        let ahead = |sum: i64, left: usize| {
            let one = |opening: usize| {
                let whole = (sum + 2 * opening as i64 - left as i64) as f64;
                log_choose(left, opening) - self.kappa * whole * whole
            };
            log_sum(&(0..=left).map(one).collect::<Vec<f64>>())
        };
        let mut next = Vec::with_capacity(self.length + 1);
        let mut sum = 0;
        for (k, word) in words.iter().enumerate() {
            let left = self.length - k - 1;
            // Each by itself: 1 less the other would round what is nearly impossible to 0.
            let odds = ahead(sum - 1, left) - ahead(sum + 1, left);
            next.push(vec![1.0 / (1.0 + libm::exp(odds)), 1.0 / (1.0 + libm::exp(-odds)), 0.0]);
            sum += if *word == OPENS { 1 } else { -1 };
        }
        next.push(vec![0.0, 0.0, 1.0]);
        let log_probability = -self.kappa * (sum * sum) as f64 - self.log_normaliser;
        Some(Prefixes { log_probability, next })
    }

    fn label_names(&self, task: Task) -> Result<Vec<String>, LabelError> {
        self.classes(task).ok_or(LabelError::SumsAlone)
    }

    fn label(&self, words: &[u32], task: Task, _with_prior: bool) -> Option<Label> {
        let sum = Brackets::sum(words);
        let symbol = match task {
            _ if words.is_empty() => return None,
            Task::Positive => POSITIVE[usize::from(sum > 0)].to_string(),
            Task::Sign => ["negative", "zero", "positive"][(sum.signum() + 1) as usize].to_string(),
            Task::Sum => sum.to_string(),
            _ => return None,
        };
        Some(Label { symbol, probability: 1.0 })
    }

    fn label_posterior(&self, words: &[u32], task: Task, with_prior: bool) -> Option<Vec<f64>> {
        let label = self.label(words, task, with_prior)?;
        let names = self.classes(task)?;
        Some(names.iter().map(|name| f64::from(u8::from(*name == label.symbol))).collect())
    }

    /// A label is a function of the sentence.
    fn label_is_posterior_mode(&self, task: Task, _with_prior: bool) -> bool {
        self.classes(task).is_some()
    }

    /// By enumeration of the sums of the others.
    fn exact_entropy_floor(&self) -> Option<f64> {
        let others = self.length - 1;
        let floor = |opening: usize| {
            let sum = 2 * opening as i64 - others as i64;
            let probability = libm::exp(log_choose(others, opening)) * self.weight_of_others(sum);
            probability * entropy(&[self.opening(sum), self.opening(-sum)])
        };
        Some((0..=others).map(floor).sum())
    }
}
