//! An opened adapter: device, queue, what it can do, and bounded waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::adapter::{AdapterChoice, select};
use super::error::GpuError;
use super::memory::Tally;
use super::pipeline::{Pipeline, PipelineKey};
use super::pipeline_cache::PipelineCache;

/// The abilities of an adapter, as far as the choice of kernel variants looks at them.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Capabilities {
    /// A driver that runs on the processor (lavapipe, SwiftShader, WARP).
    pub software: bool,
    /// Lanes of a subgroup when all subgroups have one size, else 0. 0 also where subgroups are missing.
    pub subgroup_size: u32,
    /// Fewest lanes that a subgroup may have; 0 without subgroups.
    pub subgroup_min: u32,
    /// Most lanes that a subgroup may have; 0 without subgroups.
    pub subgroup_max: u32,
    /// Most memory of a workgroup.
    pub workgroup_bytes: u32,
    /// Most invocations of a workgroup along x.
    pub workgroup_invocations: u32,
    /// WGSL may use `f16`.
    pub f16: bool,
    /// Sizes n of products of n x n matrices that subgroups can compute from f16 operands with f32 sums.
    pub cooperative: Vec<u32>,
    /// Read-only buffers may be read as linear images over the same memory.
    pub images: bool,
    /// The driver stores to addresses that it knows to be the same for all lanes with plain instructions, and to others
    /// in loops over the lanes that take several times as long.
    pub uniform_stores: bool,
    /// The adapter tells when a pass began and ended.
    pub timestamps: bool,
    /// Most bytes that a storage binding may have.
    pub largest_binding: u64,
    /// Most bytes that a buffer may have.
    pub largest_buffer: u64,
}

/// The options of opening a device, beyond the adapter.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bounds, loop and division checks in every kernel.
    pub checks: bool,
    /// Whether to read through images where the driver allows it; `None` decides by the kind of adapter.
    pub images: Option<bool>,
    /// Whether kernels may store a lane after another; `None` decides by the driver.
    pub uniform_stores: Option<bool>,
    /// Longest wait for one submission.
    pub timeout: Duration,
    /// Most bytes of a storage binding, where that is less than the adapter's: with it tests see small matrices bound
    /// as large ones are.
    pub binding: Option<u64>,
    /// Most bytes of all buffers at once; what goes beyond is refused as if the adapter had no more.
    pub memory: Option<u64>,
}

impl Default for Options {
    /// Checks in debug builds or with `LOWLAND_CHECKS=1`; waits of `LOWLAND_WAIT_SECONDS` (600); bindings of
    /// `LOWLAND_BINDING_BYTES` at most, buffers of `LOWLAND_MEMORY_BYTES`.
    fn default() -> Self {
        let flag = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
        Options {
            checks: flag("LOWLAND_CHECKS").map_or(cfg!(debug_assertions), |v| v != 0),
            images: flag("LOWLAND_IMAGES").map(|v| v != 0),
            uniform_stores: flag("LOWLAND_UNIFORM_STORES").map(|v| v != 0),
            timeout: Duration::from_secs(flag("LOWLAND_WAIT_SECONDS").unwrap_or(600)),
            binding: flag("LOWLAND_BINDING_BYTES"),
            memory: flag("LOWLAND_MEMORY_BYTES"),
        }
    }
}

/// An opened adapter.
///
/// ```no_run
/// let gpu = lowland::gpu::Gpu::open(&"software".parse().unwrap(), Default::default())?;
/// println!("{}", gpu.info().name);
/// # Ok::<(), lowland::gpu::GpuError>(())
/// ```
///
/// A clone is another handle to the same device, with the same pipelines and the same count of memory.
#[derive(Clone)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    choice: AdapterChoice,
    options: Options,
    info: wgpu::AdapterInfo,
    reason: String,
    limits: wgpu::Limits,
    pub(super) capabilities: Capabilities,
    pub(super) checks: bool,
    pub(super) timeout: Duration,
    faults: Arc<Mutex<Option<GpuError>>>,
    pub(super) pipelines: Arc<Mutex<HashMap<PipelineKey, Arc<Pipeline>>>>,
    pub(super) tally: Arc<Tally>,
    pub(super) cache: Arc<PipelineCache>,
    /// The number of living [`Hold`]s.
    held: Arc<AtomicU32>,
}

