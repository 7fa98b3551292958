//! Loss and excess loss on held-out sentences, against the exact conditionals; where those are not known the loss at
//! the words that stood there alone.
//!
//! Under "mlm" one word is masked at a time: the conditionals of a language are exact for that and for nothing else.
//! Either one position of a sentence is asked about or every one ([`Positions`]). Under "causal" every word that is
//! predicted is asked about, at prefixes of the language's own sentences: the excess loss is
//! Σ KL(p(. | prefix) || model(. | prefix)) / N, which over whole sentences is by the chain rule the KL divergence of
//! sentences for each of their N tokens. Beside it stands (log p(sentence) - log p_model(sentence)) / N, which has the
//! same mean and the scatter of the words. The mean is over all positions asked about; its standard error is over
//! sentences, the positions of one of which belong together, that of a ratio of sums.

use std::ops::Range;
use std::sync::Arc;

use super::data::{Corpus, held_out_seed};
use super::held_out::HeldOut;
use crate::config::{EvaluateSection, ObjectiveKind, Positions};
use crate::gpu::GpuError;
use crate::language::{Language, NoTruth, Truth, entropy, masked_position};
use crate::model::{ForwardPass, Model, RowLoss, TokenIds, dims_for};
use crate::ops::Labels;
use crate::ops::batch::Sentence;
use crate::statistics::Estimate;

/// What held-out sentences say about a model. Losses are nats for each position asked about.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Evaluation {
    /// Cross-entropy against the exact conditional: the expected loss, without the labels' noise. Where no conditional
    /// is known, that at the words that stood there.
    pub loss: f64,
    /// Standard error of the loss over sentences, where no conditional is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_standard_error: Option<f64>,
    /// Mean KL divergence of the exact conditional from the model's; null where none is known.
    pub excess_loss: Option<f64>,
    /// Standard error of the excess loss over sentences.
    pub excess_loss_standard_error: Option<f64>,
    /// Of next words: Σ (log p(sentence) - log p_model(sentence)) / N over the N predicted tokens, p exact. As
    /// `excess_loss` in the mean, with the scatter of the words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_loss_paired: Option<f64>,
    /// Over sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_loss_paired_standard_error: Option<f64>,
    /// Mean entropy of the exact conditionals at the same positions: `loss - excess_loss`; null where none is known.
    pub entropy_floor: Option<f64>,
    /// Held-out sentences that were looked at.
    pub sentences: usize,
    /// Positions asked about, where that is not one of each sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Why something is null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Held-out sentences with their exact conditionals, where those are known, and the pass over them.
pub struct Evaluator {
    asked: Arc<Asked>,
    pass: ForwardPass,
}

/// Sums over the positions of each sentence, and how many those are.
pub type SumsAndPositions = (Vec<f64>, Vec<usize>);

/// What models are asked, made once.
struct Asked {
    /// A sentence for each position asked about, or one with all next words.
    sentences: Vec<Sentence>,
    /// What the conditionals of each sentence of the language say; or why none are known.
    known: Result<KnownSums, NoTruth>,
    /// Positions asked about of each sentence of the language.
    positions: Vec<usize>,
    several: bool,
    /// Sentences of one forward batch.
    batch: usize,
    labels: Labels,
}

/// Sums over the positions of each sentence of what its exact conditionals say.
struct KnownSums {
    /// Of their entropies.
    entropies: Vec<f64>,
    /// Of log p of the words that stood there; of next words.
    log_probabilities: Option<Vec<f64>>,
}

/// Sentences of one forward batch; more would only take more memory.
const BATCH: usize = 256;

impl Evaluator {
    /// Sentences of one forward batch where a training batch has `training`.
    pub fn batch(training: usize) -> usize {
        training.min(BATCH)
    }

    /// The labels that sentences of a corpus have.
    pub fn labels(corpus: &Corpus) -> Labels {
        if corpus.truth().is_ok() { Labels::Soft } else { Labels::Hard }
    }

