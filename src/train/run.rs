//! A training run as a folder: begun, resumed, finished or stopped, and never half written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::adversary::AdversaryData;
use super::branch::Fork;
use super::checkpoint::{MissingTensor, tidy};
use super::claim::Lost;
use super::data::Corpus;
use super::evaluate::{Evaluation, Evaluator};
use super::folder::{Folder, storable};
use super::measurement::Measurement;
use super::observer::{Observer, Quiet};
use super::past::{Length, Past};
use super::session::Session;
use super::setup::Setup;
use super::start::starting_weights;
use super::trainer::Trainer;
use super::trouble::{WrongNumbers, check_kernels};
use super::tune::{Trial, Tuning};
use crate::config::{AlgorithmKind, ConfigError, HeadKind, Resolved};
use crate::gpu::{Gpu, GpuError};
use crate::interrupt::{self, Interrupted};
use crate::model::{LoadError, Model, ModelError, Weights, load};

/// Why a run stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A config that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The adapter failed, or has no room.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The adapter has no room for so many sentences at once.
    #[error("{error}")]
    Memory {
        /// What the adapter says.
        error: GpuError,
        /// Sentences at once.
        micro_batch: u32,
        /// Sentences at once that there was room for, where some number will do.
        fits: Option<u32>,
    },
    /// The adapter computes wrong numbers; nothing was begun.
    #[error(transparent)]
    Kernels(#[from] WrongNumbers),
    /// A model or checkpoint that cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else works in the run's folder.
    #[error("{}: {by} works in this run folder; wait for it, or give another `output`", folder.display())]
    Claimed {
        /// The run's folder.
        folder: PathBuf,
        /// Host and process, as far as they are known.
        by: String,
    },
    /// Somebody else has taken the run's folder over.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// `checkpoint` is the step of the last good one.
    #[error(
        "diverged at step {step}: {tensor} was not finite (loss {loss}). Nothing was updated in that step{}. Lower \
         `train.optimizer.lr`, or set `train.clip`; the same `output` will do, what is in it is then moved aside.",
        still_good(checkpoint)
    )]
    Diverged {
        /// Counted from 1.
        step: u64,
        /// The first in the order of the graph that was not finite.
        tensor: String,
        /// In nats; NaN or infinite where it is the loss.
        loss: f64,
        /// `None` where there is none.
        checkpoint: Option<u64>,
    },
    /// At a signal, after a checkpoint was written.
    #[error("interrupted at step {step}; a checkpoint is saved, run the same command again to go on")]
    Interrupted {
        /// Steps that were taken.
        step: u64,
    },
    /// Before this attempt took a step: there is nothing to save.
    #[error("interrupted before a step was taken; nothing is lost, run the same command again to go on")]
    Unbegun,
}

impl RunError {
    /// Whether it is an interrupt that nobody has answered with a checkpoint yet.
    pub(super) fn interrupted(&self) -> bool {
        matches!(self, RunError::Gpu(GpuError::Interrupted))
    }
}

impl From<LoadError> for RunError {
    fn from(error: LoadError) -> RunError {
        match error {
            LoadError::Model(error) => error.into(),
            LoadError::Gpu(error) => error.into(),
        }
    }
}

impl From<Interrupted> for RunError {
    fn from(interrupted: Interrupted) -> RunError {
        RunError::Gpu(interrupted.into())
    }
}

fn still_good(checkpoint: &Option<u64>) -> String {
    checkpoint.map_or(String::new(), |step| format!("; the last checkpoint, of step {step}, is still good"))
}

/// What a finished run leaves; also `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// [`Status::Done`].
    pub status: Status,
    /// Steps that were taken.
    pub steps: u64,
    /// Of a run with `train.stop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stopping>,
    /// Mean training loss of the last steps; `loss` is that of held-out sentences.
    pub training_loss: f64,
    /// On held-out sentences, at the end.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// That of the average of the weights, where there is one (`train.ema`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<Evaluation>,
    /// The last measurement of a config with `[measure]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curvature: Option<Measurement>,
    /// Numbers that were trained.
    pub parameters: usize,
    /// Seconds of this and earlier attempts in the training loop.
    pub seconds: f64,
    /// The most bytes that there were on the adapter at once, in this attempt.
    #[serde(default)]
    pub peak_bytes: u64,
    /// Share of the training steps' time in which the adapter's queue had none of them to work on, in this attempt;
    /// absent where the adapter has no timestamps.
    #[serde(default)]
    pub queue_idle: Option<f64>,
    /// Lengths that the run was planned with before it was given more steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_lengths: Vec<Length>,
    /// The run's folder.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Of a run with `train.stop`: whether its bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// The bound, in nats.
    pub excess: f64,
    /// Whether an evaluation was at or below it, which ended training; else all steps were taken.
    pub reached: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All its steps were taken, or all up to what `train.stop` asks for.
    Done,
    /// A loss or gradient was finite no longer.
    Diverged,
}

