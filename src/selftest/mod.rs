//! One table of cases for every operation and shape, run on an adapter against the f64 twins: read by `lowland selftest`
//! and by the test suite.
//!
//! A case is a small graph with the operation in its middle and cotangents behind it, so that a reverse rule that forgets
//! what comes in fails; every computed tensor of the graph is compared, padding included.
//!
//! ```no_run
//! use lowland::{gpu::Gpu, ops::Variants, selftest};
//! let gpu = Gpu::open(&Default::default(), Default::default())?;
//! for case in selftest::cases() {
//!     let outcome = selftest::run(&gpu, &Variants::choose(gpu.capabilities()), &case)?;
//!     assert!(outcome.passed, "{}: {:.1e}", outcome.case, outcome.error);
//! }
//! # Ok::<(), lowland::gpu::GpuError>(())
//! ```

mod differences;
mod timing;

use std::collections::HashMap;

use crate::gpu::{Count, Dispatch, Gpu, GpuError, Step};
use crate::graph::{self, Dims, Emit, GramPart, Graph, Plan, Role, TensorId};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::{
    Activation, Attention, Batch, BatchBuffers, Function, GhostNorm, Labels, RowGram, Rule, Variants, call, concat,
};
use crate::random::{Purpose, Stream};
use crate::reference::{self, Frame, Values};

pub use differences::{Difference, directional_differences, finite_differences};
pub use timing::{Timing, product_rate, timed_operations, timings, timings_into};

/// Rows of the word, position and segment table in the cases.
const TABLES: [u32; 3] = [11, 80, 3];

/// A graph to try and the batch to try it on.
pub struct Case {
    pub name: String,
    /// Largest difference allowed, as a share of the tensor's largest value. f32 has 6e-8; sums over rows and exp cost more.
    pub bound: f64,
    /// Cotangents or probes at once.
    pub probes: u32,
    pub sentences: u32,
    pub vocabulary: u32,
    /// Tokens of the longest sentence.
    pub longest: u32,
    build: Box<dyn Fn(&mut Graph) -> TensorId + Send + Sync>,
    soft: bool,
    /// Whether nodes are fused as in a training step.
    fused: bool,
    pass: Pass,
}

/// What follows the forward pass of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The reverse pass.
    Gradient,
    /// The reverse pass, and tangents of both along a direction of all parameters.
    Tangent,
    /// The reverse pass, tangents of the forward pass, and second-order terms.
    Second,
    /// The reverse pass with squared norms of each sentence's gradients.
    Norms,
}

/// What a case gave.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Outcome {
    pub case: String,
    pub variants: Variants,
    /// Largest difference of all tensors, as a share of the tensor's largest value, and where it was.
    pub error: f64,
    pub tensor: String,
    pub bound: f64,
    pub passed: bool,
}

fn case(
    name: &str,
    bound: f64,
    probes: u32,
    sentences: u32,
    build: impl Fn(&mut Graph) -> TensorId + Send + Sync + 'static,
) -> Case {
    Case {
        name: name.into(),
        bound,
        probes,
        sentences,
        vocabulary: 11,
        longest: 10,
        build: Box::new(build),
        soft: false,
        fused: false,
        pass: Pass::Gradient,
    }
}

/// All cases: every operation with its reverse pass, with tangents of both, and with second-order terms.
pub fn cases() -> Vec<Case> {
    let mut all = operations();
    for (pass, suffix) in [(Pass::Tangent, "tangents"), (Pass::Second, "second order"), (Pass::Norms, "norms")] {
        let plain = operations()
            .into_iter()
            .filter(|c| !c.fused && !c.soft && !c.name.contains("dropout 0.") && !c.name.contains("sets of weights"));
        all.extend(plain.map(|c| Case {
            name: format!("{}, {suffix}", c.name),
            // Tangents of adjoints and second-order terms are sums of terms that cancel, larger than what is left.
            bound: if pass == Pass::Second { 8.0 } else { 4.0 } * c.bound,
            probes: 2,
            pass,
            ..c
        }));
    }
    all
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
            let (gamma, beta) = (g.parameter("norm.weight", 1, d), g.parameter("norm.bias", 1, d));
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
            // Zeros behind the head size, as in a model's weights.
            let w = g.parameter(&format!("qkv%{size}"), 3 * heads * op.padded(), 12);
            let qkv = g.linear(x, w, None, None);
            g.attention(qkv, op)
        });
        made.longest = longest;
        all.push(made);
    }
    for p in [0.1, 0.9] {
        all.push(case(&format!("dropout {p}"), 1e-6, 2, 5, move |g| {
            let x = embedded(g, 10);
            g.dropout(x, p, 3)
        }));
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
            all.push(made);
        }
    }
    all
}

