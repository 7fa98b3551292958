//! `lowland measure perturb`: the rise of the loss under noise on the weights, beside the trace that it begins with.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Session, finite, print_report};
use crate::cli::arguments::{Common, MeasurePerturb};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{Named, NoiseScale, Perturbation, PerturbationOptions, Progress, Scope};

/// What is printed under `--json`. An error is null where it cannot be told (a single draw).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PerturbReport {
    /// Always `hessian`: what `limit` and `trace` are of.
    matrix: String,
    /// `tensor`: the noise of a block is times its |w|; `plain`: the same for all.
    scale: String,
    /// Whose labels: `exact`, the language's own conditionals; `data`, those of the examples.
    labels: String,
    /// Pairs ±ε.
    draws: usize,
    /// Sizes of the noise, as they were given.
    sigma: Vec<f64>,
    /// E L(θ + σ s ε) - L(θ) at each, in nats.
    rise: Vec<f64>,
    rise_standard_error: Vec<Option<f64>>,
    /// 2 rise / σ² at the least σ.
    limit: f64,
    limit_standard_error: Option<f64>,
    /// Σ s² H_jj by quadratic forms of random signs: what `limit` comes to for σ → 0. Null where an interrupt came
    /// before it.
    trace: Option<f64>,
    trace_standard_error: Option<f64>,
    /// Probes of `trace`.
    samples: usize,
    /// What does not fit.
    notes: Vec<String>,
    #[serde(flatten)]
    evidence: Evidence,
}

pub(super) fn run<S>(open: S, arguments: &MeasurePerturb) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    if let Some(sigma) = arguments.sigma.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
        return Err(Failure::usage(format!("--sigma {sigma}: the size of the noise must be above 0, as 0.01")));
    }
    let session = open(common)?;
    let (sentences, exact) = session.exact_sentences()?;
    let subject = session.setting(common).subject(&sentences)?;
    let what = PerturbationOptions {
        sigmas: arguments.sigma.clone(),
        scale: arguments.scale,
        draws: arguments.draws as usize,
        seed: common.seed(),
        probes: arguments.samples as usize,
        block: common.probes as usize,
        target: session.target(),
    };
    let found = Perturbation::measure(&subject, &what, &mut |p: &Progress| session.watch("rise", "draw", p))?;
    let scope = Scope::of(&subject, what.target, found.gradient_equivalents);
    let evidence = session.evidence(common, scope).ended(found.interrupted, true);
    let report = report(&what, &found, exact, evidence);
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

/// Standard errors that the limit and the trace may be apart before a note says so.
const APART: f64 = 4.0;

fn report(what: &PerturbationOptions, found: &Perturbation, exact: bool, evidence: Evidence) -> PerturbReport {
    let mut notes = Vec::new();
    let trace = found.trace.as_ref();
    if let Some(trace) = trace {
        let error = trace.standard_error_probe.hypot(found.limit.standard_error);
        if (found.limit.value - trace.estimate).abs() > APART * error {
            notes.push(format!(
                "limit and trace are more than {APART} standard errors apart: at the least sigma the loss is not \
                quadratic any more, or its rise is lost in the rounding of single precision; give a smaller one, or a \
                larger one"
            ));
        }
    }
    if what.draws == 1 {
        notes.push("one draw tells no standard error; give more --draws".into());
    }
    PerturbReport {
        matrix: "hessian".into(),
        scale: what.scale.name().into(),
        labels: if exact { "exact" } else { "data" }.into(),
        draws: found.draws,
        sigma: what.sigmas.clone(),
        rise: found.rise.iter().map(|e| e.value).collect(),
        rise_standard_error: found.rise.iter().map(|e| finite(e.standard_error)).collect(),
        limit: found.limit.value,
        limit_standard_error: finite(found.limit.standard_error),
        trace: trace.map(|t| t.estimate),
        trace_standard_error: trace.and_then(|t| finite(t.standard_error)),
        samples: trace.map_or(0, |t| t.samples),
        notes,
        evidence,
    }
}

fn rows(report: &PerturbReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let scale = if report.scale == NoiseScale::Tensor.name() { "|w| of each block" } else { "1" };
    let values = report.rise.iter().zip(&report.rise_standard_error);
    let mut rows: Vec<(String, String)> = report
        .sigma
        .iter()
        .zip(values)
        .map(|(sigma, (rise, error))| (format!("rise at {}", print::short(*sigma)), print::with_error(*rise, *error)))
        .collect();
    rows.push(row("2 rise / sigma²", print::with_error(report.limit, report.limit_standard_error)));
    rows.push(row(
        "trace",
        report.trace.map_or("unknown".into(), |t| print::with_error(t, report.trace_standard_error)),
    ));
    rows.push(row("noise", format!("{} pairs, in units of {scale}", report.draws)));
    rows.push(row("labels", report.labels.clone()));
    rows.extend(report.notes.iter().map(|note| row("note", note.clone())));
    rows.extend(report.evidence.rows(&report.matrix));
    rows
}
