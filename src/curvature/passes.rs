//! The graphs of a measurement on an adapter. Each runs in two phases: what has no probes once a batch, what has probes once
//! for every block of them, over activations and adjoints that stay where they are.

use std::cell::Cell;

use super::error::unless_interrupted;
use super::{CurvatureError, Subject};
use crate::gpu::{Buffer, GpuError, Step};
use crate::graph::{Emit, Graph, TensorId};
use crate::interrupt;
use crate::model::{Bound, Encoder, Given, Recipe};
use crate::ops::counts::MASKED;
use crate::ops::{Batch, CrossEntropy, Dims, Rule, call};

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

/// A recipe on the subject's adapter, with as many probes at once as the budget allows.
pub(super) struct Pass {
    pub(super) bound: Bound,
    /// The batch whose first phase ran last.
    pub(super) resident: Cell<Option<usize>>,
    /// Multiplications and additions of the phases' products, the second for one probe.
    pub flops: [f64; 2],
}

impl Pass {
    /// Bytes that a pass takes of the adapter.
    pub(super) fn bytes(subject: &Subject, recipe: &Recipe) -> Result<u64, CurvatureError> {
        let model = &subject.model;
        Ok(recipe.bytes(model, &recipe.fitted(&model.device, subject.dims, BUDGET))?)
    }

    /// Plans a recipe.
    pub(super) fn new(subject: &Subject, recipe: Recipe) -> Result<Pass, CurvatureError> {
        let model = &subject.model;
        let dims = recipe.fitted(&model.device, subject.dims, BUDGET);
        let flops = recipe.graph().flops(&dims, &model.device.variants);
        Ok(Pass { bound: recipe.plan(model, dims, &[])?, resident: Cell::new(None), flops })
    }

    /// The largest batch and the probes at once.
    pub(super) fn dims(&self) -> Dims {
        self.bound.dims
    }

    /// Runs a batch for probes `first ..` of a seed's draws, `probes` of them.
    pub(super) fn run(
        &self,
        subject: &Subject,
        batch: usize,
        weight: f32,
        step: Step,
    ) -> Result<Batch, CurvatureError> {
        let packed = Batch::new(&self.bound.layout, &subject.sentences[subject.batches[batch].clone()]);
        let step = Step { counts: packed.step(step.probes).counts, ..step };
        let gpu = subject.gpu();
        let mut encoder = gpu.encoder();
        if self.resident.get() != Some(batch) {
            self.resident.set(None);
            self.bound.batch.write(gpu, &packed, weight);
            self.bound.plan.program().encode(gpu, &mut encoder, &step)?;
        }
        if let Some(probes) = self.bound.plan.probes() {
            probes.encode(gpu, &mut encoder, &step)?;
        }
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        self.resident.set(Some(batch));
        Ok(packed)
    }

    /// Seconds of every dispatch of both phases, from timestamps, on the batch that ran last.
    pub(super) fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        let batch = self.resident.get().unwrap_or(0);
        let packed = Batch::new(&self.bound.layout, &subject.sentences[subject.batches[batch].clone()]);
        let step = packed.step(probes);
        let mut all = self.bound.plan.program().time(subject.gpu(), &step)?;
        if let Some(second) = self.bound.plan.probes() {
            all.extend(second.time(subject.gpu(), &step)?);
        }
        Ok(all)
    }
}

/// Memory of a vector of the model's size for each probe.
pub(super) struct ProbeVectors {
    buffers: Vec<Buffer>,
    /// Bytes of one probe of each matrix.
    strides: Vec<u64>,
}

impl ProbeVectors {
    /// The memory of a tensor with probes for each of the model's matrices.
    pub(super) fn of(subject: &Subject, pass: &Pass, tensors: &[TensorId]) -> ProbeVectors {
        let strides = subject.model.encoder.matrices.iter().map(|m| m.padded_len() as u64 * 4).collect();
        ProbeVectors { buffers: tensors.iter().map(|id| pass.bound.buffer(*id).clone()).collect(), strides }
    }

