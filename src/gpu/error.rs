//! Failures of an adapter, as values with advice. Nothing in `gpu/` panics on a driver's answer.

use std::time::Duration;

/// An error of the adapter, the driver or a kernel.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GpuError {
    /// No adapter, or none that fits the choice.
    #[error("no usable adapter: {reason}\n{advice}")]
    NoAdapter { reason: String, advice: String },
    /// A plan needs more than the adapter allows; nothing was allocated.
    #[error("the plan does not fit this adapter: {0}")]
    Limit(String),
    /// The driver ran out of memory.
    #[error(
        "out of memory on the adapter while {doing} ({detail}).\nLower `train.micro_batch`, use a smaller model, or \
         close other programs that use the GPU; `lowland train CONFIG --dry-run` prints the memory plan."
    )]
    OutOfMemory { doing: String, detail: String },
    /// The device was lost (driver reset, unplugged, killed by a watchdog).
    #[error(
        "the device was lost: {0}\nA driver resets a GPU that does not answer in time: lower `train.micro_batch` so \
         that one submission is shorter, look into the system's log, then run the same command again: it resumes \
         from the newest checkpoint."
    )]
    Lost(String),
    /// A wait ran into its bound.
    #[error(
        "the adapter did not finish within {0:?}.\nIf it is only slow (a software adapter with a large model), lower \
         `train.micro_batch` or set LOWLAND_WAIT_SECONDS to a larger number; if it hangs, try another adapter \
         (`lowland doctor` lists them)."
    )]
    Timeout(Duration),
    /// wgpu refused a call: a bug in Lowland or in the driver.
    #[error(
        "the driver refused a call ({doing}): {detail}\nThis is a bug; please report it with the output of `lowland doctor --json`."
    )]
    Validation { doing: String, detail: String },
    /// The process is to stop ([`crate::interrupt`]): what was begun is done, nothing more was given to the adapter.
    #[error("interrupted")]
    Interrupted,
    /// A kernel could not be built.
    #[error("kernel `{kernel}`: {detail}")]
    Kernel { kernel: String, detail: String },
}

impl GpuError {
    /// The process exit code: 6 no usable adapter, 4 out of memory or a plan that does not fit, 130 interrupted, 1
    /// anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            GpuError::NoAdapter { .. } => 6,
            GpuError::OutOfMemory { .. } | GpuError::Limit(_) => 4,
            GpuError::Interrupted => 130,
            _ => 1,
        }
    }
}

impl From<crate::interrupt::Interrupted> for GpuError {
    fn from(_: crate::interrupt::Interrupted) -> GpuError {
        GpuError::Interrupted
    }
}
