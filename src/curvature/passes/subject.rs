//! What is measured: a model's weights on an adapter, and examples in batches. Nothing here writes the weights.

use std::collections::HashMap;
use std::ops::Range;

use super::vectors::{ProbeVectors, add};
use crate::curvature::{CurvatureError, Refusal, VectorLayout};
use crate::gpu::{Count, Gpu, GpuError};
use crate::model::{Encoder, GradientPass, Model, Recipe, Weights};
use crate::ops::batch::Sentence;
use crate::ops::counts::MASKED;
use crate::ops::{Batch, Dims, Labels};

/// A model and examples, ready to be measured. Dropout is off.
pub struct Subject {
    pub(in crate::curvature) model: Model,
    pub(in crate::curvature) sentences: Vec<Sentence>,
    /// Soft where every example brings a distribution for each masked position: the loss expected over labels.
    pub(in crate::curvature) labels: Labels,
    pub(in crate::curvature) batches: Vec<Range<usize>>,
    /// Each example's share of the masked positions.
    pub(in crate::curvature) weights: Vec<f64>,
    pub(in crate::curvature) vectors: VectorLayout,
    /// Largest batch, with as many probes at once as were asked for.
    pub(in crate::curvature) dims: Dims,
    /// Tokens and masked positions of the longest example that there is room for.
    longest: [u32; 2],
    /// Examples with the same content so far.
    seen: HashMap<u64, u32>,
    /// Examples in a batch.
    batch: usize,
}

/// How examples are gone through.
#[derive(Clone, Debug)]
pub struct Chunks {
    /// Examples in a batch.
    pub batch: usize,
    /// Probes or draws at once, at most; fewer where memory is short.
    pub probes: u32,
}

impl Default for Chunks {
    fn default() -> Self {
        Chunks { batch: 256, probes: 8 }
    }
}

impl Chunks {
    /// The usual number of examples in a batch, fewer where they predict many tokens of a large vocabulary: so many
    /// that the logits of examples with `positions` predicted positions are within 256 MiB, and one at least.
    ///
    /// ```
    /// use lowland::curvature::Chunks;
    /// assert_eq!([(1, 30522), (9, 16), (127, 50257)].map(|(t, v)| Chunks::batch_for(t, v)), [256, 256, 10]);
    /// ```
    pub fn batch_for(positions: usize, classes: usize) -> usize {
        (LOGITS / (positions * classes).max(1)).clamp(1, Chunks::default().batch)
    }
}

/// Numbers of a batch's logits at most, where nobody says how large batches are.
const LOGITS: usize = 1 << 26;

impl Subject {
    /// A model, whose parameters nothing may write while the subject lives, and examples. Of the parameters those take
    /// part whose names `only` fits, all where it is empty.
    ///
    /// Examples that all bring soft labels are measured with them: the loss is then its expectation over the labels,
    /// with the same expectation over examples as with sampled labels and less scatter. Random draws about an example
    /// are a function of what is in it (and of how many of its like stand before it), so that the order of examples and
    /// their batches do not matter.
    ///
    /// # Errors
    /// No examples; examples without a masked position; a pattern in `only` that fits no parameter.
    pub fn new(
        model: &Model,
        sentences: &[Sentence],
        only: &[String],
        chunks: &Chunks,
    ) -> Result<Subject, CurvatureError> {
        let mut model = model.without_dropout();
        model.encoder.graph.gather_early();
        if sentences.is_empty() {
            return Err(Refusal::NoExamples.into());
        }
        if let Some(i) = sentences.iter().position(|s| s.masked.is_empty()) {
            return Err(Refusal::NothingMasked(i + 1).into());
        }
        let vectors = VectorLayout::new(&model.encoder, only)?;
        let total: usize = sentences.iter().map(|s| s.masked.len()).sum();
        let mut seen = HashMap::new();
        let sentences = with_keys(sentences, &mut seen);
        let batch = chunks.batch.max(1);
        let batches = (0..sentences.len()).step_by(batch).map(|i| i..(i + batch).min(sentences.len())).collect();
        let dims = Dims { probes: chunks.probes.max(1), ..crate::model::dims_for(&sentences, batch) };
        let longest = longest(&sentences);
        Ok(Subject {
            model,
            weights: sentences.iter().map(|s| s.masked.len() as f64 / total as f64).collect(),
            labels: if sentences.iter().all(|s| s.soft.len() == s.masked.len()) { Labels::Soft } else { Labels::Hard },
            sentences,
            batches,
            vectors,
            dims,
            longest,
            seen,
            batch,
        })
    }

