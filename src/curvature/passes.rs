//! The graphs of a measurement on an adapter. Each runs in two phases: what has no probes once a batch, what has probes once
//! for every block of them, over activations and adjoints that stay where they are.

use std::cell::Cell;
use std::collections::HashMap;

use super::error::unless_interrupted;
use super::{CurvatureError, Subject};
use crate::gpu::{Buffer, Count, GpuError, Step};
use crate::graph::{Emit, Graph, MemoryPlan, Plan, TensorId, fit};
use crate::interrupt;
use crate::ops::batch::BatchLayout;
use crate::ops::{Batch, BatchBuffers, CrossEntropy, Dims, Labels, Role, Rule, call};

/// Which matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matrix {
    /// Of the mean loss.
    Hessian,
    /// Gauss-Newton: the Hessian with the model linearised; equal to the Fisher matrix.
    Ggn,
}

/// Bytes of activations, adjoints and tangents that a pass may take. Software adapters have the machine's memory and
/// a heap of 2 GiB at the least.
const BUDGET: u64 = 1 << 30;

/// A planned graph with its batch.
pub(super) struct Pass {
    pub(super) plan: Plan,
    batch: BatchBuffers,
    layout: BatchLayout,
    pub dims: Dims,
    /// The batch whose first phase ran last.
    pub(super) resident: Cell<Option<usize>>,
    /// Multiplications and additions of the phases' products, the second for one probe.
    pub flops: [f64; 2],
}

/// A graph and what of it is given or read.
pub(super) struct Draft {
    pub graph: Graph,
    pub weight: Option<TensorId>,
    pub outside: HashMap<TensorId, Buffer>,
    pub keep: Vec<TensorId>,
}

impl Pass {
    /// The sizes that a pass is planned for: with as many probes at once as the budget allows.
    fn fit(subject: &Subject<'_>, graph: &Graph) -> Dims {
        let mut dims = subject.dims;
        // Parameters, inputs and what goes to the caller's memory are few beside the rest; the plan is made without them.
        while dims.probes > 1 {
            let outside = |id: TensorId| graph.tensor(id).role != Role::Value;
            let keep = graph.kept_for_probes(&[]);
            let plan = MemoryPlan::new(graph, &dims, &subject.variants, &outside, &keep);
            if plan.bytes() <= BUDGET && fit::check(subject.gpu, graph, &dims, &subject.variants, &outside).is_ok() {
                break;
            }
            dims.probes = dims.probes.div_ceil(2);
        }
        dims
    }

    /// Bytes that a pass takes of the adapter, `beside` being its caller's memory, of which `given` are results.
    pub(super) fn bytes(
        subject: &Subject<'_>,
        graph: &Graph,
        given: &[TensorId],
        keep: &[TensorId],
        beside: impl Fn(&Dims) -> u64,
    ) -> Result<u64, CurvatureError> {
        let dims = Pass::fit(subject, graph);
        let (encoder, variants) = (&subject.encoder, &subject.variants);
        let outside = |id: TensorId| graph.tensor(id).role != Role::Value || given.contains(&id);
        fit::check(subject.gpu, graph, &dims, variants, &outside)?;
        let memory = MemoryPlan::new(graph, &dims, variants, &outside, &graph.kept_for_probes(keep));
        let layout = encoder.batch_layout(variants);
        let soft = subject.labels == Labels::Soft;
        let batch = BatchBuffers::bytes(&dims, &layout, variants, encoder.config.vocab_size, soft);
        let dispatches = crate::graph::dispatches(subject.gpu, graph, dims, variants, &layout)?.len() as u64;
        Ok(memory.bytes() + batch + 256 * dispatches + beside(&dims))
    }

