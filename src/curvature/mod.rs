//! Curvature: symmetric operators known by their products, and estimators with error bars.
//!
//! An estimator takes a [`&dyn Operator`](Operator) and knows nothing of models or adapters. It draws its probes from
//! (seed, number), so that any block size gives the same numbers, and answers with a value and its evidence.
//!
//! ```
//! use lowland::curvature::{Dense, Hutchinson, hutchinson};
//! let matrix = Dense::new(2, vec![3.0, 1.0, 1.0, 2.0])?;
//! let trace = hutchinson(&matrix, &Hutchinson { samples: 400, ..Hutchinson::default() }, &mut |_| Ok(()))?;
//! assert!((trace.estimate - 5.0).abs() < 4.0 * trace.standard_error);
//! # Ok::<(), lowland::curvature::CurvatureError>(())
//! ```

mod conventions;
mod dense;
mod density;
mod designed;
mod draws;
mod error;
mod estimator;
mod face;
mod frame;
mod gradient_operator;
mod gradients;
mod hutchinson;
mod hutchpp;
mod krylov;
mod layout;
mod loops;
mod model_operator;
mod noise;
mod norm_passes;
mod operator;
mod passes;
mod probe;
mod product_trace;
mod sharpness;
mod shown;
mod spectrum;
mod subject;
mod trace;
mod untouched;
mod vector;
mod weighted_pass;
mod xtrace;
mod xtrace_replicates;

pub use conventions::{Balanced, Conventions, ConventionsOptions};
pub use dense::Dense;
pub use density::{Density, LogDensity, Quadrature, QuadratureOptions, quadrature};
pub use designed::{Designed, DesignedTrace, Population, Sampling, designed_trace};
pub use draws::{Drawing, DrawnTrace, Norms};
pub use error::CurvatureError;
pub use estimator::{CurvatureMatrix, Estimator, Named, Unknown};
pub use face::{Measure, TraceBuilder, unwatched};
pub use frame::uncertainty;
pub use gradient_operator::{GradientOperator, Moment};
pub use gradients::Gradients;
pub use hutchinson::{Hutchinson, hutchinson};
pub use hutchpp::{HutchPlusPlus, hutch_plus_plus};
pub use layout::VectorLayout;
pub use model_operator::ModelOperator;
pub use noise::{Gram, Noise, alignment, covariance_trace, deviations, ratio_independent, ratio_paired};
pub use norm_passes::{Cotangent, GramPass, NormPass};
pub use operator::{Observe, Operator, Progress};
pub use passes::{FormPass, Forms, Matrix, ProductPass};
pub use probe::{ProbeKind, probe, probes};
pub use product_trace::{ProductTrace, hutchinson_by_products};
pub use sharpness::BatchSharpness;
pub use spectrum::{Eigenpairs, Lanczos, top_eigenpairs};
pub use subject::{Chunks, Subject};
pub use trace::Trace;
pub use vector::{dot, norm};
pub use weighted_pass::WeightedPass;
pub use xtrace::{XTrace, xtrace};
pub use xtrace_replicates::{XTraceReplicates, xtrace_replicates};
