//! Languages: sentences as a function of (seed, number). Of some the truth is known (grammars, hidden Markov models,
//! brackets): exact conditionals, the entropy floor and downstream labels ([`Truth`]). No GPU is needed here.
//!
//! ```
//! use lowland::language::{Grammar, Language, Pcfg, Truth};
//! let grammar = Grammar::parse("S NP VP 1\nNP dogs 0.7\nNP cats 0.3\nVP sleep 1\n", "toy.txt").unwrap();
//! let language = Pcfg::new(grammar, 8).unwrap();
//! let sentence = language.sample(0, 0);
//! let known = language.conditional(&sentence).unwrap();
//! // Words are in byte order: cats, dogs, sleep.
//! assert!((known.conditional[0][1] - 0.7).abs() < 1e-12);
//! ```

mod brackets;
mod chart;
mod floor;
mod grammar;
mod grammar_check;
mod grammar_notes;
mod hmm;
mod hmm_file;
mod label;
mod labelled;
mod nltk;
mod pcfg;
mod prefix;
mod random_grammar;
mod rule_file;
mod source;
mod text;

pub use brackets::Brackets;
pub use chart::Chart;
pub use floor::{CausalFloor, EntropyFloor, Lengths, causal_floor, causal_floor_of, entropy_floor};
pub use grammar::Grammar;
pub use hmm::Hmm;
pub use hmm_file::RandomHmm;
pub use label::{Label, LabelError, Task, UnknownTask};
pub use labelled::{Labelled, Tally, check_task, part, part_seed, task_names};
pub use pcfg::Pcfg;
pub use random_grammar::{RandomGrammar, ShapeError, random_grammar};
pub use source::LanguageError;
pub use text::{Cutting, Text};

/// A sentence as numbers of words in the vocabulary.
pub type Words = Vec<u32>;

/// The exact probability and conditionals of a sentence.
#[derive(Clone, Debug)]
pub struct Known {
    /// Natural logarithm of its probability, without regard to a bound on length.
    pub log_probability: f64,
    /// p(. | the other words) at each position, over the vocabulary. A row of zeros where no word is possible.
    pub conditional: Vec<Vec<f64>>,
}

/// The exact probability of a sentence and what may follow each of its prefixes.
#[derive(Clone, Debug)]
pub struct Prefixes {
    /// Natural logarithm of its probability, among sentences that are not too long.
    pub log_probability: f64,
    /// p(. | the first k words), k from 0 to the sentence's length, over the vocabulary and, last, the sentence's end.
    pub next: Vec<Vec<f64>>,
}

/// A source of sentences, made of numbered words.
pub trait Language: Send + Sync {
    /// Words in the order of their numbers: byte order, or of a language with an [`encode`](Self::encode) of its own
    /// any.
    fn vocabulary(&self) -> &[String];
    /// Notes on what is possible in the language and probably not meant, with file and line.
    fn notes(&self) -> &[String] {
        &[]
    }
    /// Words of the longest sentence.
    fn max_length(&self) -> usize;
    /// Tokens that a model is fed of the longest sentence: one more before its words, and one behind them.
    fn longest(&self) -> usize {
        self.max_length() + 2
    }
    /// Sentence number `index` of the data set of a seed.
    fn sample(&self, seed: u64, index: u64) -> Words;
    /// Sentence number `index` of a seed among those that models are evaluated and measured on. Where sentences are
    /// drawn ever anew, it is another seed that keeps them apart from those of training.
    fn held_out(&self, seed: u64, index: u64) -> Words {
        self.sample(seed, index)
    }
    /// What stands above sentences of a seed in a file: what they were drawn from.
    fn heading(&self, _seed: u64) -> Option<String> {
        None
    }
    /// How many of those there are, where that is a finite number; later ones are the same again.
    fn held_out_sentences(&self) -> Option<u64> {
        None
    }
    /// What is known of the probabilities of its sentences.
    ///
    /// # Errors
    /// Why nothing is.
    fn truth(&self) -> Result<&dyn Truth, NoTruth>;

    /// Numbers of words.
    ///
    /// # Errors
    /// The first word that is not in the vocabulary.
    fn encode<'w>(&self, words: &[&'w str]) -> Result<Words, &'w str> {
        let find =
            |w: &&'w str| self.vocabulary().binary_search_by(|v| v.as_str().cmp(w)).map(|i| i as u32).map_err(|_| *w);
        words.iter().map(find).collect()
    }

    /// Words of numbers.
    fn decode(&self, words: &[u32]) -> Vec<&str> {
        words.iter().map(|w| self.vocabulary()[*w as usize].as_str()).collect()
    }

    /// A sentence as people read it.
    fn shown(&self, words: &[u32]) -> String {
        self.decode(words).join(" ")
    }
}

/// Why the probabilities of a language's sentences are not known, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoTruth(pub &'static str);

/// A language that knows its own conditionals.
pub trait Truth: Language {
    /// Probability and conditionals of a sentence; `None` when its probability is 0.
    fn conditional(&self, words: &[u32]) -> Option<Known>;
    /// Probability and conditionals without the check that the sentence is possible.
    fn conditional_unchecked(&self, words: &[u32]) -> Known;
    /// The conditional of one position, [`conditional_unchecked`](Self::conditional_unchecked) of it.
    fn conditional_at(&self, words: &[u32], position: usize) -> Vec<f64> {
        self.conditional_unchecked(words).conditional.swap_remove(position)
    }
    /// Whether conditionals cost so much that an estimate asks about one position of a sentence, not about each.
    fn asks_much(&self) -> bool {
        false
    }
    /// What may follow each prefix of a sentence, with the bound on length; `None` when its probability is 0.
    fn prefixes(&self, words: &[u32]) -> Option<Prefixes>;
    /// The names that labels of a task are drawn from.
    ///
    /// # Errors
    /// When the language has no such task; says which it has.
    fn label_names(&self, task: Task) -> Result<Vec<String>, LabelError>;
    /// The label of a sentence; `None` when the task does not ask about it (too short, or nothing covers the span).
    fn label(&self, words: &[u32], task: Task, with_prior: bool) -> Option<Label>;
    /// p(each of the task's [`names`](Self::label_names) | the sentence), in their order; `None` where the language
    /// knows none, and where the task does not ask about the sentence. It is there where
    /// [`label_is_posterior_mode`](Self::label_is_posterior_mode) says so.
    fn label_posterior(&self, _words: &[u32], _task: Task, _with_prior: bool) -> Option<Vec<f64>> {
        None
    }
    /// Whether a label is the mode of a posterior over the task's names given the sentence, so that the mean of
    /// [`Label::probability`] is the accuracy that no guess of the truth behind the sentence can exceed.
    fn label_is_posterior_mode(&self, task: Task, with_prior: bool) -> bool;
    /// The entropy floor without an error, where a sum over few cases gives it.
    fn exact_entropy_floor(&self) -> Option<f64> {
        None
    }
}

/// The masked position of sentence `index`: uniform over its words, the same wherever the sentence is used.
pub fn masked_position(seed: u64, index: u64, length: usize) -> usize {
    let mut stream = crate::random::Stream::new(seed, crate::random::Purpose::Mask, index);
    stream.below(length as u32) as usize
}

/// Shannon entropy in nats.
pub fn entropy(p: &[f64]) -> f64 {
    // 0 and not -0 of what is certain.
    0.0 - p.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}
