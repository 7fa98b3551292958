//! Loss and excess loss on held-out sentences, against the exact conditionals.
//!
//! One word is masked at a time: the conditionals of a language are exact for that and for nothing else. Either one
//! position of a sentence is asked about or every one ([`Positions`]). The mean is over all positions asked about; its
//! standard error is over sentences, the positions of one of which belong together.

use rayon::prelude::*;

use super::data::{Corpus, held_out_seed};
use crate::config::{EvaluateSection, Positions};
use crate::gpu::GpuError;
use crate::interrupt;
use crate::language::{Language, entropy, masked_position};
use crate::model::{ForwardPass, Model, TokenIds, dims_for};
use crate::ops::Labels;
use crate::ops::batch::Sentence;
use crate::statistics::Estimate;

/// What held-out sentences say about a model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Evaluation {
    /// Cross-entropy against the exact conditional: the expected loss, without the labels' noise.
    pub loss: f64,
    /// Mean KL divergence of the exact conditional from the model's.
    pub excess_loss: f64,
    /// Standard error of the excess loss over sentences.
    pub excess_loss_standard_error: f64,
    /// Mean entropy of the exact conditionals at the same positions: `loss - excess_loss`.
    pub entropy_floor: f64,
    /// Held-out sentences that were looked at.
    pub sentences: usize,
    /// Positions asked about, where that is every one of each sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
}

/// Held-out sentences with their exact conditionals, made once, and the pass over them.
pub struct Evaluator {
    /// A sentence for each position asked about.
    sentences: Vec<Sentence>,
    entropies: Vec<f64>,
    /// How many of them each sentence of the language has.
    positions: Vec<usize>,
    asked: Positions,
    pass: ForwardPass,
}

/// Sentences of one forward batch; more would only take more memory.
const BATCH: usize = 256;

impl Evaluator {
    /// Sentences of one forward batch where a training batch has `training`.
    pub fn batch(training: usize) -> usize {
        training.min(BATCH)
    }

    /// Samples and labels sentences of the held-out seed and plans the pass.
    pub fn new(model: &Model, corpus: &Corpus, asked: &EvaluateSection, batch: usize) -> Result<Evaluator, GpuError> {
        let seed = held_out_seed(corpus.seed);
        let (language, tokens) = (corpus.language.clone(), corpus.tokens.clone());
        let (count, asked) = (u64::from(asked.sentences), asked.positions);
        let made: Vec<Vec<MaskedSentence>> = interrupt::or_stop(move || {
            let one = |i| masked_sentences(language.as_ref(), tokens.as_ref(), seed, i, asked);
            (0..count).into_par_iter().map(one).collect()
        })?;
        let positions = made.iter().map(Vec::len).collect();
        let (sentences, entropies): (Vec<Sentence>, Vec<f64>) =
            made.into_iter().flatten().map(|m| (m.sentence, m.entropy)).unzip();
        let dims = dims_for(&sentences, Evaluator::batch(batch));
        let pass = ForwardPass::new(model, dims, Labels::Soft, false)?;
        Ok(Evaluator { sentences, entropies, positions, asked, pass })
    }

    /// Evaluates the parameters as they are now.
    pub fn run(&self) -> Result<Evaluation, GpuError> {
        let divergences: Vec<f64> = self.pass.losses(&self.sentences)?.iter().map(|r| r.divergence).collect();
        let excess = mean_by_sentence(&divergences, &self.positions);
        let floor = mean_by_sentence(&self.entropies, &self.positions);
        Ok(Evaluation {
            loss: floor.value + excess.value,
            excess_loss: excess.value,
            excess_loss_standard_error: excess.standard_error,
            entropy_floor: floor.value,
            sentences: self.positions.len(),
            positions: (self.asked == Positions::All).then_some(divergences.len()),
        })
    }
}

/// The mean over all positions of all sentences, `positions` of each, with its standard error over sentences.
pub(crate) fn mean_by_sentence(values: &[f64], positions: &[usize]) -> Estimate {
    if positions.iter().all(|n| *n == 1) {
        return Estimate::of_mean(values);
    }
    let mut rest = values;
    let sums: Vec<f64> = positions
        .iter()
        .map(|n| {
            let (own, others) = rest.split_at(*n);
            rest = others;
            own.iter().sum()
        })
        .collect();
    Estimate::of_ratio(&sums, &positions.iter().map(|n| *n as f64).collect::<Vec<f64>>())
}

/// A sentence with one word masked and what is known of that word.
#[derive(Clone, Debug)]
pub struct MaskedSentence {
    /// Labelled with the word that stood there and, softly, with its exact conditional.
    pub sentence: Sentence,
    /// Entropy of that conditional.
    pub entropy: f64,
}

/// Sentence `index` of a seed with the word masked that evaluation masks, labelled with the word that stood there.
pub fn held_out_sentence(language: &dyn Language, tokens: &TokenIds, seed: u64, index: u64) -> Sentence {
    let words = language.sample(seed, index);
    tokens.mask(&words, masked_position(seed, index, words.len()))
}

/// The same with what is known of that word.
pub fn masked_sentence(language: &dyn Language, tokens: &TokenIds, seed: u64, index: u64) -> MaskedSentence {
    let words = language.sample(seed, index);
    let position = masked_position(seed, index, words.len());
    known(tokens, &words, position, &language.conditional_unchecked(&words).conditional[position])
}

/// Sentence `index` of a seed once for each position that is asked about, with what is known of the word there.
pub fn masked_sentences(
    language: &dyn Language,
    tokens: &TokenIds,
    seed: u64,
    index: u64,
    positions: Positions,
) -> Vec<MaskedSentence> {
    if positions == Positions::One {
        return vec![masked_sentence(language, tokens, seed, index)];
    }
    let words = language.sample(seed, index);
    let conditionals = language.conditional_unchecked(&words).conditional;
    conditionals.iter().enumerate().map(|(position, p)| known(tokens, &words, position, p)).collect()
}

fn known(tokens: &TokenIds, words: &[u32], position: usize, p: &[f64]) -> MaskedSentence {
    let mut sentence = tokens.mask(words, position);
    sentence.soft = vec![tokens.soft_label(p)];
    MaskedSentence { sentence, entropy: entropy(p) }
}
