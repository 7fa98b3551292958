//! BERT and its kin, as `transformers` defines them.
//!
//! `roberta-prelayernorm`: x ← x + attention(norm(x)), x ← x + feed-forward(norm(x)), a norm behind the last layer.
//! `bert`, `roberta`: x ← norm(x + attention(x)), x ← norm(x + feed-forward(x)).

use super::{Family, Reach, masked};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, ModelKind, SizeError, WIDEST_HEAD, positive, probability};
use crate::model::parameters::{Axis, Initialise};
use crate::model::role::{Norm, Part};
use crate::ops::Attention;

pub(super) struct Bert;

/// Whether norms stand before attention and feed-forward layers, and one behind the last layer.
fn is_pre_layer_norm(kind: ModelKind) -> bool {
    kind == ModelKind::RobertaPreLayerNorm
}

impl Family for Bert {
    fn own_keys(&self) -> &'static [&'static str] {
        &["num_attention_heads", "intermediate_size", "attention_probs_dropout_prob"]
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

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        positive(("num_attention_heads", c.num_attention_heads))?;
        positive(("intermediate_size", c.intermediate_size))?;
        if !c.hidden_size.is_multiple_of(c.num_attention_heads) {
            return Err(SizeError::Heads { hidden: c.hidden_size, heads: c.num_attention_heads });
        }
        if c.head_size() > WIDEST_HEAD {
            return Err(SizeError::WideHeads(c.head_size()));
        }
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

    fn reach(&self, _: &ModelConfig) -> Reach {
        Reach::Sentence
    }

    fn blocks(&self, _: &ModelConfig) -> usize {
        1
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
    let (d, heads, size) = (b.config.hidden_size, b.config.num_attention_heads, b.config.head_size());
    let p = b.config.attention_probs_dropout_prob as f32;
    let op = Attention { heads, size, p, stream: b.next_stream(), causal: false };
    let wide = heads * op.padded();
    let (matrix, qkv) = b.matrix(&format!("{name}.self.qkv.weight"), 3 * wide, d, true);
    let (bias_matrix, bias) = b.matrix(&format!("{name}.self.qkv.bias"), 1, 3 * wide, false);
    let parts = [(Part::Query, "query"), (Part::Key, "key"), (Part::Value, "value")];
    for (i, (part, called)) in parts.into_iter().enumerate() {
        let heads = Axis::Heads { offset: i as u32 * wide, size };
        let make = |what: &str| format!("{name}.self.{called}.{what}");
        let (weight, bias) = ([heads, Axis::Plain(0)], [Axis::Plain(0), heads]);
        b.parameter(b.role(part, false), make("weight"), &[d, d], Initialise::Normal, weight, matrix);
        b.parameter(b.role(part, true), make("bias"), &[d], Initialise::Zeros, bias, bias_matrix);
    }
    let projected = b.graph.linear(h, qkv, Some(bias), None);
    let o = b.graph.attention(projected, op);
    let weight = format!("{name}.output.dense.weight");
    let (matrix, w) = b.matrix(&weight, d, wide, true);
    let axes = [Axis::Plain(0), Axis::Heads { offset: 0, size }];
    let role = b.role(Part::AttentionOutput, false);
    b.parameter(role, weight, &[d, d], Initialise::Normal, axes, matrix);
    let c = b.bias(Part::AttentionOutput, &format!("{name}.output.dense.bias"), d);
    b.dense_into(o, w, c, residual)
}

fn feed_forward(b: &mut Builder<'_>, h: TensorId, residual: TensorId, layer: &str) -> TensorId {
    let (d, f) = (b.config.hidden_size, b.config.intermediate_size);
    let (w, c) = b.dense(Part::FeedForwardInput, &format!("{layer}.intermediate.dense"), f, d);
    let z = b.graph.linear(h, w, Some(c), None);
    let a = b.graph.activation(b.config.hidden_act.activation(), z);
    let (w, c) = b.dense(Part::FeedForwardOutput, &format!("{layer}.output.dense"), d, f);
    b.dense_into(a, w, c, residual)
}
