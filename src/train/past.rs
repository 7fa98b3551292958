//! What a run's folder holds already, and what that means for the run that is to work there.
//!
//! A folder belongs to a config from its first checkpoint on, or its result: what came to nothing before leaves nothing
//! that could be lost, and a run that diverged gives way too. What gives way is moved aside, never removed.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::branch::Fork;
use super::checkpoint::{Checkpoint, State, newest};
use super::result::RunResult;
use super::run::{Outcome, RunError};
use crate::config::{AlgorithmKind, ConfigError, Names, Resolved, RunConfig, TrainSection};

/// A length that a run was planned with until it was given another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Length {
    /// `train.steps` of then.
    pub steps: u64,
    /// The last step taken under it.
    pub until: u64,
}

/// What a run finds in its folder.
#[derive(Default)]
pub(super) struct Past {
    /// The result, where there is nothing left to do.
    pub finished: Option<Outcome>,
    /// What the run goes on from.
    pub checkpoint: Option<(Checkpoint, State)>,
    /// What it begins with where it is a branch and has no checkpoint of its own yet.
    pub fork: Option<Fork>,
    /// Lengths that it had before, oldest first.
    pub lengths: Vec<Length>,
    /// Hashes that checkpoints of this run may have beside its own.
    pub hashes: Vec<String>,
    /// Steps of a result that is there and no longer the run's last word.
    pub outgrown: Option<u64>,
    /// What is there is another config's and gives way; the hash of that, if it is known.
    pub gives_way: Option<Option<String>>,
    /// For the user.
    pub notes: Vec<String>,
}

fn json(path: &Path) -> Value {
    crate::files::text(path, crate::files::SMALL)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

/// Whether the run that a folder says it holds is this one, of the same length or another.
pub(super) fn is_of(folder: &Path, resolved: &Resolved) -> bool {
    let known = Known::read(folder);
    known.hash.as_ref().is_some_and(|hash| known.lengths(resolved).any(|n| known.fits(&resolved.names(), hash, n)))
}

/// What the files of a folder say about its run.
struct Known {
    /// `run.json`.
    about: Value,
    /// `config.toml`, where it can be read.
    config: Option<RunConfig>,
    hash: Option<String>,
}

impl Known {
    fn read(folder: &Path) -> Known {
        let about = json(&folder.join("run.json"));
        let written = crate::config::load(&folder.join("config.toml"), &[]).ok();
        let hash = about["hash"].as_str().map(str::to_string).or_else(|| written.as_ref().map(Resolved::hash));
        Known { about, config: written.map(|w| w.config), hash }
    }

    /// Steps that the run may have been planned with.
    fn lengths(&self, resolved: &Resolved) -> impl Iterator<Item = u64> {
        let own = resolved.config.train.steps;
        [Some(own), self.about["steps"].as_u64(), self.config.as_ref().map(|c| c.train.steps)].into_iter().flatten()
    }

    /// `earlier_lengths` of `run.json`.
    fn earlier(&self) -> Vec<Length> {
        serde_json::from_value(self.about["earlier_lengths"].clone()).unwrap_or_default()
    }

    /// `earlier_hashes` of `run.json`.
    fn hashes(&self) -> Vec<String> {
        serde_json::from_value(self.about["earlier_hashes"].clone()).unwrap_or_default()
    }

    fn fits(&self, names: &Names, hash: &str, steps: u64) -> bool {
        names.fits(hash, steps, self.config.as_ref())
    }
}

impl Past {
    /// The state that the trainer starts in, where that is not new weights.
    pub fn start(&self) -> Option<(&Checkpoint, &State)> {
        let own = self.checkpoint.as_ref().map(|(checkpoint, state)| (checkpoint, state));
        own.or(self.fork.as_ref().map(|fork| (&fork.checkpoint, &fork.state)))
    }

    /// Looks into a folder.
    ///
    /// # Errors
    /// When it belongs to another config, when steps that were taken are asked back, or when what a longer run would go
    /// on from is not there; with what would be right.
    pub fn read(folder: &Path, resolved: &Resolved) -> Result<Past, RunError> {
        let known = Known::read(folder);
        let result = RunResult::read(folder);
        let diverged = matches!(result, Some(RunResult::Diverged(_)));
        let done = result.and_then(RunResult::done);
        let (checkpoint, warnings) = newest(&folder.join("checkpoints"));
        let notes = warnings.iter().map(|w| format!("warning: {w}")).collect();
        let checkpoint = checkpoint.map(|c| c.state().map(|state| (c, state))).transpose()?;
        let view = View { folder, resolved, names: resolved.names(), known, done, checkpoint, diverged };
        view.judge(notes)
    }
}

/// All that is known.
struct View<'a> {
    folder: &'a Path,
    resolved: &'a Resolved,
    names: Names,
    known: Known,
    done: Option<Outcome>,
    checkpoint: Option<(Checkpoint, State)>,
    diverged: bool,
}

