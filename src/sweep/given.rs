//! Sweeps over models that were not trained here: `[[model]]` names folders, and each is asked what a trained one is
//! asked. A model's id is a hash of its files and of what it is asked about, so that one whose files were replaced is
//! asked anew.

use std::fs::File as Opened;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::covariates::Covariates;
use super::error::SweepError;
use super::file::{File, GivenSection, Models};
use super::plan::{MOST, PlannedRun, SweepPlan, short};
use crate::config::{self, ConfigError, EvaluateSection, ModelSection, Resolved, TrainSection, as_text};
use crate::model::{ModelConfig, ModelError, check_weights, config_of, model_folder, tokenizer_files};

/// A model that the sweep does not train.
#[derive(Clone, Debug, Serialize)]
pub struct GivenModel {
    /// Its folder as the sweep file names it.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// The folder with its `config.json`.
    #[serde(serialize_with = "as_text")]
    pub folder: PathBuf,
    /// What its `config.json` says.
    #[serde(skip)]
    pub config: ModelConfig,
    /// Hash of its files.
    pub hash: String,
    /// Name of the training that it is a checkpoint of: models of one name are drawn together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Numbers about it, by name.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub covariates: serde_json::Map<String, serde_json::Value>,
}

/// A file of examples that models are asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExamplesFile {
    /// Where it lies.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// Hash of what it holds.
    pub hash: String,
}

impl GivenModel {
    /// The model of a folder, named relative to `beside`.
    ///
    /// # Errors
    /// No such folder, no config or weights in it, or a config that is not supported.
    fn read(beside: &Path, path: &Path, run: Option<String>) -> Result<GivenModel, ModelError> {
        let named = beside.join(path);
        if !named.exists() {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such folder");
            return Err(ModelError::Io { path: named, source });
        }
        let folder = model_folder(&named)?;
        let config = config_of(&folder)?;
        check_weights(&folder)?;
        let hash = hash_of(&folder)?;
        Ok(GivenModel { path: path.into(), folder, config, hash, run, covariates: serde_json::Map::new() })
    }

    /// Whether its files are those that the plan was made of.
    ///
    /// # Errors
    /// A file that cannot be read, or another model in its place.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        match hash_of(&self.folder)? == self.hash {
            true => Ok(()),
            false => Err(ModelError::Format {
                path: self.folder.clone(),
                message: "its files were replaced after the sweep had begun; run it again to ask the new model".into(),
            }),
        }
    }
}

