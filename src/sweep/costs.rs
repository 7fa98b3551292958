//! What the parts of measurements took: `costs.json` beside a sweep's table, which itself holds no times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::RunFailure;
use super::folder;
use super::plan::SweepPlan;
use super::question::{Curved, Question, parse};

/// Of one part of `[examine.measure]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Over the models.
    pub median_seconds: f64,
    /// Models whose answer says it.
    pub models: usize,
}

/// The costs of some measurements' parts.
fn medians(measured: impl Iterator<Item = BTreeMap<String, f64>>) -> BTreeMap<String, Cost> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (part, seconds) in measured.flatten() {
        all.entry(part).or_default().push(seconds);
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        let (low, high) = (seconds[(seconds.len() - 1) / 2], seconds[seconds.len() / 2]);
        Cost { median_seconds: (low + high) / 2.0, models: seconds.len() }
    };
    all.into_iter().map(|(part, seconds)| (part, median(seconds))).collect()
}

impl SweepPlan {
    /// Writes the costs of what is measured so far. Where none are known there is no such file.
    pub(super) fn write_costs(&self, path: &Path) -> Result<(), RunFailure> {
        // What several runs begin with is one model.
        let mut answers = BTreeSet::new();
        for run in &self.runs {
            for at in self.models(run) {
                for question in self.asked(run, &at).into_iter().filter(|q| matches!(q, Question::Curvature(_))) {
                    answers.insert(at.answers.join(question.file(self)));
                }
            }
        }
        let read = |answer: &PathBuf| parse::<Curved>(&std::fs::read_to_string(answer).ok()?);
        let costs = medians(answers.iter().filter_map(read).map(|found| found.measurement.part_seconds));
        if costs.is_empty() {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(RunFailure::io(path)(error)),
                _ => Ok(()),
            };
        }
        folder::write(path, &costs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_a_median_over_models() {
        let of = |pairs: &[(&str, f64)]| pairs.iter().map(|(part, s)| (part.to_string(), *s)).collect();
        let costs = medians([of(&[("trace", 3.0), ("top", 1.0)]), of(&[("trace", 1.0)]), of(&[])].into_iter());
        assert_eq!(costs["trace"], Cost { median_seconds: 2.0, models: 2 });
        assert_eq!(costs["top"], Cost { median_seconds: 1.0, models: 1 });
        assert!(medians(std::iter::empty()).is_empty());
    }
}
