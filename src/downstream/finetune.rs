//! Fine-tuning: the whole encoder with a linear classifier on the final representation of a sentence's first token
//! (`<s>`), of a model that reads in one direction of its last (`</s>`), trained end to end.
//!
//! The graph is the encoder's with another head ([`Encoder::classifier`], or [`Encoder::pooled_classifier`] as in the
//! paper's released code); that token of every sentence takes the place of the masked position, nothing is masked.
//! AdamW with a linear warm-up over [`FineTuning::warmup_steps`] steps and a linear decay to 0; dropout is the model's.
//! Seeds differ in the classifier's initial weights, the order of sentences and dropout. The parameters kept are those
//! of the epoch with the best validation accuracy ([`Fit`]). What the encoder forgot meanwhile is asked with
//! [`Memory`].

use super::data::{Part, TaskData};
use super::epochs::{Epochs, Learner};
use super::features::batch_of;
use super::forgetting::Memory;
use super::outcome::{DownstreamError, Fit, Judged, each_seed, judge};
use crate::config::{AdamW, OptimizerKind, ScheduleKind, TrainSection, Warmup};
use crate::gpu::GpuError;
use crate::graph::Dims;
use crate::model::{Encoder, ForwardPass, Loaded, Model, Reach, TokenIds, Weights};
use crate::ops::batch::Sentence;
use crate::ops::{Batch, Device, Labels};
use crate::train::{Micro, Trainer};

/// The settings of fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTuning {
    /// Peak learning rate of AdamW; it falls linearly to 0 after the warm-up.
    pub lr: f64,
    /// Passes over the training part.
    pub epochs: u32,
    /// Sentences per step.
    pub batch: u32,
    /// Steps over which the learning rate rises.
    pub warmup_steps: u64,
    /// AdamW's, on matrices only.
    pub weight_decay: f64,
    /// Whether a new layer with tanh and dropout stands before the classifier.
    pub pooled: bool,
    /// Largest norm of the gradient; 0 is no clipping.
    pub clip: f64,
}

impl Default for FineTuning {
    /// The paper's AdamW at 1e-4 with 200 steps of warm-up over 10 epochs.
    fn default() -> Self {
        FineTuning { lr: 1e-4, epochs: 10, batch: 32, warmup_steps: 200, weight_decay: 0.01, pooled: false, clip: 0.0 }
    }
}

impl FineTuning {
    /// In words.
    pub fn describe(&self) -> String {
        let mut text = format!("fine-tuning by AdamW {}, {} steps of warm-up", self.lr, self.warmup_steps);
        if self.pooled {
            text += ", through a pooler";
        }
        if self.clip > 0.0 {
            text += &format!(", gradients clipped to {}", self.clip);
        }
        text + &format!(", {} epochs of batches of {}", self.epochs, self.batch)
    }

    fn train_section(&self, sentences: usize) -> TrainSection {
        let steps = u64::from(self.epochs) * (sentences as u64).div_ceil(u64::from(self.batch));
        let warmup = (self.warmup_steps as f64 / steps as f64).min(1.0);
        let optimizer = AdamW { lr: self.lr, betas: [0.9, 0.999], eps: 1e-8, weight_decay: self.weight_decay };
        TrainSection {
            steps,
            batch_size: self.batch,
            optimizer: OptimizerKind::AdamW(optimizer),
            schedule: ScheduleKind::Linear(Warmup { warmup }),
            clip: self.clip,
            ..TrainSection::default()
        }
    }
}

/// Fine-tunes a model once for each seed; `tokens` are the ids that it gives the words of the data.
///
/// # Errors
/// [`DownstreamError::Interrupted`] with the fits that are whole; what the adapter says; a loss that is not finite.
pub fn finetune(
    device: &Device,
    model: &Loaded,
    tokens: &TokenIds,
    data: &TaskData,
    options: &FineTuning,
    seeds: &[u64],
) -> Result<Vec<Fit>, DownstreamError> {
    finetune_sentences(device, model, &data.fed(tokens, model.encoder.config.reach()), options, seeds, None)
}

/// [`finetune`] over sentences as the model is fed with them. What is asked with `memory` of each tuned encoder is in
/// its fit.
///
/// # Errors
/// As [`finetune`].
pub fn finetune_sentences(
    device: &Device,
    model: &Loaded,
    data: &TaskData<Sentence>,
    options: &FineTuning,
    seeds: &[u64],
    memory: Option<&Memory>,
) -> Result<Vec<Fit>, DownstreamError> {
    let (config, classes) = (&model.encoder.config, data.classes.len() as u32);
    let encoder = match options.pooled {
        false => Encoder::classifier(config, classes),
        true => Encoder::pooled_classifier(config, classes),
    };
    let encoder = encoder.expect("the sizes of a model that was read are good");
    each_seed(seeds, |seed| {
        let start = Model::new(device, &encoder, &initial(&encoder, model, seed))?;
        fit(start, data, options, seed, memory)
    })
}

