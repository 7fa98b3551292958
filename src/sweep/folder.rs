//! The folders of a sweep: `STORE/ID` is the folder of a run, `STORE/ID/examined/step-N` has the answers about
//! its model after step N. Everything is written by renaming, so that it is there whole or not at all.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attempt;
use super::error::{FailureKind, RunFailure};
use super::file::Models;
use super::gauge::GaugeSection;
use super::plan::{PlannedRun, SweepPlan};
use crate::interrupt;
use crate::train::{self, Claim, Taken};

/// A model of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelAt {
    /// Steps in this run.
    pub step: u64,
    /// Whether it is the run's last.
    pub last: bool,
    pub model: PathBuf,
    /// Folder of the answers about it.
    pub answers: PathBuf,
    /// Number of the sweep's gauge that it is put into before it is asked.
    pub gauge: Option<usize>,
}

/// What is known of a given model when it was read; `model.json` in the folder of its answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// As the sweep file named it then.
    pub path: String,
    pub parameters: usize,
}

/// The name of [`About`]'s file.
pub(super) const ABOUT: &str = "model.json";

/// Why a run has no result; `failure.json` in its folder, gone when it has one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failed {
    #[serde(rename = "exit_code")]
    pub kind: FailureKind,
    pub message: String,
    /// The workers among which it failed; none of them tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crew: Option<String>,
}

impl From<Failed> for RunFailure {
    fn from(before: Failed) -> RunFailure {
        RunFailure::Before { kind: before.kind, message: before.message }
    }
}

impl SweepPlan {
    /// Folder of a run: `STORE/ID`, or under the id that it had before where that is there.
    pub fn folder(&self, run: &PlannedRun) -> PathBuf {
        let own = self.store.join(&run.id);
        match &run.earlier_id {
            Some(id) if !own.exists() && self.store.join(id).exists() => self.store.join(id),
            _ => own,
        }
    }

    /// Whether there is a model to ask: a run that is trained, or one that was given.
    pub(super) fn has_model(&self, run: &PlannedRun) -> bool {
        run.given.is_some() || result(&self.folder(run)).is_some()
    }

    /// The step of a run's last model: what may end before `train.steps` has ended at one that its result knows.
    fn last_step(&self, run: &PlannedRun) -> u64 {
        let train = &run.resolved.config.train;
        let ended = train.stop.and_then(|_| result(&self.folder(run))).map(|outcome| outcome.steps);
        ended.unwrap_or(train.steps)
    }

    /// The models of a run that are examined, in order of steps, whether they are there or not.
    pub(super) fn models(&self, run: &PlannedRun) -> Vec<ModelAt> {
        let folder = self.folder(run);
        if let Some(given) = &run.given {
            let (model, answers) = (given.folder.clone(), folder.join("examined").join("given"));
            return self.in_gauges(vec![ModelAt { step: 0, last: true, model, answers, gauge: None }]);
        }
        let train = &run.resolved.config.train;
        let last = self.last_step(run);
        let at = |step: u64, last: bool, model: PathBuf| ModelAt {
            step,
            last,
            model,
            answers: folder.join("examined").join(format!("step-{step}")),
            gauge: None,
        };
        let mut all = Vec::new();
        if self.examine.models == Models::Checkpoints {
            if let Some(start) = self.start_of(run) {
                let folder = self.folder(start);
                let step = self.last_step(start);
                let answers = folder.join("examined").join(format!("step-{step}"));
                let model = folder.join("model");
                all.push(ModelAt { step: 0, last: false, model, answers, gauge: None });
            }
            let every = train.checkpoint_every;
            let steps = last.saturating_sub(1).checked_div(every).unwrap_or(0);
            all.extend((train.first_step() / every.max(1) + 1..=steps).map(|i| {
                let step = i * every;
                at(step, false, folder.join("checkpoints").join(format!("step-{step}")))
            }));
        }
        all.push(at(last, true, folder.join("model")));
        self.in_gauges(all)
    }

    /// Models and, behind each, itself in the sweep's gauges.
    fn in_gauges(&self, models: Vec<ModelAt>) -> Vec<ModelAt> {
        let gauged = |at: &ModelAt| {
            let one = |(i, gauge): (usize, &GaugeSection)| {
                let answers = at.answers.join(gauge.folder());
                ModelAt { gauge: Some(i), answers, ..at.clone() }
            };
            std::iter::once(at.clone()).chain(self.gauges.iter().enumerate().map(one)).collect::<Vec<_>>()
        };
        models.iter().flat_map(gauged).collect()
    }
}

/// The claim's file; that of the training in the same folder is another.
const CLAIM: &str = "sweep.lock";

/// The claim of a run for the time that a process works on it; `None` while another one does.
pub(super) fn claim(folder: &Path) -> Result<Option<Claim>, RunFailure> {
    std::fs::create_dir_all(folder).map_err(RunFailure::io(folder))?;
    let path = folder.join(CLAIM);
    match Claim::take(&path, &|| !interrupt::requested()).map_err(RunFailure::io(&path))? {
        Taken::Mine(claim) => Ok(Some(claim)),
        Taken::Theirs(_) => Ok(None),
    }
}

/// Whether a process works on a run now.
pub(super) fn is_claimed(folder: &Path) -> bool {
    [CLAIM, train::CLAIM].iter().any(|name| train::is_claimed(&folder.join(name))) || attempt::is_at_work(folder)
}

/// `result.json` of a finished run.
pub(super) fn result(folder: &Path) -> Option<train::Outcome> {
    train::RunResult::read(folder)?.done()
}

/// `failure.json`.
pub(super) fn failed(folder: &Path) -> Option<Failed> {
    serde_json::from_str(&std::fs::read_to_string(folder.join("failure.json")).ok()?).ok()
}

/// Writes JSON whole.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), RunFailure> {
    write_text(path, &(serde_json::to_string_pretty(value).expect("plain values") + "\n"))
}

/// The same of a text.
pub(super) fn write_text(path: &Path, text: &str) -> Result<(), RunFailure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(RunFailure::io(folder))?;
    crate::model::write_synced(path, text.as_bytes()).map_err(RunFailure::io(path))
}
