//! Gradient noise ([`gradient_noise`] measures all of it): the covariance of per-example gradients, its trace,
//! eigenvalues and scale, how it goes together with curvature, and sharpness as small batches see it.

mod bartlett;
mod covariance;
mod gram;
mod mean_gradient;
mod measure;
mod relabel;
mod sharpness;

pub use bartlett::{Bartlett, ExampleTraces, HessianTraces};
pub use covariance::{Noise, alignment, covariance_trace, deviations, ratio_independent, ratio_paired};
pub use gram::Gram;
pub use mean_gradient::MeanGradient;
pub use measure::{Comparison, GradientNoise, NoiseRequest, gradient_noise};
pub use sharpness::BatchSharpness;
