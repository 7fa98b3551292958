//! The weights that a run begins with: random ones, or those of another model.
//!
//! A model to start from may number the language's words in its own way. Its rows are moved into the order that models
//! trained here have, rather than the run taken into its order: so the tokenizer beside every checkpoint, resuming,
//! soft labels and whatever compares runs know one order of ids, and starts with different tokenizers train to the same
//! bits.

use super::data::Corpus;
use super::observer::Observer;
use super::run::RunError;
use crate::config::{ConfigError, Resolved};
use crate::model::{Encoder, Weights, load, reordered};

/// The weights that a run begins with.
///
/// # Errors
/// A model to start from that cannot be read, whose words are not the language's, or that does not fit `[model]`.
pub(super) fn starting_weights(
    resolved: &Resolved,
    corpus: &Corpus,
    encoder: &Encoder,
    observer: &dyn Observer,
) -> Result<Weights, RunError> {
    let config = &resolved.config;
    let Some(path) = &config.train.start_from else {
        return Ok(Weights::initial(&encoder.parameters, encoder.config.initializer_range, config.seed));
    };
    let place = |message: String| ConfigError { place: format!("train.start_from = {}", path.display()), message };
    let loaded = load(path)?;
    loaded.notes.iter().for_each(|n| observer.note(n));
    let (spoken, notes) = corpus.spoken_by(&loaded).map_err(|e| place(e.to_string()))?;
    notes.iter().for_each(|n| observer.note(n));
    let (weights, notes) = reordered(&loaded, &spoken.tokens, encoder).map_err(place)?;
    notes.iter().for_each(|n| observer.note(&format!("{}: {n}", path.display())));
    Ok(weights)
}
