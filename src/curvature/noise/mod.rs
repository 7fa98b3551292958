//! Gradient noise ([`gradient_noise`] measures all of it): the covariance of per-example gradients, its trace,
//! eigenvalues and scale, how it goes together with curvature, and sharpness as small batches see it.

mod bartlett;
mod comparison;
mod covariance;
mod gram;
mod mean_gradient;
mod measure;
mod relabel;
mod sharpness;
mod tokens;

pub use bartlett::{Bartlett, ExampleTraces, HessianTraces};
pub use comparison::Comparison;
pub use covariance::{
    Cluster, Noise, alignment, cluster_deviations, covariance_trace, deviations, ratio_independent, ratio_paired,
};
pub use gram::Gram;
pub use mean_gradient::MeanGradient;
pub use measure::{GradientNoise, NoiseRequest, gradient_noise};
pub use sharpness::BatchSharpness;
pub use tokens::split_tokens;
