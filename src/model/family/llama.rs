//! Llama and what differs from it by keys, as `transformers` defines them: x ← x + attention(norm(x)), x ← x +
//! feed-forward(norm(x)), a norm behind the last layer; rotary positions, keys and values of groups of heads, gated
//! feed-forward layers W₃ (f(W₁ h) ⊙ W₂ h).
//!
//! `qwen2` has biases on queries, keys and values, `mistral` none; `olmo` layer norm without parameters; `olmo2`
//! normalises what attention and feed-forward layers give in place of what they read, and queries and keys.

use serde_json::json;

use super::{Decoder, Family, JsonMap, Reach, causal, heads, rope};
use crate::graph::{Emit, TensorId};
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError, positive, probability};
use crate::model::kind::ModelKind;
use crate::model::role::{Norm, Part};
use crate::ops::{Affine, LayerNorm, PlaceHeads};

pub(super) struct Llama;

const WORDS: &str = "model.embed_tokens.weight";
/// OLMo's, which is no key.
const OLMO_EPS: f64 = 1e-5;

/// So ordered that the keys of each type lie beside one another.
const KEYS: &[(&str, &str)] = &[
    ("mlp_bias", "mlp_bias"),
    ("attention_bias", "attention_bias"),
    ("vocab_size", "vocab_size"),
    ("hidden_size", "hidden_size"),
    ("num_hidden_layers", "num_hidden_layers"),
    ("num_attention_heads", "num_attention_heads"),
    ("num_key_value_heads", "num_key_value_heads"),
    ("head_dim", "head_dim"),
    ("intermediate_size", "intermediate_size"),
    ("hidden_act", "hidden_act"),
    ("attention_probs_dropout_prob", "attention_dropout"),
    ("max_position_embeddings", "max_position_embeddings"),
    ("initializer_range", "initializer_range"),
    ("rope_theta", "rope_theta"),
    ("pad_token_id", "pad_token_id"),
    ("tie_word_embeddings", "tie_word_embeddings"),
    ("layer_norm_eps", "rms_norm_eps"),
];

/// Whether norms stand behind attention and feed-forward layers.
fn is_post_norm(kind: ModelKind) -> bool {
    kind == ModelKind::Olmo2
}

