//! The procedure of gradient noise: norms, the mean gradient, inner products, and how noise and curvature go together.
//! `lowland measure noise` is a call of [`gradient_noise`] and prints what it gives.

use super::comparison::{Comparison, Known, compare};
use super::relabel::relabelled;
use super::{Cluster, Gram, MeanGradient, Noise, split_tokens};
use crate::curvature::error::unless_interrupted;
use crate::curvature::{
    CurvatureError, Examples, GramPass, Hutchinson, LabelSource, Matrix, Norms, PlanError, Scope, Setting, Stage,
    Stopping, Subject, Watch, norm,
};
use crate::interrupt;
use crate::model::Per;
use crate::ops::batch::Sentence;
use crate::statistics::Target;

/// What is asked about gradient noise.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseRequest {
    /// Of what each gradient is.
    pub per: Per,
    /// Labels of the gradients.
    pub labels: LabelSource,
    /// Largest number of gradients whose covariance's eigenvalues are computed.
    pub eigenvalues_up_to: usize,
    /// Probe vectors of the Hessian's trace, where noise and curvature are to be compared.
    pub bartlett: Option<usize>,
    /// Of labels, probes and draws.
    pub seed: u64,
}

impl Default for NoiseRequest {
    fn default() -> Self {
        NoiseRequest { per: Per::Example, labels: LabelSource::Data, eigenvalues_up_to: 512, bartlett: None, seed: 0 }
    }
}

/// Gradient noise over examples. The g_i are the gradients of the examples' losses, summed over their predicted tokens,
/// or of single predicted tokens; ḡ is their mean, Σ their covariance with n - 1. What an interrupt came before is
/// `None`.
#[derive(Clone, Debug)]
pub struct GradientNoise {
    /// n, the gradients that were to be measured; an interrupt may leave fewer.
    pub gradients: usize,
    /// ‖g_i‖² of each, in the order of examples and positions.
    pub squared_norms: Vec<f64>,
    /// ‖ḡ‖² as it is, with the bias Tr Σ / n of a population's.
    pub mean_gradient_squared_norm: Option<f64>,
    /// Its trace and scale, where there are examples enough.
    pub noise: Option<Noise>,
    /// Of Σ, largest first, n - 1 of them.
    pub covariance_eigenvalues: Option<Vec<f64>>,
    /// Where it was asked for.
    pub comparison: Option<Comparison>,
    /// What was measured.
    pub scope: Scope,
    /// Whether an interrupt ended it.
    pub interrupted: bool,
}

