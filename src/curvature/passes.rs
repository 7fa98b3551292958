//! The graphs of a measurement on an adapter. Each runs in two phases: what has no probes once a batch, what has probes once
//! for every block of them, over activations and adjoints that stay where they are.

use std::cell::Cell;
use std::collections::HashMap;

use super::{CurvatureError, Gram, Subject};
use crate::gpu::{Buffer, Count, GpuError, Step};
use crate::graph::{Emit, GramPart, Graph, MemoryPlan, NormTerm, Plan, TensorId};
use crate::ops::batch::BatchLayout;
use crate::ops::{Batch, BatchBuffers, CrossEntropy, Dims, Labels, LossDraw, Op, Role, Rule};

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
    plan: Plan,
    batch: BatchBuffers,
    layout: BatchLayout,
    pub dims: Dims,
    /// The batch whose first phase ran last.
    resident: Cell<Option<usize>>,
    /// Multiplications and additions of the phases' products, the second for one probe.
    pub flops: [f64; 2],
}

/// A graph and what of it is given or read.
struct Draft {
    graph: Graph,
    weight: Option<TensorId>,
    outside: HashMap<TensorId, Buffer>,
    keep: Vec<TensorId>,
}

impl Pass {
    /// Plans with as many probes at once as the budget allows, and calls `draft` for the graph of so many.
    fn new(
        subject: &Subject<'_>,
        graph: &Graph,
        draft: impl Fn(Dims) -> Result<Draft, CurvatureError>,
    ) -> Result<Pass, CurvatureError> {
        let mut dims = subject.dims;
        // Parameters, inputs and what goes to the caller's memory are few beside the rest; the plan is made without them.
        while dims.probes > 1 {
            let outside = |id: TensorId| graph.tensor(id).role != Role::Value;
            let keep = graph.kept_for_probes(&[]);
            let plan = MemoryPlan::new(graph, &dims, &subject.variants, &outside, &keep);
            if plan.bytes() <= BUDGET && plan.check(subject.gpu).is_ok() {
                break;
            }
            dims.probes = dims.probes.div_ceil(2);
        }
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
        let flops = graph.flops(&dims);
        Ok(Pass { plan, batch, layout, dims, resident: Cell::new(None), flops })
    }

    /// Runs a batch for probes `first ..` of a seed's draws, `probes` of them.
    fn run(&self, subject: &Subject<'_>, batch: usize, weight: f32, step: Step) -> Result<Batch, CurvatureError> {
        let packed = Batch::new(&self.layout, &subject.sentences[subject.batches[batch].clone()]);
        let counts = packed.step(step.probes);
        let step = Step { rows: counts.rows, masked: counts.masked, sentences: counts.sentences, ..step };
        let gpu = subject.gpu;
        let mut encoder = gpu.encoder();
        if self.resident.get() != Some(batch) {
            self.resident.set(None);
            self.batch.write(gpu, &packed, weight);
            self.plan.program().encode(gpu, &mut encoder, &step);
        }
        if let Some(probes) = self.plan.probes() {
            probes.encode(gpu, &mut encoder, &step);
        }
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        self.resident.set(Some(batch));
        Ok(packed)
    }
}

impl Pass {
    /// Seconds of every dispatch of both phases, from timestamps, on the batch that ran last.
    fn time(&self, subject: &Subject<'_>, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
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
    buffers: Vec<Buffer>,
    /// Bytes of one probe of each matrix.
    strides: Vec<u64>,
}

impl ProbeVectors {
    fn new(subject: &Subject<'_>, probes: u32, label: &str) -> Result<ProbeVectors, GpuError> {
        let strides: Vec<u64> = subject.encoder.matrices.iter().map(|m| m.padded_len() as u64 * 4).collect();
        let make = |stride: &u64| subject.gpu.buffer(label, stride * u64::from(probes));
        Ok(ProbeVectors { buffers: strides.iter().map(make).collect::<Result<_, _>>()?, strides })
    }

    fn write(&self, subject: &Subject<'_>, block: &[Vec<f32>]) {
        for (k, vector) in block.iter().enumerate() {
            let packed = subject.vectors.pack(&subject.encoder, vector);
            for ((buffer, stride), values) in self.buffers.iter().zip(&self.strides).zip(&packed) {
                subject.gpu.write_at(buffer, stride * k as u64, values);
            }
        }
    }

