//! The results of fits over several seeds.

use super::data::{TaskData, TaskError};
use crate::gpu::GpuError;
use crate::interrupt::Interrupted;
use crate::statistics::Estimate;

/// Why a fit has no result.
#[derive(Debug, thiserror::Error)]
pub enum DownstreamError {
    /// The task's data cannot be had.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The adapter failed.
    #[error(transparent)]
    Gpu(GpuError),
    /// Features that an adapter cannot bind.
    #[error(transparent)]
    Room(#[from] Room),
    /// An interrupt; the fits that were whole are here.
    #[error("interrupted after {} fits", done.len())]
    Interrupted {
        /// One for each seed that was done.
        done: Vec<Fit>,
    },
    /// Nothing was updated in that step.
    #[error("seed {seed}: the loss or its gradient was no longer finite at step {step}")]
    Diverged {
        /// Seed of the fit.
        seed: u64,
        /// Counted from 1.
        step: u64,
    },
}

/// Features of sentences that take more than an adapter binds at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan does not fit this adapter: {}{rows} sentences of {width} features take {} MiB, this adapter binds at \
     most {} MiB",
    place.as_ref().map_or(String::new(), |place| format!("{place}: ")),
    bytes >> 20,
    most >> 20
)]
pub struct Room {
    /// What asks for them, where it stands in a file.
    pub place: Option<String>,
    /// Sentences of all three parts.
    pub rows: usize,
    /// Features of a sentence.
    pub width: usize,
    /// Bytes of the features, 4 for each number.
    pub bytes: u64,
    /// Bytes that the adapter binds at most.
    pub most: u64,
}

impl From<GpuError> for DownstreamError {
    fn from(error: GpuError) -> DownstreamError {
        match error {
            GpuError::Interrupted => DownstreamError::Interrupted { done: vec![] },
            error => DownstreamError::Gpu(error),
        }
    }
}

impl From<Interrupted> for DownstreamError {
    fn from(interrupted: Interrupted) -> DownstreamError {
        GpuError::from(interrupted).into()
    }
}

