//! `lowland measure trace`: the trace of a matrix, by the estimator that suits it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Number, Session, check_figure, finite, print_report, write_figure};
use crate::cli::arguments::{Common, MeasureTrace};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{Estimated, Estimator, PlanError, Trace, TracePlan, TraceRequest, estimate};
use crate::model::Encoder;
use crate::report::{Axis, Figure, Line};
use crate::statistics::Estimate;

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TraceReport {
    matrix: String,
    estimator: String,
    trace: f64,
    /// √(probe² + data²); null where it cannot be told (a single sample).
    standard_error: Option<f64>,
    /// Of the probes or draws: what is left when the examples are given. Null where it cannot be told from the data
    /// part.
    standard_error_probe: Option<f64>,
    /// Of the choice of examples; 0 where they are the target.
    standard_error_data: Option<f64>,
    /// Pairs of example and draw, labels enumerated, or probe vectors.
    samples: usize,
    /// Draws an example; null for estimators that draw none.
    draws: Option<usize>,
    /// How sentences were chosen: `uniform`, `stratified` or `importance`.
    sentences: String,
    /// Sentences of the frame that those measured were drawn from; null where there is none.
    frame: Option<usize>,
    /// Distribution of the probe vectors; null for estimators without.
    probe: Option<String>,
    /// Tr F, the part by signs of `signs-and-residual`; null for other estimators.
    fisher_trace: Option<Number>,
    /// Tr(H - F), its other part.
    residual_trace: Option<Number>,
    /// Sentences that the other part was measured on.
    residual_sentences: Option<usize>,
    /// Sentences of the frame that those were drawn from; null where all examples are measured.
    residual_frame: Option<usize>,
    /// Probe vectors of each of them.
    residual_probes: Option<usize>,
    /// The relative error that was asked for.
    rel_error: Option<f64>,
    /// ‖A‖_F², where the estimator tells it.
    squared_norm: Option<f64>,
    /// (Tr A)² / ‖A‖_F²: K Gaussian probes have a relative error of √(2 / (K r_eff)).
    r_eff: Option<f64>,
    /// Trace of each tensor's own block; null where the estimator sees only sums over all of them.
    #[schemars(with = "Option<BTreeMap<String, f64>>")]
    per_tensor: Option<serde_json::Map<String, serde_json::Value>>,
    /// Standard errors of `per_tensor` over the probes, where known.
    #[schemars(with = "Option<BTreeMap<String, f64>>")]
    per_tensor_standard_error: Option<serde_json::Map<String, serde_json::Value>>,
    /// Sums of `per_tensor` over embeddings, layers and the head.
    #[schemars(with = "Option<BTreeMap<String, f64>>")]
    per_layer: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(flatten)]
    evidence: Evidence,
}

pub(super) fn run<S>(open: S, arguments: &MeasureTrace) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    let plan = request(arguments).plan()?;
    check_figure(arguments.out.as_deref())?;
    let session = open(common)?;
    if plan.estimator == Estimator::Xtrace && common.on.as_sample {
        return Err(PlanError::XTraceSample.into());
    }
    let found = estimate(&session.setting(common), &session.examples, &plan, &mut |s| session.follow(s))?;
    let trace = &found.trace;
    let evidence = session.evidence(common, found.scope.clone()).ended(trace.interrupted, trace.reached);
    if let Some(rel_error) = plan.request.rel_error.filter(|_| !trace.reached && !trace.interrupted) {
        print::note(&format!("the relative error {rel_error} was not reached: {}", advice(trace, rel_error)));
    }
    write_figure(arguments.out.as_deref(), || figure(&plan, trace))?;
    let report = report(&plan, &session.model.encoder, &found, evidence);
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

fn request(a: &MeasureTrace) -> TraceRequest {
    TraceRequest {
        estimator: a.estimator,
        matrix: a.matrix,
        rel_error: a.rel_error,
        samples: a.samples,
        minimum: a.minimum.map(|m| m as usize),
        draws: a.draws.map(|d| d as usize),
        sentences: a.sentences,
        probe: a.probe,
        seed: a.common.seed(),
    }
}

fn advice(trace: &Trace, rel_error: f64) -> String {
    let data = trace.standard_error_data;
    match data >= rel_error * trace.estimate.abs() {
        true => format!("the choice of examples alone leaves {}; give more examples (--count)", print::short(data)),
        false => "give more --samples".into(),
    }
}

