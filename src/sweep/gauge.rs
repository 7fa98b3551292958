//! Every model of a sweep in other gauges too: the same function with other parameters (docs/regauge.md), examined as a
//! model of its own. What differs between a model and itself in another gauge is no property of the function.
//!
//! ```toml
//! [[gauge]]
//! label = "tables 1/4"      # left out: the factors in words
//! tables = 0.25             # as the flags of `regauge`: tables, residual, final_norm, query_key, value_output
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::place;
use super::error::RunFailure;
use super::examine::{Examiner, Subject};
use super::plan::{SweepPlan, short};
use crate::config::ConfigError;
use crate::downstream::{Features, Pooling};
use crate::language::Words;
use crate::model::{Encoder, GaugeKind, Loaded, Rescaling};
use crate::train::held_out_seed;

/// A gauge that all models of a sweep are examined in, beside their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GaugeSection {
    /// Name in legends and tables, behind the model's. Left out: the factors in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Factor of the tables, against the norm before the head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<f64>,
    /// Factor of what is written to the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual: Option<f64>,
    /// Factor of the norm behind the last layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_norm: Option<f64>,
    /// Factor of queries, against keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_key: Option<f64>,
    /// Factor of values, against attention's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_output: Option<f64>,
}

/// A model in another gauge beside the model that it was made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gauged {
    /// Largest difference of a number that the head reads (the last representations, behind the final norm), over the
    /// root of their mean square, on held-out sentences. A gauge that holds them fixed has 0 up to rounding.
    pub gauge_feature_difference: f64,
    /// Sentences that it is of.
    pub gauge_sentences: usize,
}

/// Sentences whose representations are compared.
const SENTENCES: u64 = 64;

impl GaugeSection {
    /// The gauges that are moved, with their keys and factors.
    fn factors(&self) -> Vec<(GaugeKind, &'static str, f64)> {
        let all = [
            (GaugeKind::Tables, "tables", self.tables),
            (GaugeKind::Residual, "residual", self.residual),
            (GaugeKind::FinalNorm, "final_norm", self.final_norm),
            (GaugeKind::QueryKey, "query_key", self.query_key),
            (GaugeKind::ValueOutput, "value_output", self.value_output),
        ];
        all.into_iter().filter_map(|(kind, key, factor)| Some((kind, key, factor?))).collect()
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        let one = |(_, key, factor): &(GaugeKind, &str, f64)| format!("{} {factor}", key.replace('_', " "));
        self.label.clone().unwrap_or_else(|| self.factors().iter().map(one).collect::<Vec<_>>().join(", "))
    }

    /// The settings, by key.
    pub(super) fn values(&self) -> serde_json::Map<String, serde_json::Value> {
        self.factors().into_iter().map(|(_, key, factor)| (format!("gauge.{key}"), factor.into())).collect()
    }

    /// Folder of the answers beside those of the model; a function of the factors.
    pub(super) fn folder(&self) -> String {
        let text: Vec<String> = self.factors().iter().map(|(_, key, factor)| format!("{key} {factor:?}")).collect();
        format!("gauge-{}", &short(&text.join("\n"))[..8])
    }

    /// What cannot be whatever the model.
    ///
    /// # Errors
    /// In words.
    pub(super) fn check(&self) -> Result<(), String> {
        let factors = self.factors();
        if self.label.as_ref().is_some_and(|label| label.trim().is_empty()) {
            return Err("`label` is empty; leave it out for the factors".into());
        }
        if factors.is_empty() {
            return Err("moves nothing; give a factor of `tables`, `residual`, `final_norm`, `query_key` or \
                        `value_output`"
                .into());
        }
        match factors.iter().find(|(.., factor)| !(*factor > 0.0 && factor.is_finite())) {
            Some((_, key, factor)) => Err(format!("`{key}` {factor} must be positive")),
            None => Ok(()),
        }
    }

    /// The factors on a model's pieces.
    ///
    /// # Errors
    /// A gauge that its type lacks, with the key.
    fn rescaling(&self, encoder: &Encoder) -> Result<Rescaling, (&'static str, String)> {
        let pieces = encoder.pieces();
        let mut rescaling = Rescaling::none(pieces.len());
        for (kind, key, factor) in self.factors() {
            for gauge in encoder.gauges(kind, &pieces).map_err(|why| (key, why.to_string()))? {
                rescaling = rescaling.and(&gauge, factor);
            }
        }
        Ok(rescaling)
    }

    /// The same function in this gauge.
    ///
    /// # Errors
    /// A gauge that the model's type lacks.
    pub(super) fn apply(&self, loaded: &Loaded) -> Result<Loaded, ConfigError> {
        let rescaling = self.rescaling(&loaded.encoder).map_err(|(key, message)| at(key, message))?;
        Ok(Loaded {
            weights: rescaling.apply(&loaded.encoder, &loaded.weights),
            encoder: loaded.encoder.clone(),
            folder: loaded.folder.clone(),
            notes: vec![],
        })
    }
}

fn at(key: &str, message: String) -> ConfigError {
    ConfigError { place: format!("[[gauge]] `{key}`"), message }
}

/// Every model has the gauges that it is to be examined in.
///
/// # Errors
/// One that a model lacks.
pub(super) fn check(plan: &SweepPlan, tokens: u32, longest: u32) -> Result<(), ConfigError> {
    let mut seen = Vec::new();
    for run in plan.runs.iter().filter(|_| !plan.gauges.is_empty()) {
        let config = run.model_config(tokens, longest);
        if seen.contains(&config) {
            continue;
        }
        // What makes sizes impossible is said where the model is made.
        if let Ok(encoder) = Encoder::new(&config) {
            for (i, gauge) in plan.gauges.iter().enumerate() {
                gauge.rescaling(&encoder).map_err(|(key, message)| ConfigError {
                    place: place(plan, &format!("[[gauge]] number {} `{key}`", i + 1)),
                    message: format!("the model of `{}` lacks it: {message}", run.label),
                })?;
            }
        }
        seen.push(config);
    }
    Ok(())
}

impl Examiner<'_> {
    /// How far the last representations are from those of the model in its own gauge.
    pub(super) fn gauged(&self, subject: &Subject<'_>, original: &Loaded) -> Result<Gauged, RunFailure> {
        let corpus = subject.corpus();
        let seed = held_out_seed(corpus.seed);
        let sentences: Vec<Words> = (0..SENTENCES).map(|i| corpus.language.held_out(seed, i)).collect();
        let longest = sentences.iter().map(Vec::len).max().unwrap_or(0);
        let layer = subject.loaded.encoder.hidden.len() - 1;
        let device = &subject.model.device;
        let of = |model: &crate::model::Model| {
            Features::of_model(model, &corpus.tokens, layer, Pooling::Concat, &sentences, longest)
        };
        let (own, other) = (of(&original.on(device)?)?, of(&subject.model)?);
        let square = own.values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / own.values.len().max(1) as f64;
        // Not `f64::max`, which passes over what is no number.
        let larger = |most: f64, d: f64| if d <= most { most } else { d };
        let apart = own.values.iter().zip(&other.values).map(|(a, b)| f64::from(a - b).abs()).fold(0.0, larger);
        Ok(Gauged { gauge_feature_difference: apart / square.sqrt(), gauge_sentences: sentences.len() })
    }
}
