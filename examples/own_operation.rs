//! An operation of one's own, outside the crate: y = sin(ω x) (Sitzmann et al. 2020) with its WGSL, its reverse rule and its
//! f64 twin, compared with the twin and with finite differences.
//!
//!     cargo run --release --example own_operation

use std::{collections::HashMap, error::Error, iter::zip};

use lowland::gpu::{Binding, Buffer, Entry, Grid, KernelFile, Launch, Step};
use lowland::graph::{Count, Emit, ExecutionPlan, Graph};
use lowland::ops::batch::BatchLayout;
use lowland::ops::{
    Adjoints, BatchBuffers, Device, Dims, Lowering, Node, Operation, OutputShape, Own, Rule, Sizes, Tensor, TensorId,
    call,
};

const X: Binding = Binding { index: 0, name: "x", write: false, vec4: true };
const Y_BAR: Binding = Binding { index: 1, name: "y_bar", write: false, vec4: true };
const OUT: Binding = Binding { index: 2, name: "out", write: true, vec4: true };

/// Bindings 8 (`p`) and 9 (`step`) and the frame of elementwise kernels are those of `shaders/common`.
static SINE: KernelFile = KernelFile {
    name: "sine",
    text: include_str!("sine.wgsl"),
    entries: &[Entry { name: "forward", bindings: &[X, OUT] }, Entry { name: "vjp", bindings: &[X, Y_BAR, OUT] }],
    params_size: 48,
};

#[derive(Debug)]
struct Sine {
    frequency: f32,
}

impl Operation for Sine {
    fn name(&self) -> &'static str {
        "sine"
    }

    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        assert!(matches!(rule, Rule::Forward | Rule::Vjp(0)), "sine has no rule {rule:?}");
        vec![("", inputs[0].rows, inputs[0].cols, inputs.iter().any(|t| t.probes))]
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let [x] = node.inputs();
        g.contribute(x, call(node.function.clone(), Rule::Vjp(0), &[x, y_bar]));
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        let [out] = node.outputs();
        let (code, fixed) = cx.count(out);
        let layer = |i: usize| node.inputs.get(i).map_or(0, |id| cx.layer(*id));
        let [a, b, own] = [layer(0), layer(1), cx.layer(out)];
        let params = vec![code, fixed, cx.cols4(out), a, b, 0, 0, own, self.frequency.to_bits(), 0, 0, 0];
        let entry = if node.rule == Rule::Forward { "forward" } else { "vjp" };
        let buffers = node.inputs.iter().chain(&node.outputs).map(|id| cx.buffer(*id)).collect();
        let grid = Grid { layers: cx.layers(out), ..cx.elementwise(out) };
        cx.push(Launch { file: &SINE, entry, buffers, params }, cx.name(out), grid);
    }
}

/// Runs the operation and its rules on the adapter and compares them with f64.
pub fn main() -> Result<(), Box<dyn Error>> {
    let Device { gpu, variants } = Device::from_env()?;
    let (rows, cols, frequency) = (8, 12, 3.0);
    let mut graph = Graph::default();
    let x = graph.parameter("x", rows, cols);
    let y = graph.push(call(Own::new(Sine { frequency }), Rule::Forward, &[x]), "y")[0];
    let y_bar = graph.input("y_bar", Count::Fixed(rows), cols);
    let x_bar = graph.gradient(&[(y, y_bar)])[&x];

    // Memory for what is given, a plan for the rest; there is no batch of sentences here.
    let size = (rows * cols) as usize;
    let given: HashMap<TensorId, Buffer> =
        [(x, gpu.buffer("x", 4 * size as u64)?), (y_bar, gpu.buffer("y_bar", 4 * size as u64)?)].into();
    let [at, along] = [0.7f64, 0.3].map(|f| (0..size).map(|i| (f * i as f64).sin() as f32).collect::<Vec<f32>>());
    gpu.write(&given[&x], &at);
    gpu.write(&given[&y_bar], &along);
    let dims = Dims { rows: 1, masked: 1, sentences: 1, probes: 1 };
    let layout = BatchLayout { tables: [1; 3], first_position: 0, segment: 64 };
    let batch = BatchBuffers::new(&gpu, &dims, &layout, &variants, 4, false)?;
    let plan = ExecutionPlan::new(&Device::new(&gpu, variants), &graph, dims, &batch, &given, &[y, x_bar])?;
    plan.run(&gpu, &Step::default())?;
    let read = |id: TensorId| gpu.read::<f32>(plan.buffer(id).expect("it was kept"), size);

    // The twin in f64, and central differences of it.
    let twin = |x: f64| (f64::from(frequency) * x).sin();
    let slope = |x: f64| (twin(x + 1e-6) - twin(x - 1e-6)) / 2e-6;
    let most = |errors: &mut dyn Iterator<Item = f64>| errors.fold(0.0f64, |most, e| most.max(e.abs()));
    let forward = most(&mut zip(read(y)?, &at).map(|(y, x)| f64::from(y) - twin(f64::from(*x))));
    let reverse = zip(read(x_bar)?, zip(&at, &along));
    let reverse = most(&mut reverse.map(|(g, (x, y_bar))| f64::from(g) - f64::from(*y_bar) * slope(f64::from(*x))));
    println!("sin({frequency} x) on {}: error {forward:.1e}, of its gradient {reverse:.1e}", gpu.info().name);
    if forward < 1e-5 && reverse < 1e-5 { Ok(()) } else { Err("the kernel and its twin differ".into()) }
}
