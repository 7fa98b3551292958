//! Several masked words of a sentence, as a function of (seed, masking).
//!
//! Each position by itself ([`bernoulli_positions`]), or a share of them of which most are hidden, some replaced and
//! some left (Devlin et al. 2019, section 3.1; `create_pretraining_data.py` of the paper's release).

use crate::config::{RandomFrom, SeveralMasks};
use crate::model::TokenIds;
use crate::ops::batch::Sentence;
use crate::random::{Purpose, Stream};

/// Each place with probability p; one drawn uniformly where none came.
pub(super) fn bernoulli_positions(seed: u64, masking: u64, places: &[usize], p: f64) -> Vec<usize> {
    let mut stream = Stream::new(seed, Purpose::Mask, masking);
    let chosen: Vec<usize> = places.iter().copied().filter(|_| stream.uniform() < p).collect();
    if chosen.is_empty() { vec![places[stream.below(places.len() as u32) as usize]] } else { chosen }
}

/// `<s> w1 ... wn </s>` with a share of its words to predict, drawn without replacement.
pub(super) fn several(masks: &SeveralMasks, tokens: &TokenIds, words: &[u32], seed: u64, masking: u64) -> Sentence {
    let mut stream = Stream::new(seed, Purpose::Mask, masking);
    let mut order = tokens.maskable(words);
    let count = masks.predicted(order.len());
    for i in 0..count {
        let other = i + stream.below((order.len() - i) as u32) as usize;
        order.swap(i, other);
    }
    let chosen = &mut order[..count];
    chosen.sort_unstable();
    let mut sentence = tokens.mask_all(words, chosen);
    // One of `masked` for each of them, in their order.
    for (i, position) in chosen.iter().enumerate() {
        let kind = stream.uniform();
        if kind >= masks.hidden {
            sentence.ids[sentence.masked[i].0 as usize] = match (kind < masks.hidden + masks.random, masks.random_from)
            {
                (false, _) => tokens.word(words[*position]),
                (true, RandomFrom::Words) => tokens.random_word(&mut stream),
                (true, RandomFrom::Table) => stream.below(tokens.size() as u32),
            };
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of counts against probabilities.
    fn chi_square(counts: &[f64], p: &[f64]) -> f64 {
        let n: f64 = counts.iter().sum();
        counts.iter().zip(p).map(|(c, p)| (c - n * p).powi(2) / (n * p)).sum()
    }

    /// What became of the chosen words of many sentences: (hidden, random, left), places, pairs of places, random ids.
    struct Seen {
        kinds: [f64; 3],
        places: Vec<f64>,
        pairs: Vec<f64>,
        random: Vec<f64>,
    }

    const WORDS: usize = 6;
    const SENTENCES: u64 = 40_000;

    fn look(masks: &SeveralMasks) -> Seen {
        let tokens = TokenIds::new(WORDS);
        // Word number i at place i, so that a word that is left is told from a random one nearly always.
        let words: Vec<u32> = (0..WORDS as u32).collect();
        let mut seen = Seen {
            kinds: [0.0; 3],
            places: vec![0.0; WORDS],
            pairs: vec![0.0; WORDS * WORDS],
            random: vec![0.0; tokens.size()],
        };
        for masking in 0..SENTENCES {
            let sentence = several(masks, &tokens, &words, 11, masking);
            assert_eq!(sentence.masked.len(), masks.predicted(WORDS));
            for (place, label) in &sentence.masked {
                let place = *place as usize - 1;
                assert_eq!(*label, tokens.word(words[place]), "the label is the word that stood there");
                seen.places[place] += 1.0;
                let id = sentence.ids[place + 1];
                match id {
                    _ if id == tokens.word(words[place]) => seen.kinds[2] += 1.0,
                    // The mask token is drawn from the table too, once in so many.
                    3 => seen.kinds[0] += 1.0,
                    _ => {
                        seen.kinds[1] += 1.0;
                        // As if every place had the same word, so that the ids' frequencies are comparable.
                        seen.random[id as usize] += 1.0;
                    }
                }
            }
            if let [(a, _), (b, _)] = sentence.masked[..] {
                seen.pairs[(a as usize - 1) * WORDS + b as usize - 1] += 1.0;
            }
            let untouched =
                sentence.ids.iter().enumerate().filter(|(i, _)| !sentence.masked.iter().any(|m| m.0 as usize == *i));
            for (i, id) in untouched.skip(1) {
                assert!(i == WORDS + 1 || *id == tokens.word(words[i - 1]), "words that are not chosen stay");
            }
        }
        seen
    }

    #[test]
    fn frequencies_are_those_of_the_recipe() {
        // 0.25 of 8 tokens: 2 of 6 words, so that all 15 pairs are seen.
        let masks = SeveralMasks { share: 0.25, ..SeveralMasks::default() };
        let seen = look(&masks);
        let v = WORDS as f64;
        // A random word is the word itself once in V.
        let kinds = [0.8, 0.1 * (1.0 - 1.0 / v), 0.1 + 0.1 / v];
        // Quantiles of χ² at 0.999: 13.8, 20.5, 36.1 for 2, 5, 14 degrees of freedom.
        let found = chi_square(&seen.kinds, &kinds);
        assert!(found < 13.8, "hidden, random, left: χ² {found:.1}, {:?}", seen.kinds);
        let pairs: Vec<f64> = (0..WORDS * WORDS).filter(|i| i / WORDS < i % WORDS).map(|i| seen.pairs[i]).collect();
        let found = chi_square(&pairs, &[1.0 / 15.0; 15]);
        assert!(found < 36.1, "pairs of places: χ² {found:.1}");
        let found = chi_square(&seen.random[4..], &[1.0 / v; WORDS]);
        assert!(found < 20.5, "random words: χ² {found:.1}");
        assert_eq!(seen.random[..4].iter().sum::<f64>(), 0.0, "no special token is a word of the language");
    }

    #[test]
    fn a_random_word_may_come_from_the_whole_table() {
        let masks =
            SeveralMasks { hidden: 0.0, random: 1.0, random_from: RandomFrom::Table, ..SeveralMasks::default() };
        let seen = look(&masks);
        let size = 10.0;
        // One of 10 rows: the mask token, the word itself, or one of the 8 others.
        let found = chi_square(&seen.kinds, &[1.0 / size, 8.0 / size, 1.0 / size]);
        assert!(found < 13.8, "χ² {found:.1}, {:?}", seen.kinds);
        assert!(seen.random[..3].iter().all(|n| *n > 0.0), "special tokens are rows too: {:?}", seen.random);
    }

    #[test]
    fn every_place_is_chosen_as_often_and_one_at_least() {
        let masks = SeveralMasks { share: 0.01, ..SeveralMasks::default() };
        let seen = look(&masks);
        assert_eq!(seen.places.iter().sum::<f64>(), SENTENCES as f64, "one of each sentence");
        let found = chi_square(&seen.places, &[1.0 / WORDS as f64; WORDS]);
        assert!(found < 20.5, "places: χ² {found:.1}");
    }
}