impl View<'_> {
    fn refuse<T>(&self, message: String) -> Result<T, RunError> {
        Err(ConfigError { place: self.folder.display().to_string(), message }.into())
    }

    /// `train.steps`.
    fn steps(&self) -> u64 {
        self.resolved.config.train.steps
    }

    /// Steps that the run was planned with, where its hash is this config's but for them.
    fn planned(&self) -> Option<u64> {
        let hash = self.known.hash.as_ref()?;
        let result = self.done.as_ref().map(|o| o.steps);
        self.known.lengths(self.resolved).chain(result).find(|n| self.known.fits(&self.names, hash, *n))
    }

    /// Whether the checkpoint is of this config, whatever its length.
    fn is_own(&self, state: &State) -> bool {
        let mut lengths = self.known.lengths(self.resolved).chain(state.steps);
        self.known.hashes().contains(&state.config_hash)
            || lengths.any(|n| self.known.fits(&self.names, &state.config_hash, n))
    }

    fn judge(mut self, mut notes: Vec<String>) -> Result<Past, RunError> {
        let taken = self.checkpoint.as_ref().is_some_and(|(c, _)| c.step > 0);
        let mut own = self.planned();
        // What an adapter that is lost or too small advises.
        if let (None, None, Some(before)) = (own, &self.done, &self.known.config) {
            self.names = self.names.with_micro_batch(before.train.micro_batch);
            own = self.planned();
            if own.is_some() && taken {
                notes.push(
                    "warning: this run began with another `train.micro_batch`; from here on its numbers round \
                     differently, and dropout draws others"
                        .into(),
                );
            }
        }
        if self.known.hash.is_some() && own.is_none() {
            if self.done.is_some() || taken && !self.diverged {
                return self.refuse(self.of_another());
            }
            return Ok(self.give_way(notes));
        }
        if let Some((checkpoint, state)) = &self.checkpoint
            && !self.is_own(state)
        {
            if taken && !self.diverged {
                let message = format!(
                    "{} belongs to another config (its state.json says {}, this one is {}); remove it, or give another \
                     `output`",
                    checkpoint.folder.display(),
                    state.config_hash,
                    self.resolved.hash()
                );
                return self.refuse(message);
            }
            return Ok(self.give_way(notes));
        }
        let reached = self.done.as_ref().map(|o| o.steps);
        // Without a hash, what was planned is what was reached.
        let planned = own.or(reached).or(self.checkpoint.as_ref().and_then(|(_, s)| s.steps)).unwrap_or(self.steps());
        // More steps are not taken behind the bound of `train.stop` either.
        let stopped = self.done.as_ref().is_some_and(|done| done.stop.is_some_and(|stop| stop.reached));
        if reached.is_some_and(|taken| taken == self.steps() || stopped && taken < self.steps()) {
            return Ok(Past { finished: self.done.take(), ..Past::default() });
        }
        let steps = self.steps();
        let at = reached.max(self.checkpoint.as_ref().map(|(c, _)| c.step)).unwrap_or(0);
        if steps < at {
            let message = format!(
                "holds a run of another config, of {planned} steps, of which {at} are taken, and `train.steps` = \
                 {steps} is less; steps are not taken back. Give {at} or more to go on with it, or another `output`"
            );
            return self.refuse(message);
        }
        let Some((checkpoint, state)) = self.checkpoint.take() else {
            return match reached {
                Some(reached) => self.refuse(format!(
                    "holds a finished run of {reached} steps whose last state was not kept (no checkpoint; \
                     `train.checkpoint_every` = 0 keeps none, nor did versions up to 0.1.0 at the end). To train \
                     longer give another `output`: from the beginning, or with `train.start_from` = \"{}\", which \
                     takes the weights and neither moments nor place in the data",
                    self.folder.join("model").display()
                )),
                // Begun with another length, with nothing to go on from.
                None if planned != steps => Ok(self.give_way(notes)),
                None => Ok(Past { notes, ..Past::default() }),
            };
        };
        let mut past = Past { notes, outgrown: reached, lengths: self.known.earlier(), ..Past::default() };
        if planned != steps {
            past.lengths.push(Length { steps: planned, until: checkpoint.step });
        }
        past.lengths.iter_mut().for_each(|l| l.until = l.until.min(checkpoint.step));
        let mut until = 0;
        past.lengths.retain(|l| {
            let counts = l.until > until;
            until = until.max(l.until);
            counts
        });
        if planned != steps || reached.is_some() {
            past.notes.push(longer(&self.resolved.config.train, &past.lengths, checkpoint.step, reached));
        }
        past.hashes = self.known.hashes();
        for hash in self.known.hash.iter().chain([&state.config_hash]) {
            if *hash != self.resolved.hash() && !past.hashes.contains(hash) {
                past.hashes.push(hash.clone());
            }
        }
        past.checkpoint = Some((checkpoint, state));
        Ok(past)
    }

    /// What is there gives way.
    fn give_way(&self, notes: Vec<String>) -> Past {
        Past { gives_way: Some(self.known.hash.clone()), notes, ..Past::default() }
    }

    /// Why the folder is another's.
    fn of_another(&self) -> String {
        let what = if self.done.is_some() { "finished run" } else { "run" };
        let keys = match &self.known.config {
            Some(other) => self.resolved.differences(other),
            None => Vec::new(),
        };
        let differs = match keys.as_slice() {
            [] if self.known.config.is_some() => " (what its files hold differs)".to_string(),
            [] => String::new(),
            keys => {
                let named: Vec<String> = keys.iter().map(|k| format!("`{k}`")).collect();
                format!(" (it differs in {})", named.join(", "))
            }
        };
        format!("holds a {what} of another config{differs}; give another `output`, or remove the folder")
    }
}

