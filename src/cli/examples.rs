//! Where examples come from, for every command that looks at a model: a run config's language, or a file of JSON lines.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::arguments::ModelAndExamples;
use super::failure::Failure;
use super::print;
use crate::config::{self, Positions};
use crate::interrupt::{self, Interrupted};
use crate::model::{self, Loaded, read_examples};
use crate::ops::batch::Sentence;
use crate::train::{Corpus, MaskedSentence, held_out_seed, held_out_sentence, masked_sentences};

/// Examples, or a language that has as many as are wanted.
pub enum Source {
    File(Vec<Sentence>),
    Language(HeldOut),
}

/// Held-out sentences of a language.
pub struct HeldOut {
    corpus: Corpus,
    /// Seed of the sentences.
    pub seed: u64,
    /// `--count`, or else `evaluate.sentences`.
    pub count: u64,
    /// `evaluate.positions`.
    pub positions: Positions,
}

/// Reads a model and opens EXAMPLES for it; notes about the model are said.
pub fn open(arguments: &ModelAndExamples) -> Result<(Loaded, Source), Failure> {
    let arguments = arguments.clone();
    interrupt::or_stop(move || {
        let loaded = model::load(&arguments.model)?;
        loaded.notes.iter().for_each(|n| super::print::note(n));
        let source = Source::open(&arguments, &loaded)?;
        Ok((loaded, source))
    })?
}

impl Source {
    /// Opens EXAMPLES for a model: a run config where the name ends in `.toml`.
    pub fn open(arguments: &ModelAndExamples, loaded: &Loaded) -> Result<Source, Failure> {
        let path = &arguments.examples;
        if !is_language(path) {
            if !arguments.overrides.is_empty() {
                return Err(Failure::usage(format!(
                    "{}: overrides belong to a run config, this is a file of examples",
                    path.display()
                )));
            }
            let mut sentences = read_examples(path, &loaded.encoder.config)?;
            sentences.truncate(arguments.count.map_or(usize::MAX, |c| c as usize));
            return Ok(Source::File(sentences));
        }
        let resolved = config::load(path, &arguments.overrides)?;
        let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, resolved.config.seed)?;
        let corpus = spoken_by(loaded, &corpus)?;
        let count = arguments.count.unwrap_or(u64::from(resolved.config.evaluate.sentences));
        print::notes(&corpus);
        let seed = arguments.seed.unwrap_or(held_out_seed(corpus.seed));
        let positions = resolved.config.evaluate.positions;
        Ok(Source::Language(HeldOut { corpus, seed, count, positions }))
    }

    /// Whether the examples stand for something larger, so that their choice has an error.
    pub fn sampled(&self, arguments: &ModelAndExamples) -> bool {
        matches!(self, Source::Language(_)) || arguments.as_sample
    }
}

impl HeldOut {
    /// Sentences by number.
    pub fn sentences(&self, numbers: Range<u64>) -> Result<Vec<Sentence>, Interrupted> {
        let (language, tokens, seed) = (self.corpus.language.clone(), self.corpus.tokens.clone(), self.seed);
        let one = move |i| held_out_sentence(language.as_ref(), tokens.as_ref(), seed, i);
        interrupt::or_stop(move || numbers.into_par_iter().map(one).collect())
    }

    /// Each of them once for every position that is asked about, with the exact conditional as a soft label.
    pub fn exact(&self, numbers: Range<u64>) -> Result<Vec<Vec<MaskedSentence>>, Interrupted> {
        let (language, tokens, seed) = (self.corpus.language.clone(), self.corpus.tokens.clone(), self.seed);
        let positions = self.positions;
        let one = move |i| masked_sentences(language.as_ref(), tokens.as_ref(), seed, i, positions);
        interrupt::or_stop(move || numbers.into_par_iter().map(one).collect())
    }

    /// Tokens of the longest sentence.
    pub fn longest(&self) -> u32 {
        self.corpus.language.max_length() as u32 + 2
    }
}

fn is_language(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml")
}

/// The language under the ids that a model gives its words. A model of another language is refused: its numbers would be
/// about other words.
pub(super) fn spoken_by(loaded: &Loaded, corpus: &Corpus) -> Result<Corpus, Failure> {
    let (corpus, notes) = corpus.spoken_by(loaded)?;
    notes.iter().for_each(|n| print::note(n));
    Ok(corpus)
}
