//! `[model]`: the sizes of a model with their defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::load::ConfigError;
use crate::model::{HiddenAct, ModelConfig, ModelKind};

/// The model's sizes, under the names that Hugging Face's config of the type has for them. Keys that a type does not
/// have are `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Encoders: "roberta-prelayernorm" (pre-layer-norm, as in the paper), "bert" or "roberta" (post-layer-norm), or
    /// "lstm" (layers of an LSTM, as for the paper's hidden Markov data). Decoders, which see a token and those before
    /// it: "gpt2", "opt", "gpt_neox" (Pythia), "llama", "qwen2", "mistral", "olmo", "olmo2".
    #[serde(rename = "type", default)]
    pub kind: ModelKind,
    /// Width of the model, D; "gpt2" calls it n_embd. Left out: 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_size: Option<u32>,
    /// Number of layers; "gpt2" calls it n_layer. Left out: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_hidden_layers: Option<u32>,
    /// Attention heads; divides hidden_size. Of transformers; "gpt2" calls it n_head. Left out: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_attention_heads: Option<u32>,
    /// Width of the feed-forward layers, F. Of transformers; "gpt2" calls it n_inner, "opt" ffn_dim. Left out: 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<u32>,
    /// Whether an LSTM reads in both directions, with half of hidden_size each, or from the first word on with all of
    /// it. Of "lstm". Left out: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bidirectional: Option<bool>,
    /// Activation of the feed-forward layers (of "bert" that of the head too, of "lstm" that of the head): "gelu" (the
    /// exact one), "gelu_new" (by tanh), "relu", "silu", or another name that transformers has for one of these. "gpt2"
    /// and "opt" call it activation_function. Left out: "gelu"; "silu" of "llama" and its kin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_act: Option<HiddenAct>,
    /// Dropout behind the embedding, and behind attention and feed-forward layers. Of encoders; "gpt_neox" calls it
    /// hidden_dropout, "opt" dropout. Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_dropout_prob: Option<f64>,
    /// Dropout of attention weights. Of encoders that are transformers; decoders call it attention_dropout. Left out:
    /// 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_probs_dropout_prob: Option<f64>,
    /// Positions; "gpt2" calls it n_positions. Left out: as many as the language's longest sentence needs.
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
    /// Segments; sentences of a language use the first. Of encoders. Left out: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_vocab_size: Option<u32>,
    /// Standard deviation of initial weights; "opt" calls it init_std. Left out: 0.02.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initializer_range: Option<f64>,
    /// Initial weights and biases of an LSTM lie between this number and its negative, uniformly. Of "lstm". Left out:
    /// one over the square root of its units in a direction, torch's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lstm_initializer_range: Option<f64>,
    /// ε of layer norm. Of encoders and "gpt_neox". Left out: 1e-12; 1e-5 of "gpt_neox".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_norm_eps: Option<f64>,
    /// Width D. Of "gpt2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_embd: Option<u32>,
    /// Number of layers. Of "gpt2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_layer: Option<u32>,
    /// Attention heads; divides n_embd. Of "gpt2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_head: Option<u32>,
    /// Width of the feed-forward layers. Of "gpt2". Left out: 4 n_embd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_inner: Option<u32>,
    /// Positions. Of "gpt2". Left out: as many as the language's longest sentence needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_positions: Option<u32>,
    /// Width of the feed-forward layers. Of "opt". Left out: 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffn_dim: Option<u32>,
    /// Activation of the feed-forward layers, as hidden_act. Of "gpt2" (left out: "gelu_new") and "opt" ("relu").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_function: Option<HiddenAct>,
    /// Dropout behind the embedding. Of "gpt2". Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embd_pdrop: Option<f64>,
    /// Dropout behind attention and feed-forward layers. Of "gpt2". Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resid_pdrop: Option<f64>,
    /// Dropout of attention weights. Of "gpt2". Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attn_pdrop: Option<f64>,
    /// Dropout behind attention and feed-forward layers. Of "opt". Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Dropout behind the embedding, and behind attention and feed-forward layers. Of "gpt_neox". Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_dropout: Option<f64>,
    /// Dropout of attention weights. Of decoders but "gpt2". Left out: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_dropout: Option<f64>,
    /// Standard deviation of initial weights. Of "opt". Left out: 0.02.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_std: Option<f64>,
    /// ε of layer norm. Of "gpt2". Left out: 1e-5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_norm_epsilon: Option<f64>,
    /// ε of RMSNorm. Of "llama", "qwen2", "mistral" (left out: 1e-6) and "olmo2" (1e-5).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rms_norm_eps: Option<f64>,
    /// Heads of keys and of values, each for a group of heads of queries; divides num_attention_heads. Of "llama" and
    /// its kin. Left out: as many as heads of queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<u32>,
    /// Width of a head. Of "llama" and its kin. Left out: hidden_size over num_attention_heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u32>,
    /// Base of the wavelengths of rotary positions. Of "llama" and its kin. Left out: 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// The same. Of "gpt_neox".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_emb_base: Option<f64>,
    /// Share of each head that turns with its position. Of "gpt_neox". Left out: 0.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_pct: Option<f64>,
    /// Whether attention and feed-forward layer stand beside one another. Of "gpt_neox". Left out: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_parallel_residual: Option<bool>,
    /// Whether linear layers have biases. Of "opt". Left out: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_bias: Option<bool>,
    /// Whether layer norms have scale and shift. Of "opt". Left out: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_norm_elementwise_affine: Option<bool>,
    /// Whether attention has biases. Of "gpt_neox" (left out: true), "llama", "olmo" and "olmo2" (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_bias: Option<bool>,
    /// Whether feed-forward layers have biases. Of "llama". Left out: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp_bias: Option<bool>,
    /// Whether the decoder is the word table. Of decoders; encoders are trained so. Left out: true of "gpt2" and "opt",
    /// false of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tie_word_embeddings: Option<bool>,
}

