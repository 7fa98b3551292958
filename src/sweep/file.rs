//! Sweep files: the axes that are varied, and the questions to each model.
//!
//! ```toml
//! name = "size"                       # default: the file's stem
//! intervention = "size"               # for colours and legends; default: the name
//! base = "pcfg-small.toml"            # a run config, relative to this file
//! output = "runs/size"                # tables and the report; default: runs/NAME
//! store = "runs/store"                # runs, shared by all sweeps that name it; default: OUTPUT/runs
//! saturation_bound = 0.02             # nats of excess loss
//! plan = "../docs/plans/size.toml"    # what is registered before the first run; left out: all is exploratory
//!
//! [grid]                              # every combination
//! "train.optimizer.kind" = ["adamw", "sgd"]
//! seed = { from = 0, count = 3 }
//! [[zip]]                             # these vary together; several [[zip]] tables combine like a grid
//! label = ["small", "large"]          # names for legends, no key of the config
//! "model.hidden_size" = [32, 128]
//! "model.num_attention_heads" = [2, 8]
//! [[exclude]]                         # leave out what has all of these values
//! "train.optimizer.kind" = "sgd"
//! "model.hidden_size" = 128
//!
//! [start]                             # a run that is trained first; all others begin with its model
//! overrides = ["train.steps=1500"]    # of `base`, or of its own `base`
//!
//! # Or, in place of `grid`, `zip`, `exclude` and `start`, models that were not trained here:
//! covariates = "scores.csv"           # numbers about them, relative to this file; column `label` names the models
//! examples = "held-out.jsonl"         # what they are asked about, in place of the language of `base`
//! [[model]]
//! path = "checkpoints/step-1000"      # relative to this file
//! label = "step-1000"                 # default: the last part of the path
//! seed = 1                            # default: 0
//!
//! [[gauge]]                           # every model in another gauge too, as a model of its own
//! tables = 0.25
//!
//! [examine]                           # what is asked of each model
//! models = "last"                     # or "checkpoints": all of them, and the last
//! sentences = 4000                    # for the loss
//! alignment = true                    # how much of the last representations is a function of the exact conditional
//! lookup = true                       # probes of the exact conditionals, or next words, beside the models
//! enlarge = "largest"                 # curvature inside the largest of the sweep's architectures, or a size
//! [examine.measure]                   # as [measure] of a run config, without `every`
//! trace = { sentences = 2048 }
//! [[examine.probe]]
//! task = "b"
//! ```

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SweepError;
use super::gauge::GaugeSection;
use super::matched::Matched;
use super::probe_section::{ProbeSection, Reads, WIDEST};
use super::queue::SlurmSection;
use super::table::Collapse;
use crate::config::{MeasureSection, Positions};
use crate::files;
use crate::text::without_mark;

/// A sweep: the axes that are varied of a run config, and the questions to each model.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Sweep")]
pub(super) struct File {
    /// Left out: the file's stem.
    pub name: Option<String>,
    /// The name of what is varied, for colours and legends. Left out: the sweep's name.
    pub intervention: Option<String>,
    /// Run config, relative to this file. It may be left out where `model` and `examples` are given.
    pub base: Option<PathBuf>,
    /// Folder of the tables and the report. Left out: `runs/NAME`.
    pub output: Option<PathBuf>,
    /// Folder of the runs, shared by all sweeps that name it. Left out: `OUTPUT/runs`.
    pub store: Option<PathBuf>,
    /// Excess loss in nats under which a model counts as saturated.
    #[serde(default = "default_bound")]
    pub saturation_bound: f64,
    /// Every combination of these axes: by key, an array of values or { from, count }.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub grid: toml::Table,
    /// Axes that vary together.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub zip: Vec<toml::Table>,
    /// Combinations to leave out: those with all of these values.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub exclude: Vec<toml::Table>,
    /// A run that is trained first; the others begin with its model.
    pub start: Option<StartSection>,
    /// Models that were not trained here, in place of runs.
    #[serde(default)]
    pub model: Vec<GivenSection>,
    /// Table of numbers about these models (CSV, relative to this file): column `label` says which, `seed` where there
    /// is one too, the others hold numbers or nothing.
    pub covariates: Option<PathBuf>,
    /// Examples that these models are asked about (JSON lines, relative to this file), in place of a language.
    pub examples: Option<PathBuf>,
    /// Gauges that every model is examined in too, the same function with other parameters.
    #[serde(default)]
    pub gauge: Vec<GaugeSection>,
    /// The questions to each model.
    #[serde(default)]
    pub examine: ExamineSection,
    /// Asks how well a trace collapses over η²·steps/B.
    pub collapse: Option<Collapse>,
    /// Plan of the experiment, relative to this file: what is registered before the first run.
    pub plan: Option<PathBuf>,
    /// What the jobs of `sweep submit` ask of a queue.
    pub slurm: Option<SlurmSection>,
}

/// Labelled sentences of a part, and fits, beyond all use.
const MOST_ROWS: u32 = 1 << 24;
const MOST_FITS: u32 = 10_000;

