//! The embedding and the head of masked language models, which BERT's kin and LSTMs share.

use super::{Decoder, JsonMap, only};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::kind::ModelKind;
use crate::model::parameters::Initialise;
use crate::model::role::{Norm, Part};
use crate::ops::Table;

/// The sum of words, positions and segments, normalised and dropped out, and the table of words: (x [rows, D], table).
pub(super) fn embed(b: &mut Builder<'_>) -> (TensorId, TensorId) {
    let (config, kind) = (b.config, b.config.kind);
    let e = format!("{}.embeddings", kind.prefix());
    let pad_row = b.pad_row();
    let words = b.table(Table::Words, &format!("{e}.word_embeddings.weight"), config.vocab_size, pad_row);
    let position_init = if kind.counts_from_pad() { pad_row } else { Initialise::Normal };
    let name = format!("{e}.position_embeddings.weight");
    let positions = b.table(Table::Positions, &name, config.max_position_embeddings, position_init);
    let name = format!("{e}.token_type_embeddings.weight");
    let segments = b.table(Table::Segments, &name, config.type_vocab_size, Initialise::Normal);
    let x = b.graph.embedding(words, Some(positions), Some(segments));
    let x = b.norm(x, Norm::Embedding, &format!("{e}.LayerNorm"));
    (b.dropout(x, config.hidden_dropout_prob), words)
}

/// Logits [masked, V] of masked rows: dense, activation, norm, decoder tied to the word table or not, bias. `dense` and
/// `norm` are the names of these two behind the head's own.
pub(super) fn head(b: &mut Builder<'_>, m: TensorId, words: TensorId, [dense, norm]: [&str; 2]) -> TensorId {
    let (config, d, name) = (b.config, b.config.hidden_size, b.config.kind.head());
    let (w, c) = b.dense(Part::HeadDense, &format!("{name}.{dense}"), d, d, true);
    let h = b.graph.linear(m, w, c, None);
    let h = b.graph.activation(config.head_activation(), h);
    let h = b.norm(h, Norm::Head, &format!("{name}.{norm}"));
    match config.tie_word_embeddings {
        true => {
            let bias = b.bias(Part::Decoder, &format!("{name}.bias"), config.vocab_size);
            b.graph.linear(h, words, Some(bias), None)
        }
        false => {
            let (w, c) = b.dense(Part::Decoder, &format!("{name}.decoder"), config.vocab_size, d, true);
            b.graph.linear(h, w, c, None)
        }
    }
}

/// Multiplications and additions of the head for so many masked rows.
pub(super) fn head_flops(d: u64, words: u64, masked: u64) -> u64 {
    2 * masked * (d * d + d * words)
}

/// Refuses decoders and other positions.
pub(super) fn read(given: &JsonMap) -> Result<(), String> {
    for key in ["is_decoder", "add_cross_attention"] {
        if given.get(key).and_then(|v| v.as_bool()) == Some(true) {
            return Err(format!("{key} is true; only encoders are supported"));
        }
    }
    only(given, &[("position_embedding_type", "absolute".into())])
}

/// Says that it is no decoder.
pub(super) fn write(map: &mut JsonMap) {
    map.insert("is_decoder".into(), false.into());
}

/// Names of the table of words and of the decoder.
pub(super) fn decoder(kind: ModelKind) -> Decoder {
    let head = kind.head();
    Decoder {
        table: format!("{}.embeddings.word_embeddings.weight", kind.prefix()),
        weight: format!("{head}.decoder.weight"),
        biases: Some(["decoder.bias", "bias"].map(|end| format!("{head}.{end}"))),
    }
}
