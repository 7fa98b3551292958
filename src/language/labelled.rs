//! Labelled sentences of a language for downstream tasks, from seeds that pre-training never sees.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{Label, LabelError, Task, Truth, Words};
use crate::random::{Purpose, philox};

/// Labelled sentences of one seed, the first that have a label.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    /// As many as were asked for, in the order in which they were drawn.
    pub sentences: Vec<(Words, Label)>,
    /// Drawn sentences that have no label.
    pub skipped: u64,
}

/// Parts of a task's data; each has its own seed.
pub mod part {
    /// What a fit learns from.
    pub const TRAIN: u32 = 0;
    /// What an epoch or a ridge is chosen by.
    pub const VALIDATION: u32 = 1;
    /// What the accuracy is counted on.
    pub const TEST: u32 = 2;
    /// The sentences that the head of adversarial pre-training learns from.
    pub const ADVERSARY_HEAD: u32 = 3;
    /// The sentences that its loss is taken on.
    pub const ADVERSARY_LOSS: u32 = 4;
}

/// Seed of the sentences of a [`part`]: a function of the config's seed that is neither it nor its held-out seed.
pub fn part_seed(seed: u64, part: u32) -> u64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let word = philox([part, Purpose::Downstream as u32, 0, 0], key);
    u64::from(word[0]) | u64::from(word[1]) << 32
}

/// Sentences drawn per labelled one before a task is given up.
const PATIENCE: u64 = 200;

/// The names that labels of a task are drawn from: [`Truth::label_names`], and no task that no sentence can answer.
///
/// # Errors
/// When the language has no such task, or none of its sentences can have a label.
pub fn task_names(language: &dyn Truth, task: Task) -> Result<Vec<String>, LabelError> {
    let names = language.label_names(task)?;
    let (longest, shortest) = (language.max_length(), task.shortest());
    if shortest > longest {
        return Err(LabelError::NoneLongEnough { shortest, longest });
    }
    if names.is_empty() {
        return Err(LabelError::NoneBelowRoot);
    }
    Ok(names)
}

/// Looks at a few hundred sentences (a few thousand where none of them has a label) and gives how many labels they have
/// among them: whether a task can be asked, without drawing all its data.
///
/// # Errors
/// As [`task_names`], and when hardly a sentence has a label.
pub fn check_task(language: &dyn Truth, task: Task, with_prior: bool, seed: u64) -> Result<usize, LabelError> {
    const SAMPLE: u64 = 300;
    const MORE: u64 = 2300;
    task_names(language, task)?;
    let mut tally = Tally::default();
    let mut labels = BTreeSet::new();
    for until in [SAMPLE, MORE] {
        for (words, label) in label_all(language, task, with_prior, seed, tally.drawn..until) {
            tally.count(task, &words, label.is_some());
            labels.extend(label.map(|label| label.symbol));
        }
        // One in PATIENCE would do; the sample is too small to be that exact.
        if 3 * PATIENCE * tally.found >= tally.drawn {
            return Ok(labels.len());
        }
    }
    Err(LabelError::TooFew { task, tally })
}

fn label_all(
    language: &dyn Truth,
    task: Task,
    with_prior: bool,
    seed: u64,
    numbers: std::ops::Range<u64>,
) -> Vec<(Words, Option<Label>)> {
    let one = |i| {
        let words = language.sample(seed, i);
        let label = language.label(&words, task, with_prior);
        (words, label)
    };
    numbers.into_par_iter().map(one).collect()
}

/// Counts of the sentences drawn for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub drawn: u64,
    /// Those that have a label.
    pub found: u64,
    /// Those that are too short for the task.
    pub short: u64,
    /// Words of the longest.
    pub longest: usize,
}

impl Tally {
    fn count(&mut self, task: Task, words: &[u32], labelled: bool) {
        self.drawn += 1;
        self.found += u64::from(labelled);
        self.short += u64::from(words.len() < task.shortest());
        self.longest = self.longest.max(words.len());
    }

    /// Says why few sentences have a label.
    pub(super) fn too_few(&self, task: Task) -> String {
        let mut reasons = Vec::new();
        if self.short > 0 {
            reasons.push(format!(
                "{} have fewer than the {} words it asks about (the longest has {})",
                self.short,
                task.shortest(),
                self.longest
            ));
        }
        let uncovered = self.drawn - self.short - self.found;
        if uncovered > 0 {
            reasons.push(format!("in {uncovered} {}", task.uncovered()));
        }
        format!("only {} of {} sentences have a label: {}", self.found, self.drawn, reasons.join(", and "))
    }
}

impl Labelled {
    /// Draws sentences of a seed in order until `wanted` of them have a label, and keeps those.
    ///
    /// # Errors
    /// When hardly a sentence has a label.
    pub fn draw(
        language: &dyn Truth,
        task: Task,
        with_prior: bool,
        seed: u64,
        wanted: usize,
    ) -> Result<Labelled, LabelError> {
        let mut found = Labelled::default();
        let mut tally = Tally::default();
        let mut next = 0u64;
        while found.sentences.len() < wanted {
            let chunk = ((wanted - found.sentences.len()) as u64).max(256);
            let drawn = label_all(language, task, with_prior, seed, next..next + chunk);
            next += chunk;
            for (words, label) in drawn {
                tally.count(task, &words, label.is_some());
                match label {
                    _ if found.sentences.len() == wanted => break,
                    Some(label) => found.sentences.push((words, label)),
                    None => found.skipped += 1,
                }
            }
            if next > PATIENCE * (wanted as u64 + 10) && found.sentences.len() < wanted {
                return Err(LabelError::TooFew { task, tally });
            }
        }
        Ok(found)
    }
}
