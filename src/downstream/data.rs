//! A downstream task as data: sentences with classes in three parts, from seeds that pre-training never sees.
//!
//! Classes are the labels that occur in any of the parts. *Chance* is one over their number, *majority* the test
//! accuracy of always saying the training part's most frequent class. *Bayes* is the mean over sentences of the largest
//! posterior probability of the task's names: how often a label agrees with what truly stood behind the sentence, and
//! the accuracy on that truth which no predictor can exceed. It exists where a label is the mode of such a posterior
//! ([`Language::label_is_posterior_mode`]); a predictor of the labels themselves, which are functions of the sentence,
//! may score higher.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::language::part_seed;
use crate::language::{LabelError, Labelled, Task, Truth, Words, part, task_names};
use crate::model::{Reach, TokenIds};
use crate::ops::batch::Sentence;
use crate::random::{Purpose, Stream};

/// An error in a task or its file, and its place.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TaskError {
    /// A task that cannot be, or a line of its file.
    #[error("{place}: {message}")]
    Wrong {
        /// `file:line`, a file, or `task NAME`.
        place: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// A file has fewer rows than its three parts are to have.
    #[error("{file}: {rows} rows, {} + {} + {} are asked for", asked[0], asked[1], asked[2])]
    FewRows {
        /// The file.
        file: String,
        /// Rows that it has.
        rows: usize,
        /// Rows wanted for training, validation and test.
        asked: [usize; 3],
    },
}

/// Labelled sentences of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Sentences that a fit learns from.
    pub train: usize,
    /// Sentences that an epoch or a ridge is chosen by.
    pub validation: usize,
    /// Sentences that the accuracy is counted on.
    pub test: usize,
}

/// What a fit is taught.
///
/// Labels that are modes are functions of the sentence, so that the best fit to them names one class with certainty.
/// Only a fit to draws from the posterior, or to the posterior itself, has the posterior as its best, and an excess in
/// nats over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Teaching {
    /// The most likely name of each sentence: the paper's.
    #[default]
    Mode,
    /// What truly stood behind each sentence: a name drawn from the exact posterior.
    Drawn,
    /// The exact posterior as a soft label; of linear probes.
    Posterior,
}

impl Teaching {
    /// Whether it is the paper's.
    pub fn is_mode(&self) -> bool {
        *self == Teaching::Mode
    }
}

/// Sentences and the number of each one's class. They are numbers of words in a language's vocabulary, or, as
/// [`Sentence`], what a model is fed with: token ids, with the token marked that a classifier reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part<S = Words> {
    /// In the order of `labels`.
    pub sentences: Vec<S>,
    /// Number of each sentence's class in [`TaskData::classes`].
    pub labels: Vec<u32>,
    /// p(class | sentence) of each; empty where [`Teaching::Mode`] asks for none.
    pub posteriors: Vec<Vec<f64>>,
}

impl<S> Part<S> {
    /// Labelled sentences.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// What texts lost on their way to token ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Tokens that a text may have.
    pub max_tokens: usize,
    /// Texts, or pairs, that were longer and lost their end.
    pub truncated: u64,
    /// Share of the pieces that stand for what the tokenizer does not know.
    pub unknown_share: f64,
}

/// A task's data.
#[derive(Clone, Debug)]
pub struct TaskData<S = Words> {
    /// `A`, `span:3`, `task-6`, or the file that it was read from.
    pub task: String,
    /// Names of the classes that occur.
    pub classes: Vec<String>,
    /// What a fit learns from.
    pub train: Part<S>,
    /// What an epoch or a ridge is chosen by.
    pub validation: Part<S>,
    /// What the accuracy is counted on, and nothing chosen by.
    pub test: Part<S>,
    /// Drawn sentences, or rows of files, that have no label.
    pub skipped: u64,
    /// Words of the longest sentence that there may be; of what a model is fed with, tokens.
    pub longest: usize,
    /// Of texts that a tokenizer cut into pieces.
    pub losses: Option<Losses>,
    /// The best possible accuracy on the truth, where it is defined.
    pub bayes: Option<f64>,
    /// What a fit is taught.
    pub teaching: Teaching,
}

/// What a fit is taught and judged by: the classes of three parts, and where they are known their posteriors.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// Of training, validation and test.
    pub labels: [&'a [u32]; 3],
    /// p(class | sentence), of the same; empty where none is known. An epoch or a ridge is then chosen by the
    /// cross-entropy with those of the validation part, and a fit has a divergence from those of the test part.
    pub posteriors: [&'a [Vec<f64>]; 3],
    /// Whether the posteriors of the training part are what is taught, and not its labels.
    pub soft: bool,
}

impl<'a> From<[&'a [u32]; 3]> for Targets<'a> {
    fn from(labels: [&'a [u32]; 3]) -> Targets<'a> {
        Targets { labels, posteriors: [&[]; 3], soft: false }
    }
}

impl Targets<'_> {
    /// Whether posteriors are known.
    pub(super) fn known(&self) -> bool {
        !self.posteriors[2].is_empty()
    }
}

