//! The local posterior exp(-nβ L(w) - γ/2 (w - w₀)ᵀ D⁻¹ (w - w₀)) around a model, nβ being the inverse temperature: how
//! much volume of parameters keeps the loss low (`docs/llc.md`).
//!
//! [`Prior`] says what D is, and [`ScaledOperator`](super::ScaledOperator) is a curvature matrix in the coordinates in
//! which the prior is round, of whose spectrum a quadratic loss's coefficient and volume are sums ([`Quadratic`]).
//! [`sample`] runs chains on any [`Target`], [`Mixing`] and [`Coefficient`] tell what they are worth, and
//! [`learning_coefficient`] puts all of it together for a model.

mod chain;
mod coefficient;
mod conditioned;
mod diagnostics;
mod measure;
mod model_target;
mod prior;
mod quadratic;

pub use chain::{Chain, ChainOptions, Chains, Point, Target, sample};
pub use coefficient::{Coefficient, Doubt};
pub use conditioned::Conditioned;
pub use diagnostics::Mixing;
pub use measure::{CoefficientRequest, LearningCoefficient, learning_coefficient};
pub use model_target::ModelTarget;
pub use prior::Prior;
pub use quadratic::{Quadratic, SpectralSum};
