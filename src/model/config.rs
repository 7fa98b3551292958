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
    #[serde(rename = "model_type")]
    pub kind: ModelKind,
    pub vocab_size: u32,
    pub hidden_size: u32,
    pub num_hidden_layers: u32,
    pub num_attention_heads: u32,
    pub intermediate_size: u32,
    pub hidden_act: HiddenAct,
    pub hidden_dropout_prob: f64,
    pub attention_probs_dropout_prob: f64,
    pub max_position_embeddings: u32,
    pub type_vocab_size: u32,
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    pub pad_token_id: u32,
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

    /// What makes the sizes impossible, if anything.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        for (name, value) in positive {
            if value == 0 || value > 1 << 24 {
                return Err(format!("{name} = {value} is not possible (1 to {})", 1 << 24));
            }
        }
        if self.num_hidden_layers > 1000 {
            return Err(format!("num_hidden_layers = {} is not possible (0 to 1000)", self.num_hidden_layers));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size = {} is not a multiple of num_attention_heads = {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.head_size() > 256 {
            return Err(format!(
                "heads of {} numbers are too wide (256 at most); raise num_attention_heads",
                self.head_size()
            ));
        }
        for (name, p) in [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ] {
            if !(0.0..1.0).contains(&p) {
                return Err(format!("{name} = {p} must lie in [0, 1)"));
            }
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(format!("layer_norm_eps = {} must lie in (0, 1)", self.layer_norm_eps));
        }
        if !(self.initializer_range >= 0.0 && self.initializer_range < 100.0) {
            return Err(format!("initializer_range = {} must lie in [0, 100)", self.initializer_range));
        }
        if self.longest() == 0 {
            return Err(format!(
                "max_position_embeddings = {} leaves no position for a token",
                self.max_position_embeddings
            ));
        }
        Ok(())
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