/// Sentences and names of labels, before the classes are numbered.
pub(super) type Named<S = Words> = Vec<(S, String)>;

impl TaskData {
    /// Draws and labels sentences of a language.
    ///
    /// # Errors
    /// When the language has no such task, or hardly a sentence has a label.
    pub fn of_language(
        language: &dyn Truth,
        task: Task,
        with_prior: bool,
        seed: u64,
        sizes: Sizes,
    ) -> Result<TaskData, TaskError> {
        let drawn = Drawn::of(language, task, with_prior, seed, sizes)?;
        let data = TaskData::numbered(task.to_string(), drawn.parts, language.max_length())?;
        Ok(TaskData { skipped: drawn.skipped, bayes: drawn.bayes, ..data })
    }

    /// The same with what a fit is taught. But for modes, classes are all names that have a share of some sentence's
    /// posterior, and labels of the validation and the test part are modes all the same: accuracies count these.
    ///
    /// # Errors
    /// As [`of_language`](Self::of_language), and where the language knows no posterior.
    pub fn of_language_taught(
        language: &dyn Truth,
        task: Task,
        with_prior: bool,
        seed: u64,
        sizes: Sizes,
        teaching: Teaching,
    ) -> Result<TaskData, TaskError> {
        if teaching.is_mode() {
            return TaskData::of_language(language, task, with_prior, seed, sizes);
        }
        let wrong = |message: String| TaskError::Wrong { place: format!("task {task}"), message };
        let own = Drawn::of(language, task, with_prior, seed, sizes)?;
        if !language.label_is_posterior_mode(task, with_prior) {
            return Err(wrong(NO_POSTERIOR.into()));
        }
        let names = language.label_names(task).map_err(|e| wrong(e.to_string()))?;
        let posteriors = |named: &Named| {
            let of = |(words, _): &(Words, String)| language.label_posterior(words, task, with_prior);
            named.iter().map(of).collect::<Option<Vec<Vec<f64>>>>().ok_or_else(|| wrong(NO_POSTERIOR.into()))
        };
        let posteriors: Vec<Vec<Vec<f64>>> = own.parts.iter().map(posteriors).collect::<Result<_, _>>()?;
        let used: Vec<usize> = (0..names.len()).filter(|c| posteriors.iter().flatten().any(|p| p[*c] > 0.0)).collect();
        let classes: Vec<String> = used.iter().map(|c| names[*c].clone()).collect();
        if classes.len() < 2 {
            return Err(wrong(format!("all labels are `{}`; there is nothing to tell apart", classes.join(""))));
        }
        let number = |name: &String| classes.iter().position(|class| class == name).expect("a mode has a share") as u32;
        let mut made = own.parts.into_iter().zip(posteriors).map(|(named, posteriors)| {
            let (sentences, names): (Vec<Words>, Vec<String>) = named.into_iter().unzip();
            let posteriors = posteriors.iter().map(|p| used.iter().map(|c| p[*c]).collect()).collect();
            Part { labels: names.iter().map(number).collect(), sentences, posteriors }
        });
        let [mut train, validation, test]: [Part; 3] = std::array::from_fn(|_| made.next().expect("three parts"));
        drop(made);
        if teaching == Teaching::Drawn {
            let seed = part_seed(seed, part::TRAIN);
            let draw = |(i, p): (usize, &Vec<f64>)| drawn(p, &mut Stream::new(seed, Purpose::Label, i as u64));
            train.labels = train.posteriors.iter().enumerate().map(draw).collect();
        }
        let (task, longest, losses) = (task.to_string(), language.max_length(), None);
        let (skipped, bayes) = (own.skipped, own.bayes);
        Ok(TaskData { task, classes, train, validation, test, skipped, longest, losses, bayes, teaching })
    }

    /// The same sentences as a model is fed with them, under the ids that it gives the words: `<s> w1 ... wn </s>`,
    /// marked where a classifier reads ([`TokenIds::classified`]).
    pub fn fed(&self, tokens: &TokenIds, reach: Reach) -> TaskData<Sentence> {
        let part = |part: &Part| Part {
            sentences: part.sentences.iter().map(|words| tokens.classified(words, 0, reach)).collect(),
            labels: part.labels.clone(),
            posteriors: part.posteriors.clone(),
        };
        TaskData {
            task: self.task.clone(),
            classes: self.classes.clone(),
            train: part(&self.train),
            validation: part(&self.validation),
            test: part(&self.test),
            skipped: self.skipped,
            longest: self.longest + 2,
            losses: self.losses,
            bayes: self.bayes,
            teaching: self.teaching,
        }
    }
}

