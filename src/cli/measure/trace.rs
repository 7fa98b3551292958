//! `lowland measure trace`: the trace of a matrix, by the estimator that suits it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Evidence, Session, check_figure, finite, print_report, trace_designed, trace_drawn, unless_interrupted,
    write_figure,
};
use crate::cli::arguments::{Common, MeasureTrace, ProbeChoice, SentencesChoice, name_of};
use crate::cli::examples::Source;
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{
    CurvatureError, CurvatureMatrix as M, Estimator as E, HutchPlusPlus, Hutchinson, Named, Operator, ProbeKind,
    Progress, Subject, Trace, XTrace, XTraceReplicates, hutch_plus_plus, hutchinson, hutchinson_by_products, xtrace,
    xtrace_replicates,
};
use crate::interrupt::Interrupted;
use crate::model::Encoder;
use crate::report::{Axis, Figure, Line};
use crate::statistics::{Estimate, Target};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TraceReport {
    matrix: String,
    estimator: String,
    trace: f64,
    /// √(probe² + data²); null where it cannot be told (a single sample).
    standard_error: Option<f64>,
    /// Of the probes or draws: what is left when the examples are given. Null where it cannot be told from the data part.
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

/// A trace with what its estimator knows beside it.
pub struct Measured {
    pub trace: Trace,
    pub per_tensor: Option<Vec<(String, Estimate)>>,
    pub draws: Option<usize>,
    pub probe: Option<ProbeKind>,
    /// Sentences of the frame that those measured were drawn from.
    pub frame: Option<usize>,
}

/// What was asked for, made whole.
pub struct Plan {
    pub estimator: E,
    pub matrix: M,
    pub rel_error: Option<f64>,
    pub samples: Option<u64>,
    pub minimum: Option<usize>,
    pub draws: Option<usize>,
    pub sentences: SentencesChoice,
}

pub(super) fn run<S>(open: S, arguments: &MeasureTrace) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    let plan = plan(arguments)?;
    check_figure(arguments.out.as_deref())?;
    let session = open(common)?;
    if plan.estimator == E::Xtrace && common.on.as_sample {
        return Err(Failure::usage(
            "xtrace has no data part of its error: leave out --as-sample, or take quadratic-form",
        ));
    }
    session.gauge.phase(plan.estimator.name());
    let (measured, evidence) = match plan.estimator {
        E::SampledLabels | E::RandomSigns | E::ExactLabels | E::DataLabels => match plan.sentences {
            SentencesChoice::Uniform => trace_drawn::measure(&session, common, &plan)?,
            _ => trace_designed::measure(&session, common, &plan)?,
        },
        _ => by_probes(&session, common, &plan, arguments.probe)?,
    };
    let trace = &measured.trace;
    let evidence = evidence.ended(trace.interrupted, trace.reached);
    if !trace.reached && !trace.interrupted {
        print::note(&format!(
            "the relative error {} was not reached: {}",
            plan.rel_error.unwrap_or(f64::NAN),
            advice(trace, &plan)
        ));
    }
    write_figure(arguments.out.as_deref(), || figure(&plan, trace))?;
    let report = report(&plan, &session.model.encoder, &measured, evidence);
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

/// Fills in the estimator and matrix that were left out, and refuses what does not go together.
fn plan(a: &MeasureTrace) -> Result<Plan, Failure> {
    let estimator = a.estimator.unwrap_or(match a.matrix {
        Some(M::Fisher) => E::RandomSigns,
        Some(M::EmpiricalFisher | M::NoiseCovariance) => E::DataLabels,
        Some(M::Hessian | M::Ggn) | None => E::QuadraticForm,
    });
    let drawn = matches!(estimator, E::SampledLabels | E::RandomSigns);
    let matrix = a.matrix.unwrap_or(match estimator {
        E::SampledLabels | E::RandomSigns | E::ExactLabels => M::Fisher,
        E::DataLabels => M::EmpiricalFisher,
        _ => M::Hessian,
    });
    let name = estimator.name();
    let refuse = |message: String| Err(Failure::usage(message));
    match (estimator, matrix) {
        (E::SampledLabels | E::RandomSigns | E::ExactLabels, M::Hessian | M::EmpiricalFisher | M::NoiseCovariance) => {
            return refuse(format!(
                "--estimator {name} estimates the Fisher matrix (= ggn): for {} take quadratic-form, hutchinson, \
                 hutch++ or xtrace",
                matrix.name()
            ));
        }
        (E::DataLabels, M::EmpiricalFisher | M::NoiseCovariance) => {}
        (E::DataLabels, other) => {
            return refuse(format!(
                "--estimator data-labels takes the labels of the data, its matrix is empirical_fisher or \
                 noise_covariance, not {}",
                other.name()
            ));
        }
        _ => {}
    }
    if a.draws.is_some() && !drawn {
        return refuse(format!("--draws belongs to sampled-labels and random-signs; {name} draws nothing an example"));
    }
    if a.sentences != SentencesChoice::Uniform && !drawn {
        return refuse(format!(
            "--sentences {} belongs to sampled-labels and random-signs; {name} takes sentences as they come",
            name_of(a.sentences)
        ));
    }
    if a.samples.is_some() && matches!(estimator, E::ExactLabels | E::DataLabels) {
        return refuse(format!(
            "--samples has no meaning for {name}, which draws nothing; --count says how many examples"
        ));
    }
    if a.probe.is_some() && !estimator.has_probes() {
        return refuse(format!("--probe belongs to estimators with probe vectors; {name} has none"));
    }
    if estimator == E::Xtrace && a.probe == Some(ProbeChoice::Rademacher) {
        return refuse(
            "xtrace takes gaussian probes: its normalisation of what is left of them needs their symmetry".into(),
        );
    }
    if let Some(r) = a.rel_error
        && !(r > 0.0 && r < 1.0)
    {
        return refuse(format!("--rel-error {r}: give a share above 0 and below 1, as 0.01"));
    }
    Ok(Plan {
        estimator,
        matrix,
        rel_error: a.rel_error,
        samples: a.samples,
        minimum: a.minimum.map(|m| m as usize),
        draws: a.draws.map(|d| d as usize),
        sentences: a.sentences,
    })
}

/// Most sentences that a language's trace by quadratic forms or products goes up to by itself.
const MOST_SENTENCES: u64 = 1 << 17;

/// Estimators with probe vectors. Where a language's trace is wanted to a relative error and no `--count` is given, the
/// number of sentences follows from the data part of a few probes.
fn by_probes(
    session: &Session,
    common: &Common,
    plan: &Plan,
    probe: Option<ProbeChoice>,
) -> Result<(Measured, Evidence), Failure> {
    let mut sentences = session.sentences()?;
    let mut spent = 0.0;
    // What an interrupt of the next, larger one falls back to.
    let mut before: Option<(Measured, Evidence)> = None;
    let or_before = |before: Option<(Measured, Evidence)>| -> Result<(Measured, Evidence), Failure> {
        let (mut measured, mut evidence) = before.ok_or(Interrupted)?;
        measured.trace = measured.trace.cut_short(true);
        evidence.seconds = session.start.elapsed().as_secs_f64();
        Ok((measured, evidence))
    };
    let mut hopeless = false;
    let target = if plan.estimator == E::Xtrace { Target::TheseExamples } else { session.target() };
    if let (Some(rel_error), Target::Population) = (plan.rel_error, target) {
        let pilot = Plan { rel_error: None, samples: Some(plan.minimum.unwrap_or(16) as u64), ..*plan };
        for _ in 0..5 {
            let Some(subject) = unless_interrupted(session.subject(common, &sentences, common.on.batch))? else {
                return or_before(before);
            };
            let Some(measured) = unless_interrupted(estimate(session, common, &pilot, probe, &subject)?)? else {
                return or_before(before);
            };
            let cost = measured.trace.gradient_equivalents + spent / sentences.len() as f64;
            let evidence = evidence_of(session, common, &subject, target, &measured, cost);
            if measured.trace.interrupted {
                return or_before(better(before, (measured, evidence)));
            }
            let first = measured.trace.clone();
            before = Some((measured, evidence));
            // Half of the squared error is the data's.
            let share = first.standard_error_data / (rel_error * first.estimate.abs() / 2f64.sqrt());
            hopeless = first.standard_error_data >= rel_error * first.estimate.abs();
            let (Source::Language(held_out), None) = (&session.source, common.on.count) else { break };
            let now = sentences.len() as u64;
            if share.is_nan() || share <= 1.0 || now >= MOST_SENTENCES {
                break;
            }
            spent += first.gradient_equivalents * sentences.len() as f64;
            let wanted = (now as f64 * share * share * 1.1).min(MOST_SENTENCES as f64) as u64;
            match held_out.sentences(now..wanted.max(now + 1)) {
                Ok(more) => sentences.extend(more),
                Err(_) => return or_before(before),
            }
            hopeless = false;
        }
    }
    let Some(subject) = unless_interrupted(session.subject(common, &sentences, common.on.batch))? else {
        return or_before(before);
    };
    // Probes cannot make up for too few examples.
    let fixed = Plan { rel_error: None, samples: Some(plan.minimum.unwrap_or(16) as u64), ..*plan };
    let found = estimate(session, common, if hopeless { &fixed } else { plan }, probe, &subject)?;
    let Some(mut measured) = unless_interrupted(found)? else { return or_before(before) };
    measured.trace.reached &= !hopeless;
    let cost = measured.trace.gradient_equivalents + spent / sentences.len() as f64;
    let evidence = evidence_of(session, common, &subject, target, &measured, cost);
    match measured.trace.interrupted {
        true => or_before(better(before, (measured, evidence))),
        false => Ok((measured, evidence)),
    }
}

fn evidence_of(
    session: &Session,
    common: &Common,
    subject: &Subject,
    target: Target,
    measured: &Measured,
    cost: f64,
) -> Evidence {
    let evidence = session.evidence(common, subject, target, cost);
    match measured.trace.examples {
        Some(examples) => evidence.of_first(subject, examples),
        None => evidence,
    }
}

/// Probes from which the error of what an interrupt left is trusted beside that of a whole measurement of fewer examples.
const FEW: usize = 4;

/// What an interrupt left, or what was there before it if that is known better.
fn better(before: Option<(Measured, Evidence)>, now: (Measured, Evidence)) -> Option<(Measured, Evidence)> {
    let error = |m: &Measured| m.trace.standard_error;
    match before {
        Some(before) if now.0.trace.values.len() < FEW || error(&before.0) <= error(&now.0) => Some(before),
        _ => Some(now),
    }
}

fn estimate(
    session: &Session,
    common: &Common,
    plan: &Plan,
    probe: Option<ProbeChoice>,
    subject: &Subject,
) -> Result<Result<Measured, CurvatureError>, Failure> {
    let operator = plan.matrix.operator(subject)?;
    Ok(by_operator(session, common, plan, probe, subject, &*operator))
}

fn by_operator(
    session: &Session,
    common: &Common,
    plan: &Plan,
    probe: Option<ProbeChoice>,
    subject: &Subject,
    operator: &dyn Operator,
) -> Result<Measured, CurvatureError> {
    let name = plan.estimator.name();
    let kind = match (probe, plan.estimator) {
        (Some(ProbeChoice::Gaussian), _) | (None, E::Xtrace) => ProbeKind::Gaussian,
        _ => ProbeKind::Rademacher,
    };
    let most = match (plan.rel_error, plan.estimator) {
        (Some(_), _) => 8192,
        (None, E::HutchPlusPlus) => 96,
        (None, _) => 64,
    };
    let samples = plan.samples.unwrap_or(most) as usize;
    let (seed, block, target) = (common.seed(), common.probes as usize, session.target());
    let observe = &mut |p: &Progress| -> Result<(), CurvatureError> { session.watch(name, "probe", p) };
    let mut per_tensor = None;
    let what = Hutchinson {
        kind,
        seed,
        samples,
        rel_error: plan.rel_error,
        minimum: plan.minimum.unwrap_or(16),
        block,
        target,
    };
    let trace = match plan.estimator {
        E::Hutchinson => {
            let (names, ranges): (Vec<&str>, Vec<_>) = subject.vectors().parts(subject.encoder()).unzip();
            let answer = hutchinson_by_products(operator, &ranges, &what, observe)?;
            per_tensor = Some(names.into_iter().map(String::from).zip(answer.parts).collect());
            answer.trace
        }
        E::HutchPlusPlus => {
            let (rel_error, minimum) = (plan.rel_error, plan.minimum.unwrap_or(96));
            let what = HutchPlusPlus { kind, seed, samples, rel_error, minimum, block, target };
            hutch_plus_plus(operator, &what, observe)?
        }
        E::Xtrace => {
            let fixed = plan.samples.is_none() && plan.rel_error.is_none();
            let samples = if fixed { samples.min(2 * operator.size()) } else { samples };
            match plan.rel_error {
                None => xtrace(operator, &XTrace { seed, first: 0, samples, block }, observe)?,
                Some(rel_error) => {
                    let smallest = plan.minimum.unwrap_or(32);
                    let what = XTraceReplicates { seed, samples, smallest, rel_error, block };
                    xtrace_replicates(operator, &what, observe)?
                }
            }
        }
        _ => hutchinson(operator, &what, observe)?,
    };
    Ok(Measured { trace, per_tensor, draws: None, probe: Some(kind), frame: None })
}

fn advice(trace: &Trace, plan: &Plan) -> String {
    let wanted = plan.rel_error.unwrap_or(f64::NAN) * trace.estimate.abs();
    let data = trace.standard_error_data;
    match () {
        () if data >= wanted => {
            format!("the choice of examples alone leaves {}; give more examples (--count)", print::short(data))
        }
        () => "give more --samples".into(),
    }
}

fn report(plan: &Plan, encoder: &Encoder, measured: &Measured, evidence: Evidence) -> TraceReport {
    let trace = &measured.trace;
    let map = |values: Vec<(String, f64)>| values.into_iter().map(|(n, v)| (n, serde_json::json!(v))).collect();
    let tensors = measured.per_tensor.as_ref();
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
        draws: measured.draws,
        sentences: name_of(plan.sentences),
        frame: measured.frame,
        probe: measured.probe.map(|k| if k == ProbeKind::Gaussian { "gaussian" } else { "rademacher" }.into()),
        rel_error: plan.rel_error,
        squared_norm: trace.squared_norm.and_then(finite),
        r_eff: trace.r_eff.and_then(finite),
        per_layer: tensors.map(|t| map(layers(encoder, t))),
        per_tensor: of(|e| e.value).map(map),
        per_tensor_standard_error: errors.map(map),
        evidence,
    }
}

/// Sums over embeddings, each layer, what stands behind the layers, and the head, in the order of the parameters.
fn layers(encoder: &Encoder, tensors: &[(String, Estimate)]) -> Vec<(String, f64)> {
    let mut sums: Vec<(String, f64)> = Vec::new();
    for (name, value) in tensors {
        let found = encoder.find(name).expect("one of the model's");
        let depth = encoder.parameters[found].role.depth();
        match sums.iter_mut().find(|(d, _)| *d == depth) {
            Some((_, sum)) => *sum += value.value,
            None => sums.push((depth, value.value)),
        }
    }
    sums
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
fn figure(plan: &Plan, trace: &Trace) -> Figure {
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