    /// Adds what is there to vectors.
    fn read(&self, subject: &Subject<'_>, sums: &mut [Vec<f64>]) -> Result<(), GpuError> {
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

impl ProductPass {
    /// Plans the products of a matrix.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject<'_>, matrix: Matrix) -> Result<ProductPass, CurvatureError> {
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
                let op = Op::CrossEntropy(CrossEntropy { rule: Rule::VjpJvp, labels: subject.labels });
                let cotangent = graph.push(op, &inputs, "curved")[0];
                let adjoints = graph.gradient(&[(logits, cotangent)]);
                (seeds, parameters.iter().map(|p| adjoints[p]).collect())
            }
        };
        graph.prune(&products);
        graph.fuse();
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
            self.probes.write(subject, chunk);
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

impl FormPass {
    /// Without `hessian`, only what the loss's own term gives.
    pub fn new(subject: &Subject<'_>, hessian: bool) -> Result<FormPass, CurvatureError> {
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
            self.probes.write(subject, chunk);
            let mut forms = vec![Forms::default(); chunk.len()];
            for batch in batches.clone() {
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
            all.append(&mut forms);
        }
        Ok(all)
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

/// Where the cotangents at the logits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cotangent {
    /// The labels of the examples: p − e_y.
    Data,
    /// Draws from the model.
    Draw(LossDraw),
}

/// Squared norms of per-example gradients for the labels of the data, or for a block of draws.
pub struct NormPass {
    pass: Pass,
    /// Summands of each parameter's squared norm: (parameter, column, place in `block`).
    terms: Vec<(usize, usize, u64)>,
    block: Buffer,
    draws: bool,
}

impl NormPass {
    /// Plans the norms for a kind of cotangent.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject<'_>, cotangent: Cotangent) -> Result<NormPass, CurvatureError> {
        let encoder = &subject.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", Count::Masked, 4);
        let adjoints = match cotangent {
            Cotangent::Data => graph.gradient(&[(loss, weight)]),
            Cotangent::Draw(kind) => {
                let drawn = graph.push(Op::LossDraw(kind), &[encoder.logits, loss], "draw")[0];
                graph.gradient(&[(encoder.logits, drawn)])
            }
        };
        // Parameters that share a matrix are its parts, in order.
        let members: Vec<Vec<usize>> = (0..encoder.matrices.len())
            .map(|m| (0..encoder.parameters.len()).filter(|p| encoder.parameters[*p].matrix == m).collect())
            .collect();
        let matrix_of = |id: TensorId| encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
        let wanted: Vec<TensorId> = (0..encoder.matrices.len())
            .filter(|m| members[*m].iter().any(|p| subject.vectors.contains(*p)))
            .map(|m| encoder.tensors[m])
            .collect();
        let norms: Vec<NormTerm> = graph.ghost_norms(&adjoints, &wanted, &|id| members[matrix_of(id)].len() as u32);
        let mut tensors: Vec<TensorId> = norms.iter().map(|t| t.tensor).collect();
        tensors.sort_unstable();
        tensors.dedup();
        graph.prune(&tensors);
        graph.fuse();
        let memory = std::cell::RefCell::new(None);
        let pass = Pass::new(subject, &graph, |dims| {
            let draws = if cotangent == Cotangent::Data { 1 } else { u64::from(dims.probes) };
            let bytes = u64::from(dims.sentences) * 16 * draws;
            let (block, parts) = subject.gpu.arena("the norms", &vec![bytes; tensors.len()])?;
            *memory.borrow_mut() = Some((block, bytes.max(16).next_multiple_of(subject.gpu.alignment())));
            let outside = tensors.iter().copied().zip(parts).collect();
            let weight = (cotangent == Cotangent::Data).then_some(weight);
            Ok(Draft { graph: graph.clone(), weight, outside, keep: tensors.clone() })
        })?;
        let (block, stride) = memory.into_inner().expect("the draft was made");
        let place = |t: &NormTerm| {
            let number = tensors.iter().position(|id| *id == t.tensor).expect("listed");
            (members[matrix_of(t.parameter)][t.part], t.column, number as u64 * stride / 16)
        };
        let terms = norms.iter().map(place).filter(|(p, ..)| subject.vectors.contains(*p)).collect();
        Ok(NormPass { pass, terms, block, draws: cotangent != Cotangent::Data })
    }

