//! The graphs of the cases: each operation between an embedding and what stands behind it.

use super::TABLES;
use super::cases::{Draft, Given};
use crate::graph::{Count, Emit, LstmWeights, TensorId};
use crate::ops::counts::{MASKED, ROWS};
use crate::ops::{
    Activation, Affine, AlongAxes, Attention, CachedAttention, GroupDraw, Labels, LayerNorm, LossDraw, PlaceHeads,
    RepeatHeads, Rotary, Rule, call, concat,
};

/// W x + b
pub(super) fn product(g: &mut Draft, k: u32, n: u32) -> TensorId {
    let x = embedded(g, k);
    let (w, b) = (g.parameter("w", n, k), g.parameter("b", 1, n));
    g.linear(x, w, Some(b), None)
}

/// With scale and shift.
pub(super) const LAYER_NORM: LayerNorm =
    LayerNorm { eps: 1e-5, centre: true, affine: Affine::SCALE_AND_SHIFT, heads: 1, sums: false };

/// x + norm(x), so that x is used twice.
pub(super) fn norm(g: &mut Draft, d: u32, op: LayerNorm) -> TensorId {
    let x = embedded(g, d);
    let mut parameters = Vec::new();
    if op.affine.scales() {
        let kind = if op.affine.one_plus() { Given::Slight } else { Given::NearOne };
        parameters.push(g.given("norm.weight", 1, d / op.heads, kind));
    }
    if op.affine.shifts() {
        parameters.push(g.parameter("norm.bias", 1, d / op.heads));
    }
    let y = g.normalise(x, op, &parameters);
    g.add(x, y)
}

pub(super) fn attention(g: &mut Draft, d: u32, op: Attention) -> TensorId {
    let x = embedded(g, d);
    let w = g.given("qkv", 3 * op.heads * op.padded(), d, Given::Heads { size: op.size, parts: 3 });
    let qkv = g.linear(x, w, None, None);
    g.attention(qkv, op)
}

/// The loss of rows that attention makes of masked rows alone.
pub(super) fn masked_attention(g: &mut Draft, d: u32, op: Attention) -> TensorId {
    let o = attention(g, d, Attention { masked: true, ..op });
    let w = g.vocabulary;
    let w = g.given("decoder", w, op.heads * op.padded(), Given::Slight);
    let logits = g.linear(o, w, None, None);
    g.cross_entropy(logits, Labels::Hard)
}

/// Attention to rows of a cache too.
pub(super) fn cached(g: &mut Draft, d: u32, heads: u32, size: u32) -> TensorId {
    let (x, op) = (embedded(g, d), CachedAttention { heads, size });
    let w = g.given("qkv", op.columns(), d, Given::Heads { size, parts: 3 });
    let qkv = g.linear(x, w, None, None);
    let cache = g.given("cache", 40, op.columns(), Given::Heads { size, parts: 3 });
    let runs = g.graph.input("runs", ROWS, 4);
    g.given.insert(runs, Given::Runs);
    g.push(call(op, Rule::Forward, &[qkv, cache, runs]), "attention")[0]
}

/// The hidden states of one or two directions, added to x where they are as wide; x is used twice.
pub(super) fn lstm(g: &mut Draft, d: u32, units: u32, directions: u32) -> TensorId {
    let x = embedded(g, d);
    let mut made = |way: &str| LstmWeights {
        input: g.given(&format!("input {way}"), 4 * units, d, Given::Slight),
        recurrent: g.given(&format!("recurrent {way}"), 4 * units, units, Given::Slight),
        input_bias: g.given(&format!("bias {way}"), 1, 4 * units, Given::Slight),
        recurrent_bias: g.given(&format!("recurrent bias {way}"), 1, 4 * units, Given::Slight),
    };
    let (forward, reverse) = (made("forth"), (directions == 2).then(|| made("back")));
    let addend = (directions * units == d).then_some(x);
    g.lstm(x, forward, reverse, addend)
}

/// Queries, keys and values of their own products, put to their places.
pub(super) fn placed(g: &mut Draft, d: u32, heads: [u32; 3], size: u32) -> TensorId {
    let x = embedded(g, d);
    let of = heads.iter().sum();
    let (mut whole, mut first) = (None, 0);
    for (i, heads) in heads.into_iter().enumerate() {
        let w = g.parameter(&format!("w{i}"), heads * size, d);
        let y = g.linear(x, w, None, None);
        whole = Some(g.place_heads(y, PlaceHeads { heads, size, first, of }, whole));
        first += heads;
    }
    whole.expect("three of them")
}

