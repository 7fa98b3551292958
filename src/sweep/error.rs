//! Why a run of a sweep, or the sweep, came to no result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::curvature::CurvatureError;
use crate::downstream::{DownstreamError, Room};
use crate::gpu::GpuError;
use crate::interrupt::Interrupted;
use crate::model::{LoadError, ModelError};
use crate::train::{Lost, RunError};

/// An error in a sweep file, and its place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {message}")]
pub struct SweepError {
    /// `file:line`, or the file.
    pub place: String,
    /// What is wrong and what would be right.
    pub message: String,
    /// Of a model that is not there, what reading it by itself would be.
    pub kind: FailureKind,
}

impl SweepError {
    /// Something in a sweep file that cannot be.
    pub(super) fn new(place: String, message: String) -> SweepError {
        SweepError { place, message, kind: FailureKind::Usage }
    }
}

/// What kind of failure one is: whether it is tried again, and whether what comes next can be tried. Files and JSON
/// have it as the number that the program ends with for it (docs/commands.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum FailureKind {
    /// None of the others.
    Other,
    /// A config, a sweep file or a model that cannot be.
    Usage,
    /// A loss or a gradient was finite no longer.
    Diverged,
    /// Too little memory, or a plan that does not fit.
    Memory,
    /// A file could not be read or written.
    InputOutput,
    /// There is no adapter, or it was lost.
    NoAdapter,
    /// Interrupted, or in another process's hands.
    Interrupted,
}

impl From<LoadError> for RunFailure {
    fn from(error: LoadError) -> RunFailure {
        match error {
            LoadError::Model(error) => error.into(),
            LoadError::Gpu(error) => error.into(),
        }
    }
}

impl From<FailureKind> for u8 {
    fn from(kind: FailureKind) -> u8 {
        match kind {
            FailureKind::Other => 1,
            FailureKind::Usage => 2,
            FailureKind::Diverged => 3,
            FailureKind::Memory => 4,
            FailureKind::InputOutput => 5,
            FailureKind::NoAdapter => 6,
            FailureKind::Interrupted => 75,
        }
    }
}

impl From<u8> for FailureKind {
    fn from(number: u8) -> FailureKind {
        match number {
            2 => FailureKind::Usage,
            3 => FailureKind::Diverged,
            4 => FailureKind::Memory,
            5 => FailureKind::InputOutput,
            6 => FailureKind::NoAdapter,
            75 => FailureKind::Interrupted,
            _ => FailureKind::Other,
        }
    }
}

impl From<&ModelError> for FailureKind {
    fn from(error: &ModelError) -> FailureKind {
        match error {
            ModelError::Io { .. } => FailureKind::InputOutput,
            ModelError::Format { .. } => FailureKind::Usage,
        }
    }
}

/// Why one of a sweep's runs has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// Training stopped.
    #[error(transparent)]
    Train(#[from] RunError),
    /// A config that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A plan that cannot be, or another than was submitted.
    #[error(transparent)]
    Plan(#[from] SweepError),
    /// A model that cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The adapter failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A measurement failed.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    /// A probe or fine-tuning failed.
    #[error(transparent)]
    Downstream(#[from] DownstreamError),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else has taken the run over.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// Stopped between two questions; everything answered is kept.
    #[error("interrupted; what was done is kept, run the same command again to go on")]
    Interrupted,
    /// Some questions have no answer; the others do.
    #[error("{message}")]
    Unanswered {
        /// Of the first failure.
        kind: FailureKind,
        /// The first failure, and how many there are.
        message: String,
    },
    /// The failure of an earlier attempt, where trying again would end the same way.
    #[error("{message} (in an earlier attempt)")]
    Before {
        /// Of that attempt.
        kind: FailureKind,
        /// As it was written down then.
        message: String,
    },
}

impl From<Room> for RunFailure {
    fn from(room: Room) -> RunFailure {
        DownstreamError::from(room).into()
    }
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

    /// The kind of the failure.
    pub fn kind(&self) -> FailureKind {
        if self.interrupted() {
            return FailureKind::Interrupted;
        }
        if let Some(error) = self.gpu() {
            return match error {
                error if error.is_no_adapter() => FailureKind::NoAdapter,
                GpuError::OutOfMemory { .. } | GpuError::Limit(_) => FailureKind::Memory,
                _ => FailureKind::Other,
            };
        }
        match self {
            RunFailure::Train(RunError::Model(error)) | RunFailure::Model(error) => error.into(),
            failure if failure.is_elsewhere() => FailureKind::Interrupted,
            RunFailure::Train(RunError::Kernels(_)) => FailureKind::Other,
            RunFailure::Train(RunError::Io { .. }) | RunFailure::Io { .. } => FailureKind::InputOutput,
            RunFailure::Train(RunError::Diverged { .. })
            | RunFailure::Curvature(CurvatureError::NotFinite(_))
            | RunFailure::Downstream(DownstreamError::Diverged { .. }) => FailureKind::Diverged,
            RunFailure::Downstream(DownstreamError::Room(_)) => FailureKind::Memory,
            RunFailure::Before { kind, .. } | RunFailure::Unanswered { kind, .. } => *kind,
            _ => FailureKind::Usage,
        }
    }

    /// What the adapter said, where it is that.
    pub fn gpu(&self) -> Option<&GpuError> {
        match self {
            RunFailure::Train(RunError::Gpu(error) | RunError::Memory { error, .. })
            | RunFailure::Gpu(error)
            | RunFailure::Curvature(CurvatureError::Gpu(error))
            | RunFailure::Downstream(DownstreamError::Gpu(error)) => Some(error),
            _ => None,
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
        matches!(self.gpu(), Some(GpuError::Lost(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_numbers_and_read_again() {
        for number in 1..=6 {
            let kind: FailureKind = serde_json::from_str(&number.to_string()).unwrap();
            assert_eq!(serde_json::to_string(&kind).unwrap(), number.to_string());
        }
        let lost = RunFailure::Train(RunError::Gpu(GpuError::Lost("gone".into())));
        assert!(lost.lost() && lost.kind() == FailureKind::Other);
        assert_eq!(RunFailure::Gpu(GpuError::NoAdapter).kind(), FailureKind::NoAdapter);
        assert_eq!(RunFailure::Gpu(GpuError::Interrupted).kind(), FailureKind::Interrupted);
        assert_eq!(u8::from(FailureKind::Interrupted), 75);
    }
}
