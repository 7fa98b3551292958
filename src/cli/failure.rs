//! What ends a command early: one paragraph for a person and the exit code for a script.

use super::advice;
use crate::config::ConfigError;
use crate::curvature::{CurvatureError, PlanError};
use crate::gpu::GpuError;
use crate::interrupt::Interrupted;
use crate::language::LanguageError;
use crate::model::{ExampleError, LoadError, ModelError};
use crate::ops::DeviceError;
use crate::report::ReportError;
use crate::text::TextError;
use crate::train::RunError;

/// Bad config or usage.
pub const USAGE: u8 = 2;
/// The training diverged.
pub const DIVERGED: u8 = 3;
/// Out of memory, or a plan that does not fit.
pub const MEMORY: u8 = 4;
/// Input, output or a full disk.
pub const INPUT_OUTPUT: u8 = 5;
/// No adapter that can be used.
pub const NO_ADAPTER: u8 = 6;
/// Interrupted with what was done kept, or in another process's hands: the same command goes on.
pub const INTERRUPTED: u8 = 75;

/// Interrupted without a checkpoint; what was measured until then is printed.
pub const STOPPED: u8 = 130;

/// A message and an exit code.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn usage(message: impl std::fmt::Display) -> Failure {
        Failure { code: USAGE, message: message.to_string() }
    }

    /// An interrupt whose partial result was printed.
    pub fn stopped(what: &str) -> Failure {
        Failure { code: STOPPED, message: format!("interrupted; {what}") }
    }

    /// An interrupt in the code of what can be run again and goes on; other failures as they are.
    pub fn resumable(self) -> Failure {
        match self.interrupted() {
            true => Failure { code: INTERRUPTED, ..self },
            false => self,
        }
    }

    /// Whether it is an interrupt.
    pub fn interrupted(&self) -> bool {
        self.code == STOPPED || self.code == INTERRUPTED
    }

    /// A file that could not be read or written.
    pub fn io(path: &std::path::Path, error: &std::io::Error) -> Failure {
        Failure { code: INPUT_OUTPUT, message: format!("{}: {error}", path.display()) }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Failure {
        match error {
            DeviceError::Gpu(error) => error.into(),
            DeviceError::Choice(_) | DeviceError::Variant(_) => Failure::usage(error),
        }
    }
}

/// Standard output that cannot be written; a reader that has had enough (`| head`) is no error.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure { code: 0, message: String::new() },
            _ => Failure { code: INPUT_OUTPUT, message: format!("standard output: {error}") },
        }
    }
}

impl From<Interrupted> for Failure {
    fn from(_: Interrupted) -> Failure {
        Failure::stopped("nothing was measured yet")
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<LanguageError> for Failure {
    fn from(error: LanguageError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<TextError> for Failure {
    fn from(error: TextError) -> Failure {
        match error {
            TextError::Interrupted => Interrupted.into(),
            TextError::Cache { .. } => {
                let message =
                    format!("{error} (tokens are kept there; `language.cache` or XDG_CACHE_HOME names another folder)");
                Failure { code: INPUT_OUTPUT, message }
            }
            TextError::Wrong { .. } | TextError::Pieces(_) => Failure::usage(error),
        }
    }
}

impl From<ExampleError> for Failure {
    fn from(error: ExampleError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Failure {
        match error {
            GpuError::Interrupted => Interrupted.into(),
            error => {
                let code = match &error {
                    error if error.is_no_adapter() => NO_ADAPTER,
                    GpuError::OutOfMemory { .. } | GpuError::Limit(_) => MEMORY,
                    GpuError::Loops { .. } => USAGE,
                    _ => 1,
                };
                Failure { code, message: advice::of_gpu(&error) }
            }
        }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        let code = match error {
            ModelError::Io { .. } => INPUT_OUTPUT,
            ModelError::Format { .. } => USAGE,
        };
        Failure { code, message: error.to_string() }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        match error {
            LoadError::Model(error) => error.into(),
            LoadError::Gpu(error) => error.into(),
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Failure {
        let code = match error {
            ReportError::Io { .. } => INPUT_OUTPUT,
            _ => USAGE,
        };
        Failure { code, message: advice::of_report(&error) }
    }
}

impl From<CurvatureError> for Failure {
    fn from(error: CurvatureError) -> Failure {
        let code = match error {
            CurvatureError::Gpu(error) => return error.into(),
            CurvatureError::Interrupted => return Interrupted.into(),
            CurvatureError::Plan(error) => return error.into(),
            CurvatureError::Refused(_) | CurvatureError::Norms(_) => USAGE,
            CurvatureError::NotFinite(_) => DIVERGED,
        };
        Failure { code, message: error.to_string() }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        Failure::usage(advice::of_plan(&error))
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        let code = match error {
            RunError::Config(error) => return error.into(),
            RunError::Gpu(error) => return error.into(),
            RunError::Model(ModelError::Io { path, source }) | RunError::Io { path, source } => {
                return Failure { code: INPUT_OUTPUT, message: advice::of_run_files(&path, &source) };
            }
            RunError::Model(error) => return error.into(),
            RunError::Memory { error, micro_batch, fits } => {
                return Failure { code: MEMORY, message: advice::of_memory(&error, micro_batch, fits) };
            }
            RunError::Kernels(error) => return Failure { code: 1, message: advice::of_kernels(&error) },
            RunError::Diverged { .. } => DIVERGED,
            // Whoever has the run goes on with it; the same command does if that one stops.
            RunError::Interrupted { .. } | RunError::Unbegun | RunError::Claimed { .. } | RunError::Lost(_) => {
                INTERRUPTED
            }
        };
        Failure { code, message: error.to_string() }
    }
}