/// A fit for each seed; those before an interrupt go with the error.
pub(super) fn each_seed(
    seeds: &[u64],
    fit: impl Fn(u64) -> Result<Fit, DownstreamError>,
) -> Result<Vec<Fit>, DownstreamError> {
    let mut done = Vec::with_capacity(seeds.len());
    for seed in seeds {
        match fit(*seed) {
            Ok(fit) => done.push(fit),
            Err(DownstreamError::Interrupted { .. }) => return Err(DownstreamError::Interrupted { done }),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// One seed's fit: the parameters of the epoch with the best validation accuracy (the lower validation loss among
/// equals), and what they reach on the test part, which nothing was chosen by.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Share of the test sentences that are classified rightly.
    pub accuracy: f64,
    /// The same of the validation part, at the epoch or ridge that was chosen by it.
    pub validation_accuracy: f64,
    /// Epoch chosen, counted from 1; iterations for a fit to convergence.
    pub epoch: u32,
    /// Class of each test sentence.
    pub predictions: Vec<u32>,
}

/// An accuracy over seeds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Accuracy {
    /// Mean over the seeds of the share of test sentences that are classified rightly.
    pub accuracy: f64,
    /// Standard deviation over seeds, with n - 1; `None` for one seed.
    pub standard_deviation: Option<f64>,
    /// Standard error of the mean over seeds; the test sentences are the same for all.
    pub standard_error: Option<f64>,
    /// Fits that are in it.
    pub seeds: usize,
    /// One for each seed, in the order of the seeds.
    pub per_seed: Vec<f64>,
}

impl Accuracy {
    /// The mean of several seeds.
    pub fn of(per_seed: Vec<f64>) -> Accuracy {
        let mean = Estimate::of_mean(&per_seed);
        let several = per_seed.len() > 1;
        Accuracy {
            accuracy: mean.value,
            standard_deviation: several.then(|| mean.standard_error * (per_seed.len() as f64).sqrt()),
            standard_error: several.then_some(mean.standard_error),
            seeds: per_seed.len(),
            per_seed,
        }
    }
}

/// What fits of a task over several seeds gave.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    /// Name of the task, or the file of its rows.
    pub task: String,
    /// On the test part, over the seeds.
    #[serde(flatten)]
    pub accuracy: Accuracy,
    /// √(a (1 - a) / test sentences): how far another test part would lie.
    pub sampling_error: f64,
    /// Mean over the seeds, at the epoch or ridge that each chose.
    pub validation_accuracy: f64,
    /// Accuracy of a guess among the classes, 1 / classes.
    pub chance: f64,
    /// Accuracy on the test part of always naming the class that is most frequent in training.
    pub majority: f64,
    /// The best possible accuracy, where the language gives it.
    pub bayes: Option<f64>,
    /// Classes that occur.
    pub classes: usize,
    /// Sentences of the training part.
    pub train: usize,
    /// Sentences of the validation part.
    pub validation: usize,
    /// Sentences of the test part.
    pub test: usize,
    /// Drawn sentences, or rows of files, that have no label.
    pub skipped: u64,
    /// Tokens that a text may have, of texts that a tokenizer cut into pieces.
    pub max_tokens: Option<usize>,
    /// Texts among them that were longer and lost their end.
    pub truncated: Option<u64>,
    /// Share of their pieces that stand for what the tokenizer does not know.
    pub unknown_share: Option<f64>,
    /// What was read of each sentence, in words.
    pub features: String,
    /// Features per sentence.
    pub width: usize,
    /// How it was fitted, in words.
    pub method: String,
    /// Epoch or ridge that validation chose, per seed.
    pub chosen: Vec<f64>,
    /// Wall-clock time of all fits.
    pub seconds: f64,
    /// Whether all seeds that were asked for are in it: false after an interrupt.
    pub reached: bool,
    /// Whether a signal ended it; then it is of the `seeds` until then.
    pub interrupted: bool,
}

impl Outcome {
    /// Puts fits beside what is known of their task.
    pub fn new<S>(data: &TaskData<S>, fits: &[Fit], features: String, width: usize, method: String) -> Outcome {
        let accuracy = Accuracy::of(fits.iter().map(|f| f.accuracy).collect());
        let a = accuracy.accuracy;
        Outcome {
            task: data.task.clone(),
            sampling_error: (a * (1.0 - a) / data.test.len() as f64).sqrt(),
            accuracy,
            validation_accuracy: fits.iter().map(|f| f.validation_accuracy).sum::<f64>() / fits.len() as f64,
            chance: data.chance(),
            majority: data.majority(),
            bayes: data.bayes,
            classes: data.classes.len(),
            train: data.train.len(),
            validation: data.validation.len(),
            test: data.test.len(),
            skipped: data.skipped,
            max_tokens: data.losses.map(|l| l.max_tokens),
            truncated: data.losses.map(|l| l.truncated),
            unknown_share: data.losses.map(|l| l.unknown_share),
            features,
            width,
            method,
            chosen: fits.iter().map(|f| f64::from(f.epoch)).collect(),
            seconds: 0.0,
            reached: true,
            interrupted: false,
        }
    }
}

/// Logits and labels to predictions, accuracy and mean loss.
pub(super) fn judge(logits: &[f32], classes: usize, labels: &[u32]) -> (Vec<u32>, f64, f64) {
    let (mut predictions, mut right, mut loss) = (Vec::with_capacity(labels.len()), 0usize, 0.0);
    for (row, label) in logits.chunks_exact(classes).zip(labels) {
        let best = (1..classes).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        predictions.push(best as u32);
        right += usize::from(best as u32 == *label);
        let top = f64::from(row[best]);
        let sum: f64 = row.iter().map(|z| (f64::from(*z) - top).exp()).sum();
        loss += top + sum.ln() - f64::from(row[*label as usize]);
    }
    let n = labels.len().max(1) as f64;
    (predictions, right as f64 / n, loss / n)
}
