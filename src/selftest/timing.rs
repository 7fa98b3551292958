//! How fast each operation is at one representative shape, with every variant that an adapter can run.

use std::collections::HashMap;
use std::time::Instant;

use serde::Serialize;

use crate::gpu::{Count, Gpu, GpuError, Step};
use crate::graph::{Dims, Emit, Graph, Plan, Role, TensorId};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::{Activation, Attention, Batch, BatchBuffers, Family, Labels, Variants};
use crate::random::{Purpose, Stream};

/// Tokens of each sentence, width, heads and vocabulary of the shapes.
const T: u32 = 32;
const D: u32 = 256;
const F: u32 = 1024;
const H: u32 = 4;
const V: u32 = 512;

/// Repeats; the median counts.
const REPEATS: usize = 5;
/// Seconds of one run above which a single one must do: a variant made for another kind of adapter.
const SLOW: f64 = 0.5;

/// The speed of one operation.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    pub operation: String,
    pub shape: String,
    /// Name of the variant in the table, for an operation that has several.
    pub variant: Option<&'static str>,
    /// Whether this variant is the one that is used.
    pub used: bool,
    /// Median time of one run, all its dispatches together.
    pub seconds: f64,
    /// 10⁹ multiplications and additions a second, for what is bound by arithmetic.
    pub gflops: Option<f64>,
    /// 10⁹ bytes a second of tensors read and written once.
    pub gbytes: f64,
    pub dispatches: usize,
}

/// The graph of one timing: `build` gives the operation's output and the tensors whose adjoints are wanted.
struct Spec {
    operation: &'static str,
    /// Its part of the variant table.
    part: Option<Family>,
    shape: String,
    /// Multiplications and additions.
    flops: Option<f64>,
    reverse: bool,
    build: fn(&mut Graph) -> (TensorId, Vec<TensorId>),
}

fn specs(rows: u32) -> Vec<Spec> {
    let (r, d, f, t) = (f64::from(rows), f64::from(D), f64::from(F), f64::from(T));
    let product = Some(2.0 * r * d * f);
    let spec =
        |operation, part, shape: String, flops, reverse, build| Spec { operation, part, shape, flops, reverse, build };
    let matrix = format!("[{rows}, {D}]");
    let logits = format!("[{}, {V}]", rows / T);
    let linear = format!("{rows} x {D} x {F}");
    let heads = format!("{} x {T} tokens, {H} heads, D {D}", rows / T);
    let (nt, nn, tn) = (Some(Family::LinearNt), Some(Family::LinearNn), Some(Family::LinearTn));
    let (attention, attention_vjp) = (Some(Family::AttentionForward), Some(Family::AttentionVjp));
    let (norm, loss, sums) = (Some(Family::LayerNorm), Some(Family::CrossEntropy), Some(Family::Sums));
    vec![
        spec("linear", nt, linear.clone(), product, false, |g| linear_graph(g, false, false)),
        spec("linear, gradient of the input", nn, linear.clone(), product, true, |g| linear_graph(g, true, false)),
        spec("linear, gradient of the weight", tn, linear, product, true, |g| linear_graph(g, false, true)),
        spec("attention", attention, heads.clone(), Some(4.0 * r * t * d), false, attention_graph),
        spec("attention, vjp", attention_vjp, heads, Some(10.0 * r * t * d), true, attention_graph),
        spec("layer_norm", norm, matrix.clone(), None, false, norm_graph),
        spec("layer_norm, vjp", norm, matrix.clone(), None, true, norm_graph),
        spec("activation", None, format!("[{rows}, {F}]"), None, false, |g| {
            let x = g.input("x", Count::Rows, F);
            (g.activation(Activation::Gelu, x), vec![])
        }),
        spec("dropout", None, matrix.clone(), None, false, |g| {
            let x = g.input("x", Count::Rows, D);
            (g.dropout(x, 0.1, 1), vec![])
        }),
        spec("add", None, matrix.clone(), None, false, |g| {
            let (x, y) = (g.input("x", Count::Rows, D), g.input("y", Count::Rows, D));
            (g.add(x, y), vec![])
        }),
        spec("embedding", None, matrix.clone(), None, false, embedding_graph),
        spec("embedding, vjp", sums, matrix, None, true, embedding_graph),
        spec("cross_entropy", loss, logits.clone(), None, false, loss_graph),
        spec("cross_entropy, vjp", loss, logits, None, true, loss_graph),
    ]
}