/// While it lives, an interrupt keeps nothing from the adapter: for work that must not be left half done.
pub struct Hold<'g>(&'g Gpu);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Gpu {
    /// Opens the adapter of a choice with all it offers.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::NoSuchAdapter`], or [`GpuError::NotOpened`] when the one chosen refuses to
    /// open.
    pub fn open(choice: &AdapterChoice, options: Options) -> Result<Gpu, GpuError> {
        let (adapter, reason) = select(choice)?;
        let info = adapter.get_info();
        let limits = adapter.limits();
        let software = info.device_type == wgpu::DeviceType::Cpu;
        let images_possible = super::images::images_possible(&adapter);
        let images = images_possible && options.images.unwrap_or(software);
        let mut wanted = wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16;
        if images {
            wanted |= wgpu::Features::TEXTURE_ADAPTER_SPECIFIC_FORMAT_FEATURES;
        }
        // A check of the bounds looks at what is not known to be the same for all lanes.
        let uniform_stores = options.uniform_stores.unwrap_or(software && loops_over_stores(&info))
            && !options.checks
            && adapter.features().contains(UNIFORM_STORES)
            && limits.max_immediate_size >= DIGITS_BYTES;
        if uniform_stores {
            wanted |= UNIFORM_STORES;
        }
        wanted |= wgpu::Features::PIPELINE_CACHE;
        let cooperative = cooperative(&adapter);
        if !cooperative.is_empty() {
            wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let features = adapter.features() & wanted;
        let refused = |e: wgpu::RequestDeviceError| GpuError::NotOpened {
            adapter: format!("{} ({:?})", info.name, info.backend),
            detail: e.to_string(),
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("lowland"),
            required_features: features,
            required_limits: limits.clone(),
            // SAFETY: the experimental feature is small-matrix products, in kernels that a config asks for by name and
            // that the self-test compares; they are complete in wgpu as far as these use them, and index as all others
            // do.
            experimental_features: unsafe { experimental(!cooperative.is_empty()) },
            ..Default::default()
        }))
        .map_err(refused)?;
        let images = images && super::images::images_fit(&device, alignment(&limits));
        let cache = PipelineCache::open(&device, &info);
        let faults: Arc<Mutex<Option<GpuError>>> = Arc::default();
        let shared = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            note(&shared, translate(error, "a call"));
        }));
        let shared = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(&shared, GpuError::Lost(message));
            }
        });
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        let capabilities = Capabilities {
            software,
            subgroup_size: if subgroups && info.subgroup_min_size == info.subgroup_max_size {
                info.subgroup_min_size
            } else {
                0
            },
            subgroup_min: if subgroups { info.subgroup_min_size } else { 0 },
            subgroup_max: if subgroups { info.subgroup_max_size } else { 0 },
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            f16: features.contains(wgpu::Features::SHADER_F16),
            cooperative,
            images,
            uniform_stores,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            largest_binding: limits.max_storage_buffer_binding_size.min(options.binding.unwrap_or(u64::MAX)),
            largest_buffer: limits.max_buffer_size,
        };
        Ok(Gpu {
            device,
            queue,
            choice: choice.clone(),
            info,
            reason,
            limits,
            capabilities,
            checks: options.checks,
            timeout: options.timeout,
            options,
            faults,
            pipelines: Arc::default(),
            tally: Arc::default(),
            cache: Arc::new(cache),
            held: Arc::default(),
        })
    }

    /// Opens the same choice of an adapter once more, with the same options: what a device that was lost is replaced
    /// by. Nothing of this one is there: neither memory nor kernels.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn reopen(&self) -> Result<Gpu, GpuError> {
        Gpu::open(&self.choice, self.options.clone())
    }

    /// Ends the device as a driver's reset does: whatever is asked of it from now on is answered by
    /// [`GpuError::Lost`]. For trying what follows from that.
    pub fn lose(&self) {
        note(&self.faults, GpuError::Lost("it was given up".into()));
        self.device.destroy();
    }

    /// Lets work through in spite of an interrupt, for as long as the answer lives.
    pub fn hold(&self) -> Hold<'_> {
        self.held.fetch_add(1, Ordering::SeqCst);
        Hold(self)
    }

    /// Whether more work may be given to the adapter.
    ///
    /// # Errors
    /// [`GpuError::Interrupted`] once the process is to stop, unless somebody [`hold`](Self::hold)s;
    /// [`GpuError::Lost`] when the device is gone.
    pub(super) fn go_on(&self) -> Result<(), GpuError> {
        if let Some(lost) = self.fault().err().filter(GpuError::is_lost) {
            return Err(lost);
        }
        match self.held.load(Ordering::SeqCst) {
            0 => Ok(crate::interrupt::check()?),
            _ => Ok(()),
        }
    }

    /// Name, driver, back end, PCI id.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// Why this adapter was chosen.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Sizes that the device was opened with: all that the adapter offers.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// What the choice of kernel variants looks at.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Bytes of all buffers on the adapter now, and the most there ever were.
    pub fn memory(&self) -> (u64, u64) {
        self.tally.bytes()
    }

    /// Keeps the compiled pipelines for the next process, where the adapter gives them away (Vulkan). What cannot be
    /// written is compiled again next time.
    pub fn keep_pipelines(&self) {
        self.cache.keep();
    }

    /// Refuses bytes beyond those that the options allow.
    pub(super) fn has_room(&self, label: &str, bytes: u64) -> Result<(), GpuError> {
        match self.options.memory {
            Some(most) if self.tally.bytes().0.saturating_add(bytes) > most => Err(GpuError::OutOfMemory {
                doing: format!("making {label}"),
                detail: format!("{most} bytes are allowed"),
            }),
            _ => Ok(()),
        }
    }

    /// Whether kernels carry bounds checks.
    pub fn checks(&self) -> bool {
        self.checks
    }

    /// The first error that the driver reported outside a call, if any.
    pub fn fault(&self) -> Result<(), GpuError> {
        match self.faults.lock().unwrap_or_else(|e| e.into_inner()).clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Runs `make` and turns what the driver says about it into an error.
    pub(super) fn scoped<T>(&self, doing: &str, make: impl FnOnce() -> T) -> Result<T, GpuError> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
        let made = make();
        let errors = [
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
            pollster::block_on(validation.pop()),
        ];
        match errors.into_iter().flatten().next() {
            // Of a lost device every call is refused, for whatever reason.
            Some(error) => Err(self.fault().err().filter(GpuError::is_lost).unwrap_or(translate(error, doing))),
            None => Ok(made),
        }
    }

    /// Sends commands to the adapter.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.queue.submit([encoder.finish()])
    }

    /// A new list of commands.
    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("lowland") })
    }

    /// Waits until a submission is done, no longer than the bound.
    pub fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(self.timeout) })
    }

    /// Waits until all work is done, no longer than the bound.
    pub fn finish(&self) -> Result<(), GpuError> {
        self.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(self.timeout) })
    }

    fn poll(&self, how: wgpu::PollType) -> Result<(), GpuError> {
        let polled = self.device.poll(how);
        self.fault()?;
        match polled {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => Err(GpuError::Timeout(self.timeout)),
            Err(other) => Err(GpuError::Lost(other.to_string())),
        }
    }
}