const NO_POSTERIOR: &str = "no posterior over its names is known, which labels could be drawn from and an excess in \
                            nats be taken over; it is of `task-K` of a hidden Markov model, of `A` of a grammar with \
                            the prior, and of brackets";

/// Labelled sentences of three parts as they are drawn.
struct Drawn {
    parts: Vec<Named>,
    skipped: u64,
    bayes: Option<f64>,
}

impl Drawn {
    fn of(language: &dyn Truth, task: Task, with_prior: bool, seed: u64, sizes: Sizes) -> Result<Drawn, TaskError> {
        let error = |e: LabelError| TaskError::Wrong { place: format!("task {task}"), message: e.to_string() };
        task_names(language, task).map_err(error)?;
        let (mut skipped, mut certainty, mut labelled) = (0, 0.0, 0.0);
        let mut parts = Vec::new();
        let wanted = [(part::TRAIN, sizes.train), (part::VALIDATION, sizes.validation), (part::TEST, sizes.test)];
        for (part, wanted) in wanted {
            let drawn = Labelled::draw(language, task, with_prior, part_seed(seed, part), wanted).map_err(error)?;
            skipped += drawn.skipped;
            let mut named = Named::new();
            for (words, label) in drawn.sentences {
                certainty += label.probability;
                labelled += 1.0;
                named.push((words, label.symbol));
            }
            parts.push(named);
        }
        let bayes = language.label_is_posterior_mode(task, with_prior).then(|| certainty / labelled);
        Ok(Drawn { parts, skipped, bayes })
    }
}

/// The number of a class drawn from a distribution.
fn drawn(p: &[f64], stream: &mut Stream) -> u32 {
    let mut left = stream.uniform();
    for (class, share) in p.iter().enumerate() {
        left -= share;
        if left < 0.0 {
            return class as u32;
        }
    }
    // Rounding may leave a gap behind the last class that can be.
    p.iter().rposition(|share| *share > 0.0).unwrap_or(0) as u32
}

impl<S> TaskData<S> {
    /// Numbers the classes of three parts.
    pub(super) fn numbered(task: String, parts: Vec<Named<S>>, longest: usize) -> Result<TaskData<S>, TaskError> {
        let all: BTreeSet<&str> = parts.iter().flatten().map(|(_, label)| label.as_str()).collect();
        let classes: Vec<String> = all.into_iter().map(str::to_string).collect();
        if classes.len() < 2 {
            let message = format!("all labels are `{}`; there is nothing to tell apart", classes.join(""));
            return Err(TaskError::Wrong { place: format!("task {task}"), message });
        }
        let number = |label: &String| classes.binary_search(label).expect("all labels are listed") as u32;
        let mut made = parts.into_iter().map(|named| {
            let (sentences, names): (Vec<S>, Vec<String>) = named.into_iter().unzip();
            Part { labels: names.iter().map(number).collect(), sentences, posteriors: vec![] }
        });
        let [train, validation, test]: [Part<S>; 3] = std::array::from_fn(|_| made.next().expect("three parts"));
        drop(made);
        let teaching = Teaching::Mode;
        Ok(TaskData {
            task,
            train,
            validation,
            test,
            skipped: 0,
            longest,
            losses: None,
            bayes: None,
            teaching,
            classes,
        })
    }

    /// The classes that the test part has and the training part lacks, which no fit can learn.
    pub fn unlearnt(&self) -> Vec<&str> {
        let learnt: BTreeSet<u32> = self.train.labels.iter().copied().collect();
        let asked: BTreeSet<u32> = self.test.labels.iter().copied().collect();
        asked.difference(&learnt).map(|class| self.classes[*class as usize].as_str()).collect()
    }

    /// What a fit is taught and judged by.
    pub fn targets(&self) -> Targets<'_> {
        Targets {
            labels: self.parts().map(|part| part.labels.as_slice()),
            posteriors: self.parts().map(|part| part.posteriors.as_slice()),
            soft: self.teaching == Teaching::Posterior,
        }
    }

    /// The three parts in order.
    pub fn parts(&self) -> [&Part<S>; 3] {
        [&self.train, &self.validation, &self.test]
    }

    /// Accuracy of guessing among the classes.
    pub fn chance(&self) -> f64 {
        1.0 / self.classes.len() as f64
    }

    /// Test accuracy of the training part's most frequent class.
    pub fn majority(&self) -> f64 {
        let mut counts = vec![0usize; self.classes.len()];
        self.train.labels.iter().for_each(|y| counts[*y as usize] += 1);
        let best = (1..counts.len()).fold(0, |best, y| if counts[y] > counts[best] { y } else { best }) as u32;
        self.test.labels.iter().filter(|y| **y == best).count() as f64 / self.test.len() as f64
    }
}