    fn write(&self, subject: &Subject, block: &[Vec<f32>]) -> Result<(), CurvatureError> {
        for (k, vector) in block.iter().enumerate() {
            interrupt::check()?;
            let packed = subject.vectors.pack(&subject.model.encoder, vector);
            for ((buffer, stride), values) in self.buffers.iter().zip(&self.strides).zip(&packed) {
                subject.gpu().write_at(buffer, stride * k as u64, values);
            }
        }
        Ok(())
    }

    /// Adds what is there to vectors.
    pub(super) fn read(&self, subject: &Subject, sums: &mut [Vec<f64>]) -> Result<(), GpuError> {
        let parts: Vec<(&Buffer, usize)> =
            self.buffers.iter().zip(&self.strides).map(|(b, s)| (b, *s as usize * sums.len())).collect();
        let all: Vec<Vec<f32>> =
            subject.gpu().read_many(&parts)?.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect();
        for (k, sum) in sums.iter_mut().enumerate() {
            let layer = |stride: &u64| k * *stride as usize / 4..(k + 1) * *stride as usize / 4;
            let packed: Vec<&[f32]> = all.iter().zip(&self.strides).map(|(v, s)| &v[layer(s)]).collect();
            subject.vectors.accumulate(&subject.model.encoder, &packed, sum);
        }
        Ok(())
    }
}

/// A probe of every parameter: (parameter, probe).
fn directions(encoder: &Encoder, graph: &mut Graph) -> Vec<(TensorId, TensorId)> {
    let of = |graph: &mut Graph, id: &TensorId| {
        let tensor = graph.tensor(*id).clone();
        (*id, graph.probe(&format!("along {}", tensor.name), tensor.rows, tensor.cols))
    };
    encoder.tensors.iter().map(|id| of(graph, id)).collect()
}

/// A v for a block of vectors v: the mean over the masked positions of all examples.
pub struct ProductPass {
    pass: Pass,
    probes: ProbeVectors,
    products: ProbeVectors,
}

/// The recipe of products, and each parameter's probe and product.
struct ProductRecipe {
    recipe: Recipe,
    probes: Vec<TensorId>,
    products: Vec<TensorId>,
}

impl ProductRecipe {
    fn new(subject: &Subject, matrix: Matrix) -> ProductRecipe {
        let encoder = &subject.model.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", MASKED, 4);
        let parameters = &encoder.tensors;
        let (seeds, products): (Vec<_>, Vec<TensorId>) = match matrix {
            Matrix::Hessian => {
                let adjoints = graph.gradient(&[(loss, weight)]);
                let seeds = directions(encoder, &mut graph);
                let tangents = graph.tangent(&seeds);
                (seeds, parameters.iter().map(|p| tangents[&adjoints[p]]).collect())
            }
            Matrix::Ggn => {
                let seeds = directions(encoder, &mut graph);
                let tangents = graph.tangent(&seeds);
                let logits = encoder.logits;
                let inputs = [logits, loss, weight, tangents[&logits]];
                let curved = call(CrossEntropy { labels: subject.labels }, Rule::VjpJvp(0), &inputs);
                let cotangent = graph.push(curved, "curved")[0];
                let adjoints = graph.gradient(&[(logits, cotangent)]);
                (seeds, parameters.iter().map(|p| adjoints[p]).collect())
            }
        };
        graph.prune(&products);
        graph.fuse();
        let probes: Vec<TensorId> = seeds.into_iter().map(|(_, probe)| probe).collect();
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Weight, [weight])
            .give(Given::Fresh("the probes"), probes.iter().copied())
            .give(Given::Fresh("the products"), products.iter().copied())
            .keep(&products)
            .in_phases();
        ProductRecipe { recipe, probes, products }
    }
}

