//! The table of a sweep, one row per model: figures and correlations are made from it.
//!
//! Nothing in it depends on when or how fast it was made: a sweep that was interrupted and started again gives the same
//! bytes on the same adapter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::average::Averaging;
use super::conventions::TraceConventions;
use super::displacement::Displacement;
use super::gauge::Gauged;
use super::registration::Registration;
use crate::config::ObjectiveKind;
use crate::downstream::{Alignment, Nats};
use crate::train::{Evaluation, ExampleLoss, Measurement};

/// A sweep's results; `table.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// Version of this form.
    pub format: u32,
    /// Name of the sweep.
    pub name: String,
    /// The name of what the sweep varies, for colours and legends: "steps", "size", "algorithm", ...
    pub intervention: String,
    /// "pcfg" or "hmm", with its size in words; "examples of FILE".
    pub language: String,
    /// Hash of the language, or of the examples; tables of one language may be laid together.
    pub language_hash: String,
    /// What is predicted, "mlm" or "causal"; tables of one objective alone are laid together.
    #[serde(default, skip_serializing_if = "ObjectiveKind::is_mlm")]
    pub objective: ObjectiveKind,
    /// Excess loss, in nats, under which a model counts as saturated.
    pub saturation_bound: f64,
    /// Seed of the sentences that all models are evaluated, measured and probed on.
    pub seed: u64,
    /// One for each probe of the sweep.
    pub tasks: Vec<Task>,
    /// The collapse of a trace over η²·steps/B is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse: Option<Collapse>,
    /// The plan that the sweep file names, and what differs from it; absent where none is named: then all is
    /// exploratory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// One for each model that something is known of.
    pub rows: Vec<Row>,
    /// Models that the plan has and of which nothing is known, with the reason.
    pub missing: Vec<Missing>,
}

impl Table {
    /// The form that is written, and the only one that is read.
    pub const FORMAT: u32 = 1;
}

/// The facts about a downstream task that hold for every model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Task {
    /// Name of the task.
    pub task: String,
    /// How it is learned, in words.
    pub method: String,
    /// Classes that occur.
    pub classes: usize,
    /// Accuracy of a guess among the classes.
    pub chance: f64,
    /// Accuracy of always naming the most frequent class.
    pub majority: f64,
    /// Bayes-optimal accuracy on the truth behind the labels, where it is defined.
    pub bayes: Option<f64>,
    /// Sentences to learn from.
    pub train: usize,
    /// Sentences to choose the epoch or ridge by.
    pub validation: usize,
    /// Sentences that accuracies are counted on.
    pub test: usize,
}

/// Run of the row of the exact conditionals, which is no trained model.
pub const LOOKUP: &str = "lookup";

/// A model: a run at a step, or one that was not trained here, of which steps, batches and rates are 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// Id of the run; "lookup" for the table of exact conditionals.
    pub run: String,
    /// The same for runs that differ in nothing but the seed.
    pub group: String,
    /// The group in words, for legends: what the sweep sets but the seed.
    pub label: String,
    /// Seed of the run.
    pub seed: u64,
    /// The settings of the sweep, by key.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// Steps of training.
    pub step: u64,
    /// Whether it is the last of its run.
    pub last: bool,
    /// Sentences of a step.
    pub batch_size: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Σ η² / B over the steps so far, B in sentences: the time of Theorem 4.3, up to the predicted tokens of a
    /// sentence where those are several.
    pub noise_time: f64,
    /// Parameters of the model as trained.
    pub parameters: usize,
    /// Parameters that curvature is taken over, when it is: "64 wide, 2 layers, ... by duplication" or "as trained".
    pub parametrisation: String,
    /// Null where it is not known, and for the lookup table, whose excess loss is 0 by construction.
    pub evaluation: Option<Evaluation>,
    /// The loss on examples, where models are asked about those and no language is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<ExampleLoss>,
    /// Excess loss under the bound.
    pub saturated: bool,
    /// Null where it was not measured.
    pub curvature: Option<Measurement>,
    /// The trace in every convention, of models of several sizes; absent in tables of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conventions: Option<TraceConventions>,
    /// How much of the last representations is a function of the exact conditional; absent where it was not asked or
    /// cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Alignment>,
    /// Of the last model of a run with `train.ema`: what the noise of training adds to its excess loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<Averaging>,
    /// With `collapse.speed`: how far runs that differ in nothing but the seed moved alike since the model before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub displacement: Option<Displacement>,
    /// Of a model in another gauge than its own, which `drawn_with` names: how far its representations are from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gauge: Option<Gauged>,
    /// A task that is not known here is absent.
    pub downstream: Vec<Accuracies>,
    /// The folder of a model that was not trained here, as the sweep file names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The training that it is a checkpoint of, by the sweep file: models of one name are drawn together for intervals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn_with: Option<String>,
    /// Numbers about it from the sweep's table of covariates; one that is not known is absent.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub covariates: serde_json::Map<String, serde_json::Value>,
    /// Notes on what is not known of the model, and why; left out where all is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A task's accuracy of a model, and what was asked in nats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accuracies {
    /// Name of the task.
    pub task: String,
    /// Mean over the seeds of the probe, on the test part.
    pub accuracy: f64,
    /// Over the seeds of the probe; `None` for one seed.
    pub standard_deviation: Option<f64>,
    /// Of that mean; null for one seed.
    pub standard_error: Option<f64>,
    /// √(a (1 - a) / test sentences): how far another test part would lie.
    pub sampling_error: f64,
    /// One for each seed of the probe.
    pub per_seed: Vec<f64>,
    /// What the probe read, in words.
    pub features: String,
    /// What was asked in nats, and over label sets; then the seeds of the accuracy are sets.
    #[serde(flatten)]
    pub nats: Nats,
    /// The learning rate that the validation part chose, for each size and label set; left out where there was one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<f64>,
}

/// Asks how well a trace collapses over η²·steps/B.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Collapse {
    /// Field of the measurement: "hessian_trace" or "fisher_trace".
    pub of: String,
    /// Whether displacements of runs that differ in nothing but the seed are compared, for the speed law
    /// d Tr / dt = -4 ‖dθ / dt‖².
    #[serde(default, skip_serializing_if = "super::registration::is_false")]
    pub speed: bool,
}

/// A model that is planned and of which nothing is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// Id of the run.
    pub run: String,
    /// What the sweep sets, in words.
    pub label: String,
    /// Seed of the run.
    pub seed: u64,
    /// Why nothing is known.
    pub reason: String,
}
