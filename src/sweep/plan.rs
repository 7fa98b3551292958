//! The plan of a sweep: which runs a sweep file asks for, each as overrides of one run config.
//!
//! A run's id is the hash of its resolved config, so that the same run has the same id in every sweep. (Where
//! checkpoints are examined, the keys that say which are kept belong to it.) `seed` is an axis of its own: it varies
//! fastest, and runs that differ in nothing else have the same `group`. `label` is no key of the config but a name for
//! legends.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;

use super::error::SweepError;
use super::file::{Enlarge, EnlargeSize, ExamineSection, File, Models, StartSection};
use super::gauge::GaugeSection;
use super::given::{self, ExamplesFile, GivenModel};
use super::queue::SlurmSection;
use super::table::Collapse;
use crate::config::{self, ObjectiveKind, Resolved, as_text};
use crate::model::{ModelConfig, Reach, Size};

/// One run of a plan, or a model that is there already.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedRun {
    /// Hash of the resolved config; of a given model that of its files and what it is asked about.
    pub id: String,
    /// Id by the rule of versions up to 0.1.0, where it is another.
    #[serde(skip)]
    pub earlier_id: Option<String>,
    /// One id for all runs that differ in nothing but the seed.
    pub group: String,
    /// Seed of the run.
    pub seed: u64,
    /// The group in words.
    pub label: String,
    /// The settings of the sweep, by key.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// The settings as overrides of the base config.
    pub overrides: Vec<String>,
    /// Id of the run that it begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The model, where it is not trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<GivenModel>,
    /// Its whole config; of a given model the sweep's base.
    #[serde(skip)]
    pub resolved: Resolved,
}

/// All runs of a sweep in order.
#[derive(Clone, Debug, Serialize)]
pub struct SweepPlan {
    /// The file's `name`, or its stem.
    pub name: String,
    /// The run config that the axes vary, or that has the language which given models are asked about.
    #[serde(serialize_with = "as_text_or_null")]
    pub base: Option<PathBuf>,
    /// The name of what is varied, for colours and legends.
    pub intervention: String,
    /// Folder of the tables and the report.
    #[serde(serialize_with = "as_text")]
    pub output: PathBuf,
    /// Folder of the runs.
    #[serde(serialize_with = "as_text")]
    pub store: PathBuf,
    /// Excess loss in nats under which a model counts as saturated.
    pub saturation_bound: f64,
    /// The runs that the others begin with, trained first: none, one for all, or one for each seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<PlannedRun>,
    /// One for each combination that is not left out.
    pub runs: Vec<PlannedRun>,
    /// Combinations that `[[exclude]]` left out.
    pub excluded: usize,
    /// Combinations whose config equals an earlier one's; each is run once.
    pub duplicates: usize,
    /// What given models are asked about, where it is no language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub examples: Option<ExamplesFile>,
    /// What is worth a note about the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The questions to each model.
    #[serde(skip)]
    pub examine: ExamineSection,
    /// Whether a trace's collapse over η²·steps/B is looked at, and of which.
    #[serde(skip)]
    pub collapse: Option<Collapse>,
    /// Gauges that every model is examined in too.
    #[serde(skip)]
    pub gauges: Vec<GaugeSection>,
    /// The sweep file.
    #[serde(skip)]
    pub file: PathBuf,
    /// The files that it names and whose content its hash knows.
    #[serde(skip)]
    pub named: Vec<PathBuf>,
    /// The plan that it names, as it names it.
    #[serde(skip)]
    pub registered: Option<PathBuf>,
    /// What jobs ask of a queue.
    #[serde(skip)]
    pub slurm: Option<SlurmSection>,
    /// What [`SweepPlan::compared_in`] found, which looks at every run and is asked for each.
    #[serde(skip)]
    pub(super) compared: OnceLock<Option<Size>>,
}

/// A key with a value.
type Setting = (String, toml::Value);

fn as_text_or_null<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => as_text(path, serializer),
        None => serializer.serialize_none(),
    }
}

/// Runs that a sweep may have.
pub(super) const MOST: usize = 100_000;

