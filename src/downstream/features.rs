//! Features of sentences: what a probe reads of them, computed once and used by all seeds.

use rayon::prelude::*;

use crate::gpu::GpuError;
use crate::language::{Language, Words};
use crate::model::{Encoder, Model, RepresentationPass, TokenIds, dims_for};
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
}

/// Features of some sentences, `[rows x width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Numbers for each sentence.
    pub width: usize,
    /// Row after row.
    pub values: Vec<f32>,
}

/// Sentences of one forward batch.
const BATCH: usize = 128;

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
    pub fn of_model(
        model: &Model,
        tokens: &TokenIds,
        layer: usize,
        pooling: Pooling,
        sentences: &[Words],
        longest: usize,
    ) -> Result<Features, GpuError> {
        let d = model.encoder.config.hidden_size as usize;
        let width = if pooling == Pooling::Concat { (longest + 2) * d } else { d };
        let inputs: Vec<Sentence> = sentences.iter().map(|words| tokens.classified(words, 0)).collect();
        let pass = RepresentationPass::new(model, dims_for(&inputs, BATCH), layer)?;
        let mut values = Vec::with_capacity(inputs.len() * width);
        for chunk in inputs.chunks(BATCH) {
            let packed = pass.run(chunk)?;
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
    pub fn lookup(language: &dyn Language, sentences: &[Words], longest: usize) -> Features {
        let width = longest * language.vocabulary().len();
        let one = |words: &Words| {
            let known = language.conditional_unchecked(words);
            let mut row: Vec<f32> = known.conditional.iter().flatten().map(|p| *p as f32).collect();
            row.resize(width, 0.0);
            row
        };
        let rows: Vec<Vec<f32>> = sentences.par_iter().map(one).collect();
        Features { width, values: rows.concat() }
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
