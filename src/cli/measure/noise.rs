//! `lowland measure noise`: gradient norms of examples or of single tokens, the noise covariance, the noise scale; with
//! `--bartlett` how noise and curvature go together.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Number, Session, check_figure, finite, print_report, write_figure};
use crate::cli::arguments::{Common, MeasureNoise};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{Comparison, Named, Noise, NoiseRequest, gradient_noise};
use crate::model::Per;
use crate::report::{Axis, Figure, Line};
use crate::statistics::Estimate;

/// What is printed under `--json`. g_i is the gradient of example i's loss, summed over its predicted positions, or
/// with `--per token` of the loss of one predicted token; n are all of these, ḡ their mean, Σ their covariance with n -
/// 1.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NoiseReport {
    /// Always `noise_covariance`.
    matrix: String,
    /// Where the labels come from: `data` or `model`.
    labels: String,
    /// What each gradient is of: `example` or `token`. Standard errors are over examples in either case.
    per: Per,
    /// Predicted tokens in an example: what a trace of the loss per predicted token (`measure trace`) is multiplied by
    /// to be one of an example's summed loss, as all traces here are per `example`. Per `token` they are of the loss
    /// per predicted token as they stand.
    tokens_per_example: f64,
    /// ‖g_i‖² of each example; per `token`, of each predicted token, in the order of the examples and their positions.
    per_example_squared_norm: Vec<f64>,
    /// ‖ḡ‖² as it is, with the bias Tr Σ / n of a population's. Null, as all that needs ḡ, where an interrupt came
    /// before it.
    mean_gradient_squared_norm: Option<f64>,
    /// Tr Σ.
    trace_covariance: Option<f64>,
    /// Jackknife over examples, each left out with all its gradients; null for fewer than 3.
    trace_covariance_standard_error: Option<f64>,
    /// ‖E g‖² from pairs of gradients of different examples, which per `example` is ‖ḡ‖² - Tr Σ / n: without bias,
    /// therefore at times negative near an optimum.
    gradient_squared_norm: Option<f64>,
    gradient_squared_norm_standard_error: Option<f64>,
    /// Tr Σ / `gradient_squared_norm`, in examples or in tokens; meaningless where that is not well above its error.
    noise_scale: Option<f64>,
    noise_scale_standard_error: Option<f64>,
    /// Of Σ, largest first, n - 1 of them; null where n is more than `--eigenvalues-up-to`, or after an interrupt.
    covariance_eigenvalues: Option<Vec<f64>>,
    /// With `--bartlett`.
    #[serde(skip_serializing_if = "Option::is_none")]
    bartlett: Option<BartlettReport>,
    #[serde(flatten)]
    evidence: Evidence,
}

/// Three traces over the same examples, all of an example's summed loss, or per `token` of a predicted token's, which
/// agree where the model's conditionals are the data's (Liu et al. 2023, Lemma 4.2), and how Σ and the Hessian lie to
/// each other.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Bartlett")]
struct BartlettReport {
    trace_covariance: Number,
    /// By random signs: Tr F of the loss per predicted token, per `example` times `tokens_per_example`.
    trace_fisher: Number,
    /// By probe vectors.
    trace_hessian: Number,
    /// Tr Σ / Tr F of the two above; with Tr F of the mean loss it is Tr Σ / (Tr F N / n) per `example`, Tr Σ / Tr F
    /// per `token`.
    covariance_over_fisher: Number,
    covariance_over_hessian: Number,
    hessian_over_fisher: Number,
    /// Tr(Σ H) / (‖Σ‖_F ‖H‖_F), 1 where the two are proportional; null where there are too few examples for ‖Σ‖_F.
    alignment: Option<f64>,
    /// Gradients whose (g_i - ḡ)ᵀ H (g_i - ḡ) gave Tr(Σ H).
    alignment_examples: usize,
}