/// x + W₂ f(W₁ x + b₁) + b₂, as in a layer.
fn feed_forward(g: &mut Graph, d: u32, f: Activation) -> TensorId {
    let x = embedded(g, d);
    // Finite differences want a function with a kink to be looked at away from it.
    let b1 = if f == Activation::Relu { "b1 away from 0" } else { "b1" };
    let (w1, b1) = (g.parameter("w1", 4 * d, d), g.parameter(b1, 1, 4 * d));
    let (w2, b2) = (g.parameter("w2", d, 4 * d), g.parameter("b2", 1, d));
    let h = g.linear(x, w1, Some(b1), None);
    let a = g.activation(f, h);
    g.linear(a, w2, Some(b2), Some(x))
}

fn embedded(g: &mut Graph, d: u32) -> TensorId {
    let words = g.parameter("words", TABLES[0], d);
    embedding_of(g, words, d)
}

fn embedding_of(g: &mut Graph, words: TensorId, d: u32) -> TensorId {
    let (positions, segments) = (g.parameter("positions", TABLES[1], d), g.parameter("segments", TABLES[2], d));
    g.embedding(words, positions, segments)
}

fn batch_of(case: &Case, layout: &BatchLayout) -> Batch {
    let mut random = Stream::new(11, Purpose::Test, u64::from(case.sentences));
    let sentences: Vec<Sentence> = (0..case.sentences)
        .map(|_| {
            let length = 2 + random.below(case.longest - 1);
            let ids = (0..length).map(|_| random.below(case.vocabulary)).collect();
            let segments = (0..length).map(|_| random.below(TABLES[2])).collect();
            let masked: Vec<(u32, u32)> =
                (0..1 + random.below(2)).map(|i| (i, random.below(case.vocabulary))).collect();
            let soft =
                masked.iter().filter(|_| case.soft).map(|_| distribution(&mut random, case.vocabulary)).collect();
            Sentence { ids, segments, masked, soft, ..Sentence::default() }
        })
        .collect();
    Batch::new(layout, &sentences)
}

/// A random distribution with some zeros in it.
fn distribution(random: &mut Stream, n: u32) -> Vec<f32> {
    let mut weights: Vec<f64> = (0..n).map(|_| if random.below(4) == 0 { 0.0 } else { random.exponential() }).collect();
    weights[0] += 0.1;
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| (w / total) as f32).collect()
}

/// A case with its batch, cotangents and given values.
struct Setting {
    layout: BatchLayout,
    batch: Batch,
    graph: Graph,
    output: TensorId,
    cotangent: TensorId,
    adjoints: HashMap<TensorId, TensorId>,
    step: Step,
    /// A direction of each parameter, and the tangents along it.
    directions: Vec<(TensorId, TensorId)>,
    tangents: HashMap<TensorId, TensorId>,
    /// Second-order terms of each sentence.
    second: Option<TensorId>,
    /// Nodes before the reverse pass.
    forward: usize,
    /// Parameters and inputs.
    values: Values,
}

