//! `lowland measure flatness`: the Fisher trace, and measures of flatness that do not change with scales that the
//! function does not know.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Session, finite, print_report};
use crate::cli::advice;
use crate::cli::arguments::{Common, MeasureFlatness};
use crate::cli::enlarge::size;
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{
    BlockFlatness, CurvatureError, EmbeddedTraces, Flatness, FlatnessOptions, GaugeSides, LabelSplit,
    LabelSplitOptions, LeastTrace, Named, Progress, Scope, Subject, WordGroups,
};
use crate::model::{Encoder, Enlargement, Law, Unlawful, check_enlarge};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};

/// What is printed under `--json`. An error is null where it cannot be told (a single draw, a single example).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FlatnessReport {
    /// Always `fisher`.
    matrix: String,
    estimator: String,
    /// Draws an example; null where labels are enumerated.
    draws: Option<usize>,
    /// Tr F.
    trace: f64,
    trace_standard_error: Option<f64>,
    /// With `--label-groups`, the part of the trace that is of the noise in which group of words a label is in; null
    /// without it.
    trace_between: Option<f64>,
    trace_between_standard_error: Option<f64>,
    /// The part of the noise in which word of its group a label is. The parts have draws of their own, random signs
    /// where labels are not enumerated, and add to `trace` within their errors.
    trace_within: Option<f64>,
    trace_within_standard_error: Option<f64>,
    /// Groups that all of the model's words are in, those of `--label-groups` and one more where tokens are no words of
    /// the language.
    label_groups: Option<u32>,
    /// Σ |w|² T over blocks.
    scale_free_trace: f64,
    scale_free_trace_standard_error: Option<f64>,
    /// 2 √(E G) and the rest: the least trace over all scales of the tables, which the norm before the head takes up;
    /// with `--into`, of the larger model. Null with a note where there is no such gauge.
    balanced_trace: Option<f64>,
    balanced_trace_standard_error: Option<f64>,
    /// What the square root of two estimates is off in the mean, to second order: below 0; not taken off.
    balanced_trace_bias: Option<f64>,
    /// The least trace over all scalar gauges. Null with a note where a type of model lacks them.
    balanced_trace_all: Option<f64>,
    balanced_trace_all_standard_error: Option<f64>,
    /// As `balanced_trace_bias`.
    balanced_trace_all_bias: Option<f64>,
    /// Sum over linear layers of E ‖Wᵀ G‖², of attention's output E ‖G Wᵀ‖². Null with a note where layers are none.
    relative_flatness: Option<f64>,
    relative_flatness_standard_error: Option<f64>,
    /// Mean of |h|² over predicted positions, h being what the head's last product reads.
    logit_scale: f64,
    logit_scale_standard_error: Option<f64>,
    /// Every block; rows of tables and entries of the bias over words are blocks.
    per_block: Vec<BlockReport>,
    /// Both sides of every gauge that the type of model has.
    per_gauge: Vec<GaugeReport>,
    /// The trace of the model in the architecture of `--into`; null without it.
    embedded: Option<EmbeddedReport>,
    /// Reasons of what is null, and gauges that are held.
    notes: Vec<String>,
    #[serde(flatten)]
    evidence: Evidence,
}

/// A block.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct BlockReport {
    /// The tensor's, with the row, entry or part behind it.
    name: String,
    trace: f64,
    trace_standard_error: Option<f64>,
    /// |w|².
    squared_norm: f64,
    /// Of a linear layer's weight, else null.
    relative_flatness: Option<f64>,
    relative_flatness_standard_error: Option<f64>,
}

/// What a gauge multiplies beside what it divides; of the residual stream nothing is divided.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct GaugeReport {
    /// `tables`, `residual`, `final_norm`, `query_key.0`, ...
    gauge: String,
    /// |A|² of what is multiplied.
    multiplied_squared_norm: f64,
    /// |C|² of what is divided.
    divided_squared_norm: f64,
    /// T of what is multiplied.
    multiplied_trace: f64,
    multiplied_trace_standard_error: Option<f64>,
    /// T of what is divided.
    divided_trace: f64,
    divided_trace_standard_error: Option<f64>,
    /// The first trace less the second, of the same draws.
    difference: f64,
    difference_standard_error: Option<f64>,
}

/// Traces in a larger architecture, by how the model is embedded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EmbeddedReport {
    /// Tables as they are.
    duplicate: f64,
    duplicate_standard_error: Option<f64>,
    /// Tables divided by the factor of the width.
    paper: f64,
    paper_standard_error: Option<f64>,
    /// The least over all scales of the tables; null with a note where there is none.
    balanced: Option<f64>,
    balanced_standard_error: Option<f64>,
    /// As `balanced_trace_bias`.
    balanced_bias: Option<f64>,
}

