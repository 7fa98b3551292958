//! The exact Fisher trace of few long sentences, beside the seconds that the least work would take.
//!
//! Least work: one forward pass; for each of the V - 1 cotangents of a masked position a pass back, in the last layer
//! of what a single masked row reaches alone; squared norms in the cheaper of their two forms, the inner products of
//! the inputs once for all cotangents. At the rate of the fastest product of the model's shapes, measured before and
//! after in the same run.

use std::collections::HashMap;
use std::time::Instant;

use lowland::curvature::{Chunks, Drawing, Subject};
use lowland::gpu::{Gpu, Step};
use lowland::graph::{Dims, ExecutionPlan, Graph, Role};
use lowland::model::{Encoder, Model, ModelConfig, TokenIds, Weights};
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::ops::counts::ROWS;
use lowland::ops::{BatchBuffers, Device, Layout, LossDraw, Variants};
use lowland::random::{Purpose, Stream};
use serde_json::{Value, json};

use super::Error;

/// width, layers, tokens, sentences, masked positions of each, words of the table.
struct Shape {
    d: u32,
    layers: u32,
    tokens: u32,
    sentences: u32,
    positions: u32,
    words: u32,
}

impl Shape {
    fn parse(text: &str) -> Result<Shape, Error> {
        let numbers: Vec<u32> = text.split('/').map(str::parse).collect::<Result<_, _>>()?;
        let [d, layers, tokens, sentences, positions, words] = numbers[..] else {
            return Err(format!("`{text}` is not width/layers/tokens/sentences/positions/words").into());
        };
        Ok(Shape { d, layers, tokens, sentences, positions, words })
    }

    /// Multiplications and additions of the least work.
    fn least(&self) -> f64 {
        let (d, t, v) = (f64::from(self.d), f64::from(self.tokens), f64::from(self.words));
        let (f, m, above) = (4.0 * d, f64::from(self.positions), f64::from(self.layers) - 1.0);
        // (columns of the input, columns of the adjoint) of a layer's products.
        let matrices = [(d, 3.0 * d), (d, d), (d, f), (f, d)];
        let ghost = |b: f64| t * t * b;
        let norm = |(a, b): (f64, f64)| ghost(b).min(2.0 * t * a * b);
        let inputs: f64 = matrices.iter().map(|(a, _)| ghost(*a)).sum();
        let head = 2.0 * (d * d + d * v);
        let forward = above * (2.0 * t * (4.0 * d * d + 2.0 * d * f) + 4.0 * t * t * d)
            + 2.0 * t * 2.0 * d * d
            + m * (2.0 * (2.0 * d * d + 2.0 * d * f) + 4.0 * t * d + head);
        let whole = 2.0 * t * (4.0 * d * d + 2.0 * d * f) + 8.0 * t * t * d + matrices.map(norm).iter().sum::<f64>();
        // One row through the head, the feed-forward, the output and the query; keys and values of all rows.
        let last = head + 2.0 * (2.0 * d * f + 2.0 * d * d) + 8.0 * t * d + 2.0 * t * 2.0 * d * d + ghost(2.0 * d);
        f64::from(self.sentences) * (forward + above * inputs + m * (v - 1.0) * (above * whole + last))
    }
}

/// Operations a second of the fastest product of the shapes: of [rows, 4 d] with [4 d, d] and back.
fn rate(gpu: &Gpu, variants: &Variants, rows: u32, d: u32) -> Result<f64, Error> {
    let mut best = 0.0f64;
    for (k, n) in [(4 * d, d), (d, 4 * d), (3 * d, d)] {
        let mut graph = Graph::default();
        let (a, b) = (graph.input("a", ROWS, k), graph.parameter("b", k, n));
        let c = graph.product(Layout::NN, a, b, None, None);
        let dims = Dims { rows, masked: 1, sentences: 1, probes: 1, longest: 0 };
        let layout = BatchLayout { tables: [4; 3], first_position: 0, segment: variants.sums().segment };
        let batch = BatchBuffers::new(gpu, &dims, &layout, variants, 4, false)?;
        let mut outside = HashMap::new();
        for (id, tensor) in graph.tensors().filter(|(_, t)| t.role != Role::Value) {
            let buffer = gpu.buffer(&tensor.name, dims.bytes(tensor))?;
            let mut stream = Stream::new(1, Purpose::Test, u64::from(id.0));
            let values: Vec<f32> = (0..dims.bytes(tensor) / 4).map(|_| stream.normal() as f32).collect();
            gpu.write(&buffer, &values);
            outside.insert(id, buffer);
        }
        let plan = ExecutionPlan::new(&Device::new(gpu, *variants), &graph, dims, &batch, &outside, &[c])?;
        let step = Step { counts: [rows, 1, 1], probes: 1, ..Step::default() };
        for _ in 0..5 {
            let start = Instant::now();
            plan.run(gpu, &step)?;
            best = best.max(2.0 * f64::from(rows) * f64::from(k) * f64::from(n) / start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

pub fn race(gpu: &Gpu, text: &str, probes: u32) -> Result<Value, Error> {
    let shape = Shape::parse(text)?;
    let model = ModelConfig {
        vocab_size: shape.words,
        hidden_size: shape.d,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.d / 64,
        intermediate_size: 4 * shape.d,
        max_position_embeddings: shape.tokens + 2,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&model)?;
    let mut random = Stream::new(1, Purpose::Test, 0);
    let (words, tokens) = (shape.tokens - 2, TokenIds::new(shape.words as usize - 4));
    let sentence = |random: &mut Stream| -> Sentence {
        let ids: Vec<u32> = (0..words).map(|_| random.below(shape.words - 4)).collect();
        let positions: Vec<usize> = (0..shape.positions).map(|i| (i * words / shape.positions) as usize).collect();
        tokens.mask_all(&ids, &positions)
    };
    let sentences: Vec<Sentence> = (0..shape.sentences).map(|_| sentence(&mut random)).collect();
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let variants = Variants::choose(gpu.capabilities());
    let batch = (512 / shape.tokens).max(1) as usize;
    let subject = Subject::new(
        &Model::new(&Device::new(gpu, variants), &encoder, &weights)?,
        &sentences,
        &[],
        &Chunks { batch, probes },
    )?;
    let before = rate(gpu, &variants, 8 * 512, shape.d)?;
    let start = Instant::now();
    let mut drawing = Drawing::new(&subject, LossDraw::Exact, 0, 1)?;
    while drawing.batch(&subject)? {}
    let seconds = start.elapsed().as_secs_f64();
    let rate = before.max(rate(gpu, &variants, 8 * 512, shape.d)?);
    let floor = shape.least() / rate;
    println!(
        "exact labels, {text}: {seconds:.1} s; floor {floor:.1} s ({:.2} TFLOP at {:.0} GFLOP/s), {:.2} times it",
        shape.least() / 1e12,
        rate / 1e9,
        seconds / floor
    );
    Ok(json!({ "shape": text, "seconds": seconds, "floor": floor, "flops": shape.least(), "gflops": rate / 1e9 }))
}
