//! The sections of a run config with their defaults. The comments here are what `lowland config explain` prints and
//! what editors show from the schema.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MeasureSection;
use super::algorithm::AlgorithmKind;
use super::language::LanguageSection;
use super::load::ConfigError;
use super::objective::{EvaluateSection, LabelKind, ObjectiveSection};
use crate::model::{HiddenAct, ModelConfig, ModelKind};
use crate::ops::{KernelChoice, VariantError};

/// One run: a language, a model, an objective, training, evaluation, curvature along the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of everything random: sentences, masks, initial weights, dropout.
    pub seed: u64,
    /// Folder of the run. Left out: `runs/NAME-HASH`, with the name of the config file and the hash of the config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// The source of sentences.
    pub language: LanguageSection,
    /// The model's sizes, under Hugging Face's names.
    pub model: ModelSection,
    /// The words to predict, and their labels.
    pub objective: ObjectiveSection,
    /// The training of the model.
    pub train: TrainSection,
    /// The evaluation on held-out sentences.
    pub evaluate: EvaluateSection,
    /// Curvature along the way. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<MeasureSection>,
    /// The use of the adapter.
    #[serde(skip_serializing_if = "AdapterSection::is_default")]
    pub adapter: AdapterSection,
}

/// The model's sizes, under Hugging Face's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// "roberta-prelayernorm" (pre-layer-norm, as in the paper), "bert" or "roberta" (post-layer-norm), or "lstm"
    /// (layers of an LSTM, as for the paper's hidden Markov data).
    #[serde(rename = "type")]
    pub kind: ModelKind,
    /// Width of the model, D.
    pub hidden_size: u32,
    /// Number of layers.
    pub num_hidden_layers: u32,
    /// Attention heads; divides hidden_size. Of transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<u32>,
    /// Width of the feed-forward layers, F. Of transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<u32>,
    /// Whether an LSTM reads in both directions, with half of hidden_size each, or from the first word on with all of
    /// it. Of "lstm". Left out: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bidirectional: Option<bool>,
    /// Activation of the feed-forward layers (of "bert" that of the head too, of "lstm" that of the head): "gelu" (the
    /// exact one), "gelu_new" (by tanh), "relu", "silu", or another name that transformers has for one of these. Left
    /// out: "gelu".
    #[serde(skip_serializing_if = "is_gelu")]
    pub hidden_act: HiddenAct,
    /// Dropout behind the embedding, and behind attention and feed-forward layers.
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights. Of transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_probs_dropout_prob: Option<f64>,
    /// Positions. Left out: as many as the language's longest sentence needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_position_embeddings: Option<u32>,
    /// Rows of the word table, at least as many as the language has words and special tokens; 30522 is the table of the
    /// paper's released code, with which it counts its sizes. Rows without a word are parameters of the model and
    /// tokens of its softmax like the others. Left out: as many as are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<u32>,
    /// The rows of the word table are rounded up to a multiple of this; 8 in the paper's released code. Left out: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_multiple_of: Option<u32>,
    /// Segments; sentences of a language use the first.
    pub type_vocab_size: u32,
    /// Standard deviation of initial weights.
    pub initializer_range: f64,
    /// Initial weights and biases of an LSTM lie between this number and its negative, uniformly. Of "lstm". Left out:
    /// one over the square root of its units in a direction, torch's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lstm_initializer_range: Option<f64>,
    /// ε of layer norm.
    pub layer_norm_eps: f64,
}

/// Left out of what is written, so that configs from before there was a choice keep their hash.
fn is_gelu(act: &HiddenAct) -> bool {
    *act == HiddenAct::Gelu
}

impl Default for ModelSection {
    fn default() -> Self {
        let m = ModelConfig::default();
        let mut section = ModelSection {
            kind: m.kind,
            hidden_size: m.hidden_size,
            num_hidden_layers: m.num_hidden_layers,
            num_attention_heads: None,
            intermediate_size: None,
            bidirectional: None,
            hidden_act: m.hidden_act,
            hidden_dropout_prob: m.hidden_dropout_prob,
            attention_probs_dropout_prob: None,
            max_position_embeddings: None,
            vocab_size: None,
            vocab_multiple_of: None,
            type_vocab_size: m.type_vocab_size,
            initializer_range: m.initializer_range,
            lstm_initializer_range: None,
            layer_norm_eps: m.layer_norm_eps,
        };
        section.complete();
        section
    }
}

