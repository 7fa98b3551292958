//! The sizes of a model under Hugging Face's names, and `config.json`.

use serde::{Deserialize, Serialize};

use super::family::JsonMap;
use super::hidden_act::HiddenAct;
use super::kind::ModelKind;
use crate::ops::Activation;

/// Everything that fixes a model's function but its weights. Which of it counts is the kind's, and how `config.json`
/// calls it; the rest keeps its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// Which of the supported architectures.
    #[serde(rename = "model_type")]
    pub kind: ModelKind,
    /// Rows of the word table, V.
    pub vocab_size: u32,
    /// Width D of the representations.
    pub hidden_size: u32,
    /// Layers behind the embedding; 0 is possible.
    pub num_hidden_layers: u32,
    /// Heads H of each layer.
    pub num_attention_heads: u32,
    /// Heads of keys and of values, each of which serves a group of heads of queries; `None` is H.
    pub num_key_value_heads: Option<u32>,
    /// Width of a head; `None` is D / H.
    pub head_dim: Option<u32>,
    /// Feed-forward units F of each layer.
    pub intermediate_size: u32,
    /// Base of the wavelengths of rotary positions.
    pub rope_theta: f64,
    /// Share of each head that rotary positions turn.
    pub partial_rotary_factor: f64,
    /// Whether attention and feed-forward layer read the same rows, beside one another.
    pub use_parallel_residual: bool,
    /// Whether a decoder's attention has biases.
    pub attention_bias: bool,
    /// Whether a decoder's feed-forward layers have biases.
    pub mlp_bias: bool,
    /// Whether a decoder's layer norms have scale and shift.
    pub norm_affine: bool,
    /// Whether OPT's norms stand before attention and feed-forward layers, with one behind the last layer, or behind
    /// the sums with the residuals.
    pub do_layer_norm_before: bool,
    /// Whether an LSTM reads in both directions, with half of the width each.
    pub bidirectional: bool,
    /// Activation of the feed-forward units.
    pub hidden_act: HiddenAct,
    /// Probability of dropping a number behind the embedding, attention and feed-forward parts.
    pub hidden_dropout_prob: f64,
    /// Probability of dropping a number behind a decoder's embedding, where that is a key of its own.
    pub embedding_dropout_prob: f64,
    /// Probability of dropping an attention weight.
    pub attention_probs_dropout_prob: f64,
    /// Rows of the position table, those before the first token's included (of OPT without them); without a table the
    /// longest sentence.
    pub max_position_embeddings: u32,
    /// Rows of the segment table.
    pub type_vocab_size: u32,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Half-width of the uniform distribution of an LSTM's initial weights and biases; `None` is 1 / √units.
    pub lstm_initializer_range: Option<f64>,
    /// ε of every layer norm, added to the variance.
    pub layer_norm_eps: f64,
    /// Id of padding, where there is one; with RoBERTa positions count from the one behind it.
    pub pad_token_id: Option<u32>,
    /// Whether the decoder's weight is the word table.
    pub tie_word_embeddings: bool,
}

impl Default for ModelConfig {
    /// A small pre-layer-norm encoder; `vocab_size` and `max_position_embeddings` follow from the language.
    fn default() -> Self {
        ModelConfig {
            kind: ModelKind::RobertaPreLayerNorm,
            vocab_size: 204,
            hidden_size: 128,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: None,
            head_dim: None,
            intermediate_size: 512,
            rope_theta: 10_000.0,
            partial_rotary_factor: 1.0,
            use_parallel_residual: true,
            attention_bias: false,
            mlp_bias: false,
            norm_affine: true,
            do_layer_norm_before: true,
            bidirectional: true,
            hidden_act: HiddenAct::Gelu,
            hidden_dropout_prob: 0.0,
            embedding_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            max_position_embeddings: 36,
            type_vocab_size: 1,
            initializer_range: 0.02,
            lstm_initializer_range: None,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(1),
            tie_word_embeddings: true,
        }
    }
}

/// What of a decoder is its kind's, where nothing is said, and no size.
const OF_KIND: [&str; 9] = [
    "hidden_act",
    "layer_norm_eps",
    "use_parallel_residual",
    "attention_bias",
    "mlp_bias",
    "norm_affine",
    "rope_theta",
    "partial_rotary_factor",
    "tie_word_embeddings",
];

/// Rows of OPT's position table before the first token's.
pub(super) const OPT_OFFSET: u32 = 2;

