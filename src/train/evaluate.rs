//! Loss and excess loss on held-out sentences, against the exact conditionals.

use rayon::prelude::*;

use super::data::{Corpus, held_out_seed};
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
}

/// Held-out sentences with their exact conditionals, made once, and the pass over them.
pub struct Evaluator {
    sentences: Vec<Sentence>,
    entropies: Vec<f64>,
    pass: ForwardPass,
}

/// Sentences of one forward batch; more would only take more memory.
const BATCH: usize = 256;

impl Evaluator {
    /// Sentences of one forward batch where a training batch has `training`.
    pub fn batch(training: usize) -> usize {
        training.min(BATCH)
    }

    /// Samples and labels `count` sentences of the held-out seed and plans the pass.
    pub fn new(model: &Model, corpus: &Corpus, count: u32, batch: usize) -> Result<Evaluator, GpuError> {
        let seed = held_out_seed(corpus.seed);
        let (language, tokens) = (corpus.language.clone(), corpus.tokens.clone());
        let made: Vec<MaskedSentence> = interrupt::or_stop(move || {
            let one = |i| masked_sentence(language.as_ref(), tokens.as_ref(), seed, i);
            (0..u64::from(count)).into_par_iter().map(one).collect()
        })?;
        let (sentences, entropies): (Vec<Sentence>, Vec<f64>) =
            made.into_iter().map(|m| (m.sentence, m.entropy)).unzip();
        let dims = dims_for(&sentences, Evaluator::batch(batch));
        let pass = ForwardPass::new(model, dims, Labels::Soft, false)?;
        Ok(Evaluator { sentences, entropies, pass })
    }

    /// Evaluates the parameters as they are now.
    pub fn run(&self) -> Result<Evaluation, GpuError> {
        let divergences: Vec<f64> = self.pass.losses(&self.sentences)?.iter().map(|r| r.divergence).collect();
        let excess = Estimate::of_mean(&divergences);
        let floor = Estimate::of_mean(&self.entropies);
        Ok(Evaluation {
            loss: floor.value + excess.value,
            excess_loss: excess.value,
            excess_loss_standard_error: excess.standard_error,
            entropy_floor: floor.value,
            sentences: divergences.len(),
        })
    }
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
    let p = &language.conditional_unchecked(&words).conditional[position];
    let mut sentence = tokens.mask(&words, position);
    sentence.soft = vec![tokens.soft_label(p)];
    MaskedSentence { sentence, entropy: entropy(p) }
}
