//! One table of cases for every operation and shape, run on an adapter against the f64 twins: read by
//! `lowland selftest` and by the test suite.
//!
//! A case is a small graph with the operation in its middle and cotangents behind it, so that a reverse rule that
//! forgets what comes in fails; every computed tensor of the graph is compared, padding included.
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

mod cases;
mod differences;
mod graphs;
mod roofline;
mod setting;
mod timing;
mod updates;

use std::collections::HashMap;

use crate::gpu::{Count, Dispatch, Gpu, GpuError};
use crate::graph::{self, Dims, Emit, ExecutionPlan, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::{BatchBuffers, Device, Epilogue, Function, Linear, Node, Rule, Variants};
use crate::reference;

use cases::{Draft, Given, Timed};
use setting::Setting;
use updates::Update;

pub use cases::{cases, quick};
pub use differences::{Difference, directional_differences, finite_differences};
pub use roofline::{Cost, KNOWN_GPUS, KnownGpu, Limit, Peaks, known_gpu};
pub use timing::{
    Timed as TimedOperation, Timing, product_rate, timed_for_gpus, timed_operations, timings, timings_into,
};

/// Rows of the word, position and segment table in the cases.
const TABLES: [u32; 3] = [11, 80, 3];

/// A graph to try and the batch to try it on.
pub struct Case {
    /// The operation with its sizes, as the report prints it.
    pub name: String,
    /// Largest difference allowed, as a share of the tensor's largest value. f32 has 6e-8; sums over rows and exp cost
    /// more.
    pub bound: f64,
    /// Cotangents or probes at once.
    pub probes: u32,
    /// Sentences of the batch.
    pub sentences: u32,
    /// Words of the batch, and columns of logits.
    pub vocabulary: u32,
    /// Tokens of the longest sentence.
    pub longest: u32,
    /// Tokens of the shortest that there may be.
    shortest: u32,
    /// Masked positions of a sentence at most.
    masked: u32,
    work: Work,
    /// Labels that are distributions.
    soft: bool,
    /// Whether anything is dropped.
    dropout: bool,
    /// A set of weights of the masked positions for each probe.
    weight_sets: bool,
    /// Whether it has adjoints and no tangents.
    first_order: bool,
    /// Whether nodes are fused as in a training step.
    fused: bool,
    pass: Pass,
    /// What is timed of it, at sizes for that.
    timed: Option<Timed>,
}

impl Case {
    /// Its tables, with segments of some length.
    fn layout(&self) -> BatchLayout {
        BatchLayout { tables: [self.vocabulary, TABLES[1], TABLES[2]], first_position: 2, segment: 64 }
    }
}

/// What a case tries.
enum Work {
    /// A graph, built up to the output that the cotangents belong to.
    Graph(Box<dyn Fn(&mut Draft) -> TensorId + Send + Sync>),
    /// An update rule of the optimiser, which is no operation of a graph.
    Update(Update),
}

/// What follows the forward pass of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Nothing.
    Forward,
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
    /// [`Case::name`].
    pub case: String,
    /// What ran.
    pub variants: Variants,
    /// Largest difference of all tensors, as a share of the tensor's largest value, and where it was.
    pub error: f64,
    /// The tensor with the largest difference.
    pub tensor: String,
    /// [`Case::bound`].
    pub bound: f64,
    /// Whether the error is within the bound.
    pub passed: bool,
}

/// Which numbers of a tensor are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    /// All columns: those behind the last one must be zero.
    All,
    /// Columns up to the last one: second-order terms are only summed up.
    NoPadding,
    /// What is on or below the diagonal: other inner products are not written.
    Below,
}

impl Compare {
    fn of(node: &Node) -> Compare {
        match (&node.function, node.rule) {
            (Function::GhostGram(_), _) => Compare::Below,
            (_, Rule::Second) | (Function::Linear(Linear { epilogue: Epilogue::Dot, .. }), _) => Compare::NoPadding,
            _ => Compare::All,
        }
    }
}

/// Runs a case with some variants on an adapter.
pub fn run(gpu: &Gpu, variants: &Variants, case: &Case) -> Result<Outcome, GpuError> {
    if let Work::Update(update) = &case.work {
        return updates::run(gpu, variants, case, update);
    }
    let setting = Setting::new(case, case.probes, variants.sums().segment, case.fused);
    let Setting { layout, batch, graph, step, .. } = &setting;
    let dims = Dims {
        rows: batch.rows() + 5,
        masked: batch.masked() + 3,
        sentences: batch.sentences + 1,
        probes: case.probes,
        longest: batch.longest(),
    };
    let frame = setting.frame();
    let buffers = BatchBuffers::new(gpu, &dims, layout, variants, case.vocabulary, case.soft)?;
    buffers.write(gpu, batch, 0.25);
    let mut outside = HashMap::new();
    for (id, value) in &setting.values {
        let tensor = graph.tensor(*id);
        let layers = if tensor.probes { case.probes as usize } else { 1 };
        let buffer = if setting.given.get(id) == Some(&Given::LossWeight) {
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
    let outputs: Vec<(TensorId, Compare)> =
        graph.nodes().iter().flat_map(|node| node.outputs.iter().map(|id| (*id, Compare::of(node)))).collect();
    let keep: Vec<TensorId> = outputs.iter().map(|(id, _)| *id).collect();
    let plan = ExecutionPlan::new(&Device::new(gpu, *variants), graph, dims, &buffers, &outside, &keep)?;
    plan.run(gpu, step)?;
    let mut worst = (0.0, String::new());
    for (id, compare) in outputs {
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
            // Rows behind the batch's own are not looked at.
            let looked_at = |i: &usize| match compare {
                Compare::All => true,
                Compare::NoPadding => i % wide < cols,
                Compare::Below => i % wide <= (i - layer * per_layer) / wide,
            };
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
    if let Work::Update(update) = &case.work {
        return updates::dispatches(gpu, variants, update);
    }
    let Setting { layout, batch, graph, .. } = Setting::new(case, case.probes, variants.sums().segment, case.fused);
    let (rows, masked, sentences) = (batch.rows(), batch.masked(), batch.sentences);
    graph::dispatches(
        gpu,
        &graph,
        Dims { rows, masked, sentences, probes: case.probes, longest: batch.longest() },
        variants,
        &layout,
        &|_| None,
    )
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
