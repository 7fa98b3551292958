//! The adversarial algorithm: minimise the pre-training loss minus λ times the loss of a head that learns a downstream
//! task from the encoder's representations (Liu, Xie, Li, Ma 2023).
//!
//! The head reads what a linear probe reads, the concatenated token representations of the last layer (a ridge may read
//! `<s>` alone). It learns from one set of labelled sentences, and the encoder feels its loss on another set. Both sets
//! have seeds that neither training, evaluation nor probes use. There are two heads: a [linear] one that is trained
//! alongside, and a [ridge] regression that is fitted anew in every step and through whose fit the gradient goes.
//!
//! Batches are a function of (seed, step).

mod kernel_ridge;
mod linear;
mod ridge;

use super::checkpoint::{MissingTensor, NamedTensor};
use crate::config::{Adversarial, ConfigError, HeadKind};
use crate::gpu::{Buffer, Gpu, GpuError, Program, Stamp, Step};
use crate::language::{Labelled, Language, Task, Truth, part, part_seed, task_names};
use crate::model::{Arena, Model, Reach, SentenceHead, TokenIds};
use crate::ops::adversary;
use crate::ops::batch::Sentence;
use crate::random::{Purpose, Stream};
use linear::LinearHead;
use ridge::RidgeHead;

/// The labelled sentences of both sets.
#[derive(Clone, Debug)]
pub struct AdversaryData {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What the head learns from, and what its loss is taken on; each unmasked, its class marked at `<s>`.
    pub sets: [Vec<Sentence>; 2],
    /// Entropy of the first set's classes, in nats.
    pub entropy: f64,
    /// Tokens of the longest sentence that there may be.
    pub tokens: u32,
}

fn refused<E: std::fmt::Display>(key: &str) -> impl Fn(E) -> ConfigError {
    let place = format!("train.algorithm.{key}");
    move |error| ConfigError::at(place.clone(), error)
}

/// Sizes of the head for a language.
///
/// # Errors
/// When the language has no such task, or none at all.
pub(super) fn head_of(algorithm: &Adversarial, language: &dyn Language) -> Result<SentenceHead, ConfigError> {
    let task: Task = algorithm.task.parse().map_err(refused("task"))?;
    let truth = language.truth().map_err(refused("task"))?;
    let names = task_names(truth, task).map_err(refused("task"))?;
    Ok(SentenceHead { classes: names.len() as u32, tokens: language.longest() as u32 })
}

impl AdversaryData {
    /// Draws and labels sentences.
    ///
    /// # Errors
    /// When the language has no such task, hardly a sentence has a label, or all have the same.
    pub fn draw(
        algorithm: &Adversarial,
        language: &dyn Truth,
        tokens: &TokenIds,
        seed: u64,
    ) -> Result<AdversaryData, ConfigError> {
        let task: Task = algorithm.task.parse().map_err(refused("task"))?;
        let mut classes = language.label_names(task).map_err(refused("task"))?;
        classes.sort_unstable();
        let draw = |part| {
            let seed = part_seed(seed, part);
            let found = Labelled::draw(language, task, algorithm.with_prior, seed, algorithm.sentences as usize)
                .map_err(refused("task"))?;
            let one = |(words, label): (Vec<u32>, crate::language::Label)| {
                let class = classes.binary_search(&label.symbol).expect("a label is one of the task's names");
                tokens.classified(&words, class as u32, Reach::Sentence)
            };
            Ok::<Vec<Sentence>, ConfigError>(found.sentences.into_iter().map(one).collect())
        };
        let sets = [draw(part::ADVERSARY_HEAD)?, draw(part::ADVERSARY_LOSS)?];
        let mut counts = vec![0usize; classes.len()];
        sets[0].iter().for_each(|s| counts[s.masked[0].1 as usize] += 1);
        let share = |n: &usize| *n as f64 / sets[0].len() as f64;
        let entropy: f64 = counts.iter().filter(|n| **n > 0).map(|n| -share(n) * share(n).ln()).sum();
        if counts.iter().filter(|n| **n > 0).count() < 2 {
            return Err(refused("task")("all labels are the same; there is nothing to unlearn"));
        }
        Ok(AdversaryData { classes, sets, entropy, tokens: language.longest() as u32 })
    }
}

/// The head with its programs, and what they add to a trainer's gradient.
pub struct Adversary {
    gpu: Gpu,
    algorithm: Adversarial,
    run: AdversaryRun,
    data: AdversaryData,
    head: Head,
    felt: Felt,
    blend: Program,
}

enum Head {
    Linear(Box<LinearHead>),
    Ridge(Box<RidgeHead>),
}

/// What the encoder feels of a head, and where it is written down.
struct Felt {
    /// Gradient of the head's mean loss by the encoder's parameters, times `train.loss_scale`.
    gradient: Arena,
    /// What it is multiplied by before it is added, in the first of four numbers.
    factor: Buffer,
    /// A line a step: (loss, factor, 1 when bad, step as bits).
    log: Buffer,
}

/// What the encoder felt of the head in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdversaryLine {
    /// The head's mean loss on the batch.
    pub loss: f32,
    /// -λ, or 0 above the ceiling.
    pub factor: f32,
}

/// Bytes that an adversary takes of the adapter: the gradient, the head with what it keeps, activations and batches,
/// and small things.
pub(super) fn adversary_bytes(
    model: &Model,
    head: SentenceHead,
    algorithm: &Adversarial,
    ring: u32,
) -> Result<u64, GpuError> {
    let own = match algorithm.head {
        HeadKind::Linear => LinearHead::bytes(model, head, algorithm.batch)?,
        HeadKind::Ridge => RidgeHead::bytes(model, head, algorithm)?,
    };
    Ok(Arena::bytes(&model.encoder, model.gpu().alignment()) + u64::from(ring) * 16 + own)
}

