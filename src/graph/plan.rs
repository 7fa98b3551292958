//! A graph on an adapter: memory by liveness, every node turned into dispatches, all bound once.

use std::collections::HashMap;

use super::{Graph, TensorId, fit};
use crate::gpu::{Buffer, Dispatch, Gpu, GpuError, Program, Step};
use crate::ops::windows::Room;
use crate::ops::{BatchBuffers, Device, Dims, Emit, Family, Lowering, Role, Scratch, Sizes, Variants};

/// Where the tensors of a graph go: slots of memory that are used again when a tensor is no longer needed.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Slot of each computed tensor that needs one.
    pub slot_of: HashMap<TensorId, usize>,
    /// Slots of each node's scratch memory, with what it takes of them.
    pub scratch: Vec<Vec<(Scratch, usize, u64)>>,
    /// What the tensors would take without reuse.
    pub unshared: u64,
    /// Bytes that are there for scratch memory alone: what the plan would do without if no node needed any.
    pub workspace: u64,
}

impl MemoryPlan {
    /// Plans without touching an adapter. Tensors in `outside` have memory of their own; those in `keep` live to the
    /// end.
    pub fn new(
        graph: &Graph,
        dims: &Dims,
        variants: &Variants,
        outside: &dyn Fn(TensorId) -> bool,
        keep: &[TensorId],
    ) -> MemoryPlan {
        let mut plan = MemoryPlan::lay_out(graph, dims, variants, outside, keep, true);
        let without = MemoryPlan::lay_out(graph, dims, variants, outside, keep, false);
        plan.workspace = plan.bytes().saturating_sub(without.bytes());
        plan
    }

    fn lay_out(
        graph: &Graph,
        dims: &Dims,
        variants: &Variants,
        outside: &dyn Fn(TensorId) -> bool,
        keep: &[TensorId],
        scratch: bool,
    ) -> MemoryPlan {
        let mut last_use: HashMap<TensorId, usize> = HashMap::new();
        for (n, node) in graph.nodes().iter().enumerate() {
            for id in node.reads().chain(&node.outputs) {
                last_use.insert(*id, n);
            }
        }
        for id in keep {
            last_use.insert(*id, usize::MAX);
        }
        let mut plan =
            MemoryPlan { slots: vec![], slot_of: HashMap::new(), scratch: vec![], unshared: 0, workspace: 0 };
        let mut free: Vec<usize> = vec![];
        for (n, node) in graph.nodes().iter().enumerate() {
            for id in node.outputs.iter().filter(|id| !outside(**id)) {
                let slot = plan.take(dims.bytes(graph.tensor(*id)), &mut free);
                plan.slot_of.insert(*id, slot);
            }
            let mut wanted = node.scratch(&Sizes { graph, dims, variants });
            wanted.truncate(if scratch { usize::MAX } else { 0 });
            let scratch: Vec<(Scratch, usize, u64)> =
                wanted.into_iter().map(|(piece, bytes)| (piece, plan.take(bytes, &mut free), bytes)).collect();
            free.extend(scratch.iter().map(|(_, slot, _)| slot));
            plan.scratch.push(scratch);
            for id in node.reads().chain(&node.outputs) {
                if last_use.get(id) == Some(&n)
                    && graph.tensor(*id).role == Role::Value
                    && let Some(slot) = plan.slot_of.get(id)
                    && !free.contains(slot)
                {
                    free.push(*slot);
                }
            }
        }
        plan
    }

    /// The smallest free slot that is large enough, else the largest free one made larger, else a new one.
    fn take(&mut self, bytes: u64, free: &mut Vec<usize>) -> usize {
        self.unshared += bytes;
        let fits = (0..free.len()).filter(|i| self.slots[free[*i]] >= bytes).min_by_key(|i| self.slots[free[*i]]);
        let found = fits.or_else(|| (0..free.len()).max_by_key(|i| self.slots[free[*i]]));
        match found {
            Some(i) => {
                let slot = free.swap_remove(i);
                self.slots[slot] = self.slots[slot].max(bytes);
                slot
            }
            None => {
                self.slots.push(bytes);
                self.slots.len() - 1
            }
        }
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().sum()
    }
}

/// A graph ready to run.
pub struct ExecutionPlan {
    program: Program,
    /// The nodes with probes, where they run apart.
    probes: Option<Program>,
    families: Vec<Option<Family>>,
    buffers: HashMap<TensorId, Buffer>,
    /// Where each tensor lies and what all take.
    pub memory: MemoryPlan,
    dims: Dims,
}

impl ExecutionPlan {
    /// Plans, allocates and binds a graph.
    ///
    /// `outside` gives the memory of parameters, inputs, and of results that go to memory of the caller (gradients);
    /// `keep` lists computed tensors that will be read afterwards.
    ///
    /// # Errors
    /// [`GpuError::Limit`] before anything is allocated when a tensor is larger than the adapter can bind.
    pub fn new(
        device: &Device,
        graph: &Graph,
        dims: Dims,
        batch: &BatchBuffers,
        outside: &HashMap<TensorId, Buffer>,
        keep: &[TensorId],
    ) -> Result<ExecutionPlan, GpuError> {
        ExecutionPlan::split(device, graph, dims, batch, outside, keep, graph.nodes().len())
    }

    /// The same as two programs, so that the second can run many times after one run of the first:
    /// [`program`](Self::program) without probes, [`probes`](Self::probes) from the first node with probes on.
    ///
    /// # Errors
    /// As [`ExecutionPlan::new`].
    pub fn in_phases(
        device: &Device,
        graph: &Graph,
        dims: Dims,
        batch: &BatchBuffers,
        outside: &HashMap<TensorId, Buffer>,
        keep: &[TensorId],
    ) -> Result<ExecutionPlan, GpuError> {
        ExecutionPlan::split(
            device,
            graph,
            dims,
            batch,
            outside,
            &graph.kept_for_probes(keep),
            graph.first_with_probes(),
        )
    }

