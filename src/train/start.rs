//! The weights that a run begins with: random ones, or those of another model.
//!
//! A model to start from may number the language's words in its own way. Its rows are moved into the order that models
//! trained here have, rather than the run taken into its order: so the tokenizer beside every checkpoint, resuming,
//! soft labels and whatever compares runs know one order of ids, and starts with different tokenizers train to the same
//! bits.

use super::data::Corpus;
use super::observer::Observer;
use super::run::RunError;
use crate::config::{ConfigError, Resolved, WidthScaling};
use crate::model::{Encoder, Norm, Part, Weights, load, reordered};

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
        let mut weights = Weights::initial(&encoder.parameters, encoder.config.initializer_range, config.seed);
        if let Some(scaling) = &config.train.width {
            scale_head(&mut weights, encoder, scaling)?;
        }
        return Ok(weights);
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

/// Multiplies the scale of the norm before the output by what a config's widths say.
fn scale_head(weights: &mut Weights, encoder: &Encoder, scaling: &WidthScaling) -> Result<(), ConfigError> {
    let [_, factor] = scaling.factors(encoder.config.hidden_size);
    let of = |norm: Norm| encoder.parameters.iter().position(|p| p.role.part == Part::Norm(norm) && !p.role.bias);
    match of(Norm::Head).or(of(Norm::Final)) {
        Some(at) => weights.0[at].iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32),
        None if factor == 1.0 => {}
        None => {
            let message = "the model has no norm before its output; set it to 0";
            return Err(ConfigError::at("train.width.head", message));
        }
    }
    Ok(())
}
