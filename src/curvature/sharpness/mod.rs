//! Sharpness where the weights are moved and scaled: the rise of the loss under random noise ([`Perturbation`]), along
//! an optimiser's own update ([`OptimizerState`], [`SharpnessAlong`]), what a scale of its own for every parameter
//! makes of a matrix ([`ScaledOperator`]), and the root of the diagonal ([`SqrtDiagonal`]). `docs/sharpness.md`.

mod along;
mod moved;
mod noise_scale;
mod perturb;
mod scaled;
mod sqrt_diagonal;
mod update;

pub use along::{CRITICAL_TOLERANCE, NoCritical, SharpnessAlong, critical_step};
pub use moved::MovedLosses;
pub use noise_scale::NoiseScale;
pub use perturb::{LossesAt, Perturbation, PerturbationOptions, noise_curve};
pub use scaled::ScaledOperator;
pub use sqrt_diagonal::{GROUPS, SqrtDiagonal};
pub use update::OptimizerState;
