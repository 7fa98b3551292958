//! Models at one excess loss: of each run the two checkpoints between which it fell through a level are examined, and
//! what was measured of them is interpolated linearly in ln excess. Weights never are.
//!
//! ```toml
//! [examine]
//! models = "checkpoints"
//! matched = { excess = [0.012, 0.006], widest = 1.5 }
//! ```

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::folder::ModelAt;
use super::plan::{PlannedRun, SweepPlan};
use super::question::{Question, parse};
use super::table::Row;
use crate::train::Evaluation;

/// Levels of the excess loss that models are compared at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matched {
    /// In nats, on the sentences of `[examine]`.
    pub excess: Vec<f64>,
    /// Largest ratio of the excess losses of the checkpoints around a level; a run with a wider bracket is left out.
    #[serde(default = "default_widest")]
    pub widest: f64,
}

fn default_widest() -> f64 {
    1.5
}

impl Matched {
    /// What cannot be.
    ///
    /// # Errors
    /// In words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.excess.is_empty() {
            return Err("`excess` has no level".into());
        }
        if let Some(bad) = self.excess.iter().find(|e| !(**e > 0.0 && e.is_finite())) {
            return Err(format!("`excess`: {bad} must be positive"));
        }
        if (1..self.excess.len()).any(|i| self.excess[..i].contains(&self.excess[i])) {
            return Err("`excess` has a level twice".into());
        }
        match self.widest > 1.0 && self.widest.is_finite() {
            true => Ok(()),
            false => Err(format!("`widest` {} must be above 1", self.widest)),
        }
    }
}

/// The first two checkpoints, one after the other, between which the excess loss falls to a level or below.
fn bracket(excess: &[f64], level: f64) -> Option<usize> {
    (1..excess.len()).find(|i| excess[i - 1] > level && excess[*i] <= level)
}

/// The share of the second checkpoint at a level between two excess losses.
fn share(first: f64, second: f64, level: f64) -> f64 {
    (first.ln() - level.ln()) / (first.ln() - second.ln())
}

/// `a` where `w` is 0 and `b` where it is 1: numbers between, lists place by place, objects by the keys of both.
/// Standard errors are treated as other numbers, which is an upper bound of theirs. Counts and words are `b`'s.
fn between(a: &Value, b: &Value, w: f64) -> Value {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => match (x.as_f64(), y.as_f64()) {
            (Some(x), Some(y)) => (x + w * (y - x)).into(),
            _ => Value::Null,
        },
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).map(|(x, y)| between(x, y, w)).collect()
        }
        (Value::Object(x), Value::Object(y)) => {
            y.iter().filter_map(|(key, y)| Some((key.clone(), between(x.get(key)?, y, w)))).collect()
        }
        (Value::Null, _) => Value::Null,
        (_, b) => b.clone(),
    }
}

fn mixed<T: Serialize + DeserializeOwned>(a: &T, b: &T, w: f64) -> Option<T> {
    let json = |of: &T| serde_json::to_value(of).ok();
    serde_json::from_value(between(&json(a)?, &json(b)?, w)).ok()
}

