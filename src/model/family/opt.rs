//! OPT, as `transformers` defines it: x ← x + attention(norm(x)), x ← x + feed-forward(norm(x)), a norm behind the last
//! layer; learned positions, of which the first two rows are never used. OPT-350M has its norms behind the sums, x ←
//! norm(x + attention(x)), and none behind the last layer; its words are of a smaller width e, from which and to which
//! they are projected. The projections are multiplied into the table, E W_inᵀ [V, D], and into a decoder apart from it,
//! E W_out [V, D]: the same function.

use rayon::prelude::*;

use super::{Decoder, Family, JsonMap, Reach, causal, heads, only};
use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, OPT_OFFSET, SizeError, positive, probability};
use crate::model::kind::ModelKind;
use crate::model::role::Norm;
use crate::model::weights_file::Tensors;
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
            ("do_layer_norm_before", "do_layer_norm_before"),
            ("pad_token_id", "pad_token_id"),
            ("tie_word_embeddings", "tie_word_embeddings"),
        ]
    }

    fn absent(&self, _: ModelKind) -> serde_json::Value {
        serde_json::json!({
            "vocab_size": 50272, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "ffn_dim": 3072, "activation_function": "relu", "dropout": 0.1, "attention_dropout": 0.0,
            "max_position_embeddings": 2048, "init_std": 0.02, "enable_bias": true,
            "layer_norm_elementwise_affine": true, "do_layer_norm_before": true, "pad_token_id": 1,
            "tie_word_embeddings": true,
        })
    }

    fn read(&self, _: ModelKind, given: &mut JsonMap) -> Result<(), String> {
        causal::read(given)?;
        only(given, &[("_remove_final_layer_norm", false.into())])?;
        let width = given.get("hidden_size").cloned().unwrap_or_else(|| 768.into());
        if given.get("word_embed_proj_dim").is_some_and(|own| !own.is_null() && *own != width) {
            only(given, &[("tie_word_embeddings", true.into())])?;
            given.insert("tie_word_embeddings".into(), false.into());
        }
        Ok(())
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
        let (bias, before) = (b.config.attention_bias, b.config.do_layer_norm_before);
        let [attention, feed_forward] = ["self_attn_layer_norm", "final_layer_norm"].map(|own| format!("{name}.{own}"));
        let h = if before { norm(b, x, Norm::Attention, &attention) } else { x };
        let op = heads::attention(b, true);
        let names = ["q_proj", "k_proj", "v_proj"].map(|end| format!("{name}.self_attn.{end}"));
        let qkv = heads::side_by_side(b, h, &format!("{name}.self_attn.qkv"), names, bias);
        let o = b.graph.attention(qkv, op);
        let (w, c) = heads::output(b, &format!("{name}.self_attn.out_proj"), bias);
        let mut x = b.dense_into(o, w, c, x);
        if !before {
            x = norm(b, x, Norm::Attention, &attention);
        }
        let h = if before { norm(b, x, Norm::FeedForward, &feed_forward) } else { x };
        let x = heads::feed_forward(b, h, x, ["fc1", "fc2"].map(|end| format!("{name}.{end}")), bias);
        if before { x } else { norm(b, x, Norm::FeedForward, &feed_forward) }
    }

    fn final_norm(&self, b: &mut Builder<'_>, x: TensorId) -> TensorId {
        match b.config.do_layer_norm_before {
            true => norm(b, x, Norm::Final, "model.decoder.final_layer_norm"),
            false => x,
        }
    }

    fn word_head(&self, b: &mut Builder<'_>, m: TensorId, words: TensorId) -> TensorId {
        causal::head(b, m, words)
    }

    fn reads_normed(&self, c: &ModelConfig) -> bool {
        c.do_layer_norm_before
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

/// Multiplies projections of words of a smaller width into the table of words and into a decoder of its own.
///
/// # Errors
/// Names a tensor whose shape does not fit the others.
pub(in crate::model) fn without_projections(tensors: &mut Tensors, notes: &mut Vec<String>) -> Result<(), String> {
    let named = |way: &str| format!("model.decoder.project_{way}.weight");
    if ["in", "out"].iter().any(|way| !tensors.contains_key(&named(way))) || !tensors.contains_key(WORDS) {
        // What is missing is named where it is looked for.
        return Ok(());
    }
    let mut take = |name: &str| tensors.remove(name).expect("it is there");
    let ((shape_in, inward), (shape_out, outward)) = (take(&named("in")), take(&named("out")));
    let (shape, table) = take(WORDS);
    let ([d, e], [_, own]) = ([shape_in[0], shape_in[1]], [shape[0], shape[shape.len() - 1]]);
    if shape_out != [e, d] || own != e {
        return Err(format!("project_in {shape_in:?}, project_out {shape_out:?} and `{WORDS}` {shape:?} do not fit"));
    }
    // Row by row; sums in f64, so that a product is rounded once.
    let product = |matrix: &(dyn Fn(usize, usize) -> f32 + Sync)| -> Vec<f32> {
        let row = |words: &[f32]| -> Vec<f32> {
            let sum = |j: usize| words.iter().enumerate().map(|(k, w)| f64::from(*w) * f64::from(matrix(j, k))).sum();
            (0..d).map(|j| -> f64 { sum(j) }).map(|sum| sum as f32).collect()
        };
        table.par_chunks_exact(e).flat_map_iter(row).collect()
    };
    let words = product(&|j, k| inward[j * e + k]);
    let decoder = product(&|j, k| outward[k * d + j]);
    notes.push(format!(
        "`project_in` and `project_out` multiplied into `{WORDS}` and into a decoder apart from it: the same function"
    ));
    tensors.insert(WORDS.into(), (vec![shape[0], d], words));
    tensors.insert("lm_head.weight".into(), (vec![shape[0], d], decoder));
    Ok(())
}
