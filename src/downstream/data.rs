//! A downstream task as data: sentences with classes in three parts, from seeds that pre-training never sees.
//!
//! Classes are the labels that occur in any of the parts. *Chance* is one over their number, *majority* the test
//! accuracy of always saying the training part's most frequent class. *Bayes* is the mean over sentences of the largest
//! posterior probability of the task's names: how often a label agrees with what truly stood behind the sentence, and
//! the accuracy on that truth which no predictor can exceed. It exists where a label is the mode of such a posterior
//! ([`Language::label_is_posterior_mode`]); a predictor of the labels themselves, which are functions of the sentence,
//! may score higher.

use std::collections::BTreeSet;

pub use crate::language::part_seed;
use crate::language::{LabelError, Labelled, Task, Truth, Words, part, task_names};
use crate::model::{Reach, TokenIds};
use crate::ops::batch::Sentence;

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

/// Sentences and the number of each one's class. They are numbers of words in a language's vocabulary, or, as
/// [`Sentence`], what a model is fed with: token ids, with the token marked that a classifier reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part<S = Words> {
    /// In the order of `labels`.
    pub sentences: Vec<S>,
    /// Number of each sentence's class in [`TaskData::classes`].
    pub labels: Vec<u32>,
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
        let data = TaskData::numbered(task.to_string(), parts, language.max_length())?;
        Ok(TaskData { skipped, bayes, ..data })
    }

    /// The same sentences as a model is fed with them, under the ids that it gives the words: `<s> w1 ... wn </s>`,
    /// marked where a classifier reads ([`TokenIds::classified`]).
    pub fn fed(&self, tokens: &TokenIds, reach: Reach) -> TaskData<Sentence> {
        let part = |part: &Part| Part {
            sentences: part.sentences.iter().map(|words| tokens.classified(words, 0, reach)).collect(),
            labels: part.labels.clone(),
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
        }
    }
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
            Part { labels: names.iter().map(number).collect(), sentences }
        });
        let [train, validation, test]: [Part<S>; 3] = std::array::from_fn(|_| made.next().expect("three parts"));
        drop(made);
        Ok(TaskData { task, train, validation, test, skipped: 0, longest, losses: None, bayes: None, classes })
    }

    /// The classes that the test part has and the training part lacks, which no fit can learn.
    pub fn unlearnt(&self) -> Vec<&str> {
        let learnt: BTreeSet<u32> = self.train.labels.iter().copied().collect();
        let asked: BTreeSet<u32> = self.test.labels.iter().copied().collect();
        asked.difference(&learnt).map(|class| self.classes[*class as usize].as_str()).collect()
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
