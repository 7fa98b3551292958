//! What all decoders have in common: the embedding, the head, and refusals of what none of them has here.

use super::{Decoder, JsonMap, only};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::ModelConfig;
use crate::model::kind::ModelKind;
use crate::model::parameters::Initialise;
use crate::model::role::Part;
use crate::ops::Table;

/// The vectors of tokens, with those of their positions where there is a table (its name and rows), and the table of
/// words: (x [rows, D], table).
pub(super) fn embed(
    b: &mut Builder<'_>,
    words: &str,
    initialise: Initialise,
    positions: Option<(&str, u32)>,
) -> (TensorId, TensorId) {
    let words = b.table(Table::Words, words, b.config.vocab_size, initialise);
    let positions = positions.map(|(name, rows)| b.table(Table::Positions, name, rows, Initialise::Normal));
    (b.graph.embedding(words, positions, None), words)
}

/// Logits [masked, V] of masked rows: by the table of words, or by a matrix of its own; no bias.
pub(super) fn head(b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
    let (config, name) = (b.config, b.config.kind.head());
    let decoder = match config.tie_word_embeddings {
        true => words,
        false => b.dense(Part::Decoder, name, config.vocab_size, config.hidden_size, false).0,
    };
    b.graph.linear(m, decoder, None, None)
}

/// Multiplications and additions of the head for so many masked rows.
pub(super) fn head_flops(c: &ModelConfig, masked: u64) -> u64 {
    2 * masked * u64::from(c.hidden_size) * u64::from(c.vocab_size)
}

/// Refuses attention to another model's tokens.
pub(super) fn read(given: &JsonMap) -> Result<(), String> {
    only(given, &[("add_cross_attention", false.into()), ("is_encoder_decoder", false.into())])
}

/// Names of the table of words and of the decoder.
pub(super) fn decoder(kind: ModelKind, table: &str) -> Decoder {
    Decoder { table: table.into(), weight: format!("{}.weight", kind.head()), biases: None }
}