fn linear_graph(g: &mut Graph, input: bool, weight: bool) -> (TensorId, Vec<TensorId>) {
    let (x, w) = (g.input("x", Count::Rows, D), g.parameter("w", F, D));
    let y = g.linear(x, w, None, None);
    (y, [(x, input), (w, weight)].into_iter().filter(|p| p.1).map(|p| p.0).collect())
}

fn attention_graph(g: &mut Graph) -> (TensorId, Vec<TensorId>) {
    let x = g.input("qkv", Count::Rows, 3 * D);
    (g.attention(x, Attention { heads: H, size: D / H, p: 0.0, stream: 0 }), vec![x])
}

fn norm_graph(g: &mut Graph) -> (TensorId, Vec<TensorId>) {
    let x = g.input("x", Count::Rows, D);
    let (gamma, beta) = (g.parameter("norm.weight", 1, D), g.parameter("norm.bias", 1, D));
    (g.layer_norm(x, gamma, beta, 1e-5), vec![x, gamma, beta])
}

fn loss_graph(g: &mut Graph) -> (TensorId, Vec<TensorId>) {
    let x = g.input("logits", Count::Masked, V);
    (g.cross_entropy(x, Labels::Hard), vec![x])
}

fn embedding_graph(g: &mut Graph) -> (TensorId, Vec<TensorId>) {
    let (words, positions, segments) =
        (g.parameter("words", V, D), g.parameter("positions", T + 2, D), g.parameter("segments", 1, D));
    (g.embedding(words, positions, segments), vec![words, positions, segments])
}

/// Tokens that operations are timed with.
fn rows(gpu: &Gpu) -> u32 {
    if gpu.capabilities().software { 2048 } else { 16384 }
}

/// Names of what [`timings`] times, in its order.
pub fn timed_operations(gpu: &Gpu) -> Vec<&'static str> {
    specs(rows(gpu)).iter().map(|s| s.operation).collect()
}

/// Times every operation with every variant that the adapter can run; half a minute on a software adapter.
pub fn timings(
    gpu: &Gpu,
    used: &Variants,
    wanted: &dyn Fn(&str) -> bool,
    note: &dyn Fn(&str),
) -> Result<Vec<Timing>, GpuError> {
    let mut all = Vec::new();
    timings_into(&mut all, gpu, used, wanted, note)?;
    Ok(all)
}

/// The same into a list, which keeps what there is when it ends early.
pub fn timings_into(
    all: &mut Vec<Timing>,
    gpu: &Gpu,
    used: &Variants,
    wanted: &dyn Fn(&str) -> bool,
    note: &dyn Fn(&str),
) -> Result<(), GpuError> {
    let rows = rows(gpu);
    for spec in specs(rows).into_iter().filter(|s| wanted(s.operation)) {
        note(spec.operation);
        let Some(part) = spec.part else {
            all.push(timing(gpu, used, rows, &spec)?);
            continue;
        };
        for row in part.rows().iter().filter(|row| row.missing(gpu.capabilities()).is_none()) {
            let variants = used.with(part, row.name).expect("a row of the table");
            let timing = timing(gpu, &variants, rows, &spec)?;
            all.push(Timing { variant: Some(row.name), used: variants == *used, ..timing });
        }
    }
    Ok(())
}

/// GFLOP/s of a product with the variant that an adapter gets: how fast it is, in a second or two.
pub fn product_rate(gpu: &Gpu) -> Result<f64, GpuError> {
    const ROWS: u32 = 2048;
    let timing = timing(gpu, &Variants::choose(gpu.capabilities()), ROWS, &specs(ROWS)[0])?;
    Ok(timing.gflops.unwrap_or(0.0))
}