/// Attention with keys and values for groups of heads.
pub(super) fn grouped(g: &mut Draft, d: u32, op: RepeatHeads) -> TensorId {
    let (x, heads) = (embedded(g, d), [op.heads, op.groups, op.groups]);
    let given = Given::GroupedHeads { size: op.size, heads };
    let w = g.given("qkv", heads.iter().sum::<u32>() * op.padded(), d, given);
    let few = g.linear(x, w, None, None);
    let qkv = g.repeat_heads(few, op);
    g.attention(qkv, Attention { heads: op.heads, size: op.size, p: 0.0, stream: 5, causal: false, masked: false })
}

/// f of `heads` heads of queries, keys and values of which the first two are turned by their positions.
pub(super) fn turned(g: &mut Draft, d: u32, heads: u32, rotary: &Rotary) -> TensorId {
    let x = embedded(g, d);
    let w = g.given("qkv", heads * rotary.padded(), d, Given::Heads { size: rotary.size, parts: 1 });
    let qkv = g.linear(x, w, None, None);
    let turned = g.rotary(qkv, rotary.clone());
    g.activation(Activation::GeluTanh, turned)
}

/// x + W₂ (f(W₁ x + b₁) ⊙ W₃ x); with SiLU as in a layer of Llama, which has no b₁ (Shazeer 2020).
pub(super) fn gated(g: &mut Draft, d: u32, width: u32, f: Activation) -> TensorId {
    let x = embedded(g, d);
    gates(g, x, x, width, f)
}

/// The same of h, added to x.
fn gates(g: &mut Draft, h: TensorId, x: TensorId, width: u32, f: Activation) -> TensorId {
    let d = g.tensor(x).cols;
    let [gate, up] = ["gate", "up"].map(|name| g.parameter(name, width, d));
    let down = g.parameter("down", d, width);
    let bias = (f == Activation::Relu).then(|| g.given("gate.bias", 1, width, Given::AwayFromZero));
    let (a, b) = (g.linear(h, gate, bias, None), g.linear(h, up, None, None));
    let a = g.activation(f, a);
    let h = g.multiply(a, b);
    g.linear(h, down, None, Some(x))
}

/// What decoders have in a layer: RMSNorm before attention and of each head, rotary positions, groups of keys and
/// values, causal attention, gates; behind it OLMo's norm without parameters.
pub(super) fn decoder(g: &mut Draft, d: u32, op: RepeatHeads) -> TensorId {
    let x = embedded(g, d);
    let rms = |g: &mut Draft, x: TensorId, name: &str, op: LayerNorm| {
        let kind = if op.affine.one_plus() { Given::Slight } else { Given::NearOne };
        let gamma = g.given(name, 1, g.graph.tensor(x).cols / op.heads, kind);
        g.normalise(x, op, &[gamma])
    };
    let plain = LayerNorm { centre: false, affine: Affine::SCALE, ..LAYER_NORM };
    let one_plus = LayerNorm { affine: Affine::Scale { one_plus: true, shift: false }, ..plain };
    let h = rms(g, x, "input norm", plain);
    let heads = op.heads + 2 * op.groups;
    let given = Given::GroupedHeads { size: op.size, heads: [op.heads, op.groups, op.groups] };
    let w = g.given("qkv", heads * op.padded(), d, given);
    let few = g.linear(h, w, None, None);
    let few = rms(g, few, "norm of heads", plain.by_head(heads));
    let frequencies = Rotary::frequencies(10_000.0, op.size);
    let repeat = (op.heads != op.groups).then_some(op);
    let qkv = g.rotary(few, Rotary { heads: op.heads + op.groups, size: op.size, frequencies, repeat });
    let o =
        g.attention(qkv, Attention { heads: op.heads, size: op.size, p: 0.0, stream: 5, causal: true, masked: false });
    let w = g.parameter("output", d, op.heads * op.padded());
    let x = g.linear(o, w, None, Some(x));
    let h = rms(g, x, "feed-forward norm", one_plus);
    let x = gates(g, h, x, 2 * d, Activation::Silu);
    g.normalise(x, LayerNorm { affine: Affine::None, ..LAYER_NORM }, &[])
}

