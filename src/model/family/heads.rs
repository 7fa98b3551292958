//! Parts of transformers' layers: attention's projections in the layouts of model files, and feed-forward layers.

use crate::graph::TensorId;
use crate::model::builder::Builder;
use crate::model::config::{ModelConfig, SizeError, WIDEST_HEAD, positive};
use crate::model::parameters::{Axis, Initialise, Place};
use crate::model::role::Part;
use crate::ops::Attention;

const PARTS: [Part; 3] = [Part::Query, Part::Key, Part::Value];

/// Refuses heads that do not divide the width, and those of more numbers than a kernel takes.
pub(super) fn check(c: &ModelConfig) -> Result<(), SizeError> {
    positive(("num_attention_heads", c.num_attention_heads))?;
    if c.head_dim.is_none() && !c.hidden_size.is_multiple_of(c.num_attention_heads) {
        return Err(SizeError::Heads { hidden: c.hidden_size, heads: c.num_attention_heads });
    }
    positive(("head_dim", c.head_size()))?;
    if c.head_size() > WIDEST_HEAD {
        return Err(SizeError::WideHeads(c.head_size()));
    }
    Ok(())
}

/// Attention of the config's heads, with a stream of random numbers of its own.
pub(super) fn attention(b: &mut Builder<'_>, causal: bool) -> Attention {
    let (heads, size) = (b.config.num_attention_heads, b.config.head_size());
    let p = b.config.attention_probs_dropout_prob as f32;
    Attention { heads, size, p, stream: b.next_stream(), causal, masked: false }
}

/// Columns of all heads of queries in memory.
fn wide(c: &ModelConfig) -> u32 {
    c.num_attention_heads * c.head_size().next_multiple_of(4)
}

/// Queries, and keys and values of the config's groups of heads, [rows, (heads + 2 groups) padded(size)], from three
/// parameters called `names` in one matrix.
pub(super) fn side_by_side(b: &mut Builder<'_>, h: TensorId, matrix: &str, names: [String; 3], bias: bool) -> TensorId {
    let (d, size, groups) = (b.config.hidden_size, b.config.head_size(), b.config.groups());
    let heads = [b.config.num_attention_heads, groups, groups];
    let padded = size.next_multiple_of(4);
    let offsets = [0, heads[0] * padded, (heads[0] + groups) * padded];
    let wide = (heads[0] + 2 * groups) * padded;
    let (weights, qkv) = b.matrix(&format!("{matrix}.weight"), wide, d, true);
    let biases = bias.then(|| b.matrix(&format!("{matrix}.bias"), 1, wide, false));
    for (((heads, offset), part), name) in heads.into_iter().zip(offsets).zip(PARTS).zip(names) {
        let (n, heads) = (heads * size, Axis::Heads { offset, size });
        let role = b.role(part, false);
        b.parameter(role, format!("{name}.weight"), &[n, d], Initialise::Normal, [heads, Axis::Plain(0)], weights);
        if let Some((biases, _)) = biases {
            let role = b.role(part, true);
            b.parameter(role, format!("{name}.bias"), &[n], Initialise::Zeros, [Axis::Plain(0), heads], biases);
        }
    }
    b.graph.linear(h, qkv, biases.map(|(_, bias)| bias), None)
}

/// The same from one parameter, whose numbers of q, k and v lie in the order of `axis`; `transposed` where the file has
/// it as [in, out].
pub(super) fn fused(
    b: &mut Builder<'_>,
    h: TensorId,
    name: &str,
    axis: Axis,
    transposed: bool,
    bias: bool,
) -> TensorId {
    let (d, size, wide) = (b.config.hidden_size, b.config.head_size(), wide(b.config));
    let n = 3 * b.config.num_attention_heads * size;
    let weight = format!("{name}.weight");
    let (matrix, qkv) = b.matrix(&weight, 3 * wide, d, true);
    let shape = if transposed { [d, n] } else { [n, d] };
    let (role, place) = (b.role(Part::QueryKeyValue, false), Place { rows: axis, cols: Axis::Plain(0), transposed });
    b.parameter(role, weight, &shape, Initialise::Normal, place, matrix);
    let bias = bias.then(|| {
        let name = format!("{name}.bias");
        let (matrix, bias) = b.matrix(&name, 1, 3 * wide, false);
        let role = b.role(Part::QueryKeyValue, true);
        b.parameter(role, name, &[n], Initialise::Zeros, [Axis::Plain(0), axis], matrix);
        bias
    });
    b.graph.linear(h, qkv, bias, None)
}

/// Weight and bias from the heads back to the model's width.
pub(super) fn output(b: &mut Builder<'_>, name: &str, bias: bool) -> (TensorId, Option<TensorId>) {
    output_as(b, name, bias, Initialise::Normal, false)
}

/// The same with other initial weights; `transposed` where the file has it as [in, out].
pub(super) fn output_as(
    b: &mut Builder<'_>,
    name: &str,
    bias: bool,
    initialise: Initialise,
    transposed: bool,
) -> (TensorId, Option<TensorId>) {
    let (d, size) = (b.config.hidden_size, b.config.head_size());
    let n = b.config.num_attention_heads * size;
    let weight = format!("{name}.weight");
    let (matrix, w) = b.matrix(&weight, d, wide(b.config), true);
    let place = Place { rows: Axis::Plain(0), cols: Axis::Heads { offset: 0, size }, transposed };
    let role = b.role(Part::AttentionOutput, false);
    let shape = if transposed { [n, d] } else { [d, n] };
    b.parameter(role, weight, &shape, initialise, place, matrix);
    let c = bias.then(|| b.bias(Part::AttentionOutput, &format!("{name}.bias"), d));
    (w, c)
}

/// residual + W₂ f(W₁ h), with dropout before the sum; `names` are those of the two.
pub(super) fn feed_forward(
    b: &mut Builder<'_>,
    h: TensorId,
    residual: TensorId,
    [inner, outer]: [String; 2],
    bias: bool,
) -> TensorId {
    let (d, f) = (b.config.hidden_size, b.config.intermediate_size);
    let (w, c) = b.dense(Part::FeedForwardInput, &inner, f, d, bias);
    let z = b.graph.linear(h, w, c, None);
    let a = b.graph.activation(b.config.hidden_act.activation(), z);
    let (w, c) = b.dense(Part::FeedForwardOutput, &outer, d, f, bias);
    b.dense_into(a, w, c, residual)
}

/// Multiplications and additions of a layer's forward pass: projections of heads, attention, and so many products with
/// the feed-forward units.
pub(super) fn layer_flops(c: &ModelConfig, products: u64, rows: u64, pairs: u64) -> u64 {
    let [d, f, size] = [c.hidden_size, c.intermediate_size, c.head_size()].map(u64::from);
    let [heads, groups] = [c.num_attention_heads, c.groups()].map(|n| u64::from(n) * size);
    2 * rows * (2 * d * heads + 2 * d * groups + products * d * f) + 4 * pairs * heads
}