impl Default for ModelSection {
    fn default() -> Self {
        let mut section: ModelSection =
            serde_json::from_value(serde_json::json!({})).expect("every key can be left out");
        section.complete();
        section
    }
}

/// Keys that follow from others or from the language where they are left out.
const OPEN: [&str; 8] = [
    "vocab_size",
    "max_position_embeddings",
    "n_positions",
    "n_inner",
    "num_key_value_heads",
    "head_dim",
    "lstm_initializer_range",
    "pad_token_id",
];

/// Keys of a `config.json` that models that are trained here have as they are left out.
const FIXED: [&str; 2] = ["pad_token_id", "do_layer_norm_before"];

/// Whether a section may have a key of a type's `config.json`.
fn is_key(kind: ModelKind, key: &str) -> bool {
    kind.has_key(key) && !FIXED.contains(&key) && (kind.is_causal() || key != "tie_word_embeddings")
}

impl ModelSection {
    /// The keys that are set.
    fn keys(&self) -> serde_json::Map<String, serde_json::Value> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(map)) => map,
            other => unreachable!("a struct of numbers and strings is an object, not {other:?}"),
        }
    }

    /// Fills in what is left out of the keys that the type has, so that a config that says a default and one that
    /// leaves it out are the same.
    pub(super) fn complete(&mut self) {
        let (kind, small) = (self.kind, ModelConfig::small(self.kind).named());
        let mut keys = self.keys();
        for (key, value) in small.into_iter().filter(|(key, _)| is_key(kind, key) && !OPEN.contains(&key.as_str())) {
            keys.entry(key).or_insert(value);
        }
        *self = serde_json::from_value(keys.into()).expect("keys of a section");
        if !kind.is_causal() && self.hidden_act == Some(HiddenAct::Gelu) {
            // Left out of what is written, so that configs from before there was a choice keep their hash.
            self.hidden_act = None;
        }
    }

    /// A key that the type does not have, and what it calls it where it has it under another name.
    pub(super) fn foreign_key(&self) -> Option<(String, Option<&'static str>)> {
        let of_section = ["type", "vocab_multiple_of"];
        let key = self
            .keys()
            .into_iter()
            .map(|(key, _)| key)
            .find(|k| !of_section.contains(&&**k) && !is_key(self.kind, k))?;
        let renamed = self.kind.keys().iter().find(|(common, own)| *common == key && *own != key);
        Some((key, renamed.map(|(_, own)| *own)))
    }

    /// Width D.
    pub fn width(&self) -> u32 {
        self.hidden_size.or(self.n_embd).unwrap_or_default()
    }

    /// Number of layers.
    pub fn layers(&self) -> u32 {
        self.num_hidden_layers.or(self.n_layer).unwrap_or_default()
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

    /// The model for a vocabulary of `tokens` (special ones included) and sentences of up to `longest` tokens.
    pub fn model_config(&self, tokens: u32, longest: u32) -> ModelConfig {
        self.model_config_padding(tokens, longest, |own| own)
    }

    /// The same with another id of padding than that which the type has.
    pub(crate) fn model_config_padding(
        &self,
        tokens: u32,
        longest: u32,
        pad: impl Fn(Option<u32>) -> Option<u32>,
    ) -> ModelConfig {
        let mut keys = ModelConfig::small(self.kind).named();
        keys.extend(self.keys().into_iter().filter(|(key, _)| is_key(self.kind, key)));
        let mut config = ModelConfig::of_named(self.kind, &keys).expect("keys of a section");
        if self.kind.has_key("n_inner") && self.n_inner.is_none() {
            config.intermediate_size = config.hidden_size.saturating_mul(4);
        }
        config.vocab_size = self.vocabulary_rows(tokens);
        config.pad_token_id = pad(config.pad_token_id);
        let positions = self.max_position_embeddings.or(self.n_positions);
        config.max_position_embeddings = positions.unwrap_or_else(|| config.positions_for(longest));
        config
    }
}