    /// Plans with as many probes at once as the budget allows, and calls `draft` for the graph of so many.
    pub(super) fn new(
        subject: &Subject<'_>,
        graph: &Graph,
        draft: impl Fn(Dims) -> Result<Draft, CurvatureError>,
    ) -> Result<Pass, CurvatureError> {
        let dims = Pass::fit(subject, graph);
        let mut draft = draft(dims)?;
        let layout = subject.encoder.batch_layout(&subject.variants);
        let vocabulary = subject.encoder.config.vocab_size;
        let batch = BatchBuffers::new(
            subject.gpu,
            &dims,
            &layout,
            &subject.variants,
            vocabulary,
            subject.labels == Labels::Soft,
        )?;
        draft.outside.extend(subject.encoder.tensors.iter().copied().zip(subject.parameters.matrices.iter().cloned()));
        if let Some(weight) = draft.weight {
            draft.outside.insert(weight, batch.weight.clone());
        }
        let Draft { graph, outside, keep, .. } = draft;
        let plan = Plan::in_phases(subject.gpu, &graph, dims, &subject.variants, &batch, &outside, &keep)?;
        let flops = graph.flops(&dims, &subject.variants);
        Ok(Pass { plan, batch, layout, dims, resident: Cell::new(None), flops })
    }

    /// Runs a batch for probes `first ..` of a seed's draws, `probes` of them.
    pub(super) fn run(
        &self,
        subject: &Subject<'_>,
        batch: usize,
        weight: f32,
        step: Step,
    ) -> Result<Batch, CurvatureError> {
        let packed = Batch::new(&self.layout, &subject.sentences[subject.batches[batch].clone()]);
        let counts = packed.step(step.probes);
        let step = Step { rows: counts.rows, masked: counts.masked, sentences: counts.sentences, ..step };
        let gpu = subject.gpu;
        let mut encoder = gpu.encoder();
        if self.resident.get() != Some(batch) {
            self.resident.set(None);
            self.batch.write(gpu, &packed, weight);
            self.plan.program().encode(gpu, &mut encoder, &step)?;
        }
        if let Some(probes) = self.plan.probes() {
            probes.encode(gpu, &mut encoder, &step)?;
        }
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        self.resident.set(Some(batch));
        Ok(packed)
    }
}

impl Pass {
    /// Seconds of every dispatch of both phases, from timestamps, on the batch that ran last.
    pub(super) fn time(&self, subject: &Subject<'_>, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        let batch = self.resident.get().unwrap_or(0);
        let packed = Batch::new(&self.layout, &subject.sentences[subject.batches[batch].clone()]);
        let step = packed.step(probes);
        let mut all = self.plan.program().time(subject.gpu, &step)?;
        if let Some(second) = self.plan.probes() {
            all.extend(second.time(subject.gpu, &step)?);
        }
        Ok(all)
    }
}

/// Memory for a vector of the model's size a probe.
pub(super) struct ProbeVectors {
    pub(super) buffers: Vec<Buffer>,
    /// Bytes of one probe of each matrix.
    strides: Vec<u64>,
}

impl ProbeVectors {
    /// Bytes for so many probes.
    fn bytes(subject: &Subject<'_>, probes: u32) -> u64 {
        let one = |m: &crate::model::Matrix| {
            (m.padded_len() as u64 * 4 * u64::from(probes)).next_multiple_of(subject.gpu.alignment())
        };
        subject.encoder.matrices.iter().map(one).sum()
    }

    pub(super) fn new(subject: &Subject<'_>, probes: u32, label: &str) -> Result<ProbeVectors, GpuError> {
        let strides: Vec<u64> = subject.encoder.matrices.iter().map(|m| m.padded_len() as u64 * 4).collect();
        let make = |stride: &u64| subject.gpu.buffer(label, stride * u64::from(probes));
        Ok(ProbeVectors { buffers: strides.iter().map(make).collect::<Result<_, _>>()?, strides })
    }

    fn write(&self, subject: &Subject<'_>, block: &[Vec<f32>]) -> Result<(), CurvatureError> {
        for (k, vector) in block.iter().enumerate() {
            interrupt::check()?;
            let packed = subject.vectors.pack(&subject.encoder, vector);
            for ((buffer, stride), values) in self.buffers.iter().zip(&self.strides).zip(&packed) {
                subject.gpu.write_at(buffer, stride * k as u64, values);
            }
        }
        Ok(())
    }

