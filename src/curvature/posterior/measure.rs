//! The learning coefficient of a model: directions of large curvature for the steps, the quadratic coefficient beside
//! it, then the chains.

use super::chain::{ChainOptions, sample};
use super::coefficient::Coefficient;
use super::conditioned::Conditioned;
use super::model_target::ModelTarget;
use super::{Prior, Quadratic, Target as _};
use crate::curvature::{
    CurvatureError, Eigenpairs, Lanczos, Matrix, ModelOperator, Operator, QuadratureOptions, ScaledOperator, Stage,
    Subject, Watch, quadrature, top_eigenpairs,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoefficientRequest {
    /// Inverse temperature.
    pub nbeta: f64,
    /// What D of the prior's covariance D / γ is.
    pub prior: Prior,
    /// γ.
    pub gamma: f64,
    /// The chains.
    pub chains: ChainOptions,
    /// Eigenvectors of the Gauss-Newton matrix along which steps are made as long as the posterior is wide; they change
    /// how fast the chains mix and no expectation.
    pub directions: usize,
    /// Probes and steps of the density that λ_q is of; none where there are no probes.
    pub quadratic: Option<(usize, usize)>,
    /// Vectors at once.
    pub block: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct LearningCoefficient {
    /// From the chains.
    pub coefficient: Coefficient,
    /// What a quadratic loss would have, of the Gauss-Newton matrix.
    pub quadratic: Option<Quadratic>,
    /// Mean loss of the model: the excess over the truth's where every context brings its distribution.
    pub loss: f64,
    /// Parameters in blocks of zeros.
    pub frozen: usize,
    /// Directions that were found.
    pub directions: usize,
    /// What it cost, in gradients over the same contexts.
    pub gradient_equivalents: f64,
}

/// Measures the local learning coefficient over the contexts of a subject.
///
/// # Errors
/// An interrupt before a step was recorded; what is not finite; what the adapter says.
pub fn learning_coefficient(
    subject: &Subject,
    what: &CoefficientRequest,
    watch: Watch<'_>,
) -> Result<LearningCoefficient, CurvatureError> {
    watch(&Stage::Phase("the loss"))?;
    let scales = what.prior.scales(subject)?;
    let target = ModelTarget::new(subject, &scales, what.nbeta, what.gamma)?;
    let resolution = target.resolution(what.chains.seed)?;
    let ggn = ModelOperator::new(subject, Matrix::Ggn);
    let operator = ScaledOperator::new(&ggn, &scales)?;
    let mut cost = 17.0;
    let quadratic = match what.quadratic {
        None => None,
        Some((probes, steps)) => {
            let options =
                QuadratureOptions { seed: what.chains.seed, probes, steps, block: what.block, ..Default::default() };
            let found = quadrature(&operator, &options, &mut |progress| {
                watch(&Stage::Counted { what: "quadratic coefficient", unit: "product", progress })
            })?;
            cost += found.gradient_equivalents;
            if found.interrupted {
                return Err(CurvatureError::Interrupted);
            }
            found.quadratic(what.nbeta, what.gamma)
        }
    };
    let pairs = directions(&operator, what, target.size(), watch)?;
    let width = |curvature: f64| 1.0 / (what.nbeta * curvature.max(0.0) + what.gamma).sqrt();
    let mut directions: Vec<(Vec<f64>, f64)> = Vec::new();
    if let Some(pairs) = &pairs {
        cost += pairs.gradient_equivalents;
        let of = |v: &Vec<f32>| target.places().iter().map(|place| f64::from(v[*place])).collect();
        directions = pairs.vectors.iter().zip(&pairs.eigenvalues).map(|(v, h)| (of(v), width(*h))).collect();
    }
    let found = directions.len();
    let conditioned = Conditioned::new(&target, width(0.0), directions);
    let chains = sample(&conditioned, &what.chains, &mut |progress| {
        watch(&Stage::Counted { what: "learning coefficient", unit: "step", progress })
    })?;
    Ok(LearningCoefficient {
        coefficient: Coefficient::of(&chains, what.nbeta, resolution),
        quadratic,
        loss: target.loss(),
        frozen: scales.iter().filter(|s| **s == 0.0).count(),
        directions: found,
        gradient_equivalents: cost + chains.evaluations as f64,
    })
}

/// Eigenvectors of largest curvature; `None` where none are asked for.
fn directions(
    operator: &dyn Operator,
    what: &CoefficientRequest,
    size: usize,
    watch: Watch<'_>,
) -> Result<Option<Eigenpairs>, CurvatureError> {
    let top = what.directions.min(size);
    if top == 0 {
        return Ok(None);
    }
    // They need not be exact.
    let (products, seed) = ((3 * top + 20).max(2 * what.block), what.chains.seed);
    let lanczos = Lanczos { top, tolerance: 0.05, products, block: 2.min(what.block), seed };
    let pairs = top_eigenpairs(operator, &lanczos, &mut |progress| {
        watch(&Stage::Counted { what: "directions of large curvature", unit: "product", progress })
    })?;
    if pairs.interrupted { Err(CurvatureError::Interrupted) } else { Ok(Some(pairs)) }
}