fn default_bound() -> f64 {
    0.02
}

/// A model that was not trained here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenSection {
    /// Its folder, relative to this file: one with `config.json`, or one of the Hugging Face hub's cache.
    pub path: PathBuf,
    /// Name in legends, tables and covariates; models of one label differ by their seed. Left out: the last part of
    /// the path.
    pub label: Option<String>,
    /// Seed of its training, or another number that tells models of one label apart.
    #[serde(default)]
    pub seed: u64,
    /// Name of the training that it is a checkpoint of. Models of one name are not independent and are drawn together
    /// for the intervals of correlations. Left out: it stands by itself.
    pub run: Option<String>,
}

/// The run that all others begin with, or one for each seed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartSection {
    /// Run config, relative to the sweep file. Left out: the sweep's.
    pub base: Option<PathBuf>,
    /// Overrides of it, as `train.steps=1500`.
    #[serde(default)]
    pub overrides: Vec<String>,
    /// A run for each seed of the sweep, with that seed, instead of one for all.
    #[serde(default)]
    pub each_seed: bool,
}

/// The models of a run that are examined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Models {
    /// The one at the end.
    #[default]
    Last,
    /// Every checkpoint that the config's schedule keeps, and the one at the end.
    Checkpoints,
}

/// The architecture that curvature is taken in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Enlarge {
    /// "largest": of each size the largest in the sweep.
    Named(String),
    /// These sizes for all models.
    Size(EnlargeSize),
}

/// Sizes of an architecture; what is left out grows with the hidden size, or stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnlargeSize {
    /// Width of the representations.
    pub hidden_size: Option<u32>,
    /// Layers behind the embedding.
    pub num_hidden_layers: Option<u32>,
    /// Heads of each layer.
    pub num_attention_heads: Option<u32>,
    /// Feed-forward units of each layer.
    pub intermediate_size: Option<u32>,
}

/// The filling of an enlarged model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnlargeBy {
    /// By copies, as in the paper's release.
    #[default]
    Duplication,
    /// By zeros: more layers and feed-forward units only.
    Zeros,
}

/// The questions to each model.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExamineSection {
    /// Which models of a run are examined.
    pub models: Models,
    /// Of `models = "checkpoints"`: only those around these excess losses are examined, and what is measured of them is
    /// interpolated to these.
    pub matched: Option<Matched>,
    /// Seed of all sentences here, the same for every model: for the loss, curvature and tasks.
    pub seed: u64,
    /// Sentences for the loss.
    pub sentences: u32,
    /// As `evaluate.positions` of a run config: "one" or "all" positions of a sentence. Of `objective.kind` "mlm".
    pub positions: Positions,
    /// Whether probes of the exact conditionals stand beside those of the models.
    pub lookup: bool,
    /// The architecture that curvature is taken in; absent: each model's own.
    pub enlarge: Option<Enlarge>,
    /// How the larger model is filled.
    pub enlarge_by: EnlargeBy,
    /// Whether to ask which share of the variance of the last representations at masked positions lies between
    /// different exact conditionals; for languages in which conditionals come back.
    pub alignment: bool,
    /// Curvature; absent: none.
    pub measure: Option<MeasureSection>,
    /// Downstream tasks.
    pub probe: Vec<ProbeSection>,
}

impl Default for ExamineSection {
    fn default() -> Self {
        ExamineSection {
            models: Models::Last,
            matched: None,
            seed: 0,
            sentences: 4000,
            positions: Positions::One,
            lookup: false,
            enlarge: None,
            enlarge_by: EnlargeBy::Duplication,
            alignment: false,
            measure: None,
            probe: Vec::new(),
        }
    }
}