impl ModelSection {
    /// Fills in what is left out of the keys that the type has, so that a config that says a default and one that
    /// leaves it out are the same.
    pub(super) fn complete(&mut self) {
        let (m, kind) = (ModelConfig::default(), self.kind);
        fn fill<T>(kind: ModelKind, key: &str, value: &mut Option<T>, default: T) {
            if value.is_none() && kind.has_key(key) {
                *value = Some(default);
            }
        }
        fill(kind, "num_attention_heads", &mut self.num_attention_heads, m.num_attention_heads);
        fill(kind, "intermediate_size", &mut self.intermediate_size, m.intermediate_size);
        fill(kind, "bidirectional", &mut self.bidirectional, m.bidirectional);
        let dropout = &mut self.attention_probs_dropout_prob;
        fill(kind, "attention_probs_dropout_prob", dropout, m.attention_probs_dropout_prob);
    }

    /// A key that the type does not have.
    pub(super) fn foreign_key(&self) -> Option<&'static str> {
        let given = [
            ("num_attention_heads", self.num_attention_heads.is_some()),
            ("intermediate_size", self.intermediate_size.is_some()),
            ("bidirectional", self.bidirectional.is_some()),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob.is_some()),
            ("lstm_initializer_range", self.lstm_initializer_range.is_some()),
        ];
        given.into_iter().find(|(key, given)| *given && !self.kind.has_key(key)).map(|(key, _)| key)
    }

    /// Rows of the word table for a vocabulary of `tokens`, special ones included.
    pub fn vocabulary_rows(&self, tokens: u32) -> u32 {
        self.vocab_size.unwrap_or(tokens).max(tokens).next_multiple_of(self.vocab_multiple_of.unwrap_or(1).max(1))
    }

    /// Refuses a word table that is too small for a vocabulary.
    pub(crate) fn check_vocabulary(&self, tokens: u32) -> Result<(), ConfigError> {
        match self.vocab_size {
            Some(rows) if rows < tokens => Err(ConfigError {
                place: "model.vocab_size".into(),
                message: format!("{rows} rows are too few: the language has {tokens} words and special tokens"),
            }),
            _ => Ok(()),
        }
    }

    /// The model for a vocabulary of `tokens` (special ones included) and sentences of up to `max_length` words.
    pub fn model_config(&self, tokens: u32, max_length: usize) -> ModelConfig {
        let default = ModelConfig::default();
        let dropout = self.attention_probs_dropout_prob.unwrap_or(default.attention_probs_dropout_prob);
        let mut config = ModelConfig {
            kind: self.kind,
            vocab_size: self.vocabulary_rows(tokens),
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads.unwrap_or(default.num_attention_heads),
            intermediate_size: self.intermediate_size.unwrap_or(default.intermediate_size),
            bidirectional: self.bidirectional.unwrap_or(default.bidirectional),
            hidden_act: self.hidden_act,
            hidden_dropout_prob: self.hidden_dropout_prob,
            attention_probs_dropout_prob: dropout,
            type_vocab_size: self.type_vocab_size,
            initializer_range: self.initializer_range,
            lstm_initializer_range: self.lstm_initializer_range,
            layer_norm_eps: self.layer_norm_eps,
            ..default
        };
        let needed = config.first_position() + max_length as u32 + 2;
        config.max_position_embeddings = self.max_position_embeddings.unwrap_or(needed);
        config
    }
}

/// AdamW, as torch.optim.AdamW. Weight decay applies to matrices, not to biases and layer norms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { lr: 1e-3, betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.01 }
    }
}

/// Stochastic gradient descent, as torch.optim.SGD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Peak learning rate.
    pub lr: f64,
    /// Momentum; 0 needs no memory for it.
    pub momentum: f64,
    /// L2 penalty's factor, added to the gradient of matrices.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { lr: 1e-3, momentum: 0.0, weight_decay: 0.0 }
    }
}

/// The optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OptimizerKind {
    /// { kind = "adamw", lr, betas, eps, weight_decay }
    AdamW(AdamW),
    /// { kind = "sgd", lr, momentum, weight_decay }
    Sgd(Sgd),
}

impl OptimizerKind {
    /// Peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            OptimizerKind::AdamW(o) => o.lr,
            OptimizerKind::Sgd(o) => o.lr,
        }
    }
}

/// Share of the steps over which the learning rate rises from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Warmup {
    /// Share of all steps over which the learning rate rises linearly from 0.
    pub warmup: f64,
}

impl Default for Warmup {
    fn default() -> Self {
        Warmup { warmup: 0.06 }
    }
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Falls linearly to 0 at the last step.
    Linear(Warmup),
    /// Stays.
    Constant(Warmup),
    /// Falls to 0 along half a cosine.
    Cosine(Warmup),
}

