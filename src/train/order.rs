//! The order of a training set: which sentence of the language an example of training is, and which of its maskings.
//!
//! Without a bound on the sentences an example is a new sentence. A set of n sentences with k maskings each has n k
//! examples, gone over in a random order of each pass ([`permuted`]).

use crate::random::permuted;

/// A sentence of the language with one of its maskings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// Number of the sentence.
    pub sentence: u64,
    /// What its masks are a function of, beside the seed.
    pub masking: u64,
}

/// The sentences that training goes over.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrainingSet {
    sentences: Option<u64>,
    maskings: u64,
    seed: u64,
}

impl TrainingSet {
    /// Of so many sentences (or ever new ones) with so many maskings each, 0 for a new one each time.
    pub fn new(sentences: Option<u64>, maskings: u32, seed: u64) -> TrainingSet {
        TrainingSet { sentences, maskings: maskings.into(), seed }
    }

    /// The example of a number, counted over all steps.
    pub fn example(&self, index: u64) -> Example {
        let Some(sentences) = self.sentences else { return Example { sentence: index, masking: index } };
        let size = sentences.saturating_mul(self.maskings.max(1));
        let number = permuted(self.seed, index / size, index % size, size);
        let masking = if self.maskings == 0 { index } else { number };
        Example { sentence: number % sentences, masking }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_has_every_masking_of_every_sentence_once() {
        for (sentences, maskings) in [(1, 0), (1, 3), (7, 5), (64, 1), (100, 0)] {
            let set = TrainingSet::new(Some(sentences), maskings, 5);
            let size = sentences * u64::from(maskings.max(1));
            for pass in 0..3 {
                let examples: Vec<Example> = (0..size).map(|i| set.example(pass * size + i)).collect();
                let mut seen: Vec<u64> = examples.iter().map(|e| e.sentence).collect();
                seen.sort_unstable();
                let want: Vec<u64> = (0..sentences).flat_map(|s| vec![s; maskings.max(1) as usize]).collect();
                assert_eq!(seen, want, "{sentences} sentences, {maskings} maskings, pass {pass}");
                let mut masks: Vec<u64> = examples.iter().map(|e| e.masking).collect();
                masks.sort_unstable();
                let first = if maskings == 0 { pass * size } else { 0 };
                assert_eq!(
                    masks,
                    (first..first + size).collect::<Vec<u64>>(),
                    "fixed maskings come back, new ones do not"
                );
            }
        }
    }

    #[test]
    fn without_a_bound_every_example_is_a_new_sentence() {
        let set = TrainingSet::new(None, 0, 5);
        assert_eq!(set.example(1 << 40), Example { sentence: 1 << 40, masking: 1 << 40 });
    }
}
