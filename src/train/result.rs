//! How a run ended: `result.json` of its folder.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::run::{Outcome, Status};

/// What `result.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RunResult {
    /// It took all its steps, or all up to what `train.stop` asks for.
    Done(Box<Outcome>),
    /// It stopped at a step that was not finite.
    Diverged(Divergence),
}

/// The step at which something was finite no longer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Divergence {
    /// [`Status::Diverged`].
    pub status: Status,
    /// Counted from 1.
    pub step: u64,
    /// What was not finite.
    pub tensor: String,
    /// The step's loss, as text where it is no number.
    pub loss: serde_json::Value,
    /// In nats, of the step before.
    pub last_finite_loss: Option<f64>,
    /// Step of the last checkpoint, which is still good.
    pub checkpoint: Option<u64>,
}

impl RunResult {
    /// Reads a run's folder; `None` while the run is not over, or where the file is not one that is written here.
    pub fn read(folder: &Path) -> Option<RunResult> {
        serde_json::from_str(&crate::files::text(&folder.join("result.json"), crate::files::SMALL).ok()?).ok()
    }

    /// The outcome of a run that was finished.
    pub fn done(self) -> Option<Outcome> {
        match self {
            RunResult::Done(outcome) if outcome.status == Status::Done => Some(*outcome),
            _ => None,
        }
    }

    /// The text of the file.
    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values") + "\n"
    }
}