impl Family for Llama {
    fn keys(&self, kind: ModelKind) -> &'static [(&'static str, &'static str)] {
        match kind {
            ModelKind::Qwen2 | ModelKind::Mistral => &KEYS[2..],
            ModelKind::Olmo => &KEYS[1..KEYS.len() - 1],
            ModelKind::Olmo2 => &KEYS[1..],
            _ => KEYS,
        }
    }

    fn absent(&self, kind: ModelKind) -> serde_json::Value {
        let mut all = json!({
            "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": null, "head_dim": null, "intermediate_size": 11008, "hidden_act": "silu",
            "attention_dropout": 0.0, "max_position_embeddings": 2048, "initializer_range": 0.02, "rope_theta": 10000.0,
            "pad_token_id": null, "tie_word_embeddings": false,
        });
        let own = match kind {
            ModelKind::Qwen2 => json!({
                "vocab_size": 151_936, "intermediate_size": 22016, "max_position_embeddings": 32768,
                "num_key_value_heads": 32, "rms_norm_eps": 1e-6,
            }),
            ModelKind::Mistral => json!({
                "intermediate_size": 14336, "max_position_embeddings": 131_072, "num_key_value_heads": 8,
                "rms_norm_eps": 1e-6,
            }),
            ModelKind::Olmo => json!({ "vocab_size": 50304, "pad_token_id": 1, "attention_bias": false }),
            ModelKind::Olmo2 => json!({
                "vocab_size": 50304, "pad_token_id": 1, "attention_bias": false, "rms_norm_eps": 1e-5,
            }),
            _ => json!({ "attention_bias": false, "mlp_bias": false, "rms_norm_eps": 1e-6 }),
        };
        if let (Some(all), serde_json::Value::Object(own)) = (all.as_object_mut(), own) {
            all.extend(own);
        }
        all
    }

    fn read(&self, kind: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        causal::read(given)?;
        rope::read(given, "rope_theta", None)?;
        let number = |key: &str| given.get(key).filter(|value| !value.is_null()).and_then(serde_json::Value::as_u64);
        let window = match kind {
            ModelKind::Mistral if !given.contains_key("sliding_window") => Some(4096),
            ModelKind::Mistral => number("sliding_window"),
            ModelKind::Qwen2 if given.get("use_sliding_window") == Some(&json!(true)) => {
                Some(number("sliding_window").unwrap_or(4096))
            }
            _ => None,
        };
        let longest = number("max_position_embeddings")
            .or_else(|| self.absent(kind)["max_position_embeddings"].as_u64())
            .unwrap_or_default();
        if let Some(window) = window.filter(|window| *window < longest) {
            return Err(format!(
                "sliding_window is {window}, and max_position_embeddings {longest}; only attention to all earlier \
                 tokens is supported (null, or at least {longest})"
            ));
        }
        if kind == ModelKind::Olmo && given.get("clip_qkv").is_some_and(|clip| !clip.is_null()) {
            return Err(format!("clip_qkv is {}; only null is supported", given["clip_qkv"]));
        }
        Ok(())
    }

    fn write(&self, c: &ModelConfig, map: &mut JsonMap) {
        map.insert("num_key_value_heads".into(), c.groups().into());
        rope::write(c, map, false);
        if c.kind == ModelKind::Mistral {
            map.insert("sliding_window".into(), serde_json::Value::Null);
        }
    }

    fn decoder(&self, kind: ModelKind) -> Decoder {
        causal::decoder(kind, WORDS)
    }

    fn check(&self, c: &ModelConfig) -> Result<(), SizeError> {
        heads::check(c)?;
        positive(("num_key_value_heads", c.groups()))?;
        let (heads, groups) = (c.num_attention_heads, c.groups());
        if !heads.is_multiple_of(groups) {
            return Err(SizeError::Groups { heads, groups });
        }
        rope::check(c)?;
        positive(("intermediate_size", c.intermediate_size))?;
        probability("attention_dropout", c.attention_probs_dropout_prob)
    }

    fn shape(&self, c: &ModelConfig) -> String {
        let (heads, groups, inner) = (c.num_attention_heads, c.groups(), c.intermediate_size);
        match heads == groups {
            true => format!("{heads} heads, feed-forward {inner}"),
            false => format!("{heads} heads in {groups} groups, feed-forward {inner}"),
        }
    }

    fn tables(&self, c: &ModelConfig) -> [u32; 3] {
        [c.vocab_size, 0, 0]
    }

    fn embed(&self, b: &mut Builder<'_>) -> (TensorId, TensorId) {
        let pad = b.pad_row();
        causal::embed(b, WORDS, pad, None)
    }

    fn layer(&self, b: &mut Builder<'_>, x: TensorId, layer: u32) -> TensorId {
        let name = format!("model.layers.{layer}");
        let [before, between, behind] = ["input_layernorm", "post_attention_layernorm", "post_feedforward_layernorm"]
            .map(|n| format!("{name}.{n}"));
        if is_post_norm(b.config.kind) {
            let y = attention(b, x, &format!("{name}.self_attn"), None);
            let y = norm(b, y, Norm::Attention, &between);
            let x = b.graph.add(x, y);
            let y = feed_forward(b, x, &format!("{name}.mlp"), None);
            let y = norm(b, y, Norm::FeedForward, &behind);
            return b.graph.add(x, y);
        }
        let h = norm(b, x, Norm::Attention, &before);
        let x = attention(b, h, &format!("{name}.self_attn"), Some(x));
        let h = norm(b, x, Norm::FeedForward, &between);
        feed_forward(b, h, &format!("{name}.mlp"), Some(x))
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        norm(b, x, Norm::Final, "model.norm")
    }

    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
        causal::head(b, m, words)
    }

    fn idle_key_bias(&self, c: &ModelConfig) -> std::ops::Range<u32> {
        // Keys that are normalised are not moved by their bias alone.
        if is_post_norm(c.kind) { 0..0 } else { rope::still(c) }
    }

    fn reads_normed(&self, c: &ModelConfig) -> bool {
        !is_post_norm(c.kind)
    }

    fn reach(&self, _: &ModelConfig) -> Reach {
        Reach::Past
    }

    fn layer_flops(&self, c: &ModelConfig, rows: u64, pairs: u64) -> u64 {
        heads::layer_flops(c, 3, rows, pairs)
    }

    fn head_flops(&self, c: &ModelConfig, masked: u64) -> u64 {
        causal::head_flops(c, masked)
    }
}

