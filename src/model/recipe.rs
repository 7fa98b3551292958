//! What a pass computes, before any memory is taken: a graph, whose memory its nodes do not share, and what is kept to
//! be read. How much memory that takes and the plan that takes it are read from the same description.

use std::collections::{HashMap, HashSet};

use super::encoder::Encoder;
use super::on_device::Model;
use super::store::Arena;
use crate::gpu::{Buffer, Gpu, GpuError, MOST_ITERATIONS, Stamp, Step, uniform_bytes};
use crate::graph::{Dims, Emit, ExecutionPlan, Graph, MemoryPlan, TensorId, fit};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::{Batch, BatchBuffers, Device, Function, Labels, Role, Rule, Variants};

/// Where a tensor lies that has memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Among the model's parameters.
    Parameter,
    /// In the batch: the weights of masked rows.
    Weight,
    /// In memory that the plan makes under this name, and that the pass writes or reads.
    Fresh(&'static str),
    /// The same, in one block with all others of its kind, to be read at once ([`Bound::block`]).
    Block(&'static str),
    /// In an arena that the plan makes, packed as the parameters are; one tensor for each matrix, in their order.
    Gradient(&'static str),
    /// In memory that the caller hands to [`Recipe::plan`].
    Caller,
}

/// What a pass computes over batches of a model.
#[derive(Clone)]
pub struct Recipe {
    graph: Graph,
    labels: Labels,
    given: Vec<(TensorId, Given)>,
    keep: Vec<TensorId>,
    phases: bool,
}

impl Recipe {
    /// A graph over an encoder's parameters, for batches with labels of a kind.
    pub fn new(graph: Graph, encoder: &Encoder, labels: Labels) -> Recipe {
        let given = encoder.tensors.iter().map(|id| (*id, Given::Parameter)).collect();
        Recipe { graph, labels, given, keep: vec![], phases: false }
    }

    /// Says where tensors lie; the others lie where there is room.
    pub fn give(mut self, given: Given, tensors: impl IntoIterator<Item = TensorId>) -> Recipe {
        self.given.extend(tensors.into_iter().map(|id| (id, given)));
        self
    }

    /// Keeps tensors to the end, to be read ([`Bound::buffer`]).
    pub fn keep(mut self, tensors: &[TensorId]) -> Recipe {
        self.keep.extend(tensors);
        self
    }

    /// Runs what has no probes once a batch and what has probes once for every block of them
    /// ([`ExecutionPlan::in_phases`]).
    pub fn in_phases(mut self) -> Recipe {
        self.phases = true;
        self
    }

    /// What is computed.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn of(&self, kind: impl Fn(Given) -> bool) -> impl Iterator<Item = TensorId> {
        self.given.iter().filter(move |(_, given)| kind(*given)).map(|(id, _)| *id)
    }

    fn outside(&self) -> HashSet<TensorId> {
        self.of(|_| true).collect()
    }

    /// The largest of what the nodes read and write that is too large for an adapter.
    pub fn excess(&self, device: &Device, dims: &Dims) -> Option<fit::Excess> {
        fit::excess(&self.graph, dims, &device.variants, &fit::Room::of(&device.gpu))
    }

    /// Refuses sizes that the adapter cannot bind.
    ///
    /// # Errors
    /// [`GpuError::Limit`] with the tensor's name, its size and the limit.
    pub fn check(&self, device: &Device, dims: &Dims) -> Result<(), GpuError> {
        self.excess(device, dims).map_or(Ok(()), |e| Err(e.into()))
    }

    /// Where the tensors of nodes go, in batches up to `dims`.
    pub fn memory(&self, device: &Device, dims: &Dims) -> MemoryPlan {
        let outside = self.outside();
        let keep = if self.phases { self.graph.kept_for_probes(&self.keep) } else { self.keep.clone() };
        MemoryPlan::new(&self.graph, dims, &device.variants, &|id| outside.contains(&id), &keep)
    }

    /// Bytes of the batch.
    pub fn batch_bytes(&self, model: &Model, dims: &Dims) -> u64 {
        let (encoder, variants) = (&model.encoder, model.variants());
        let soft = self.labels == Labels::Soft;
        BatchBuffers::bytes(dims, &encoder.batch_layout(variants), variants, encoder.config.vocab_size, soft)
    }

    /// Dispatches of a run, and the bytes of their parameters.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn dispatches(&self, model: &Model, dims: &Dims) -> Result<(usize, u64), GpuError> {
        let layout = model.encoder.batch_layout(model.variants());
        // What else lies outside is never summed late with an arena's matrices.
        let mut arena = Arena::allocations(model.gpu(), &model.encoder).into_iter();
        let mut allocations: HashMap<TensorId, usize> = HashMap::new();
        for (id, given) in &self.given {
            let number = match given {
                Given::Gradient(_) => arena.next().map_or(0, |number| 1 + number),
                _ => 0,
            };
            allocations.insert(*id, number);
        }
        let allocation = |id: TensorId| allocations.get(&id).copied();
        let all = crate::graph::dispatches(model.gpu(), &self.graph, *dims, model.variants(), &layout, &allocation)?;
        Ok((all.len(), uniform_bytes(&all)))
    }

    /// Bytes that the plan takes of the adapter beside parameters and the caller's memory: activations, batch, what it
    /// makes, and parameters of dispatches.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn bytes(&self, model: &Model, dims: &Dims) -> Result<u64, GpuError> {
        self.check(&model.device, dims)?;
        let alignment = model.gpu().alignment();
        let made = self.made(dims, alignment);
        let gradient = match self.of(|given| matches!(given, Given::Gradient(_))).next() {
            Some(_) => Arena::bytes(&model.encoder, alignment),
            None => 0,
        };
        let (_, uniforms) = self.dispatches(model, dims)?;
        let memory = self.memory(&model.device, dims).bytes();
        Ok(memory + self.batch_bytes(model, dims) + made + gradient + uniforms)
    }

    /// Bytes of what the plan makes for tensors with memory of their own.
    fn made(&self, dims: &Dims, alignment: u64) -> u64 {
        let made = self.of(|given| matches!(given, Given::Fresh(_) | Given::Block(_)));
        made.map(|id| dims.bytes(self.graph.tensor(id)).next_multiple_of(alignment)).sum()
    }

    /// The sizes with as many probes at once, of those in `dims`, as `budget` bytes of activations, adjoints and
    /// tangents allow, and as many bytes of what is made for the probes and products themselves: those of a large model
    /// are as large as it is.
    pub fn fitted(&self, device: &Device, mut dims: Dims, budget: u64) -> Dims {
        let Device { gpu, variants } = device;
        // Parameters, inputs and what goes to the caller's memory do not depend on the number of probes; the plan is
        // made without them.
        let outside = |id: TensorId| self.graph.tensor(id).role != Role::Value;
        let keep = self.graph.kept_for_probes(&[]);
        while dims.probes > 1 {
            let plan = MemoryPlan::new(&self.graph, &dims, variants, &outside, &keep);
            let fits = plan.bytes() <= budget && self.made(&dims, gpu.alignment()) <= budget;
            if fits && fit::check(gpu, &self.graph, &dims, variants).is_ok() {
                break;
            }
            dims.probes = dims.probes.div_ceil(2);
        }
        dims
    }

    /// Takes the memory and makes the programs. `caller` is the memory of what is given by the caller.
    ///
    /// # Errors
    /// As [`check`](Self::check), before anything is allocated; what the adapter says.
    pub fn plan(self, model: &Model, dims: Dims, caller: &[(TensorId, Buffer)]) -> Result<Bound, GpuError> {
        let (encoder, gpu) = (&model.encoder, model.gpu());
        self.check(&model.device, &dims)?;
        let mut outside: HashMap<TensorId, Buffer> = caller.iter().cloned().collect();
        outside.extend(self.of(|given| given == Given::Parameter).zip(model.parameters.matrices.iter().cloned()));
        let (mut blocks, mut gradients) = (None, None);
        for (id, given) in &self.given {
            match given {
                Given::Fresh(name) => {
                    outside.insert(*id, gpu.buffer(name, dims.bytes(self.graph.tensor(*id)))?);
                }
                Given::Block(name) => blocks = Some(*name),
                Given::Gradient(name) => gradients = Some(*name),
                Given::Parameter | Given::Weight | Given::Caller => {}
            }
        }
        let gradient = gradients.map(|name| Arena::new(gpu, encoder, name)).transpose()?;
        let matrices = gradient.iter().flat_map(|arena| arena.matrices.iter().cloned());
        outside.extend(self.of(|given| matches!(given, Given::Gradient(_))).zip(matrices));
        let block = match blocks {
            Some(name) => {
                let tensors: Vec<TensorId> = self.of(|given| matches!(given, Given::Block(_))).collect();
                let sizes: Vec<u64> = tensors.iter().map(|id| dims.bytes(self.graph.tensor(*id))).collect();
                let (block, parts) = gpu.arena(name, &sizes)?;
                outside.extend(tensors.into_iter().zip(parts));
                Some(block)
            }
            None => None,
        };
        let variants = model.variants();
        let layout = encoder.batch_layout(variants);
        let soft = self.labels == Labels::Soft;
        let batch = BatchBuffers::new(gpu, &dims, &layout, variants, encoder.config.vocab_size, soft)?;
        outside.extend(self.of(|given| given == Given::Weight).map(|id| (id, batch.weight.clone())));
        let make = if self.phases { ExecutionPlan::in_phases } else { ExecutionPlan::new };
        let plan = make(&model.device, &self.graph, dims, &batch, &outside, &self.keep)?;
        let loops = loops(gpu, variants, &self.graph);
        Ok(Bound { gpu: gpu.clone(), plan, batch, layout, dims, loops, variants: *variants, gradient, block })
    }
}

