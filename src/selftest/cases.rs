//! The table: every operation at shapes that are whole and that are not, in the middle of a small graph.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use super::updates::updates;
use super::{Case, Pass, TABLES, Work};
use crate::graph::{Emit, Graph, TensorId};
use crate::ops::{Activation, Attention, Labels, concat};

/// What numbers a given tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Normal numbers, of the size that a model has them in.
    Normal,
    /// A norm's scale.
    NearOne,
    /// Further from 0 than a product with a row of `w1` comes.
    AwayFromZero,
    /// Queries, keys and values of heads of this size in so many parts, with zeros behind each head as in a model's weights.
    Heads { size: u32, parts: u32 },
    /// The batch's own weight of every masked position, in the first of four columns.
    LossWeight,
    /// A weight of each masked position, in the first of four columns.
    LossWeights,
}

/// A case's graph under construction, and what its parameters hold where that is not [`Given::Normal`].
#[derive(Default)]
pub(super) struct Draft {
    pub graph: Graph,
    pub given: HashMap<TensorId, Given>,
}

impl Draft {
    fn given(&mut self, name: &str, rows: u32, cols: u32, given: Given) -> TensorId {
        let id = self.graph.parameter(name, rows, cols);
        self.given.insert(id, given);
        id
    }
}

impl Deref for Draft {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.graph
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }
}

fn case(
    name: &str,
    bound: f64,
    probes: u32,
    sentences: u32,
    build: impl Fn(&mut Draft) -> TensorId + Send + Sync + 'static,
) -> Case {
    made(name, bound, probes, sentences, Work::Graph(Box::new(build)))
}

fn made(name: &str, bound: f64, probes: u32, sentences: u32, work: Work) -> Case {
    Case {
        name: name.into(),
        bound,
        probes,
        sentences,
        vocabulary: 11,
        longest: 10,
        work,
        soft: false,
        dropout: false,
        weight_sets: false,
        fused: false,
        pass: Pass::Gradient,
    }
}

/// All cases: every operation with its reverse pass, with tangents of both, with second-order terms and norms; every update
/// rule.
pub fn cases() -> Vec<Case> {
    let mut all = operations();
    for (pass, suffix) in [(Pass::Tangent, "tangents"), (Pass::Second, "second order"), (Pass::Norms, "norms")] {
        let plain = operations().into_iter().filter(|c| !c.fused && !c.soft && !c.dropout && !c.weight_sets);
        all.extend(plain.map(|c| Case {
            name: format!("{}, {suffix}", c.name),
            // Tangents of adjoints and second-order terms are sums of terms that cancel, larger than what is left.
            bound: if pass == Pass::Second { 8.0 } else { 4.0 } * c.bound,
            probes: 2,
            pass,
            ..c
        }));
    }
    // Norms are sums of some ten thousand squares, and AdamW divides by a root.
    all.extend(updates().into_iter().map(|(name, update)| made(&name, 2e-6, 1, 1, Work::Update(update))));
    all
}

/// One quick case of several operations, for a first look at an adapter.
pub fn quick() -> Case {
    case("feed-forward block 8", 4e-6, 2, 5, |g| feed_forward(g, 8, Activation::Gelu))
}

