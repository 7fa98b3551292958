//! Where examples come from, for every command that looks at a model: a run config's language, or a file of JSON lines.

use std::path::Path;
use std::sync::Arc;

use super::arguments::ModelAndExamples;
use super::failure::Failure;
use super::print;
use crate::config::{self, Positions};
use crate::curvature::{Examples, Numbered};
use crate::gpu::AdapterChoice;
use crate::interrupt::{self, Interrupted};
use crate::model::{self, Loaded, TokenIds, read_examples};
use crate::ops::batch::Sentence;
use crate::ops::{Device, KernelChoice};
use crate::train::{Corpus, HeldOut, held_out_seed};

/// Examples, or a language that has as many as are wanted.
pub enum Source {
    File(Vec<Sentence>),
    /// With `--count`, and the number of sentences where it is not given: `evaluate.sentences`; and
    /// `evaluate.positions`, of which evaluation alone has several.
    Language {
        held_out: HeldOut,
        count: Option<u64>,
        usual: u64,
        positions: Positions,
    },
}

/// Reads a model and opens EXAMPLES for it; notes about the model are said. A generated language runs on the adapter.
pub fn open(
    adapter: &AdapterChoice,
    kernel_choice: &KernelChoice,
    arguments: &ModelAndExamples,
) -> Result<(Loaded, Source), Failure> {
    if is_language(&arguments.examples) {
        super::text::prepare(&config::load(&arguments.examples, &arguments.overrides)?.config)?;
    }
    let of = arguments.clone();
    let (loaded, source) = interrupt::or_stop(move || {
        let loaded = model::load(&of.model)?;
        loaded.notes.iter().for_each(|n| super::print::note(n));
        let source = Source::open(&of, &loaded)?;
        Ok::<_, Failure>((loaded, source))
    })??;
    if let Source::Language { held_out, .. } = &source {
        put_on(&held_out.corpus, adapter, kernel_choice)?;
    }
    Ok((loaded, source))
}

/// Opens the adapter for a language that needs one.
pub(super) fn put_on(corpus: &Corpus, adapter: &AdapterChoice, kernel_choice: &KernelChoice) -> Result<(), Failure> {
    match corpus.needs_a_device() {
        true => Ok(corpus.on(&Device::open(adapter, kernel_choice)?)?),
        false => Ok(()),
    }
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
        corpus.suits(loaded)?;
        print::notes(&corpus);
        let seed = arguments.seed.unwrap_or(held_out_seed(corpus.seed));
        let there = corpus.language.held_out_sentences();
        if let (Some(there), Some(count)) = (there, arguments.count)
            && count > there
        {
            let message = format!(
                "--count {count}: the text has {there} held-out examples; give no more, or raise `language.held_out`"
            );
            return Err(Failure::usage(message));
        }
        let usual = u64::from(resolved.config.evaluate.sentences).min(there.unwrap_or(u64::MAX));
        let positions = resolved.config.evaluate.positions;
        Ok(Source::Language { held_out: HeldOut { corpus, seed }, count: arguments.count, usual, positions })
    }

    /// The tokens of a language's words.
    pub fn tokens(&self) -> Option<Arc<TokenIds>> {
        match self {
            Source::File(_) => None,
            Source::Language { held_out, .. } => Some(held_out.corpus.tokens.clone()),
        }
    }

    /// Whether the examples stand for something larger, so that their choice has an error.
    pub fn sampled(&self, arguments: &ModelAndExamples) -> bool {
        matches!(self, Source::Language { .. }) || arguments.as_sample
    }

    /// The examples of a measurement, and the seed of a language's.
    ///
    /// # Errors
    /// An interrupt.
    pub fn examples(self, arguments: &ModelAndExamples) -> Result<(Examples<'static>, Option<u64>), Interrupted> {
        Ok(match self {
            Source::File(sentences) if arguments.as_sample => (Examples::SampleOf(sentences.into()), None),
            Source::File(sentences) => (Examples::These(sentences.into()), None),
            // There are no more of a text, which stands for more.
            Source::Language { held_out, count, usual, .. }
                if held_out.corpus.language.held_out_sentences().is_some() =>
            {
                let sentences = held_out.sentences(0..count.unwrap_or(usual))?;
                (Examples::SampleOf(sentences.into()), Some(held_out.seed))
            }
            Source::Language { held_out, count, usual, .. } => {
                let seed = held_out.seed;
                (Examples::Language { language: Box::new(held_out), count, usual }, Some(seed))
            }
        })
    }

    /// A fixed set of examples, of a language with the exact distributions of what is predicted where they are known;
    /// the seed of its sentences; and whether they are.
    ///
    /// # Errors
    /// An interrupt.
    pub fn contexts(self) -> Result<(Examples<'static>, Option<u64>, bool), Interrupted> {
        let (held_out, count, usual) = match self {
            Source::File(sentences) => return Ok((Examples::These(sentences.into()), None, false)),
            Source::Language { held_out, count, usual, .. } => (held_out, count, usual),
        };
        let numbers = held_out.first(count.unwrap_or(usual.min(CONTEXTS)));
        let seed = Some(held_out.seed);
        match held_out.exact(numbers.clone(), Positions::One)? {
            Ok(known) => {
                let sentences: Vec<Sentence> = known.into_iter().flatten().map(|k| k.sentence).collect();
                Ok((Examples::These(sentences.into()), seed, true))
            }
            Err(_) => Ok((Examples::These(held_out.sentences(numbers)?.into()), seed, false)),
        }
    }
}

/// Sentences of a language that every step of a chain goes over, where nobody says how many.
const CONTEXTS: u64 = 512;

fn is_language(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "toml")
}

/// The language under the ids that a model gives its words. A model of another language is refused: its numbers would
/// be about other words.
pub(super) fn spoken_by(loaded: &Loaded, corpus: &Corpus) -> Result<Corpus, Failure> {
    let (corpus, notes) = corpus.spoken_by(loaded)?;
    notes.iter().for_each(|n| print::note(n));
    Ok(corpus)
}
