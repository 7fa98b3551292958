//! The table: every operation at shapes that are whole and that are not, in the middle of a small graph.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use super::graphs::{
    LAYER_NORM, attention, cached, decoder, draws, draws_along_axes, dropped, embedded, feed_forward, gated, grouped,
    grouped_draws, lstm, masked_attention, norm, placed, product, tied_head, turned, whole_sentences,
};
use super::updates::updates;
use super::{Case, Pass, TABLES, Work};
use crate::graph::{Graph, TensorId};
use crate::ops::{
    Activation, Affine, Attention, GroupDraw, GroupPart, Labels, LayerNorm, LossDraw, RepeatHeads, Rotary,
};

/// What numbers a given tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// Normal numbers, of the size that a model has them in.
    Normal,
    /// A norm's scale.
    NearOne,
    /// Normal numbers that leave the gates of an LSTM open.
    Slight,
    /// Further from 0 than a product with a row of `w1` comes.
    AwayFromZero,
    /// Rows of heads of this size, `parts` times (queries, keys, values), with zeros behind each head as in a model's
    /// weights.
    Heads { size: u32, parts: u32 },
    /// The same of so many heads of queries, of keys and of values.
    GroupedHeads { size: u32, heads: [u32; 3] },
    /// Runs of a cache of 40 rows: first row, number of rows, none of some, and stride.
    Runs,
    /// The batch's own weight of every masked position, in the first of four columns.
    LossWeight,
    /// A weight of each masked position, in the first of four columns.
    LossWeights,
    /// Numbers of groups, 0 to 2.
    Groups,
}

/// A case's graph under construction, and what its parameters hold where that is not [`Given::Normal`].
#[derive(Default)]
pub(super) struct Draft {
    pub graph: Graph,
    /// Words of the batch.
    pub vocabulary: u32,
    pub given: HashMap<TensorId, Given>,
}

impl Draft {
    pub(super) fn given(&mut self, name: &str, rows: u32, cols: u32, given: Given) -> TensorId {
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
        vocabulary: TABLES[0],
        longest: 10,
        shortest: 2,
        masked: 2,
        work,
        soft: false,
        dropout: false,
        weight_sets: false,
        first_order: false,
        fused: false,
        pass: Pass::Gradient,
        timed: None,
    }
}

/// What is timed of a case.
#[derive(Clone)]
pub(super) struct Timed {
    /// Operations by name, or rules of them by title; what else the case needs is not timed.
    pub operations: &'static [&'static str],
    /// The passes behind the forward pass in which their rules are met.
    pub passes: &'static [Pass],
    /// For people.
    pub shape: String,
}

/// Tokens of each sentence, width, feed-forward width, heads and vocabulary of what is timed.
const T: u32 = 32;
const D: u32 = 256;
const F: u32 = 1024;
const H: u32 = 4;
const V: u32 = 512;

