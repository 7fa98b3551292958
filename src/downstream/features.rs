//! Features of sentences: what a probe reads of them, computed once and used by all seeds.

use rayon::prelude::*;

use crate::config::ObjectiveKind;
use crate::gpu::GpuError;
use crate::language::{Language, Truth, Words};
use crate::model::{Encoder, Model, ModelKind, Reach, RepresentationPass, TokenIds, dims_for};
use crate::ops::Family;
use crate::ops::batch::Sentence;
use crate::random::{Purpose, Stream};

/// The part of a sentence's token representations that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// All of them one after another, zeros behind a shorter sentence: the paper's.
    Concat,
    /// Their mean.
    Mean,
    /// The representation of `<s>`.
    First,
    /// The representation of `</s>`: the one token at which a model that reads in one direction has seen the sentence.
    Last,
    /// Those of all tokens but the first and the last of a sentence padded to so many tokens, one after another, those
    /// of padding with them: what the paper's released code reads (of 20). Padding attends to the sentence and is not
    /// attended to; an LSTM runs through it as through any token.
    Padded(u32),
}

impl Pooling {
    /// Features of a sentence of a model of width `d`, where a sentence has up to `longest` words.
    pub fn width(self, d: usize, longest: usize) -> usize {
        self.width_of_tokens(d, longest + 2)
    }

    /// The same where a sentence has up to so many tokens.
    fn width_of_tokens(self, d: usize, tokens: usize) -> usize {
        match self {
            Pooling::Concat => tokens * d,
            Pooling::Padded(length) => (length as usize - 2) * d,
            Pooling::Mean | Pooling::First | Pooling::Last => d,
        }
    }

    /// That it says something of a sentence, where a token has seen what `reach` says.
    ///
    /// # Errors
    /// In words, with what would be right.
    pub fn check_reach(self, reach: Reach) -> Result<(), String> {
        match (self, reach) {
            (Pooling::First, Reach::Past) => {
                Err("\"first\" is `<s>`, at which a model that reads in one direction has \
                                                  seen no word of the sentence; take \"last\""
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// What of it cannot be for a model with positions for so many tokens, and sentences of up to `longest` words.
    ///
    /// # Errors
    /// In words.
    pub fn check(self, positions: u32, longest: usize) -> Result<(), String> {
        let Pooling::Padded(length) = self else { return Ok(()) };
        let needed = longest as u32 + 2;
        if length < needed.max(3) {
            return Err(format!("{length} tokens are too few for sentences of {longest} words: {needed} are needed"));
        }
        match length > positions {
            true => Err(format!("{length} tokens are too many: the model has positions for {positions}")),
            false => Ok(()),
        }
    }
}

/// A model in training, whose representations are other ones each time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropping {
    /// Probability with which hidden states and attention weights are dropped.
    pub p: f64,
    /// Of the draws.
    pub seed: u64,
    /// Number of the draw.
    pub draw: u64,
}

impl Dropping {
    /// Nothing is dropped.
    pub const NONE: Dropping = Dropping { p: 0.0, seed: 0, draw: 0 };
}

/// Features of some sentences, `[rows x width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Numbers for each sentence.
    pub width: usize,
    /// Row after row.
    pub values: Vec<f32>,
}

/// Sentences of one forward batch, and tokens that it may have: few enough that activations of 128 tokens in models of
/// width 768 can be bound where 128 MiB can.
const BATCH: usize = 128;
const TOKENS: usize = 8192;

/// Sentences of one forward batch, where each has up to so many tokens.
pub(super) fn batch_of(tokens: usize) -> usize {
    (TOKENS / tokens.max(1)).clamp(1, BATCH)
}

/// A layer that a model does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "layer {layer}: this model has 0 (the embedding) to {}, or -1 to -{layers} from the end", layers.saturating_sub(1)
)]
pub struct NoSuchLayer {
    /// What was asked for.
    pub layer: i64,
    /// Layers of the model, the embedding included.
    pub layers: usize,
}

/// The layer of a number that may count from the end: -1 is the last, 0 the embedding.
///
/// # Errors
/// A number that is none.
pub fn layer_number(layer: i64, encoder: &Encoder) -> Result<usize, NoSuchLayer> {
    layer_in(layer, encoder.hidden.len())
}

/// [`layer_number`] of a model with `layers` layers, the embedding included.
///
/// # Errors
/// A number that is none.
pub fn layer_in(layer: i64, layers: usize) -> Result<usize, NoSuchLayer> {
    let n = layers as i64;
    let at = if layer < 0 { layer + n } else { layer };
    match (0..n).contains(&at) {
        true => Ok(at as usize),
        false => Err(NoSuchLayer { layer, layers }),
    }
}