    /// Adds what is there to vectors.
    pub(super) fn read(&self, subject: &Subject<'_>, sums: &mut [Vec<f64>]) -> Result<(), GpuError> {
        let parts: Vec<(&Buffer, usize)> =
            self.buffers.iter().zip(&self.strides).map(|(b, s)| (b, *s as usize * sums.len())).collect();
        let all: Vec<Vec<f32>> =
            subject.gpu.read_many(&parts)?.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
        for (k, sum) in sums.iter_mut().enumerate() {
            let layer = |stride: &u64| k * *stride as usize / 4..(k + 1) * *stride as usize / 4;
            let packed: Vec<&[f32]> = all.iter().zip(&self.strides).map(|(v, s)| &v[layer(s)]).collect();
            subject.vectors.accumulate(&subject.encoder, &packed, sum);
        }
        Ok(())
    }
}

/// A probe of every parameter: (parameter, probe).
fn directions(subject: &Subject<'_>, graph: &mut Graph) -> Vec<(TensorId, TensorId)> {
    let of = |graph: &mut Graph, id: &TensorId| {
        let tensor = graph.tensor(*id).clone();
        (*id, graph.probe(&format!("along {}", tensor.name), tensor.rows, tensor.cols))
    };
    subject.encoder.tensors.iter().map(|id| of(graph, id)).collect()
}

/// A v for a block of vectors v: the mean over the masked positions of all examples.
pub struct ProductPass {
    pass: Pass,
    probes: ProbeVectors,
    products: ProbeVectors,
}

/// The graph of products, its weight, and each parameter's probe and product.
struct ProductGraph {
    graph: Graph,
    weight: TensorId,
    seeds: Vec<(TensorId, TensorId)>,
    products: Vec<TensorId>,
}

impl ProductGraph {
    fn new(subject: &Subject<'_>, matrix: Matrix) -> ProductGraph {
        let (mut graph, loss) = subject.encoder.with_loss(subject.labels);
        let weight = graph.input("weight", Count::Masked, 4);
        let parameters = &subject.encoder.tensors;
        let (seeds, products): (Vec<_>, Vec<TensorId>) = match matrix {
            Matrix::Hessian => {
                let adjoints = graph.gradient(&[(loss, weight)]);
                let seeds = directions(subject, &mut graph);
                let tangents = graph.tangent(&seeds);
                (seeds, parameters.iter().map(|p| tangents[&adjoints[p]]).collect())
            }
            Matrix::Ggn => {
                let seeds = directions(subject, &mut graph);
                let tangents = graph.tangent(&seeds);
                let logits = subject.encoder.logits;
                let inputs = [logits, loss, weight, tangents[&logits]];
                let curved = call(CrossEntropy { labels: subject.labels }, Rule::VjpJvp(0), &inputs);
                let cotangent = graph.push(curved, "curved")[0];
                let adjoints = graph.gradient(&[(logits, cotangent)]);
                (seeds, parameters.iter().map(|p| adjoints[p]).collect())
            }
        };
        graph.prune(&products);
        graph.fuse();
        ProductGraph { graph, weight, seeds, products }
    }
}