/// The operations of a graph whose loops grow with a sentence, where a driver bounds them.
fn loops(gpu: &Gpu, variants: &Variants, graph: &Graph) -> Vec<(Function, Rule)> {
    let mut found: Vec<(Function, Rule)> = Vec::new();
    if gpu.capabilities().software {
        for node in graph.nodes() {
            let growing = node.operation().iterations(node.rule, MOST_ITERATIONS, variants) > MOST_ITERATIONS;
            if growing && !found.iter().any(|(f, rule)| *f == node.function && *rule == node.rule) {
                found.push((node.function.clone(), node.rule));
            }
        }
    }
    found
}

/// A recipe on a device, with its batch.
pub struct Bound {
    /// The adapter that it was planned on.
    pub gpu: Gpu,
    /// Its dispatches and their memory.
    pub plan: ExecutionPlan,
    /// The batch's memory, which its user writes before a run.
    pub batch: BatchBuffers,
    /// How a batch for it is packed.
    pub layout: BatchLayout,
    /// Largest batch.
    pub dims: Dims,
    /// What has loops over a sentence, where a driver bounds them.
    loops: Vec<(Function, Rule)>,
    variants: Variants,
    gradient: Option<Arena>,
    block: Option<Buffer>,
}

impl Bound {
    /// Writes a batch before a run; every masked position weighs `weight`.
    ///
    /// # Errors
    /// [`GpuError::Loops`] for a sentence that a software driver would not go through to its end.
    ///
    /// # Panics
    /// When the batch is larger than the plan.
    pub fn write(&self, batch: &Batch, weight: f32) -> Result<(), GpuError> {
        assert!(batch.fits(&self.dims), "a batch larger than the plan");
        let longest = u64::from(batch.longest());
        let of = |(function, rule): &(Function, Rule)| function.operation().iterations(*rule, longest, &self.variants);
        let needed = self.loops.iter().map(of).max().unwrap_or(0);
        if needed > MOST_ITERATIONS {
            return Err(GpuError::Loops { what: format!("a sentence of {} tokens", batch.longest()), needed });
        }
        self.batch.write(&self.gpu, batch, weight);
        Ok(())
    }