impl SweepPlan {
    /// The questions to one of a run's models: of matched ones all to those around a level, and the loss alone to the
    /// others, which say where these are.
    pub(super) fn asked(&self, run: &PlannedRun, at: &ModelAt) -> Vec<Question<'_>> {
        let mut all = self.questions();
        if self.examine.matched.is_some() && !self.around(run).contains(&at.step) {
            all.truncate(1);
        }
        if at.gauge.is_some() {
            all.insert(1, Question::Gauge);
        }
        if self.has_average(run, at) {
            all.insert(1, Question::Average);
        }
        all
    }

    /// The excess loss of each checkpoint of a run; `None` while one is not known.
    fn excesses(&self, run: &PlannedRun) -> Option<Vec<(u64, f64)>> {
        let known = |at: &ModelAt| {
            let text = std::fs::read_to_string(at.answers.join(Question::Evaluation.file(self))).ok()?;
            Some((at.step, parse::<Evaluation>(&text)?.excess_loss?))
        };
        self.models(run).iter().filter(|at| at.gauge.is_none()).map(known).collect()
    }

    /// Steps of the checkpoints around the levels.
    fn around(&self, run: &PlannedRun) -> Vec<u64> {
        let (Some(matched), Some(known)) = (&self.examine.matched, self.excesses(run)) else { return vec![] };
        let excess: Vec<f64> = known.iter().map(|k| k.1).collect();
        let found = matched.excess.iter().filter_map(|level| bracket(&excess, *level));
        found.flat_map(|i| [known[i - 1].0, known[i].0]).collect()
    }

    /// The rows of a run at the levels, made of those of its checkpoints; and where there is none, the level and why.
    pub(super) fn matched_rows(&self, matched: &Matched, rows: &[Row]) -> (Vec<Row>, Vec<(f64, String)>) {
        let (mut made, mut none) = (Vec::new(), Vec::new());
        let excess_of = |row: &Row| row.evaluation.as_ref().and_then(|e| e.excess_loss);
        let known: Vec<(&Row, f64)> = rows.iter().filter_map(|row| Some((row, excess_of(row)?))).collect();
        let excess: Vec<f64> = known.iter().map(|k| k.1).collect();
        for level in &matched.excess {
            let Some(i) = bracket(&excess, *level) else {
                let least = excess.iter().copied().fold(f64::INFINITY, f64::min);
                none.push((*level, format!("its excess loss does not fall through {level} nats (least: {least:.4})")));
                continue;
            };
            let ((a, first), (b, second)) = (known[i - 1], known[i]);
            if first / second > matched.widest {
                let (steps, widest) = ([a.step, b.step], matched.widest);
                none.push((
                    *level,
                    format!(
                        "the checkpoints around {level} nats, steps {} and {}, are {:.2} times apart, more than \
                         {widest}",
                        steps[0],
                        steps[1],
                        first / second
                    ),
                ));
                continue;
            }
            let w = share(first, second, *level);
            let mut row = Row {
                run: format!("{}-at-{level}", b.run),
                group: super::plan::short(&format!("{} at {level}", b.group)),
                label: format!("{}, at {level} nats", b.label),
                drawn_with: b.drawn_with.clone().or_else(|| Some(b.run.clone())),
                last: matched.excess.iter().all(|other| other >= level),
                noise_time: a.noise_time + w * (b.noise_time - a.noise_time),
                curvature: a.curvature.as_ref().zip(b.curvature.as_ref()).and_then(|(a, b)| mixed(a, b, w)),
                conventions: a.conventions.as_ref().zip(b.conventions.as_ref()).and_then(|(a, b)| mixed(a, b, w)),
                alignment: a.alignment.as_ref().zip(b.alignment.as_ref()).and_then(|(a, b)| mixed(a, b, w)),
                evaluation: a.evaluation.as_ref().zip(b.evaluation.as_ref()).and_then(|(a, b)| mixed(a, b, w)),
                downstream: b
                    .downstream
                    .iter()
                    .filter_map(|d| mixed(a.downstream.iter().find(|other| other.task == d.task)?, d, w))
                    .collect(),
                saturated: *level < self.saturation_bound,
                notes: a.notes.iter().chain(&b.notes).cloned().collect(),
                ..b.clone()
            };
            row.notes.dedup();
            row.values.insert("matched.excess".into(), (*level).into());
            if let Some(e) = &mut row.evaluation {
                e.excess_loss = Some(*level);
                e.loss = e.entropy_floor.unwrap_or(f64::NAN) + level;
            }
            made.push(row);
        }
        (made, none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_lies_between_two_checkpoints_is_between_them_in_ln_excess() {
        assert_eq!(bracket(&[0.05, 0.013, 0.011, 0.012, 0.005], 0.012), Some(2), "the first time");
        assert_eq!(bracket(&[0.05, 0.013], 0.012), None);
        assert_eq!(bracket(&[0.01, 0.013], 0.012), None, "never above it before");
        // Half way in the logarithm.
        assert!((share(0.016, 0.004, 0.008) - 0.5).abs() < 1e-12);
        let a = json!({ "x": 1.0, "n": 3, "list": [1.0, 2.0], "word": "a", "gone": 1.0, "null": null });
        let b = json!({ "x": 3.0, "n": 4, "list": [2.0, 4.0], "word": "b", "null": 2.0 });
        let found = between(&a, &b, 0.25);
        assert_eq!(found, json!({ "x": 1.5, "n": 4, "list": [1.25, 2.5], "word": "b", "null": null }));
        assert_eq!((between(&a, &b, 0.0)["x"].clone(), between(&a, &b, 1.0)["x"].clone()), (json!(1.0), json!(3.0)));
    }
}