impl Features {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// From the representations of a layer ([`Encoder::representations`]); `longest` is the number of words that
    /// [`Pooling::Concat`] has room for.
    ///
    /// # Panics
    /// [`Pooling::Padded`] that does not pass its [check](Pooling::check), or a model without a padding token.
    pub fn of_model(
        model: &Model,
        tokens: &TokenIds,
        layer: usize,
        pooling: Pooling,
        sentences: &[Words],
        longest: usize,
    ) -> Result<Features, GpuError> {
        Features::of_model_in_training(model, tokens, layer, pooling, (sentences, longest), Dropping::NONE)
    }

    /// The same of a model in training: what is dropped is a function of the draw, not of how often it is asked for.
    ///
    /// # Panics
    /// As [`of_model`](Self::of_model).
    pub fn of_model_in_training(
        model: &Model,
        tokens: &TokenIds,
        layer: usize,
        pooling: Pooling,
        (sentences, longest): (&[Words], usize),
        dropping: Dropping,
    ) -> Result<Features, GpuError> {
        let fed = |words: &Words| match pooling {
            Pooling::Padded(length) => {
                let mut sentence = tokens.padded(words, length as usize).expect("a model with a padding token");
                // The released LSTM runs through its padding in both directions.
                if model.encoder.config.kind == ModelKind::Lstm {
                    sentence.padding = 0;
                }
                sentence
            }
            _ => tokens.classified(words, 0, model.encoder.config.reach()),
        };
        let inputs: Vec<Sentence> = sentences.iter().map(fed).collect();
        Features::of_sentences(model, layer, pooling, (&inputs, longest + 2), dropping)
    }

    /// The same of sentences as a model is fed with them, of up to `tokens` tokens.
    pub fn of_sentences(
        model: &Model,
        layer: usize,
        pooling: Pooling,
        (inputs, tokens): (&[Sentence], usize),
        dropping: Dropping,
    ) -> Result<Features, GpuError> {
        let d = model.encoder.config.hidden_size as usize;
        let width = pooling.width_of_tokens(d, tokens);
        let mut model = model.clone();
        if let Pooling::Padded(_) = pooling {
            // The variant whose rows each have keys of their own.
            let variants = model.device.variants.with(Family::AttentionForward, "row");
            model.device = model.device.with(variants.expect("every adapter runs the plain variant"));
        }
        let longest = inputs.iter().map(|sentence| sentence.ids.len()).max().unwrap_or(0);
        let batch = batch_of(longest);
        let pass = RepresentationPass::dropping(&model, dims_for(inputs, batch), layer, dropping.p)?;
        let batches = inputs.len().div_ceil(batch) as u64;
        let mut values = Vec::with_capacity(inputs.len() * width);
        for (chunk, number) in inputs.chunks(batch).zip(dropping.draw * batches..) {
            let packed = pass.draw(chunk, dropping.seed, number)?;
            let mut from = 0;
            for sentence in chunk {
                let tokens = &packed[from * d..(from + sentence.ids.len()) * d];
                from += sentence.ids.len();
                match pooling {
                    Pooling::Mean => {
                        let n = sentence.ids.len() as f32;
                        let sum = |c: usize| tokens.iter().skip(c).step_by(d).sum::<f32>();
                        values.extend((0..d).map(|c| sum(c) / n));
                    }
                    Pooling::First => values.extend_from_slice(&tokens[..d]),
                    Pooling::Last => values.extend_from_slice(&tokens[tokens.len() - d..]),
                    Pooling::Padded(_) => values.extend_from_slice(&tokens[d..tokens.len() - d]),
                    Pooling::Concat => {
                        values.extend_from_slice(tokens);
                        values.resize(values.len() + width - tokens.len(), 0.0);
                    }
                }
            }
        }
        Ok(Features { width, values })
    }

    /// The lookup table: p(. | the other words) at every position, zeros behind a shorter sentence.
    pub fn lookup(language: &dyn Truth, sentences: &[Words], longest: usize) -> Features {
        let width = Features::exact_width(ObjectiveKind::Mlm, language, longest);
        let one = |words: &Words| {
            let known = language.conditional_unchecked(words);
            let mut row: Vec<f32> = known.conditional.iter().flatten().map(|p| *p as f32).collect();
            row.resize(width, 0.0);
            row
        };
        let rows: Vec<Vec<f32>> = sentences.par_iter().map(one).collect();
        Features { width, values: rows.concat() }
    }

