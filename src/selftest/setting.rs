//! A case made ready: its batch, its graph with the passes behind it, and the numbers that it starts from.

use std::collections::HashMap;

use super::cases::{Draft, Given};
use super::{Case, Pass, TABLES, Work};
use crate::gpu::{Count, Step};
use crate::graph::{Emit, GramPart, Graph, Role, TensorId};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::counts::MASKED;
use crate::ops::{Batch, Function, GhostNorm, Parts, RowGram, Rule, call};
use crate::random::{Purpose, Stream};
use crate::reference::{Frame, Values};

/// Why norms of a case cannot fail.
const KNOWN: &str = "operations of the table say what their gradients are made of";

pub(super) fn batch_of(case: &Case, layout: &BatchLayout) -> Batch {
    let mut random = Stream::new(11, Purpose::Test, u64::from(case.sentences));
    let sentences: Vec<Sentence> = (0..case.sentences)
        .map(|_| {
            let lengths = case.longest - case.shortest + 1;
            let length = if case.timed.is_some() { case.longest } else { case.shortest + random.below(lengths) };
            let ids = (0..length).map(|_| random.below(case.vocabulary)).collect();
            let segments = (0..length).map(|_| random.below(TABLES[2])).collect();
            let masked = if case.timed.is_some() { 1 } else { (1 + random.below(case.masked)).min(length) };
            let masked: Vec<(u32, u32)> = (0..masked).map(|i| (i, random.below(case.vocabulary))).collect();
            let soft =
                masked.iter().filter(|_| case.soft).map(|_| distribution(&mut random, case.vocabulary)).collect();
            Sentence { ids, segments, masked, soft, ..Sentence::default() }
        })
        .collect();
    Batch::new(layout, &sentences)
}

/// A random distribution with some zeros in it.
fn distribution(random: &mut Stream, n: u32) -> Vec<f32> {
    let mut weights: Vec<f64> = (0..n).map(|_| if random.below(4) == 0 { 0.0 } else { random.exponential() }).collect();
    weights[0] += 0.1;
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| (w / total) as f32).collect()
}

/// A case with its batch, cotangents and given values.
pub(super) struct Setting {
    pub layout: BatchLayout,
    pub batch: Batch,
    pub graph: Graph,
    pub output: TensorId,
    pub cotangent: TensorId,
    /// What the given tensors hold where that is not [`Given::Normal`].
    pub given: HashMap<TensorId, Given>,
    pub adjoints: HashMap<TensorId, TensorId>,
    pub step: Step,
    /// A direction of each parameter, and the tangents along it.
    pub directions: Vec<(TensorId, TensorId)>,
    pub tangents: HashMap<TensorId, TensorId>,
    /// Second-order terms of each sentence.
    pub second: Option<TensorId>,
    /// Nodes before the reverse pass.
    pub forward: usize,
    /// Parameters and inputs.
    pub values: Values,
}

impl Setting {
    pub fn new(case: &Case, probes: u32, segment: u32, fused: bool) -> Setting {
        let mut setting = Setting::without_values(case, case.pass, probes, segment, fused);
        for (id, tensor) in setting.graph.tensors().filter(|(_, t)| t.role != Role::Value) {
            let layers = if tensor.probes { probes as usize } else { 1 };
            let given = setting.given.get(&id).copied().unwrap_or(Given::Normal);
            let value = numbers(tensor.cols as usize, setting.frame().rows(id), layers, given, id);
            setting.values.insert(id, value);
        }
        setting
    }