    /// Samples and labels sentences of the held-out seed and plans the pass.
    pub fn new(model: &Model, corpus: &Corpus, asked: &EvaluateSection, batch: usize) -> Result<Evaluator, GpuError> {
        let seed = held_out_seed(corpus.seed);
        let causal = corpus.objective.kind == ObjectiveKind::Causal;
        let several = asked.positions == Positions::All || causal;
        let held_out = HeldOut { corpus: corpus.clone(), seed };
        let (numbers, asked) = (held_out.first(asked.sentences.into()), asked.positions);
        let (known, made): (_, Vec<Vec<Sentence>>) = match held_out.exact(numbers.clone(), asked)? {
            Ok(made) => {
                let sums = |of: fn(&KnownSentence) -> f64| made.iter().map(|own| own.iter().map(of).sum()).collect();
                let entropies = sums(|k| k.entropy);
                let log_probabilities = causal.then(|| sums(|k| k.log_probability));
                let sentences = made.into_iter().map(|own| own.into_iter().map(|k| k.sentence).collect());
                (Ok(KnownSums { entropies, log_probabilities }), sentences.collect())
            }
            Err(none) => (Err(none), held_out.labelled(numbers, asked)?),
        };
        let positions = made.iter().map(|own| own.iter().map(|s| s.masked.len()).sum()).collect();
        let sentences: Vec<Sentence> = made.into_iter().flatten().collect();
        let (batch, labels) = (Evaluator::batch(batch), Evaluator::labels(corpus));
        Evaluator::asking(Arc::new(Asked { sentences, known, positions, several, batch, labels }), model)
    }

    /// Asks another model of the same sizes the same.
    pub fn of(&self, model: &Model) -> Result<Evaluator, GpuError> {
        Evaluator::asking(self.asked.clone(), model)
    }

    fn asking(asked: Arc<Asked>, model: &Model) -> Result<Evaluator, GpuError> {
        let dims = dims_for(&asked.sentences, asked.batch);
        let pass = ForwardPass::new(model, dims, asked.labels, false)?;
        Ok(Evaluator { asked, pass })
    }

    /// KL(exact conditional || model) summed over each sentence's positions, and how many those are; `None` where no
    /// conditional is known.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn excesses(&self) -> Result<Option<SumsAndPositions>, GpuError> {
        let Asked { sentences, known, positions, .. } = self.asked.as_ref();
        if known.is_err() {
            return Ok(None);
        }
        let divergences: Vec<f64> = self.pass.losses(sentences)?.iter().map(|row| row.divergence).collect();
        Ok(Some((sums_by_sentence(&divergences, positions), positions.clone())))
    }

    /// Evaluates the parameters as they are now.
    pub fn run(&self) -> Result<Evaluation, GpuError> {
        let Asked { sentences, known, positions, several, .. } = self.asked.as_ref();
        let rows = self.pass.losses(sentences)?;
        let mean = |of: fn(&RowLoss) -> f64| {
            let values: Vec<f64> = rows.iter().map(of).collect();
            mean_of_sums(&sums_by_sentence(&values, positions), positions)
        };
        let all = several.then_some(rows.len());
        let asked = Evaluation { sentences: positions.len(), positions: all, ..Evaluation::default() };
        Ok(match known {
            Ok(known) => {
                let (excess, floor) = (mean(|row| row.divergence), mean_of_sums(&known.entropies, positions));
                let paired = known.log_probabilities.as_ref().map(|known| self.paired(known)).transpose()?;
                Evaluation {
                    loss: floor.value + excess.value,
                    excess_loss: Some(excess.value),
                    excess_loss_standard_error: Some(excess.standard_error),
                    excess_loss_paired: paired.map(|e| e.value),
                    excess_loss_paired_standard_error: paired.map(|e| e.standard_error),
                    entropy_floor: Some(floor.value),
                    ..asked
                }
            }
            Err(none) => {
                let loss = mean(|row| row.loss);
                Evaluation {
                    loss: loss.value,
                    loss_standard_error: Some(loss.standard_error),
                    notes: vec![format!("excess_loss, entropy_floor: {none}")],
                    ..asked
                }
            }
        })
    }

    /// Σ (log p - log p_model) / N at the words that stood there, log p being known of each sentence.
    fn paired(&self, known: &[f64]) -> Result<Estimate, GpuError> {
        let mut losses: Vec<f64> = Vec::new();
        for chunk in self.asked.sentences.chunks(self.asked.batch) {
            let chunk: Vec<Sentence> = chunk.iter().map(certain).collect();
            losses.extend(self.pass.losses(&chunk)?.iter().map(|r| r.loss));
        }
        let losses = sums_by_sentence(&losses, &self.asked.positions);
        let apart: Vec<f64> = known.iter().zip(losses).map(|(known, loss)| known + loss).collect();
        Ok(mean_of_sums(&apart, &self.asked.positions))
    }
}

