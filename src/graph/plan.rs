//! A graph on an adapter: memory by liveness, every node turned into dispatches, all bound once.

use std::collections::{HashMap, HashSet};

use super::strides::strides;
use super::{Graph, Node, TensorId, fit};
use crate::gpu::{Buffer, Count, Dispatch, Gpu, GpuError, Program, Step};
use crate::ops::late_sums::{self, LateSum};
use crate::ops::windows::Room;
use crate::ops::{BatchBuffers, Device, Dims, Emit, Family, Lowering, Role, Scratch, Sizes, Variants};

/// Where the tensors of a graph go: slots of memory that are used again when a tensor is no longer needed.
#[derive(Clone, Debug)]
pub struct MemoryPlan {
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Slot of each computed tensor that needs one.
    pub slot_of: HashMap<TensorId, usize>,
    /// vec4 from row to row of the tensors that have room between their rows.
    pub strides: HashMap<TensorId, u32>,
    /// Slots of each node's scratch memory, with what it takes of them.
    pub scratch: Vec<Vec<(Scratch, usize, u64)>>,
    /// Where scratch memory of a node lies among the sums that are added up behind the last node: (first byte, bytes).
    pub late: HashMap<(usize, Scratch), (u64, u64)>,
    /// Bytes of these.
    pub late_bytes: u64,
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
        let read: HashSet<TensorId> = graph.nodes().iter().flat_map(|n| n.reads().copied()).collect();
        let mut plan = MemoryPlan {
            slots: vec![],
            slot_of: HashMap::new(),
            strides: strides(graph, dims, variants, &|id| outside(id) || keep.contains(&id)),
            scratch: vec![],
            late: HashMap::new(),
            late_bytes: 0,
            unshared: 0,
            workspace: 0,
        };
        let mut free: Vec<usize> = vec![];
        for (n, node) in graph.nodes().iter().enumerate() {
            for id in node.outputs.iter().filter(|id| !outside(**id)) {
                let slot = plan.take(plan.bytes_of(graph, dims, *id), &mut free);
                plan.slot_of.insert(*id, slot);
            }
            let mut wanted = node.scratch(&Sizes { graph, dims, variants });
            wanted.truncate(if scratch { usize::MAX } else { 0 });
            if waits(graph, node, outside, &read) {
                plan.put_off(n, &mut wanted);
            }
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

    /// Takes the scratch memory of a node that may wait, where it is small, out of what it wants while it runs.
    fn put_off(&mut self, node: usize, wanted: &mut Vec<(Scratch, u64)>) {
        let bytes = |(_, bytes): &(Scratch, u64)| bytes.next_multiple_of(LATE_ALIGNMENT);
        let whole: u64 = wanted.iter().map(bytes).sum();
        let sums = wanted.iter().all(|(piece, _)| late_sums::may_wait(*piece));
        if !sums || whole == 0 || whole > MOST_LATE_OF_NODE || self.late_bytes + whole > MOST_LATE {
            return;
        }
        for piece in wanted.drain(..) {
            self.late.insert((node, piece.0), (self.late_bytes, piece.1));
            self.late_bytes += bytes(&piece);
        }
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

    /// Bytes of a tensor, room between its rows among them.
    fn bytes_of(&self, graph: &Graph, dims: &Dims, id: TensorId) -> u64 {
        let tensor = graph.tensor(id);
        let stride4 = self.strides.get(&id).copied().unwrap_or_else(|| tensor.cols4());
        dims.bytes(tensor) / u64::from(tensor.cols4().max(1)) * u64::from(stride4)
    }

    /// Bytes of all slots, and of the sums that wait.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().sum::<u64>() + self.late_bytes
    }
}

/// Where buffers within an allocation may begin, on any adapter.
const LATE_ALIGNMENT: u64 = 256;
/// Bytes of the sums of one node that are worth a dispatch less: they are not in the caches any more when they are
/// added up, and their memory serves nobody else.
const MOST_LATE_OF_NODE: u64 = 1 << 20;
/// Bytes of all sums that wait.
const MOST_LATE: u64 = 16 << 20;

/// Whether the sums over rows of a node may be added up behind the last node: their results are gradients that lie
/// outside of the plan, without probes, and no node reads them.
fn waits(graph: &Graph, node: &Node, outside: &dyn Fn(TensorId) -> bool, read: &HashSet<TensorId>) -> bool {
    let sum = |id: &&TensorId| matches!(graph.tensor(**id).rows, Count::Fixed(_));
    let fits = |id: &TensorId| outside(*id) && !read.contains(id) && !graph.tensor(*id).probes;
    let mut sums = node.outputs.iter().filter(sum).peekable();
    sums.peek().is_some() && sums.all(fits) && node.addend.as_ref().filter(sum).is_none()
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
        let late_memory = match memory.late_bytes {
            0 => None,
            bytes => Some(gpu.buffer("sums", bytes)?),
        };
        let add_up = |late: Vec<LateSum>| -> Vec<Dispatch> {
            late_memory
                .as_ref()
                .map_or(vec![], |memory| late_sums::dispatches(late, &|part| memory.window(part), limit))
        };
        let mut late: Vec<LateSum> = Vec::new();
        // A slot can be too large to be bound for the sake of another tensor, which is bound in windows.
        let part = |slot: usize, bytes: u64| match slots[slot].bytes() > limit && bytes <= limit {
            true => slots[slot].window(0..bytes.max(16)),
            false => slots[slot].clone(),
        };
        let mut buffers = outside.clone();
        for (id, slot) in &memory.slot_of {
            buffers.insert(*id, part(*slot, memory.bytes_of(graph, &dims, *id)));
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
                dispatches.extend(add_up(std::mem::take(&mut late)));
                families.resize(dispatches.len(), None);
                first = dispatches.len();
            }
            let late_piece = |piece: Scratch| memory.late.get(&(n, piece)).map(|(first, _)| *first);
            let scratch = |piece: Scratch| {
                if let Some((first, bytes)) = memory.late.get(&(n, piece)) {
                    return late_memory.as_ref().map(|memory| memory.window(*first..first + bytes));
                }
                let found = memory.scratch[n].iter().find(|(own, ..)| *own == piece);
                found.map(|(_, slot, bytes)| part(*slot, *bytes))
            };
            let mut cx = Lowering {
                graph,
                dims: &dims,
                variants,
                batch,
                strides: &memory.strides,
                room: Room::of(gpu),
                buffers: &find,
                window: &Buffer::window,
                scratch: &scratch,
                late: &late_piece,
                sums: Vec::new(),
                out: Vec::new(),
            };
            node.operation().lower(node, &mut cx);
            dispatches.append(&mut cx.out);
            late.append(&mut cx.sums);
            families.resize(dispatches.len(), node.operation().family(node.rule));
        }
        dispatches.extend(add_up(late));
        families.resize(dispatches.len(), None);
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
/// kernels. `outside` tells of tensors with memory of their own in which allocation they lie.
pub fn dispatches(
    gpu: &Gpu,
    graph: &Graph,
    dims: Dims,
    variants: &Variants,
    layout: &crate::ops::batch::BatchLayout,
    outside: &dyn Fn(TensorId) -> Option<usize>,
) -> Result<Vec<Dispatch>, GpuError> {
    let one = Dims { rows: 1, masked: 1, sentences: 1, probes: 1, longest: 0 };
    let batch = BatchBuffers::new(gpu, &one, layout, variants, 4, false)?;
    let stand_in = gpu.buffer("a stand-in", 256)?;
    let count = graph.tensors().filter_map(|(id, _)| outside(id)).max().map_or(0, |most| most + 1);
    let allocations: Vec<Buffer> = (0..count).map(|_| gpu.buffer("a stand-in", 256)).collect::<Result<_, _>>()?;
    let memory = MemoryPlan::new(graph, &dims, variants, &|id| outside(id).is_some(), &[]);
    let mut all = Vec::new();
    let mut late = Vec::new();
    for (n, node) in graph.nodes().iter().enumerate() {
        let mut cx = Lowering {
            graph,
            dims: &dims,
            variants,
            batch: &batch,
            strides: &memory.strides,
            room: Room::of(gpu),
            buffers: &|id| outside(id).map_or(&stand_in, |number| &allocations[number]).clone(),
            window: &|_, _| stand_in.clone(),
            scratch: &|_| Some(stand_in.clone()),
            late: &|piece| memory.late.get(&(n, piece)).map(|(first, _)| *first),
            sums: Vec::new(),
            out: Vec::new(),
        };
        node.operation().lower(node, &mut cx);
        all.append(&mut cx.out);
        late.append(&mut cx.sums);
    }
    all.extend(late_sums::dispatches(late, &|_| stand_in.clone(), Room::of(gpu).binding));
    Ok(all)
}
