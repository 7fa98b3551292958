//! The short way: what a matrix is asked for, with the defaults of the command line. Everything here is a call of a
//! procedure of this room, with nobody watching.
//!
//! ```no_run
//! use lowland::prelude::*;
//! let device = Device::from_env()?;
//! let model = Model::load(&device, "runs/quickstart/model")?;
//! let loss = model.over(&model.read_examples("held_out.jsonl")?)?;
//! println!("{}", loss.hessian().trace().relative_error(0.01)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::operator::apply;
use super::{
    Chunks, CurvatureError, Eigenpairs, Estimator, GradientOperator, Lanczos, Matrix, ModelOperator, Moment, Operator,
    ProbeKind, Probing, Progress, Quadrature, QuadratureOptions, Refusal, Subject, Trace, quadrature, top_eigenpairs,
    trace_by_probes,
};
use crate::model::Model;
use crate::ops::batch::Sentence;
use crate::statistics::Target;

/// An observer that lets an estimator run to its end.
///
/// # Errors
/// Never.
pub fn unwatched(_: &Progress) -> Result<(), CurvatureError> {
    Ok(())
}

impl Model {
    /// The mean loss over examples, ready to be measured, with all parameters taking part. [`Subject::new`] takes some
    /// of the parameters, and other batches.
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn over(&self, examples: &[Sentence]) -> Result<Subject, CurvatureError> {
        Subject::new(self, examples, &[], &Chunks::default())
    }
}

impl Subject {
    /// The Hessian of the mean loss per masked position.
    pub fn hessian(&self) -> ModelOperator<'_> {
        ModelOperator::new(self, Matrix::Hessian)
    }

    /// The Gauss-Newton matrix of the same, which equals the Fisher matrix.
    pub fn gauss_newton(&self) -> ModelOperator<'_> {
        ModelOperator::new(self, Matrix::Ggn)
    }

    /// The covariance of per-example gradients.
    ///
    /// # Errors
    /// Fewer than 2 examples.
    pub fn noise_covariance(&self) -> Result<GradientOperator<'_>, CurvatureError> {
        GradientOperator::new(self, Moment::NoiseCovariance)
    }
}

/// What any symmetric operator can be asked for: one of a model, or one of your own.
///
/// ```
/// use lowland::prelude::*;
/// let matrix = Dense::new(2, vec![3.0, 1.0, 1.0, 2.0])?;
/// assert_eq!(matrix.times(&[1.0, 0.0])?, [3.0, 1.0]);
/// assert!((matrix.top(1)?.eigenvalues[0] - 3.618).abs() < 1e-3);
/// println!("{}", matrix.trace().relative_error(0.05)?);
/// # Ok::<(), lowland::curvature::CurvatureError>(())
/// ```
pub trait Measure: Operator + Sized {
    /// The trace by quadratic forms, once it is said how well or with how many probes.
    fn trace(&self) -> TraceBuilder<'_> {
        TraceBuilder { operator: self, what: Probing::default(), target: Target::TheseExamples }
    }

    /// A v, shape `[N]`. For many vectors [`Operator::apply`] takes a block.
    ///
    /// # Errors
    /// A vector of another size, and as [`Operator::apply`].
    fn times(&self, v: &[f32]) -> Result<Vec<f32>, CurvatureError> {
        if v.len() != self.size() {
            let (has, wanted) = (v.len(), self.size());
            return Err(Refusal::VectorSize { has, wanted }.into());
        }
        Ok(apply(self, &[v.to_vec()])?.swap_remove(0))
    }

    /// The `count` eigenvalues of largest absolute value with their vectors, by block Lanczos.
    ///
    /// # Errors
    /// As [`top_eigenpairs`].
    fn top(&self, count: usize) -> Result<Eigenpairs, CurvatureError> {
        let what = Lanczos { top: count, ..Lanczos::default() };
        top_eigenpairs(self, &Lanczos { products: what.products.max(20 * count), ..what }, &mut unwatched)
    }

    /// The whole spectrum as the nodes of 8 probes' Lanczos quadratures; [`Quadrature::density`] makes it a curve.
    ///
    /// # Errors
    /// As [`quadrature`].
    fn spectrum(&self) -> Result<Quadrature, CurvatureError> {
        quadrature(self, &QuadratureOptions::default(), &mut unwatched)
    }
}

impl<O: Operator> Measure for O {}

/// A trace that is being asked for: the procedure of `lowland measure trace`, which gives the same numbers for the same
/// settings.
#[must_use = "a trace is taken by `relative_error` or `probes`"]
pub struct TraceBuilder<'o> {
    operator: &'o dyn Operator,
    what: Probing,
    target: Target,
}

impl TraceBuilder<'_> {
    /// Takes the examples as a sample of what they came from, so that their choice is part of the error.
    pub fn of_population(mut self) -> Self {
        self.target = Target::Population;
        self
    }

    /// Takes another estimator than quadratic forms; one of those with probe vectors.
    pub fn by(mut self, estimator: Estimator) -> Self {
        self.what.estimator = estimator;
        self
    }

    /// Takes Gaussian probes instead of signs: they scatter more, and tell ‖A‖_F.
    pub fn gaussian(mut self) -> Self {
        self.what.kind = Some(ProbeKind::Gaussian);
        self
    }

    /// Draws other probes.
    pub fn seed(mut self, seed: u64) -> Self {
        self.what.seed = seed;
        self
    }

    /// Takes at least this many probes before it looks at the error, 16 if nothing is said.
    pub fn at_least(mut self, minimum: usize) -> Self {
        self.what.minimum = Some(minimum);
        self
    }

    /// Stops at `most` probes, 8192 if nothing is said, also where the error is larger than asked for.
    pub fn at_most(mut self, most: usize) -> Self {
        self.what.most = Some(most);
        self
    }

    /// Estimates until the standard error is at most `share` of the estimate; [`Trace::reached`] says whether it is.
    ///
    /// # Errors
    /// As [`trace_by_probes`].
    pub fn relative_error(mut self, share: f64) -> Result<Trace, CurvatureError> {
        self.what.rel_error = Some(share);
        self.run()
    }

    /// Estimates with exactly this number of probes, at least 2.
    ///
    /// # Errors
    /// As [`trace_by_probes`].
    pub fn probes(mut self, count: usize) -> Result<Trace, CurvatureError> {
        self.what.most = Some(count);
        self.run()
    }

    fn run(self) -> Result<Trace, CurvatureError> {
        Ok(trace_by_probes(self.operator, &[], &self.what, self.target, &mut unwatched)?.trace)
    }
}
