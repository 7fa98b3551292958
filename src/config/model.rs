//! `[model]`: the sizes of a model with their defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;
use crate::model::{HiddenAct, ModelConfig, ModelKind};

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
