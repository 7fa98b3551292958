//! GPT-NeoX and Pythia, as `transformers` defines them: x ← x + attention(norm(x)) + feed-forward(norm'(x)), or one
//! after the other, a norm behind the last layer; rotary positions of a part of each head. The file has queries, keys
//! and values of a head one behind another.

use super::{Decoder, Family, JsonMap, Reach, causal, heads, rope};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError, positive, probability};
use crate::model::kind::ModelKind;
use crate::model::parameters::{Axis, Initialise};
use crate::model::role::Norm;

pub(super) struct GptNeox;

const WORDS: &str = "gpt_neox.embed_in.weight";

impl Family for GptNeox {
    fn keys(&self, _: ModelKind) -> &'static [(&'static str, &'static str)] {
        &[
            ("vocab_size", "vocab_size"),
            ("hidden_size", "hidden_size"),
            ("num_hidden_layers", "num_hidden_layers"),
            ("num_attention_heads", "num_attention_heads"),
            ("intermediate_size", "intermediate_size"),
            ("hidden_act", "hidden_act"),
            ("hidden_dropout_prob", "hidden_dropout"),
            ("attention_probs_dropout_prob", "attention_dropout"),
            ("max_position_embeddings", "max_position_embeddings"),
            ("initializer_range", "initializer_range"),
            ("layer_norm_eps", "layer_norm_eps"),
            ("use_parallel_residual", "use_parallel_residual"),
            ("attention_bias", "attention_bias"),
            ("rope_theta", "rotary_emb_base"),
            ("partial_rotary_factor", "rotary_pct"),
            ("pad_token_id", "pad_token_id"),
            ("tie_word_embeddings", "tie_word_embeddings"),
        ]
    }

    fn absent(&self, _: ModelKind) -> serde_json::Value {
        serde_json::json!({
            "vocab_size": 50432, "hidden_size": 6144, "num_hidden_layers": 44, "num_attention_heads": 64,
            "intermediate_size": 24576, "hidden_act": "gelu", "hidden_dropout": 0.0, "attention_dropout": 0.0,
            "max_position_embeddings": 2048, "initializer_range": 0.02, "layer_norm_eps": 1e-5,
            "use_parallel_residual": true, "attention_bias": true, "rotary_emb_base": 10000.0, "rotary_pct": 0.25,
            "pad_token_id": null, "tie_word_embeddings": false,
        })
    }

    fn read(&self, _: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        causal::read(given)?;
        rope::read(given, "rotary_emb_base", Some("rotary_pct"))
    }

    fn write(&self, c: &ModelConfig, map: &mut JsonMap) {
        rope::write(c, map, true);
    }

    fn decoder(&self, kind: ModelKind) -> Decoder {
        causal::decoder(kind, WORDS)
    }

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        heads::check(c)?;
        rope::check(c)?;
        positive(("intermediate_size", c.intermediate_size))?;
        probability("attention_dropout", c.attention_probs_dropout_prob)
    }

    fn shape(&self, c: &ModelConfig) -> String {
        format!("{} heads, feed-forward {}", c.num_attention_heads, c.intermediate_size)
    }

    fn tables(&self, c: &ModelConfig) -> [u32; 3] {
        [c.vocab_size, 0, 0]
    }

    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId) {
        let (x, words) = causal::embed(b, WORDS, Initialise::Normal, None);
        (b.dropout(x, b.config.hidden_dropout_prob), words)
    }

    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId {
        let name = format!("gpt_neox.layers.{layer}");
        let (heads, size, bias) = (b.config.num_attention_heads, b.config.head_size(), b.config.attention_bias);
        let h = b.norm(x, Norm::Attention, &format!("{name}.input_layernorm"));
        let op = heads::attention(b, true);
        let axis = Axis::Interleaved { heads, size };
        let qkv = heads::fused(b, h, &format!("{name}.attention.query_key_value"), axis, false, bias);
        let turned = rope::turn(b, qkv);
        let o = b.graph.attention(turned, op);
        let (w, c) = heads::output(b, &format!("{name}.attention.dense"), bias);
        let y = b.dense_into(o, w, c, x);
        let from = if b.config.use_parallel_residual { x } else { y };
        let h = b.norm(from, Norm::FeedForward, &format!("{name}.post_attention_layernorm"));
        let names = ["dense_h_to_4h", "dense_4h_to_h"].map(|end| format!("{name}.mlp.{end}"));
        heads::feed_forward(b, h, y, names, true)
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        b.norm(x, Norm::Final, "gpt_neox.final_layer_norm")
    }

    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
        causal::head(b, m, words)
    }

    fn idle_key_bias(&self, c: &ModelConfig) -> std::ops::Range<u32> {
        rope::still(c)
    }

    fn reach(&self, _: &ModelConfig) -> Reach {
        Reach::Past
    }

    fn layer_flops(&self, c: &ModelConfig, rows: u64, pairs: u64) -> u64 {
        heads::layer_flops(c, 2, rows, pairs)
    }

    fn head_flops(&self, c: &ModelConfig, masked: u64) -> u64 {
        causal::head_flops(c, masked)
    }
}
