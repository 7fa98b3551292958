//! What a loss is the mean of, before it is known how much of it will be measured.

use std::borrow::Cow;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chunks, CurvatureError, Subject};
use crate::interrupt::Interrupted;
use crate::model::Model;
use crate::ops::batch::Sentence;
use crate::statistics::Target;

/// A language that has as many sentences as are wanted: number i is the same whenever it is asked for.
pub trait Numbered {
    /// Sentences by number, each with its predicted positions and their labels.
    ///
    /// # Errors
    /// An interrupt.
    fn sentences(&self, numbers: Range<u64>) -> Result<Vec<Sentence>, Interrupted>;

    /// The same with the exact conditionals as labels beside those that stood there; `None` where they are not known.
    ///
    /// # Errors
    /// An interrupt.
    fn exact_sentences(&self, _numbers: Range<u64>) -> Result<Option<Vec<Sentence>>, Interrupted> {
        Ok(None)
    }

    /// Tokens of the longest sentence.
    fn longest(&self) -> u32;

    /// Predicted positions of a sentence at most.
    fn most_predicted(&self) -> u32;
}

/// Examples of a measurement.
pub enum Examples<'a> {
    /// These, which are themselves the target: nothing is random but probes and draws.
    These(Cow<'a, [Sentence]>),
    /// These as a sample of what they came from: their choice has its part of the standard error.
    SampleOf(Cow<'a, [Sentence]>),
    /// A language, which is the target: sentences 0 and up.
    Language {
        /// Its sentences.
        language: Box<dyn Numbered + 'a>,
        /// Sentences that are asked for; `None` leaves it to what is measured.
        count: Option<u64>,
        /// Sentences where neither says how many.
        usual: u64,
    },
}

impl Examples<'_> {
    /// All of them: those given, or as many of a language as are asked for, else its usual number.
    ///
    /// # Errors
    /// An interrupt.
    pub fn all(&self) -> Result<Vec<Sentence>, Interrupted> {
        match self {
            Examples::These(sentences) | Examples::SampleOf(sentences) => Ok(sentences.to_vec()),
            Examples::Language { language, count, usual } => language.sentences(0..count.unwrap_or(*usual)),
        }
    }

    /// The same of a language with its exact conditionals as labels; `None` where they are not known.
    ///
    /// # Errors
    /// An interrupt.
    pub fn exact(&self) -> Result<Option<Vec<Sentence>>, Interrupted> {
        match self {
            Examples::These(_) | Examples::SampleOf(_) => Ok(None),
            Examples::Language { language, count, usual } => language.exact_sentences(0..count.unwrap_or(*usual)),
        }
    }

    /// Predicted positions of an example at most.
    pub fn most_predicted(&self) -> usize {
        match self {
            Examples::These(sentences) | Examples::SampleOf(sentences) => {
                sentences.iter().map(|s| s.masked.len()).max().unwrap_or(1)
            }
            Examples::Language { language, .. } => language.most_predicted() as usize,
        }
    }

    /// What standard errors are about.
    pub fn target(&self) -> Target {
        match self {
            Examples::These(_) => Target::TheseExamples,
            Examples::SampleOf(_) | Examples::Language { .. } => Target::Population,
        }
    }
}

/// A model, which of its parameters take part, and how examples are gone through.
pub struct Setting<'a> {
    /// Nothing may write its parameters while it is measured.
    pub model: &'a Model,
    /// Patterns of parameter names, as in [`Subject::new`]; empty for all of them.
    pub only: &'a [String],
    /// Sizes of the batches, and the room for products.
    pub chunks: Chunks,
}

impl<'a> Setting<'a> {
    /// All parameters, in the usual batches.
    pub fn of(model: &'a Model) -> Setting<'a> {
        Setting { model, only: &[], chunks: Chunks::default() }
    }

    /// The model with sentences.
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn subject(&self, sentences: &[Sentence]) -> Result<Subject, CurvatureError> {
        Subject::new(self.model, sentences, self.only, &self.chunks)
    }

    /// The same in batches of another size.
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn subject_in(&self, sentences: &[Sentence], batch: usize) -> Result<Subject, CurvatureError> {
        Subject::new(self.model, sentences, self.only, &Chunks { batch, ..self.chunks })
    }
}

/// What a loss, and with it every matrix of it, is the mean over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossNormaliser {
    /// Sentences: each has one masked position, or counts with its loss summed over its predicted tokens, as in
    /// covariances of examples' gradients.
    #[default]
    Sentence,
    /// All predicted tokens of all examples, as `transformers` averages: L = Σ ℓ_i / N.
    PredictedToken,
}

impl LossNormaliser {
    /// Of the mean loss over so many examples with so many predicted tokens in all.
    pub fn of(examples: usize, predicted: usize) -> LossNormaliser {
        if predicted == examples { LossNormaliser::Sentence } else { LossNormaliser::PredictedToken }
    }
}

/// What a measurement is about, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Scope {
    /// Whether the examples are all there is, or a sample.
    pub target: Target,
    /// Examples that were measured.
    pub examples: usize,
    /// Masked positions, or predicted tokens, in them; the loss is the mean over these.
    pub masked: usize,
    /// Numbers that take part.
    pub parameters: usize,
    /// Names of the parameters that were held still.
    pub left_out: Vec<String>,
    /// Arithmetic in gradients over the same examples.
    pub gradient_equivalents: f64,
    /// Whether every example counts with its summed loss, not with the mean over predicted tokens.
    pub summed: bool,
}

impl Scope {
    /// All examples of a subject.
    pub fn of(subject: &Subject, target: Target, gradient_equivalents: f64) -> Scope {
        Scope {
            target,
            examples: subject.examples(),
            masked: subject.masked().iter().sum(),
            parameters: subject.size(),
            left_out: subject.vectors().left_out().into_iter().map(String::from).collect(),
            gradient_equivalents,
            summed: false,
        }
    }

    /// The same where every example counts with its summed loss: of second moments of examples' gradients.
    pub fn of_sums(self, summed: bool) -> Scope {
        Scope { summed, ..self }
    }

    /// What the loss is the mean over.
    pub fn loss_normaliser(&self) -> LossNormaliser {
        match self.summed {
            true => LossNormaliser::Sentence,
            false => LossNormaliser::of(self.examples, self.masked),
        }
    }

    /// Predicted tokens in an example, N / n: 1 where one word is masked in each.
    pub fn tokens_per_example(&self) -> f64 {
        self.masked as f64 / self.examples as f64
    }

    /// The first examples of the subject only.
    pub fn of_first(self, subject: &Subject, examples: usize) -> Scope {
        Scope { examples, masked: subject.masked()[..examples].iter().sum(), ..self }
    }
}
