//! The section `[[examine.probe]]` of a sweep file: a downstream task, how it is learned and what is read for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::downstream::{LabelSets, LinearProbe, Pooling, RateSchedule, Sizes, Teaching};

/// The features that a probe reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// The representations of all tokens, one after another.
    #[default]
    Concat,
    /// Their mean.
    Mean,
    /// The representation of `<s>`; of models that see a whole sentence.
    First,
    /// The representation of `</s>`, where a model that reads in one direction has seen the sentence.
    Last,
    /// As `lowland probe --features padded`.
    Padded,
}

/// The way in which a task is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A linear probe by AdamW on the adapter, the epoch chosen by validation accuracy: the paper's.
    #[default]
    Adamw,
    /// A linear probe to convergence on the host, the ridge chosen by validation accuracy.
    Ridge,
    /// The whole encoder, with a classifier on `<s>`.
    Finetune,
}

/// A downstream task, with the defaults of `lowland probe` (of `lowland finetune` for that method).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeSection {
    /// `A`, `B`, `C`, `span:K` of a grammar, `task-K` of a hidden Markov model, `positive`, `sign`, `sum` of brackets.
    pub task: String,
    /// What the task is called in tables and figures. Left out: the task with its method, features and layer; needed
    /// where two probes differ in something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whether labels weigh by the grammar's probabilities outside of the span.
    pub with_prior: bool,
    /// What is taught: "mode", the most likely name; "drawn", a name drawn from the exact posterior; "posterior", that
    /// itself (not of finetune). But for the first, accuracies have an excess in nats beside them.
    #[serde(skip_serializing_if = "Teaching::is_mode")]
    pub labels: Teaching,
    /// How the task is learned.
    pub method: Method,
    /// What a probe reads of each sentence.
    pub features: Reads,
    /// 0 is the embedding, -1 the last layer.
    pub layer: i64,
    /// Tokens that sentences are padded to, of features = "padded". Left out: those of the longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padded_length: Option<u32>,
    /// Width of a random projection of the features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection: Option<u32>,
    /// Whether each feature of a probe is standardised by the training part.
    #[serde(skip_serializing_if = "is_false")]
    pub standardise: bool,
    /// Sentences to learn from.
    pub train: u32,
    /// Several numbers of sentences to learn from, each at most `train`; outcomes are the means over them. Left out:
    /// `train` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub train_sizes: Vec<u32>,
    /// Label sets, drawn apart and the same for every model; outcomes are the means over them.
    #[serde(skip_serializing_if = "is_one")]
    pub label_sets: u32,
    /// Sentences to choose the epoch or ridge by.
    pub validation: u32,
    /// Sentences to count the accuracy on.
    pub test: u32,
    /// Fits, with the seeds 0, 1, ... behind the section's.
    pub seeds: u32,
    /// Learning rate, of adamw and finetune.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Learning rates of adamw and finetune in place of `lr`, the best of them chosen by the validation part for each
    /// label set and size. Left out: `lr` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<f64>,
    /// Passes over the training part, of adamw and finetune.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Sentences of a step, of adamw and finetune.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Steps of warm-up. Left out: none of adamw, 200 of finetune.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// Course of adamw's learning rate behind the warm-up. Left out: constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<RateSchedule>,
    /// Probability with which adamw drops a feature in training. Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_dropout: Option<f64>,
    /// Probability with which the frozen encoder drops hidden states and attention weights while adamw trains. Left
    /// out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder_dropout: Option<f64>,
    /// Whether finetune puts a new layer with tanh and dropout before the classifier. Left out: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled: Option<bool>,
    /// Largest norm of finetune's gradient. Left out: no clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Held-out sentences on which is asked what finetune made the encoder forget: its exact excess loss after, less
    /// that before. Left out: it is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<u32>,
    /// Ridges to choose from.
    pub ridge: Vec<f64>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_one(value: &u32) -> bool {
    *value == 1
}

impl Default for ProbeSection {
    fn default() -> Self {
        ProbeSection {
            task: String::new(),
            label: None,
            with_prior: false,
            labels: Teaching::Mode,
            method: Method::Adamw,
            features: Reads::Concat,
            layer: -1,
            padded_length: None,
            projection: None,
            standardise: false,
            train: 2000,
            train_sizes: vec![],
            label_sets: 1,
            validation: 500,
            test: 2000,
            seeds: 5,
            lr: None,
            rates: vec![],
            epochs: None,
            batch: None,
            warmup_steps: None,
            schedule: None,
            feature_dropout: None,
            encoder_dropout: None,
            pooled: None,
            clip: None,
            forgetting: None,
            ridge: vec![1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
        }
    }
}

/// Most label sets.
const MOST_SETS: u32 = 1000;

/// Widest projection, as that of `lowland probe`.
pub(super) const WIDEST: u32 = 65536;

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Method::Adamw => "adamw",
            Method::Ridge => "ridge",
            Method::Finetune => "finetune",
        }
    }
}

