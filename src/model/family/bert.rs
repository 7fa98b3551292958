//! BERT and its kin, as `transformers` defines them.
//!
//! `roberta-prelayernorm`: x ← x + attention(norm(x)), x ← x + feed-forward(norm(x)), a norm behind the last layer.
//! `bert`, `roberta`: x ← norm(x + attention(x)), x ← norm(x + feed-forward(x)).

use super::{Decoder, Family, JsonMap, Reach, heads, masked};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError, positive, probability};
use crate::model::kind::ModelKind;
use crate::model::role::Norm;

pub(super) struct Bert;

/// Whether norms stand before attention and feed-forward layers, and one behind the last layer.
fn is_pre_layer_norm(kind: ModelKind) -> bool {
    kind == ModelKind::RobertaPreLayerNorm
}

impl Family for Bert {
    fn keys(&self, _: ModelKind) -> &'static [(&'static str, &'static str)] {
        &[
            ("vocab_size", "vocab_size"),
            ("hidden_size", "hidden_size"),
            ("num_hidden_layers", "num_hidden_layers"),
            ("num_attention_heads", "num_attention_heads"),
            ("intermediate_size", "intermediate_size"),
            ("hidden_act", "hidden_act"),
            ("hidden_dropout_prob", "hidden_dropout_prob"),
            ("attention_probs_dropout_prob", "attention_probs_dropout_prob"),
            ("max_position_embeddings", "max_position_embeddings"),
            ("type_vocab_size", "type_vocab_size"),
            ("initializer_range", "initializer_range"),
            ("layer_norm_eps", "layer_norm_eps"),
            ("pad_token_id", "pad_token_id"),
            ("tie_word_embeddings", "tie_word_embeddings"),
        ]
    }

    fn absent(&self, kind: ModelKind) -> serde_json::Value {
        let (words, pad) = if kind == ModelKind::Bert { (30522, 0) } else { (50265, 1) };
        serde_json::json!({
            "vocab_size": words, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
            "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": pad, "tie_word_embeddings": true,
        })
    }

    fn read(&self, _: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        masked::read(given)
    }

    fn write(&self, _: &ModelConfig, map: &mut JsonMap) {
        masked::write(map);
    }

    fn decoder(&self, kind: ModelKind) -> Decoder {
        masked::decoder(kind)
    }

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        positive(("intermediate_size", c.intermediate_size))?;
        heads::check(c)?;
        probability("attention_probs_dropout_prob", c.attention_probs_dropout_prob)
    }

    fn shape(&self, c: &ModelConfig) -> String {
        format!("{} heads, feed-forward {}", c.num_attention_heads, c.intermediate_size)
    }

    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId) {
        masked::embed(b)
    }

    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId {
        let name = &format!("{}.encoder.layer.{layer}", b.config.kind.prefix());
        match is_pre_layer_norm(b.config.kind) {
            true => {
                let h = b.norm(x, Norm::Attention, &format!("{name}.attention.LayerNorm"));
                let x = attention(b, h, x, &format!("{name}.attention"));
                let h = b.norm(x, Norm::FeedForward, &format!("{name}.intermediate.LayerNorm"));
                feed_forward(b, h, x, name)
            }
            false => {
                let h = attention(b, x, x, &format!("{name}.attention"));
                let x = b.norm(h, Norm::Attention, &format!("{name}.attention.output.LayerNorm"));
                let h = feed_forward(b, x, x, name);
                b.norm(h, Norm::FeedForward, &format!("{name}.output.LayerNorm"))
            }
        }
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        match is_pre_layer_norm(b.config.kind) {
            true => b.norm(x, Norm::Final, &format!("{}.LayerNorm", b.config.kind.prefix())),
            false => x,
        }
    }

    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
        let names = match b.config.kind {
            ModelKind::Bert => ["transform.dense", "transform.LayerNorm"],
            _ => ["dense", "layer_norm"],
        };
        masked::head(b, m, words, names)
    }

    fn closing_norm(&self, kind: ModelKind) -> Option<Norm> {
        (!is_pre_layer_norm(kind)).then_some(Norm::FeedForward)
    }

    fn reads_normed(&self, c: &ModelConfig) -> bool {
        is_pre_layer_norm(c.kind)
    }

    fn reach(&self, _: &ModelConfig) -> Reach {
        Reach::Sentence
    }

    fn layer_flops(&self, c: &ModelConfig, rows: u64, pairs: u64) -> u64 {
        let (d, f) = (u64::from(c.hidden_size), u64::from(c.intermediate_size));
        2 * rows * (4 * d * d + 2 * d * f) + 4 * pairs * d
    }

    fn head_flops(&self, c: &ModelConfig, masked: u64) -> u64 {
        masked::head_flops(c.hidden_size.into(), c.vocab_size.into(), masked)
    }
}

/// Queries, keys and values share one matrix.
fn attention(b: &mut Builder<'_>, h: TensorId, residual: TensorId, name: &str) -> TensorId {
    let op = heads::attention(b, false);
    let names = ["query", "key", "value"].map(|called| format!("{name}.self.{called}"));
    let qkv = heads::side_by_side(b, h, &format!("{name}.self.qkv"), names, true);
    let o = b.graph.attention(qkv, op);
    let (w, c) = heads::output(b, &format!("{name}.output.dense"), true);
    b.dense_into(o, w, c, residual)
}

fn feed_forward(b: &mut Builder<'_>, h: TensorId, residual: TensorId, layer: &str) -> TensorId {
    let names = ["intermediate.dense", "output.dense"].map(|end| format!("{layer}.{end}"));
    heads::feed_forward(b, h, residual, names, true)
}
