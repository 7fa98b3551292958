//! OPT, as `transformers` defines it: x ← x + attention(norm(x)), x ← x + feed-forward(norm(x)), a norm behind the last
//! layer; learned positions, of which the first two rows are never used.

use super::{Decoder, Family, JsonMap, Reach, causal, heads, only};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, OPT_OFFSET, SizeError, positive, probability};
use crate::model::kind::ModelKind;
use crate::model::role::Norm;
use crate::ops::{Affine, LayerNorm};

pub(super) struct Opt;

const WORDS: &str = "model.decoder.embed_tokens.weight";
/// That of `torch.nn.LayerNorm`.
const EPS: f64 = 1e-5;

impl Family for Opt {
    fn keys(&self, _: ModelKind) -> &'static [(&'static str, &'static str)] {
        &[
            ("vocab_size", "vocab_size"),
            ("hidden_size", "hidden_size"),
            ("num_hidden_layers", "num_hidden_layers"),
            ("num_attention_heads", "num_attention_heads"),
            ("intermediate_size", "ffn_dim"),
            ("hidden_act", "activation_function"),
            ("hidden_dropout_prob", "dropout"),
            ("attention_probs_dropout_prob", "attention_dropout"),
            ("max_position_embeddings", "max_position_embeddings"),
            ("initializer_range", "init_std"),
            ("attention_bias", "enable_bias"),
            ("norm_affine", "layer_norm_elementwise_affine"),
            ("pad_token_id", "pad_token_id"),
            ("tie_word_embeddings", "tie_word_embeddings"),
        ]
    }

    fn absent(&self, _: ModelKind) -> serde_json::Value {
        serde_json::json!({
            "vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "ffn_dim": 3072, "activation_function": "relu", "dropout": 0.1, "attention_dropout": 0.0,
            "max_position_embeddings": 2048, "init_std": 0.02, "enable_bias": true,
            "layer_norm_elementwise_affine": true, "pad_token_id": 1, "tie_word_embeddings": true,
        })
    }

    fn read(&self, _: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        causal::read(given)?;
        only(given, &[("do_layer_norm_before", true.into()), ("_remove_final_layer_norm", false.into())])?;
        let width = given.get("hidden_size").cloned().unwrap_or_else(|| 768.into());
        only(given, &[("word_embed_proj_dim", width)])
    }

    fn write(&self, _: &ModelConfig, _: &mut JsonMap) {}

    fn decoder(&self, kind: ModelKind) -> Decoder {
        causal::decoder(kind, WORDS)
    }

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        heads::check(c)?;
        positive(("ffn_dim", c.intermediate_size))?;
        probability("attention_dropout", c.attention_probs_dropout_prob)
    }

    fn shape(&self, c: &ModelConfig) -> String {
        format!("{} heads, feed-forward {}", c.num_attention_heads, c.intermediate_size)
    }

    fn tables(&self, c: &ModelConfig) -> [u32; 3] {
        [c.vocab_size, c.max_position_embeddings + OPT_OFFSET, 0]
    }

    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId) {
        let rows = b.config.max_position_embeddings + OPT_OFFSET;
        let pad = b.pad_row();
        causal::embed(b, WORDS, pad, Some(("model.decoder.embed_positions.weight", rows)))
    }

    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId {
        let name = format!("model.decoder.layers.{layer}");
        let bias = b.config.attention_bias;
        let h = norm(b, x, Norm::Attention, &format!("{name}.self_attn_layer_norm"));
        let op = heads::attention(b, true);
        let names = ["q_proj", "k_proj", "v_proj"].map(|end| format!("{name}.self_attn.{end}"));
        let qkv = heads::side_by_side(b, h, &format!("{name}.self_attn.qkv"), names, bias);
        let o = b.graph.attention(qkv, op);
        let (w, c) = heads::output(b, &format!("{name}.self_attn.out_proj"), bias);
        let x = b.dense_into(o, w, c, x);
        let h = norm(b, x, Norm::FeedForward, &format!("{name}.final_layer_norm"));
        heads::feed_forward(b, h, x, ["fc1", "fc2"].map(|end| format!("{name}.{end}")), bias)
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        norm(b, x, Norm::Final, "model.decoder.final_layer_norm")
    }

    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
        causal::head(b, m, words)
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

/// Layer norm with scale and shift, or with neither.
fn norm(b: &mut Builder<'_>, x: TensorId, norm: Norm, name: &str) -> TensorId {
    let affine = if b.config.norm_affine { Affine::SCALE_AND_SHIFT } else { Affine::None };
    b.normalise(x, LayerNorm::new(EPS, affine), norm, name)
}
