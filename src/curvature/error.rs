//! What can go wrong in a measurement.

use crate::gpu::GpuError;
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
    #[error("{0}")]
    Request(String),
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

impl From<crate::statistics::DesignError> for CurvatureError {
    fn from(e: crate::statistics::DesignError) -> Self {
        CurvatureError::Request(e.to_string())
    }
}
