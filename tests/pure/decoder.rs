//! A layer of a causal decoder as a whole, on the f64 twins: RMSNorm with γ and with 1 + γ, norms of heads, rotary
//! positions, groups of heads, gates, layer norm without a shift and without parameters.

use crate::common::sentence_gradients::{batch, compare, dot, given};
use lowland::graph::{Count, Emit, Graph, Role, TensorId};
use lowland::ops::counts::ROWS;
use lowland::ops::{Activation, Affine, Attention, LayerNorm, RepeatHeads, Rotary};
use lowland::reference::{Frame, Values, run};

const WIDTH: u32 = 6;
const EPS: f64 = 1e-5;

/// The graph, its input, what lies between attention and gates, and its output.
fn layer(f: Activation) -> (Graph, [TensorId; 3]) {
    let op = RepeatHeads { heads: 4, groups: 2, size: 4 };
    let mut g = Graph::default();
    let rows = g.input("rows", ROWS, WIDTH);
    let w = g.parameter("in", WIDTH, WIDTH);
    let x = g.linear(rows, w, None, None);
    let norm = |g: &mut Graph, x: TensorId, cols: u32, op: LayerNorm, name: &str| {
        let gamma = g.parameter(name, 1, cols);
        g.normalise(x, op, &[gamma])
    };
    let h = norm(&mut g, x, WIDTH, LayerNorm::rms(EPS, Affine::SCALE), "input norm");
    let w = g.parameter("qkv", 32, WIDTH);
    let few = g.linear(h, w, None, None);
    let few = norm(&mut g, few, 4, LayerNorm::rms(EPS, Affine::SCALE).by_head(8), "norm of heads");
    let frequencies = Rotary::frequencies(100.0, 4);
    let qkv = g.rotary(few, Rotary { heads: 6, size: 4, frequencies, repeat: Some(op) });
    let o = g.attention(qkv, Attention { heads: 4, size: 4, p: 0.0, stream: 0, causal: true, masked: false });
    let w = g.parameter("out", WIDTH, 16);
    let middle = g.linear(o, w, None, Some(x));
    let one_plus = Affine::Scale { one_plus: true, shift: false };
    let h = norm(&mut g, middle, WIDTH, LayerNorm::rms(EPS, one_plus), "feed-forward norm");
    let [gate, up] = ["gate", "up"].map(|name| {
        let w = g.parameter(name, 10, WIDTH);
        g.linear(h, w, None, None)
    });
    let gate = g.activation(f, gate);
    let h = g.multiply(gate, up);
    let w = g.parameter("down", WIDTH, 10);
    let y = g.linear(h, w, None, Some(middle));
    let y = norm(&mut g, y, WIDTH, LayerNorm::new(EPS, Affine::SCALE), "last norm");
    let y = g.normalise(y, LayerNorm::new(EPS, Affine::None), &[]);
    (g, [x, middle, y])
}

fn values(graph: &Graph, given: &Values, probes: u32) -> Values {
    let batch = batch();
    let mut values = given.clone();
    run(&Frame { graph, batch: &batch, step: batch.step(probes) }, graph.nodes(), &mut values);
    values
}

#[test]
fn norms_and_inner_products_of_gradients_are_those_of_the_gradients_themselves() {
    for f in [Activation::Silu, Activation::Relu, Activation::GeluTanh] {
        let (graph, [.., y]) = layer(f);
        compare(graph, y);
    }
}

#[test]
fn the_hessian_is_symmetric_and_its_quadratic_form_is_the_second_order_sum() {
    let (mut graph, [.., y]) = layer(Activation::Silu);
    let parameters: Vec<(TensorId, u32, u32)> = graph
        .tensors()
        .filter(|(_, t)| t.role == Role::Parameter)
        .map(|(id, t)| (id, t.rows.fixed(), t.cols))
        .collect();
    let forward = graph.nodes().len();
    let cotangent = graph.input("cotangent", ROWS, WIDTH);
    let adjoints = graph.gradient(&[(y, cotangent)]);
    let along = |(id, rows, cols): (TensorId, u32, u32)| (id, graph.probe("along", Count::Fixed(rows), cols));
    let directions: Vec<(TensorId, TensorId)> = parameters.iter().copied().map(along).collect();
    // The cotangent stands still, as weights of losses do.
    let still = graph.probe("along the cotangent", ROWS, WIDTH);
    let tangents = graph.tangent(&[directions.as_slice(), &[(cotangent, still)]].concat());
    let sums = graph.second_order(forward, None, Some(&adjoints), &tangents).unwrap();
    let mut given = given(&graph, &batch(), 2);
    given.get_mut(&still).unwrap().fill(0.0);
    let values = values(&graph, &given, 2);
    // vᵢᵀ H vⱼ of the two directions.
    let form = |i: usize, j: usize| -> f64 {
        let part = |id: TensorId, n: usize| {
            let all = &values[&id];
            all[n * all.len() / 2..(n + 1) * all.len() / 2].to_vec()
        };
        directions.iter().map(|(w, v)| dot(&part(*v, i), &part(tangents[&adjoints[w]], j))).sum()
    };
    let size = form(0, 0).abs() + form(1, 1).abs();
    assert!(size > 1e-2, "{size}");
    assert!((form(0, 1) - form(1, 0)).abs() < 1e-11 * size, "{} and {}", form(0, 1), form(1, 0));
    for i in 0..2 {
        let per_probe = values[&sums].len() / 2;
        let sum: f64 = values[&sums][i * per_probe..(i + 1) * per_probe].iter().sum();
        assert!((sum - form(i, i)).abs() < 1e-11 * size, "{sum}, not {}", form(i, i));
    }
}

#[test]
fn what_is_computed_again_and_what_is_fused_gives_the_same_gradient() {
    let gradient = |change: &dyn Fn(&mut Graph, usize, [TensorId; 3])| {
        let (mut graph, at) = layer(Activation::Silu);
        let forward = graph.nodes().len();
        let cotangent = graph.input("cotangent", ROWS, WIDTH);
        let adjoints = graph.gradient(&[(at[2], cotangent)]);
        change(&mut graph, forward, at);
        let nodes = graph.nodes().len();
        let values = values(&graph, &given(&graph, &batch(), 1), 1);
        let mut all: Vec<(TensorId, Vec<f64>)> =
            adjoints.iter().filter_map(|(id, bar)| Some((*id, values.get(bar)?.clone()))).collect();
        all.retain(|(id, _)| graph.tensor(*id).role == Role::Parameter);
        all.sort_by_key(|(id, _)| *id);
        (nodes, all)
    };
    let (plain, want) = gradient(&|_, _, _| {});
    let (again, got) = gradient(&|graph, forward, at| graph.recompute(forward, &at));
    assert!(again > plain && got == want, "{again} nodes, {plain} before");
    let (fused, got) = gradient(&|graph, _, _| graph.fuse());
    assert!(fused < plain && got == want, "{fused} nodes, {plain} before");
}