impl Setting {
    fn new(case: &Case, probes: u32, segment: u32, fused: bool) -> Setting {
        let layout = BatchLayout { tables: [case.vocabulary, TABLES[1], TABLES[2]], first_position: 2, segment };
        let batch = batch_of(case, &layout);
        let mut graph = Graph::default();
        let output = (case.build)(&mut graph);
        let forward = graph.nodes().len();
        let tensor = graph.tensor(output).clone();
        let cotangent = match tensor.rows {
            // A set of weights a probe.
            Count::Masked if case.pass == Pass::Gradient && case.probes > 1 => graph.probe("weights", Count::Masked, 4),
            Count::Masked => graph.input("weight", Count::Masked, 4),
            _ if matches!(case.pass, Pass::Gradient | Pass::Norms) => {
                graph.probe("cotangent", tensor.rows, tensor.cols)
            }
            _ => graph.input("cotangent", tensor.rows, tensor.cols),
        };
        let mut directions = Vec::new();
        let directions_of = |graph: &mut Graph| -> Vec<(TensorId, TensorId)> {
            let parameters: Vec<(TensorId, String, Count, u32)> = graph
                .tensors()
                .filter(|(_, t)| t.role == Role::Parameter)
                .map(|(id, t)| (id, t.name.clone(), t.rows, t.cols))
                .collect();
            let probe = |(id, name, rows, cols): (TensorId, String, Count, u32)| {
                (id, graph.probe(&format!("along {name}"), rows, cols))
            };
            parameters.into_iter().map(probe).collect()
        };
        let names: HashMap<TensorId, String> = graph.tensors().map(|(id, t)| (id, t.name.clone())).collect();
        let mut tangents = HashMap::new();
        let mut second = None;
        let adjoints;
        match case.pass {
            Pass::Gradient => adjoints = graph.gradient(&[(output, cotangent)]),
            Pass::Norms => {
                adjoints = graph.gradient(&[(output, cotangent)]);
                let mut parameters: Vec<TensorId> =
                    adjoints.keys().copied().filter(|id| graph.tensor(*id).role == Role::Parameter).collect();
                parameters.sort_unstable();
                let parts = |id: TensorId| if names.get(&id).is_some_and(|n| n.starts_with("qkv")) { 3 } else { 1 };
                graph.ghost_norms(&adjoints, &parameters, &parts);
                with_row_grams(&mut graph, case.longest);
                let cotangent = graph.input("one cotangent", tensor.rows, tensor.cols);
                let adjoints = graph.gradient(&[(output, cotangent)]);
                let wanted = |id: TensorId| GramPart { mask: (1 << parts(id)) - 1, parts: parts(id) };
                graph.ghost_gram(&adjoints, &parameters, case.sentences + 1, &wanted);
            }
            Pass::Tangent => {
                adjoints = graph.gradient(&[(output, cotangent)]);
                directions = directions_of(&mut graph);
                // The cotangent moves too, as an adjoint does in the middle of a model.
                if tensor.rows != Count::Masked {
                    let along = graph.probe("along cotangent", tensor.rows, tensor.cols);
                    directions.push((cotangent, along));
                }
                tangents = graph.tangent(&directions);
            }
            Pass::Second => {
                directions = directions_of(&mut graph);
                tangents = graph.tangent(&directions);
                adjoints = graph.gradient(&[(output, cotangent)]);
                let loss = (tensor.rows == Count::Masked).then_some((output, 0.25));
                second = graph.second_order(forward, loss, Some(&adjoints), &tangents);
            }
        }
        if fused {
            graph.fuse();
            graph.share_slopes();
        }
        let step = Step { seed: [7, 8], counter: [3, 0], ..batch.step(probes) };
        let mut setting = Setting {
            layout,
            batch,
            graph,
            output,
            cotangent,
            adjoints,
            step,
            directions,
            tangents,
            second,
            forward,
            values: Values::new(),
        };
        for (id, tensor) in setting.graph.tensors().filter(|(_, t)| t.role != Role::Value) {
            let layers = if tensor.probes { probes as usize } else { 1 };
            let value = given(tensor.cols as usize, setting.frame().rows(id), layers, &tensor.name, id);
            setting.values.insert(id, value);
        }
        setting
    }

    fn frame(&self) -> Frame<'_> {
        Frame { graph: &self.graph, batch: &self.batch, step: self.step }
    }
}

/// Appends the norms of products once more, from the inner products of their inputs.
fn with_row_grams(graph: &mut Graph, longest: u32) {
    for node in graph.nodes().to_vec() {
        if let Function::GhostNorm(GhostNorm::Product { parts }) = node.function {
            let [b, a] = node.inputs();
            let gram = graph.push(call(RowGram { most: longest + 2 }, Rule::Forward, &[a]), "row_gram")[0];
            graph.push(call(GhostNorm::Weighted { parts }, Rule::Forward, &[b, gram]), "norms");
        }
    }
}

