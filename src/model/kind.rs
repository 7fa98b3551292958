//! The types of models, under their names in `config.json`.

use serde::{Deserialize, Serialize};

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
    /// A decoder with learned positions: GPT-2.
    #[serde(rename = "gpt2")]
    Gpt2,
    /// A decoder with learned positions from row 2 on: OPT.
    #[serde(rename = "opt")]
    Opt,
    /// A decoder with rotary positions of a part of each head, attention and feed-forward beside one another: GPT-NeoX,
    /// Pythia.
    #[serde(rename = "gpt_neox")]
    GptNeox,
    /// A decoder with RMSNorm, rotary positions, groups of heads and gated feed-forward layers: Llama.
    #[serde(rename = "llama")]
    Llama,
    /// Llama with biases on queries, keys and values: Qwen2.
    #[serde(rename = "qwen2")]
    Qwen2,
    /// Llama without biases: Mistral.
    #[serde(rename = "mistral")]
    Mistral,
    /// Llama with layer norm without parameters: OLMo.
    #[serde(rename = "olmo")]
    Olmo,
    /// Llama with norms behind attention and feed-forward layers, and of queries and keys: OLMo 2.
    #[serde(rename = "olmo2")]
    Olmo2,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [ModelKind; 12] = [
        ModelKind::RobertaPreLayerNorm,
        ModelKind::Bert,
        ModelKind::Roberta,
        ModelKind::Lstm,
        ModelKind::Gpt2,
        ModelKind::Opt,
        ModelKind::GptNeox,
        ModelKind::Llama,
        ModelKind::Qwen2,
        ModelKind::Mistral,
        ModelKind::Olmo,
        ModelKind::Olmo2,
    ];

    /// `model_type`, what names of tensors of the body and of the head begin with, and the class that reads it.
    fn names(self) -> [&'static str; 4] {
        match self {
            ModelKind::RobertaPreLayerNorm => {
                ["roberta-prelayernorm", "roberta_prelayernorm", "lm_head", "RobertaPreLayerNormForMaskedLM"]
            }
            ModelKind::Bert => ["bert", "bert", "cls.predictions", "BertForMaskedLM"],
            ModelKind::Roberta => ["roberta", "roberta", "lm_head", "RobertaForMaskedLM"],
            ModelKind::Lstm => ["lstm", "rnn", "cls.predictions", "RNNLMHeadModel"],
            ModelKind::Gpt2 => ["gpt2", "transformer", "lm_head", "GPT2LMHeadModel"],
            ModelKind::Opt => ["opt", "model", "lm_head", "OPTForCausalLM"],
            ModelKind::GptNeox => ["gpt_neox", "gpt_neox", "lm_head", "GPTNeoXForCausalLM"],
            ModelKind::Llama => ["llama", "model", "lm_head", "LlamaForCausalLM"],
            ModelKind::Qwen2 => ["qwen2", "model", "lm_head", "Qwen2ForCausalLM"],
            ModelKind::Mistral => ["mistral", "model", "lm_head", "MistralForCausalLM"],
            ModelKind::Olmo => ["olmo", "model", "lm_head", "OlmoForCausalLM"],
            ModelKind::Olmo2 => ["olmo2", "model", "lm_head", "Olmo2ForCausalLM"],
        }
    }

    /// `model_type` of config.json.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// What the names of the body's tensors begin with.
    pub fn prefix(self) -> &'static str {
        self.names()[1]
    }

    /// What the names of the head's tensors begin with.
    pub fn head(self) -> &'static str {
        self.names()[2]
    }

    /// The class that reads it: of `transformers`, or of `scripts/lstm_mlm.py`.
    pub fn architecture(self) -> &'static str {
        self.names()[3]
    }

    /// Whether positions are counted from behind the pad token's id, as RoBERTa's are.
    pub fn counts_from_pad(self) -> bool {
        matches!(self, ModelKind::RobertaPreLayerNorm | ModelKind::Roberta)
    }

    /// Whether a token sees itself and those before it alone, so that each row predicts the token behind it.
    pub fn is_causal(self) -> bool {
        !matches!(self, ModelKind::RobertaPreLayerNorm | ModelKind::Bert | ModelKind::Roberta | ModelKind::Lstm)
    }

    /// The keys of `config.json` and of `[model]`: the name of each in [`ModelConfig`](super::ModelConfig) and that in
    /// the file.
    pub(crate) fn keys(self) -> &'static [(&'static str, &'static str)] {
        self.family().keys(self)
    }

    /// Whether a config has a key of `config.json` and of `[model]`.
    pub fn has_key(self, key: &str) -> bool {
        self.keys().iter().any(|(_, named)| *named == key)
    }
}
