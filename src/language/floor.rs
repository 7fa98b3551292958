//! The least loss that any model can reach: H = E_x E_t [ H(p(. | x without t)) ], exact for each (x, t).

use rayon::prelude::*;

use super::{Language, entropy};
use crate::statistics::Estimate;

/// An estimate of the entropy floor over sentences; t is summed out exactly within each.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EntropyFloor {
    /// In nats for each masked word.
    pub entropy_floor: f64,
    /// Of the choice of sentences.
    pub standard_error: f64,
    /// Sentences that it is the mean over.
    pub count: u64,
    /// The floor of the whole language, where it can be enumerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact_entropy_floor: Option<f64>,
    /// Of the same sentences.
    pub sentence_length: Lengths,
}

/// Words in a sentence.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Lengths {
    pub mean: f64,
    pub min: usize,
    pub max: usize,
}

/// The floor over sentences 0..count of a seed, with the standard error of their mean.
pub fn entropy_floor(language: &dyn Language, seed: u64, count: u64) -> EntropyFloor {
    let each: Vec<(f64, usize)> = (0..count)
        .into_par_iter()
        .map(|i| {
            let words = language.sample(seed, i);
            let known = language.conditional_unchecked(&words);
            let mean = known.conditional.iter().map(|p| entropy(p)).sum::<f64>() / words.len() as f64;
            (mean, words.len())
        })
        .collect();
    let floor = Estimate::of_mean(&each.iter().map(|e| e.0).collect::<Vec<f64>>());
    EntropyFloor {
        entropy_floor: floor.value,
        standard_error: floor.standard_error,
        count,
        exact_entropy_floor: language.exact_entropy_floor(),
        sentence_length: Lengths {
            mean: each.iter().map(|e| e.1 as f64).sum::<f64>() / count as f64,
            min: each.iter().map(|e| e.1).min().unwrap_or(0),
            max: each.iter().map(|e| e.1).max().unwrap_or(0),
        },
    }
}