/// The run that an adversary works in.
#[derive(Clone, Copy, Debug)]
pub struct AdversaryRun {
    /// The run's steps.
    pub steps: u64,
    /// Of the batches.
    pub seed: u64,
    /// What the losses are multiplied by before the backward pass.
    pub scale: f32,
    /// Steps that the log holds before it starts again.
    pub ring: u32,
}

/// One step of the encoder, as a head sees it.
struct Turn<'a> {
    adversary: &'a Adversary,
    /// Counted from 0.
    step: u64,
    /// λ.
    weight: f64,
}

impl Turn<'_> {
    /// Some sentences of one of the sets, for batch `number` of the step.
    fn chosen(&self, set: usize, number: u64, count: u32) -> Vec<Sentence> {
        self.adversary.chosen(set, self.step, number, count)
    }
}

impl Adversary {
    /// Plans and allocates. `whole` is the gradient that the update reads.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(
        model: &Model,
        whole: &Arena,
        algorithm: &Adversarial,
        data: AdversaryData,
        run: AdversaryRun,
    ) -> Result<Adversary, GpuError> {
        let gpu = model.gpu();
        let shape = SentenceHead { classes: data.classes.len() as u32, tokens: data.tokens };
        let felt = Felt {
            gradient: Arena::new(gpu, &model.encoder, "the adversarial gradient")?,
            factor: gpu.buffer("the adversarial factor", 16)?,
            log: gpu.buffer("the adversary's log", u64::from(run.ring) * 16)?,
        };
        let head = match algorithm.head {
            HeadKind::Linear => {
                Head::Linear(Box::new(LinearHead::new(model, shape, algorithm, data.entropy, run, &felt)?))
            }
            HeadKind::Ridge => Head::Ridge(Box::new(RidgeHead::new(model, shape, algorithm, &felt)?)),
        };
        let pairs = felt.gradient.chunks.iter().zip(&whole.chunks);
        let blend = pairs.map(|(a, g)| adversary::blend(&a.buffer, &felt.factor, &g.buffer, g.size4)).collect();
        let blend = Program::new(gpu, blend)?;
        Ok(Adversary { gpu: gpu.clone(), algorithm: algorithm.clone(), run, data, head, felt, blend })
    }

    /// Dispatches of one step of the encoder.
    pub(super) fn dispatches(&self) -> usize {
        let head = match &self.head {
            Head::Linear(head) => head.dispatches(self.algorithm.head_steps),
            Head::Ridge(head) => head.dispatches(),
        };
        head + self.blend.len()
    }

    /// Sentences of batch `number` of a step, from one of the sets.
    fn chosen(&self, set: usize, step: u64, number: u64, count: u32) -> Vec<Sentence> {
        let sentences = &self.data.sets[set];
        let index = step * (u64::from(self.algorithm.head_steps) + 1) + number;
        let mut stream = Stream::new(self.run.seed, Purpose::Adversary, index);
        let mut one = || sentences[stream.below(sentences.len() as u32) as usize].clone();
        (0..count).map(|_| one()).collect()
    }

    /// Submits what makes the adversarial gradient of a step of the encoder, counted from 0.
    pub(super) fn advance(&self, step: u64, stamp: Option<Stamp<'_>>) -> Result<Vec<wgpu::SubmissionIndex>, GpuError> {
        let turn = Turn { adversary: self, step, weight: self.algorithm.weight_at(step, self.run.steps) };
        match &self.head {
            Head::Linear(head) => head.advance(&turn, stamp),
            Head::Ridge(head) => head.advance(&turn, stamp),
        }
    }

    /// Adds the adversarial gradient, times its factor, to the whole one.
    pub(super) fn blend(&self, encoder: &mut wgpu::CommandEncoder, numbers: &Step) -> Result<(), GpuError> {
        self.blend.encode(&self.gpu, encoder, numbers)
    }

    /// The lines of steps, as long as the log still holds them.
    pub(super) fn lines(&self, steps: std::ops::Range<u64>) -> Result<Vec<AdversaryLine>, GpuError> {
        let lines: Vec<[f32; 4]> = self.gpu.read(&self.felt.log, self.run.ring as usize)?;
        let line = |step: u64| lines[(step % u64::from(self.run.ring)) as usize];
        Ok(steps.map(line).map(|l| AdversaryLine { loss: l[0], factor: l[1] }).collect())
    }

    /// The gradient of the head's mean loss by the encoder's parameters, times the loss scale, as the last step left
    /// it, and the sentences of a step that it is taken on: those that the loss is of, behind those of the fit that it
    /// goes through.
    pub fn last(&self, step: u64) -> (&Arena, Vec<Sentence>) {
        let turn = Turn { adversary: self, step, weight: 0.0 };
        let sentences = match &self.head {
            Head::Linear(_) => LinearHead::judged_on(&turn),
            Head::Ridge(head) => head.batch(&turn),
        };
        (&self.felt.gradient, sentences)
    }

    /// Waits and reads what a checkpoint holds of the head: a linear one with its moments, nothing of a ridge.
    pub fn state(&self) -> Result<Vec<NamedTensor>, GpuError> {
        match &self.head {
            Head::Linear(head) => head.state(&self.gpu),
            Head::Ridge(_) => Ok(vec![]),
        }
    }

    /// Whether a checkpoint holds something of the head.
    pub(super) fn has_state(&self) -> bool {
        matches!(self.head, Head::Linear(_))
    }

    /// Goes on with what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn restore(&self, state: &[NamedTensor]) -> Result<(), MissingTensor> {
        match &self.head {
            Head::Linear(head) => head.restore(&self.gpu, state),
            Head::Ridge(_) => Ok(()),
        }
    }
}