impl ExamineSection {
    fn check(&self) -> Result<(), String> {
        let range = |key: &str, value: u64, low: u64, high: u64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(format!("[examine] `{key}`: {value} must lie in {low} to {high}")),
        };
        if let Some(matched) = &self.matched {
            matched.check().map_err(|message| format!("[examine] `matched`: {message}"))?;
            if self.models != Models::Checkpoints {
                return Err("[examine] `matched` is of checkpoints; write `models = \"checkpoints\"`".into());
            }
        }
        range("sentences", self.sentences.into(), 2, 1 << 20)?;
        if let Some(Enlarge::Named(name)) = &self.enlarge
            && name != "largest"
        {
            return Err(format!(
                "[examine] `enlarge`: `{name}` is neither \"largest\" nor a size as {{ hidden_size = 128 }}"
            ));
        }
        if let Some(measure) = &self.measure {
            measure.check().map_err(|(key, message)| format!("[examine] `{key}`: {message}"))?;
            if measure.every != MeasureSection::default().every {
                return Err("[examine.measure] `every`: which models are measured is said by `models`".into());
            }
        }
        for (i, probe) in self.probe.iter().enumerate() {
            let wrong = |message: String| Err(format!("[[examine.probe]] number {}: {message}", i + 1));
            if let Err(error) = probe.task.parse::<crate::language::Task>() {
                return wrong(format!("`task`: {error}"));
            }
            if probe.label.as_ref().is_some_and(|label| label.trim().is_empty()) {
                return wrong("`label` is empty; leave it out for the task's own name".into());
            }
            let name = |probe: &ProbeSection| probe.name(&probe.task).to_lowercase();
            if let Some(same) = self.probe[..i].iter().position(|before| name(before) == name(probe)) {
                let (number, name) = (same + 1, probe.name(&probe.task));
                return wrong(format!("is called `{name}` as number {number} is; give one of them a `label`"));
            }
            if probe.train < 2 || probe.validation == 0 || probe.test == 0 || probe.seeds == 0 {
                return wrong("`train` must be at least 2, `validation`, `test` and `seeds` at least 1".into());
            }
            if [probe.train, probe.validation, probe.test].iter().any(|n| *n > MOST_ROWS) || probe.seeds > MOST_FITS {
                let most = format!("{MOST_ROWS}, `seeds` at most {MOST_FITS}");
                return wrong(format!("`train`, `validation` and `test` must be at most {most}"));
            }
            if let Err(message) = probe.check_sets() {
                return wrong(message);
            }
            if probe.lr.is_some_and(|lr| !(lr > 0.0 && lr.is_finite())) {
                return wrong("`lr` must be positive".into());
            }
            if probe.epochs == Some(0) || probe.batch == Some(0) || probe.projection == Some(0) {
                return wrong("`epochs`, `batch` and `projection` must be at least 1".into());
            }
            if probe.projection.is_some_and(|width| width > WIDEST) {
                return wrong(format!("`projection` must be at most {WIDEST}"));
            }
            if let Some((key, method)) = probe.foreign_key() {
                return wrong(format!("`{key}` belongs to {method}, and `method` is {:?}", probe.method.name()));
            }
            if probe.padded_length.is_some() && probe.features != Reads::Padded {
                return wrong("`padded_length` belongs to `features = \"padded\"`".into());
            }
            if probe.encoder_dropout.is_some_and(|p| !(0.0..1.0).contains(&p)) {
                return wrong("`encoder_dropout` must lie in [0, 1)".into());
            }
            if probe.clip.is_some_and(|clip| !(clip >= 0.0 && clip.is_finite())) {
                return wrong("`clip` must be 0 (off) or positive".into());
            }
            if let Err((key, message)) = probe.linear_probe(probe.lr).check() {
                return wrong(format!("`{key}`: {message}"));
            }
            if probe.ridge.is_empty() || probe.ridge.iter().any(|l| !(*l > 0.0 && l.is_finite())) {
                return wrong("`ridge` must be a list of positive numbers".into());
            }
        }
        Ok(())
    }
}

impl File {
    /// The sweep's name.
    pub fn named(&self, path: &Path) -> String {
        let stem = || path.file_stem().map_or("sweep".into(), |s| s.to_string_lossy().into_owned());
        self.name.clone().unwrap_or_else(stem)
    }

    /// Reads and checks a sweep file.
    pub fn read(path: &Path) -> Result<File, SweepError> {
        let place = path.display().to_string();
        let error = |message: String| SweepError::new(place.clone(), message);
        let bytes = files::read_any(path, files::SMALL).map_err(|e| error(format!("cannot be read: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|_| error("is not UTF-8 text".into()))?;
        let text = without_mark(&text);
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            SweepError::new(format!("{place}:{line}"), e.message().trim_end().to_string())
        })?;
        if let Some(key) = crate::config::not_finite(text) {
            return Err(error(format!("`{key}` must be a finite number")));
        }
        if !(file.saturation_bound > 0.0 && file.saturation_bound.is_finite()) {
            return Err(error(format!("`saturation_bound` {} must be positive", file.saturation_bound)));
        }
        if let Some(collapse) = &file.collapse
            && !["hessian_trace", "fisher_trace"].contains(&collapse.of.as_str())
        {
            return Err(error("`collapse.of` is \"hessian_trace\" or \"fisher_trace\"".into()));
        }
        if let Some(slurm) = &file.slurm {
            slurm.check().map_err(error)?;
        }
        file.examine.check().map_err(error)?;
        for (i, gauge) in file.gauge.iter().enumerate() {
            let wrong = |message: String| error(format!("[[gauge]] number {}: {message}", i + 1));
            gauge.check().map_err(wrong)?;
            let same = |other: &&GaugeSection| other.name() == gauge.name() || other.folder() == gauge.folder();
            if file.gauge[..i].iter().find(same).is_some() {
                return Err(wrong(format!("`{}` is there already", gauge.name())));
            }
        }
        if !file.gauge.is_empty() && file.examine.matched.is_some() {
            let message = "[examine] `matched` and [[gauge]]: a gauge changes no loss; ask for one of them in a sweep";
            return Err(error(message.into()));
        }
        if !file.gauge.is_empty() && file.examples.is_some() {
            let message = "[[gauge]] belongs to models of a language, and `examples` is none; give `base` alone";
            return Err(error(message.into()));
        }
        Ok(file)
    }
}

/// The JSON schema of sweep files.
pub fn schema() -> serde_json::Value {
    crate::config::schema_of::<File>()
}