impl ProbeSection {
    /// Labelled sentences of each part, those of all label sets together.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes { train: self.sets().drawn(), validation: self.validation as usize, test: self.test as usize }
    }

    /// The label sets and their sizes.
    pub(super) fn sets(&self) -> LabelSets {
        let train = self.train as usize;
        let mut sizes: Vec<usize> = self.train_sizes.iter().map(|n| *n as usize).collect();
        sizes.sort_unstable();
        LabelSets { sets: self.label_sets as usize, sizes: if sizes.is_empty() { vec![train] } else { sizes } }
    }

    /// The learning rates to choose from; none where the method's is taken.
    pub(super) fn all_rates(&self) -> Vec<Option<f64>> {
        match self.rates.is_empty() {
            true => vec![self.lr],
            false => self.rates.iter().copied().map(Some).collect(),
        }
    }

    /// What cannot be, with the key.
    ///
    /// # Errors
    /// In words.
    pub(super) fn check_sets(&self) -> Result<(), String> {
        if self.label_sets == 0 || self.label_sets > MOST_SETS {
            return Err(format!("`label_sets` {} must lie in 1 to {MOST_SETS}", self.label_sets));
        }
        if let Some(bad) = self.train_sizes.iter().find(|n| **n < 2 || **n > self.train) {
            return Err(format!("`train_sizes`: {bad} must lie in 2 to `train` = {}", self.train));
        }
        let mut sorted = self.train_sizes.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("`train_sizes` has a number twice".into());
        }
        if sorted.last().is_some_and(|largest| *largest < self.train) {
            return Err(format!(
                "`train` = {} is more than any of `train_sizes`; it is the largest of them",
                self.train
            ));
        }
        if !self.rates.is_empty() && self.lr.is_some() {
            return Err("`lr` and `rates`: give one rate, or those to choose from".into());
        }
        if let Some(bad) = self.rates.iter().find(|lr| !(**lr > 0.0 && lr.is_finite())) {
            return Err(format!("`rates`: {bad} must be positive"));
        }
        if self.forgetting.is_some_and(|n| !(2..=1 << 20).contains(&n)) {
            return Err(format!("`forgetting` must lie in 2 to {}", 1 << 20));
        }
        match self.labels == Teaching::Posterior && self.method == Method::Finetune {
            true => Err("`labels` = \"posterior\" belongs to linear probes; take \"drawn\"".into()),
            false => Ok(()),
        }
    }

    /// What the features are of sentences of up to `longest` words.
    pub(super) fn pooling(&self, longest: usize) -> Pooling {
        match self.features {
            Reads::Concat => Pooling::Concat,
            Reads::Mean => Pooling::Mean,
            Reads::First => Pooling::First,
            Reads::Last => Pooling::Last,
            Reads::Padded => Pooling::Padded(self.padded_length.unwrap_or(longest as u32 + 2)),
        }
    }

    /// The settings of adamw at a rate.
    pub(super) fn linear_probe(&self, lr: Option<f64>) -> LinearProbe {
        let d = LinearProbe::default();
        LinearProbe {
            lr: lr.unwrap_or(d.lr),
            epochs: self.epochs.unwrap_or(d.epochs),
            batch: self.batch.unwrap_or(d.batch),
            dropout: self.feature_dropout.unwrap_or(d.dropout),
            schedule: self.schedule.unwrap_or(d.schedule),
            warmup_steps: self.warmup_steps.unwrap_or(d.warmup_steps),
            ..d
        }
    }

    /// A key that the method does not know, with those that do.
    pub(super) fn foreign_key(&self) -> Option<(&'static str, &'static str)> {
        let d = ProbeSection::default();
        let linear = "\"adamw\" and \"ridge\", which read a layer";
        let steps = "\"adamw\" and \"finetune\", which take steps";
        let only_adamw = [
            ("schedule", self.schedule.is_some(), "\"adamw\""),
            ("feature_dropout", self.feature_dropout.is_some(), "\"adamw\""),
            ("encoder_dropout", self.encoder_dropout.is_some(), "\"adamw\""),
        ];
        let only_finetune = [
            ("pooled", self.pooled.is_some(), "\"finetune\""),
            ("clip", self.clip.is_some(), "\"finetune\""),
            ("forgetting", self.forgetting.is_some(), "\"finetune\""),
        ];
        let keys = match self.method {
            Method::Finetune => vec![
                ("layer", self.layer != d.layer, linear),
                ("features", self.features != d.features, linear),
                ("projection", self.projection.is_some(), linear),
                ("standardise", self.standardise, linear),
            ]
            .into_iter()
            .chain(only_adamw)
            .collect(),
            Method::Ridge => vec![
                ("lr", self.lr.is_some(), steps),
                ("rates", !self.rates.is_empty(), steps),
                ("epochs", self.epochs.is_some(), steps),
                ("batch", self.batch.is_some(), steps),
                ("warmup_steps", self.warmup_steps.is_some(), steps),
            ]
            .into_iter()
            .chain(only_adamw)
            .chain(only_finetune)
            .collect(),
            Method::Adamw => only_finetune.to_vec(),
        };
        keys.into_iter().find(|key| key.1).map(|(key, _, methods)| (key, methods))
    }

    /// The task with what sets it apart from the same task learned otherwise: `B`, `B mean`, `B finetune`; or its
    /// label.
    pub fn name(&self, task: &str) -> String {
        if let Some(label) = &self.label {
            return label.clone();
        }
        let mut name = task.to_string();
        match self.labels {
            Teaching::Mode => {}
            Teaching::Drawn => name += " drawn",
            Teaching::Posterior => name += " posterior",
        }
        match self.method {
            Method::Finetune => return name + " finetune",
            Method::Ridge => name += " ridge",
            Method::Adamw => {}
        }
        match self.features {
            Reads::Concat => {}
            Reads::Mean => name += " mean",
            Reads::First => name += " first",
            Reads::Last => name += " last",
            Reads::Padded => name += " padded",
        }
        if self.layer != -1 {
            name += &format!(" layer {}", self.layer);
        }
        if self.standardise {
            name += " standardised";
        }
        if let Some(width) = self.projection {
            name += &format!(" projected to {width}");
        }
        name
    }
}
