//! An LSTM in both directions on sentences that are read backwards.

use lowland::ops::counts::ROWS;
use std::collections::HashMap;

use crate::common::adapter::gpu;
use lowland::graph::{Dims, Emit, ExecutionPlan, Graph, LstmWeights, TensorId};
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::ops::{Batch, BatchBuffers, Device, Family, Variants};
use lowland::random::{Purpose, Stream};

/// Lengths of the sentences, not in order.
const LENGTHS: [u32; 7] = [3, 1, 9, 2, 6, 6, 1];

/// Sums are the same ones in the same order, in code that a driver may have compiled in two ways.
const BOUND: f32 = 1e-6;

/// The layer with its eight parameters: (weights, x, h).
fn layer(units: u32) -> (Graph, Vec<TensorId>, TensorId, TensorId) {
    let mut graph = Graph::default();
    let width = 2 * units;
    let x = graph.input("x", ROWS, width);
    let mut all = Vec::new();
    let mut made = |graph: &mut Graph, way: &str| {
        let of = LstmWeights {
            input: graph.parameter(&format!("input {way}"), 4 * units, width),
            recurrent: graph.parameter(&format!("recurrent {way}"), 4 * units, units),
            input_bias: graph.parameter(&format!("bias {way}"), 1, 4 * units),
            recurrent_bias: graph.parameter(&format!("recurrent bias {way}"), 1, 4 * units),
        };
        all.extend([of.input, of.recurrent, of.input_bias, of.recurrent_bias]);
        of
    };
    let (forward, reverse) = (made(&mut graph, "forth"), made(&mut graph, "back"));
    let h = graph.lstm(x, forward, Some(reverse), None);
    (graph, all, x, h)
}

/// h of every row, without padding: [rows, 2 units].
fn hidden(
    device: &Device,
    batch: &Batch,
    layout: &BatchLayout,
    units: u32,
    x: &[f32],
    weights: &[Vec<f32>],
) -> Vec<f32> {
    let (graph, parameters, input, h) = layer(units);
    let dims = Dims { rows: batch.rows(), masked: batch.masked(), sentences: batch.sentences, probes: 1, longest: 0 };
    let buffers = BatchBuffers::new(&device.gpu, &dims, layout, &device.variants, 4, false).unwrap();
    buffers.write(&device.gpu, batch, 1.0);
    let mut outside = HashMap::new();
    for (id, values) in parameters.iter().zip(weights).map(|(id, w)| (*id, w.as_slice())).chain([(input, x)]) {
        let tensor = graph.tensor(id);
        let (cols, wide) = (tensor.cols as usize, 4 * tensor.cols4() as usize);
        let mut padded = vec![0.0f32; dims.bytes(tensor) as usize / 4];
        for (to, of) in padded.chunks_exact_mut(wide).zip(values.chunks_exact(cols)) {
            to[..cols].copy_from_slice(of);
        }
        let buffer = device.gpu.buffer(&tensor.name, dims.bytes(tensor)).unwrap();
        device.gpu.write(&buffer, &padded);
        outside.insert(id, buffer);
    }
    let plan = ExecutionPlan::new(device, &graph, dims, &buffers, &outside, &[h]).unwrap();
    plan.run(&device.gpu, &batch.step(1)).unwrap();
    let wide = (2 * units).next_multiple_of(4) as usize;
    let all: Vec<f32> = device.gpu.read(plan.buffer(h).unwrap(), batch.rows() as usize * wide).unwrap();
    all.chunks_exact(wide).flat_map(|row| row[..2 * units as usize].to_vec()).collect()
}

#[test]
fn sentences_read_backwards_with_the_directions_exchanged_give_the_same_states() {
    let gpu = gpu();
    let layout = BatchLayout { tables: [4, 16, 1], first_position: 0, segment: 64 };
    let sentences = LENGTHS.map(|n| Sentence { ids: vec![1; n as usize], ..Sentence::default() });
    let batch = Batch::new(&layout, &sentences);
    // Where each row is when every sentence is read backwards.
    let spans = &batch.spans[..batch.rows() as usize];
    let turned: Vec<usize> = spans.iter().map(|span| (span[1] - 1 - span[2]) as usize).collect();
    let rows: Vec<&'static str> = Family::Lstm.rows().iter().map(|row| row.name).collect();
    let chosen = Variants::choose(gpu.capabilities());
    let usable = rows.iter().filter_map(|name| chosen.with(Family::Lstm, name));
    for variants in usable.filter(|variants| variants.missing(gpu.capabilities()).is_none()) {
        for units in [4u32, 5, 7] {
            let mut random = Stream::new(u64::from(units), Purpose::Test, 0);
            let mut normal =
                |n: u32, scale: f64| -> Vec<f32> { (0..n).map(|_| (scale * random.normal()) as f32).collect() };
            let x = normal(batch.rows() * 2 * units, 1.0);
            let sizes = [8 * units * units, 4 * units * units, 4 * units, 4 * units];
            let weights: Vec<Vec<f32>> = sizes.iter().chain(&sizes).map(|n| normal(*n, 0.5)).collect();
            let device = Device::new(&gpu, variants);
            let h = hidden(&device, &batch, &layout, units, &x, &weights);
            let width = 2 * units as usize;
            let backwards: Vec<f32> =
                turned.iter().flat_map(|row| x[row * width..(row + 1) * width].to_vec()).collect();
            let exchanged: Vec<Vec<f32>> = weights[4..].iter().chain(&weights[..4]).cloned().collect();
            let other = hidden(&device, &batch, &layout, units, &backwards, &exchanged);
            for (row, turned) in turned.iter().enumerate() {
                for c in 0..width {
                    let (a, b) = (h[row * width + c], other[turned * width + (c + units as usize) % width]);
                    assert!((a - b).abs() <= BOUND, "{units} units, row {row}, column {c}: {a} and {b}");
                }
            }
            assert!(h.iter().any(|v| v.abs() > 0.05), "the states are all near 0");
        }
    }
}