pub(super) fn dropped(g: &mut Draft, d: u32, p: f64) -> TensorId {
    let x = embedded(g, d);
    g.dropout(x, p, 3)
}

/// A linear probe's logits from whole sentences, and from the masked rows.
pub(super) fn whole_sentences(g: &mut Draft, d: u32, tokens: u32) -> TensorId {
    let x = embedded(g, d);
    let (w, b) = (g.parameter("dense", d, d), g.parameter("bias", 1, d));
    let h = g.linear(x, w, Some(b), None);
    let (rows, masked) = (g.concat(h, tokens), g.gather(h));
    let (w, b) = (g.parameter("head", 11, concat::width(tokens, d)), g.parameter("head.bias", 1, 11));
    let logits = g.linear(rows, w, Some(b), None);
    let w = g.parameter("own", 11, d);
    let logits = g.linear(masked, w, None, Some(logits));
    g.cross_entropy(logits, Labels::Hard)
}

/// The loss of a head whose table is that of the words.
pub(super) fn tied_head(g: &mut Draft, vocabulary: u32, d: u32, labels: Labels) -> TensorId {
    let table = g.parameter("words", vocabulary, d);
    let x = embedding_of(g, table, d);
    let (w, b) = (g.parameter("dense", d, d), g.parameter("bias", 1, vocabulary));
    let h = g.linear(x, w, None, Some(x));
    let m = g.gather(h);
    let logits = g.linear(m, table, Some(b), None);
    g.cross_entropy(logits, labels)
}

/// Cotangents drawn at logits.
pub(super) fn draws(g: &mut Draft, vocabulary: u32, kind: LossDraw) -> TensorId {
    let logits = g.graph.input("logits", MASKED, vocabulary);
    let loss = g.cross_entropy(logits, Labels::Hard);
    g.push(call(kind, Rule::Forward, &[logits, loss]), "draw")[0]
}

/// The same of one part, by three groups of words.
pub(super) fn grouped_draws(g: &mut Draft, vocabulary: u32, draw: GroupDraw) -> TensorId {
    let logits = g.graph.input("logits", MASKED, vocabulary);
    let loss = g.cross_entropy(logits, Labels::Hard);
    let groups = g.graph.input("groups", Count::Fixed(1), vocabulary);
    g.given.insert(groups, Given::Groups);
    g.push(call(draw, Rule::Forward, &[logits, loss, groups]), "draw")[0]
}

/// Signs drawn at logits and put along axes.
pub(super) fn draws_along_axes(g: &mut Draft, vocabulary: u32) -> TensorId {
    let logits = g.graph.input("logits", MASKED, vocabulary);
    let loss = g.cross_entropy(logits, Labels::Hard);
    let drawn = g.push(call(LossDraw::Signs, Rule::Forward, &[logits, loss]), "draw")[0];
    let axes = g.parameter("axes", vocabulary, 4);
    g.push(call(AlongAxes, Rule::Forward, &[logits, loss, axes, drawn]), "along")[0]
}

/// x + W₂ f(W₁ x + b₁) + b₂, as in a layer.
pub(super) fn feed_forward(g: &mut Draft, d: u32, f: Activation) -> TensorId {
    let x = embedded(g, d);
    // Finite differences want a function with a kink to be looked at away from it.
    let bias = if f == Activation::Relu { Given::AwayFromZero } else { Given::Normal };
    let (w1, b1) = (g.parameter("w1", 4 * d, d), g.given("b1", 1, 4 * d, bias));
    let (w2, b2) = (g.parameter("w2", d, 4 * d), g.parameter("b2", 1, d));
    let h = g.linear(x, w1, Some(b1), None);
    let a = g.activation(f, h);
    g.linear(a, w2, Some(b2), Some(x))
}

pub(super) fn embedded(g: &mut Draft, d: u32) -> TensorId {
    let words = g.vocabulary;
    let words = g.parameter("words", words, d);
    embedding_of(g, words, d)
}

fn embedding_of(g: &mut Draft, words: TensorId, d: u32) -> TensorId {
    let (positions, segments) = (g.parameter("positions", TABLES[1], d), g.parameter("segments", TABLES[2], d));
    g.embedding(words, Some(positions), Some(segments))
}
