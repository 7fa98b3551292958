//! GPT-2, as `transformers` defines it: x ← x + attention(norm(x)), x ← x + feed-forward(norm(x)), a norm behind the
//! last layer; learned positions. Weights of layers lie in the file as [in, out].

use super::{Decoder, Family, JsonMap, Reach, causal, heads, only};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError, positive, probability};
use crate::model::kind::ModelKind;
use crate::model::parameters::{Axis, Initialise};
use crate::model::role::{Norm, Part};

pub(super) struct Gpt2;

const WORDS: &str = "transformer.wte.weight";

impl Family for Gpt2 {
    fn keys(&self, _: ModelKind) -> &'static [(&'static str, &'static str)] {
        &[
            ("vocab_size", "vocab_size"),
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("intermediate_size", "n_inner"),
            ("hidden_act", "activation_function"),
            ("hidden_dropout_prob", "resid_pdrop"),
            ("embedding_dropout_prob", "embd_pdrop"),
            ("attention_probs_dropout_prob", "attn_pdrop"),
            ("max_position_embeddings", "n_positions"),
            ("initializer_range", "initializer_range"),
            ("layer_norm_eps", "layer_norm_epsilon"),
            ("pad_token_id", "pad_token_id"),
            ("tie_word_embeddings", "tie_word_embeddings"),
        ]
    }

    fn absent(&self, _: ModelKind) -> serde_json::Value {
        serde_json::json!({
            "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "activation_function": "gelu_new",
            "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "n_positions": 1024, "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-5, "pad_token_id": null, "tie_word_embeddings": true,
        })
    }

    /// `transformers` takes the common names of sizes too.
    fn read(&self, _: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        causal::read(given)?;
        let attention = [("scale_attn_weights", true.into()), ("scale_attn_by_inverse_layer_idx", false.into())];
        only(given, &attention)?;
        for (common, own) in [
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("max_position_embeddings", "n_positions"),
        ] {
            if let Some(value) = given.remove(common) {
                given.entry(own).or_insert(value);
            }
        }
        if given.get("n_inner").is_none_or(|inner| inner.is_null()) {
            let width = given.get("n_embd").and_then(serde_json::Value::as_u64).unwrap_or(768);
            given.insert("n_inner".into(), (4 * width).into());
        }
        Ok(())
    }

    fn write(&self, _: &ModelConfig, _: &mut JsonMap) {}

    fn decoder(&self, kind: ModelKind) -> Decoder {
        causal::decoder(kind, WORDS)
    }

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        heads::check(c)?;
        positive(("n_inner", c.intermediate_size))?;
        probability("embd_pdrop", c.embedding_dropout_prob)?;
        probability("attn_pdrop", c.attention_probs_dropout_prob)
    }

    fn shape(&self, c: &ModelConfig) -> String {
        format!("{} heads, feed-forward {}", c.num_attention_heads, c.intermediate_size)
    }

    fn tables(&self, c: &ModelConfig) -> [u32; 3] {
        [c.vocab_size, c.max_position_embeddings, 0]
    }

    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId) {
        let positions = ("transformer.wpe.weight", b.config.max_position_embeddings);
        let (x, words) = causal::embed(b, WORDS, Initialise::Normal, Some(positions));
        (b.dropout(x, b.config.embedding_dropout_prob), words)
    }

    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId {
        let name = format!("transformer.h.{layer}");
        let (d, f, size) = (b.config.hidden_size, b.config.intermediate_size, b.config.head_size());
        // Two sums a layer go into the residual.
        let narrow = Initialise::NormalTimes((2.0 * f64::from(b.config.num_hidden_layers)).powf(-0.5));
        let h = b.norm(x, Norm::Attention, &format!("{name}.ln_1"));
        let op = heads::attention(b, true);
        let qkv = heads::fused(b, h, &format!("{name}.attn.c_attn"), Axis::Heads { offset: 0, size }, true, true);
        let o = b.graph.attention(qkv, op);
        let (w, c) = heads::output_as(b, &format!("{name}.attn.c_proj"), true, narrow, true);
        let x = b.dense_into(o, w, c, x);
        let h = b.norm(x, Norm::FeedForward, &format!("{name}.ln_2"));
        let (w, c) = b.transposed(Part::FeedForwardInput, &format!("{name}.mlp.c_fc"), f, d, Initialise::Normal);
        let z = b.graph.linear(h, w, Some(c), None);
        let a = b.graph.activation(b.config.hidden_act.activation(), z);
        let (w, c) = b.transposed(Part::FeedForwardOutput, &format!("{name}.mlp.c_proj"), d, f, narrow);
        b.dense_into(a, w, Some(c), x)
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        b.norm(x, Norm::Final, "transformer.ln_f")
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