/// Times the variant table on the shapes of a config; nothing is kept yet.
pub fn tune(gpu: &Gpu, resolved: &Resolved, note: &dyn Fn(&str)) -> Result<Tuning, RunError> {
    let Setup { device, corpus, encoder, labels, dims, .. } = Setup::new(gpu, resolved)?;
    corpus.on(&device)?;
    let trial = Trial { encoder: &encoder, corpus: &corpus, labels, dims };
    Ok(trial.tune(gpu, resolved, note)?)
}

/// Takes the memory of a run's steps and evaluations, and gives it back.
pub(super) fn allocate(gpu: &Gpu, resolved: &Resolved) -> Result<(), RunError> {
    let Setup { device, corpus, encoder, labels, dims, .. } = Setup::new(gpu, resolved)?;
    corpus.on(&device)?;
    let config = &resolved.config;
    let weights = Weights::initial(&encoder.parameters, encoder.config.initializer_range, config.seed);
    let mut trainer = Trainer::new(Model::new(&device, &encoder, &weights)?, &config.train, labels, dims, config.seed)?;
    add_adversary(resolved, &corpus, &mut trainer, &Quiet)?;
    Evaluator::new(&trainer.model, &corpus, &config.evaluate, config.train.micro_batch() as usize)?;
    Ok(())
}

/// One attempt at a run.
pub(super) fn go(gpu: &Gpu, resolved: &Resolved, observer: &dyn Observer) -> Result<Outcome, RunError> {
    let output = resolved.output();
    storable(resolved, &output)?;
    let setup = Setup::new(gpu, resolved)?;
    setup.corpus.on(&setup.device)?;
    check_kernels(gpu, &setup.kernels.variants)?;
    let mut folder = Folder::enter(&output)?;
    let done = work(gpu, resolved, observer, &setup, &mut folder);
    done.map_err(|error| folder.explain(error))
}

/// The same in a folder that is claimed.
fn work(
    gpu: &Gpu,
    resolved: &Resolved,
    observer: &dyn Observer,
    setup: &Setup,
    folder: &mut Folder,
) -> Result<Outcome, RunError> {
    let config = &resolved.config;
    let mut past = Past::read(&folder.path, resolved)?;
    if let Some(done) = past.finished.take() {
        observer.note(&format!("{} is finished already", folder.path.display()));
        return Ok(Outcome { folder: folder.path.clone(), ..done });
    }
    let Setup { device, corpus, encoder, labels, dims, kernels, .. } = setup;
    let start = starting_weights(resolved, corpus, encoder, observer)?;
    let model = Model::new(device, encoder, &start)?;
    let mut trainer = Trainer::new(model, &config.train, *labels, *dims, config.seed)?;
    add_adversary(resolved, corpus, &mut trainer, observer)?;
    past.notes.iter().for_each(|note| observer.note(note));
    if past.checkpoint.is_none() {
        past.fork = Fork::find(resolved)?;
    }
    if let Some((checkpoint, state)) = past.start() {
        let loaded = load(&checkpoint.folder)?;
        let moments = checkpoint.moments(encoder, trainer.moment_count())?;
        trainer.restore(&loaded.weights, &moments, checkpoint.step);
        if let Some(steps) = state.averaged.filter(|_| config.train.ema.is_some()) {
            trainer.restore_average(&checkpoint.average(encoder)?, steps);
        }
        if let Some(adversary) = trainer.adversary().filter(|a| a.has_state()) {
            let wrong =
                |e: MissingTensor| ModelError::Format { path: checkpoint.folder.clone(), message: e.to_string() };
            adversary.restore(&checkpoint.algorithm()?).map_err(wrong)?;
        }
        observer.note(&past.fork.as_ref().map_or(format!("resumed at step {}", checkpoint.step), |f| f.note.clone()));
    }
    folder.begin(gpu, resolved, kernels, &past, observer)?;
    tidy(&folder.path);
    let mut session = Session::begin(setup, resolved, observer, &trainer, folder, &past)?;
    session.train(&mut trainer, folder)?;
    session.finish(&mut trainer, folder)
}

/// Gives a trainer its adversary, where the config asks for one.
fn add_adversary(
    resolved: &Resolved,
    corpus: &Corpus,
    trainer: &mut Trainer,
    observer: &dyn Observer,
) -> Result<(), RunError> {
    let AlgorithmKind::Adversarial(algorithm) = &resolved.config.train.algorithm else { return Ok(()) };
    let (own, corpus_of) = (algorithm.clone(), corpus.clone());
    let data = interrupt::or_stop(move || {
        let truth = corpus_of.truth().map_err(|none| ConfigError::at("train.algorithm.task", none))?;
        AdversaryData::draw(&own, truth, &corpus_of.tokens, corpus_of.seed)
    })??;
    let (task, entropy) = (&algorithm.task, data.entropy);
    observer.note(&match algorithm.head {
        HeadKind::Linear => format!(
            "against a head on task {task}: labels of entropy {entropy:.3} nats, in force below a loss of {:.3}",
            algorithm.ceiling * entropy
        ),
        HeadKind::Ridge => format!("against a ridge head on task {task}: labels of entropy {entropy:.3} nats"),
    });
    Ok(trainer.add_adversary(algorithm, data)?)
}
