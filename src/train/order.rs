//! The order of a training set: which sentence of the language an example of training is, and which of its maskings.
//!
//! Without a bound on the sentences an example is a new sentence. A set of n sentences with k maskings each has n k
//! examples, gone over in a random order of each pass. The order is a permutation that is computed, not kept: a Feistel
//! network over the bits of a number with Philox as its round function, applied again while the result lies outside
//! (cycle walking, Black and Rogaway 2002).

use crate::random::philox;

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

/// The number at a place of pass `pass` over `0..size`.
fn permuted(seed: u64, pass: u64, place: u64, size: u64) -> u64 {
    // Halves of as many bits as numbers below the size need, rounded up to an even number of bits.
    let half = (u64::BITS - (size - 1).leading_zeros()).div_ceil(2).max(1);
    let low = (1u64 << half) - 1;
    let key = [seed as u32, (seed >> 32) as u32 ^ ORDER];
    let mut number = place;
    loop {
        for round in 0..ROUNDS {
            let (left, right) = (number >> half, number & low);
            let mixed = philox([right as u32, round, pass as u32, (pass >> 32) as u32], key)[0];
            number = (right << half) | (left ^ (u64::from(mixed) & low));
        }
        if number < size {
            return number;
        }
    }
}

/// Keeps the order's random numbers apart from those of streams, whose second word is a purpose.
const ORDER: u32 = 0x5EED_0F0D;
/// Four rounds with a good round function cannot be told from a random permutation (Luby and Rackoff 1988).
const ROUNDS: u32 = 4;

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
    fn the_order_is_another_in_each_pass_and_looks_random() {
        let n = 1000;
        let order = |pass: u64| (0..n).map(|i| permuted(3, pass, i, n)).collect::<Vec<u64>>();
        let (first, second) = (order(0), order(1));
        assert_ne!(first, second);
        // Correlation of place and number, of two passes, and of neighbours: each N(0, 1/n) for random orders.
        let correlation = |a: &[u64], b: &[u64]| {
            let mean = (n - 1) as f64 / 2.0;
            let centred = |v: u64| v as f64 - mean;
            let squares = (n * n - 1) as f64 / 12.0 * n as f64;
            a.iter().zip(b).map(|(a, b)| centred(*a) * centred(*b)).sum::<f64>() / squares
        };
        let places: Vec<u64> = (0..n).collect();
        for (what, r) in [
            ("places", correlation(&first, &places)),
            ("passes", correlation(&first, &second)),
            ("neighbours", correlation(&first[1..], &first[..n as usize - 1])),
        ] {
            assert!(r.abs() < 4.0 / (n as f64).sqrt(), "{what}: {r:.3}");
        }
    }

    #[test]
    fn without_a_bound_every_example_is_a_new_sentence() {
        let set = TrainingSet::new(None, 0, 5);
        assert_eq!(set.example(1 << 40), Example { sentence: 1 << 40, masking: 1 << 40 });
    }
}
