//! The results of fits over several seeds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{TaskData, TaskError, Teaching};
use super::forgetting::Forgotten;
use super::label_sets::{Averages, SetFits};
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
    /// KL(exact posterior || the fit's probabilities) of each test sentence, in nats; empty where no posterior is
    /// known.
    pub divergences: Vec<f64>,
    /// Cross-entropy of the validation part, with its posteriors where they are known.
    pub validation_loss: f64,
    /// How much a fine-tuned encoder forgot, where that was asked.
    pub forgotten: Option<Forgotten>,
}

impl Fit {
    /// The mean divergence of the test part; `None` where no posterior is known.
    pub fn excess(&self) -> Option<f64> {
        let n = self.divergences.len();
        (n > 0).then(|| self.divergences.iter().sum::<f64>() / n as f64)
    }
}

/// Outcomes in nats, which have less noise than an accuracy. What was not asked is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Nats {
    /// E KL(exact posterior of the task's names given the sentence || the fit's probabilities) over the test part, in
    /// the mean of all fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_nats: Option<f64>,
    /// Over test sentences, which are the same for all models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_nats_standard_error: Option<f64>,
    /// Over label sets, or where there is one over the fits; null for one fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_nats_standard_error_fits: Option<f64>,
    /// Exact excess loss of the encoder after fine-tuning less that before, on the same held-out sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<f64>,
    /// Over these sentences, of the paired difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting_standard_error: Option<f64>,
    /// Over label sets, or where there is one over the fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting_standard_error_fits: Option<f64>,
    /// The excess loss before, on the same sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_loss_before: Option<f64>,
    /// Averages over label sets and sizes; absent for one set of one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_sets: Option<Averages>,
}

impl Nats {
    /// Of fits.
    pub fn of(fits: &SetFits) -> Nats {
        let (all, averages) = (fits.all(), fits.averages());
        // What several fits have in common is the sentences; what they differ in is told by their means.
        let apart = |values: Vec<f64>, of_sets: Option<Option<f64>>| match of_sets {
            Some(error) => error,
            None => (values.len() > 1).then(|| Estimate::of_mean(&values).standard_error),
        };
        let mut nats = Nats::default();
        let known = all.first().is_some_and(|fit| !fit.divergences.is_empty());
        if known {
            let n = all.len() as f64;
            let of_sentence = |i: usize| all.iter().map(|fit| fit.divergences[i]).sum::<f64>() / n;
            let sentences: Vec<f64> = (0..all[0].divergences.len()).map(of_sentence).collect();
            let mean = Estimate::of_mean(&sentences);
            nats.excess_nats = Some(mean.value);
            nats.excess_nats_standard_error = Some(mean.standard_error);
            let of_sets = averages.as_ref().and_then(|a| a.all.excess_nats.as_ref()).map(|a| a.standard_error);
            nats.excess_nats_standard_error_fits = apart(all.iter().filter_map(|fit| fit.excess()).collect(), of_sets);
        }
        if let Some(together) = Forgotten::together(all.iter().filter_map(|fit| fit.forgotten.as_ref())) {
            let mean = together.mean();
            nats.forgetting = Some(mean.value);
            nats.forgetting_standard_error = Some(mean.standard_error);
            nats.excess_loss_before = Some(together.before);
            let values = all.iter().filter_map(|fit| Some(fit.forgotten.as_ref()?.mean().value)).collect();
            let of_sets = averages.as_ref().and_then(|a| a.all.forgetting.as_ref()).map(|a| a.standard_error);
            nats.forgetting_standard_error_fits = apart(values, of_sets);
        }
        nats.label_sets = averages;
        nats
    }
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
    /// What was asked in nats, and over label sets.
    #[serde(flatten)]
    pub nats: Nats,
    /// What the fits were taught.
    pub labels: Teaching,
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
    /// Puts fits beside what is known of their task. Over several label sets the seeds of the accuracy are sets.
    pub fn new<S>(data: &TaskData<S>, fits: &SetFits, features: String, width: usize, method: String) -> Outcome {
        let (all, nats) = (fits.all(), Nats::of(fits));
        let accuracy = Accuracy::of(match &nats.label_sets {
            Some(averages) => averages.all.accuracy.per_group.clone(),
            None => all.iter().map(|f| f.accuracy).collect(),
        });
        let a = accuracy.accuracy;
        Outcome {
            task: data.task.clone(),
            sampling_error: (a * (1.0 - a) / data.test.len() as f64).sqrt(),
            accuracy,
            nats,
            labels: data.teaching,
            validation_accuracy: all.iter().map(|f| f.validation_accuracy).sum::<f64>() / all.len() as f64,
            chance: data.chance(),
            majority: data.majority(),
            bayes: data.bayes,
            classes: data.classes.len(),
            train: fits.of.sizes.iter().copied().max().filter(|n| *n > 0).unwrap_or(data.train.len()),
            validation: data.validation.len(),
            test: data.test.len(),
            skipped: data.skipped,
            max_tokens: data.losses.map(|l| l.max_tokens),
            truncated: data.losses.map(|l| l.truncated),
            unknown_share: data.losses.map(|l| l.unknown_share),
            features,
            width,
            method,
            chosen: all.iter().map(|f| f64::from(f.epoch)).collect(),
            seconds: 0.0,
            reached: true,
            interrupted: false,
        }
    }
}