pub(super) fn run<S>(open: S, arguments: &MeasureNoise) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    check_figure(arguments.out.as_deref())?;
    let session = open(common)?;
    let request = NoiseRequest {
        per: arguments.per,
        labels: arguments.labels,
        eigenvalues_up_to: arguments.eigenvalues_up_to as usize,
        bartlett: arguments.bartlett.then_some(arguments.samples as usize),
        seed: common.seed(),
    };
    let found = gradient_noise(&session.setting(common), &session.examples, &request, &mut |s| session.follow(s))?;
    let n = found.gradients;
    if n > request.eigenvalues_up_to {
        print::note(&format!("no covariance eigenvalues of {n} gradients: give --eigenvalues-up-to {n}"));
    }
    let of = |f: fn(&Noise) -> Estimate| (found.noise.as_ref().map(f).map(Number::from)).unwrap_or_default();
    let (covariance, gradient, scale) =
        (of(|n| n.trace_covariance), of(|n| n.gradient_squared_norm), of(|n| n.noise_scale));
    let report = NoiseReport {
        matrix: "noise_covariance".into(),
        labels: arguments.labels.to_string(),
        per: arguments.per,
        tokens_per_example: found.scope.tokens_per_example(),
        mean_gradient_squared_norm: found.mean_gradient_squared_norm,
        trace_covariance: covariance.value,
        trace_covariance_standard_error: covariance.standard_error,
        gradient_squared_norm: gradient.value,
        gradient_squared_norm_standard_error: gradient.standard_error,
        noise_scale: scale.value,
        noise_scale_standard_error: scale.standard_error,
        covariance_eigenvalues: found.covariance_eigenvalues,
        evidence: session.evidence(common, found.scope).ended(found.interrupted, true),
        per_example_squared_norm: found.squared_norms,
        bartlett: found.comparison.map(BartlettReport::from),
    };
    write_figure(arguments.out.as_deref(), || figure(&report))?;
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

impl From<Comparison> for BartlettReport {
    fn from(found: Comparison) -> BartlettReport {
        let number = |ratio: Option<Estimate>| ratio.map(Number::from).unwrap_or_default();
        BartlettReport {
            trace_covariance: found.trace_covariance.into(),
            trace_fisher: found.trace_fisher.into(),
            trace_hessian: found.trace_hessian.into(),
            covariance_over_fisher: number(found.ratios.covariance_over_fisher),
            covariance_over_hessian: number(found.ratios.covariance_over_hessian),
            hessian_over_fisher: number(found.ratios.hessian_over_fisher),
            alignment: found.alignment.and_then(finite),
            alignment_examples: found.alignment_gradients,
        }
    }
}

fn rows(report: &NoiseReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let known =
        |value: Option<f64>, error| value.map_or("unknown".to_string(), |value| print::with_error(value, error));
    let scale =
        report.noise_scale.map_or("undefined".into(), |s| print::with_error(s, report.noise_scale_standard_error));
    let signal = if report.per == Per::Example { "‖ḡ‖² - Tr Σ / n" } else { "‖ḡ‖² without bias" };
    let mut rows = vec![
        row("per", report.per.name().into()),
        row("Tr Σ", known(report.trace_covariance, report.trace_covariance_standard_error)),
        row("‖ḡ‖²", known(report.mean_gradient_squared_norm, None)),
        row(signal, known(report.gradient_squared_norm, report.gradient_squared_norm_standard_error)),
        row("noise scale", scale),
    ];
    if report.tokens_per_example > 1.0 {
        rows.push(row("tokens per example", print::short(report.tokens_per_example)));
    }
    if let Some(values) = &report.covariance_eigenvalues {
        let first: Vec<String> = values.iter().take(5).map(|v| print::short(*v)).collect();
        rows.push(row("eigenvalues of Σ", first.join(", ") + if values.len() > 5 { ", ..." } else { "" }));
    }
    if let Some(b) = &report.bartlett {
        rows.push(row("Tr F", b.trace_fisher.text()));
        rows.push(row("Tr H", b.trace_hessian.text()));
        rows.push(row("Tr Σ / Tr F", b.covariance_over_fisher.text()));
        rows.push(row("Tr Σ / Tr H", b.covariance_over_hessian.text()));
        rows.push(row("Tr H / Tr F", b.hessian_over_fisher.text()));
        rows.push(row("alignment of Σ, H", b.alignment.map_or("unknown".into(), print::short)));
    }
    let whose = if report.per == Per::Example { "examples" } else { "single tokens" };
    let matrix = format!("covariance of the gradients of {whose}, labels of the {}", report.labels);
    rows.extend(report.evidence.rows(&matrix));
    rows
}

fn figure(report: &NoiseReport) -> Figure {
    let (name, mut values) = match &report.covariance_eigenvalues {
        Some(values) => ("eigenvalue of Σ", values.clone()),
        None => ("‖g_i‖²", report.per_example_squared_norm.clone()),
    };
    values.sort_by(|a, b| b.total_cmp(a));
    let points = values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect();
    Figure {
        title: format!("gradient noise, labels of the {}", report.labels),
        x: "rank".into(),
        y: name.into(),
        axis: Axis::Log,
        lines: vec![Line::new(name, points)],
        level: None,
    }
}