pub(super) fn run<S>(open: S, arguments: &MeasureFlatness) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    let session = open(common)?;
    let into = arguments.into.as_deref().map(|text| law(text, &session.model.encoder)).transpose()?;
    let groups = arguments.label_groups.map(|groups| session.groups(groups)).transpose()?;
    let (what, found, mut evidence) = measured(&session, common, arguments.estimator, arguments.draws, into)?;
    let split = match groups.filter(|_| !found.interrupted) {
        Some(groups) => parts(&session, common, &what, &groups)?.map(|split| (split, groups.count())),
        None => None,
    };
    evidence.gradient_equivalents += split.as_ref().map_or(0.0, |(split, _)| split.gradient_equivalents);
    if arguments.label_groups.is_some() && split.is_none() {
        evidence = evidence.ended(true, false);
    }
    let report = report(&what, &found, split.as_ref(), evidence);
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

/// The trace in two parts; `None` after an interrupt.
fn parts(
    session: &Session,
    common: &Common,
    what: &FlatnessOptions,
    groups: &WordGroups,
) -> Result<Option<LabelSplit>, Failure> {
    let subject = session.setting(common).subject(&session.sentences()?)?;
    let of = LabelSplitOptions { kind: what.kind, seed: what.seed, draws: what.draws, target: what.target };
    let found = LabelSplit::measure(&subject, groups, &of, &mut |p| session.watch("both parts", "example", p));
    match found {
        Err(CurvatureError::Interrupted) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// The measurement, with what it is evidence of.
pub(super) fn measured(
    session: &Session,
    common: &Common,
    kind: LossDraw,
    asked: Option<u64>,
    into: Option<Law>,
) -> Result<(FlatnessOptions, Flatness, Evidence), Failure> {
    let sentences = session.sentences()?;
    let subject = session.setting(common).subject(&sentences)?;
    let target = session.target();
    let what = FlatnessOptions { kind, seed: common.seed(), draws: draws(asked, &subject, target), target, into };
    let unit = if what.kind == LossDraw::Exact { "label" } else { "example" };
    let found = Flatness::measure(&subject, &what, &mut |p: &Progress| session.watch("flatness", unit, p))?;
    let scope = Scope::of(&subject, what.target, found.gradient_equivalents).of_first(&subject, found.examples);
    let evidence = session.evidence(common, scope).ended(found.interrupted, true);
    Ok((what, found, evidence))
}

/// Pairs of example and draw of given examples, where nothing is said, and draws at least: two tell an error.
const PAIRS: usize = 4096;
const LEAST_DRAWS: usize = 2;

fn draws(asked: Option<u64>, subject: &Subject, target: Target) -> usize {
    match (asked, target) {
        (Some(draws), _) => draws as usize,
        (None, Target::Population) => LEAST_DRAWS,
        (None, Target::TheseExamples) => (PAIRS / subject.examples()).max(LEAST_DRAWS),
    }
}

/// The law of a larger architecture, whose sizes must hold the model.
fn law(text: &str, small: &Encoder) -> Result<Law, Failure> {
    let size = size(text, small)?;
    let refused = |why: String| Failure::usage(format!("--into {text}: {why}"));
    check_enlarge(&small.config, size, Enlargement::Duplicate).map_err(|e| refused(advice::of_enlarge(&e)))?;
    Law::new(small, size, Enlargement::Duplicate).map_err(|e| match e {
        Unlawful::Sizes(error) => refused(advice::of_enlarge(&error)),
        error => refused(error.to_string()),
    })
}

fn report(
    what: &FlatnessOptions,
    found: &Flatness,
    split: Option<&(LabelSplit, u32)>,
    evidence: Evidence,
) -> FlatnessReport {
    let mut notes: Vec<String> = Vec::new();
    let embedded = found.embedded.as_ref().map(|e| embedded(e, &mut notes));
    let tables = match &found.embedded {
        Some(e) => e.balanced.clone().map_err(|_| None),
        None => found.balanced_trace.map_err(|why| Some(why.to_string())),
    };
    let mut least = |name: &str, of: Result<LeastTrace, Option<String>>| match of {
        Ok(least) => (Some(least.trace.value), finite(least.trace.standard_error), finite(least.bias)),
        Err(why) => {
            notes.extend(why.map(|why| format!("{name} is null: {why}")));
            (None, None, None)
        }
    };
    let balanced = least("balanced_trace", tables);
    let all = least("balanced_trace_all", found.balanced_trace_all.map_err(|why| Some(why.to_string())));
    let held = found.held.iter().map(|name| format!("held, since one of its sides has no trace: {name}"));
    notes.extend(held);
    if found.relative_flatness.is_none() {
        notes.push("relative_flatness is null: the gates of an LSTM are no linear layers".into());
    }
    let error = |e: &Estimate| finite(e.standard_error);
    FlatnessReport {
        matrix: "fisher".into(),
        estimator: what.kind.name().into(),
        draws: (what.kind != LossDraw::Exact).then_some(what.draws),
        trace: found.trace.value,
        trace_standard_error: error(&found.trace),
        trace_between: split.map(|(split, _)| split.between.value),
        trace_between_standard_error: split.and_then(|(split, _)| error(&split.between)),
        trace_within: split.map(|(split, _)| split.within.value),
        trace_within_standard_error: split.and_then(|(split, _)| error(&split.within)),
        label_groups: split.map(|(_, groups)| *groups),
        scale_free_trace: found.scale_free_trace.value,
        scale_free_trace_standard_error: error(&found.scale_free_trace),
        balanced_trace: balanced.0,
        balanced_trace_standard_error: balanced.1,
        balanced_trace_bias: balanced.2,
        balanced_trace_all: all.0,
        balanced_trace_all_standard_error: all.1,
        balanced_trace_all_bias: all.2,
        relative_flatness: found.relative_flatness.map(|e| e.value),
        relative_flatness_standard_error: found.relative_flatness.as_ref().and_then(error),
        logit_scale: found.logit_scale.value,
        logit_scale_standard_error: error(&found.logit_scale),
        per_block: found.per_block.iter().map(BlockReport::from).collect(),
        per_gauge: found.per_gauge.iter().map(GaugeReport::from).collect(),
        embedded,
        notes,
        evidence,
    }
}

fn embedded(of: &EmbeddedTraces, notes: &mut Vec<String>) -> EmbeddedReport {
    if let Err(why) = &of.balanced {
        notes.push(format!("embedded.balanced, and with it balanced_trace, is null: {why}"));
    }
    let balanced = of.balanced.as_ref().ok();
    EmbeddedReport {
        duplicate: of.duplicate.value,
        duplicate_standard_error: finite(of.duplicate.standard_error),
        paper: of.paper.value,
        paper_standard_error: finite(of.paper.standard_error),
        balanced: balanced.map(|b| b.trace.value),
        balanced_standard_error: balanced.and_then(|b| finite(b.trace.standard_error)),
        balanced_bias: balanced.and_then(|b| finite(b.bias)),
    }
}

impl From<&GaugeSides> for GaugeReport {
    fn from(sides: &GaugeSides) -> GaugeReport {
        let [multiplied, divided] = &sides.traces;
        GaugeReport {
            gauge: sides.key.clone(),
            multiplied_squared_norm: sides.squared_norms[0],
            divided_squared_norm: sides.squared_norms[1],
            multiplied_trace: multiplied.value,
            multiplied_trace_standard_error: finite(multiplied.standard_error),
            divided_trace: divided.value,
            divided_trace_standard_error: finite(divided.standard_error),
            difference: sides.apart.value,
            difference_standard_error: finite(sides.apart.standard_error),
        }
    }
}

impl From<&BlockFlatness> for BlockReport {
    fn from(block: &BlockFlatness) -> BlockReport {
        BlockReport {
            name: block.name.clone(),
            trace: block.trace.value,
            trace_standard_error: finite(block.trace.standard_error),
            squared_norm: block.squared_norm,
            relative_flatness: block.relative_flatness.map(|e| e.value),
            relative_flatness_standard_error: block.relative_flatness.and_then(|e| finite(e.standard_error)),
        }
    }
}

fn rows(report: &FlatnessReport) -> Vec<(String, String)> {
    let row = |a: &str, value: Option<f64>, error: Option<f64>| {
        (a.to_string(), value.map_or("none".into(), |v| print::with_error(v, error)))
    };
    let draws = report.draws.map_or(String::new(), |draws| format!(", {draws} draws an example"));
    let mut rows = vec![
        row("trace", Some(report.trace), report.trace_standard_error),
        row("scale-free trace", Some(report.scale_free_trace), report.scale_free_trace_standard_error),
        row("balanced trace", report.balanced_trace, report.balanced_trace_standard_error),
        row("  over all gauges", report.balanced_trace_all, report.balanced_trace_all_standard_error),
        row("relative flatness", report.relative_flatness, report.relative_flatness_standard_error),
        row("|h|² before the head", Some(report.logit_scale), report.logit_scale_standard_error),
        ("estimator".to_string(), format!("{}{draws}", report.estimator)),
    ];
    if report.trace_between.is_some() {
        rows.insert(1, row("  within groups of words", report.trace_within, report.trace_within_standard_error));
        rows.insert(1, row("  between groups of words", report.trace_between, report.trace_between_standard_error));
    }
    if let Some(of) = &report.embedded {
        rows.push(row("embedded, duplicate", Some(of.duplicate), of.duplicate_standard_error));
        rows.push(row("embedded, paper", Some(of.paper), of.paper_standard_error));
        rows.push(row("embedded, balanced", of.balanced, of.balanced_standard_error));
    }
    rows.extend(report.notes.iter().map(|note| ("note".to_string(), note.clone())));
    rows.extend(report.evidence.rows(&report.matrix));
    rows
}