/// What logits say about one part.
pub(super) struct Judged {
    /// Class of each row.
    pub predictions: Vec<u32>,
    pub accuracy: f64,
    /// Mean cross-entropy, with the posteriors where they are known, else with the labels.
    pub loss: f64,
    /// KL(posterior || softmax) of each row; empty where no posterior is known.
    pub divergences: Vec<f64>,
}

/// Judges logits `[rows x classes]` by the labels and, where there are any, the posteriors of the rows.
pub(super) fn judge<T: Copy + PartialOrd + Into<f64>>(
    logits: &[T],
    classes: usize,
    labels: &[u32],
    posteriors: &[Vec<f64>],
) -> Judged {
    let (mut predictions, mut right, mut loss) = (Vec::with_capacity(labels.len()), 0usize, 0.0);
    let mut divergences = Vec::with_capacity(posteriors.len());
    let wide = |z: &T| -> f64 { (*z).into() };
    for (i, (row, label)) in logits.chunks_exact(classes).zip(labels).enumerate() {
        let best = (1..classes).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        predictions.push(best as u32);
        right += usize::from(best as u32 == *label);
        let top = wide(&row[best]);
        let sum: f64 = row.iter().map(|z| (wide(z) - top).exp()).sum();
        let total = top + sum.ln();
        match posteriors.get(i) {
            Some(p) => {
                let terms = || p.iter().zip(row).filter(|(p, _)| **p > 0.0);
                let cross: f64 = terms().map(|(p, z)| p * (total - wide(z))).sum();
                divergences.push(terms().map(|(p, z)| p * (p.ln() + total - wide(z))).sum());
                loss += cross;
            }
            None => loss += total - wide(&row[*label as usize]),
        }
    }
    let n = labels.len().max(1) as f64;
    Judged { predictions, accuracy: right as f64 / n, loss: loss / n, divergences }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_row_is_judged_by_its_posterior_where_there_is_one() {
        let logits = [0.5f32, 0.25, 0.25, 0.1, 0.1, 0.8].map(f32::ln);
        let posteriors = [vec![0.25, 0.75, 0.0], vec![0.1, 0.1, 0.8]];
        let by_labels = judge(&logits, 3, &[0, 0], &[]);
        assert_eq!((by_labels.predictions.as_slice(), by_labels.accuracy), (&[0, 2][..], 0.5));
        assert!((by_labels.loss - (2f64.ln() + 10f64.ln()) / 2.0).abs() < 1e-7);
        let known = judge(&logits, 3, &[0, 0], &posteriors);
        // 1/4 ln (1/4 / 1/2) + 3/4 ln (3/4 / 1/4), and 0 of what is the posterior.
        let first = 0.25 * 0.5f64.ln() + 0.75 * 3f64.ln();
        assert!((known.divergences[0] - first).abs() < 1e-7 && known.divergences[1].abs() < 1e-7);
        assert!(known.loss > by_labels.loss - 1.0 && known.predictions == by_labels.predictions);
    }
}