impl ProductPass {
    /// Bytes that products of a matrix take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject<'_>, matrix: Matrix) -> Result<u64, CurvatureError> {
        let ProductGraph { graph, products, .. } = ProductGraph::new(subject, matrix);
        Pass::bytes(subject, &graph, &products, &products, |dims| 2 * ProbeVectors::bytes(subject, dims.probes))
    }

    /// Plans the products of a matrix.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject<'_>, matrix: Matrix) -> Result<ProductPass, CurvatureError> {
        let ProductGraph { graph, weight, seeds, products } = ProductGraph::new(subject, matrix);
        let memory = std::cell::RefCell::new(None);
        let pass = Pass::new(subject, &graph, |dims| {
            let probes = ProbeVectors::new(subject, dims.probes, "the probes")?;
            let results = ProbeVectors::new(subject, dims.probes, "the products")?;
            let mut outside: HashMap<TensorId, Buffer> =
                seeds.iter().map(|(_, probe)| *probe).zip(probes.buffers.iter().cloned()).collect();
            outside.extend(products.iter().copied().zip(results.buffers.iter().cloned()));
            *memory.borrow_mut() = Some((probes, results));
            Ok(Draft { graph: graph.clone(), weight: Some(weight), outside, keep: products.clone() })
        })?;
        let (probes, products) = memory.into_inner().expect("the draft was made");
        Ok(ProductPass { pass, probes, products })
    }

    /// Vectors at once.
    pub fn width(&self) -> usize {
        self.pass.dims.probes as usize
    }

    /// A v of each vector, over all batches: the mean over masked positions.
    pub fn run(&self, subject: &Subject<'_>, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        let mut products = Vec::new();
        for chunk in block.chunks(self.width()) {
            self.probes.write(subject, chunk)?;
            let mut sums = vec![vec![0.0f64; subject.size()]; chunk.len()];
            for batch in 0..subject.batches.len() {
                let step = Step { probes: chunk.len() as u32, ..Step::default() };
                self.pass.run(subject, batch, subject.row_weight() as f32, step)?;
                self.products.read(subject, &mut sums)?;
            }
            products.extend(sums.iter().map(|s| s.iter().map(|x| *x as f32).collect::<Vec<f32>>()));
        }
        Ok(products)
    }

    /// (once a batch, once a vector) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }

    /// Forgets the activations of the last batch: the next run computes them again.
    pub fn forget(&self) {
        self.pass.resident.set(None);
    }

    /// Seconds of every dispatch for so many probes or draws, from timestamps.
    pub fn time(&self, subject: &Subject<'_>, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        self.pass.time(subject, probes)
    }
}

/// What quadratic forms of one vector give for each example, of the sum of its losses.
#[derive(Clone, Debug, Default)]
pub struct Forms {
    /// vᵀ H_i v.
    pub hessian: Vec<f64>,
    /// vᵀ G_i v.
    pub ggn: Vec<f64>,
    /// ⟨g_i, v⟩.
    pub slope: Vec<f64>,
}

/// Quadratic forms of a block of vectors, an example each, without a pass back along the tangents.
pub struct FormPass {
    pass: Pass,
    probes: ProbeVectors,
    hessian: Option<TensorId>,
    ggn: TensorId,
    slope: TensorId,
}

/// The graph of quadratic forms, its weight, each parameter's probe, and the forms.
struct FormGraph {
    graph: Graph,
    weight: TensorId,
    seeds: Vec<(TensorId, TensorId)>,
    whole: Option<TensorId>,
    ggn: TensorId,
    slope: TensorId,
    keep: Vec<TensorId>,
}

impl FormGraph {
    fn new(subject: &Subject<'_>, hessian: bool) -> FormGraph {
        let (mut graph, loss) = subject.encoder.with_loss(subject.labels);
        let forward = graph.nodes().len();
        let weight = graph.input("weight", Count::Masked, 4);
        let adjoints = if hessian { Some(graph.gradient(&[(loss, weight)])) } else { None };
        let seeds = directions(subject, &mut graph);
        let tangents = graph.tangent_of(forward, &seeds);
        let ggn = graph.second_order(forward, Some((loss, 1.0)), None, &tangents).expect("the loss's term");
        let whole =
            hessian.then(|| graph.second_order(forward, Some((loss, 1.0)), adjoints.as_ref(), &tangents)).flatten();
        let slope = graph.sentence_sum(tangents[&loss]);
        let keep: Vec<TensorId> = [ggn, slope].into_iter().chain(whole).collect();
        graph.prune(&keep);
        graph.fuse();
        FormGraph { graph, weight, seeds, whole, ggn, slope, keep }
    }
}

