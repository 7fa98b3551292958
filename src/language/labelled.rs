//! Labelled sentences of a language for downstream tasks, from seeds that pre-training never sees.

use rayon::prelude::*;

use super::{Label, Language, Task, Words};
use crate::random::{Purpose, philox};

/// Labelled sentences of one seed, the first that have a label.
#[derive(Clone, Debug, Default)]
pub struct Labelled {
    pub sentences: Vec<(Words, Label)>,
    /// Drawn sentences that have no label.
    pub skipped: u64,
}

/// Parts of a task's data; each has its own seed.
pub mod part {
    pub const TRAIN: u32 = 0;
    pub const VALIDATION: u32 = 1;
    pub const TEST: u32 = 2;
    /// What the head of adversarial pre-training learns from.
    pub const ADVERSARY_HEAD: u32 = 3;
    /// What its loss is taken on.
    pub const ADVERSARY_LOSS: u32 = 4;
}

/// Seed of the sentences of a [`part`]: a function of the config's seed that is neither it nor its held-out seed.
pub fn part_seed(seed: u64, part: u32) -> u64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let word = philox([part, Purpose::Downstream as u32, 0, 0], key);
    u64::from(word[0]) | u64::from(word[1]) << 32
}

/// Sentences drawn for one with a label before a task is given up.
const PATIENCE: u64 = 200;

impl Labelled {
    /// Draws sentences of a seed in order and keeps those with a label, until there are so many.
    ///
    /// # Errors
    /// When hardly a sentence has a label.
    pub fn draw(
        language: &dyn Language,
        task: Task,
        with_prior: bool,
        seed: u64,
        wanted: usize,
    ) -> Result<Labelled, String> {
        let mut found = Labelled::default();
        let mut next = 0u64;
        while found.sentences.len() < wanted {
            let chunk = ((wanted - found.sentences.len()) as u64).max(256);
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
                    _ if found.sentences.len() == wanted => break,
                    Some(label) => found.sentences.push((words, label)),
                    None => found.skipped += 1,
                }
            }
            if next > PATIENCE * (wanted as u64 + 10) && found.sentences.len() < wanted {
                return Err(format!(
                    "only {} of {next} sentences have a label; this task asks for longer ones",
                    found.sentences.len()
                ));
            }
        }
        Ok(found)
    }
}