/// Numbers of the widest head that the attention kernels take.
pub(super) const WIDEST_HEAD: u32 = 256;

/// Why there is no model of a config.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SizeError {
    /// A size outside of its range.
    #[error("{key} = {value} is not possible ({least} to {most})")]
    Size {
        /// As `config.json` calls it.
        key: &'static str,
        /// What was given.
        value: u32,
        /// The smallest that is possible.
        least: u32,
        /// The largest that is possible.
        most: u32,
    },
    /// A width that the heads do not divide.
    #[error("hidden_size = {hidden} is not a multiple of num_attention_heads = {heads}")]
    Heads {
        /// The model's width D.
        hidden: u32,
        /// The number of heads H.
        heads: u32,
    },
    /// Heads of keys and values that do not divide those of queries.
    #[error("num_attention_heads = {heads} is not a multiple of num_key_value_heads = {groups}")]
    Groups {
        /// The number of heads H.
        heads: u32,
        /// The heads of keys and of values.
        groups: u32,
    },
    /// Rotary positions of more numbers than a head has, or than a kernel takes.
    #[error("rotary positions turn pairs: {rotated} numbers of a head of {size} cannot be turned")]
    Rotary {
        /// Numbers of a head that turn.
        rotated: u32,
        /// Numbers of a head.
        size: u32,
    },
    /// Heads of more numbers than a kernel takes.
    #[error("heads of {0} numbers are too wide ({WIDEST_HEAD} at most); raise num_attention_heads")]
    WideHeads(u32),
    /// A width that the two directions of an LSTM cannot share.
    #[error(
        "hidden_size = {0} is odd; an LSTM of two directions has half of it in each (or set bidirectional = false)"
    )]
    OddWidth(u32),
    /// An LSTM of more units in a direction than a kernel takes.
    #[error("an LSTM of {units} units in a direction is too wide ({most} at most)")]
    WideLstm {
        /// Units in a direction.
        units: u32,
        /// What a kernel takes.
        most: u32,
    },
    /// A number outside of its interval.
    #[error("{key} = {value} must lie in {interval}")]
    Number {
        /// As `config.json` calls it.
        key: &'static str,
        /// What was given.
        value: f64,
        /// As mathematicians write it: `[0, 1)`.
        interval: &'static str,
    },
    /// A table of so few positions that those before the first token take all of them.
    #[error("max_position_embeddings = {0} leaves no position for a token")]
    NoPosition(u32),
}

impl ModelConfig {
    /// Row of the position table for a sentence's first token: RoBERTa counts from behind the pad token's id, OPT from
    /// 2, the others from 0.
    pub fn first_position(&self) -> u32 {
        match self.kind {
            ModelKind::Opt => OPT_OFFSET,
            kind if kind.counts_from_pad() => self.pad_token_id.unwrap_or(0).saturating_add(1),
            _ => 0,
        }
    }

    /// `max_position_embeddings` for sentences of up to so many tokens.
    pub fn positions_for(&self, tokens: u32) -> u32 {
        tokens + if self.kind == ModelKind::Opt { 0 } else { self.first_position() }
    }

    /// Longest sequence of tokens that has positions.
    pub fn longest(&self) -> u32 {
        self.max_position_embeddings.saturating_sub(self.positions_for(0))
    }

    /// What the head applies between its dense layer and its norm: BERT's and an LSTM's `hidden_act`, RoBERTa's always
    /// the exact GELU.
    pub fn head_activation(&self) -> Activation {
        match self.kind {
            ModelKind::RobertaPreLayerNorm | ModelKind::Roberta => Activation::Gelu,
            _ => self.hidden_act.activation(),
        }
    }

    /// Width of an attention head.
    pub fn head_size(&self) -> u32 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Heads of keys and of values; as many as of queries where the type of model has no groups.
    pub fn groups(&self) -> u32 {
        let grouped = self.num_key_value_heads.filter(|_| self.kind.has_key("num_key_value_heads"));
        grouped.unwrap_or(self.num_attention_heads)
    }

    /// Directions that an LSTM reads in.
    pub fn directions(&self) -> u32 {
        if self.bidirectional { 2 } else { 1 }
    }

    /// An LSTM's units in a direction.
    pub fn units(&self) -> u32 {
        self.hidden_size / self.directions()
    }

    /// The sizes in words: "width 32, 2 layers, 2 heads, feed-forward 128".
    pub fn shape(&self) -> String {
        let (d, layers) = (self.hidden_size, self.num_hidden_layers);
        format!("width {d}, {layers} layers, {}", self.kind.family().shape(self))
    }