/// The same graphs at one representative size, for a number of rows: what `selftest --time` looks at, products first.
pub(super) fn representative(rows: u32) -> Vec<Case> {
    let sentences = rows / T;
    const ALL: &[Pass] = &[Pass::Gradient, Pass::Tangent, Pass::Second, Pass::Norms];
    let (matrix, logits) = (format!("[{rows}, {D}]"), format!("[{sentences}, {V}]"));
    let product_shape = format!("{rows} x {D} x {F}");
    let heads = format!("{sentences} x {T} tokens, {H} heads, D {D}");
    let timed = |operations, passes, shape: &str, build: Box<dyn Fn(&mut Draft) -> TensorId + Send + Sync>| Case {
        vocabulary: V,
        longest: T,
        work: Work::Graph(build),
        timed: Some(Timed { operations, passes, shape: shape.into() }),
        ..case(shape, 0.0, 1, sentences, |g| embedded(g, D))
    };
    let op = Attention { heads: H, size: D / H, p: 0.0, stream: 0, causal: false, masked: false };
    let rms = LayerNorm { centre: false, affine: Affine::SCALE, ..LAYER_NORM };
    let rotary = Rotary { heads: 2 * H, size: D / H, frequencies: Rotary::frequencies(10_000.0, D / H), repeat: None };
    let groups = RepeatHeads { heads: H, groups: H / 2, size: D / H };
    let of_products: &[&str] = &[
        "linear",
        "column_sum",
        "row_gram",
        "ghost_norm, product",
        "ghost_norm, weighted",
        "ghost_norm, sum",
        "ghost_gram, product",
    ];
    let of_norms: &[&str] = &["layer_norm", "add", "ghost_norm, scale", "ghost_gram, scale"];
    let of_losses: &[&str] = &["cross_entropy", "gather", "sentence_sum", "ghost_norm, tied", "ghost_gram, tied"];
    let mut all = vec![
        timed(of_products, ALL, &product_shape, Box::new(|g| product(g, D, F))),
        timed(&["attention"], ALL, &heads, Box::new(move |g| attention(g, D, op))),
        timed(&["cached_attention"], &[Pass::Forward], &heads, Box::new(|g| cached(g, D, H, D / H))),
        timed(of_norms, ALL, &matrix, Box::new(|g| norm(g, D, LAYER_NORM))),
        timed(&["layer_norm"], ALL, &matrix, Box::new(move |g| norm(g, D, rms))),
        timed(&["activation"], ALL, &format!("[{rows}, {F}]"), Box::new(|g| feed_forward(g, D, Activation::Gelu))),
        timed(&["multiply"], ALL, &format!("[{rows}, {F}]"), Box::new(|g| gated(g, D, F, Activation::Silu))),
        timed(&["repeat_heads"], ALL, &heads, Box::new(move |g| grouped(g, D, groups))),
        timed(&["place_heads"], ALL, &heads, Box::new(|g| placed(g, D, [H, H / 2, H / 2], D / H))),
        timed(&["rotary"], ALL, &heads, Box::new(move |g| turned(g, D, 3 * H, &rotary))),
        timed(&["dropout"], &[Pass::Gradient], &matrix, Box::new(|g| dropped(g, D, 0.1))),
        timed(&["embedding", "ghost_norm, tables", "ghost_gram, tables"], ALL, &matrix, Box::new(|g| embedded(g, D))),
        timed(of_losses, ALL, &logits, Box::new(|g| tied_head(g, V, D, Labels::Hard))),
        timed(&["concat"], &[Pass::Gradient], &matrix, Box::new(|g| whole_sentences(g, D, T))),
    ];
    // Short sentences and many of them: they are what goes on beside one another.
    let (short, units) = (8, D / 4);
    let shape = format!("{} x {short} tokens, 2 x {units} units", rows / short);
    all.push(Case {
        longest: short,
        sentences: rows / short,
        ..timed(&["lstm"], ALL, &shape, Box::new(move |g| lstm(g, 2 * units, units, 2)))
    });
    all.push(timed(&["along_axes"], &[Pass::Forward], &logits, Box::new(|g| draws_along_axes(g, V))));
    for kind in [LossDraw::Label, LossDraw::Signs, LossDraw::Exact] {
        all.push(timed(&["loss_draw"], &[Pass::Forward], &logits, Box::new(move |g| draws(g, V, kind))));
    }
    for draw in group_draws() {
        let graph = Box::new(move |g: &mut Draft| grouped_draws(g, V, draw));
        all.push(timed(&["group_draw"], &[Pass::Forward], &logits, graph));
    }
    all
}

