//! What can go wrong in a measurement.

use crate::gpu::GpuError;

/// An error of a measurement; the model's weights are as they were.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CurvatureError {
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The observer asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// What was asked for cannot be had; says what would be right.
    #[error("{0}")]
    Request(String),
    /// A product or quadratic form is not finite.
    #[error("{0} is not finite: the model's loss has no curvature here (are its weights finite?)")]
    NotFinite(&'static str),
}

impl From<crate::statistics::DesignError> for CurvatureError {
    fn from(e: crate::statistics::DesignError) -> Self {
        CurvatureError::Request(e.to_string())
    }
}
