//! An operation of one's own, outside the crate: y = sin(ω x) (Sitzmann et al. 2020) with its WGSL and all its rules,
//! in a layer y = sin(ω x Wᵀ) whose gradient, H v and vᵀHv are compared with differences in f64.
//!
//!     cargo run --release --example own_operation

use lowland::ops::counts::ROWS;
use std::{error::Error, iter::zip};

use lowland::gpu::{Binding, Entry, KernelFile};
use lowland::graph::{Count, Emit, Graph};
use lowland::ops::{
    Adjoints, Device, Lowering, Node, Operation, OutputShape, Own, Rule, Second, Sizes, Tangents, Tensor, TensorId,
    call,
};

const X: Binding = Binding { index: 0, name: "x", write: false, vec4: true };
const A: Binding = Binding { index: 1, name: "a", write: false, vec4: true };
const X_DOT: Binding = Binding { index: 2, name: "x_dot", write: false, vec4: true };
const OUT: Binding = Binding { index: 3, name: "out", write: true, vec4: true };

/// An entry point for each rule. Bindings 8 (`p`) and 9 (`step`) are those of `shaders/common`.
static SINE: KernelFile = KernelFile {
    name: "sine",
    text: include_str!("sine.wgsl"),
    entries: &[
        Entry { name: "forward", bindings: &[X, OUT] },
        Entry { name: "vjp", bindings: &[X, A, OUT] },
        Entry { name: "vjp_jvp", bindings: &[X, A, X_DOT, OUT] },
        Entry { name: "second", bindings: &[X, A, X_DOT, OUT] },
    ],
    params_size: 48,
};

/// sin(ω x). Inputs: x; (x, ȳ), or (x, ẋ) for the tangent, which has the same form; (x, ȳ, ẋ) for the rest.
#[derive(Debug)]
struct Sine(f32);

impl Operation for Sine {
    fn name(&self) -> &'static str {
        "sine"
    }

    fn outputs(&self, _: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        vec![("", inputs[0].rows, inputs[0].cols, inputs.iter().any(|t| t.probes))]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let [x] = node.inputs();
        g.contribute(x, call(node.function.clone(), Rule::Vjp(0), &[x, y_bar]));
    }

    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        let (x, y_bar, name) = (node.inputs[0], node.inputs.get(1).copied(), g.dot(node.outputs[0]));
        let sine = |rule, inputs: &[TensorId]| call(node.function.clone(), rule, inputs);
        let by_x = g.of(x).map(|x_dot| match y_bar {
            None => sine(Rule::Vjp(0), &[x, x_dot]),
            Some(y_bar) => sine(Rule::VjpJvp(0), &[x, y_bar, x_dot]),
        });
        let by_y_bar = y_bar.and_then(|y_bar| g.of(y_bar)).map(|y_bar_dot| sine(Rule::Vjp(0), &[x, y_bar_dot]));
        let parts: Vec<TensorId> = by_x.into_iter().chain(by_y_bar).map(|part| g.push(part, &name)[0]).collect();
        let tangent = parts.into_iter().reduce(|a, b| g.add(a, b)).expect("an input has a tangent");
        g.set(node.outputs[0], tangent);
    }

    fn second(&self, node: &Node, g: &mut Second<'_>, y_bar: TensorId) {
        let [x] = node.inputs();
        let terms = g.push(call(node.function.clone(), Rule::Second, &[x, y_bar, g.dot(x)]), "second(sine)");
        g.term(terms, 1.0);
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        cx.push_elementwise(&SINE, node, self.0);
    }
}

/// Runs the layer and its derivatives on the adapter and compares them with f64.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::from_env()?;
    let (rows, d, n, frequency) = (8, 6, 12, 3.0);
    let mut graph = Graph::default();
    let (x, w) = (graph.input("x", ROWS, d), graph.parameter("w", n, d));
    let (y_bar, v) = (graph.input("y_bar", ROWS, n), graph.probe("v", Count::Fixed(n), d));
    let z = graph.linear(x, w, None, None);
    let y = graph.push(call(Own::new(Sine(frequency)), Rule::Forward, &[z]), "y")[0];
    let forward = graph.nodes().len();
    let adjoints = graph.gradient(&[(y, y_bar)]);
    let tangents = graph.tangent(&[(w, v)]);
    let vhv = graph.second_order(forward, None, Some(&adjoints), &tangents).expect("sin is not linear");
    let hv = tangents[&adjoints[&w]];

    let wave = |f: f64, size: u32| (0..size).map(|i| (f * f64::from(i)).sin() as f32).collect::<Vec<f32>>();
    let [xs, ws, bars, vs] = [wave(0.7, rows * d), wave(0.5, n * d), wave(0.3, rows * n), wave(1.1, n * d)];
    let given = [(x, &xs[..]), (w, &ws), (y_bar, &bars), (v, &vs)];
    let values = graph.evaluate(&device, rows, &given, &[adjoints[&w], hv, vhv])?;

    // L(t) = Σ ȳ sin(ω x (W + t v)ᵀ) in f64, and its derivatives at 0 by differences.
    let dot = |a: &[f64], b: &[f64]| zip(a, b).map(|(a, b)| a * b).sum::<f64>();
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let [xs, ws, bars, vs] = [xs, ws, bars, vs].map(|values| wide(&values));
    let loss = |t: f64| -> f64 {
        let moved: Vec<f64> = zip(&ws, &vs).map(|(w, v)| w + t * v).collect();
        let y =
            |x: &[f64]| moved.chunks(d as usize).map(|w| (f64::from(frequency) * dot(x, w)).sin()).collect::<Vec<_>>();
        zip(bars.chunks(n as usize), xs.chunks(d as usize)).map(|(y_bar, x)| dot(y_bar, &y(x))).sum()
    };
    let (h, [w_bar, hv, vhv]) = (1e-4, [0, 1, 2].map(|i| wide(&values[i])));
    let first = (loss(h) - loss(-h)) / (2.0 * h);
    let second = (loss(h) - 2.0 * loss(0.0) + loss(-h)) / (h * h);
    let off = |got: f64, want: f64| (got / want - 1.0).abs();
    let errors = [off(dot(&w_bar, &vs), first), off(dot(&hv, &vs), second), off(vhv[0], second)];
    println!("sin({frequency} x Wᵀ) on {}: gᵀv, vᵀ(Hv) and vᵀHv are off by {errors:?}", device.gpu.info().name);
    if errors.iter().all(|e| *e < 1e-3) { Ok(()) } else { Err("the kernels and f64 differ".into()) }
}