fn timing(gpu: &Gpu, variants: &Variants, rows: u32, spec: &Spec) -> Result<Timing, GpuError> {
    let mut graph = Graph::default();
    let (output, inputs) = (spec.build)(&mut graph);
    let forward = Timed::new(gpu, variants, rows, &graph, &[output])?;
    let forward_bytes = forward.bytes(&graph);
    let (whole, bytes, skip) = if spec.reverse {
        let tensor = graph.tensor(output).clone();
        let cotangent = graph.input("cotangent", tensor.rows, tensor.cols);
        let adjoints = graph.gradient_for(&[(output, cotangent)], |id| inputs.contains(&id));
        let keep: Vec<TensorId> = inputs.iter().filter_map(|id| adjoints.get(id).copied()).chain([output]).collect();
        graph.prune(&keep);
        let whole = Timed::new(gpu, variants, rows, &graph, &keep)?;
        let bytes = whole.bytes(&graph) - forward_bytes;
        (whole, bytes, forward.plan.program().len())
    } else {
        (forward, forward_bytes, 0)
    };
    let seconds = whole.seconds(gpu, skip)?;
    Ok(Timing {
        operation: spec.operation.into(),
        shape: spec.shape.clone(),
        variant: None,
        used: true,
        seconds,
        gflops: spec.flops.map(|f| f / seconds / 1e9),
        gbytes: bytes as f64 / seconds / 1e9,
        dispatches: whole.plan.program().len() - skip,
    })
}

struct Timed {
    plan: Plan,
    step: Step,
    dims: Dims,
}

impl Timed {
    fn new(gpu: &Gpu, variants: &Variants, rows: u32, graph: &Graph, keep: &[TensorId]) -> Result<Timed, GpuError> {
        let layout = BatchLayout { tables: [V, T + 2, 1], first_position: 2, segment: variants.sums().segment };
        let mut random = Stream::new(3, Purpose::Test, 0);
        let sentences: Vec<Sentence> = (0..rows / T)
            .map(|_| Sentence {
                ids: (0..T).map(|_| random.below(V)).collect(),
                masked: vec![(1, random.below(V))],
                ..Sentence::default()
            })
            .collect();
        let batch = Batch::new(&layout, &sentences);
        let dims = Dims { rows, masked: batch.masked(), sentences: batch.sentences, probes: 1 };
        let buffers = BatchBuffers::new(gpu, &dims, &layout, variants, V, false)?;
        buffers.write(gpu, &batch, 1.0);
        let mut outside = HashMap::new();
        for (id, tensor) in graph.tensors().filter(|(_, t)| t.role != Role::Value) {
            let buffer = gpu.buffer(&tensor.name, dims.bytes(tensor))?;
            let values: Vec<f32> = (0..dims.bytes(tensor) / 4).map(|_| random.normal() as f32).collect();
            gpu.write(&buffer, &values);
            outside.insert(id, buffer);
        }
        let plan = Plan::new(gpu, graph, dims, variants, &buffers, &outside, keep)?;
        Ok(Timed { plan, step: batch.step(1), dims })
    }

    /// Every tensor that a node reads or writes, once a node.
    fn bytes(&self, graph: &Graph) -> u64 {
        let each = |id: &TensorId| self.dims.bytes(graph.tensor(*id));
        graph.nodes().iter().flat_map(|n| n.inputs.iter().chain(&n.outputs)).map(each).sum()
    }

    /// Median time of the dispatches behind the first `skip`: by timestamps, else of everything by the host's clock.
    fn seconds(&self, gpu: &Gpu, skip: usize) -> Result<f64, GpuError> {
        self.plan.run(gpu, &self.step)?;
        let mut all = Vec::with_capacity(REPEATS);
        while all.len() < REPEATS && all.first().is_none_or(|first| *first < SLOW) {
            all.push(match gpu.capabilities().timestamps {
                true => self.plan.program().time(gpu, &self.step)?.iter().skip(skip).map(|(_, s)| s).sum(),
                false => {
                    let start = Instant::now();
                    self.plan.run(gpu, &self.step)?;
                    start.elapsed().as_secs_f64()
                }
            });
        }
        all.sort_by(f64::total_cmp);
        Ok(all[all.len() / 2])
    }
}
