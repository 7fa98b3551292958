//! The sizes of a model under Hugging Face's names, and `config.json`.

use serde::{Deserialize, Serialize};

use crate::ops::Activation;

/// The architectures, under the names of `transformers` where it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ModelKind {
    /// Pre-layer-norm, as in the paper.
    #[default]
    #[serde(rename = "roberta-prelayernorm")]
    RobertaPreLayerNorm,
    /// Post-layer-norm.
    #[serde(rename = "bert")]
    Bert,
    /// Post-layer-norm, with RoBERTa's positions and head.
    #[serde(rename = "roberta")]
    Roberta,
    /// Layers of an LSTM in both directions, or in one; BERT's embedding and head.
    #[serde(rename = "lstm")]
    Lstm,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [ModelKind; 4] =
        [ModelKind::RobertaPreLayerNorm, ModelKind::Bert, ModelKind::Roberta, ModelKind::Lstm];

    /// `model_type` of config.json.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::RobertaPreLayerNorm => "roberta-prelayernorm",
            ModelKind::Bert => "bert",
            ModelKind::Roberta => "roberta",
            ModelKind::Lstm => "lstm",
        }
    }

    /// What the names of the encoder's tensors begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            ModelKind::RobertaPreLayerNorm => "roberta_prelayernorm",
            ModelKind::Bert => "bert",
            ModelKind::Roberta => "roberta",
            ModelKind::Lstm => "rnn",
        }
    }

    /// What the names of the head's tensors begin with.
    pub fn head(self) -> &'static str {
        match self {
            ModelKind::Bert | ModelKind::Lstm => "cls.predictions",
            ModelKind::RobertaPreLayerNorm | ModelKind::Roberta => "lm_head",
        }
    }

    /// The class that reads it: of `transformers`, or of `scripts/lstm_mlm.py`.
    pub fn architecture(self) -> &'static str {
        match self {
            ModelKind::RobertaPreLayerNorm => "RobertaPreLayerNormForMaskedLM",
            ModelKind::Bert => "BertForMaskedLM",
            ModelKind::Roberta => "RobertaForMaskedLM",
            ModelKind::Lstm => "RNNLMHeadModel",
        }
    }

    /// Whether positions are counted from behind the pad token's id, as RoBERTa's are.
    pub fn counts_from_pad(self) -> bool {
        match self {
            ModelKind::RobertaPreLayerNorm | ModelKind::Roberta => true,
            ModelKind::Bert | ModelKind::Lstm => false,
        }
    }

    /// Whether a config has a key of `config.json` and of `[model]`; keys that no family has for itself are everyone's.
    pub fn has_key(self, key: &str) -> bool {
        self.family().own_keys().contains(&key)
            || !ModelKind::ALL.into_iter().any(|kind| kind.family().own_keys().contains(&key))
    }
}

/// The function inside a feed-forward layer, under the names of `transformers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HiddenAct {
    /// x Φ(x), by the error function.
    #[default]
    Gelu,
    /// The same as `gelu`.
    GeluPython,
    /// GELU by tanh.
    GeluNew,
    /// The same as `gelu_new`.
    GeluPytorchTanh,
    /// The same as `gelu_new`.
    GeluPythonTanh,
    /// The same as `gelu_new`.
    GeluFast,
    /// The same as `gelu_new`.
    GeluAccurate,
    /// max(x, 0)
    Relu,
    /// x / (1 + e⁻ˣ)
    Silu,
    /// The same as `silu`.
    Swish,
}

impl HiddenAct {
    /// All of them.
    pub const ALL: [HiddenAct; 10] = [
        HiddenAct::Gelu,
        HiddenAct::GeluPython,
        HiddenAct::GeluNew,
        HiddenAct::GeluPytorchTanh,
        HiddenAct::GeluPythonTanh,
        HiddenAct::GeluFast,
        HiddenAct::GeluAccurate,
        HiddenAct::Relu,
        HiddenAct::Silu,
        HiddenAct::Swish,
    ];

