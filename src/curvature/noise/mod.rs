//! Gradient noise: the covariance of per-example gradients, its trace, eigenvalues and scale, how it goes together with
//! curvature, and sharpness as small batches see it.

mod covariance;
mod gram;
mod sharpness;

pub use covariance::{Noise, alignment, covariance_trace, deviations, ratio_independent, ratio_paired};
pub use gram::Gram;
pub use sharpness::BatchSharpness;
