//! Failures of an adapter, as facts. Nothing in `gpu/` panics on a driver's answer; what a person could do about one is
//! said by whoever talks to people.

use std::time::Duration;

use super::limit::Limit;

/// An error of the adapter, the driver or a kernel.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GpuError {
    /// The machine has no adapter at all.
    #[error("no usable adapter: none was found")]
    NoAdapter,
    /// None of the machine's adapters fits the choice; `there` names them with their backends, in the machine's order.
    #[error("no usable adapter: none fits {choice}")]
    NoSuchAdapter {
        /// As it is written on a command line, `index:9`.
        choice: String,
        /// Name and backend of each adapter.
        there: Vec<String>,
    },
    /// The adapter was found and would not open.
    #[error("no usable adapter: {adapter} would not open: {detail}")]
    NotOpened {
        /// Its name and backend.
        adapter: String,
        /// The driver's words.
        detail: String,
    },
    /// A plan needs more than the adapter allows; nothing was allocated.
    #[error("the plan does not fit this adapter: {0}")]
    Limit(Limit),
    /// The driver ran out of memory.
    #[error("out of memory on the adapter while {doing} ({detail})")]
    OutOfMemory {
        /// What was tried, `making a buffer`.
        doing: String,
        /// The driver's words.
        detail: String,
    },
    /// The device was lost (driver reset, unplugged, killed by a watchdog).
    #[error("the device was lost: {0}")]
    Lost(String),
    /// A wait ran into its bound.
    #[error("the adapter did not finish within {0:?}")]
    Timeout(Duration),
    /// wgpu refused a call: a bug in Lowland or in the driver.
    #[error("the driver refused a call ({doing}): {detail}")]
    Validation {
        /// What was tried, `making a pipeline`.
        doing: String,
        /// wgpu's words.
        detail: String,
    },
    /// The process is to stop ([`crate::interrupt`]): what was begun is done, nothing more was given to the adapter.
    #[error("interrupted")]
    Interrupted,
    /// A kernel could not be built.
    #[error("kernel `{kernel}`: {detail}")]
    Kernel {
        /// Its file or file and entry point.
        kernel: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A kernel would loop longer than a software driver lets it, which would end its loops without a word.
    #[error(
        "{what} needs {needed} iterations of one invocation's loops, and software drivers end them after 65,535, \
         without a word: the results would be wrong"
    )]
    Loops {
        /// What it is needed for, `a sentence of 300 tokens`.
        what: String,
        /// Iterations.
        needed: u64,
    },
    /// The driver would not compile a kernel.
    #[error("kernel `{kernel}`: {error}")]
    Compile {
        /// `file:entry point`.
        kernel: String,
        /// What the driver said, with the line in `shaders/`.
        error: Box<GpuError>,
    },
}

impl GpuError {
    /// Whether there is no adapter to work on: none was found, none fits, or it would not open.
    pub fn is_no_adapter(&self) -> bool {
        matches!(self, GpuError::NoAdapter | GpuError::NoSuchAdapter { .. } | GpuError::NotOpened { .. })
    }

    /// Whether the device is gone, so that another one must be opened.
    pub fn is_lost(&self) -> bool {
        match self {
            GpuError::Lost(_) => true,
            GpuError::Compile { error, .. } => error.is_lost(),
            _ => false,
        }
    }

    /// Whether there was no room for what was asked.
    pub fn is_memory(&self) -> bool {
        match self {
            GpuError::OutOfMemory { .. } | GpuError::Limit(_) => true,
            GpuError::Compile { error, .. } => error.is_memory(),
            _ => false,
        }
    }
}

impl From<Limit> for GpuError {
    fn from(limit: Limit) -> GpuError {
        GpuError::Limit(limit)
    }
}

impl From<crate::interrupt::Interrupted> for GpuError {
    fn from(_: crate::interrupt::Interrupted) -> GpuError {
        GpuError::Interrupted
    }
}
