//! A fixed list of dispatches: planned once, encoded many times. A list that takes long is given to the adapter in
//! pieces, so that an interrupt is answered between them (`pieces.rs`).
//!
//! Kernels see their dispatch's own constants as `p` (binding 8) and the running step's counts as `step` (binding 9).
//! A grid is a number of rows, fixed or known only when the step is encoded, in blocks of `unit` rows, times `columns`
//! workgroups a block, times `layers`; it is folded into two dimensions because one ends at 65,535 workgroups.

use std::collections::{HashMap, hash_map};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::describe;
use super::device::{DIGITS_BYTES, Gpu};
use super::error::GpuError;
use super::limit::Limit;
use super::memory::{Buffer, Counted};
use super::pieces::Pieces;
use super::pipeline::Pipeline;
use super::shader::{Entry, KernelFile};
use super::stopwatch::Stamp;

/// One of the counts that a step has. What it counts is its user's business: [`ops::counts`](crate::ops::counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The first of `Step::counts`.
    First,
    /// The second.
    Second,
    /// The third.
    Third,
}

/// How many rows a grid or a tensor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Count {
    /// Known when the plan is made.
    Fixed(u32),
    /// Known when a step runs.
    Varying(Slot),
}

impl Count {
    /// The code that kernels get (`count_of` in `shaders/common/step.wgsl`).
    pub fn code(self) -> u32 {
        match self {
            Count::Fixed(_) => 0,
            Count::Varying(slot) => 1 + slot as u32,
        }
    }

    /// The fixed value, 0 for the others.
    pub fn fixed(self) -> u32 {
        match self {
            Count::Fixed(n) => n,
            Count::Varying(_) => 0,
        }
    }
}

/// What varies from one step to the next: `Step` in `shaders/common/step.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Step {
    /// By [`Slot`].
    pub counts: [u32; 3],
    /// Probes or draws in flight: layers of a grid that has several.
    pub probes: u32,
    /// Key of the step's random streams.
    pub seed: [u32; 2],
    /// Counter of the step: steps, and parts of one.
    pub counter: [u32; 2],
    /// Numbers for the kernels that know what they mean.
    pub user: [f32; 8],
}

impl Step {
    /// The value of a count.
    pub fn count(&self, count: Count) -> u32 {
        match count {
            Count::Fixed(n) => n,
            Count::Varying(slot) => self.counts[slot as usize],
        }
    }
}

/// The size of a dispatch: ⌈count / unit⌉ × columns × layers workgroups.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// What is counted: rows, masked positions, sentences, or a fixed number.
    pub count: Count,
    /// How many of them one workgroup takes.
    pub unit: u32,
    /// Workgroups beside each other for the same rows.
    pub columns: u32,
    /// Probes or draws, each with workgroups of its own; 1 without.
    pub layers: u32,
}

impl Grid {
    /// Workgroups along x before a grid is folded into y, for kernels the constant of this name in
    /// `shaders/common/entry.wgsl`. A folded grid may have workgroups behind its last row.
    pub const FOLD: u32 = 32_768;

    /// Workgroups in x, y, z.
    pub fn workgroups(&self, step: &Step) -> [u32; 3] {
        let total = step.count(self.count).div_ceil(self.unit) * self.columns;
        // A block with fewer probes than the plan has room for runs no idle ones.
        let layers = if self.layers > 1 { self.layers.min(step.probes.max(1)) } else { self.layers };
        [total.min(Grid::FOLD), total.div_ceil(Grid::FOLD), layers]
    }
}

