//! The least loss that any model can reach, exact for each sentence x: H = E_x E_t [ H(p(. | x without t)) ] of masked
//! words, and of next words E_x Σ_k H(p(. | x_1..x_k)) / E_x (|x| + 1), the sentence's end counted.

use std::ops::Range;

use rayon::prelude::*;

use super::{Truth, entropy, masked_position};
use crate::statistics::Estimate;

/// An estimate of the entropy floor over sentences; t is summed out exactly within each, or drawn.
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
    /// Over the sentences.
    pub mean: f64,
    /// Of the shortest.
    pub min: usize,
    /// Of the longest.
    pub max: usize,
}

/// The floor over sentences 0..count of a seed, with the standard error of their mean. t is summed out; where that
/// [asks much](Truth::asks_much) it is drawn, as evaluation draws it.
pub fn entropy_floor(language: &dyn Truth, seed: u64, count: u64) -> EntropyFloor {
    let each: Vec<(f64, usize)> = (0..count)
        .into_par_iter()
        .map(|i| {
            let words = language.sample(seed, i);
            if language.asks_much() {
                let position = masked_position(seed, i, words.len());
                return (entropy(&language.conditional_at(&words, position)), words.len());
            }
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

/// The floor of next words over sentences.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CausalFloor {
    /// Nats per predicted token.
    pub entropy_floor: f64,
    /// Of the choice of sentences.
    pub standard_error: f64,
    /// Sentences that it is over.
    pub count: u64,
    /// Predicted tokens of all sentences.
    pub predicted_tokens: u64,
    /// Nats of the token behind 0, 1, .. words, over the sentences that are so long, whether it is predicted or not.
    pub per_position: Vec<f64>,
    /// Of each of them.
    pub per_position_standard_error: Vec<f64>,
    /// Of the same sentences.
    pub sentence_length: Lengths,
}

/// The floor of next words over sentences 0..count of a seed, with the standard error of a ratio of means; every
/// position of a sentence counts, and its end.
pub fn causal_floor(language: &dyn Truth, seed: u64, count: u64) -> CausalFloor {
    causal_floor_of(language, seed, count, &|length| 0..length + 1)
}

/// The same where some positions alone are predicted: of a sentence of `length` words those in `predicted(length)`,
/// position k being the token behind k words.
pub fn causal_floor_of(
    language: &dyn Truth,
    seed: u64,
    count: u64,
    predicted: &(dyn Fn(usize) -> Range<usize> + Sync),
) -> CausalFloor {
    let each: Vec<Vec<f64>> = (0..count)
        .into_par_iter()
        .map(|i| {
            let known = language.prefixes(&language.sample(seed, i)).expect("a sentence of the language is possible");
            known.next.iter().map(|p| entropy(p)).collect()
        })
        .collect();
    let counted = || each.iter().map(|positions| &positions[predicted(positions.len() - 1)]);
    let sums: Vec<f64> = counted().map(|positions| positions.iter().sum()).collect();
    let tokens: Vec<f64> = counted().map(|positions| positions.len() as f64).collect();
    let floor = Estimate::of_ratio(&sums, &tokens);
    let longest = each.iter().map(Vec::len).max().unwrap_or(0);
    let at = |k: usize| {
        Estimate::of_mean(&each.iter().filter_map(|positions| positions.get(k).copied()).collect::<Vec<f64>>())
    };
    let positions: Vec<Estimate> = (0..longest).map(at).collect();
    let words = || each.iter().map(|positions| positions.len() - 1);
    CausalFloor {
        entropy_floor: floor.value,
        standard_error: floor.standard_error,
        count,
        predicted_tokens: counted().map(|positions| positions.len() as u64).sum(),
        per_position: positions.iter().map(|e| e.value).collect(),
        per_position_standard_error: positions.iter().map(|e| e.standard_error).collect(),
        sentence_length: Lengths {
            mean: words().sum::<usize>() as f64 / count as f64,
            min: words().min().unwrap_or(0),
            max: words().max().unwrap_or(0),
        },
    }
}