    /// Memory of a tensor that the recipe gave or kept.
    ///
    /// # Panics
    /// For any other tensor.
    pub fn buffer(&self, id: TensorId) -> &Buffer {
        self.plan.buffer(id).expect("a tensor that the recipe gave or kept")
    }

    /// The arena of the gradients ([`Given::Gradient`]).
    ///
    /// # Panics
    /// Where the recipe has none.
    pub fn gradient(&self) -> &Arena {
        self.gradient.as_ref().expect("a recipe with gradients")
    }

    /// The block of what is read at once ([`Given::Block`]).
    ///
    /// # Panics
    /// Where the recipe has none.
    pub fn block(&self) -> &Buffer {
        self.block.as_ref().expect("a recipe with a block")
    }

    /// Writes a batch and encodes the plan; every masked position weighs `weight`.
    ///
    /// # Errors
    /// As [`Program::encode`](crate::gpu::Program::encode).
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        batch: &Batch,
        weight: f32,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        self.write(batch, weight)?;
        self.plan.program().encode_stamped(&self.gpu, encoder, step, stamp)
    }

    /// Packs sentences, runs them and waits.
    ///
    /// # Errors
    /// As [`ExecutionPlan::run`].
    pub(super) fn run(&self, sentences: &[Sentence]) -> Result<Batch, GpuError> {
        self.run_drawing(sentences, [0; 2], [0; 2])
    }

    /// The same with what is dropped a function of (seed, counter).
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub(super) fn run_drawing(
        &self,
        sentences: &[Sentence],
        seed: [u32; 2],
        counter: [u32; 2],
    ) -> Result<Batch, GpuError> {
        let batch = Batch::new(&self.layout, sentences);
        self.write(&batch, 1.0)?;
        self.plan.run(&self.gpu, &Step { seed, counter, ..batch.step(1) })?;
        Ok(batch)
    }

    /// Rows of a matrix without the columns of its padding, `[rows x cols]`.
    ///
    /// # Errors
    /// What the adapter says.
    pub(super) fn matrix(&self, id: TensorId, rows: usize, cols: usize) -> Result<Vec<f32>, GpuError> {
        let wide = cols.next_multiple_of(4);
        let padded: Vec<f32> = self.gpu.read(self.buffer(id), rows * wide)?;
        Ok(match wide == cols {
            true => padded,
            false => padded.chunks_exact(wide).flat_map(|row| row[..cols].to_vec()).collect(),
        })
    }
}