/// Reads a sweep file and resolves every run.
///
/// # Errors
/// A file that cannot be read or has unknown keys; axes without values or of unequal length; a run whose config cannot
/// be, with the override at fault; an exclusion that fits nothing; a given model that is not there.
pub fn plan(path: &Path) -> Result<SweepPlan, SweepError> {
    let place = path.display().to_string();
    let error = |message: String| SweepError::new(place.clone(), message);
    let file = File::read(path)?;
    if !file.model.is_empty() {
        return given::plan(file, path);
    }
    let of_given = [("covariates", &file.covariates), ("examples", &file.examples)];
    if let Some((key, _)) = of_given.into_iter().find(|(_, value)| value.is_some()) {
        return Err(error(format!("`{key}` belongs to models that are there already; name them with [[model]]")));
    }
    let name = file.named(path);
    let folder = path.parent().unwrap_or(Path::new(""));
    let base = file.base.as_ref().ok_or_else(|| error("missing field `base`".into()))?;
    let base = folder.join(base);
    let mut axes: Vec<Vec<Vec<Setting>>> = Vec::new();
    let mut seeds = None;
    for (key, values) in axis_values(&file.grid, "[grid]").map_err(error)? {
        let axis: Vec<Vec<Setting>> = values.into_iter().map(|v| vec![(key.clone(), v)]).collect();
        if key == "seed" { seeds = Some(axis) } else { axes.push(axis) }
    }
    for zipped in &file.zip {
        axes.push(zip(zipped).map_err(error)?);
    }
    // The last axis varies fastest.
    axes.extend(seeds);
    if axes.iter().map(Vec::len).try_fold(1usize, |all, n| all.checked_mul(n)).is_none_or(|n| n > MOST) {
        return Err(error(format!("asks for more than {MOST} runs")));
    }
    let excludes: Vec<Vec<Setting>> = file.exclude.iter().map(|table| flatten(table, "")).collect();
    let points = axes.iter().fold(vec![vec![]], |all, axis| {
        all.iter().flat_map(|p: &Vec<Setting>| axis.iter().map(move |q| [p.as_slice(), q].concat())).collect()
    });
    let in_plan = |e: config::ConfigError| SweepError::new(place.clone(), e.to_string());
    // Which checkpoints are kept decides what there is to examine.
    let all_keys = file.examine.models == Models::Checkpoints;
    let each_seed = file.start.as_ref().is_some_and(|section| section.each_seed);
    let begin = |seed: u64| match &file.start {
        Some(section) => start(section, folder, &base, seed, all_keys).map(Some).map_err(in_plan),
        None => Ok(None),
    };
    let output = file.output.unwrap_or_else(|| Path::new("runs").join(&name));
    let start_base = file.start.as_ref().and_then(|start| start.base.as_ref()).map(|own| folder.join(own));
    let mut plan = SweepPlan {
        file: path.to_path_buf(),
        named: std::iter::once(base.clone()).chain(start_base).collect(),
        registered: file.plan,
        gauges: file.gauge,
        intervention: file.intervention.unwrap_or_else(|| name.clone()),
        name,
        base: Some(base.clone()),
        store: file.store.unwrap_or_else(|| output.join("runs")),
        output,
        saturation_bound: file.saturation_bound,
        starts: vec![],
        runs: vec![],
        excluded: 0,
        duplicates: 0,
        examples: None,
        notes: vec![],
        examine: file.examine,
        collapse: file.collapse,
        slurm: file.slurm,
        compared: OnceLock::new(),
    };
    let mut hits = vec![0usize; excludes.len()];
    for point in &points {
        if let Some((key, _)) = point
            .iter()
            .enumerate()
            .find(|(i, s)| s.0 != LABEL && point[..*i].iter().any(|t| t.0 == s.0))
            .map(|(_, s)| s)
        {
            return Err(error(format!("`{key}` is on two axes")));
        }
        let fits = |exclude: &Vec<Setting>| exclude.iter().all(|e| point.contains(e));
        let found: Vec<usize> = (0..excludes.len()).filter(|i| fits(&excludes[*i])).collect();
        found.iter().for_each(|i| hits[*i] += 1);
        if !found.is_empty() {
            plan.excluded += 1;
            continue;
        }
        let resolved = config::load(&base, &overrides(point)).map_err(in_plan)?;
        // What runs that differ in the seed alone have in common.
        let (own, common) = (begin(resolved.config.seed)?, begin(0)?);
        let run = planned(point, resolved, own.as_ref(), common.as_ref(), each_seed, all_keys);
        if let Some(start) = own.filter(|own| plan.starts.iter().all(|start| start.id != own.id)) {
            plan.starts.push(start);
        }
        match plan.runs.iter().any(|r| r.id == run.id) {
            true => plan.duplicates += 1,
            false => plan.runs.push(run),
        }
    }
    if let Some(i) = hits.iter().position(|h| *h == 0) {
        let what: Vec<String> = excludes[i].iter().map(|(k, v)| format!("{k} = {v}")).collect();
        return Err(error(format!("[[exclude]] number {} fits no combination: {}", i + 1, what.join(", "))));
    }
    match plan.runs.is_empty() {
        true => Err(error("leaves no run".into())),
        false => Ok(plan),
    }
}

