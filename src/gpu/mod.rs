//! Adapters, buffers, kernels and their dispatch. Knows nothing of machine learning.
//!
//! ```no_run
//! use lowland::gpu::{AdapterChoice, Gpu};
//! let gpu = Gpu::open(&AdapterChoice::Best, Default::default())?;
//! let buffer = gpu.buffer("numbers", 1024)?;
//! gpu.write(&buffer, &[1.0f32, 2.0]);
//! assert_eq!(gpu.read::<f32>(&buffer, 2)?, [1.0, 2.0]);
//! # Ok::<(), lowland::gpu::GpuError>(())
//! ```
// Experimental features and images over foreign memory want it; each place says why it is sound.
#![allow(unsafe_code)]

mod adapter;
pub mod annotations;
mod describe;
mod device;
mod error;
mod host_memory;
mod images;
mod lanes;
mod limit;
mod memory;
mod pieces;
mod pipeline;
mod pipeline_cache;
mod program;
mod shader;
pub mod shader_text;
mod stopwatch;
mod upload;

pub use adapter::{ADAPTER_VARIABLE, AdapterChoice, ChoiceError, gpu_in_sight, leave, list, select};
pub use describe::{Description, Descriptions, Given, describe};
pub use device::{Capabilities, Gpu, Hold, Options};
pub use error::GpuError;
pub use lanes::{UNMEASURED, lanes_reason, prepare_process};
pub use limit::{Excess, Limit, MOST_ITERATIONS};
pub use memory::Buffer;
pub(crate) use memory::Staging;
pub use pipeline::Pipeline;
pub use program::{Count, Dispatch, Grid, Kernel, Launch, Program, Slot, Step, uniform_bytes};
pub use shader::{Binding, Entry, KERNEL_FILES, KernelFile, kernel_file};
pub use stopwatch::{Lap, Stamp, Stopwatch};
pub use upload::Upload;
