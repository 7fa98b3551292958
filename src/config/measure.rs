//! The section `[measure]`: curvature along the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Per;
use crate::ops::{GroupDraw, LossDraw};

/// Curvature of the mean loss along the way, on held-out sentences that are the same at every measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeasureSection {
    /// Steps between measurements; there is one before the first step and one at the end in any case, and with 0 only
    /// these.
    pub every: u64,
    /// Write the ratios Tr Σ / Tr F and Tr H / Tr F (1 where the model is the language, by Bartlett's identities), for
    /// what is measured of `noise` and `hessian_trace`.
    pub bartlett: bool,
    /// Trace of the Fisher matrix F (equal to Gauss-Newton's): { estimator, sentences, draws, label_groups }.
    pub trace: TraceSection,
    /// Eigenvalues of the Hessian H of largest absolute value: { count, sentences, tolerance, products }. Left out:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<TopSection>,
    /// Gradient noise, the trace of its covariance Σ and the noise scale: { sentences, per }. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseSection>,
    /// Trace of the Hessian H by quadratic forms of random signs: { probes, sentences }. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_trace: Option<HessianTraceSection>,
    /// Scale-free trace, balanced trace and relative flatness, with the estimator and draws of `trace`: { sentences }.
    /// Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flatness: Option<FlatnessSection>,
    /// The rise of the loss under noise on the weights: { sigma, scale, draws, sentences }. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perturb: Option<PerturbSection>,
    /// Quadratic learning coefficient and logarithm of the volume, of the Fisher matrix in the coordinates of the block
    /// prior: { nbeta, gamma, sentences, probes, steps }. Left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSection>,
}

impl Default for MeasureSection {
    fn default() -> Self {
        MeasureSection {
            every: 500,
            bartlett: true,
            trace: TraceSection::default(),
            top: None,
            noise: None,
            hessian_trace: None,
            flatness: None,
            perturb: None,
            volume: None,
        }
    }
}

impl MeasureSection {
    /// Everything measured, each at its defaults.
    pub fn whole() -> MeasureSection {
        MeasureSection {
            top: Some(TopSection::default()),
            noise: Some(NoiseSection::default()),
            hessian_trace: Some(HessianTraceSection::default()),
            flatness: Some(FlatnessSection::default()),
            perturb: Some(PerturbSection::default()),
            volume: Some(VolumeSection::default()),
            ..MeasureSection::default()
        }
    }
}

/// The estimate of the trace of the Fisher matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSection {
    /// "random-signs", "sampled-labels" (the paper's) or "exact-labels".
    pub estimator: LossDraw,
    /// Held-out sentences.
    pub sentences: u32,
    /// Draws per sentence; with 2 or more the standard error has its two parts (draws and sentences).
    pub draws: u32,
    /// Also the trace in two parts, by this number of groups of words: of the noise in which group a label is in, and
    /// of that in which word of its group it is. Left out: the groups of `objective.labels` where that is { mix }.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_groups: Option<u32>,
}

impl Default for TraceSection {
    fn default() -> Self {
        TraceSection { estimator: LossDraw::Signs, sentences: 4096, draws: 1, label_groups: None }
    }
}

/// The eigenvalues of the Hessian that are sought.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopSection {
    /// Eigenvalues, largest absolute value first.
    pub count: u32,
    /// Number of held-out sentences; they are the first of the trace's.
    pub sentences: u32,
    /// Residual ‖Hv - λv‖ at which an eigenvalue counts as found, relative to |λ|.
    pub tolerance: f64,
    /// The most Hessian-vector products.
    pub products: u32,
    /// Begin at the eigenvectors of the measurement before: fewer products, and the same values to within the
    /// tolerance. The first one of a run, and of a run that is resumed, begins at random.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warm_start: bool,
}

impl Default for TopSection {
    fn default() -> Self {
        TopSection { count: 1, sentences: 256, tolerance: 1e-2, products: 100, warm_start: false }
    }
}

/// The measurement of gradient noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseSection {
    /// Number of held-out sentences, with the words that stood there as labels; they are the first of the trace's.
    pub sentences: u32,
    /// "example": of the gradients of sentences' summed losses. "token": of those of single predicted tokens; a
    /// sentence of T next words then takes about (T + 1) / 2 times as long.
    #[serde(skip_serializing_if = "Per::is_example")]
    pub per: Per,
}

impl Default for NoiseSection {
    fn default() -> Self {
        NoiseSection { sentences: 512, per: Per::Example }
    }
}

/// The estimate of the trace of the Hessian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HessianTraceSection {
    /// Vectors of random signs.
    pub probes: u32,
    /// Number of held-out sentences; they are the first of the trace's.
    pub sentences: u32,
}