fn report(plan: &TracePlan, encoder: &Encoder, found: &Estimated, evidence: Evidence) -> TraceReport {
    let trace = &found.trace;
    let map = |values: Vec<(String, f64)>| values.into_iter().map(|(n, v)| (n, serde_json::json!(v))).collect();
    let tensors = found.per_tensor.as_ref();
    let of = |f: fn(&Estimate) -> f64| tensors.map(|t| t.iter().map(|(n, e)| (n.clone(), f(e))).collect::<Vec<_>>());
    let errors = of(|e| e.standard_error).filter(|e| e.iter().all(|(_, e)| e.is_finite()));
    TraceReport {
        matrix: plan.matrix.to_string(),
        estimator: plan.estimator.to_string(),
        trace: trace.estimate,
        standard_error: finite(trace.standard_error),
        standard_error_probe: finite(trace.standard_error_probe),
        standard_error_data: finite(trace.standard_error_data),
        samples: trace.samples,
        draws: found.draws,
        sentences: plan.request.sentences.to_string(),
        frame: found.frame,
        probe: found.probe.map(|k| k.to_string()),
        fisher_trace: found.parts.map(|p| p.fisher.into()),
        residual_trace: found.parts.map(|p| p.residual.into()),
        residual_sentences: found.parts.map(|p| p.sentences),
        residual_frame: found.parts.and_then(|p| p.frame),
        residual_probes: found.parts.map(|p| p.vectors),
        rel_error: plan.request.rel_error,
        squared_norm: trace.squared_norm.and_then(finite),
        r_eff: trace.r_eff.and_then(finite),
        per_layer: found.per_layer(encoder).map(map),
        per_tensor: of(|e| e.value).map(map),
        per_tensor_standard_error: errors.map(map),
        evidence,
    }
}

fn rows(report: &TraceReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let part = |e: Option<f64>| e.map_or("unknown".into(), print::short);
    let parts = (part(report.standard_error_probe), part(report.standard_error_data));
    let draws = report.draws.map_or(String::new(), |d| format!(", {d} draws an example"));
    let probe = report.probe.as_ref().map_or(String::new(), |p| format!(", {p} probes"));
    let mut rows = vec![
        row("trace", print::with_error(report.trace, report.standard_error)),
        row("its error", format!("{} by probes or draws, {} by the choice of examples", parts.0, parts.1)),
        row("estimator", format!("{}, {} samples{draws}{probe}", report.estimator, report.samples)),
    ];
    if let (Some(fisher), Some(residual)) = (report.fisher_trace, report.residual_trace) {
        rows.push(row("Tr F", fisher.text()));
        let [sentences, probes] =
            [report.residual_sentences, report.residual_probes].map(|n| n.unwrap_or(0).to_string());
        let frame = report.residual_frame.map_or(String::new(), |frame| format!(" from a frame of {frame}"));
        rows.push(row("Tr(H - F)", format!("{}, {sentences} sentences{frame}, {probes} probes", residual.text())));
    }
    if let Some(frame) = report.frame {
        rows.push(row("sentences", format!("{} from a frame of {frame}", report.sentences)));
    }
    if let Some(r_eff) = report.r_eff {
        rows.push(row("r_eff", print::short(r_eff)));
    }
    for (layer, value) in report.per_layer.iter().flatten() {
        rows.push((format!("  {layer}"), print::short(value.as_f64().unwrap_or(f64::NAN))));
    }
    rows.extend(report.evidence.rows(&report.matrix));
    rows
}

/// Points of the figure's line.
const POINTS: usize = 60;

/// The mean over the probes or examples so far, with its standard error.
fn figure(plan: &TracePlan, trace: &Trace) -> Figure {
    let n = trace.values.len();
    let at: Vec<usize> = (1..=POINTS).map(|i| (n * i).div_ceil(POINTS)).filter(|k| *k > 1).collect();
    let so_far: Vec<Estimate> = at.iter().map(|k| Estimate::of_mean(&trace.values[..*k])).collect();
    let points = at.iter().zip(&so_far).map(|(k, e)| (*k as f64, e.value)).collect();
    let probes = plan.estimator.has_probes();
    Figure {
        title: format!("trace of the {}, {}", plan.matrix, plan.estimator),
        x: if probes { "probes" } else { "examples" }.into(),
        y: "mean so far, with the standard error of its scatter".into(),
        axis: Axis::Linear,
        lines: vec![Line { errors: so_far.iter().map(|e| e.standard_error).collect(), ..Line::new("so far", points) }],
        level: Some(("estimate".into(), trace.estimate)),
    }
}