    /// The same model and examples in other batches.
    pub(in crate::curvature) fn in_batches_of(&self, batch: usize) -> Subject {
        let all = self.sentences.len();
        Subject {
            model: self.model.clone(),
            sentences: self.sentences.clone(),
            labels: self.labels,
            batches: (0..all).step_by(batch).map(|i| i..(i + batch).min(all)).collect(),
            weights: self.weights.clone(),
            vectors: self.vectors.clone(),
            dims: Dims {
                probes: self.dims.probes,
                longest: self.dims.longest,
                ..crate::model::dims_for(&self.sentences, batch)
            },
            longest: self.longest,
            seen: self.seen.clone(),
            batch,
        }
    }

    /// Room in batches for examples of so many tokens and masked positions, for what is planned from now on.
    pub fn reserve(&mut self, tokens: u32, masked: u32) {
        let batch = self.batch as u32;
        self.dims.sentences = self.dims.sentences.max(batch);
        self.dims.rows = self.dims.rows.max(batch * tokens);
        self.dims.masked = self.dims.masked.max(batch * masked);
        self.longest = [self.longest[0].max(tokens), self.longest[1].max(masked)];
        self.dims.longest = self.longest[0];
    }

    /// Rows of the longest example in a tensor with so many rows.
    pub(in crate::curvature) fn longest(&self, rows: Count) -> u32 {
        self.longest[usize::from(rows == MASKED)]
    }

    /// More examples, in batches of their own, for a [`Drawing`](crate::curvature::Drawing) that goes on.
    ///
    /// # Errors
    /// An example without a masked position; a batch that is larger than the room there is
    /// ([`reserve`](Self::reserve)).
    pub fn extend(&mut self, sentences: &[Sentence]) -> Result<(), CurvatureError> {
        if let Some(i) = sentences.iter().position(|s| s.masked.is_empty()) {
            return Err(Refusal::NothingMasked(self.examples() + i + 1).into());
        }
        let needed = crate::model::dims_for(sentences, self.batch);
        let [tokens, masked] = longest(sentences);
        let rows = needed.rows > self.dims.rows || needed.masked > self.dims.masked;
        if rows || needed.sentences > self.dims.sentences || tokens > self.longest[0] || masked > self.longest[1] {
            return Err(Refusal::NoRoom.into());
        }
        let first = self.sentences.len();
        self.sentences.extend(with_keys(sentences, &mut self.seen));
        let end = self.sentences.len();
        self.batches.extend((first..end).step_by(self.batch).map(|i| i..(i + self.batch).min(end)));
        let total: usize = self.sentences.iter().map(|s| s.masked.len()).sum();
        self.weights = self.sentences.iter().map(|s| s.masked.len() as f64 / total as f64).collect();
        Ok(())
    }

    /// Numbers that take part.
    pub fn size(&self) -> usize {
        self.vectors.size()
    }

    /// Which numbers those are.
    pub fn vectors(&self) -> &VectorLayout {
        &self.vectors
    }

    /// The model.
    pub fn encoder(&self) -> &Encoder {
        &self.model.encoder
    }

    /// The model for passes that take adjoints and no tangents: the last attention computes masked rows alone.
    pub(in crate::curvature) fn first_order(&self) -> Encoder {
        let mut encoder = self.model.encoder.clone();
        encoder.graph.gather_queries();
        encoder
    }

