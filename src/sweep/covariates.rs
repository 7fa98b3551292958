//! Numbers about models that were not trained here, from a table: published scores, sizes, steps of training.
//!
//! A CSV file (RFC 4180) with a line of names first. Column `label` says which model a line is about, with a column
//! `seed` the one of that seed, else all of that label; every other column is a covariate, its cells numbers or empty.

use std::path::Path;

use super::error::SweepError;
use super::plan::PlannedRun;
use crate::text::without_mark;

/// A table of covariates.
#[derive(Debug)]
pub(super) struct Covariates {
    place: String,
    names: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    label: String,
    seed: Option<u64>,
    /// One for each name.
    values: Vec<Option<f64>>,
}

impl Line {
    fn is_about(&self, run: &PlannedRun) -> bool {
        self.label == run.label && self.seed.is_none_or(|seed| seed == run.seed)
    }

    fn model(&self) -> String {
        self.seed.map_or_else(|| format!("`{}`", self.label), |seed| format!("`{}`, seed {seed}", self.label))
    }
}

/// Labels that a message lists at most.
const SHOWN: usize = 5;

impl Covariates {
    /// Reads a table.
    ///
    /// # Errors
    /// What is not one, with its line; a cell that is no number, with its column.
    pub fn read(path: &Path) -> Result<Covariates, SweepError> {
        let place = path.display().to_string();
        let whole = |message: String| SweepError::new(place.clone(), message);
        let bytes = std::fs::read(path).map_err(|e| whole(format!("cannot be read: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|_| whole("is not UTF-8 text".into()))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(without_mark(&text).as_bytes());
        let unreadable = |e: csv::Error| {
            let line = e.position().map_or(String::new(), |at| format!(":{}", at.line()));
            let message = match e.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("has {len} cells, and the first line names {expected_len} columns")
                }
                _ => e.to_string(),
            };
            SweepError::new(format!("{place}{line}"), message)
        };
        let head = reader.headers().map_err(unreadable)?.clone();
        let column = |name: &str| head.iter().position(|own| own == name);
        let Some(label) = column("label") else {
            let there: Vec<&str> = head.iter().collect();
            return Err(whole(format!(
                "has no column `label`, which names the models; there are {}",
                there.join(", ")
            )));
        };
        for (i, name) in head.iter().enumerate() {
            if name.is_empty() {
                return Err(whole(format!("column {} has no name", i + 1)));
            }
            if head.iter().take(i).any(|other| other == name) {
                return Err(whole(format!("has two columns `{name}`")));
            }
        }
        let seed = column("seed");
        let own: Vec<usize> = (0..head.len()).filter(|i| *i != label && Some(*i) != seed).collect();
        let mut table =
            Covariates { place: place.clone(), names: own.iter().map(|i| head[*i].into()).collect(), lines: vec![] };
        for record in reader.records() {
            let record = record.map_err(unreadable)?;
            let number = record.position().map_or(0, csv::Position::line);
            let wrong = |message: String| SweepError::new(format!("{place}:{number}"), message);
            let value = |i: &usize| match &record[*i] {
                "" => Ok(None),
                text => match text.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Some(value)),
                    _ => Err(wrong(format!(
                        "column `{}`: `{text}` is no number; leave the cell empty where it is not known",
                        &head[*i]
                    ))),
                },
            };
            let seed = match seed.map(|i| &record[i]).filter(|text| !text.is_empty()) {
                Some(text) => Some(text.parse().map_err(|_| wrong(format!("column `seed`: `{text}` is no seed")))?),
                None => None,
            };
            let values = own.iter().map(value).collect::<Result<_, _>>()?;
            let line = Line { number, label: record[label].into(), seed, values };
            let same = |other: &&Line| (&other.label, other.seed) == (&line.label, line.seed);
            if let Some(other) = table.lines.iter().find(same) {
                return Err(wrong(format!("{} is in line {} already", line.model(), other.number)));
            }
            table.lines.push(line);
        }
        Ok(table)
    }

    /// Gives models their covariates, and what is worth a note.
    ///
    /// # Errors
    /// Lines about no model while models are in no line: a name is probably spelled in two ways.
    pub fn give(&self, runs: &mut [PlannedRun]) -> Result<Vec<String>, SweepError> {
        let strange: Vec<&Line> = self.lines.iter().filter(|line| !runs.iter().any(|run| line.is_about(run))).collect();
        let mut without = Vec::new();
        for run in runs.iter_mut() {
            // What is said of one seed goes before what is said of all.
            let about = |exact: bool| self.lines.iter().find(|l| l.is_about(run) && l.seed.is_some() == exact);
            let Some(line) = about(true).or_else(|| about(false)) else {
                without.push(format!("`{}`, seed {}", run.label, run.seed));
                continue;
            };
            let known = self.names.iter().zip(&line.values);
            let known = known.filter_map(|(name, value)| Some((name.clone(), serde_json::json!((*value)?)))).collect();
            if let Some(given) = &mut run.given {
                given.covariates = known;
            }
        }
        let nowhere: Vec<String> =
            strange.iter().map(|line| format!("{} (line {})", line.model(), line.number)).collect();
        match (nowhere.is_empty(), without.is_empty()) {
            (false, false) => Err(SweepError::new(
                self.place.clone(),
                format!(
                    "no [[model]] is called {}, and there is no line about {}; a `label` is the same in both",
                    listed(&nowhere),
                    listed(&without)
                ),
            )),
            (false, true) => Ok(vec![format!("{}: no [[model]] is called {}", self.place, listed(&nowhere))]),
            (true, false) => Ok(vec![format!("{}: no line about {}", self.place, listed(&without))]),
            (true, true) => Ok(vec![]),
        }
    }
}

fn listed(all: &[String]) -> String {
    let mut text = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > SHOWN {
        text += &format!("; and {} more", all.len() - SHOWN);
    }
    text
}
