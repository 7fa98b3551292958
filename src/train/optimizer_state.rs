//! What a checkpoint tells of its optimiser, for measurements along its updates.

use std::path::Path;

use super::checkpoint::Checkpoint;
use super::trainer::rule_of;
use crate::config::load;
use crate::curvature::OptimizerState;
use crate::model::{Encoder, ModelError};

/// Why a model's folder tells of no optimiser.
#[derive(Debug, thiserror::Error)]
pub enum NoOptimizer {
    /// No `state.json`.
    #[error("the model is no checkpoint with an optimiser's moments (`checkpoints/step-N` of a run)")]
    NoCheckpoint,
    /// The run's config, which has the rule's constants.
    #[error("the config of the checkpoint's run cannot be read: {0}")]
    Config(String),
    /// Moments that cannot be read.
    #[error("the checkpoint's moments cannot be read: {0}")]
    Moments(#[from] ModelError),
}

/// The optimiser of a checkpoint, by the config of the run that it lies in.
///
/// # Errors
/// Why there is none.
pub fn optimizer_of(folder: &Path, encoder: &Encoder) -> Result<OptimizerState, NoOptimizer> {
    if !folder.join("state.json").exists() {
        return Err(NoOptimizer::NoCheckpoint);
    }
    // Also of a folder that is named from within.
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let run = whole.parent().and_then(Path::parent).ok_or(NoOptimizer::NoCheckpoint)?;
    let config = load(&run.join("config.toml"), &[]).map_err(|error| NoOptimizer::Config(error.to_string()))?.config;
    let checkpoint = Checkpoint { folder: whole.clone(), step: 0 };
    let steps = checkpoint.state()?.step;
    let rule = rule_of(&config.train.optimizer);
    let moments = checkpoint.moments(encoder, rule.moments())?;
    Ok(OptimizerState { rule, clip: config.train.clip, steps, moments })
}