/// All cases: every operation with its reverse pass, with tangents of both, with second-order terms and norms; every
/// update rule.
pub fn cases() -> Vec<Case> {
    let mut all = operations();
    for (pass, suffix) in [(Pass::Tangent, "tangents"), (Pass::Second, "second order"), (Pass::Norms, "norms")] {
        let plain = operations()
            .into_iter()
            .filter(|c| c.pass == Pass::Gradient && !c.fused && !c.soft && !c.dropout)
            .filter(|c| if c.first_order { pass == Pass::Norms } else { !c.weight_sets });
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
                move |g| product(g, k, n),
            ));
        }
    }
    // More than a block of 128 in every direction.
    all.push(case("linear 132 to 148, 40 sentences", 4e-6, 1, 40, |g| product(g, 132, 148)));
    // Tall tiles of subgroups of 8 lanes, and fused below.
    all.push(case("linear 516 to 132, 20 sentences", 4e-6, 1, 20, |g| product(g, 516, 132)));
    // So many columns that norms take them in slices.
    all.push(case("linear 6 to 4202, 2 sentences", 4e-6, 2, 2, |g| product(g, 6, 4202)));
    let blocks = [(8, false), (10, false), (20, false), (8, true), (10, true), (36, true), (64, true), (128, true)];
    for (d, fused) in blocks {
        let title = format!("feed-forward block {d}{}", if fused { ", fused" } else { "" });
        // Behind sums over 512 units numbers that cancel are what is compared.
        let bound = if d > 100 { 8e-6 } else { 4e-6 };
        let mut made = case(&title, bound, 2, 5, move |g| feed_forward(g, d, Activation::Gelu));
        made.fused = fused;
        all.push(made);
    }
    for f in [Activation::GeluTanh, Activation::Relu, Activation::Silu, Activation::Tanh] {
        for (d, fused) in [(10, false), (36, true)] {
            let title = format!("feed-forward block {d} of {f:?}{}", if fused { ", fused" } else { "" });
            let mut made = case(&title, 4e-6, 2, 5, move |g| feed_forward(g, d, f));
            made.fused = fused;
            all.push(made);
        }
    }
    for (d, fused) in [(4, false), (10, false), (64, false), (130, false), (10, true), (130, true)] {
        let title = format!("layer norm {d}, used twice{}", if fused { ", fused" } else { "" });
        let mut made = case(&title, 6e-6, 2, 6, move |g| norm(g, d, LAYER_NORM));
        made.fused = fused;
        all.push(made);
    }
    for (centre, affine) in [
        (true, Affine::None),
        (true, Affine::SCALE),
        (true, Affine::Scale { one_plus: true, shift: true }),
        (false, Affine::None),
        (false, Affine::SCALE),
        (false, Affine::Scale { one_plus: true, shift: false }),
        (false, Affine::SCALE_AND_SHIFT),
    ] {
        let kind = if centre { "layer norm" } else { "RMS norm" };
        let vectors = match affine {
            Affine::None => "without parameters".into(),
            Affine::Scale { one_plus, shift } => {
                format!(
                    "with {}{}",
                    if one_plus { "1 + scale" } else { "scale" },
                    if shift { " and shift" } else { "" }
                )
            }
        };
        let op = LayerNorm { centre, affine, ..LAYER_NORM };
        for (d, fused) in [(4, false), (10, false), (130, false), (10, true), (66, true)] {
            let title = format!("{kind} {d} {vectors}{}", if fused { ", fused" } else { "" });
            let mut made = case(&title, 6e-6, 2, 6, move |g| norm(g, d, op));
            made.fused = fused;
            all.push(made);
        }
    }
    // Heads that are normalised each on its own.
    for (heads, size, centre, affine, fused) in [
        (3, 4, false, Affine::SCALE, false),
        (2, 20, false, Affine::Scale { one_plus: true, shift: false }, true),
        (2, 132, false, Affine::SCALE, false),
        (4, 8, true, Affine::SCALE_AND_SHIFT, false),
        (5, 12, true, Affine::SCALE_AND_SHIFT, true),
    ] {
        let kind = if centre { "layer norm" } else { "RMS norm" };
        let op = LayerNorm { centre, affine, heads, ..LAYER_NORM };
        let title = format!("{kind} of {heads} heads of {size}{}", if fused { ", fused" } else { "" });
        let mut made = case(&title, 6e-6, 2, 6, move |g| norm(g, heads * size, op));
        made.fused = fused;
        all.push(made);
    }
    // Sentences of up to 4 and 8 tokens, two heads of which are a subgroup's, of up to 10, and of up to 75: more than
    // two tiles of the kernels that go over a sentence in tiles.
    let shortest = [((2, 8, 0.3), 5, 4), ((2, 10, 0.3), 5, 8), ((3, 6, 0.0), 5, 8)];
    let short = [(1, 4, 0.0), (3, 6, 0.0), (2, 10, 0.0), (4, 16, 0.0), (2, 8, 0.3)].map(|shape| (shape, 5, 10));
    let long = [(3, 6, 0.0), (2, 32, 0.3), (1, 40, 0.0), (1, 68, 0.0)].map(|shape| (shape, 4, 75));
    let each = shortest.into_iter().chain(short).chain(long).flat_map(|shape| [(shape, false), (shape, true)]);
    for (((heads, size, p), sentences, longest), causal) in each {
        let kind = if causal { "causal attention" } else { "attention" };
        let title = format!("{kind} {heads} x {size}, up to {longest} tokens, dropout {p}");
        let op = Attention { heads, size, p, stream: 5, causal, masked: false };
        let mut made = case(&title, 1e-5, 2, sentences, move |g| attention(g, 12, op));
        made.longest = longest;
        made.dropout = p > 0.0;
        all.push(made);
    }
    // Of masked rows alone, one and up to five of a sentence, heads of whole vec4 and others. Draws are sets of
    // weights.
    for (heads, size, p, longest, most, probes) in [
        (1, 4, 0.3, 4, 4, 1),
        (4, 16, 0.0, 10, 1, 1),
        (4, 16, 0.3, 10, 5, 3),
        (3, 6, 0.0, 10, 3, 3),
        (2, 32, 0.3, 30, 5, 1),
        (2, 32, 0.0, 75, 2, 3),
        (5, 40, 0.0, 12, 5, 1),
    ] {
        for causal in [false, true] {
            let kind = if causal { "causal attention" } else { "attention" };
            let draws = if probes > 1 { format!(", {probes} sets of weights") } else { String::new() };
            let title = format!(
                "{kind} of up to {most} masked rows, {heads} x {size}, up to {longest} tokens, dropout {p}{draws}"
            );
            let op = Attention { heads, size, p, stream: 5, causal, masked: true };
            let mut made = case(&title, 1e-5, probes, 37, move |g| masked_attention(g, 12, op));
            (made.longest, made.masked) = (longest, most);
            (made.dropout, made.weight_sets, made.first_order) = (p > 0.0, probes > 1, true);
            all.push(made);
        }
    }
    // Runs of none, of one and of some rows of a cache, in steps; heads that are whole vec4 and that are not.
    for (heads, size, longest) in [(1, 4, 10), (3, 6, 10), (2, 32, 30)] {
        let title = format!("attention over a cache, {heads} x {size}, up to {longest} tokens");
        let mut made = case(&title, 1e-5, 1, 5, move |g| cached(g, 12, heads, size));
        (made.longest, made.pass) = (longest, Pass::Forward);
        all.push(made);
    }
    // Sentences of one token, of two, and of one to so many; units that fill no vec4, and more than a workgroup has
    // lanes.
    for (d, units, directions, sentences, shortest, longest) in [
        (8, 8, 1, 5, 1, 1),
        (10, 5, 2, 5, 1, 2),
        (6, 7, 2, 9, 1, 10),
        (9, 3, 1, 4, 1, 10),
        (12, 6, 2, 37, 1, 13),
        (16, 8, 2, 9, 2, 2),
        (32, 16, 2, 70, 1, 6),
        (20, 33, 2, 9, 3, 6),
        (8, 130, 1, 3, 1, 4),
        (4, 260, 1, 2, 1, 3),
    ] {
        let title =
            format!("lstm {d} to {directions} x {units}, {sentences} sentences of {shortest} to {longest} tokens");
        let mut made = case(&title, 6e-6, 2, sentences, move |g| lstm(g, d, units, directions));
        (made.shortest, made.longest) = (shortest, longest);
        all.push(made);
    }
    for (d, f) in [(4, 12), (10, 14), (32, 64)] {
        all.push(case(&format!("gated feed-forward block {d} to {f}"), 6e-6, 2, 5, move |g| {
            gated(g, d, f, Activation::Silu)
        }));
    }
    // Gates of other activations, and in the form that a training step has.
    for (f, fused) in [
        (Activation::Relu, false),
        (Activation::GeluTanh, false),
        (Activation::Silu, true),
        (Activation::GeluTanh, true),
    ] {
        let title = format!("gated feed-forward block of {f:?}{}", if fused { ", fused" } else { "" });
        let mut made = case(&title, 6e-6, 2, 5, move |g| gated(g, 10, 14, f));
        made.fused = fused;
        all.push(made);
    }
    // Columns for every lane of 16.
    let mut made =
        case("gated feed-forward block 64 to 128, fused", 6e-6, 2, 5, |g| gated(g, 64, 128, Activation::Silu));
    made.fused = true;
    all.push(made);
    for (heads, groups, size, fused) in [(3, 1, 4, false), (2, 2, 8, false), (4, 2, 12, true)] {
        let shape = format!("{heads} x {size}, {groups} groups{}", if fused { ", fused" } else { "" });
        let op = RepeatHeads { heads, groups, size };
        // Five operations behind one another.
        let mut made = case(&format!("layer of a causal decoder, {shape}"), 2e-5, 2, 5, move |g| decoder(g, 12, op));
        made.fused = fused;
        all.push(made);
    }
    for (heads, groups, size) in [(4, 2, 4), (3, 1, 6), (2, 2, 8), (6, 2, 10)] {
        let title = format!("keys and values of {groups} groups, {heads} x {size}");
        let op = RepeatHeads { heads, groups, size };
        all.push(case(&title, 1e-5, 2, 5, move |g| grouped(g, 12, op)));
    }
    // Heads that are whole vec4 and that are not.
    for (heads, groups, size) in [(4, 2, 8), (3, 1, 6), (2, 2, 3), (1, 1, 10)] {
        let title = format!("heads in place, {heads} and twice {groups} x {size}");
        all.push(case(&title, 1e-5, 2, 5, move |g| placed(g, 12, [heads, groups, groups], size)));
    }
    // Halves that are whole vec4 and that are not, heads turned in part, positions far from 0.
    for (heads, size, rotated) in [(2, 8, 8), (3, 6, 6), (2, 10, 4), (1, 64, 16), (2, 16, 6)] {
        let title = format!("rotary {rotated} of {heads} x {size}, up to 75 tokens");
        let frequencies = Rotary::frequencies(10_000.0, rotated);
        let rotary = Rotary { heads: 2 * heads, size, frequencies, repeat: None };
        let mut made = case(&title, 6e-6, 2, 4, move |g| turned(g, 12, 3 * heads, &rotary));
        made.longest = 75;
        all.push(made);
    }
    for (heads, groups, size, rotated) in [(4, 2, 8, 8), (3, 1, 6, 6), (6, 2, 10, 4), (4, 2, 16, 8)] {
        let title = format!("rotary {rotated} of {heads} x {size}, {groups} groups, up to 75 tokens");
        let (frequencies, repeat) = (Rotary::frequencies(10_000.0, rotated), Some(RepeatHeads { heads, groups, size }));
        let rotary = Rotary { heads: heads + groups, size, frequencies, repeat };
        let mut made = case(&title, 6e-6, 2, 4, move |g| turned(g, 12, heads + 2 * groups, &rotary));
        made.longest = 75;
        all.push(made);
    }
    for p in [0.1, 0.9] {
        let mut made = case(&format!("dropout {p}"), 1e-6, 2, 5, move |g| dropped(g, 10, p));
        made.dropout = true;
        all.push(made);
    }
    // Room for all tokens, and for fewer than some sentences have.
    for (d, tokens) in [(4, 10), (6, 4), (10, 3)] {
        let title = format!("whole sentences of {tokens} x {d}");
        all.push(case(&title, 6e-6, 1, 7, move |g| whole_sentences(g, d, tokens)));
    }
    for (vocabulary, probes) in [(4, 1), (11, 1), (11, 3), (130, 1)] {
        for soft in [false, true] {
            let labels = if soft { "soft" } else { "hard" };
            let sets = if probes > 1 { format!(", {probes} sets of weights") } else { String::new() };
            let title = format!("tied head, {vocabulary} words, {labels} labels{sets}");
            let labels = if soft { Labels::Soft } else { Labels::Hard };
            let mut made = case(&title, 6e-6, probes, 9, move |g| tied_head(g, vocabulary, 8, labels));
            made.vocabulary = vocabulary;
            made.soft = soft;
            made.weight_sets = probes > 1;
            all.push(made);
        }
    }
    for kind in [LossDraw::Label, LossDraw::Signs, LossDraw::Exact] {
        for vocabulary in [4, 11, 130] {
            let title = format!("draws at {vocabulary} logits, {kind:?}");
            let mut made = case(&title, 6e-6, 3, 9, move |g| draws(g, vocabulary, kind));
            (made.vocabulary, made.pass) = (vocabulary, Pass::Forward);
            all.push(made);
        }
    }
    for draw in group_draws() {
        for vocabulary in [4, 11, 130] {
            let title = format!("draws of a part at {vocabulary} logits, {draw:?}");
            let mut made = case(&title, 6e-6, 3, 9, move |g| grouped_draws(g, vocabulary, draw));
            (made.vocabulary, made.pass) = (vocabulary, Pass::Forward);
            all.push(made);
        }
    }
    for vocabulary in [4, 11, 130] {
        let title = format!("draws along axes at {vocabulary} logits");
        let mut made = case(&title, 2e-5, 3, 9, move |g| draws_along_axes(g, vocabulary));
        (made.vocabulary, made.pass) = (vocabulary, Pass::Forward);
        all.push(made);
    }
    all
}

/// Both parts, drawn and enumerated.
fn group_draws() -> impl Iterator<Item = GroupDraw> {
    let of = |part| [false, true].map(|exact| GroupDraw { part, exact, groups: 3 });
    [GroupPart::Between, GroupPart::Within].into_iter().flat_map(of)
}