/// The run that one of this seed begins with.
fn start(
    section: &StartSection,
    folder: &Path,
    base: &Path,
    seed: u64,
    all_keys: bool,
) -> Result<PlannedRun, config::ConfigError> {
    let base = section.base.as_ref().map_or(base.to_path_buf(), |own| folder.join(own));
    let mut overrides = section.overrides.clone();
    if section.each_seed {
        overrides.push(format!("seed={seed}"));
    }
    let resolved = config::load(&base, &overrides)?;
    let (id, earlier_id) = ids(&resolved, None, all_keys);
    let seed = resolved.config.seed;
    let values = serde_json::Map::new();
    let label = "start".to_string();
    let group = id.clone();
    Ok(PlannedRun { group, id, earlier_id, seed, label, values, overrides, start: None, given: None, resolved })
}

/// The settings of a point that are keys of the config.
fn settings(point: &[Setting]) -> impl Iterator<Item = &Setting> {
    point.iter().filter(|(key, _)| key != LABEL)
}

fn overrides(point: &[Setting]) -> Vec<String> {
    settings(point).map(|(key, value)| format!("{key}={value}")).collect()
}

/// A run that begins with `start`; `common` stands for it in the name of the group.
fn planned(
    point: &[Setting],
    resolved: Resolved,
    start: Option<&PlannedRun>,
    common: Option<&PlannedRun>,
    own_start: bool,
    all_keys: bool,
) -> PlannedRun {
    let mut seedless = resolved.clone();
    seedless.config.seed = 0;
    let values = settings(point)
        .map(|(key, value)| (key.clone(), serde_json::to_value(value).unwrap_or(serde_json::Value::Null)))
        .collect();
    let seed = resolved.config.seed;
    let (id, earlier_id) = ids(&resolved, start, all_keys);
    let mut group = ids(&seedless, common, all_keys).0;
    if own_start {
        // Not the group of runs that all begin with the model of seed 0.
        group = short(&format!("{group} of its own"));
    }
    let start = start.map(|start| start.id.clone());
    PlannedRun {
        id,
        earlier_id,
        group,
        seed,
        label: label(point),
        values,
        overrides: overrides(point),
        start,
        given: None,
        resolved,
    }
}

/// 16 hexadecimal digits for a text.
pub(super) fn short(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

/// A run's id, and that of versions up to 0.1.0 where it is another. With `all_keys` it is that one.
fn ids(resolved: &Resolved, start: Option<&PlannedRun>, all_keys: bool) -> (String, Option<String>) {
    // What a run begins with is not there yet; the id of the run that makes it stands for it.
    let after = |hash: String, start: Option<&String>| match start {
        Some(start) => short(&format!("{hash} after {start}")),
        None => hash,
    };
    let earlier = after(resolved.hash_of_all(), start.map(|s| s.earlier_id.as_ref().unwrap_or(&s.id)));
    if all_keys {
        return (earlier, None);
    }
    let id = after(resolved.hash(), start.map(|s| &s.id));
    let earlier = (earlier != id).then_some(earlier);
    (id, earlier)
}

/// The axis that names a group.
const LABEL: &str = "label";

/// A point of the plan in words: its labels, or its settings but the seed.
fn label(point: &[Setting]) -> String {
    let named: Vec<String> = point
        .iter()
        .filter(|(key, _)| key == LABEL)
        .map(|(_, value)| value.as_str().map_or_else(|| value.to_string(), str::to_string))
        .collect();
    if !named.is_empty() {
        return named.join(", ");
    }
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_string();
    let settings: Vec<String> = point
        .iter()
        .filter(|(key, _)| key != "seed")
        .map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
            format!("{} {value}", last(key))
        })
        .collect();
    if settings.is_empty() { "base".into() } else { settings.join(", ") }
}

impl PlannedRun {
    /// The sizes of its model, of which not every type has all.
    pub(super) fn size(&self) -> Size {
        let section = &self.resolved.config.model;
        let Some(given) = &self.given else {
            return Size {
                hidden: section.hidden_size,
                layers: section.num_hidden_layers,
                heads: section.num_attention_heads,
                intermediate: section.intermediate_size,
            };
        };
        let config = &given.config;
        let own = |key: &str, value: u32| config.kind.has_key(key).then_some(value);
        Size {
            hidden: Some(config.hidden_size),
            layers: Some(config.num_hidden_layers),
            heads: own("num_attention_heads", config.num_attention_heads),
            intermediate: own("intermediate_size", config.intermediate_size),
        }
    }

    /// Its model for a vocabulary of `tokens` and sentences of up to `longest` tokens.
    pub(super) fn model_config(&self, tokens: u32, longest: u32) -> ModelConfig {
        match &self.given {
            Some(given) => given.config.clone(),
            None => self.resolved.config.model.model_config(tokens, longest),
        }
    }
}

impl SweepPlan {
    /// The run that another begins with.
    pub fn start_of(&self, run: &PlannedRun) -> Option<&PlannedRun> {
        self.starts.iter().find(|start| Some(&start.id) == run.start.as_ref())
    }