    /// The table of next words: p(. | the words before) at the first word and behind every word, the sentence's end
    /// last in each row, zeros behind a shorter sentence and for one that the language does not make.
    pub fn next_words(language: &dyn Truth, sentences: &[Words], longest: usize) -> Features {
        let width = Features::exact_width(ObjectiveKind::Causal, language, longest);
        let one = |words: &Words| {
            let next = language.prefixes(words).map_or(vec![], |known| known.next);
            let mut row: Vec<f32> = next.iter().flatten().map(|p| *p as f32).collect();
            row.resize(width, 0.0);
            row
        };
        let rows: Vec<Vec<f32>> = sentences.par_iter().map(one).collect();
        Features { width, values: rows.concat() }
    }

    /// What the language itself says where a model of an objective predicts: the [lookup table](Self::lookup), or that
    /// of [next words](Self::next_words).
    pub fn exact(kind: ObjectiveKind, language: &dyn Truth, sentences: &[Words], longest: usize) -> Features {
        match kind {
            ObjectiveKind::Mlm => Features::lookup(language, sentences, longest),
            ObjectiveKind::Causal => Features::next_words(language, sentences, longest),
        }
    }

    /// Numbers for each sentence of [`exact`](Self::exact).
    pub fn exact_width(kind: ObjectiveKind, language: &dyn Language, longest: usize) -> usize {
        let words = language.vocabulary().len();
        match kind {
            ObjectiveKind::Mlm => longest * words,
            ObjectiveKind::Causal => (longest + 1) * (words + 1),
        }
    }

    /// Some rows, in the order that is asked for.
    pub fn pick(&self, rows: &[usize]) -> Features {
        let values = rows.iter().flat_map(|row| &self.values[row * self.width..][..self.width]).copied().collect();
        Features { width: self.width, values }
    }

    /// Each feature less its mean over the first `train` rows, over its standard deviation there; one that does not
    /// vary there is 0. What multiplies all of a layer's representations changes nothing of it.
    pub fn standardised(&self, train: usize) -> Features {
        let n = train as f64;
        let rows = || self.values.chunks_exact(self.width).take(train);
        let mut mean = vec![0.0f64; self.width];
        rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x) / n));
        let mut variance = vec![0.0f64; self.width];
        rows().for_each(|row| {
            variance.iter_mut().zip(row).zip(&mean).for_each(|((v, x), m)| *v += (f64::from(*x) - m).powi(2) / n);
        });
        // What rounding makes of a feature that stays.
        let scale = |(v, m): (&f64, &f64)| match *v <= 1e-14 * m * m {
            true => 0.0,
            false => v.sqrt().recip(),
        };
        let scale: Vec<f64> = variance.iter().zip(&mean).map(scale).collect();
        let one = |(i, x): (usize, &f32)| ((f64::from(*x) - mean[i % self.width]) * scale[i % self.width]) as f32;
        Features { width: self.width, values: self.values.iter().enumerate().map(one).collect() }
    }

    /// [`standardised`](Self::standardised) by the first `train` rows where that is asked, then [projected](Self::project)
    /// where that is.
    pub fn adapted(self, standardise: bool, train: usize, projection: Option<u32>, seed: u64) -> Features {
        let features = if standardise { self.standardised(train) } else { self };
        match projection {
            Some(to) => features.project(to as usize, seed),
            None => features,
        }
    }

    /// The features under a random matrix with independent normal entries of variance 1 / `to`, a function of the seed,
    /// which keeps inner products in the mean.
    pub fn project(&self, to: usize, seed: u64) -> Features {
        let scale = 1.0 / (to as f64).sqrt();
        // [width x to], so that a row of features adds up rows of it.
        let matrix: Vec<f32> = (0..self.width as u64)
            .into_par_iter()
            .flat_map_iter(|i| {
                let mut stream = Stream::new(seed, Purpose::Projection, i);
                (0..to).map(move |_| (stream.normal() * scale) as f32)
            })
            .collect();
        let one = |row: &[f32]| {
            let mut out = vec![0.0f32; to];
            for (x, weights) in row.iter().zip(matrix.chunks_exact(to)).filter(|(x, _)| **x != 0.0) {
                out.iter_mut().zip(weights).for_each(|(o, w)| *o += x * w);
            }
            out
        };
        let rows: Vec<Vec<f32>> = self.values.par_chunks(self.width).map(one).collect();
        Features { width: to, values: rows.concat() }
    }
}