    /// `hidden_act` of config.json.
    pub fn name(self) -> &'static str {
        match self {
            HiddenAct::Gelu => "gelu",
            HiddenAct::GeluPython => "gelu_python",
            HiddenAct::GeluNew => "gelu_new",
            HiddenAct::GeluPytorchTanh => "gelu_pytorch_tanh",
            HiddenAct::GeluPythonTanh => "gelu_python_tanh",
            HiddenAct::GeluFast => "gelu_fast",
            HiddenAct::GeluAccurate => "gelu_accurate",
            HiddenAct::Relu => "relu",
            HiddenAct::Silu => "silu",
            HiddenAct::Swish => "swish",
        }
    }

    /// What is computed.
    pub fn activation(self) -> Activation {
        match self {
            HiddenAct::Gelu | HiddenAct::GeluPython => Activation::Gelu,
            HiddenAct::GeluNew
            | HiddenAct::GeluPytorchTanh
            | HiddenAct::GeluPythonTanh
            | HiddenAct::GeluFast
            | HiddenAct::GeluAccurate => Activation::GeluTanh,
            HiddenAct::Relu => Activation::Relu,
            HiddenAct::Silu | HiddenAct::Swish => Activation::Silu,
        }
    }
}

/// Everything that fixes an encoder's function but its weights. Which keys count is the kind's
/// ([`ModelKind::has_key`]); the others keep their defaults.
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
    /// Heads H of each layer; they divide D among them.
    pub num_attention_heads: u32,
    /// Feed-forward units F of each layer.
    pub intermediate_size: u32,
    /// Whether an LSTM reads in both directions, with half of the width each.
    pub bidirectional: bool,
    /// Activation of the feed-forward units.
    pub hidden_act: HiddenAct,
    /// Probability of dropping a number behind the embedding, attention and feed-forward parts.
    pub hidden_dropout_prob: f64,
    /// Probability of dropping an attention weight.
    pub attention_probs_dropout_prob: f64,
    /// Rows of the position table, those before the first token's included.
    pub max_position_embeddings: u32,
    /// Rows of the segment table.
    pub type_vocab_size: u32,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Half-width of the uniform distribution of an LSTM's initial weights and biases; `None` is 1 / √units.
    pub lstm_initializer_range: Option<f64>,
    /// ε of every layer norm, added to the variance.
    pub layer_norm_eps: f64,
    /// Id of padding; with RoBERTa positions count from the one behind it.
    pub pad_token_id: u32,
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
            intermediate_size: 512,
            bidirectional: true,
            hidden_act: HiddenAct::Gelu,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            max_position_embeddings: 36,
            type_vocab_size: 1,
            initializer_range: 0.02,
            lstm_initializer_range: None,
            layer_norm_eps: 1e-12,
            pad_token_id: 1,
            tie_word_embeddings: true,
        }
    }
}

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
    /// Row of the position table for a sentence's first token: RoBERTa counts from behind the pad token's id, BERT from
    /// 0.
    pub fn first_position(&self) -> u32 {
        if self.kind.counts_from_pad() { self.pad_token_id.saturating_add(1) } else { 0 }
    }

    /// Longest sequence of tokens that has positions.
    pub fn longest(&self) -> u32 {
        self.max_position_embeddings.saturating_sub(self.first_position())
    }

    /// What the head applies between its dense layer and its norm: BERT's and an LSTM's `hidden_act`, RoBERTa's always
    /// the exact GELU.
    pub fn head_activation(&self) -> Activation {
        match self.kind {
            ModelKind::Bert | ModelKind::Lstm => self.hidden_act.activation(),
            ModelKind::RobertaPreLayerNorm | ModelKind::Roberta => Activation::Gelu,
        }
    }

    /// Width of an attention head.
    pub fn head_size(&self) -> u32 {
        self.hidden_size / self.num_attention_heads.max(1)
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

    /// `config.json` as `transformers` reads it, with the keys that the kind has.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("plain numbers and strings");
        let map = json.as_object_mut().expect("a struct becomes an object");
        map.retain(|key, value| self.kind.has_key(key) && !value.is_null());
        map.insert("architectures".into(), serde_json::json!([self.kind.architecture()]));
        map.insert("bos_token_id".into(), super::BOS.into());
        map.insert("eos_token_id".into(), super::EOS.into());
        map.insert("is_decoder".into(), false.into());
        map.insert("torch_dtype".into(), "float32".into());
        json
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
