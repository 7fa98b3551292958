//! Loss and excess loss on held-out sentences, against the exact conditionals.

use rayon::prelude::*;

use super::data::{Corpus, held_out_seed};
use crate::gpu::{Gpu, GpuError};
use crate::language::{Language, entropy, masked_position};
use crate::model::{Arena, Encoder, ForwardPass, Vocabulary, dims_for};
use crate::ops::batch::Sentence;
use crate::ops::{Labels, Variants};

/// What held-out sentences say about a model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evaluation {
    /// Cross-entropy against the exact conditional: the expected loss, without the labels' noise.
    pub loss: f64,
    /// Mean KL divergence of the exact conditional from the model's.
    pub excess_loss: f64,
    /// Standard error of the excess loss over sentences.
    pub excess_loss_standard_error: f64,
    /// Mean entropy of the exact conditionals at the same positions: `loss - excess_loss`.
    pub entropy_floor: f64,
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
    /// Samples and labels `count` sentences of the held-out seed and plans the pass.
    pub fn new(
        gpu: &Gpu,
        encoder: &Encoder,
        arena: &Arena,
        variants: &Variants,
        corpus: &Corpus,
        count: u32,
        batch: usize,
    ) -> Result<Evaluator, GpuError> {
        let seed = held_out_seed(corpus.seed);
        let known: Vec<(Sentence, f64)> =
            (0..u64::from(count)).into_par_iter().map(|i| known_sentence(corpus.language.as_ref(), seed, i)).collect();
        let (sentences, entropies): (Vec<Sentence>, Vec<f64>) = known.into_iter().unzip();
        let dims = dims_for(&sentences, batch.min(BATCH));
        let pass = ForwardPass::new(gpu, encoder, arena, dims, variants, Labels::Soft, false)?;
        Ok(Evaluator { sentences, entropies, pass })
    }

    /// Evaluates the parameters as they are now.
    pub fn run(&self, gpu: &Gpu) -> Result<Evaluation, GpuError> {
        let losses = self.pass.losses(gpu, &self.sentences)?;
        let n = losses.len().max(1) as f64;
        let mean = |f: &dyn Fn(usize) -> f64| (0..losses.len()).map(f).sum::<f64>() / n;
        let excess = mean(&|i| losses[i].divergence);
        let variance = mean(&|i| (losses[i].divergence - excess).powi(2)) * n / (n - 1.0).max(1.0);
        let floor = mean(&|i| self.entropies[i]);
        Ok(Evaluation {
            loss: floor + excess,
            excess_loss: excess,
            excess_loss_standard_error: (variance / n).sqrt(),
            entropy_floor: floor,
            sentences: losses.len(),
        })
    }
}

/// Sentence `index` of a seed with one word masked and its exact conditional as the label, and the entropy of that.
pub(crate) fn known_sentence(language: &dyn Language, seed: u64, index: u64) -> (Sentence, f64) {
    let words = language.sample(seed, index);
    let position = masked_position(seed, index, words.len());
    let p = &language.conditional_unchecked(&words).conditional[position];
    let mut sentence = Vocabulary::mask(&words, position);
    sentence.soft = vec![Vocabulary::soft_label(p)];
    (sentence, entropy(p))
}