/// The model's weights by name, with a new classifier.
fn initial(encoder: &Encoder, model: &Loaded, seed: u64) -> Weights {
    let mut weights = Weights::initial(&encoder.parameters, encoder.config.initializer_range, seed);
    for (parameter, values) in encoder.parameters.iter().zip(&mut weights.0) {
        if let Some(i) = model.encoder.find(&parameter.name) {
            values.clone_from(&model.weights.0[i]);
        }
    }
    weights
}

/// The token whose final representation a fine-tuned model's classifier reads.
pub fn read_token(reach: Reach) -> &'static str {
    match reach {
        Reach::Sentence => "<s>",
        Reach::Past => "</s>",
    }
}

/// Sentences with their classes at the tokens that the classifier reads.
fn labelled(part: &Part<Sentence>) -> Vec<Sentence> {
    let marked = |(sentence, label): (&Sentence, &u32)| {
        let masked = sentence.masked.iter().map(|(at, _)| (*at, *label)).collect();
        Sentence { masked, ..sentence.clone() }
    };
    part.sentences.iter().zip(&part.labels).map(marked).collect()
}

/// Trains a model from the parameters that it has, and judges the best of its epochs.
fn fit(
    start: Model,
    data: &TaskData<Sentence>,
    options: &FineTuning,
    seed: u64,
    memory: Option<&Memory>,
) -> Result<Fit, DownstreamError> {
    let section = options.train_section(data.train.len());
    let dims = |n: u32| Dims {
        rows: n * data.longest as u32,
        masked: n,
        sentences: n,
        probes: 1,
        longest: data.longest as u32,
    };
    let trainer = Trainer::new(start, &section, Labels::Hard, dims(options.batch), seed)?;
    let forward = ForwardPass::new(&trainer.model, dims(batch_of(data.longest) as u32), Labels::Hard, true)?;
    let mut tuning = Tuning { data, train: labelled(&data.train), trainer, forward, seed };
    let (examples, batch, by_loss) = (tuning.train.len() as u32, options.batch, data.targets().known());
    let epochs = Epochs { seed, examples, batch, epochs: options.epochs, by_loss };
    let best = epochs.fit(&mut tuning)?;
    tuning.trainer.model.write(&best.weights);
    let found = tuning.evaluate(&data.test)?;
    let forgotten = memory.map(|memory| memory.after(&tuning.trainer.model.encoder, &best.weights)).transpose()?;
    Ok(best.judged(found, forgotten))
}

/// A classifier in training on one task.
struct Tuning<'a> {
    data: &'a TaskData<Sentence>,
    train: Vec<Sentence>,
    trainer: Trainer,
    forward: ForwardPass,
    seed: u64,
}

impl Tuning<'_> {
    fn evaluate(&self, part: &Part<Sentence>) -> Result<Judged, GpuError> {
        let mut logits = Vec::new();
        for chunk in labelled(part).chunks(batch_of(self.data.longest)) {
            self.forward.run(chunk)?;
            logits.extend(self.forward.logits(chunk.len())?);
        }
        Ok(judge(&logits, self.data.classes.len(), &part.labels, &part.posteriors))
    }

    /// Reads the log of the steps.
    fn check(&mut self) -> Result<(), DownstreamError> {
        match self.trainer.read_log()?.into_iter().find(|line| line.bad) {
            Some(line) => Err(DownstreamError::Diverged { seed: self.seed, step: line.step + 1 }),
            None => Ok(()),
        }
    }
}

impl Learner for Tuning<'_> {
    type Weights = Weights;

    fn step(&mut self, examples: &[u32]) -> Result<(), DownstreamError> {
        let chosen: Vec<Sentence> = examples.iter().map(|e| self.train[*e as usize].clone()).collect();
        let batch = Batch::new(self.trainer.layout(), &chosen);
        self.trainer.advance(&[Micro { batch, weight: 1.0 / examples.len() as f32 }])?;
        if self.trainer.log_is_full() { self.check() } else { Ok(()) }
    }

    fn validate(&mut self) -> Result<(f64, f64), DownstreamError> {
        self.check()?;
        let found = self.evaluate(&self.data.validation)?;
        Ok((found.accuracy, found.loss))
    }

    fn weights(&mut self) -> Result<Weights, DownstreamError> {
        Ok(self.trainer.model.weights()?)
    }
}
