//! Norms and inner products of sentences' gradients through an LSTM, from its rows and from the gradients themselves.

use lowland::ops::counts::ROWS;
use std::collections::HashMap;

use lowland::graph::{GramPart, Graph, LstmWeights, TensorId};
use lowland::ops::Batch;
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::random::{Purpose, Stream};
use lowland::reference::{Frame, Values, run};

const WIDTH: u32 = 6;
const UNITS: u32 = 3;
const LENGTHS: [u32; 4] = [2, 5, 1, 4];

/// Rounding of some hundred terms in f64.
const BOUND: f64 = 1e-12;

#[test]
fn norms_and_inner_products_of_gradients_count_both_biases() {
    let mut graph = Graph::default();
    let x = graph.input("x", ROWS, WIDTH);
    let mut parameters = Vec::new();
    let mut made = |graph: &mut Graph| {
        let shapes = [(4 * UNITS, WIDTH), (4 * UNITS, UNITS), (1, 4 * UNITS), (1, 4 * UNITS)];
        let [input, recurrent, input_bias, recurrent_bias] =
            shapes.map(|(rows, cols)| graph.parameter("w", rows, cols));
        parameters.extend([input, recurrent, input_bias, recurrent_bias]);
        LstmWeights { input, recurrent, input_bias, recurrent_bias }
    };
    let (forward, reverse) = (made(&mut graph), made(&mut graph));
    let h = graph.lstm(x, forward, Some(reverse), Some(x));
    let cotangent = graph.input("cotangent", ROWS, WIDTH);
    let adjoints = graph.gradient(&[(h, cotangent)]);
    let norms = graph.ghost_norms(&adjoints, &parameters, &|_| 1).unwrap();
    let most = LENGTHS.len() as u32;
    let gram = graph.ghost_gram(&adjoints, &parameters, most, &|_| GramPart { mask: 1, parts: 1 }).unwrap().unwrap();

    let layout = BatchLayout { tables: [4, 16, 1], first_position: 0, segment: 64 };
    let sentences = LENGTHS.map(|n| Sentence { ids: vec![1; n as usize], ..Sentence::default() });
    let batch = Batch::new(&layout, &sentences);
    let mut random = Stream::new(29, Purpose::Test, 0);
    let mut given = Values::new();
    for (id, tensor) in graph.tensors() {
        if parameters.contains(&id) || [x, cotangent].contains(&id) {
            let rows = if tensor.rows == ROWS { batch.rows() } else { tensor.rows.fixed() };
            given.insert(id, (0..rows * tensor.cols).map(|_| 0.5 * random.normal()).collect());
        }
    }
    let frame = Frame { graph: &graph, batch: &batch, step: batch.step(1) };
    let computed = |cotangents: Vec<f64>| -> Values {
        let mut values = given.clone();
        values.insert(cotangent, cotangents);
        run(&frame, graph.nodes(), &mut values);
        values
    };
    let all = computed(given[&cotangent].clone());
    // A sentence's own gradient: cotangents of its rows alone.
    let own: Vec<HashMap<TensorId, Vec<f64>>> = (0..most)
        .map(|sentence| {
            let kept = |(i, v): (usize, &f64)| {
                if batch.spans[i / WIDTH as usize][3] == sentence { *v } else { 0.0 }
            };
            let values = computed(given[&cotangent].iter().enumerate().map(kept).collect());
            parameters.iter().map(|id| (*id, values[&adjoints[id]].clone())).collect()
        })
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (i, gradient) in own.iter().enumerate() {
        for id in &parameters {
            let got: f64 =
                norms.iter().filter(|term| term.parameter == *id).map(|t| all[&t.tensor][4 * i + t.column]).sum();
            let want = dot(&gradient[id], &gradient[id]);
            // One token has no token before it, so that its recurrent gradient is 0.
            assert!((got - want).abs() <= BOUND * want.max(1.0), "norm of {id:?}, sentence {i}: {got}, not {want}");
        }
        for (j, other) in own.iter().enumerate().take(i + 1) {
            let got = all[&gram][i * most as usize + j];
            let want: f64 = parameters.iter().map(|id| dot(&gradient[id], &other[id])).sum();
            assert!((got - want).abs() <= BOUND * want.abs().max(1.0), "sentences {i} and {j}: {got}, not {want}");
        }
    }
}