/// Measures gradient noise over all examples.
///
/// # Errors
/// Fewer than 2 examples, an interrupt before anything was measured, what is not finite, what the adapter says.
pub fn gradient_noise(
    setting: &Setting<'_>,
    examples: &Examples<'_>,
    request: &NoiseRequest,
    watch: Watch<'_>,
) -> Result<GradientNoise, CurvatureError> {
    watch(&Stage::Phase("examples"))?;
    let mut sentences = examples.all()?;
    if request.labels == LabelSource::Model {
        watch(&Stage::Phase("labels"))?;
        sentences = relabelled(setting, &sentences, request.seed)?;
    }
    let subject = setting.subject(&sentences)?;
    let singles = match request.per {
        Per::Token => Singles::new(setting, &sentences, watch)?,
        Per::Example => None,
    };
    // Its examples have a gradient each.
    let own = singles.as_ref().map_or(&subject, |singles| &singles.subject);
    let times = singles.as_ref().map_or(1.0, |singles| singles.times);
    let n = own.examples();
    if subject.examples() < 2 {
        return Err(PlanError::OneGradient.into());
    }
    let unit = if singles.is_some() { "token" } else { "example" };
    let norms = Norms::measure(own, &mut |progress| watch(&Stage::Counted { what: "gradient norms", unit, progress }))?;
    let mut cost = times * norms.gradient_equivalents;
    // Each part is there or was interrupted, and then so is all that follows.
    let sums = match (&singles, norms.interrupted) {
        (_, true) => None,
        (None, false) => Some(norms.squared.clone()),
        (Some(_), false) => {
            let sums = unless_interrupted(Norms::measure(&subject, &mut |progress| {
                watch(&Stage::Counted { what: "norms of sums", unit: "example", progress })
            }))?;
            cost += sums.as_ref().map_or(0.0, |sums| sums.gradient_equivalents);
            sums.filter(|sums| !sums.interrupted).map(|sums| sums.squared)
        }
    };
    watch(&Stage::Phase("mean gradient"))?;
    let mean = match (&sums, &singles) {
        (None, _) => None,
        (Some(_), None) => unless_interrupted(MeanGradient::measure(&subject, Matrix::Hessian))?,
        (Some(_), Some(_)) => unless_interrupted(MeanGradient::of_tokens(&subject, Matrix::Hessian))?,
    };
    let numbers = norms.squared.iter().chain(sums.iter().flatten()).chain(mean.iter().flat_map(|w| &w.slopes));
    if !numbers.into_iter().all(|x| x.is_finite()) {
        return Err(CurvatureError::NotFinite("a gradient's norm"));
    }
    let clusters = mean.as_ref().zip(sums.as_ref()).map(|(mean, sums)| match singles {
        Some(_) => mean.clusters(&subject, &norms.squared, sums),
        None => sums.iter().zip(&mean.slopes).map(|(square, slope)| Cluster::single(*square, *slope)).collect(),
    });
    let noise = clusters.as_ref().map(|clusters| Noise::of_clusters(clusters));
    cost += mean.as_ref().map_or(0.0, |mean| 1.0 + mean.form_cost);
    let wanted = n <= request.eigenvalues_up_to;
    watch(&Stage::Phase("inner products"))?;
    let gram = match wanted && mean.is_some() {
        true => unless_interrupted(setting.subject_in(&own.sentences, n).and_then(inner_products))?,
        false => None,
    };
    cost += gram.as_ref().map_or(0.0, |(_, cost)| times * *cost);
    let gram = gram.map(|(gram, _)| gram);
    watch(&Stage::Phase("eigenvalues"))?;
    let covariance_eigenvalues = match gram.clone() {
        Some(gram) => interrupt::or_stop(move || gram.covariance_eigenvalues()).ok(),
        None => None,
    };
    let comparison = match (&mean, &noise, &clusters, request.bartlett) {
        (Some(mean), Some(noise), Some(clusters), Some(samples)) => {
            let known = Known { clusters, mean: &mean.gradient, gram: gram.as_ref(), noise, single: own };
            let what = Hutchinson {
                stop: Stopping::after(samples).not_before(16),
                seed: request.seed,
                block: setting.chunks.probes as usize,
                target: Target::Population,
                ..Hutchinson::default()
            };
            unless_interrupted(compare(&subject, &known, &what, watch))?
        }
        _ => None,
    };
    cost += comparison.as_ref().map_or(0.0, |c| c.gradient_equivalents);
    let scope = Scope::of(&subject, Target::Population, cost).of_sums(request.per == Per::Example);
    Ok(GradientNoise {
        gradients: n,
        mean_gradient_squared_norm: mean.as_ref().map(|mean| norm(&mean.gradient).powi(2)),
        interrupted: noise.is_none()
            || wanted && covariance_eigenvalues.is_none()
            || request.bartlett.is_some() && comparison.is_none(),
        scope: begun(scope, &subject, singles.is_some(), norms.squared.len()),
        squared_norms: norms.squared,
        noise,
        covariance_eigenvalues,
        comparison,
    })
}

/// Examples of one predicted token each, and the passes over them.
struct Singles {
    subject: Subject,
    /// How many times the tokens of the examples that they come from.
    times: f64,
}

impl Singles {
    /// `None` where the examples have one predicted token each as they are.
    fn new(setting: &Setting<'_>, sentences: &[Sentence], watch: Watch<'_>) -> Result<Option<Singles>, CurvatureError> {
        let Some((count, singles)) = split_tokens(sentences, setting.model.encoder.config.reach())? else {
            return Ok(None);
        };
        watch(&Stage::Tokens(count))?;
        Ok(Some(Singles { subject: setting.subject(&singles)?, times: count.times() }))
    }
}

/// The scope of the examples that the first gradients come from.
fn begun(scope: Scope, subject: &Subject, tokens: bool, gradients: usize) -> Scope {
    if !tokens {
        return scope.of_first(subject, gradients);
    }
    let mut left = gradients;
    let mut begun = |m: &usize| {
        let some = left > 0;
        left = left.saturating_sub(*m);
        some
    };
    let examples = subject.masked().iter().take_while(|m| begun(m)).count();
    Scope { examples, masked: gradients, ..scope }
}

/// g_i · g_j of examples in one batch, and the cost.
fn inner_products(together: Subject) -> Result<(Gram, f64), CurvatureError> {
    let pass = GramPass::new(&together)?;
    Ok((pass.run(&together)?, pass.cost(&together)))
}
