//! What a measurement along the way found.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::curvature::{Bartlett, LossNormaliser};
use crate::model::Per;
use crate::statistics::Estimate;

/// A measurement; also a line of `metrics.jsonl` and, of the last one, `curvature` in `result.json`. Errors are
/// standard errors for the language as a population; what was not measured, or is not known, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// Steps that were taken before it.
    pub step: u64,
    /// What the loss of the traces of F and H and of the eigenvalues is the mean over; of the noise, see `noise_per`.
    #[serde(default)]
    pub loss_normaliser: LossNormaliser,
    /// Predicted tokens in a sentence, N / n, where those are several: Bartlett's ratio is Tr Σ / (Tr F N / n), and
    /// with noise per token Tr Σ / Tr F.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_example: Option<f64>,
    /// Tr F of the mean loss, equal to Gauss-Newton's trace.
    pub fisher_trace: f64,
    /// Of `fisher_trace`, of draws and sentences together.
    pub fisher_trace_standard_error: f64,
    /// Of the draws: what is left when the sentences are given. Known with two draws a sentence or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher_trace_standard_error_probe: Option<f64>,
    /// Of the choice of sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fisher_trace_standard_error_data: Option<f64>,
    /// The part of `fisher_trace` that is of the noise in which group of words a label is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_between: Option<f64>,
    /// Of draws and sentences together, as of the one below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_between_standard_error: Option<f64>,
    /// The part of the noise in which word of its group a label is; with draws of their own the two add to
    /// `fisher_trace` within their errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_within: Option<f64>,
    /// As of the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_within_standard_error: Option<f64>,
    /// Tr H.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_trace: Option<f64>,
    /// Of probes and sentences together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_trace_standard_error: Option<f64>,
    /// Of the probes: what is left when the sentences are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_trace_standard_error_probe: Option<f64>,
    /// Of the choice of sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_trace_standard_error_data: Option<f64>,
    /// The eigenvalue of H of largest absolute value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_eigenvalue: Option<f64>,
    /// Of the choice of sentences, to first order: the scatter of vᵀH_i v for the eigenvector v.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_eigenvalue_standard_error: Option<f64>,
    /// ‖Hv - λv‖ with ‖v‖ = 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eigenvalue_residual: Option<f64>,
    /// Whether the residual is within the tolerance that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eigenvalue_converged: Option<bool>,
    /// Products that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eigenvalue_products: Option<u64>,
    /// Whether the search began at the eigenvectors of the measurement before; with `top.warm_start` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eigenvalue_warm_start: Option<bool>,
    /// All that were asked for, where that is more than one; largest absolute value first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eigenvalues: Vec<f64>,
    /// ‖Hv - λv‖ of each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub eigenvalue_residuals: Vec<f64>,
    /// What the gradients of the noise are of: sentences' losses, summed over their predicted tokens, or single
    /// predicted tokens' losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_per: Option<Per>,
    /// Tr Σ of those gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_trace: Option<f64>,
    /// By the jackknife over sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_trace_standard_error: Option<f64>,
    /// ‖E g‖² without bias, at times below 0 near an optimum; the noise scale's denominator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_squared_norm: Option<f64>,
    /// By the jackknife over sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_squared_norm_standard_error: Option<f64>,
    /// Tr Σ / ‖E g‖², in sentences or tokens as `noise_per` says; meaningless where the denominator is not well above
    /// its error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_scale: Option<f64>,
    /// By the jackknife over sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_scale_standard_error: Option<f64>,
    /// Σ |w|² T over blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_free_trace: Option<f64>,
    /// Of draws and sentences together, as of the two below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_free_trace_standard_error: Option<f64>,
    /// The least trace over the scale of the tables; absent where there is no such gauge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_trace: Option<f64>,
    /// As of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_trace_standard_error: Option<f64>,
    /// The same over all scalar gauges together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_trace_all: Option<f64>,
    /// As of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balanced_trace_all_standard_error: Option<f64>,
    /// Σ over linear layers of E ‖Wᵀ G‖²; absent where layers are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_flatness: Option<f64>,
    /// As of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_flatness_standard_error: Option<f64>,
    /// Both sides of every gauge, with `flatness`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_gauge: Vec<Sides>,
    /// Sizes of the noise on the weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perturb_sigma: Vec<f64>,
    /// E L(θ + σ s ε) - L(θ) at each of them, in nats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perturb_rise: Vec<f64>,
    /// Of draws and sentences together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perturb_rise_standard_error: Vec<f64>,
    /// ½ Σ nβ h / (nβ h + γ) over the eigenvalues of the Fisher matrix in the coordinates of the block prior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_q: Option<f64>,
    /// Over the probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda_q_standard_error: Option<f64>,
    /// ½ Σ ln(1 + nβ h / γ), in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_volume: Option<f64>,
    /// Over the probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_volume_standard_error: Option<f64>,
    /// Tr Σ / Tr F and Tr H / Tr F, which are 1 where the model is the truth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bartlett: Option<Ratios>,
    /// Seconds that this measurement took.
    pub measure_seconds: f64,
    /// Of them those of each part, by its key in the config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub part_seconds: BTreeMap<String, f64>,
}

