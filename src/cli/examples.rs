//! Where examples come from, for every command that looks at a model: a run config's language, or a file of JSON lines.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::arguments::ModelAndExamples;
use super::failure::Failure;
use super::print;
use crate::config;
use crate::model::{Loaded, read_examples};
use crate::ops::batch::Sentence;
use crate::train::{Corpus, MaskedSentence, held_out_seed, held_out_sentence, masked_sentence};

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
        check_vocabulary(loaded, &corpus, path)?;
        let count = arguments.count.unwrap_or(u64::from(resolved.config.evaluate.sentences));
        print::notes(&corpus);
        let seed = arguments.seed.unwrap_or(held_out_seed(corpus.seed));
        Ok(Source::Language(HeldOut { corpus, seed, count }))
    }

    /// Whether the examples stand for something larger, so that their choice has an error.
    pub fn sampled(&self, arguments: &ModelAndExamples) -> bool {
        matches!(self, Source::Language(_)) || arguments.as_sample
    }
}

impl HeldOut {
    /// Sentences by number.
    pub fn sentences(&self, numbers: Range<u64>) -> Vec<Sentence> {
        let language = self.corpus.language.as_ref();
        numbers.into_par_iter().map(|i| held_out_sentence(language, self.seed, i)).collect()
    }

    /// The same with their exact conditionals as soft labels.
    pub fn exact(&self, numbers: Range<u64>) -> Vec<MaskedSentence> {
        let language = self.corpus.language.as_ref();
        numbers.into_par_iter().map(|i| masked_sentence(language, self.seed, i)).collect()
    }

    /// Tokens of the longest sentence.
    pub fn longest(&self) -> u32 {
        self.corpus.language.max_length() as u32 + 2
    }
}

fn is_language(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml")
}

/// Refuses a model of another language: its numbers would be about other words.
pub(super) fn check_vocabulary(loaded: &Loaded, corpus: &Corpus, path: &Path) -> Result<(), Failure> {
    let wanted = corpus.vocabulary.len();
    let has = loaded.encoder.config.vocab_size as usize;
    if has != wanted {
        return Err(Failure::usage(format!(
            "the model has {has} words, the language of {} has {wanted}",
            path.display()
        )));
    }
    if let Some(vocabulary) = &loaded.vocabulary
        && let Some((a, b)) = vocabulary.words().iter().zip(corpus.vocabulary.words()).find(|(a, b)| a != b)
    {
        return Err(Failure::usage(format!(
            "the model's vocab.txt has `{a}` where the language of {} has `{b}`",
            path.display()
        )));
    }
    let longest = corpus.language.max_length() + 2;
    let positions = loaded.encoder.config.longest() as usize;
    if longest > positions {
        return Err(Failure::usage(format!(
            "sentences have up to {longest} tokens, the model has positions for {positions}"
        )));
    }
    Ok(())
}
