//! The plan of a sweep as it was submitted: `plan.jsonl` in the sweep's folder, one run a line. Jobs begin when a queue
//! lets them; what they do was fixed when they were submitted, and a sweep file that says something else by then is
//! refused.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{RunFailure, SweepError};
use super::folder::write_text;
use super::plan::{SweepPlan, short};
use crate::files;

/// A line of `plan.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmittedRun {
    /// Number of the run, from 1; runs that others begin with have 0.
    pub number: usize,
    /// Its id, the hash of its resolved config.
    pub id: String,
    /// What the sweep sets, in words.
    pub label: String,
    /// Seed of the run.
    pub seed: u64,
    /// Id of the run that it begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// What the sweep sets, as overrides of its base.
    pub overrides: Vec<String>,
    /// The whole config (TOML).
    pub config: String,
    /// Hash of the questions to its models.
    pub questions: String,
}

/// The name of the file.
const FILE: &str = "plan.jsonl";

/// Reads a submitted plan.
///
/// # Errors
/// A line that is no run, with its number; numbers or ids that come twice.
pub fn parse_submitted(text: &str, place: &str) -> Result<Vec<SubmittedRun>, SweepError> {
    let mut runs: Vec<SubmittedRun> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for (i, line) in text.lines().enumerate() {
        let wrong = |message: String| SweepError::new(format!("{place}:{}", i + 1), message);
        let run: SubmittedRun = serde_json::from_str(line).map_err(|e| wrong(format!("is no planned run: {e}")))?;
        if !ids.insert(run.id.clone()) {
            return Err(wrong(format!("run {} is planned twice", run.id)));
        }
        runs.push(run);
    }
    match runs.is_empty() {
        true => Err(SweepError::new(place.into(), "has no runs".into())),
        false => Ok(runs),
    }
}

impl SweepPlan {
    /// `plan.jsonl` of the sweep's folder.
    pub fn submitted_path(&self) -> PathBuf {
        self.output.join(FILE)
    }

    fn lines(&self) -> Vec<SubmittedRun> {
        let mut names: Vec<String> = self.questions().iter().map(|q| q.file(self)).collect();
        names.extend(self.gauges.iter().map(|gauge| gauge.folder()));
        let questions = short(&names.join("\n"));
        let numbered = self.starts.iter().map(|start| (0, start));
        numbered
            .chain(self.runs.iter().enumerate().map(|(i, run)| (i + 1, run)))
            .map(|(number, run)| SubmittedRun {
                number,
                id: run.id.clone(),
                label: run.label.clone(),
                seed: run.seed,
                start: run.start.clone(),
                overrides: run.overrides.clone(),
                config: run.resolved.config.to_toml(),
                questions: questions.clone(),
            })
            .collect()
    }

    /// Writes the plan down, where none was submitted yet; true where it did.
    ///
    /// # Errors
    /// As [`SweepPlan::check_submitted`]; a folder that cannot be written.
    pub fn submit(&self) -> Result<bool, RunFailure> {
        if self.check_submitted()? {
            return Ok(false);
        }
        let line = |run: &SubmittedRun| serde_json::to_string(run).expect("plain values") + "\n";
        let text: String = self.lines().iter().map(line).collect();
        write_text(&self.submitted_path(), &text)?;
        Ok(true)
    }

    /// Whether a plan was submitted, which then is this one.
    ///
    /// # Errors
    /// A plan that cannot be read, or that differs from this one, with what differs and the remedy.
    pub fn check_submitted(&self) -> Result<bool, RunFailure> {
        let path = self.submitted_path();
        if !path.exists() {
            return Ok(false);
        }
        let text = files::text(&path, files::LARGE).map_err(RunFailure::io(&path))?;
        let place = path.display().to_string();
        let before = parse_submitted(&text, &place)?;
        match differs(&before, &self.lines()) {
            None => Ok(true),
            Some(what) => Err(SweepError::new(place, remedy(&what, &path)).into()),
        }
    }
}

/// What differs between the plan that was submitted and another.
fn differs(before: &[SubmittedRun], now: &[SubmittedRun]) -> Option<String> {
    let missing = |these: &[SubmittedRun], those: &[SubmittedRun]| {
        these.iter().find(|run| those.iter().all(|other| other.id != run.id)).map(|run| (run.label.clone(), run.seed))
    };
    // Without the search where all is well.
    if before.iter().map(|run| (&run.id, run.number)).eq(now.iter().map(|run| (&run.id, run.number))) {
        return (before[0].questions != now[0].questions).then(|| "other questions are asked of its models".into());
    }
    if let Some((label, seed)) = missing(before, now) {
        return Some(format!("{label}, seed {seed}, is planned no longer"));
    }
    match missing(now, before) {
        Some((label, seed)) => Some(format!("{label}, seed {seed}, is new or has another config")),
        None => Some("its runs are in another order".into()),
    }
}

fn remedy(what: &str, path: &Path) -> String {
    format!(
        "the sweep was submitted, and its file or base says something else now: {what}. Jobs that wait would do other \
         work than was asked for. Put the file back, give the changed sweep another `output`, or, when no job of it \
         waits or runs, remove {} and submit again",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: usize, id: &str) -> SubmittedRun {
        let (label, questions) = (format!("run {id}"), "q".to_string());
        SubmittedRun {
            number,
            id: id.into(),
            label,
            seed: 3,
            start: None,
            overrides: vec!["seed=3".into()],
            config: "seed = 3\n".into(),
            questions,
        }
    }

    #[test]
    fn what_differs_is_said() {
        let plan = [run(1, "a"), run(2, "b")];
        assert_eq!(differs(&plan, &plan), None);
        let said = |now: &[SubmittedRun]| differs(&plan, now).unwrap();
        assert_eq!(said(&[run(1, "a")]), "run b, seed 3, is planned no longer");
        assert_eq!(said(&[run(1, "a"), run(2, "b"), run(3, "c")]), "run c, seed 3, is new or has another config");
        assert_eq!(said(&[run(1, "b"), run(2, "a")]), "its runs are in another order");
        let asked = |run: SubmittedRun| SubmittedRun { questions: "other".into(), ..run };
        assert_eq!(said(&[asked(run(1, "a")), asked(run(2, "b"))]), "other questions are asked of its models");
    }

    #[test]
    fn lines_are_read_again_and_wrong_ones_have_their_number() {
        let line = serde_json::to_string(&run(1, "a")).unwrap();
        assert_eq!(parse_submitted(&format!("{line}\n"), "p").unwrap(), [run(1, "a")]);
        let error = |text: &str| parse_submitted(text, "p").unwrap_err().to_string();
        assert!(error(&format!("{line}\n{{}}\n")).starts_with("p:2: is no planned run"), "{}", error("{}"));
        assert_eq!(error(&format!("{line}\n{line}\n")), "p:2: run a is planned twice");
        assert_eq!(error(""), "p: has no runs");
    }
}