impl FormPass {
    /// Bytes that quadratic forms take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject<'_>, hessian: bool) -> Result<u64, CurvatureError> {
        let FormGraph { graph, keep, .. } = FormGraph::new(subject, hessian);
        Pass::bytes(subject, &graph, &[], &keep, |dims| ProbeVectors::bytes(subject, dims.probes))
    }

    /// Without `hessian`, only what the loss's own term gives.
    pub fn new(subject: &Subject<'_>, hessian: bool) -> Result<FormPass, CurvatureError> {
        let FormGraph { graph, weight, seeds, whole, ggn, slope, keep } = FormGraph::new(subject, hessian);
        let memory = std::cell::RefCell::new(None);
        let pass = Pass::new(subject, &graph, |dims| {
            let probes = ProbeVectors::new(subject, dims.probes, "the probes")?;
            let outside = seeds.iter().map(|(_, probe)| *probe).zip(probes.buffers.iter().cloned()).collect();
            *memory.borrow_mut() = Some(probes);
            let weight = hessian.then_some(weight);
            Ok(Draft { graph: graph.clone(), weight, outside, keep: keep.clone() })
        })?;
        let probes = memory.into_inner().expect("the draft was made");
        Ok(FormPass { pass, probes, hessian: whole, ggn, slope })
    }

    /// Forms of each vector.
    pub fn run(&self, subject: &Subject<'_>, block: &[Vec<f32>]) -> Result<Vec<Forms>, CurvatureError> {
        self.run_batches(subject, 0..subject.batches.len(), block)
    }

    /// Forms of each vector over the examples of some batches.
    pub fn run_batches(
        &self,
        subject: &Subject<'_>,
        batches: std::ops::Range<usize>,
        block: &[Vec<f32>],
    ) -> Result<Vec<Forms>, CurvatureError> {
        let mut all = Vec::new();
        for chunk in block.chunks(self.pass.dims.probes as usize) {
            let mut forms = vec![Forms::default(); chunk.len()];
            self.add(subject, batches.clone(), chunk, &mut forms)?;
            all.append(&mut forms);
        }
        Ok(all)
    }

    /// Forms of each vector as far as they came before an interrupt: of fewer vectors, or, where none is done, of the first
    /// batches only.
    pub fn run_so_far(&self, subject: &Subject<'_>, block: &[Vec<f32>]) -> Result<Vec<Forms>, CurvatureError> {
        let mut all = Vec::new();
        for chunk in block.chunks(self.pass.dims.probes as usize) {
            let mut forms = vec![Forms::default(); chunk.len()];
            let done = self.add(subject, 0..subject.batches.len(), chunk, &mut forms);
            match (unless_interrupted(done)?, all.is_empty()) {
                (Some(()), _) => all.append(&mut forms),
                (None, true) => return Ok(forms),
                (None, false) => break,
            }
        }
        Ok(all)
    }

    /// Adds the forms of one chunk of vectors, batch after batch.
    fn add(
        &self,
        subject: &Subject<'_>,
        batches: std::ops::Range<usize>,
        chunk: &[Vec<f32>],
        forms: &mut [Forms],
    ) -> Result<(), CurvatureError> {
        self.probes.write(subject, chunk)?;
        for batch in batches {
            let step = Step { probes: chunk.len() as u32, ..Step::default() };
            let packed = self.pass.run(subject, batch, 1.0, step)?;
            let sentences = packed.sentences as usize;
            let mut read = |id: TensorId, to: fn(&mut Forms) -> &mut Vec<f64>| {
                let values = self.read(subject, id, chunk.len())?;
                let stride = self.pass.dims.sentences as usize;
                for (k, form) in forms.iter_mut().enumerate() {
                    to(form).extend(values[k * stride..k * stride + sentences].iter().map(|v| f64::from(v[0])));
                }
                Ok::<_, CurvatureError>(())
            };
            if let Some(hessian) = self.hessian {
                read(hessian, |f| &mut f.hessian)?;
            }
            read(self.ggn, |f| &mut f.ggn)?;
            read(self.slope, |f| &mut f.slope)?;
        }
        Ok(())
    }

    fn read(&self, subject: &Subject<'_>, id: TensorId, probes: usize) -> Result<Vec<[f32; 4]>, GpuError> {
        let buffer = self.pass.plan.buffer(id).expect("kept");
        subject.gpu.read(buffer, probes * self.pass.dims.sentences as usize)
    }

    /// (once a batch, once a vector) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }

    /// Forgets the activations of the last batch: the next run computes them again.
    pub fn forget(&self) {
        self.pass.resident.set(None);
    }

    /// Seconds of every dispatch for so many probes or draws, from timestamps.
    pub fn time(&self, subject: &Subject<'_>, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        self.pass.time(subject, probes)
    }
}
