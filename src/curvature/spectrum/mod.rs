//! Spectra of any operator: its eigenpairs of largest absolute value by block Lanczos, and its density of eigenvalues
//! by stochastic Lanczos quadrature.

mod density;
mod krylov;
mod lanczos;

pub use density::{Density, LogDensity, Quadrature, QuadratureOptions, quadrature};
pub use lanczos::{Eigenpairs, Lanczos, top_eigenpairs, top_eigenpairs_from};
