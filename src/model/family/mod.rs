//! What families of architectures have each for themselves. An encoder is an embedding, layers, perhaps a norm behind
//! them, and a head; a family says what these are, how their tensors are called, and which keys it has.

mod bert;
mod lstm;
mod masked;

use super::builder::Builder;
use super::config::{ModelConfig, ModelKind, SizeError};
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

/// A family of architectures.
pub(super) trait Family: Sync {
    /// The keys of `config.json` and of `[model]` that other families lack.
    fn own_keys(&self) -> &'static [&'static str];

    /// What the keys mean that a `config.json` leaves out.
    fn absent(&self, kind: ModelKind) -> serde_json::Value;

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

    /// The norm in which a layer ends: where there is one, a layer whose other weights are zero normalises its input
    /// once more; where there is none, it gives its input.
    fn closing_norm(&self, kind: ModelKind) -> Option<Norm>;

    /// Which rows of a sentence one row of the last layer hangs on.
    fn reach(&self, config: &ModelConfig) -> Reach;

    /// Blocks of the width that belong to units of their own: an axis of D is copied block by block when the model is
    /// widened.
    fn blocks(&self, config: &ModelConfig) -> usize;

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
        }
    }
}

impl ModelConfig {
    /// Which rows of a sentence one row of the last layer hangs on.
    pub fn reach(&self) -> Reach {
        self.kind.family().reach(self)
    }
}