    pub(in crate::curvature) fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    /// Examples.
    pub fn examples(&self) -> usize {
        self.sentences.len()
    }

    /// Masked positions of each example.
    pub fn masked(&self) -> Vec<usize> {
        self.sentences.iter().map(|s| s.masked.len()).collect()
    }

    /// Each example's share of the masked positions.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The weights as they are on the adapter.
    pub fn read_weights(&self) -> Result<Weights, GpuError> {
        self.model.weights()
    }

    /// The gradient of the loss whose Hessian [`hessian`](Self::hessian) is, the mean over masked positions; shape
    /// `[N]`. [`Gradients::mean_of_examples`](crate::curvature::Gradients::mean_of_examples) is of examples' summed
    /// losses. They are the same where every example has one masked position.
    pub fn loss_gradient(&self) -> Result<Vec<f32>, CurvatureError> {
        let dims = Dims { probes: 1, ..self.dims };
        let pass = GradientPass::new(&self.model, dims, Labels::Hard)?;
        let mut sum = vec![0.0f64; self.size()];
        for range in &self.batches {
            let batch = Batch::new(pass.layout(), &self.sentences[range.clone()]);
            let mut encoder = self.gpu().encoder();
            pass.encode(&mut encoder, &batch, self.row_weight() as f32, &batch.step(1))?;
            let submission = self.gpu().submit(encoder);
            self.gpu().wait(submission)?;
            let gradient = ProbeVectors::over(self.encoder(), pass.gradient().matrices.clone());
            gradient.read(self, 1, &mut |_, range, values| add(&mut sum[range], values))?;
        }
        if !sum.iter().all(|g| g.is_finite()) {
            return Err(CurvatureError::NotFinite("the gradient"));
        }
        Ok(sum.into_iter().map(|g| g as f32).collect())
    }

    /// Bytes that [`loss_gradient`](Self::loss_gradient) takes of the adapter.
    pub fn loss_gradient_bytes(&self) -> Result<u64, CurvatureError> {
        let dims = Dims { probes: 1, ..self.dims };
        Ok(Recipe::gradient(&self.model.encoder, Labels::Hard).0.bytes(&self.model, &dims)?)
    }

    /// Multiplications and additions of a gradient over the largest batch.
    pub(in crate::curvature) fn gradient_flops(&self) -> f64 {
        Recipe::gradient(&self.model.encoder, Labels::Hard).0.graph().flops(&self.dims, self.model.variants())[0]
    }

    /// What one masked position weighs in the mean loss.
    pub(in crate::curvature) fn row_weight(&self) -> f64 {
        1.0 / self.sentences.iter().map(|s| s.masked.len()).sum::<usize>() as f64
    }
}

/// Tokens and masked positions of the longest sentence.
fn longest(sentences: &[Sentence]) -> [u32; 2] {
    let most = |f: fn(&Sentence) -> usize| sentences.iter().map(f).max().unwrap_or(0) as u32;
    [most(|s| s.ids.len()), most(|s| s.masked.len())]
}

/// The sentences with keys: 64 bits of a hash of what each holds, and of its number among its like.
fn with_keys(sentences: &[Sentence], seen: &mut HashMap<u64, u32>) -> Vec<Sentence> {
    let hash = |bytes: &[u32]| {
        let bytes: Vec<u8> = bytes.iter().flat_map(|w| w.to_le_bytes()).collect();
        u64::from_le_bytes(blake3::hash(&bytes).as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    };
    sentences
        .iter()
        .map(|s| {
            let mut words = vec![s.ids.len() as u32];
            words.extend(&s.ids);
            words.extend(&s.segments);
            words.extend(s.masked.iter().flat_map(|(position, label)| [*position, *label]));
            let own = hash(&words);
            let number = seen.entry(own).or_insert(0);
            *number += 1;
            Sentence { key: hash(&[own as u32, (own >> 32) as u32, *number]), ..s.clone() }
        })
        .collect()
}
