//! Sharpness where the weights are moved and scaled: the rise of the loss under random noise ([`Perturbation`]), along
//! an optimiser's own update ([`OptimizerState`], [`SharpnessAlong`]), and the root of the diagonal ([`SqrtDiagonal`]).
//! What a scale of its own for every parameter makes of a matrix is a [`ScaledOperator`](super::ScaledOperator).
//! `docs/sharpness.md`.

mod along;
mod moved;
mod noise_scale;
mod perturb;
mod sqrt_diagonal;
mod update;

pub use along::{CRITICAL_TOLERANCE, NoCritical, SharpnessAlong, critical_step};
pub use moved::MovedLosses;
pub use noise_scale::NoiseScale;
pub use perturb::{LossesAt, Perturbation, PerturbationOptions, noise_curve};
pub use sqrt_diagonal::{GROUPS, SqrtDiagonal};
pub use update::OptimizerState;
