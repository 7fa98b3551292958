//! What can go wrong in a measurement.

use super::{PlanError, Refusal};
use crate::gpu::GpuError;
use crate::graph::GhostError;
use crate::interrupt::Interrupted;

/// An error of a measurement; the model's weights are as they were.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CurvatureError {
    /// The adapter failed, or has no room.
    #[error(transparent)]
    Gpu(GpuError),
    /// The process is to stop ([`crate::interrupt`]), or the observer said so, before there was anything to give. An
    /// estimator that has something gives that, with `interrupted` set.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// What was asked for cannot be had; says what would be right.
    #[error(transparent)]
    Refused(Refusal),
    /// A trace, or gradient noise, cannot be had as it was asked for.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The model's graph has a parameter whose gradient's norm is not known.
    #[error(transparent)]
    Norms(#[from] GhostError),
    /// A product or quadratic form is not finite.
    #[error("{0} is not finite: the model's loss has no curvature here (are its weights finite?)")]
    NotFinite(&'static str),
}

impl From<GpuError> for CurvatureError {
    fn from(error: GpuError) -> CurvatureError {
        match error {
            GpuError::Interrupted => CurvatureError::Interrupted,
            error => CurvatureError::Gpu(error),
        }
    }
}

impl From<Interrupted> for CurvatureError {
    fn from(_: Interrupted) -> CurvatureError {
        CurvatureError::Interrupted
    }
}

/// Nothing where work was interrupted; other errors stay.
pub(super) fn unless_interrupted<T>(result: Result<T, CurvatureError>) -> Result<Option<T>, CurvatureError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CurvatureError::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<Refusal> for CurvatureError {
    fn from(refusal: Refusal) -> CurvatureError {
        CurvatureError::Refused(refusal)
    }
}

impl From<crate::statistics::DesignError> for CurvatureError {
    fn from(error: crate::statistics::DesignError) -> CurvatureError {
        CurvatureError::Refused(error.into())
    }
}