/// The sentence with all of the weight on the words that stood there.
fn certain(sentence: &Sentence) -> Sentence {
    let one = |((_, label), soft): (&(u32, u32), &Vec<f32>)| {
        let mut own = vec![0.0; soft.len()];
        own[*label as usize] = 1.0;
        own
    };
    Sentence { soft: sentence.masked.iter().zip(&sentence.soft).map(one).collect(), ..sentence.clone() }
}

/// Sums of values over each sentence's positions.
pub(crate) fn sums_by_sentence(values: &[f64], positions: &[usize]) -> Vec<f64> {
    let mut rest = values;
    let sum = |n: &usize| {
        let (own, others) = rest.split_at(*n);
        rest = others;
        own.iter().sum()
    };
    positions.iter().map(sum).collect()
}

/// The mean over all positions of all sentences from each sentence's sum over its own, with its standard error over
/// sentences.
pub(crate) fn mean_of_sums(sums: &[f64], positions: &[usize]) -> Estimate {
    match positions.iter().all(|n| *n == 1) {
        true => Estimate::of_mean(sums),
        false => Estimate::of_ratio(sums, &positions.iter().map(|n| *n as f64).collect::<Vec<f64>>()),
    }
}

/// A sentence with something to predict, and what is known of that.
#[derive(Clone, Debug)]
pub struct KnownSentence {
    /// Labelled with the words that stood there and, softly, with their exact conditionals.
    pub sentence: Sentence,
    /// Entropy of those conditionals, summed over the predicted positions.
    pub entropy: f64,
    /// What they give to the words that stood there, log p, summed over the predicted positions.
    pub log_probability: f64,
}

/// A sentence with its next words predicted, at positions as [`TokenIds::next`] has them.
pub(super) fn next_words(
    truth: &dyn Truth,
    tokens: &TokenIds,
    words: &[u32],
    positions: Range<usize>,
) -> KnownSentence {
    let known = truth.prefixes(words).expect("a sentence of the language is possible");
    let end = known.next[0].len() - 1;
    let label = |k: usize| words.get(k).map_or(end, |w| *w as usize);
    let next = || positions.clone().map(|k| &known.next[k]);
    let mut sentence = tokens.next(words, positions.clone());
    sentence.soft = next().map(|p| tokens.soft_label(p)).collect();
    KnownSentence {
        sentence,
        entropy: next().map(|p| entropy(p)).sum(),
        log_probability: positions.clone().map(|k| known.next[k][label(k)].ln()).sum(),
    }
}

/// Sentence `index` of a seed with the word masked that evaluation masks, labelled with the word that stood there.
pub fn held_out_sentence(language: &dyn Language, tokens: &TokenIds, seed: u64, index: u64) -> Sentence {
    let words = language.held_out(seed, index);
    tokens.mask(&words, masked_place(tokens, seed, index, &words))
}

/// The place that is masked of sentence `index`, the same wherever the sentence is used.
pub(super) fn masked_place(tokens: &TokenIds, seed: u64, index: u64, words: &[u32]) -> usize {
    let places = tokens.maskable(words);
    places[masked_position(seed, index, places.len())]
}

/// The same with what is known of that word.
pub fn masked_sentence(language: &dyn Truth, tokens: &TokenIds, seed: u64, index: u64) -> KnownSentence {
    let words = language.held_out(seed, index);
    let position = masked_place(tokens, seed, index, &words);
    known(tokens, &words, position, &language.conditional_at(&words, position))
}

/// Sentence `index` of a seed once for each position that is asked about, with what is known of the word there.
pub fn masked_sentences(
    language: &dyn Truth,
    tokens: &TokenIds,
    seed: u64,
    index: u64,
    positions: Positions,
) -> Vec<KnownSentence> {
    if positions == Positions::One {
        return vec![masked_sentence(language, tokens, seed, index)];
    }
    let words = language.held_out(seed, index);
    let conditionals = language.conditional_unchecked(&words).conditional;
    conditionals.iter().enumerate().map(|(position, p)| known(tokens, &words, position, p)).collect()
}

/// A sentence once for each of its words, that word masked.
pub(super) fn masked_in_turn(tokens: &TokenIds, words: &[u32]) -> Vec<Sentence> {
    tokens.maskable(words).into_iter().map(|position| tokens.mask(words, position)).collect()
}

fn known(tokens: &TokenIds, words: &[u32], position: usize, p: &[f64]) -> KnownSentence {
    let mut sentence = tokens.mask(words, position);
    sentence.soft = vec![tokens.soft_label(p)];
    KnownSentence { sentence, entropy: entropy(p), log_probability: p[words[position] as usize].ln() }
}
