//! `lowland regauge`: the same function in another gauge, and what that does to the trace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::arguments::Regauge;
use super::failure::Failure;
use super::measure::{self, Evidence};
use super::print;
use super::same_function::{Apart, ROUNDED, SAME, regauged};
use crate::curvature::{Flatness, LeastGauge};
use crate::gpu::AdapterChoice;
use crate::interrupt;
use crate::model::{self, Encoder, Gauge, GaugeKind, Loaded, NoGauge, Piece, Rescaling};
use crate::ops::{Function, KernelChoice};

/// What is printed under `--json`, and written as `regauge.json` beside the new model.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RegaugeReport {
    /// The folder that it was made of.
    model: String,
    /// The folder that was written.
    out: String,
    model_type: String,
    /// The factor of each gauge that was moved: `tables`, `residual`, `final_norm`, and by layer `query_key.0`,
    /// `value_output.0`, `attention_norm.0`, `feed_forward_norm.0`.
    gauges: BTreeMap<String, f64>,
    /// Whether they lead to the least trace.
    balanced: bool,
    /// Largest difference of a logit between both models, over the logits' standard deviation, in double precision.
    logit_difference: f64,
    /// The same with the new numbers not rounded to single precision: what the ε of norms does.
    epsilon_difference: f64,
    /// What rounding does; 0 where all factors are powers of two.
    rounding_difference: f64,
    /// Tr F of the model as it was; null without EXAMPLES.
    trace: Option<f64>,
    /// Null where it cannot be told.
    trace_standard_error: Option<f64>,
    /// Tr F in the new gauge, by its law; null without EXAMPLES.
    predicted_trace: Option<f64>,
    predicted_trace_standard_error: Option<f64>,
    /// Under `--balance`, what the least of estimates is off in the mean, to second order: below 0; not taken off.
    predicted_trace_bias: Option<f64>,
    /// Gauges that were held.
    notes: Vec<String>,
    /// Of what the trace was measured; null without EXAMPLES.
    measured: Option<Evidence>,
}

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Regauge) -> Result<(), Failure> {
    let path = arguments.model.clone();
    let loaded = interrupt::or_stop(move || model::load(&path))??;
    let measurement = arguments.measurement();
    if measurement.is_none() {
        // Else they are said where the model is read to be measured.
        loaded.notes.iter().for_each(|n| print::note(n));
    }
    if arguments.out.join("config.json").exists() {
        let message = format!("{}: holds a model already; give another folder", arguments.out.display());
        return Err(Failure::usage(message));
    }
    let pieces = loaded.encoder.pieces();
    let mut change = Change::asked(arguments, &loaded.encoder, &pieces)?;
    let free = if arguments.balance { loaded.encoder.balanced_gauges(&pieces) } else { vec![] };
    if arguments.balance && free.is_empty() {
        let kind = loaded.encoder.config.kind.name();
        return Err(Failure::usage(format!("--balance: a model of type \"{kind}\" has no gauge with a least trace")));
    }
    let (mut loaded, mut apart) = compared(loaded, &change)?;
    let measured = match &measurement {
        Some(common) => {
            let (found, evidence) =
                measure::flatness(adapter, kernel_choice, common, arguments.estimator, arguments.draws)?;
            if found.interrupted {
                return Err(Failure::stopped("nothing is written"));
            }
            Some((found, evidence))
        }
        None => None,
    };
    let mut notes = Vec::new();
    let mut predicted = measured.as_ref().map(|(found, _)| (found.pieces.under(&change.rescaling), None));
    if let (true, Some((found, _))) = (arguments.balance, &measured) {
        let least = change.balance(found, &free);
        notes.extend(least.held.iter().map(|name| format!("held, since one of its sides has no trace: {name}")));
        predicted = Some((least.least.trace, Some(least.least.bias)));
        (loaded, apart) = compared(loaded, &change)?;
    }
    let weights = change.rescaling.apply(&loaded.encoder, &loaded.weights);
    let report = RegaugeReport {
        model: arguments.model.display().to_string(),
        out: arguments.out.display().to_string(),
        model_type: loaded.encoder.config.kind.name().into(),
        gauges: change.factors.iter().map(|(gauge, factor)| (gauge.key(), *factor)).collect(),
        balanced: arguments.balance,
        logit_difference: apart.whole,
        epsilon_difference: apart.exact,
        rounding_difference: apart.rounding,
        trace: measured.as_ref().map(|(found, _)| found.trace.value),
        trace_standard_error: measured.as_ref().and_then(|(found, _)| finite(found.trace.standard_error)),
        predicted_trace: predicted.map(|(trace, _)| trace.value),
        predicted_trace_standard_error: predicted.and_then(|(trace, _)| finite(trace.standard_error)),
        predicted_trace_bias: predicted.and_then(|(_, bias)| bias).and_then(finite),
        notes,
        measured: measured.map(|(_, evidence)| evidence),
    };
    model::save(&arguments.out, &loaded.encoder, &weights, None)?;
    model::copy_tokenizer(&loaded.folder, &arguments.out)?;
    let path = arguments.out.join("regauge.json");
    let text = serde_json::to_string_pretty(&report).expect("plain values") + "\n";
    model::write_synced(&path, text.as_bytes()).map_err(|error| Failure::io(&path, &error))?;
    match arguments.json.json {
        true => print::json(&report)?,
        false => print::line(&print::table(&rows(&report)))?,
    }
    Ok(())
}

