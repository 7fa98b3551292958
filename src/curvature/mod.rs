//! Curvature: symmetric operators known by their products, and estimators with error bars.
//!
//! An estimator takes a [`&dyn Operator`](Operator) and knows nothing of models or adapters. It draws its probes from
//! (seed, number), so that any block size gives the same numbers, and answers with a value and its evidence.
//!
//! The rooms: `operator` (matrices known by their products), `passes` (those of a model over examples), `trace`, `spectrum`
//! and `noise` (the estimators). All that is public in them is named here.
//!
//! ```
//! use lowland::curvature::{Dense, Hutchinson, hutchinson};
//! let matrix = Dense::new(2, vec![3.0, 1.0, 1.0, 2.0])?;
//! let trace = hutchinson(&matrix, &Hutchinson { samples: 400, ..Hutchinson::default() }, &mut |_| Ok(()))?;
//! assert!((trace.estimate - 5.0).abs() < 4.0 * trace.standard_error);
//! # Ok::<(), lowland::curvature::CurvatureError>(())
//! ```

mod error;
mod estimator;
mod face;
mod noise;
mod operator;
mod passes;
mod spectrum;
mod trace;

pub use error::CurvatureError;
pub use estimator::{CurvatureMatrix, Estimator, Named, Unknown};
pub use face::{Measure, TraceBuilder, unwatched};
pub use noise::{
    BatchSharpness, Gram, Noise, alignment, covariance_trace, deviations, ratio_independent, ratio_paired,
};
pub use operator::{Dense, Observe, Operator, ProbeKind, Progress, dot, norm, probe, probes};
pub use passes::{
    Chunks, Cotangent, FormPass, Forms, GradientOperator, Gradients, GramPass, Matrix, ModelOperator, Moment, NormPass,
    ProductPass, Subject, VectorLayout, WeightedPass, uncertainty,
};
pub use spectrum::{
    Density, Eigenpairs, Lanczos, LogDensity, Quadrature, QuadratureOptions, quadrature, top_eigenpairs,
};
pub use trace::{
    Designed, DesignedTrace, Drawing, DrawnTrace, HutchPlusPlus, Hutchinson, Norms, Population, ProductTrace, Sampling,
    Trace, XTrace, XTraceReplicates, designed_trace, hutch_plus_plus, hutchinson, hutchinson_by_products, xtrace,
    xtrace_replicates,
};