/// Runs a case with some variants on an adapter.
pub fn run(gpu: &Gpu, variants: &Variants, case: &Case) -> Result<Outcome, GpuError> {
    let setting = Setting::new(case, case.probes, variants.sums().segment, case.fused);
    let Setting { layout, batch, graph, step, .. } = &setting;
    let dims = Dims {
        rows: batch.rows() + 5,
        masked: batch.masked() + 3,
        sentences: batch.sentences + 1,
        probes: case.probes,
    };
    let frame = setting.frame();
    let buffers = BatchBuffers::new(gpu, &dims, layout, variants, case.vocabulary, case.soft)?;
    buffers.write(gpu, batch, 0.25);
    let mut outside = HashMap::new();
    for (id, value) in &setting.values {
        let tensor = graph.tensor(*id);
        let layers = if tensor.probes { case.probes as usize } else { 1 };
        let buffer = if tensor.name == "weight" {
            buffers.weight.clone()
        } else {
            let buffer = gpu.buffer(&tensor.name, dims.bytes(tensor))?;
            let rows = frame.rows(*id);
            gpu.write(&buffer, &padded(value, rows, tensor.cols as usize, layers, &dims, tensor.rows));
            buffer
        };
        outside.insert(*id, buffer);
    }
    let mut values = setting.values.clone();
    reference::run(&frame, graph.nodes(), &mut values);
    let keep: Vec<TensorId> = graph.nodes().iter().flat_map(|node| node.outputs.iter().copied()).collect();
    let plan = Plan::new(gpu, graph, dims, variants, &buffers, &outside, &keep)?;
    plan.run(gpu, step)?;
    let mut worst = (0.0, String::new());
    for id in keep {
        let tensor = graph.tensor(id);
        let layers = if tensor.probes { case.probes as usize } else { 1 };
        let (rows, cols) = (frame.rows(id), tensor.cols as usize);
        let expected = padded(&values[&id], rows, cols, layers, &dims, tensor.rows);
        let buffer = plan.buffer(id).expect("every tensor is kept");
        let got: Vec<f32> = gpu.read(buffer, expected.len())?;
        let largest = expected.iter().fold(1e-3f64, |m, v| m.max(f64::from(v.abs())));
        let wide = 4 * tensor.cols4() as usize;
        let per_layer = expected.len() / layers;
        for layer in 0..layers {
            // Rows behind the batch's own are not looked at; columns behind the last one must be zero, but for second-order
            // terms, which are only summed up.
            let padding = !tensor.name.starts_with("second(");
            // Inner products are written below the diagonal only.
            let lower = tensor.name.starts_with("gram");
            let looked_at =
                |i: &usize| (padding || i % wide < cols) && (!lower || i % wide <= (i - layer * per_layer) / wide);
            for i in (layer * per_layer..layer * per_layer + rows * wide).filter(looked_at) {
                let difference = f64::from((got[i] - expected[i]).abs()) / largest;
                if difference > worst.0 || difference.is_nan() {
                    worst = (if difference.is_nan() { f64::INFINITY } else { difference }, tensor.name.clone());
                }
            }
        }
    }
    // Operands of f16 have 11 bits; their f32 result is the measure of mixed precision.
    let bound = if variants.is_mixed() { case.bound.max(4e-3) } else { case.bound };
    let passed = worst.0 <= bound;
    Ok(Outcome { case: case.name.clone(), variants: *variants, error: worst.0, tensor: worst.1, bound, passed })
}

/// The dispatches of a case and its reverse pass with some variants, whether or not the adapter could run them.
pub fn dispatches(gpu: &Gpu, variants: &Variants, case: &Case) -> Result<Vec<Dispatch>, GpuError> {
    let Setting { layout, batch, graph, .. } = Setting::new(case, case.probes, variants.sums().segment, case.fused);
    let (rows, masked, sentences) = (batch.rows(), batch.masked(), batch.sentences);
    graph::dispatches(gpu, &graph, Dims { rows, masked, sentences, probes: case.probes }, variants, &layout)
}

/// Values for a parameter or an input: normal numbers of the size a model has them in, scales near 1.
fn given(cols: usize, rows: usize, layers: usize, name: &str, id: TensorId) -> Vec<f64> {
    let mut random = Stream::new(5, Purpose::Test, u64::from(id.0));
    let size: Option<usize> = name.split_once('%').and_then(|(_, s)| s.parse().ok());
    (0..layers * rows * cols)
        .map(|i| {
            let z = f64::from(random.normal() as f32);
            if name.ends_with("norm.weight") {
                return f64::from((1.0 + 0.2 * z) as f32);
            }
            if name == "weight" {
                return if i % 4 == 0 { 0.25 } else { 0.0 };
            }
            // Of the four columns only the first is the weight.
            if name == "weights" && i % 4 != 0 {
                return 0.0;
            }
            // Further from 0 than a product with a row of `w1` comes.
            if name.ends_with("away from 0") {
                return z + f64::from((80.0f64).copysign(z) as f32);
            }
            match size {
                Some(size) if (i / cols) % size.next_multiple_of(4) >= size => 0.0,
                Some(_) => z * 0.5,
                None => z,
            }
        })
        .collect()
}

/// f64 values in the layout of memory: rows padded to a multiple of 4 columns, probes to the plan's capacity.
fn padded(value: &[f64], rows: usize, cols: usize, layers: usize, dims: &Dims, count: Count) -> Vec<f32> {
    let wide = cols.next_multiple_of(4);
    let capacity = dims.capacity(count) as usize;
    let mut out = vec![0.0; layers * capacity * wide];
    for layer in 0..layers {
        for r in 0..rows {
            for c in 0..cols {
                out[(layer * capacity + r) * wide + c] = value[(layer * rows + r) * cols + c] as f32;
            }
        }
    }
    out
}