/// The gauges that are moved, each by its factor.
struct Change {
    factors: Vec<(Gauge, f64)>,
    rescaling: Rescaling,
}

impl Change {
    /// Those of the flags.
    fn asked(arguments: &Regauge, encoder: &Encoder, pieces: &[Piece]) -> Result<Change, Failure> {
        let asked = [
            (GaugeKind::Tables, arguments.tables),
            (GaugeKind::Residual, arguments.residual),
            (GaugeKind::FinalNorm, arguments.final_norm),
            (GaugeKind::QueryKey, arguments.query_key),
            (GaugeKind::ValueOutput, arguments.value_output),
        ];
        let mut change = Change { factors: vec![], rescaling: Rescaling::none(pieces.len()) };
        for (kind, factor) in asked.iter().filter_map(|(kind, factor)| Some((*kind, (*factor)?))) {
            let gauges = encoder.gauges(kind, pieces).map_err(|why| lacking(encoder, pieces, kind, why))?;
            gauges.into_iter().for_each(|gauge| change.by(gauge, factor));
        }
        match change.factors.is_empty() && !arguments.balance {
            true => Err(Failure::usage(format!("which gauge? {}", there(encoder, pieces)))),
            false => Ok(change),
        }
    }

    fn by(&mut self, gauge: Gauge, factor: f64) {
        self.rescaling = self.rescaling.clone().and(&gauge, factor);
        self.factors.push((gauge, factor));
    }

    /// And from there to the least trace.
    fn balance(&mut self, found: &Flatness, free: &[Gauge]) -> LeastGauge {
        let least = found.pieces.least(&self.rescaling, free);
        free.iter().cloned().zip(&least.factors).for_each(|(gauge, factor)| self.by(gauge, *factor));
        least
    }