impl ProductPass {
    /// Bytes that products of a matrix take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, matrix: Matrix) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &ProductRecipe::new(subject, matrix).recipe)
    }

    /// Plans the products of a matrix.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject, matrix: Matrix) -> Result<ProductPass, CurvatureError> {
        let ProductRecipe { recipe, probes, products } = ProductRecipe::new(subject, matrix);
        let pass = Pass::new(subject, recipe)?;
        let [probes, products] = [probes, products].map(|ids| ProbeVectors::of(subject, &pass, &ids));
        Ok(ProductPass { pass, probes, products })
    }

    /// Vectors at once.
    pub fn width(&self) -> usize {
        self.pass.dims().probes as usize
    }

    /// A v of each vector, over all batches: the mean over masked positions.
    pub fn run(&self, subject: &Subject, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
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
    pub fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
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

/// The recipe of quadratic forms, each parameter's probe, and the forms.
struct FormRecipe {
    recipe: Recipe,
    probes: Vec<TensorId>,
    whole: Option<TensorId>,
    ggn: TensorId,
    slope: TensorId,
}

impl FormRecipe {
    fn new(subject: &Subject, hessian: bool) -> FormRecipe {
        let encoder = &subject.model.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let forward = graph.nodes().len();
        let weight = graph.input("weight", MASKED, 4);
        let adjoints = if hessian { Some(graph.gradient(&[(loss, weight)])) } else { None };
        let seeds = directions(encoder, &mut graph);
        let tangents = graph.tangent_of(forward, &seeds);
        let ggn = graph.second_order(forward, Some((loss, 1.0)), None, &tangents).expect("the loss's term");
        let whole =
            hessian.then(|| graph.second_order(forward, Some((loss, 1.0)), adjoints.as_ref(), &tangents)).flatten();
        let slope = graph.sentence_sum(tangents[&loss]);
        let keep: Vec<TensorId> = [ggn, slope].into_iter().chain(whole).collect();
        graph.prune(&keep);
        graph.fuse();
        let probes: Vec<TensorId> = seeds.into_iter().map(|(_, probe)| probe).collect();
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Weight, [weight])
            .give(Given::Fresh("the probes"), probes.iter().copied())
            .keep(&keep)
            .in_phases();
        FormRecipe { recipe, probes, whole, ggn, slope }
    }
}

impl FormPass {
    /// Bytes that quadratic forms take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, hessian: bool) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &FormRecipe::new(subject, hessian).recipe)
    }

    /// Without `hessian`, only what the loss's own term gives.
    pub fn new(subject: &Subject, hessian: bool) -> Result<FormPass, CurvatureError> {
        let FormRecipe { recipe, probes, whole, ggn, slope } = FormRecipe::new(subject, hessian);
        let pass = Pass::new(subject, recipe)?;
        let probes = ProbeVectors::of(subject, &pass, &probes);
        Ok(FormPass { pass, probes, hessian: whole, ggn, slope })
    }

    /// Forms of each vector.
    pub fn run(&self, subject: &Subject, block: &[Vec<f32>]) -> Result<Vec<Forms>, CurvatureError> {
        self.run_batches(subject, 0..subject.batches.len(), block)
    }

    /// Forms of each vector over the examples of some batches.
    pub fn run_batches(
        &self,
        subject: &Subject,
        batches: std::ops::Range<usize>,
        block: &[Vec<f32>],
    ) -> Result<Vec<Forms>, CurvatureError> {
        let mut all = Vec::new();
        for chunk in block.chunks(self.pass.dims().probes as usize) {
            let mut forms = vec![Forms::default(); chunk.len()];
            self.add(subject, batches.clone(), chunk, &mut forms)?;
            all.append(&mut forms);
        }
        Ok(all)
    }

    /// Forms of each vector as far as they came before an interrupt: of fewer vectors, or, where none is done, of the first
    /// batches only.
    pub fn run_so_far(&self, subject: &Subject, block: &[Vec<f32>]) -> Result<Vec<Forms>, CurvatureError> {
        let mut all = Vec::new();
        for chunk in block.chunks(self.pass.dims().probes as usize) {
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
        subject: &Subject,
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
                let stride = self.pass.dims().sentences as usize;
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

    fn read(&self, subject: &Subject, id: TensorId, probes: usize) -> Result<Vec<[f32; 4]>, GpuError> {
        let buffer = self.pass.bound.buffer(id);
        subject.gpu().read(buffer, probes * self.pass.dims().sentences as usize)
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
    pub fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        self.pass.time(subject, probes)
    }
}
