//! The section `[[examine.probe]]` of a sweep file: a downstream task, how it is learned and what is read for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::downstream::{LinearProbe, Pooling, RateSchedule, Sizes};

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
    /// Sentences to learn from.
    pub train: u32,
    /// Sentences to choose the epoch or ridge by.
    pub validation: u32,
    /// Sentences to count the accuracy on.
    pub test: u32,
    /// Fits, with the seeds 0, 1, ... behind the section's.
    pub seeds: u32,
    /// Learning rate, of adamw and finetune.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
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
    /// Ridges to choose from.
    pub ridge: Vec<f64>,
}

impl Default for ProbeSection {
    fn default() -> Self {
        ProbeSection {
            task: String::new(),
            label: None,
            with_prior: false,
            method: Method::Adamw,
            features: Reads::Concat,
            layer: -1,
            padded_length: None,
            projection: None,
            train: 2000,
            validation: 500,
            test: 2000,
            seeds: 5,
            lr: None,
            epochs: None,
            batch: None,
            warmup_steps: None,
            schedule: None,
            feature_dropout: None,
            encoder_dropout: None,
            pooled: None,
            clip: None,
            ridge: vec![1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
        }
    }
}

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
    /// Labelled sentences of each part.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes { train: self.train as usize, validation: self.validation as usize, test: self.test as usize }
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

    /// The settings of adamw.
    pub(super) fn linear_probe(&self) -> LinearProbe {
        let d = LinearProbe::default();
        LinearProbe {
            lr: self.lr.unwrap_or(d.lr),
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
        let only_finetune =
            [("pooled", self.pooled.is_some(), "\"finetune\""), ("clip", self.clip.is_some(), "\"finetune\"")];
        let keys = match self.method {
            Method::Finetune => vec![
                ("layer", self.layer != d.layer, linear),
                ("features", self.features != d.features, linear),
                ("projection", self.projection.is_some(), linear),
            ]
            .into_iter()
            .chain(only_adamw)
            .collect(),
            Method::Ridge => vec![
                ("lr", self.lr.is_some(), steps),
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
        if let Some(width) = self.projection {
            name += &format!(" projected to {width}");
        }
        name
    }
}