/// One dispatch. Made by [`Kernel::dispatch`], so that names and positions fit the kernel.
#[non_exhaustive]
pub struct Dispatch {
    /// For timings and errors: the tensor that it makes.
    pub label: String,
    /// The kernel's file.
    pub file: &'static KernelFile,
    /// Its entry point.
    pub entry: &'static str,
    /// Those that are not what the WGSL says.
    pub constants: Vec<(&'static str, u32)>,
    /// In the order of the entry point's bindings; a stand-in is bound where there is none.
    pub buffers: Vec<Option<Buffer>>,
    /// The bytes of the kernel's `Params`.
    pub params: Vec<u8>,
    /// Its workgroups.
    pub grid: Grid,
}

/// An entry point with the buffers, parameters and constants that it takes: the types of [`crate::kernels`].
pub trait Kernel {
    /// The dispatch of a grid.
    fn dispatch(self, label: String, grid: Grid) -> Dispatch;
}

/// A dispatch of a kernel that is not of `shaders/`: one of your own.
pub struct Launch {
    /// The kernel's file.
    pub file: &'static KernelFile,
    /// Its entry point.
    pub entry: &'static str,
    /// One for each binding of the entry point, in its order.
    pub buffers: Vec<Buffer>,
    /// The words of the kernel's `Params`; an f32 by [`f32::to_bits`].
    pub params: Vec<u32>,
}

impl Kernel for Launch {
    /// # Panics
    /// When the words are not as many as the file says.
    fn dispatch(self, label: String, grid: Grid) -> Dispatch {
        let Launch { file, entry, buffers, params } = self;
        let params: Vec<u8> = bytemuck::pod_collect_to_vec(&params);
        assert_eq!(params.len(), file.params_size as usize, "{}: bytes of its parameters", file.name);
        let buffers = buffers.into_iter().map(Some).collect();
        Dispatch { label, file, entry, constants: vec![], buffers, params, grid }
    }
}

impl Dispatch {
    /// The buffers given, with their binding numbers.
    pub(super) fn bound<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (u32, &'a Buffer)> {
        entry.bindings.iter().zip(&self.buffers).filter_map(|(b, given)| Some((b.index, given.as_ref()?)))
    }
}

struct Recorded {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    grid: Grid,
    label: String,
}

/// A list of dispatches with everything bound.
pub struct Program {
    recorded: Vec<Recorded>,
    step: wgpu::Buffer,
    pieces: Mutex<Pieces>,
    /// What is bound where an operation leaves an operand out: masked lanes may read there as long as the program runs.
    _stand_ins: [Vec<Buffer>; 2],
    _counted: Counted,
}

const UNIFORM_ALIGN: usize = 256;

/// The table of `shaders/common/uniform_store.wgsl`.
static DIGITS: [u32; DIGITS_BYTES as usize / 4] = {
    let mut digits = [0; DIGITS_BYTES as usize / 4];
    let mut digit = 0;
    while digit < digits.len() {
        digits[digit] = digit as u32;
        digit += 1;
    }
    digits
};

/// Bytes of the parameters of some dispatches, as a program keeps them.
pub fn uniform_bytes(dispatches: &[Dispatch]) -> u64 {
    dispatches.iter().map(|dispatch| dispatch.params.len().max(1).next_multiple_of(UNIFORM_ALIGN) as u64).sum()
}
/// Dispatches that are timed in one submission; a query set holds 2048 pairs at most.
const TIMED: usize = 16;

impl Program {
    /// Compiles, binds and checks.
    ///
    /// # Errors
    /// [`GpuError::Kernel`] when the driver refuses a kernel, [`GpuError::Limit`] for a buffer that is larger than a
    /// binding may be, or whatever else the adapter says.
    pub fn new(gpu: &Gpu, dispatches: Vec<Dispatch>) -> Result<Program, GpuError> {
        gpu.go_on()?;
        let pipelines = gpu.pipelines(&dispatches)?;
        describe::log(&dispatches, gpu.capabilities().images)?;
        let mut words: Vec<u8> = vec![];
        let mut places = Vec::with_capacity(dispatches.len());
        for dispatch in &dispatches {
            places.push(words.len() as u64);
            words.extend(&dispatch.params);
            words.resize(words.len().max(1).next_multiple_of(UNIFORM_ALIGN), 0);
        }
        words.resize(words.len().max(UNIFORM_ALIGN), 0);
        let uniform = |label: &str, bytes: &[u8]| {
            let buffer = gpu.scoped("allocating uniforms", || {
                gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size: bytes.len() as u64,
                    usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            })?;
            gpu.queue.write_buffer(&buffer, 0, bytes);
            Ok::<_, GpuError>(buffer)
        };
        let params = uniform("params", &words)?;
        let step = uniform("step", &[0u8; size_of::<Step>()])?;
        // Two allocations, since one dispatch must not read and write the same.
        let unused_in = gpu.buffers("unused input", &[256])?;
        let unused_out = gpu.buffers("unused outputs", &[256; 8])?;
        // Images over windows of large buffers, one for all dispatches that read a window.
        let mut images: HashMap<(*const (), Range<u64>), wgpu::TextureView> = HashMap::new();
        let mut recorded = Vec::with_capacity(dispatches.len());
        for ((dispatch, pipeline), place) in dispatches.into_iter().zip(pipelines).zip(places) {
            let mut outs = unused_out.iter();
            let bound: Vec<(u32, bool, &Buffer)> = pipeline
                .entry
                .bindings
                .iter()
                .zip(&dispatch.buffers)
                .map(|(b, given)| {
                    let buffer = match given {
                        Some(buffer) => buffer,
                        None if b.write => outs.next().expect("at most 8 bindings a kernel"),
                        None => &unused_in[0],
                    };
                    (b.index, gpu.capabilities().images && b.vec4 && !b.write, buffer)
                })
                .collect();
            let limit = gpu.capabilities().largest_binding;
            for (_, as_image, buffer) in &bound {
                if buffer.bytes() > limit {
                    let label = dispatch.label.clone();
                    return Err(Limit::Binding { label, bytes: buffer.bytes(), limit }.into());
                }
                if let (true, Some(memory)) = (as_image, buffer.without_image()) {
                    let (block, range) = buffer.place();
                    if let hash_map::Entry::Vacant(free) = images.entry((block, range.clone())) {
                        free.insert(gpu.lay_images(memory, &[(range.start, buffer.bytes())])?.remove(0));
                    }
                }
            }
            let mut entries = Vec::with_capacity(bound.len() + 2);
            for (binding, as_image, buffer) in &bound {
                let view = buffer.image().or_else(|| images.get(&buffer.place()));
                let resource = match (as_image, view) {
                    (true, Some(view)) => wgpu::BindingResource::TextureView(view),
                    _ => buffer.binding(),
                };
                entries.push(wgpu::BindGroupEntry { binding: *binding, resource });
            }
            let own = wgpu::BufferBinding {
                buffer: &params,
                offset: place,
                size: wgpu::BufferSize::new(u64::from(pipeline.file.params_size.max(16))),
            };
            entries.push(wgpu::BindGroupEntry { binding: 8, resource: wgpu::BindingResource::Buffer(own) });
            entries.push(wgpu::BindGroupEntry { binding: 9, resource: step.as_entire_binding() });
            let bind_group = gpu.scoped(&format!("binding {}", dispatch.label), || {
                gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&dispatch.label),
                    layout: &pipeline.layout,
                    entries: &entries,
                })
            })?;
            let constants: String = dispatch.constants.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            let label = format!("{}:{}{constants} | {}", dispatch.file.name, dispatch.entry, dispatch.label);
            recorded.push(Recorded { pipeline, bind_group, grid: dispatch.grid, label });
        }
        let bytes = words.len() as u64 + size_of::<Step>() as u64;
        let (pieces, _stand_ins) = (Mutex::default(), [unused_in, unused_out]);
        Ok(Program { recorded, step, pieces, _stand_ins, _counted: Counted::new(&gpu.tally, bytes) })
    }

    /// Number of dispatches.
    pub fn len(&self) -> usize {
        self.recorded.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.recorded.is_empty()
    }

    /// Labels in order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.recorded.iter().map(|r| r.label.as_str())
    }

    /// Writes the step's numbers and encodes all dispatches. A list that takes long is submitted in pieces, together
    /// with what the encoder holds, and waited for; the encoder is a new one then.
    ///
    /// # Errors
    /// [`GpuError::Interrupted`], before or between two pieces; what the adapter says of a piece.
    pub fn encode(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, step: &Step) -> Result<(), GpuError> {
        self.encode_stamped(gpu, encoder, step, None)
    }

    /// The same with a timestamp before or behind it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_stamped(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        step: &Step,
        stamp: Option<Stamp<'_>>,
    ) -> Result<(), GpuError> {
        gpu.go_on()?;
        gpu.queue.write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        let work: Vec<f64> = self.recorded.iter().map(|r| r.work(step)).collect();
        let mut pieces = self.pieces.lock().unwrap_or_else(|e| e.into_inner());
        if pieces.short(&work) {
            self.record(encoder, step, 0..work.len(), stamp);
            return Ok(());
        }
        // What is on its way already is not counted as time of the first piece.
        gpu.finish()?;
        let mut cut = pieces.cut(&work);
        while let Some(piece) = cut.next_piece() {
            let here = stamp.filter(|s| if s.behind() { piece.end == work.len() } else { piece.start == 0 });
            self.record(encoder, step, piece.clone(), here);
            let full = std::mem::replace(encoder, gpu.encoder());
            let start = Instant::now();
            gpu.wait(gpu.submit(full))?;
            cut.took(piece, start.elapsed().as_secs_f64());
            gpu.go_on()?;
        }
        *pieces = cut.finish();
        Ok(())
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder, step: &Step, piece: Range<usize>, stamp: Option<Stamp<'_>>) {
        let timestamp_writes = stamp.map(|s| s.writes());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
        for recorded in &self.recorded[piece] {
            recorded.dispatch(&mut pass, step);
        }
    }

    /// Runs once with a timestamp around every dispatch: label (`kernel:entry constants | tensor`) and seconds of each.
    /// Needs [`timestamps`](super::Capabilities::timestamps).
    pub fn time(&self, gpu: &Gpu, step: &Step) -> Result<Vec<(String, f64)>, GpuError> {
        gpu.queue.write_buffer(&self.step, 0, bytemuck::bytes_of(step));
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        let mut all = Vec::with_capacity(self.recorded.len());
        // Few at a time, so that an interrupt is answered between them.
        for group in self.recorded.chunks(TIMED) {
            gpu.go_on()?;
            let count = 2 * group.len() as u32;
            let (set, resolved) = gpu.scoped("making timestamp queries", || {
                let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timestamps"),
                    ty: wgpu::QueryType::Timestamp,
                    count,
                });
                let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("timestamps"),
                    size: u64::from(count) * 8,
                    usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                    mapped_at_creation: false,
                });
                (set, resolved)
            })?;
            let mut encoder = gpu.encoder();
            for (i, recorded) in group.iter().enumerate() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &set,
                        beginning_of_pass_write_index: Some(2 * i as u32),
                        end_of_pass_write_index: Some(2 * i as u32 + 1),
                    }),
                });
                recorded.dispatch(&mut pass, step);
            }
            encoder.resolve_query_set(&set, 0..count, &resolved, 0);
            let ticks = gpu.read_raw(encoder, &resolved, u64::from(count) * 8)?;
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&ticks);
            let seconds = |i: usize| ticks[2 * i + 1].saturating_sub(ticks[2 * i]) as f64 * period;
            all.extend(group.iter().enumerate().map(|(i, r)| (r.label.clone(), seconds(i))));
        }
        Ok(all)
    }

    /// Runs once and waits.
    pub fn run(&self, gpu: &Gpu, step: &Step) -> Result<(), GpuError> {
        let mut encoder = gpu.encoder();
        self.encode(gpu, &mut encoder, step)?;
        let submission = gpu.submit(encoder);
        gpu.wait(submission)
    }
}

impl Recorded {
    /// Workgroups.
    fn work(&self, step: &Step) -> f64 {
        self.grid.workgroups(step).into_iter().map(f64::from).product()
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, step: &Step) {
        let [x, y, z] = self.grid.workgroups(step);
        if x * y * z > 0 {
            pass.set_pipeline(&self.pipeline.raw);
            pass.set_bind_group(0, &self.bind_group, &[]);
            if self.pipeline.digits {
                pass.set_immediates(0, bytemuck::bytes_of(&DIGITS));
            }
            pass.dispatch_workgroups(x, y, z);
        }
    }
}