/// RMSNorm; OLMo's layer norm has no parameters.
fn norm(b: &mut Builder<'_>, x: TensorId, norm: Norm, name: &str) -> TensorId {
    let op = match b.config.kind {
        ModelKind::Olmo => LayerNorm::new(OLMO_EPS, Affine::None),
        _ => LayerNorm::rms(b.config.layer_norm_eps, Affine::SCALE),
    };
    b.normalise(x, op, norm, name)
}

/// Whether queries, keys and values have biases, and the projection behind them.
fn biases(c: &ModelConfig) -> [bool; 2] {
    match c.kind {
        ModelKind::Qwen2 => [true, false],
        ModelKind::Mistral => [false, false],
        _ => [c.attention_bias; 2],
    }
}

/// What attention adds to a residual, or gives.
fn attention(b: &mut Builder<'_>, h: TensorId, name: &str, residual: Option<TensorId>) -> TensorId {
    let (heads, groups, size) = (b.config.num_attention_heads, b.config.groups(), b.config.head_size());
    let [inner, outer] = biases(b.config);
    let op = heads::attention(b, true);
    let names = ["q_proj", "k_proj", "v_proj"].map(|end| format!("{name}.{end}"));
    let normalised = is_post_norm(b.config.kind);
    let projected = match normalised {
        false => heads::side_by_side(b, h, &format!("{name}.qkv"), names, inner),
        true => {
            let (mut whole, mut first) = (None, 0);
            let parts = [
                (Part::Query, Some((Norm::Query, "q_norm")), heads),
                (Part::Key, Some((Norm::Key, "k_norm")), groups),
                (Part::Value, None, groups),
            ];
            for ((part, own, n), called) in parts.into_iter().zip(&names) {
                let (w, c) = b.dense(part, called, n * size, b.config.hidden_size, inner);
                let mut y = b.graph.linear(h, w, c, None);
                if let Some((own, end)) = own {
                    y = norm(b, y, own, &format!("{name}.{end}"));
                }
                let place = PlaceHeads { heads: n, size, first, of: heads + 2 * groups };
                whole = Some(b.graph.place_heads(y, place, whole));
                first += n;
            }
            whole.expect("three parts")
        }
    };
    let qkv = rope::turn(b, projected);
    let o = b.graph.attention(qkv, op);
    let (w, c) = heads::output(b, &format!("{name}.o_proj"), outer);
    b.graph.linear(o, w, c, residual)
}

/// What the gated feed-forward layer adds to a residual, or gives.
fn feed_forward(b: &mut Builder<'_>, h: TensorId, name: &str, residual: Option<TensorId>) -> TensorId {
    let (d, f, bias) = (b.config.hidden_size, b.config.intermediate_size, b.config.mlp_bias);
    let (w, c) = b.dense(Part::Gate, &format!("{name}.gate_proj"), f, d, bias);
    let z = b.graph.linear(h, w, c, None);
    let gate = b.graph.activation(b.config.hidden_act.activation(), z);
    let (w, c) = b.dense(Part::FeedForwardInput, &format!("{name}.up_proj"), f, d, bias);
    let up = b.graph.linear(h, w, c, None);
    let inner = b.graph.multiply(gate, up);
    let (w, c) = b.dense(Part::FeedForwardOutput, &format!("{name}.down_proj"), d, f, bias);
    b.graph.linear(inner, w, c, residual)
}
