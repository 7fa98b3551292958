//! A corpus as a language that models are asked about: sentences by number, of a seed that training never sees.

use std::ops::Range;

use rayon::prelude::*;

use super::data::Corpus;
use super::evaluate::KnownSentence;
use crate::config::Positions;
use crate::curvature::Numbered;
use crate::interrupt::{self, Interrupted};
use crate::language::NoTruth;
use crate::ops::batch::Sentence;

/// Sentences with what is known of them, or why nothing is.
pub type Exact = Result<Vec<Vec<KnownSentence>>, NoTruth>;

/// Held-out sentences of a language, under the ids that a model gives its words.
pub struct HeldOut {
    /// Where they come from.
    pub corpus: Corpus,
    /// Seed of the sentences.
    pub seed: u64,
}

impl HeldOut {
    /// The numbers of the first `count` sentences, or of all that there are.
    pub fn first(&self, count: u64) -> Range<u64> {
        0..self.corpus.language.held_out_sentences().map_or(count, |there| count.min(there))
    }

    /// Sentences by number, each with all its next words or once for every masked position that is asked about, with
    /// the exact conditionals as soft labels; or why none are known.
    ///
    /// # Errors
    /// An interrupt.
    pub fn exact(&self, numbers: Range<u64>, positions: Positions) -> Result<Exact, Interrupted> {
        let (corpus, seed) = (self.corpus.clone(), self.seed);
        interrupt::or_stop(move || {
            let truth = corpus.truth()?;
            let one = |i| corpus.known(truth, seed, i, positions);
            Ok(numbers.into_par_iter().map(one).collect())
        })
    }

    /// The same labelled with the words that stood there.
    ///
    /// # Errors
    /// An interrupt.
    pub fn labelled(&self, numbers: Range<u64>, positions: Positions) -> Result<Vec<Vec<Sentence>>, Interrupted> {
        let (corpus, seed) = (self.corpus.clone(), self.seed);
        let one = move |i| corpus.labelled(seed, i, positions);
        interrupt::or_stop(move || numbers.into_par_iter().map(one).collect())
    }
}

/// Labelled with the words that stood there.
impl Numbered for HeldOut {
    fn sentences(&self, numbers: Range<u64>) -> Result<Vec<Sentence>, Interrupted> {
        let (corpus, seed) = (self.corpus.clone(), self.seed);
        let one = move |i| corpus.held_out(seed, i);
        interrupt::or_stop(move || numbers.into_par_iter().map(one).collect())
    }

    fn exact_sentences(&self, numbers: Range<u64>) -> Result<Option<Vec<Sentence>>, Interrupted> {
        let known = self.exact(numbers, Positions::One)?.ok();
        Ok(known.map(|all| all.into_iter().flatten().map(|known| known.sentence).collect()))
    }

    fn longest(&self) -> u32 {
        self.corpus.language.longest() as u32
    }

    fn most_predicted(&self) -> u32 {
        self.corpus.most_predicted()
    }
}
