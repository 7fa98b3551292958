//! How fast each operation is in each of its rules, at one representative shape, with every variant that an adapter can
//! run: every node of the representative cases that is not like one before it, run alone.

use std::collections::HashMap;
use std::time::Instant;

use serde::Serialize;

use super::cases::representative;
use super::roofline::Cost;
use super::setting::{Setting, batch_of};
use super::{Case, Pass, Timed as Titles};
use crate::gpu::{Capabilities, Dispatch, Gpu, GpuError, Step};
use crate::graph::{self, Dims, Emit, ExecutionPlan, Graph, Role, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::{Batch, BatchBuffers, Call, Device, Family, Node, Sizes, Variants};
use crate::random::{Purpose, Stream};

/// Repeats; the median counts.
const REPEATS: usize = 5;
/// Seconds of one run above which a single one must do: a variant made for another kind of adapter.
const SLOW: f64 = 0.5;

/// The speed of one operation.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// With its rule, `attention, vjp`.
    pub operation: String,
    /// Sizes, in words.
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
    /// Dispatches of one run.
    pub dispatches: usize,
}

/// Tokens that operations are timed with on GPUs.
const GPU_ROWS: u32 = 16384;

/// Nodes that are timed together, alone in a graph: one, or the rules of an operation for several inputs.
struct Subject {
    operation: String,
    shape: String,
    /// Their part of the variant table.
    family: Option<Family>,
    graph: Graph,
    /// Number of its case.
    case: usize,
}

impl Subject {
    /// The same nodes, reading given tensors only.
    fn new(nodes: &[&Node], graph: &Graph, shape: &str, case: usize) -> Subject {
        let mut alone = Graph::default();
        let mut made: HashMap<TensorId, TensorId> = HashMap::new();
        for node in nodes {
            let mut given = |id: &TensorId| {
                let tensor = graph.tensor(*id);
                *made.entry(*id).or_insert_with(|| match tensor.probes {
                    true => alone.probe(&tensor.name, tensor.rows, tensor.cols),
                    false => alone.input(&tensor.name, tensor.rows, tensor.cols),
                })
            };
            let (inputs, addend) = (node.inputs.iter().map(&mut given).collect(), node.addend.as_ref().map(&mut given));
            alone.push(Call { function: node.function.clone(), rule: node.rule, inputs, addend }, "timed");
        }
        let (operation, rule) = (nodes[0].operation(), nodes[0].rule);
        Subject {
            operation: operation.title(rule),
            shape: shape.into(),
            family: operation.family(rule),
            graph: alone,
            case,
        }
    }
}

/// What is timed of some cases, each title once.
fn subjects(cases: &[Case]) -> Vec<Subject> {
    let mut all: Vec<Subject> = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let Some(Titles { operations, passes, shape }) = &case.timed else { continue };
        for pass in *passes {
            let graph = Setting::without_values(case, *pass, 1, 64, *pass == Pass::Gradient).graph;
            // The first node of each rule, by title.
            let mut titles: Vec<(String, Vec<&Node>)> = Vec::new();
            for node in graph.nodes() {
                let title = node.operation().title(node.rule);
                let wanted = operations.iter().any(|o| *o == title || *o == node.function.name());
                if !wanted || all.iter().any(|known| known.operation == title) {
                    continue;
                }
                match titles.iter_mut().find(|(known, _)| *known == title) {
                    None => titles.push((title, vec![node])),
                    Some((_, nodes)) if nodes.iter().all(|other| other.rule != node.rule) => nodes.push(node),
                    Some(_) => {}
                }
            }
            all.extend(titles.iter().map(|(_, nodes)| Subject::new(nodes, &graph, shape, number)));
        }
    }
    all
}

/// Tokens that operations are timed with.
fn rows(gpu: &Gpu) -> u32 {
    if gpu.capabilities().software { 2048 } else { GPU_ROWS }
}

/// Names of what [`timings`] times, in its order.
pub fn timed_operations(gpu: &Gpu) -> Vec<String> {
    subjects(&representative(rows(gpu))).into_iter().map(|s| s.operation).collect()
}

/// Times every rule of every operation with every variant that the adapter can run; about a minute on a software
/// adapter.
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
    let cases = representative(rows(gpu));
    for subject in subjects(&cases).into_iter().filter(|s| wanted(&s.operation)) {
        note(&subject.operation);
        let case = &cases[subject.case];
        let Some(family) = subject.family else {
            all.push(timing(gpu, used, case, &subject)?);
            continue;
        };
        for row in family.rows().iter().filter(|row| row.missing(gpu.capabilities()).is_none()) {
            let variants = used.with(family, row.name).expect("a row of the table");
            let timing = timing(gpu, &variants, case, &subject)?;
            all.push(Timing { variant: Some(row.name), used: variants == *used, ..timing });
        }
    }
    Ok(())
}

/// An operation of those that are timed, and what it runs with a variant.
pub struct Timed {
    /// With its rule, `attention, vjp`.
    pub operation: String,
    /// Sizes, in words.
    pub shape: String,
    /// Name of the variant in the table, for an operation that has several.
    pub variant: Option<&'static str>,
    /// Whether GPUs get this variant.
    pub used: bool,
    /// Its arithmetic and bytes.
    pub cost: Cost,
    /// Its dispatches, on stand-ins for memory.
    pub dispatches: Vec<Dispatch>,
}

