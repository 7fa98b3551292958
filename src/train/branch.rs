//! A run that begins at a step of another one (`train.branch`): the other's checkpoint of that step is what it goes on
//! from, as if it had taken those steps itself.

use std::path::Path;

use super::checkpoint::{Checkpoint, State, checkpoints};
use super::run::RunError;
use super::trainer::rule_of;
use crate::config::{AlgorithmKind, Branch, ConfigError, HeadKind, OptimizerKind, Resolved, load};

/// The checkpoint that a run branches off at, and what is worth a note.
pub(super) struct Fork {
    pub checkpoint: Checkpoint,
    pub state: State,
    pub note: String,
}

impl Fork {
    /// Finds it; `None` for a run that is no branch.
    ///
    /// # Errors
    /// A folder that cannot be read or holds no run, a checkpoint that is not there or damaged, and a run whose steps
    /// could not have been this one's: of another language, model or seed, at another place in the data, or with other
    /// moments.
    pub fn find(resolved: &Resolved) -> Result<Option<Fork>, RunError> {
        let Some(branch) = &resolved.config.train.branch else { return Ok(None) };
        let Branch { from, step } = branch;
        std::fs::metadata(from).map_err(|source| RunError::Io { path: from.clone(), source })?;
        let trunk = load(&from.join("config.toml"), &[])
            .map_err(|error| refused("from", from, format!("is no folder of a run: {error}")))?;
        let there = checkpoints(&from.join("checkpoints"));
        let Some(checkpoint) = there.iter().find(|c| c.step == *step) else {
            let message = match there.as_slice() {
                [] => "has no checkpoint".to_string(),
                _ => format!("has no checkpoint of step {step}, but of {}", listed(&there)),
            };
            let remedy = "they are kept with `train.keep_checkpoints = 0`, and one is made every \
                          `train.checkpoint_every` steps";
            return Err(refused("step", from, format!("{message}; {remedy}")).into());
        };
        checkpoint.verify().map_err(|damage| {
            refused("step", &checkpoint.folder, format!("is damaged ({damage}); branch off at another step"))
        })?;
        comparable(resolved, &trunk, from)?;
        let same = (0..*step).all(|at| rate(resolved, at) == rate(&trunk, at));
        let note = format!(
            "branched at step {step} of {}: with its weights, its moments and its place in the data. {}",
            from.display(),
            match same {
                true => "Its learning rates up to there are those of this run's schedule.",
                false => "Its learning rates up to there were others than this run's schedule has.",
            }
        );
        let mut state = checkpoint.state()?;
        // An average goes on where it has the same decay, and else begins here.
        state.averaged = state.averaged.filter(|_| resolved.config.train.ema == trunk.config.train.ema);
        Ok(Some(Fork { state, checkpoint: checkpoint.clone(), note }))
    }
}

fn refused(key: &str, path: &Path, message: String) -> ConfigError {
    ConfigError::at(format!("train.branch.{key}"), format!("{} {message}", path.display()))
}

fn listed(there: &[Checkpoint]) -> String {
    there.iter().map(|c| c.step.to_string()).collect::<Vec<_>>().join(", ")
}

fn rate(resolved: &Resolved, step: u64) -> f64 {
    let train = &resolved.config.train;
    resolved.config.peak_lr() * train.schedule.factor(step, train.steps)
}

/// Refuses a run whose state would mean something else here.
fn comparable(resolved: &Resolved, trunk: &Resolved, from: &Path) -> Result<(), ConfigError> {
    // What data, model and place in the data are made of; how a step is made of them is the branch's own.
    let fixed = ["seed", "language", "model", "objective", "train.batch_size", "train.sentences"];
    let differs = |key: &String| {
        let within = |of: &str| key == of || key.starts_with(&format!("{of}."));
        fixed.into_iter().any(within) && !within("objective.labels")
    };
    let keys: Vec<String> = resolved.differences(&trunk.config).into_iter().filter(differs).collect();
    if !keys.is_empty() {
        let named: Vec<String> = keys.iter().map(|k| format!("`{k}`")).collect();
        let message = format!("is a run with another {}; a branch has the same", named.join(", "));
        return Err(refused("from", from, message));
    }
    if resolved.language_hash() != trunk.language_hash() {
        return Err(refused("from", from, "is a run of another language: what its files hold differs".into()));
    }
    let (own, other) = (&resolved.config.train, &trunk.config.train);
    let name = |optimizer: &OptimizerKind| match optimizer {
        OptimizerKind::AdamW(_) => "adamw",
        OptimizerKind::Sgd(sgd) if sgd.momentum > 0.0 => "sgd with momentum",
        OptimizerKind::Sgd(_) => "sgd without momentum",
    };
    let (mine, theirs) = (name(&own.optimizer), name(&other.optimizer));
    if rule_of(&own.optimizer).moments() > 0 && mine != theirs {
        let message = format!("was trained by {theirs} and has no moments for {mine}; take its optimizer");
        return Err(refused("from", from, message));
    }
    match (&own.algorithm, &other.algorithm) {
        (AlgorithmKind::Adversarial(own), AlgorithmKind::Adversarial(other))
            if (own.head, &own.task) == (other.head, &other.task) =>
        {
            Ok(())
        }
        (AlgorithmKind::Adversarial(own), _) if own.head == HeadKind::Linear => {
            let message = format!("has not trained the adversary's head on task {}; train it with the run", own.task);
            Err(refused("from", from, message))
        }
        _ => Ok(()),
    }
}