    /// The graph with a pass behind it, and the batch.
    pub fn without_values(case: &Case, pass: Pass, probes: u32, segment: u32, fused: bool) -> Setting {
        let layout = BatchLayout { segment, ..case.layout() };
        let batch = batch_of(case, &layout);
        let mut draft = Draft { vocabulary: case.vocabulary, ..Draft::default() };
        let Work::Graph(build) = &case.work else { unreachable!("an update rule has no graph") };
        let output = build(&mut draft);
        let Draft { mut graph, mut given, .. } = draft;
        let forward = graph.nodes().len();
        let tensor = graph.tensor(output).clone();
        let cotangent = match tensor.rows {
            // A set of weights a probe.
            MASKED if case.weight_sets => graph.probe("weights", MASKED, 4),
            MASKED => graph.input("weight", MASKED, 4),
            _ if matches!(pass, Pass::Gradient | Pass::Norms) => graph.probe("cotangent", tensor.rows, tensor.cols),
            _ => graph.input("cotangent", tensor.rows, tensor.cols),
        };
        let mut directions = Vec::new();
        let directions_of = |graph: &mut Graph| -> Vec<(TensorId, TensorId)> {
            let parameters: Vec<(TensorId, String, Count, u32)> = graph
                .tensors()
                .filter(|(_, t)| t.role == Role::Parameter)
                .map(|(id, t)| (id, t.name.clone(), t.rows, t.cols))
                .collect();
            let probe = |(id, name, rows, cols): (TensorId, String, Count, u32)| {
                (id, graph.probe(&format!("along {name}"), rows, cols))
            };
            parameters.into_iter().map(probe).collect()
        };
        if tensor.rows == MASKED {
            given.insert(cotangent, if case.weight_sets { Given::LossWeights } else { Given::LossWeight });
        }
        let parts = |id: TensorId| match given.get(&id) {
            Some(Given::Heads { parts, .. }) => vec![Parts::Equal(*parts)],
            Some(Given::GroupedHeads { size, heads }) => {
                let vec4 = |heads: u32| heads * size.div_ceil(4);
                let part = |i: usize| Parts::Some { first4: vec4(heads[..i].iter().sum()), size4: vec4(heads[i]) };
                (0..heads.len()).map(part).collect()
            }
            _ => vec![Parts::WHOLE],
        };
        let mut tangents = HashMap::new();
        let mut second = None;
        let adjoints;
        match pass {
            Pass::Forward => adjoints = HashMap::new(),
            Pass::Gradient => adjoints = graph.gradient(&[(output, cotangent)]),
            Pass::Norms => {
                adjoints = graph.gradient(&[(output, cotangent)]);
                let mut parameters: Vec<TensorId> =
                    adjoints.keys().copied().filter(|id| graph.tensor(*id).role == Role::Parameter).collect();
                parameters.sort_unstable();
                graph.ghost_norms(&adjoints, &parameters, &parts).expect(KNOWN);
                with_row_grams(&mut graph, case.longest);
                let cotangent = graph.input("one cotangent", tensor.rows, tensor.cols);
                let adjoints = graph.gradient(&[(output, cotangent)]);
                let wanted = |id: TensorId| GramPart::of(&parts(id), |_| true);
                graph.ghost_gram(&adjoints, &parameters, case.sentences + 1, &wanted).expect(KNOWN);
            }
            Pass::Tangent => {
                adjoints = graph.gradient(&[(output, cotangent)]);
                directions = directions_of(&mut graph);
                // The cotangent moves too, as an adjoint does in the middle of a model.
                if tensor.rows != MASKED {
                    let along = graph.probe("along cotangent", tensor.rows, tensor.cols);
                    directions.push((cotangent, along));
                }
                tangents = graph.tangent(&directions);
            }
            Pass::Second => {
                directions = directions_of(&mut graph);
                tangents = graph.tangent(&directions);
                adjoints = graph.gradient(&[(output, cotangent)]);
                let loss = (tensor.rows == MASKED).then_some((output, 0.25));
                second = graph.second_order(forward, loss, Some(&adjoints), &tangents);
            }
        }
        // A direction holds numbers of its parameter's kind.
        for (parameter, along) in &directions {
            if let Some(kind) = given.get(parameter).copied() {
                given.insert(*along, kind);
            }
        }
        if fused {
            graph.fuse();
            graph.share_slopes();
        }
        let step = Step { seed: [7, 8], counter: [3, 0], ..batch.step(probes) };
        Setting {
            layout,
            batch,
            graph,
            output,
            cotangent,
            given,
            adjoints,
            step,
            directions,
            tangents,
            second,
            forward,
            values: Values::new(),
        }
    }

    pub fn frame(&self) -> Frame<'_> {
        Frame { graph: &self.graph, batch: &self.batch, step: self.step }
    }
}

/// Appends the norms of products once more, from the inner products of their inputs.
fn with_row_grams(graph: &mut Graph, longest: u32) {
    for node in graph.nodes().to_vec() {
        if let Function::GhostNorm(GhostNorm::Product { parts }) = node.function {
            let [b, a] = node.inputs();
            let gram = graph.push(call(RowGram { most: longest + 2 }, Rule::Forward, &[a]), "row_gram")[0];
            graph.push(call(GhostNorm::Weighted { parts }, Rule::Forward, &[b, gram]), "norms");
        }
    }
}

/// Numbers for a parameter or an input.
fn numbers(cols: usize, rows: usize, layers: usize, given: Given, id: TensorId) -> Vec<f64> {
    let mut random = Stream::new(5, Purpose::Test, u64::from(id.0));
    let one = |i: usize| {
        let z = f64::from(random.normal() as f32);
        match given {
            Given::Normal => z,
            Given::NearOne => f64::from((1.0 + 0.2 * z) as f32),
            Given::AwayFromZero => z + f64::from((80.0f64).copysign(z) as f32),
            Given::Heads { size, .. } | Given::GroupedHeads { size, .. }
                if (i / cols) % size.next_multiple_of(4) as usize >= size as usize =>
            {
                0.0
            }
            Given::Heads { .. } | Given::GroupedHeads { .. } => z * 0.5,
            Given::Slight => z * 0.3,
            Given::Runs => [i / 4 % 5, i / 4 % 4, 1 + i / 4 % 3, 0][i % 4] as f64,
            Given::LossWeight | Given::LossWeights if !i.is_multiple_of(4) => 0.0,
            Given::LossWeight => 0.25,
            Given::LossWeights => z,
            Given::Groups => (i % 3) as f64,
        }
    };
    (0..layers * rows * cols).map(one).collect()
}