impl Default for HessianTraceSection {
    fn default() -> Self {
        HessianTraceSection { probes: 8, sentences: 512 }
    }
}

/// The measures of flatness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlatnessSection {
    /// Number of held-out sentences; they are the first of the trace's.
    pub sentences: u32,
}

impl Default for FlatnessSection {
    fn default() -> Self {
        FlatnessSection { sentences: 512 }
    }
}

/// The noise on the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PerturbSection {
    /// Sizes of the noise; the tables and reports of sweeps show the rise at the last one.
    pub sigma: Vec<f64>,
    /// "tensor": the noise of a block is times its |w|. "plain": the same for all parameters.
    pub scale: NoiseUnit,
    /// Pairs of opposite noise.
    pub draws: u32,
    /// Number of held-out sentences; they are the first of the trace's, with their exact conditionals as labels where
    /// these are known.
    pub sentences: u32,
}

/// What the noise on a parameter is multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseUnit {
    /// |w| of its block.
    #[default]
    Tensor,
    /// 1.
    Plain,
}

impl Default for PerturbSection {
    fn default() -> Self {
        PerturbSection { sigma: vec![0.003, 0.01, 0.03], scale: NoiseUnit::Tensor, draws: 8, sentences: 256 }
    }
}

/// The quadratic coefficient and the volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeSection {
    /// Inverse temperature.
    pub nbeta: f64,
    /// How narrow the prior is.
    pub gamma: f64,
    /// Number of held-out sentences; they are the first of the trace's.
    pub sentences: u32,
    /// Probe vectors of the density.
    pub probes: u32,
    /// Lanczos steps of each of them.
    pub steps: u32,
}

impl Default for VolumeSection {
    fn default() -> Self {
        VolumeSection { nbeta: 1e4, gamma: 1e4, sentences: 256, probes: 4, steps: 30 }
    }
}

/// The most groups of words, beside the one of tokens that are no words.
pub(crate) const MOST_LABEL_GROUPS: u32 = GroupDraw::MOST - 1;

/// The most sentences: all stay in the host's memory.
const MOST: u32 = 1 << 20;

impl MeasureSection {
    /// Names what cannot be, with the key it stands at.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let within = |key: &str, value: u32, low: u32, high: u32| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err((format!("measure.{key}"), format!("{value} must lie in {low} to {high}"))),
        };
        // A standard error needs two of a kind, the jackknife of the noise three.
        within("trace.sentences", self.trace.sentences, 2, MOST)?;
        within("trace.draws", self.trace.draws, 1, 64)?;
        if let Some(groups) = self.trace.label_groups {
            within("trace.label_groups", groups, 2, MOST_LABEL_GROUPS)?;
        }
        if let Some(top) = &self.top {
            within("top.count", top.count, 1, 64)?;
            within("top.sentences", top.sentences, 2, MOST)?;
            within("top.products", top.products, 2 * top.count, 10_000)?;
            if !(top.tolerance > 0.0 && top.tolerance < 1.0) {
                return Err(("measure.top.tolerance".into(), format!("{} must lie between 0 and 1", top.tolerance)));
            }
        }
        if let Some(noise) = &self.noise {
            within("noise.sentences", noise.sentences, 3, MOST)?;
        }
        if let Some(hessian) = &self.hessian_trace {
            within("hessian_trace.probes", hessian.probes, 2, 4096)?;
            within("hessian_trace.sentences", hessian.sentences, 2, MOST)?;
        }
        if let Some(flatness) = &self.flatness {
            within("flatness.sentences", flatness.sentences, 2, MOST)?;
        }
        if let Some(perturb) = &self.perturb {
            within("perturb.sentences", perturb.sentences, 2, MOST)?;
            within("perturb.draws", perturb.draws, 2, 4096)?;
            let bad = |s: &f64| !(*s > 0.0 && s.is_finite());
            let wrong = match perturb.sigma.as_slice() {
                [] => Some("needs a size of the noise at least, as [0.01]".to_string()),
                all => all.iter().find(|s| bad(s)).map(|s| format!("{s} must be above 0")),
            };
            if let Some(message) = wrong {
                return Err(("measure.perturb.sigma".into(), message));
            }
        }
        if let Some(volume) = &self.volume {
            within("volume.sentences", volume.sentences, 2, MOST)?;
            within("volume.probes", volume.probes, 2, 4096)?;
            within("volume.steps", volume.steps, 1, 10_000)?;
            for (key, value) in [("nbeta", volume.nbeta), ("gamma", volume.gamma)] {
                if !(value > 0.0 && value.is_finite()) {
                    return Err((format!("measure.volume.{key}"), format!("{value} must be above 0")));
                }
            }
        }
        Ok(())
    }
}