/// What kernels need that store a lane after another (`shaders/common/uniform_store.wgsl`).
const UNIFORM_STORES: wgpu::Features =
    wgpu::Features::IMMEDIATES.union(wgpu::Features::SHADER_INT64).union(wgpu::Features::SHADER_F64);

/// Bytes of the table of digits that these kernels look numbers up in.
pub(super) const DIGITS_BYTES: u32 = 128;

/// Whether a driver stores in loops over the lanes unless it knows the address to be the same for all: a table of
/// facts, which is llvmpipe before Mesa 23 (`docs/performance.md`).
fn loops_over_stores(info: &wgpu::AdapterInfo) -> bool {
    let version = info.driver_info.strip_prefix("Mesa ").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    info.driver == "llvmpipe" && version.is_some_and(|major| major < 23)
}

/// Bytes that buffers of one allocation are aligned to.
pub(super) fn alignment(limits: &wgpu::Limits) -> u64 {
    u64::from(limits.min_storage_buffer_offset_alignment).max(256)
}

/// Sizes of the small-matrix products that an adapter has from f16 operands with f32 sums.
fn cooperative(adapter: &wgpu::Adapter) -> Vec<u32> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    if !adapter.features().contains(needed) {
        return Vec::new();
    }
    let of = |n: u32| {
        adapter.cooperative_matrix_properties().iter().any(|p| {
            [p.m_size, p.n_size, p.k_size] == [n; 3]
                && p.ab_type == wgpu::CooperativeScalarType::F16
                && p.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    [8, 16].into_iter().filter(|n| of(*n)).collect()
}

/// # Safety
/// As [`wgpu::ExperimentalFeatures::enabled`].
unsafe fn experimental(wanted: bool) -> wgpu::ExperimentalFeatures {
    match wanted {
        // SAFETY: promised by the caller.
        true => unsafe { wgpu::ExperimentalFeatures::enabled() },
        false => wgpu::ExperimentalFeatures::disabled(),
    }
}

/// Keeps the first fault; that the device was lost goes before what follows from it.
fn note(faults: &Mutex<Option<GpuError>>, error: GpuError) {
    let mut first = faults.lock().unwrap_or_else(|e| e.into_inner());
    match &*first {
        Some(before) if before.is_lost() || !error.is_lost() => {}
        _ => *first = Some(error),
    }
}

fn translate(error: wgpu::Error, doing: &str) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { source } => {
            GpuError::OutOfMemory { doing: doing.into(), detail: source.to_string() }
        }
        wgpu::Error::Validation { description, .. } => {
            GpuError::Validation { doing: doing.into(), detail: description }
        }
        wgpu::Error::Internal { description, .. } => GpuError::Validation { doing: doing.into(), detail: description },
    }
}