/// What happens to the schedule of a run that is given another length.
fn longer(train: &TrainSection, lengths: &[Length], step: u64, reached: Option<u64>) -> String {
    let mut text = match reached {
        Some(reached) if reached == step => format!("trained longer: from the {reached} steps that it had to"),
        Some(reached) => format!(
            "trained longer: the state after its {reached} steps was not kept, so it goes on from the checkpoint at \
             step {step}, to"
        ),
        None => format!("given another length at step {step}: to"),
    };
    text += &format!(" {} steps, with its moments and its place in the data. ", train.steps);
    text += match is_as_planned(train, lengths) {
        true => "Its learning rates were those of the new length, so it ends as if that had been asked for at once.",
        false => {
            "The learning rate goes on by the schedule of the new length, and the steps taken had that of another: it \
             does not end where a run of the new length from the start would; schedule `constant` without warm-up does."
        }
    };
    text
}

/// Whether what depends on the length was, in all steps taken, what it is with the length of now.
fn is_as_planned(train: &TrainSection, lengths: &[Length]) -> bool {
    let mut from = 0;
    lengths.iter().all(|length| {
        let mut steps = from.min(length.until)..length.until;
        from = from.max(length.until);
        steps.all(|step| {
            let rate = |of: u64| train.schedule.factor(step, of);
            let weight = |of: u64| match &train.algorithm {
                AlgorithmKind::Adversarial(a) => a.weight_at(step, of),
                _ => 0.0,
            };
            rate(length.steps) == rate(train.steps) && weight(length.steps) == weight(train.steps)
        })
    })
}