    fn split(
        device: &Device,
        graph: &Graph,
        dims: Dims,
        batch: &BatchBuffers,
        outside: &HashMap<TensorId, Buffer>,
        keep: &[TensorId],
        boundary: usize,
    ) -> Result<ExecutionPlan, GpuError> {
        let Device { gpu, variants } = device;
        fit::check(gpu, graph, &dims, variants)?;
        let memory = MemoryPlan::new(graph, &dims, variants, &|id| outside.contains_key(&id), keep);
        let slots: Vec<Buffer> = memory
            .slots
            .iter()
            .enumerate()
            .map(|(i, bytes)| gpu.buffer(&format!("activations {i}"), *bytes))
            .collect::<Result<_, _>>()?;
        let limit = Room::of(gpu).binding;
        // A slot can be too large to be bound for the sake of another tensor, which is bound in windows.
        let part = |slot: usize, bytes: u64| match slots[slot].bytes() > limit && bytes <= limit {
            true => slots[slot].window(0..bytes.max(16)),
            false => slots[slot].clone(),
        };
        let mut buffers = outside.clone();
        for (id, slot) in &memory.slot_of {
            buffers.insert(*id, part(*slot, dims.bytes(graph.tensor(*id))));
        }
        let find = |id: TensorId| match buffers.get(&id) {
            Some(buffer) => buffer.clone(),
            None => panic!("the tensor `{}` was given no memory", graph.tensor(id).name),
        };
        let mut dispatches = Vec::new();
        let mut families = Vec::new();
        let mut first = 0;
        for (n, node) in graph.nodes().iter().enumerate() {
            if n == boundary {
                first = dispatches.len();
            }
            let scratch = |piece: Scratch| {
                let found = memory.scratch[n].iter().find(|(own, ..)| *own == piece);
                found.map(|(_, slot, bytes)| part(*slot, *bytes))
            };
            let mut cx = Lowering {
                graph,
                dims: &dims,
                variants,
                batch,
                room: Room::of(gpu),
                buffers: &find,
                window: &Buffer::window,
                scratch: &scratch,
                out: Vec::new(),
            };
            node.operation().lower(node, &mut cx);
            dispatches.append(&mut cx.out);
            families.resize(dispatches.len(), node.operation().family(node.rule));
        }
        let probes = match boundary < graph.nodes().len() {
            true => Some(Program::new(gpu, dispatches.split_off(first))?),
            false => None,
        };
        let program = Program::new(gpu, dispatches)?;
        Ok(ExecutionPlan { program, probes, families, buffers, memory, dims })
    }

    /// Largest batch.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// The dispatches.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The dispatches from the first node with probes on, where the plan is in phases.
    pub fn probes(&self) -> Option<&Program> {
        self.probes.as_ref()
    }

    /// For each dispatch the part of the variant table that its node belongs to.
    pub fn families(&self) -> &[Option<Family>] {
        &self.families
    }

    /// Memory of a tensor that was kept or given.
    pub fn buffer(&self, id: TensorId) -> Option<&Buffer> {
        self.buffers.get(&id)
    }

    /// Runs once and waits.
    pub fn run(&self, gpu: &Gpu, step: &Step) -> Result<(), GpuError> {
        self.program.run(gpu, step)
    }
}

impl Graph {
    /// Number of the first node whose result has probes; nodes that only such nodes need come before it.
    fn first_with_probes(&self) -> usize {
        let with = |node: &super::Node| node.outputs.iter().any(|o| self.tensor(*o).probes);
        self.nodes().iter().position(with).unwrap_or(self.nodes().len())
    }

    /// Tensors that must live to the end of a plan in phases: `keep`, and what nodes with probes read of the others.
    pub fn kept_for_probes(&self, keep: &[TensorId]) -> Vec<TensorId> {
        let boundary = self.first_with_probes();
        let made: std::collections::HashSet<TensorId> =
            self.nodes()[..boundary].iter().flat_map(|n| n.outputs.iter().copied()).collect();
        let read = self.nodes()[boundary..].iter().flat_map(|n| n.reads().copied()).filter(|id| made.contains(id));
        let mut all: Vec<TensorId> = keep.iter().copied().chain(read).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The dispatches that a graph becomes, on stand-ins for the memory of its tensors: to count them, and to look at their
/// kernels.
pub fn dispatches(
    gpu: &Gpu,
    graph: &Graph,
    dims: Dims,
    variants: &Variants,
    layout: &crate::ops::batch::BatchLayout,
) -> Result<Vec<Dispatch>, GpuError> {
    let one = Dims { rows: 1, masked: 1, sentences: 1, probes: 1 };
    let batch = BatchBuffers::new(gpu, &one, layout, variants, 4, false)?;
    let stand_in = gpu.buffer("a stand-in", 256)?;
    let mut all = Vec::new();
    for node in graph.nodes() {
        let mut cx = Lowering {
            graph,
            dims: &dims,
            variants,
            batch: &batch,
            room: Room::of(gpu),
            buffers: &|_| stand_in.clone(),
            window: &|_, _| stand_in.clone(),
            scratch: &|_| Some(stand_in.clone()),
            out: Vec::new(),
        };
        node.operation().lower(node, &mut cx);
        all.append(&mut cx.out);
    }
    Ok(all)
}
