//! Averages over label sets and their sizes: how much of an outcome is the luck of which sentences were labelled.
//!
//! A task's training part holds K label sets one after another, each of as many sentences as the largest size; a
//! smaller size is the head of a set. Sets are the same for all models, and so are the validation and the test part, so
//! that models differ by less than a single outcome's error says. The mean over sizes is the area under the curve.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::data::{Part, TaskData};
use super::outcome::{DownstreamError, Fit};
use crate::statistics::OneWay;

/// The label sets that a task is learned from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSets {
    /// How many.
    pub sets: usize,
    /// Sentences to learn from, rising.
    pub sizes: Vec<usize>,
}

/// Fits by size, label set and seed.
pub struct SetFits {
    /// What was fitted.
    pub of: LabelSets,
    /// `[size][set][fit]`
    pub fits: Vec<Vec<Vec<Fit>>>,
}

/// An outcome over label sets with its components of variance: `between` sets, and `within` a set over the fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Averages {
    /// Label sets.
    pub sets: usize,
    /// Fits of each set and size.
    pub fits: usize,
    /// Over all sizes.
    pub all: Averaged,
    /// Of each size.
    pub sizes: Vec<SizeAverages>,
}

/// Outcomes over label sets of one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SizeAverages {
    /// Sentences to learn from.
    pub train: usize,
    /// Over the sets.
    #[serde(flatten)]
    pub averaged: Averaged,
}

/// Outcomes over label sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Averaged {
    /// Share of test sentences that are classified rightly.
    pub accuracy: OneWay,
    /// KL(exact posterior || fit), in nats; absent where no posterior is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_nats: Option<OneWay>,
    /// Exact excess loss after fine-tuning less before, in nats; absent where it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<OneWay>,
}

impl LabelSets {
    /// One set of one size.
    pub fn one(train: usize) -> LabelSets {
        LabelSets { sets: 1, sizes: vec![train] }
    }

    /// Whether there is nothing to average.
    pub fn is_one(&self) -> bool {
        self.sets == 1 && self.sizes.len() == 1
    }

    /// Sentences of one set.
    fn each(&self) -> usize {
        self.sizes.iter().copied().max().unwrap_or(0)
    }

    /// Sentences of the training part that all sets take.
    pub fn drawn(&self) -> usize {
        self.sets * self.each()
    }

    /// A task with the training part of one set and size, and which rows of all three parts are left.
    fn part<S: Clone>(&self, data: &TaskData<S>, set: usize, size: usize) -> (TaskData<S>, Vec<usize>) {
        let (first, n) = (set * self.each(), data.train.len());
        let whole = &data.train;
        let train = Part {
            sentences: whole.sentences[first..first + size].to_vec(),
            labels: whole.labels[first..first + size].to_vec(),
            posteriors: whole.posteriors.iter().skip(first).take(size).cloned().collect(),
        };
        let rows = (first..first + size).chain(n..n + data.validation.len() + data.test.len()).collect();
        (TaskData { train, ..data.clone() }, rows)
    }

    /// Fits each size of each set. `fit` is given the task with that training part, and the rows of the features of all
    /// three parts that belong to it.
    ///
    /// # Errors
    /// As `fit`; an interrupt leaves the fits of a single set, and of several none.
    ///
    /// # Panics
    /// A training part of other than [`drawn`](Self::drawn) sentences.
    pub fn fit<S: Clone>(
        &self,
        data: &TaskData<S>,
        mut fit: impl FnMut(&TaskData<S>, &[usize]) -> Result<Vec<Fit>, DownstreamError>,
    ) -> Result<SetFits, DownstreamError> {
        assert_eq!(data.train.len(), self.drawn(), "a training part of all label sets");
        let mut fits = Vec::with_capacity(self.sizes.len());
        for size in &self.sizes {
            let mut of_size = Vec::with_capacity(self.sets);
            for set in 0..self.sets {
                let (part, rows) = self.part(data, set, *size);
                of_size.push(fit(&part, &rows).map_err(|error| match error {
                    DownstreamError::Interrupted { .. } if !self.is_one() => {
                        DownstreamError::Interrupted { done: vec![] }
                    }
                    error => error,
                })?);
            }
            fits.push(of_size);
        }
        Ok(SetFits { of: self.clone(), fits })
    }
}

impl SetFits {
    /// The fits of one set of one size.
    pub fn of_one(fits: Vec<Fit>) -> SetFits {
        SetFits { of: LabelSets::one(0), fits: vec![vec![fits]] }
    }

    /// All fits.
    pub fn all(&self) -> Vec<&Fit> {
        self.fits.iter().flatten().flatten().collect()
    }

    /// The averages; `None` where there is nothing to average.
    pub fn averages(&self) -> Option<Averages> {
        if self.of.is_one() {
            return None;
        }
        let of_size = |(train, sets): (&usize, &Vec<Vec<Fit>>)| SizeAverages {
            train: *train,
            averaged: averaged(&|of| {
                sets.iter().map(|fits| fits.iter().map(of).collect::<Option<Vec<f64>>>()).collect()
            }),
        };
        // A set's fit of a seed over all sizes.
        let over_sizes = |of: &dyn Fn(&Fit) -> Option<f64>| -> Option<Vec<Vec<f64>>> {
            let sets = 0..self.of.sets;
            let fit = |set: usize, s: usize| -> Option<f64> {
                let values: Option<Vec<f64>> = self.fits.iter().map(|sets| of(&sets[set][s])).collect();
                values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
            };
            sets.map(|set| (0..self.fits[0][set].len()).map(|s| fit(set, s)).collect()).collect()
        };
        Some(Averages {
            sets: self.of.sets,
            fits: self.fits[0][0].len(),
            all: averaged(&over_sizes),
            sizes: self.of.sizes.iter().zip(&self.fits).map(of_size).collect(),
        })
    }
}

/// A number of each fit, by set.
type BySet<'a> = &'a dyn Fn(&dyn Fn(&Fit) -> Option<f64>) -> Option<Vec<Vec<f64>>>;

fn averaged(by_set: BySet<'_>) -> Averaged {
    let of = |value: &dyn Fn(&Fit) -> Option<f64>| by_set(value).map(|values| OneWay::of(&values));
    Averaged {
        accuracy: of(&|fit| Some(fit.accuracy)).expect("every fit has one"),
        excess_nats: of(&Fit::excess),
        forgetting: of(&|fit| fit.forgotten.as_ref().map(|f| f.mean().value)),
    }
}