    /// Whether others begin with a run.
    pub fn is_start(&self, run: &PlannedRun) -> bool {
        self.starts.iter().any(|start| start.id == run.id)
    }

    /// The labels of its models, each once.
    pub fn all_labels(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for run in &self.runs {
            if !all.contains(&run.label) {
                all.push(run.label.clone());
            }
        }
        let gauged: Vec<String> = self.gauges.iter().map(|g| g.name()).collect();
        let own = all.clone();
        all.extend(own.iter().flat_map(|label| gauged.iter().map(move |gauge| format!("{label}, {gauge}"))));
        let levels = self.examine.matched.iter().flat_map(|m| &m.excess);
        all.extend(levels.flat_map(|level| own.iter().map(move |label| format!("{label}, at {level} nats"))));
        all
    }

    /// The file of the language, where it is not there.
    pub fn absent(&self) -> Option<&Path> {
        if self.examples.is_some() {
            return None;
        }
        let language = &self.runs[0].resolved.config.language;
        let files = [&language.rules, &language.matrices, &language.tokenizer, &language.model, &language.sentences];
        let text = language.files.iter().flat_map(|files| files.list());
        files.into_iter().flatten().chain(text).map(PathBuf::as_path).find(|path| !path.exists())
    }

    /// A hash of what models are asked about: tables of one hash may be laid together.
    pub fn language_hash(&self) -> String {
        match &self.examples {
            Some(examples) => examples.hash.clone(),
            None => self.runs[0].resolved.language_hash(),
        }
    }

    /// What is predicted: of models that were not trained here and are asked about examples, next words where they read
    /// in one direction.
    pub(super) fn objective_kind(&self) -> ObjectiveKind {
        let first = &self.runs[0];
        match (&self.examples, &first.given) {
            (Some(_), Some(model)) if model.config.reach() == Reach::Past => ObjectiveKind::Causal,
            (Some(_), _) => ObjectiveKind::Mlm,
            (None, _) => first.resolved.config.objective.kind,
        }
    }

    /// The architecture that curvature is taken in, where it is not each model's own.
    pub fn enlarged(&self) -> Option<EnlargeSize> {
        let most = |of: fn(Size) -> Option<u32>| self.runs.iter().filter_map(|run| of(run.size())).max();
        match self.examine.enlarge.as_ref()? {
            Enlarge::Size(size) => Some(*size),
            Enlarge::Named(_) => Some(EnlargeSize {
                hidden_size: most(|size| size.hidden),
                num_hidden_layers: most(|size| size.layers),
                num_attention_heads: most(|size| size.heads),
                intermediate_size: most(|size| size.intermediate),
            }),
        }
    }
}

/// The keys of a table with their values, `a.b` for nested ones.
fn flatten(table: &toml::Table, prefix: &str) -> Vec<Setting> {
    let one = |(key, value): (&String, &toml::Value)| {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) if !is_range(inner) => flatten(inner, &key),
            _ => vec![(key, value.clone())],
        }
    };
    table.iter().flat_map(one).collect()
}

fn is_range(table: &toml::Table) -> bool {
    table.contains_key("from") && table.contains_key("count")
}

/// The values of each key: an array, or `{ from = 0, count = 3 }`.
fn axis_values(table: &toml::Table, place: &str) -> Result<Vec<(String, Vec<toml::Value>)>, String> {
    let values = |(key, value): (String, toml::Value)| {
        let wrong = || format!("{place} `{key}`: write an array of values, or {{ from = 0, count = 3 }}");
        let values = match &value {
            toml::Value::Array(values) => values.clone(),
            toml::Value::Table(range) if is_range(range) => {
                let number = |name: &str| range.get(name).and_then(toml::Value::as_integer).ok_or_else(wrong);
                let (from, count) = (number("from")?, number("count")?);
                if range.len() > 2 || !(0..=MOST as i64).contains(&count) {
                    return Err(wrong());
                }
                (0..count).map(|i| toml::Value::Integer(from.saturating_add(i))).collect()
            }
            _ => return Err(wrong()),
        };
        match values.is_empty() {
            true => Err(format!("{place} `{key}` has no values")),
            false => Ok((key, values)),
        }
    };
    flatten(table, "").into_iter().map(values).collect()
}

/// The settings of each place of axes that vary together.
fn zip(table: &toml::Table) -> Result<Vec<Vec<Setting>>, String> {
    let axes = axis_values(table, "[[zip]]")?;
    let Some((first, values)) = axes.first() else { return Err("[[zip]] has no axes".into()) };
    if let Some((key, other)) = axes.iter().find(|(_, v)| v.len() != values.len()) {
        return Err(format!("[[zip]] `{first}` has {} values and `{key}` {}", values.len(), other.len()));
    }
    let at = |i: usize| axes.iter().map(|(key, values)| (key.clone(), values[i].clone())).collect();
    Ok((0..values.len()).map(at).collect())
}
