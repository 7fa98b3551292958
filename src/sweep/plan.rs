//! The plan of a sweep: which runs a sweep file asks for, each as overrides of one run config.
//!
//! ```toml
//! name = "size"                       # default: the file's stem
//! base = "pcfg-small.toml"            # a run config, relative to this file
//! [grid]                              # every combination
//! "train.optimizer.kind" = ["adamw", "sgd"]
//! seed = { from = 0, count = 3 }
//! [[zip]]                             # these vary together; several [[zip]] tables combine like a grid
//! "model.hidden_size" = [32, 64, 128]
//! "model.num_attention_heads" = [2, 4, 8]
//! [[exclude]]                         # leave out what has all of these values
//! "train.optimizer.kind" = "sgd"
//! "model.hidden_size" = 128
//! ```
//!
//! A run's id is the hash of its resolved config, so that the same run has the same id in every sweep. `seed` is an axis of
//! its own: it varies fastest, and runs that differ in nothing else have the same `group`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{self, Resolved};

/// What is wrong with a sweep file, and where.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {message}")]
pub struct SweepError {
    pub place: String,
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    base: PathBuf,
    #[serde(default)]
    grid: toml::Table,
    #[serde(default)]
    zip: Vec<toml::Table>,
    #[serde(default)]
    exclude: Vec<toml::Table>,
}

/// One run of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedRun {
    /// Hash of the resolved config.
    pub id: String,
    /// The same for runs that differ in nothing but the seed.
    pub group: String,
    pub seed: u64,
    /// What the sweep sets, by key.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// The same as overrides of the base config.
    pub overrides: Vec<String>,
    #[serde(skip)]
    pub resolved: Resolved,
}

/// All runs of a sweep in order.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub name: String,
    pub base: PathBuf,
    pub runs: Vec<PlannedRun>,
    /// Combinations that `[[exclude]]` left out.
    pub excluded: usize,
    /// Combinations whose config equals an earlier one's; each is run once.
    pub duplicates: usize,
}

/// A key with a value.
type Setting = (String, toml::Value);

/// Runs that a sweep may have.
const MOST: usize = 100_000;

/// Reads a sweep file and resolves every run.
///
/// # Errors
/// A file that cannot be read or has unknown keys; axes without values or of unequal length; a run whose config cannot be,
/// with the override at fault; an exclusion that fits nothing.
pub fn plan(path: &Path) -> Result<Plan, SweepError> {
    let place = path.display().to_string();
    let error = |message: String| SweepError { place: place.clone(), message };
    let text = std::fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    let file: File = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        SweepError { place: format!("{place}:{line}"), message: e.message().trim_end().to_string() }
    })?;
    let base = path.parent().unwrap_or(Path::new("")).join(&file.base);
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
    let name =
        file.name.unwrap_or_else(|| path.file_stem().map_or("sweep".into(), |s| s.to_string_lossy().into_owned()));
    let mut plan = Plan { name, base: base.clone(), runs: vec![], excluded: 0, duplicates: 0 };
    let mut hits = vec![0usize; excludes.len()];
    for point in &points {
        if let Some((key, _)) =
            point.iter().enumerate().find(|(i, s)| point[..*i].iter().any(|t| t.0 == s.0)).map(|(_, s)| s)
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
        let run = resolve(&base, point).map_err(|e| SweepError { place: place.clone(), message: e.to_string() })?;
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

fn resolve(base: &Path, point: &[Setting]) -> Result<PlannedRun, config::ConfigError> {
    let overrides: Vec<String> = point.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let resolved = config::load(base, &overrides)?;
    let mut seedless = resolved.clone();
    seedless.config.seed = 0;
    let values = point
        .iter()
        .map(|(key, value)| (key.clone(), serde_json::to_value(value).unwrap_or(serde_json::Value::Null)))
        .collect();
    let seed = resolved.config.seed;
    Ok(PlannedRun { id: resolved.hash(), group: seedless.hash(), seed, values, overrides, resolved })
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