/// Hash of all files that a model and its tokens are read from.
fn hash_of(folder: &Path) -> Result<String, ModelError> {
    let weights = check_weights(folder)?;
    let mut hasher = blake3::Hasher::new();
    for file in [vec![folder.join("config.json")], weights, tokenizer_files(folder)].concat() {
        let opened = match Opened::open(&file) {
            // Not every model has every file of a tokenizer.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened,
        };
        let take = |opened: Opened| {
            let bytes = opened.metadata()?.len();
            hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(&bytes.to_le_bytes());
            hasher.update_reader(opened).map(drop)
        };
        opened.and_then(take).map_err(|source| ModelError::Io { path: file.clone(), source })?;
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}

/// Plans a sweep over given models; relative paths begin in the folder of the sweep file.
pub(super) fn plan(file: File, path: &Path) -> Result<SweepPlan, SweepError> {
    let place = path.display().to_string();
    let error = |message: String| SweepError::new(place.clone(), message);
    check_file(&file).map_err(error)?;
    let beside = path.parent().unwrap_or(Path::new(""));
    let base = file.base.as_ref().map(|base| beside.join(base));
    let examples = file.examples.as_ref().map(|examples| read_examples(&beside.join(examples))).transpose()?;
    let name = file.named(path);
    let resolved = match &base {
        Some(base) => config::load(base, &[]).map_err(|e| error(e.to_string()))?,
        None => Resolved::of_defaults(&name),
    };
    let asked = asked_about(&resolved, examples.as_ref());
    let models: Vec<Result<GivenModel, ModelError>> =
        file.model.par_iter().map(|section| GivenModel::read(beside, &section.path, section.run.clone())).collect();
    let mut runs: Vec<PlannedRun> = Vec::new();
    for (i, (section, model)) in file.model.iter().zip(models).enumerate() {
        let wrong = |message: String| error(format!("[[model]] number {}: {message}", i + 1));
        let model = model.map_err(|e| SweepError { kind: (&e).into(), ..wrong(format!("`path`: {e}")) })?;
        let run = planned(section, model, &asked, &resolved);
        if let Some(same) = runs.iter().find(|other| (&other.label, other.seed) == (&run.label, run.seed)) {
            let message =
                format!("`{}`, seed {} is there already; give it another `label` or `seed`", same.label, same.seed);
            return Err(wrong(message));
        }
        if let Some(same) = runs.iter().find(|other| other.id == run.id) {
            return Err(wrong(format!(
                "its files are those of `{}`, seed {}; name a model once",
                same.label, same.seed
            )));
        }
        runs.push(run);
    }
    let mut notes = Vec::new();
    if let Some(covariates) = &file.covariates {
        notes = Covariates::read(&beside.join(covariates))?.give(&mut runs)?;
    }
    let output = file.output.unwrap_or_else(|| Path::new("runs").join(&name));
    let named = [&file.base, &file.covariates, &file.examples];
    Ok(SweepPlan {
        file: path.to_path_buf(),
        named: named.into_iter().flatten().map(|own| beside.join(own)).collect(),
        registered: file.plan.clone(),
        gauges: file.gauge.clone(),
        intervention: file.intervention.unwrap_or_else(|| name.clone()),
        name,
        base,
        store: file.store.unwrap_or_else(|| output.join("runs")),
        output,
        saturation_bound: file.saturation_bound,
        starts: vec![],
        runs,
        excluded: 0,
        duplicates: 0,
        examples,
        notes,
        examine: file.examine,
        collapse: None,
        slurm: file.slurm,
        compared: std::sync::OnceLock::new(),
    })
}

/// Refuses what belongs to models that are trained.
fn check_file(file: &File) -> Result<(), String> {
    let trained = [
        ("[grid]", !file.grid.is_empty()),
        ("[[zip]]", !file.zip.is_empty()),
        ("[[exclude]]", !file.exclude.is_empty()),
        ("[start]", file.start.is_some()),
        ("[collapse]", file.collapse.is_some()),
    ];
    if let Some((key, _)) = trained.into_iter().find(|(_, given)| *given) {
        return Err(format!("{key} belongs to models that are trained, and [[model]] names models that are there"));
    }
    if file.examine.models == Models::Checkpoints {
        return Err("[examine] `models`: a [[model]] is one model; name each checkpoint by its own path".into());
    }
    if file.model.len() > MOST {
        return Err(format!("names more than {MOST} models"));
    }
    match file.base.is_none() && file.examples.is_none() {
        true => Err("give `base`, a run config with the language that the models are asked about, or `examples`, a \
                     file of examples"
            .into()),
        false => Ok(()),
    }
}

fn read_examples(path: &Path) -> Result<ExamplesFile, SweepError> {
    let mut hasher = blake3::Hasher::new();
    match Opened::open(path).and_then(|file| hasher.update_reader(file).map(drop)) {
        Ok(()) => Ok(ExamplesFile { path: path.into(), hash: hasher.finalize().to_hex()[..16].to_string() }),
        Err(e) => Err(SweepError::new(path.display().to_string(), format!("cannot be read: {e}"))),
    }
}

/// A hash of what can change an answer beside the model and the question.
fn asked_about(resolved: &Resolved, examples: Option<&ExamplesFile>) -> String {
    let mut asked = resolved.clone();
    let micro_batch = Some(asked.config.train.micro_batch().into());
    asked.config.train = TrainSection { micro_batch, ..TrainSection::default() };
    asked.config.model = ModelSection::default();
    asked.config.evaluate = EvaluateSection::default();
    asked.config.measure = None;
    asked.config.seed = 0;
    match examples {
        // No language takes part.
        Some(examples) => {
            asked.config.language = config::LanguageSection::default();
            format!("{} of {}", asked.hash(), examples.hash)
        }
        None => asked.hash(),
    }
}

fn planned(section: &GivenSection, model: GivenModel, asked: &str, resolved: &Resolved) -> PlannedRun {
    let last = || section.path.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned());
    let label = section.label.clone().unwrap_or_else(last);
    PlannedRun {
        id: short(&format!("{} asked about {asked}", model.hash)),
        earlier_id: None,
        group: short(&format!("models `{label}` asked about {asked}")),
        seed: section.seed,
        label,
        values: serde_json::Map::new(),
        overrides: vec![],
        start: None,
        given: Some(model),
        resolved: resolved.clone(),
    }
}

impl SweepPlan {
    /// Checks examples, where models are asked about them, against each model; and the questions.
    pub(super) fn check_examples(&self, examples: &ExamplesFile) -> Result<(), ConfigError> {
        let wrong =
            |key: &str, message: &str| ConfigError { place: super::check::place(self, key), message: message.into() };
        let examine = &self.examine;
        if !examine.probe.is_empty() {
            return Err(wrong(
                "[[examine.probe]]",
                "a task needs a language, and `examples` has none; give `base` alone",
            ));
        }
        if examine.lookup {
            return Err(wrong("[examine] `lookup`", "only a language has exact conditionals, and `examples` is none"));
        }
        if examine.alignment {
            return Err(wrong(
                "[examine] `alignment`",
                "only a language has exact conditionals, and `examples` is none",
            ));
        }
        if examine.positions != config::Positions::One {
            return Err(wrong("[examine] `positions`", "the examples say what is predicted"));
        }
        let mut seen: Vec<&ModelConfig> = Vec::new();
        for run in &self.runs {
            let Some(model) = &run.given else { continue };
            if seen.contains(&&model.config) {
                continue;
            }
            let found = crate::model::read_examples(&examples.path, &model.config)
                .map_err(|e| ConfigError { place: format!("the model of `{}`", run.label), message: e.to_string() })?;
            if found.len() < 2 {
                let message = "holds one example, and no standard error is known of one";
                return Err(ConfigError { place: examples.path.display().to_string(), message: message.into() });
            }
            seen.push(&model.config);
        }
        Ok(())
    }
}
