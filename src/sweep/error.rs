//! Why a run of a sweep, or the sweep, came to no result.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::curvature::CurvatureError;
use crate::downstream::DownstreamError;
use crate::gpu::GpuError;
use crate::interrupt::Interrupted;
use crate::model::ModelError;
use crate::train::{Lost, RunError};

/// An error in a sweep file, and its place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {message}")]
pub struct SweepError {
    pub place: String,
    pub message: String,
}

/// Why one of a sweep's runs has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    #[error(transparent)]
    Train(#[from] RunError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    #[error(transparent)]
    Downstream(#[from] DownstreamError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Somebody else has taken the run over.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// Stopped between two questions; everything answered is kept.
    #[error("interrupted; what was done is kept, run the same command again to go on")]
    Interrupted,
    /// Some questions have no answer; the others do.
    #[error("{message}")]
    Unanswered { code: u8, message: String },
    /// The failure of an earlier attempt, where trying again would end the same way.
    #[error("{message}")]
    Before { code: u8, message: String },
}

impl From<Interrupted> for RunFailure {
    fn from(_: Interrupted) -> RunFailure {
        RunFailure::Interrupted
    }
}

impl RunFailure {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RunFailure + use<> {
        let path = path.to_path_buf();
        move |source| RunFailure::Io { path, source }
    }

    /// The process exit code that the same failure has on its own (docs/commands.md).
    pub fn exit_code(&self) -> u8 {
        const USAGE: u8 = 2;
        const DIVERGED: u8 = 3;
        const INPUT_OUTPUT: u8 = 5;
        const INTERRUPTED: u8 = 75;
        let model = |error: &ModelError| match error {
            ModelError::Io { .. } => INPUT_OUTPUT,
            ModelError::Format { .. } => USAGE,
        };
        if self.interrupted() {
            return INTERRUPTED;
        }
        match self {
            RunFailure::Train(RunError::Gpu(error)) | RunFailure::Gpu(error) => error.exit_code(),
            RunFailure::Curvature(CurvatureError::Gpu(error)) => error.exit_code(),
            RunFailure::Downstream(DownstreamError::Gpu(error)) => error.exit_code(),
            RunFailure::Train(RunError::Model(error)) | RunFailure::Model(error) => model(error),
            failure if failure.is_elsewhere() => INTERRUPTED,
            RunFailure::Train(RunError::Io { .. }) | RunFailure::Io { .. } => INPUT_OUTPUT,
            RunFailure::Train(RunError::Diverged { .. }) => DIVERGED,
            RunFailure::Curvature(CurvatureError::NotFinite(_)) => DIVERGED,
            RunFailure::Downstream(DownstreamError::Diverged { .. }) => DIVERGED,
            RunFailure::Before { code, .. } | RunFailure::Unanswered { code, .. } => *code,
            _ => USAGE,
        }
    }

    /// Whether an interrupt ended it.
    pub(super) fn interrupted(&self) -> bool {
        matches!(
            self,
            RunFailure::Interrupted
                | RunFailure::Train(
                    RunError::Interrupted { .. } | RunError::Unbegun | RunError::Gpu(GpuError::Interrupted)
                )
                | RunFailure::Gpu(GpuError::Interrupted)
                | RunFailure::Curvature(CurvatureError::Interrupted)
                | RunFailure::Downstream(DownstreamError::Interrupted { .. })
        )
    }

    /// Whether the run is in another process's hands.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, RunFailure::Train(RunError::Claimed { .. } | RunError::Lost(_)) | RunFailure::Lost(_))
    }

    /// Whether the adapter is gone, so that what comes next needs a new one.
    pub(super) fn lost(&self) -> bool {
        matches!(
            self,
            RunFailure::Train(RunError::Gpu(GpuError::Lost(_)))
                | RunFailure::Gpu(GpuError::Lost(_))
                | RunFailure::Curvature(CurvatureError::Gpu(GpuError::Lost(_)))
                | RunFailure::Downstream(DownstreamError::Gpu(GpuError::Lost(_)))
        )
    }
}