impl ScheduleKind {
    /// Factor on the peak learning rate at a step counted from 0.
    ///
    /// ```
    /// use lowland::config::{ScheduleKind, Warmup};
    /// let schedule = ScheduleKind::Linear(Warmup { warmup: 0.5 });
    /// assert_eq!([schedule.factor(0, 4), schedule.factor(1, 4), schedule.factor(3, 4)], [0.5, 1.0, 0.5]);
    /// ```
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let (ScheduleKind::Linear(w) | ScheduleKind::Constant(w) | ScheduleKind::Cosine(w)) = self;
        let warm = (w.warmup * steps as f64).round();
        let now = step as f64;
        if now < warm {
            return (now + 1.0) / warm;
        }
        let left = ((steps as f64 - now) / (steps as f64 - warm).max(1.0)).clamp(0.0, 1.0);
        match self {
            ScheduleKind::Linear(_) => left,
            ScheduleKind::Constant(_) => 1.0,
            ScheduleKind::Cosine(_) => 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
        }
    }
}

/// The precision of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All arithmetic in f32.
    #[default]
    F32,
    /// Operands of products rounded to f16, sums in f32.
    Mixed,
}

/// The training of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Optimiser steps; a finished run goes on when they are raised.
    pub steps: u64,
    /// Sentences of the training set, gone over again and again, in another order each time. Left out: ever new ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentences: Option<u64>,
    /// Sentences per step.
    pub batch_size: u32,
    /// Sentences at once; gradients are added up over a batch when smaller. Left out: the batch size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u32>,
    /// { kind = "adamw", lr, betas, eps, weight_decay } or { kind = "sgd", lr, momentum, weight_decay }.
    pub optimizer: OptimizerKind,
    /// Beside the optimiser's step: { kind = "plain" }, which is nothing, { kind = "label-noise", probability },
    /// { kind = "sam", rho } or { kind = "adversarial", task, weight, ... }. Left out: plain.
    #[serde(skip_serializing_if = "AlgorithmKind::is_plain")]
    pub algorithm: AlgorithmKind,
    /// { kind = "linear" | "constant" | "cosine", warmup = share of the steps }.
    pub schedule: ScheduleKind,
    /// Largest norm of the gradient over all parameters; 0 is no clipping.
    pub clip: f64,
    /// Steps between checkpoints, with one at the end; 0 is none but the one at an interrupt.
    pub checkpoint_every: u64,
    /// "f32", or "mixed": products of f16 operands with f32 sums on adapters with cooperative matrices; weights,
    /// moments and everything else stay f32.
    pub precision: Precision,
    /// A power of two that losses are multiplied by before the backward pass, and updates divided by: it keeps small
    /// adjoints from vanishing in f16. Left out: 1024 with mixed precision, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
    /// Forget what a layer computed inside after the forward pass and compute it again in the backward pass: less
    /// memory, a third more arithmetic, the same gradient.
    pub recompute: bool,
    /// Newest checkpoints that are kept; 0 keeps all.
    pub keep_checkpoints: u32,
    /// Model folder to begin with instead of random weights, relative to the config file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Steps between evaluations; 0 evaluates at the end only.
    pub evaluate_every: u64,
}

impl Default for TrainSection {
    fn default() -> Self {
        TrainSection {
            steps: 2000,
            sentences: None,
            batch_size: 256,
            micro_batch: None,
            optimizer: OptimizerKind::AdamW(AdamW::default()),
            algorithm: AlgorithmKind::default(),
            schedule: ScheduleKind::Linear(Warmup::default()),
            clip: 0.0,
            precision: Precision::F32,
            loss_scale: None,
            recompute: false,
            checkpoint_every: 500,
            keep_checkpoints: 3,
            start_from: None,
            evaluate_every: 100,
        }
    }
}

impl TrainSection {
    /// The factor on losses before the backward pass.
    pub fn loss_scale(&self) -> f32 {
        let default = if self.precision == Precision::Mixed { 1024.0 } else { 1.0 };
        self.loss_scale.unwrap_or(default) as f32
    }

    /// Sentences at once.
    pub fn micro_batch(&self) -> u32 {
        self.micro_batch.unwrap_or(self.batch_size).min(self.batch_size)
    }
}

/// The use of the adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterSection {
    /// Kernel variants other than the ones chosen for the adapter, as { linear = "tiled", attention = "row" };
    /// `lowland selftest --time` lists them. `--variant` goes before it.
    pub variant: BTreeMap<String, String>,
}

