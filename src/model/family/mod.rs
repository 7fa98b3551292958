//! What families of architectures have each for themselves. An encoder is an embedding, layers, perhaps a norm behind
//! them, and a head; a family says what these are, how their tensors are called, and which keys it has.

mod bert;
mod causal;
mod gpt2;
mod gpt_neox;
mod heads;
mod llama;
mod lstm;
mod masked;
pub(super) mod opt;
mod rope;

use super::builder::Builder;
use super::config::{ModelConfig, SizeError};
use super::kind::ModelKind;
use super::role::Norm;
use crate::graph::TensorId;

/// Which rows of a sentence one row of the last layer hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    Sentence,
    /// Its own and those before it.
    Past,
}

impl Reach {
    /// One of what such a model predicts, in words.
    pub fn predicted(self) -> &'static str {
        match self {
            Reach::Sentence => "masked word",
            Reach::Past => "predicted token",
        }
    }
}

/// An object of JSON.
pub(crate) type JsonMap = serde_json::Map<String, serde_json::Value>;

/// Names of a decoder's tensors in the file, for what the file may hold once or twice.
pub(super) struct Decoder {
    /// The table of words.
    pub table: String,
    /// The weight of a decoder that is not tied to it.
    pub weight: String,
    /// Its bias where it is not tied and where it is, if it has one.
    pub biases: Option<[String; 2]>,
}

/// A family of architectures.
pub(super) trait Family: Sync {
    /// The keys of `config.json` and of `[model]`: the name of each in [`ModelConfig`] and that in the file.
    fn keys(&self, kind: ModelKind) -> &'static [(&'static str, &'static str)];

    /// What the keys mean that a `config.json` leaves out, under the file's names.
    fn absent(&self, kind: ModelKind) -> serde_json::Value;

    /// Refuses keys of a `config.json` that would make another function of the model, and brings older spellings under
    /// the names of [`keys`](Self::keys).
    fn read(&self, kind: ModelKind, given: &mut JsonMap) -> Result<(), String>;

    /// Adds to a `config.json` what is no key of [`ModelConfig`].
    fn write(&self, config: &ModelConfig, map: &mut JsonMap);

    /// Names of the tensors of the table of words and of the decoder.
    fn decoder(&self, kind: ModelKind) -> Decoder;

    /// What makes the sizes impossible, beside what is so for every family.
    fn check(&self, config: &ModelConfig) -> Result<(), SizeError>;

    /// The sizes beside width and layers, in words.
    fn shape(&self, config: &ModelConfig) -> String;

    /// Rows of the word, position and segment table, 0 for a table that a model does not have.
    fn tables(&self, config: &ModelConfig) -> [u32; 3] {
        [config.vocab_size, config.max_position_embeddings, config.type_vocab_size]
    }

    /// What the first layer reads, and the table of words: (x [rows, D], table [V, D]).
    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId);

    /// Layer number `layer`, x [rows, D] to [rows, D].
    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId;

    /// The norm behind the last layer, where there is one, of masked rows.
    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId;

    /// Logits [masked, V] of masked rows [masked, D]; `words` is the table of words.
    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId;

    /// Numbers of a key's head whose bias changes nothing, since it adds the same to all scores of a query: those that
    /// are neither turned by positions nor normalised.
    fn idle_key_bias(&self, config: &ModelConfig) -> std::ops::Range<u32> {
        0..config.head_size()
    }

    /// The norm in which a layer ends: where there is one, a layer whose other weights are zero normalises its input
    /// once more; where there is none, it gives its input.
    fn closing_norm(&self, _: ModelKind) -> Option<Norm> {
        None
    }

    /// Whether every layer reads the residual stream through norms of its own, so that the stream's scale is free.
    fn reads_normed(&self, _: &ModelConfig) -> bool {
        true
    }

    /// Which rows of a sentence one row of the last layer hangs on.
    fn reach(&self, config: &ModelConfig) -> Reach;

    /// Blocks of the width that belong to units of their own: an axis of D is copied block by block when the model is
    /// widened.
    fn blocks(&self, _: &ModelConfig) -> usize {
        1
    }

    /// Multiplications and additions of a layer's forward pass over so many rows, and pairs of rows of one sentence.
    fn layer_flops(&self, config: &ModelConfig, rows: u64, pairs: u64) -> u64;

    /// The same of the language model's head, for so many masked rows.
    fn head_flops(&self, config: &ModelConfig, masked: u64) -> u64;
}

impl ModelKind {
    /// What this architecture has for itself.
    pub(super) fn family(self) -> &'static dyn Family {
        match self {
            ModelKind::RobertaPreLayerNorm | ModelKind::Bert | ModelKind::Roberta => &bert::Bert,
            ModelKind::Lstm => &lstm::Lstm,
            ModelKind::Gpt2 => &gpt2::Gpt2,
            ModelKind::Opt => &opt::Opt,
            ModelKind::GptNeox => &gpt_neox::GptNeox,
            ModelKind::Llama | ModelKind::Qwen2 | ModelKind::Mistral | ModelKind::Olmo | ModelKind::Olmo2 => {
                &llama::Llama
            }
        }
    }
}

impl ModelConfig {
    /// Which rows of a sentence one row of the last layer hangs on.
    pub fn reach(&self) -> Reach {
        self.kind.family().reach(self)
    }

    /// Numbers of a key's head whose bias changes nothing.
    pub(crate) fn idle_key_bias(&self) -> std::ops::Range<u32> {
        self.kind.family().idle_key_bias(self)
    }
}

/// Refuses keys whose values would make another function: those of `wanted` must have the value there, be null or
/// absent.
pub(super) fn only(given: &JsonMap, wanted: &[(&str, serde_json::Value)]) -> Result<(), String> {
    let other = wanted.iter().find_map(|(key, value)| {
        let has = given.get(*key).filter(|has| !has.is_null() && *has != value)?;
        Some(format!("{key} is {has}; only {value} is supported"))
    });
    other.map_or(Ok(()), Err)
}