fn operations() -> Vec<Case> {
    let mut all = Vec::new();
    for (k, n, sentences) in [(4, 8, 1), (10, 6, 3), (32, 64, 9), (36, 100, 40), (128, 20, 7)] {
        for probes in [1, 3] {
            all.push(case(
                &format!("linear {k} to {n}, {sentences} sentences, {probes} cotangents"),
                4e-6,
                probes,
                sentences,
                move |g| {
                    let x = embedded(g, k);
                    let (w, b) = (g.parameter("w", n, k), g.parameter("b", 1, n));
                    g.linear(x, w, Some(b), None)
                },
            ));
        }
    }
    // More than a block of 128 in every direction.
    all.push(case("linear 132 to 148, 40 sentences", 4e-6, 1, 40, |g| {
        let x = embedded(g, 132);
        let (w, b) = (g.parameter("w", 148, 132), g.parameter("b", 1, 148));
        g.linear(x, w, Some(b), None)
    }));
    for (d, fused) in [(8, false), (10, false), (20, false), (8, true), (10, true), (36, true)] {
        let title = format!("feed-forward block {d}{}", if fused { ", fused" } else { "" });
        let mut made = case(&title, 4e-6, 2, 5, move |g| feed_forward(g, d, Activation::Gelu));
        made.fused = fused;
        all.push(made);
    }
    for f in [Activation::GeluTanh, Activation::Relu, Activation::Silu] {
        for (d, fused) in [(10, false), (36, true)] {
            let title = format!("feed-forward block {d} of {f:?}{}", if fused { ", fused" } else { "" });
            let mut made = case(&title, 4e-6, 2, 5, move |g| feed_forward(g, d, f));
            made.fused = fused;
            all.push(made);
        }
    }
    for (d, fused) in [(4, false), (10, false), (64, false), (130, false), (10, true), (130, true)] {
        let title = format!("layer norm {d}, used twice{}", if fused { ", fused" } else { "" });
        let mut made = case(&title, 6e-6, 2, 6, move |g| {
            let x = embedded(g, d);
            let (gamma, beta) = (g.given("norm.weight", 1, d, Given::NearOne), g.parameter("norm.bias", 1, d));
            let y = g.layer_norm(x, gamma, beta, 1e-5);
            g.add(x, y)
        });
        made.fused = fused;
        all.push(made);
    }
    // Sentences of up to 10 tokens, and of up to 75: more than two tiles of the kernels that go over a sentence in tiles.
    let short = [(1, 4, 0.0), (3, 6, 0.0), (2, 10, 0.0), (4, 16, 0.0), (2, 8, 0.3)].map(|shape| (shape, 5, 10));
    let long = [(3, 6, 0.0), (2, 32, 0.3), (1, 40, 0.0), (1, 68, 0.0)].map(|shape| (shape, 4, 75));
    for ((heads, size, p), sentences, longest) in short.into_iter().chain(long) {
        let title = format!("attention {heads} x {size}, up to {longest} tokens, dropout {p}");
        let mut made = case(&title, 1e-5, 2, sentences, move |g| {
            let op = Attention { heads, size, p, stream: 5 };
            let x = embedded(g, 12);
            let w = g.given("qkv", 3 * heads * op.padded(), 12, Given::Heads { size, parts: 3 });
            let qkv = g.linear(x, w, None, None);
            g.attention(qkv, op)
        });
        made.longest = longest;
        made.dropout = p > 0.0;
        all.push(made);
    }
    for p in [0.1, 0.9] {
        let mut made = case(&format!("dropout {p}"), 1e-6, 2, 5, move |g| {
            let x = embedded(g, 10);
            g.dropout(x, p, 3)
        });
        made.dropout = true;
        all.push(made);
    }
    // Room for all tokens, and for fewer than some sentences have.
    for (d, tokens) in [(4, 10), (6, 4), (10, 3)] {
        all.push(case(&format!("whole sentences of {tokens} x {d}"), 6e-6, 1, 7, move |g| {
            let x = embedded(g, d);
            let (w, b) = (g.parameter("dense", d, d), g.parameter("bias", 1, d));
            let h = g.linear(x, w, Some(b), None);
            let (rows, masked) = (g.concat(h, tokens), g.gather(h));
            let (w, b) = (g.parameter("head", 11, concat::width(tokens, d)), g.parameter("head.bias", 1, 11));
            let logits = g.linear(rows, w, Some(b), None);
            let w = g.parameter("own", 11, d);
            let logits = g.linear(masked, w, None, Some(logits));
            g.cross_entropy(logits, Labels::Hard)
        }));
    }
    for (vocabulary, probes) in [(4, 1), (11, 1), (11, 3), (130, 1)] {
        for soft in [false, true] {
            let labels = if soft { "soft" } else { "hard" };
            let sets = if probes > 1 { format!(", {probes} sets of weights") } else { String::new() };
            let mut made =
                case(&format!("tied head, {vocabulary} words, {labels} labels{sets}"), 6e-6, probes, 9, move |g| {
                    let table = g.parameter("words", vocabulary, 8);
                    let x = embedding_of(g, table, 8);
                    let (w, b) = (g.parameter("dense", 8, 8), g.parameter("bias", 1, vocabulary));
                    let h = g.linear(x, w, None, Some(x));
                    let m = g.gather(h);
                    let logits = g.linear(m, table, Some(b), None);
                    g.cross_entropy(logits, if soft { Labels::Soft } else { Labels::Hard })
                });
            made.vocabulary = vocabulary;
            made.soft = soft;
            made.weight_sets = probes > 1;
            all.push(made);
        }
    }
    all
}

/// x + W₂ f(W₁ x + b₁) + b₂, as in a layer.
fn feed_forward(g: &mut Draft, d: u32, f: Activation) -> TensorId {
    let x = embedded(g, d);
    // Finite differences want a function with a kink to be looked at away from it.
    let bias = if f == Activation::Relu { Given::AwayFromZero } else { Given::Normal };
    let (w1, b1) = (g.parameter("w1", 4 * d, d), g.given("b1", 1, 4 * d, bias));
    let (w2, b2) = (g.parameter("w2", d, 4 * d), g.parameter("b2", 1, d));
    let h = g.linear(x, w1, Some(b1), None);
    let a = g.activation(f, h);
    g.linear(a, w2, Some(b2), Some(x))
}

fn embedded(g: &mut Draft, d: u32) -> TensorId {
    let words = g.parameter("words", TABLES[0], d);
    embedding_of(g, words, d)
}

fn embedding_of(g: &mut Draft, words: TensorId, d: u32) -> TensorId {
    let (positions, segments) = (g.parameter("positions", TABLES[1], d), g.parameter("segments", TABLES[2], d));
    g.embedding(words, positions, segments)
}