    /// A size that only some kinds have, as a number of `config.json`; null for the others.
    pub fn own_size(&self, key: &str) -> serde_json::Value {
        self.to_json().get(key).cloned().unwrap_or_default()
    }

    /// Whether there can be a model of this config.
    ///
    /// # Errors
    /// The first key that is out of its range.
    pub fn check(&self) -> Result<(), SizeError> {
        let common = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        common.into_iter().try_for_each(positive)?;
        within("num_hidden_layers", self.num_hidden_layers, 0, 1000)?;
        self.kind.family().check(self)?;
        probability("hidden_dropout_prob", self.hidden_dropout_prob)?;
        let eps = self.layer_norm_eps;
        number("layer_norm_eps", eps, eps > 0.0 && eps < 1.0, "(0, 1)")?;
        spread("initializer_range", self.initializer_range)?;
        match self.longest() {
            0 => Err(SizeError::NoPosition(self.max_position_embeddings)),
            _ => Ok(()),
        }
    }

    /// A small model of a kind with nothing dropped. What is no size is as `transformers` has it for a decoder of the
    /// kind.
    pub fn small(kind: ModelKind) -> ModelConfig {
        let small = ModelConfig { kind, ..ModelConfig::default() };
        if !kind.is_causal() {
            return small;
        }
        let mut keys = small.named();
        let absent = kind.family().absent(kind);
        for (_, theirs) in kind.keys().iter().filter(|(ours, _)| OF_KIND.contains(ours)) {
            keys.extend(absent.get(*theirs).map(|value| (theirs.to_string(), value.clone())));
        }
        ModelConfig::of_named(kind, &keys).expect("a type's own values")
    }

    /// The keys that the kind has under the names that it has for them.
    pub(crate) fn named(&self) -> JsonMap {
        let own = serde_json::to_value(self).expect("plain numbers and strings");
        let named = |(ours, theirs): &(&str, &str)| Some((theirs.to_string(), own.get(*ours)?.clone()));
        self.kind.keys().iter().filter_map(named).filter(|(_, value)| !value.is_null()).collect()
    }

    /// The config of keys under the names that a kind has for them; what is left out has its default here.
    pub(crate) fn of_named(kind: ModelKind, keys: &JsonMap) -> Result<ModelConfig, serde_json::Error> {
        let mut own = JsonMap::from_iter([("model_type".to_string(), kind.name().into())]);
        for (ours, theirs) in kind.keys() {
            own.extend(keys.get(*theirs).map(|value| (ours.to_string(), value.clone())));
        }
        serde_json::from_value(own.into())
    }

    /// `config.json` as `transformers` reads it, with the keys that the kind has under the names that it has for them.
    pub fn to_json(&self) -> serde_json::Value {
        let mut map = self.named();
        map.insert("model_type".into(), self.kind.name().into());
        map.insert("pad_token_id".into(), self.pad_token_id.into());
        map.insert("architectures".into(), serde_json::json!([self.kind.architecture()]));
        map.insert("bos_token_id".into(), super::BOS.into());
        map.insert("eos_token_id".into(), super::EOS.into());
        map.insert("torch_dtype".into(), "float32".into());
        self.kind.family().write(self, &mut map);
        map.into()
    }
}

/// Refuses a size outside of a range.
fn within(key: &'static str, value: u32, least: u32, most: u32) -> Result<(), SizeError> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(SizeError::Size { key, value, least, most }),
    }
}

/// Refuses a number that does not lie in its interval.
fn number(key: &'static str, value: f64, fits: bool, interval: &'static str) -> Result<(), SizeError> {
    if fits { Ok(()) } else { Err(SizeError::Number { key, value, interval }) }
}

/// Refuses sizes that are 0 or beyond all use.
pub(super) fn positive((key, value): (&'static str, u32)) -> Result<(), SizeError> {
    within(key, value, 1, 1 << 24)
}

/// Refuses what is no probability of dropping something.
pub(super) fn probability(key: &'static str, p: f64) -> Result<(), SizeError> {
    number(key, p, (0.0..1.0).contains(&p), "[0, 1)")
}

/// Refuses what is no spread of initial weights.
pub(super) fn spread(key: &'static str, value: f64) -> Result<(), SizeError> {
    number(key, value, (0.0..100.0).contains(&value), "[0, 100)")
}
