//! A downstream task as data: sentences with classes in three parts, from seeds that pre-training never sees.
//!
//! Classes are the labels that occur in any of the parts. *Chance* is one over their number, *majority* the test accuracy
//! of always saying the training part's most frequent class. *Bayes* is the mean over sentences of the largest posterior
//! probability of the task's names: how often a label agrees with what truly stood behind the sentence, and the accuracy
//! on that truth which no predictor can exceed. It exists where a label is the mode of such a posterior
//! ([`Language::label_is_posterior_mode`]); a predictor of the labels themselves, which are functions of the sentence, may
//! score higher.

use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::language::{Language, Task, Words};
use crate::random::philox;

/// What is wrong with a task or its file, and where.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {message}")]
pub struct TaskError {
    pub place: String,
    pub message: String,
}

/// Labelled sentences of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub train: usize,
    pub validation: usize,
    pub test: usize,
}

/// Sentences, as numbers of words, and the number of each one's class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    pub sentences: Vec<Words>,
    pub labels: Vec<u32>,
}

impl Part {
    /// Labelled sentences.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// A task's data.
#[derive(Clone, Debug)]
pub struct TaskData {
    pub task: String,
    /// Names of the classes that occur.
    pub classes: Vec<String>,
    pub train: Part,
    pub validation: Part,
    pub test: Part,
    /// Drawn sentences that have no label.
    pub skipped: u64,
    /// Words of the longest sentence that there may be.
    pub longest: usize,
    /// The best possible accuracy on the truth, where it is defined.
    pub bayes: Option<f64>,
}

/// Sentences and names of labels, before the classes are numbered.
pub(super) type Named = Vec<(Words, String)>;

/// Seed of the sentences of part 0, 1 or 2: a function of the config's seed that is neither it nor its held-out seed.
pub fn part_seed(seed: u64, part: u32) -> u64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let word = philox([part, crate::random::Purpose::Downstream as u32, 0, 0], key);
    u64::from(word[0]) | u64::from(word[1]) << 32
}

/// Sentences drawn for one with a label before a task is given up.
const PATIENCE: u64 = 200;

impl TaskData {
    /// Draws and labels sentences of a language.
    ///
    /// # Errors
    /// When the language has no such task, or hardly a sentence has a label.
    pub fn of_language(
        language: &dyn Language,
        task: Task,
        with_prior: bool,
        seed: u64,
        sizes: Sizes,
    ) -> Result<TaskData, TaskError> {
        let error = |message: String| TaskError { place: format!("task {task}"), message };
        language.label_names(task).map_err(error)?;
        let (mut skipped, mut certainty, mut labelled) = (0, 0.0, 0.0);
        let mut parts = Vec::new();
        for (part, wanted) in [sizes.train, sizes.validation, sizes.test].into_iter().enumerate() {
            let seed = part_seed(seed, part as u32);
            let (mut named, mut next) = (Named::new(), 0u64);
            while named.len() < wanted {
                let chunk = ((wanted - named.len()) as u64).max(256);
                let drawn: Vec<_> = (next..next + chunk)
                    .into_par_iter()
                    .map(|i| {
                        let words = language.sample(seed, i);
                        let label = language.label(&words, task, with_prior);
                        (words, label)
                    })
                    .collect();
                next += chunk;
                for (words, label) in drawn {
                    match label {
                        _ if named.len() == wanted => break,
                        Some(label) => {
                            certainty += label.probability;
                            labelled += 1.0;
                            named.push((words, label.symbol));
                        }
                        None => skipped += 1,
                    }
                }
                if next > PATIENCE * (wanted as u64 + 10) && named.len() < wanted {
                    return Err(error(format!(
                        "only {} of {next} sentences have a label; this task asks for longer ones",
                        named.len()
                    )));
                }
            }
            parts.push(named);
        }
        let bayes = language.label_is_posterior_mode(task, with_prior).then(|| certainty / labelled);
        let data = TaskData::numbered(task.to_string(), parts, language.max_length())?;
        Ok(TaskData { skipped, bayes, ..data })
    }

    /// Numbers the classes of three parts.
    pub(super) fn numbered(task: String, parts: Vec<Named>, longest: usize) -> Result<TaskData, TaskError> {
        let all: BTreeSet<&str> = parts.iter().flatten().map(|(_, label)| label.as_str()).collect();
        let classes: Vec<String> = all.into_iter().map(str::to_string).collect();
        if classes.len() < 2 {
            let message = format!("all labels are `{}`; there is nothing to tell apart", classes.join(""));
            return Err(TaskError { place: format!("task {task}"), message });
        }
        let number = |label: &String| classes.binary_search(label).expect("all labels are listed") as u32;
        let mut made = parts.into_iter().map(|named| {
            let (sentences, names): (Vec<Words>, Vec<String>) = named.into_iter().unzip();
            Part { labels: names.iter().map(number).collect(), sentences }
        });
        let [train, validation, test] = std::array::from_fn(|_| made.next().unwrap_or_default());
        drop(made);
        Ok(TaskData { task, train, validation, test, skipped: 0, longest, bayes: None, classes })
    }

    /// The three parts in order.
    pub fn parts(&self) -> [&Part; 3] {
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
