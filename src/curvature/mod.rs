//! Curvature: symmetric operators known by their products, and estimators with error bars.
//!
//! An estimator takes a [`&dyn Operator`](Operator) and knows nothing of models or adapters. It draws its probes from
//! (seed, number), so that any block size gives the same numbers, and answers with a value and its evidence.
//!
//! From the bottom: `operator` (matrices known by their products), `passes` (those of a model over examples), `trace`,
//! `spectrum` and `noise` (the estimators), and `estimate` (the procedure, which chooses among them and takes as many
//! examples, draws and probes as an error needs). All that is public in these is named here.
//!
//! ```
//! use lowland::curvature::{Dense, Hutchinson, Stopping, hutchinson};
//! let matrix = Dense::new(2, vec![3.0, 1.0, 1.0, 2.0])?;
//! let what = Hutchinson { stop: Stopping::after(400), ..Hutchinson::default() };
//! let trace = hutchinson(&matrix, &what, &mut |_| Ok(()))?;
//! assert!((trace.estimate - 5.0).abs() < 4.0 * trace.standard_error);
//! # Ok::<(), lowland::curvature::CurvatureError>(())
//! ```

mod error;
mod estimate;
mod estimator;
mod examples;
mod face;
mod flatness;
mod noise;
mod operator;
mod passes;
mod posterior;
mod refusal;
mod sharpness;
mod spectrum;
mod trace;

pub use error::CurvatureError;
pub use estimate::{
    Estimated, Parted, PlanError, ProbeTrace, Probing, Stage, TracePlan, TraceRequest, Watch, estimate,
    trace_by_probes, unseen,
};
pub use estimator::{CurvatureMatrix, Estimator, LabelSource, Named, Sampling, Unknown};
pub use examples::{Examples, LossNormaliser, Numbered, Scope, Setting};
pub use face::{Measure, TraceBuilder, unwatched};
pub use flatness::{
    BlockFlatness, EmbeddedTraces, Flatness, FlatnessOptions, GaugeSides, LeastGauge, LeastTrace, PieceTraces,
};
pub use noise::{
    Bartlett, BatchSharpness, Cluster, Comparison, ExampleTraces, GradientNoise, Gram, HessianTraces, MeanGradient,
    Noise, NoiseRequest, alignment, cluster_deviations, covariance_trace, deviations, gradient_noise,
    ratio_independent, ratio_paired, split_tokens,
};
pub use operator::{
    Block, Dense, Observe, Operator, ProbeKind, Probes, ProductSums, Progress, ScaledOperator, dot, norm, probe, probes,
};
pub use passes::{
    Chunks, Cotangent, DrawnGradients, DrawnRows, FlatnessPass, FormPass, Forms, GradientOperator, Gradients, GramPass,
    Matrix, ModelOperator, Moment, NormPass, ProductPass, ResidualPass, Subject, Term, VectorLayout, WeightedPass,
    divergence, uncertainty,
};
pub use posterior::{
    Chain, ChainOptions, Chains, Coefficient, CoefficientRequest, Conditioned, Doubt, LearningCoefficient, Mixing,
    ModelTarget, Point, Prior, Quadratic, SpectralSum, Target, learning_coefficient, sample,
};
pub use refusal::Refusal;
pub use sharpness::{
    CRITICAL_TOLERANCE, GROUPS, LossesAt, MovedLosses, NoCritical, NoiseScale, OptimizerState, Perturbation,
    PerturbationOptions, SharpnessAlong, SqrtDiagonal, critical_step, noise_curve,
};
pub use spectrum::{
    Density, Eigenpairs, Lanczos, LogDensity, Quadrature, QuadratureOptions, quadrature, top_eigenpairs,
    top_eigenpairs_from,
};
pub use trace::{
    Balanced, Conventions, ConventionsOptions, Design, Designed, DesignedTrace, Drawing, DrawnTrace, HutchPlusPlus,
    Hutchinson, LabelSplit, LabelSplitOptions, Norms, ProductTrace, Split, SplitTrace, Stopping, Trace, WordGroups,
    XTrace, XTraceReplicates, designed_trace, hutch_plus_plus, hutchinson, hutchinson_by_products, split_trace, xtrace,
    xtrace_replicates,
};