/// What a gauge multiplies beside what it divides: whose difference of traces moves that of their norms in training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sides {
    /// `tables`, `query_key.0`.
    pub gauge: String,
    /// |A|² - |C|² of the parameters that are multiplied and divided.
    pub norms_apart: f64,
    /// T_A - T_C of the Fisher matrix.
    pub traces_apart: f64,
    /// Of draws and sentences together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces_apart_standard_error: Option<f64>,
}

/// Traces over the Fisher matrix's, from the same sentences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Bartlett")]
pub struct Ratios {
    /// Tr Σ / Tr F, both of sentences' summed losses, or of single tokens' losses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_fisher: Option<f64>,
    /// By the jackknife over sentences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_fisher_standard_error: Option<f64>,
    /// Tr H / Tr F.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_fisher: Option<f64>,
    /// Of the choice of sentences, by the jackknife, and of the probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hessian_fisher_standard_error: Option<f64>,
}

impl From<Bartlett> for Ratios {
    fn from(ratios: Bartlett) -> Ratios {
        let [noise, hessian] = [ratios.covariance_over_fisher, ratios.hessian_over_fisher];
        let (noise_fisher, noise_fisher_standard_error) = noise.as_ref().map_or((None, None), both);
        let (hessian_fisher, hessian_fisher_standard_error) = hessian.as_ref().map_or((None, None), both);
        Ratios { noise_fisher, noise_fisher_standard_error, hessian_fisher, hessian_fisher_standard_error }
    }
}

/// A number that is one.
pub(super) fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// A value and its standard error.
pub(super) fn both(e: &Estimate) -> (Option<f64>, Option<f64>) {
    (known(e.value), known(e.standard_error))
}

impl Measurement {
    /// The rise of the loss at the last size of the noise, with its error.
    pub fn last_rise(&self) -> Option<(f64, f64)> {
        Some((*self.perturb_rise.last()?, *self.perturb_rise_standard_error.last()?))
    }

    /// What TensorBoard shows, by tag.
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        let bartlett = self.bartlett.clone().unwrap_or_default();
        let all = [
            ("curvature/fisher_trace", Some(self.fisher_trace)),
            ("curvature/trace_between", self.trace_between),
            ("curvature/trace_within", self.trace_within),
            ("curvature/hessian_trace", self.hessian_trace),
            ("curvature/largest_eigenvalue", self.largest_eigenvalue),
            ("curvature/scale_free_trace", self.scale_free_trace),
            ("curvature/balanced_trace", self.balanced_trace),
            ("curvature/relative_flatness", self.relative_flatness),
            ("curvature/perturb_rise", self.last_rise().map(|rise| rise.0)),
            ("curvature/lambda_q", self.lambda_q),
            ("curvature/log_volume", self.log_volume),
            ("curvature/noise_trace", self.noise_trace),
            ("curvature/noise_scale", self.noise_scale),
            ("curvature/noise_fisher", bartlett.noise_fisher),
            ("curvature/hessian_fisher", bartlett.hessian_fisher),
        ];
        all.into_iter().filter_map(|(tag, value)| Some((tag, value?))).collect()
    }

    /// A line for people.
    pub fn text(&self) -> String {
        let one = |name: &str, value: Option<f64>, error: Option<f64>| match (value, error) {
            (Some(v), Some(e)) => format!(", {name} {v:.3} ± {e:.3}"),
            _ => String::new(),
        };
        format!(
            "step {}: Fisher trace {:.3} ± {:.3}{}{}{}{}{}{}{}{}{} ({:.1} s)",
            self.step,
            self.fisher_trace,
            self.fisher_trace_standard_error,
            one("between groups", self.trace_between, self.trace_between_standard_error),
            one("within", self.trace_within, self.trace_within_standard_error),
            one("Hessian trace", self.hessian_trace, self.hessian_trace_standard_error),
            one("largest eigenvalue", self.largest_eigenvalue, self.largest_eigenvalue_standard_error),
            one("noise trace", self.noise_trace, self.noise_trace_standard_error),
            one("scale-free trace", self.scale_free_trace, self.scale_free_trace_standard_error),
            one("relative flatness", self.relative_flatness, self.relative_flatness_standard_error),
            one("rise", self.last_rise().map(|rise| rise.0), self.last_rise().map(|rise| rise.1)),
            one("log volume", self.log_volume, self.log_volume_standard_error),
            self.measure_seconds
        )
    }
}
