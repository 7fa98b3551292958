//! The head that is fitted anew in every step: kernel ridge regression on features of unit length, and the gradient of
//! its squared error by the encoder through the fit ([`kernel_ridge`](super::kernel_ridge)).
//!
//! A batch's first 7/8, from the first set, are fitted, the rest, from the second, judge. The adapter computes the
//! features, the host the loss and its derivative by them, the adapter the gradient from there on, so that a step waits
//! once. The loss is bounded: an encoder that makes the head wrong rather than ignorant gains little, and there is no
//! ceiling. Nothing of it is kept between steps.

use super::kernel_ridge::Rows;
use super::{Felt, Turn};
use crate::config::{Adversarial, HeadReads};
use crate::gpu::{GpuError, Stamp, Step};
use crate::model::{FeatureDirection, Model, SentenceFeaturesPass, SentenceHead, SentenceReading};
use crate::ops::Batch;
use crate::ops::batch::Sentence;

/// A ridge head's passes.
pub(super) struct RidgeHead {
    features: SentenceFeaturesPass,
    against: SentenceFeaturesPass,
    classes: usize,
    /// Sentences of a batch that are fitted, and that judge.
    parts: [u32; 2],
    ridge: f64,
}

/// What a head reads of sentences; their class is marked at `<s>`.
fn reading(shape: SentenceHead, algorithm: &Adversarial) -> SentenceReading {
    match algorithm.reads {
        HeadReads::Tokens => SentenceReading::Tokens(shape.tokens),
        HeadReads::First => SentenceReading::Marked(shape.tokens),
    }
}

impl RidgeHead {
    /// Bytes of activations and batches.
    pub fn bytes(model: &Model, shape: SentenceHead, algorithm: &Adversarial) -> Result<u64, GpuError> {
        let reading = reading(shape, algorithm);
        let of = |back| SentenceFeaturesPass::bytes(model, reading, back, algorithm.batch);
        Ok(of(false)? + of(true)?)
    }

    /// Plans and allocates.
    pub fn new(
        model: &Model,
        shape: SentenceHead,
        algorithm: &Adversarial,
        felt: &Felt,
    ) -> Result<RidgeHead, GpuError> {
        let pass = |direction| SentenceFeaturesPass::new(model, reading(shape, algorithm), direction, algorithm.batch);
        let fit = algorithm.batch / 8 * 7;
        Ok(RidgeHead {
            features: pass(FeatureDirection::Forward)?,
            against: pass(FeatureDirection::Back(&felt.gradient.matrices))?,
            classes: shape.classes as usize,
            parts: [fit, algorithm.batch - fit],
            ridge: algorithm.ridge,
        })
    }

    /// Dispatches of one step of the encoder.
    pub fn dispatches(&self) -> usize {
        self.features.dispatches() + self.against.dispatches()
    }

    /// A step's sentences: those to fit, then those to judge by.
    pub fn batch(&self, turn: &Turn<'_>) -> Vec<Sentence> {
        let mut sentences = turn.chosen(0, 0, self.parts[0]);
        sentences.extend(turn.chosen(1, 1, self.parts[1]));
        sentences
    }

    /// Computes the features, waits for them, and submits the gradient, which is left out while it has no weight.
    pub fn advance(&self, turn: &Turn<'_>, stamp: Option<Stamp<'_>>) -> Result<Vec<wgpu::SubmissionIndex>, GpuError> {
        let (gpu, run, felt) = (&turn.adversary.gpu, &turn.adversary.run, &turn.adversary.felt);
        let sentences = self.batch(turn);
        let batch = Batch::new(self.features.layout(), &sentences);
        let numbers = Step { counter: [turn.step as u32, 0], ..batch.step(1) };
        let mut encoder = gpu.encoder();
        self.features.encode(&mut encoder, &batch, &numbers, stamp)?;
        let mut submitted = vec![gpu.submit(encoder)];
        let features = self.features.read(sentences.len())?;
        let labels: Vec<u32> = sentences.iter().map(|s| s.masked[0].1).collect();
        let rows = Rows {
            features: &features,
            width: self.features.width(),
            labels: &labels,
            classes: self.classes,
            fit: self.parts[0] as usize,
        };
        let (loss, derivative) = rows.judge(self.ridge);
        let bad = !(loss.is_finite() && derivative.iter().all(|g| g.is_finite()));
        let wanted = -turn.weight as f32;
        // Features that are not finite must make the step's gradient so.
        let factor = if bad { f32::INFINITY } else { wanted };
        gpu.write(&felt.factor, &[[factor, 0.0, 0.0, 0.0]]);
        let line = [loss as f32, wanted, f32::from(bad), f32::from_bits(turn.step as u32)];
        gpu.write_at(&felt.log, turn.step % u64::from(run.ring) * 16, &[line]);
        if factor != 0.0 {
            let scaled: Vec<f32> = derivative.iter().map(|g| (g * f64::from(run.scale)) as f32).collect();
            self.against.write(&scaled);
            let mut encoder = gpu.encoder();
            self.against.encode(&mut encoder, &batch, &numbers, None)?;
            submitted.push(gpu.submit(encoder));
        }
        Ok(submitted)
    }
}