/// What [`timings`] would time on a GPU, with every variant that needs no particular subgroups: to look at kernels
/// without having one.
///
/// # Errors
/// What the adapter says that is there.
pub fn timed_for_gpus(gpu: &Gpu) -> Result<Vec<Timed>, GpuError> {
    let own = gpu.capabilities().clone();
    let caps = Capabilities { software: false, subgroup_size: 0, subgroup_min: 0, subgroup_max: 0, ..own };
    let used = Variants::choose(&caps);
    let cases = representative(GPU_ROWS);
    let mut all = Vec::new();
    for subject in subjects(&cases) {
        let case = &cases[subject.case];
        let rows = subject.family.map_or(&[][..], Family::rows);
        let named = rows.iter().filter(|row| row.missing(&caps).is_none()).map(|row| {
            let variants = used.with(subject.family.expect("it has rows"), row.name).expect("a row of the table");
            (Some(row.name), variants)
        });
        let plain = subject.family.is_none().then_some((None, used));
        for (variant, variants) in named.chain(plain) {
            let (layout, _, dims) = sizes(case, &variants);
            let sizes = Sizes { graph: &subject.graph, dims: &dims, variants: &variants };
            all.push(Timed {
                operation: subject.operation.clone(),
                shape: subject.shape.clone(),
                variant,
                used: variants == used,
                cost: Cost {
                    flops: flops(&sizes, &subject.graph).unwrap_or(0.0),
                    bytes: bytes(&sizes, &subject.graph),
                },
                dispatches: graph::dispatches(gpu, &subject.graph, dims, &variants, &layout, &|_| None)?,
            });
        }
    }
    Ok(all)
}

/// How a case's batch is laid out, the batch and its sizes.
fn sizes(case: &Case, variants: &Variants) -> (BatchLayout, Batch, Dims) {
    let layout = BatchLayout { segment: variants.sums().segment, ..case.layout() };
    let batch = batch_of(case, &layout);
    let dims = Dims {
        rows: batch.rows(),
        masked: batch.masked(),
        sentences: batch.sentences,
        probes: case.probes,
        longest: batch.longest(),
    };
    (layout, batch, dims)
}

/// Multiplications and additions of nodes that are bound by them.
fn flops(sizes: &Sizes<'_>, graph: &Graph) -> Option<f64> {
    graph.nodes().iter().map(|node| node.operation().flops(node, sizes)).sum()
}

/// Bytes of what nodes read and write.
fn bytes(sizes: &Sizes<'_>, graph: &Graph) -> f64 {
    graph.nodes().iter().map(|node| node.bytes(sizes)).sum::<u64>() as f64
}

/// GFLOP/s of a product with the variant that an adapter gets: how fast it is, in a second or two.
pub fn product_rate(gpu: &Gpu) -> Result<f64, GpuError> {
    let cases = representative(2048);
    let product = &subjects(&cases[..1])[0];
    let timing = timing(gpu, &Variants::choose(gpu.capabilities()), &cases[0], product)?;
    Ok(timing.gflops.unwrap_or(0.0))
}

fn timing(gpu: &Gpu, variants: &Variants, case: &Case, subject: &Subject) -> Result<Timing, GpuError> {
    let graph = &subject.graph;
    let (layout, batch, dims) = sizes(case, variants);
    let buffers = BatchBuffers::new(gpu, &dims, &layout, variants, case.vocabulary, false)?;
    buffers.write(gpu, &batch, 1.0);
    let mut random = Stream::new(3, Purpose::Test, 0);
    let normal: Vec<f32> = (0..4093).map(|_| random.normal() as f32).collect();
    let mut outside = HashMap::new();
    for (id, tensor) in graph.tensors().filter(|(_, t)| t.role != Role::Value) {
        let buffer = gpu.buffer(&tensor.name, dims.bytes(tensor))?;
        let values: Vec<f32> = normal.iter().copied().cycle().take(dims.bytes(tensor) as usize / 4).collect();
        gpu.write(&buffer, &values);
        outside.insert(id, buffer);
    }
    let keep: Vec<TensorId> = graph.nodes().iter().flat_map(|node| node.outputs.iter().copied()).collect();
    let plan = ExecutionPlan::new(&Device::new(gpu, *variants), graph, dims, &buffers, &outside, &keep)?;
    let seconds = seconds(gpu, &plan, &batch.step(case.probes))?;
    let sizes = Sizes { graph, dims: &dims, variants };
    Ok(Timing {
        operation: subject.operation.clone(),
        shape: subject.shape.clone(),
        variant: None,
        used: true,
        seconds,
        gflops: flops(&sizes, graph).map(|f| f / seconds / 1e9),
        gbytes: bytes(&sizes, graph) / seconds / 1e9,
        dispatches: plan.program().len(),
    })
}

/// Median time of a plan's dispatches: by timestamps, else by the host's clock.
fn seconds(gpu: &Gpu, plan: &ExecutionPlan, step: &Step) -> Result<f64, GpuError> {
    plan.run(gpu, step)?;
    let mut all = Vec::with_capacity(REPEATS);
    while all.len() < REPEATS && all.first().is_none_or(|first| *first < SLOW) {
        all.push(match gpu.capabilities().timestamps {
            true => plan.program().time(gpu, step)?.iter().map(|(_, s)| s).sum(),
            false => {
                let start = Instant::now();
                plan.run(gpu, step)?;
                start.elapsed().as_secs_f64()
            }
        });
    }
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 2])
}