    /// Draws at once.
    pub fn width(&self) -> usize {
        if self.draws { self.pass.dims.probes as usize } else { 1 }
    }

    /// Squared norms for draws `first ..` of a seed, handed to `take` as (draw, example, parameter, a summand of the norm).
    pub fn run(
        &self,
        subject: &Subject<'_>,
        batch: usize,
        seed: u64,
        first: u32,
        draws: usize,
        mut take: impl FnMut(usize, usize, usize, f64),
    ) -> Result<(), CurvatureError> {
        let step = Step {
            probes: draws as u32,
            seed: [seed as u32, (seed >> 32) as u32],
            counter: [first, 0],
            ..Step::default()
        };
        let packed = self.pass.run(subject, batch, 1.0, step)?;
        let values: Vec<[f32; 4]> = subject.gpu.read(&self.block, self.block.bytes() as usize / 16)?;
        let stride = self.pass.dims.sentences as usize;
        for (parameter, column, place) in &self.terms {
            for k in 0..draws {
                for example in 0..packed.sentences as usize {
                    let value = values[*place as usize + k * stride + example][*column];
                    take(k, subject.batches[batch].start + example, *parameter, f64::from(value));
                }
            }
        }
        Ok(())
    }

    /// (once a batch, once a draw) in multiplications and additions.
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

/// Inner products of the gradients of all examples' summed losses, for the labels of the data.
pub struct GramPass {
    pass: Pass,
    gram: TensorId,
}

impl GramPass {
    /// Plans for the subject's examples, which must be one batch: each meets every other.
    ///
    /// # Errors
    /// Several batches, or what the adapter says.
    pub fn new(subject: &Subject<'_>) -> Result<GramPass, CurvatureError> {
        if subject.batches.len() != 1 {
            return Err(CurvatureError::Request(format!(
                "inner products of {} gradients need them in one batch; take fewer examples or a larger batch",
                subject.examples()
            )));
        }
        let encoder = &subject.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", Count::Masked, 4);
        let adjoints = graph.gradient(&[(loss, weight)]);
        let part = |id: TensorId| {
            let matrix = encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
            let members: Vec<usize> =
                (0..encoder.parameters.len()).filter(|p| encoder.parameters[*p].matrix == matrix).collect();
            let bit = |(i, p): (usize, &usize)| u32::from(subject.vectors.contains(*p)) << i;
            GramPart { mask: members.iter().enumerate().map(bit).sum(), parts: members.len() as u32 }
        };
        let gram = graph.ghost_gram(&adjoints, &encoder.tensors, subject.dims.sentences, &part);
        let gram = gram.ok_or_else(|| CurvatureError::Request("no parameter takes part".into()))?;
        graph.prune(&[gram]);
        graph.fuse();
        let pass = Pass::new(subject, &graph, |_| {
            Ok(Draft { graph: graph.clone(), weight: Some(weight), outside: HashMap::new(), keep: vec![gram] })
        })?;
        Ok(GramPass { pass, gram })
    }

    /// What a run costs, in gradients over the same examples.
    pub fn cost(&self, subject: &Subject<'_>) -> f64 {
        self.pass.flops.iter().sum::<f64>() / subject.gradient_flops()
    }

    /// g_i·g_j, row by row.
    pub fn run(&self, subject: &Subject<'_>) -> Result<Gram, CurvatureError> {
        self.pass.run(subject, 0, 1.0, Step { probes: 1, ..Step::default() })?;
        let n = subject.examples();
        let stride = n.next_multiple_of(4);
        let buffer = self.pass.plan.buffer(self.gram).expect("kept");
        let lower: Vec<f32> = subject.gpu.read(buffer, n * stride)?;
        let at = |i: usize, j: usize| f64::from(lower[i.max(j) * stride + i.min(j)]);
        Gram::new(n, (0..n * n).map(|k| at(k / n, k % n)).collect())
    }
}