impl AdapterSection {
    fn is_default(&self) -> bool {
        *self == AdapterSection::default()
    }

    /// The variants asked for.
    ///
    /// # Errors
    /// A name that is not in the table.
    pub fn kernel_choice(&self) -> Result<KernelChoice, VariantError> {
        let mut kernel_choice = KernelChoice::default().asked_at("adapter.variant");
        for (operation, variant) in &self.variant {
            kernel_choice.add(operation, variant)?;
        }
        Ok(kernel_choice)
    }
}

impl RunConfig {
    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((key.to_string(), message));
        let t = &self.train;
        if let Err(error) = self.adapter.kernel_choice() {
            return bad("adapter.variant", error.to_string());
        }
        self.language.check()?;
        self.measure.as_ref().map_or(Ok(()), MeasureSection::check)?;
        if t.batch_size == 0 || t.batch_size > 1 << 20 {
            return bad("train.batch_size", format!("{} must lie in 1 to {}", t.batch_size, 1 << 20));
        }
        if t.micro_batch == Some(0) {
            return bad("train.micro_batch", "must be at least 1".into());
        }
        if !(t.clip >= 0.0 && t.clip.is_finite()) {
            return bad("train.clip", format!("{} must be 0 (off) or positive", t.clip));
        }
        if let Some(scale) = t.loss_scale
            && !(scale > 0.0 && scale.is_finite() && scale.log2().fract() == 0.0 && scale.log2().abs() <= 32.0)
        {
            return bad("train.loss_scale", format!("{scale} must be a power of two, as 1024"));
        }
        let lr = t.optimizer.lr();
        if !(lr >= 0.0 && lr.is_finite()) {
            return bad("train.optimizer.lr", format!("{lr} must be 0 or positive"));
        }
        match &t.optimizer {
            OptimizerKind::AdamW(o) => {
                if o.betas.iter().any(|b| !(0.0..1.0).contains(b)) {
                    return bad("train.optimizer.betas", format!("{:?} must lie in [0, 1)", o.betas));
                }
                if !(o.eps.is_finite() && o.eps > 0.0) {
                    return bad("train.optimizer.eps", format!("{} must be positive", o.eps));
                }
                if !(o.weight_decay.is_finite() && o.weight_decay >= 0.0) {
                    return bad("train.optimizer.weight_decay", format!("{} must be 0 or positive", o.weight_decay));
                }
            }
            OptimizerKind::Sgd(o) => {
                if !(0.0..1.0).contains(&o.momentum) {
                    return bad("train.optimizer.momentum", format!("{} must lie in [0, 1)", o.momentum));
                }
                if !(o.weight_decay.is_finite() && o.weight_decay >= 0.0) {
                    return bad("train.optimizer.weight_decay", format!("{} must be 0 or positive", o.weight_decay));
                }
            }
        }
        t.algorithm.check()?;
        if matches!(t.algorithm, AlgorithmKind::LabelNoise(_)) && self.objective.labels == LabelKind::Expected {
            let message = "noise replaces sampled labels; set `objective.labels = \"sampled\"`";
            return bad("train.algorithm", message.into());
        }
        let (ScheduleKind::Linear(w) | ScheduleKind::Constant(w) | ScheduleKind::Cosine(w)) = &t.schedule;
        if !(0.0..=1.0).contains(&w.warmup) {
            return bad("train.schedule.warmup", format!("{} is a share of the steps, 0 to 1", w.warmup));
        }
        if t.sentences == Some(0) {
            return bad("train.sentences", "must be at least 1; leave it out for ever new sentences".into());
        }
        self.objective.check(t.sentences)?;
        if self.model.vocab_multiple_of.is_some_and(|n| n == 0 || n > 1 << 16) {
            return bad("model.vocab_multiple_of", format!("must lie in 1 to {}", 1 << 16));
        }
        if let Some(key) = self.model.foreign_key() {
            let message = format!("a model of type \"{}\" has no such key", self.model.kind.name());
            return bad(&format!("model.{key}"), message);
        }
        let longest = self.language.longest();
        let model = self.model.model_config(64, longest);
        if let Err(error) = model.check() {
            return bad("model", error.to_string());
        }
        let needed = model.first_position() + longest as u32 + 2;
        if model.max_position_embeddings < needed {
            return bad(
                "model.max_position_embeddings",
                format!(
                    "{} is too few for sentences of {} words: {needed} are needed",
                    model.max_position_embeddings, longest
                ),
            );
        }
        Ok(())
    }
}