    /// The flags, or what they were made into.
    fn text(&self) -> String {
        let one = |(gauge, factor): &(Gauge, f64)| format!("{} {}", gauge.key(), print::short(*factor));
        self.factors.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The flag of a gauge; those of norms before layers are moved by `--balance` alone.
fn flag(kind: GaugeKind) -> Option<&'static str> {
    match kind {
        GaugeKind::Tables => Some("--tables"),
        GaugeKind::Residual => Some("--residual"),
        GaugeKind::FinalNorm => Some("--final-norm"),
        GaugeKind::QueryKey => Some("--query-key"),
        GaugeKind::ValueOutput => Some("--value-output"),
        GaugeKind::AttentionNorm | GaugeKind::FeedForwardNorm => None,
    }
}

/// What a model has.
fn there(encoder: &Encoder, pieces: &[Piece]) -> String {
    let has = |kind: &GaugeKind| encoder.gauges(*kind, pieces).is_ok();
    let mut flags: Vec<&str> = GaugeKind::ALL.iter().filter(|k| has(k)).filter_map(|k| flag(*k)).collect();
    if !encoder.balanced_gauges(pieces).is_empty() {
        flags.push("--balance");
    }
    let tied = if encoder.config.tie_word_embeddings { "a tied head" } else { "a head of its own" };
    format!("A model of type \"{}\" with {tied} has {}", encoder.config.kind.name(), flags.join(", "))
}

fn lacking(encoder: &Encoder, pieces: &[Piece], kind: GaugeKind, why: NoGauge) -> Failure {
    let flag = flag(kind).unwrap_or_default();
    Failure::usage(format!("{flag}: {why}. {}", there(encoder, pieces)))
}

/// Compares the logits of both models; what is another function is refused.
fn compared(loaded: Loaded, change: &Change) -> Result<(Loaded, Apart), Failure> {
    let rescaling = change.rescaling.clone();
    let (loaded, apart) = interrupt::or_stop(move || {
        let apart = regauged(&loaded.encoder, &loaded.weights, &rescaling);
        (loaded, apart)
    })?;
    // Also where it is no number.
    let beyond = |value: f64, most: f64| value.is_nan() || value > most;
    if beyond(apart.exact, SAME) {
        return Err(Failure::usage(format!(
            "{}: another function. Logits differ by {:.1e} of their spread, more than {SAME:.0e}: {} is not small \
             beside the variance of what norms divide by, before or after. Nothing is written",
            change.text(),
            apart.exact,
            epsilon(&loaded.encoder)
        )));
    }
    if beyond(apart.rounding, ROUNDED) {
        return Err(Failure::usage(format!(
            "{}: single precision rounds the new numbers so that logits differ by {:.1e} of their spread, more than \
             {ROUNDED:.0e}. Powers of two round nothing. Nothing is written",
            change.text(),
            apart.rounding
        )));
    }
    Ok((loaded, apart))
}

/// The ε of a model's norms with the key that sets it, where there is one.
fn epsilon(encoder: &Encoder) -> String {
    let key = encoder.config.kind.keys().iter().find(|(ours, _)| *ours == "layer_norm_eps");
    let eps = encoder.graph.nodes().iter().find_map(|node| match node.function {
        Function::LayerNorm(norm) => Some(norm.eps),
        _ => None,
    });
    let eps = eps.map_or(String::new(), |eps| format!(" = {eps:e}"));
    key.map_or(format!("ε{eps}"), |(_, theirs)| format!("`{theirs}`{eps}"))
}

/// JSON has no NaN: what is unknown is null.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn rows(report: &RegaugeReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let mut rows: Vec<(String, String)> =
        report.gauges.iter().map(|(name, factor)| row(name, format!("times {}", print::short(*factor)))).collect();
    rows.push(row("logits", format!("the same within {:.1e} of their spread", report.logit_difference)));
    if let Some(trace) = report.trace {
        rows.push(row("trace", print::with_error(trace, report.trace_standard_error)));
    }
    if let Some(trace) = report.predicted_trace {
        rows.push(row("  in the new gauge", print::with_error(trace, report.predicted_trace_standard_error)));
    }
    if let Some(bias) = report.predicted_trace_bias {
        rows.push(row("  its bias", print::short(bias)));
    }
    rows.extend(report.notes.iter().map(|note| row("note", note.clone())));
    rows.push(row("in", report.out.clone()));
    rows
}
