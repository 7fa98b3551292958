//! The sizes of a model under Hugging Face's names, and `config.json`.

use serde::{Deserialize, Serialize};

use crate::ops::Activation;

/// The architectures, under the names of `transformers`.
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
}

impl ModelKind {
    /// All of them.
    pub const ALL: [ModelKind; 3] = [ModelKind::RobertaPreLayerNorm, ModelKind::Bert, ModelKind::Roberta];

    /// `model_type` of config.json.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::RobertaPreLayerNorm => "roberta-prelayernorm",
            ModelKind::Bert => "bert",
            ModelKind::Roberta => "roberta",
        }
    }

    /// What the names of the encoder's tensors begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            ModelKind::RobertaPreLayerNorm => "roberta_prelayernorm",
            ModelKind::Bert => "bert",
            ModelKind::Roberta => "roberta",
        }
    }

    /// What the names of the head's tensors begin with.
    pub fn head(self) -> &'static str {
        match self {
            ModelKind::Bert => "cls.predictions",
            ModelKind::RobertaPreLayerNorm | ModelKind::Roberta => "lm_head",
        }
    }

    /// The class of `transformers` that reads it.
    pub fn architecture(self) -> &'static str {
        match self {
            ModelKind::RobertaPreLayerNorm => "RobertaPreLayerNormForMaskedLM",
            ModelKind::Bert => "BertForMaskedLM",
            ModelKind::Roberta => "RobertaForMaskedLM",
        }
    }

    /// Whether norms stand before attention and feed-forward layers, and one behind the last layer.
    pub fn is_pre_layer_norm(self) -> bool {
        self == ModelKind::RobertaPreLayerNorm
    }

    /// Whether positions are counted from behind the pad token's id, as RoBERTa's are.
    pub fn counts_from_pad(self) -> bool {
        self != ModelKind::Bert
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

/// Everything that fixes an encoder's function but its weights.
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
            hidden_act: HiddenAct::Gelu,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            max_position_embeddings: 36,
            type_vocab_size: 1,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: 1,
            tie_word_embeddings: true,
        }
    }
}

/// Numbers of the widest head that the attention kernels take.
const WIDEST_HEAD: u32 = 256;

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

    /// What the head applies between its dense layer and its norm: BERT's the activation of the layers, RoBERTa's
    /// always the exact GELU.
    pub fn head_activation(&self) -> Activation {
        match self.kind {
            ModelKind::Bert => self.hidden_act.activation(),
            ModelKind::RobertaPreLayerNorm | ModelKind::Roberta => Activation::Gelu,
        }
    }

    /// Width of a head.
    pub fn head_size(&self) -> u32 {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Whether there can be a model of this config.
    ///
    /// # Errors
    /// The first key that is out of its range.
    pub fn check(&self) -> Result<(), SizeError> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        let ranges = positive.into_iter().map(|(key, value)| (key, value, 1, 1 << 24));
        for (key, value, least, most) in ranges.chain([("num_hidden_layers", self.num_hidden_layers, 0, 1000)]) {
            if !(least..=most).contains(&value) {
                return Err(SizeError::Size { key, value, least, most });
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(SizeError::Heads { hidden: self.hidden_size, heads: self.num_attention_heads });
        }
        if self.head_size() > WIDEST_HEAD {
            return Err(SizeError::WideHeads(self.head_size()));
        }
        let (dropout, attention) = (self.hidden_dropout_prob, self.attention_probs_dropout_prob);
        let (eps, spread) = (self.layer_norm_eps, self.initializer_range);
        for (key, value, fits, interval) in [
            ("hidden_dropout_prob", dropout, (0.0..1.0).contains(&dropout), "[0, 1)"),
            ("attention_probs_dropout_prob", attention, (0.0..1.0).contains(&attention), "[0, 1)"),
            ("layer_norm_eps", eps, eps > 0.0 && eps < 1.0, "(0, 1)"),
            ("initializer_range", spread, (0.0..100.0).contains(&spread), "[0, 100)"),
        ] {
            if !fits {
                return Err(SizeError::Number { key, value, interval });
            }
        }
        match self.longest() {
            0 => Err(SizeError::NoPosition(self.max_position_embeddings)),
            _ => Ok(()),
        }
    }

    /// `config.json` as `transformers` reads it.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).expect("plain numbers and strings");
        let map = json.as_object_mut().expect("a struct becomes an object");
        map.insert("architectures".into(), serde_json::json!([self.kind.architecture()]));
        map.insert("bos_token_id".into(), super::BOS.into());
        map.insert("eos_token_id".into(), super::EOS.into());
        map.insert("is_decoder".into(), false.into());
        map.insert("torch_dtype".into(), "float32".into());
        json
    }
}
