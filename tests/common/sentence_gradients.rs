//! Norms and inner products of sentences' gradients as a graph's readings give them, beside the gradients themselves,
//! on the f64 twins.

use std::collections::HashMap;

use lowland::graph::{Count, Emit, GramPart, Graph, Role, TensorId};
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::ops::counts::ROWS;
use lowland::ops::{Batch, Parts};
use lowland::random::{Purpose, Stream};
use lowland::reference::{Frame, Values, run};

/// Tokens of each sentence.
const LENGTHS: [u32; 4] = [2, 5, 1, 4];

/// Rounding of some hundred terms in f64.
const BOUND: f64 = 1e-12;

/// Four sentences.
pub fn batch() -> Batch {
    let layout = BatchLayout { tables: [4, 16, 1], first_position: 0, segment: 64 };
    Batch::new(&layout, &LENGTHS.map(|n| Sentence { ids: vec![1; n as usize], ..Sentence::default() }))
}

/// Normal numbers of spread 1/2 for every parameter and input of a graph, a layer each probe.
pub fn given(graph: &Graph, batch: &Batch, probes: u32) -> Values {
    let mut random = Stream::new(29, Purpose::Test, 0);
    let outside = graph.tensors().filter(|(_, t)| t.role != Role::Value);
    let numbers = |(id, tensor): (TensorId, &lowland::graph::Tensor)| {
        let rows = if tensor.rows == ROWS { batch.rows() } else { tensor.rows.fixed() };
        let layers = if tensor.probes { probes } else { 1 };
        (id, (0..layers * rows * tensor.cols).map(|_| 0.5 * random.normal()).collect())
    };
    outside.map(numbers).collect()
}

/// The inner product of two lists.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares the norms and inner products of all parameters' gradients of ⟨cotangent, output⟩, [rows, width], with those
/// of each sentence's own gradient.
pub fn compare(mut graph: Graph, output: TensorId) {
    let width = graph.tensor(output).cols;
    let parameters: Vec<TensorId> =
        graph.tensors().filter(|(_, t)| t.role == Role::Parameter).map(|(id, _)| id).collect();
    assert!(parameters.iter().all(|id| matches!(graph.tensor(*id).rows, Count::Fixed(_))));
    let cotangent = graph.input("cotangent", ROWS, width);
    let adjoints = graph.gradient(&[(output, cotangent)]);
    let norms = graph.ghost_norms(&adjoints, &parameters, &|_| vec![Parts::WHOLE]).unwrap();
    let most = LENGTHS.len() as u32;
    let gram =
        graph.ghost_gram(&adjoints, &parameters, most, &|_| GramPart::of(&[Parts::WHOLE], |_| true)).unwrap().unwrap();
    let batch = batch();
    let given = given(&graph, &batch, 1);
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
                if batch.spans[i / width as usize][3] == sentence { *v } else { 0.0 }
            };
            let values = computed(given[&cotangent].iter().enumerate().map(kept).collect());
            parameters.iter().map(|id| (*id, values[&adjoints[id]].clone())).collect()
        })
        .collect();
    for (i, gradient) in own.iter().enumerate() {
        for id in &parameters {
            let got: f64 =
                norms.iter().filter(|term| term.parameter == *id).map(|t| all[&t.tensor][4 * i + t.column]).sum();
            let want = dot(&gradient[id], &gradient[id]);
            let name = &graph.tensor(*id).name;
            // One token has no token before it: the gradient of what looks back is 0.
            assert!((got - want).abs() <= BOUND * want.max(1.0), "norm of {name}, sentence {i}: {got}, not {want}");
        }
        for (j, other) in own.iter().enumerate().take(i + 1) {
            let got = all[&gram][i * most as usize + j];
            let want: f64 = parameters.iter().map(|id| dot(&gradient[id], &other[id])).sum();
            assert!((got - want).abs() <= BOUND * want.abs().max(1.0), "sentences {i} and {j}: {got}, not {want}");
        }
    }
}
