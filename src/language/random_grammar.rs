//! Random layered grammars, made like the published one: a root, `levels` layers of rules with two symbols, and a layer
//! that yields words.
//!
//! `S` goes to one of `symbols` symbols of layer 0. A symbol of layer l has `rules` rules to two symbols of layer l +
//! 1; from layer 1 on it ends in one of `rules` words instead with probability `word_probability`. The symbols of layer
//! `levels` yield words only: every word is dealt to one of them, and as many words again to symbols drawn at random.
//! All weights are exponential draws, normalised. Without early words every sentence has 2^levels words.

use super::grammar::{Grammar, RuleSet};
use super::rule_file;
use super::source::LanguageError;
use crate::random::{Purpose, Stream};

/// The shape of a random grammar.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomGrammar {
    /// Layers of rules with two symbols; without early words a sentence has 2^levels words.
    pub levels: u32,
    /// Non-terminals in each layer.
    pub symbols: u32,
    /// Rules of each non-terminal to two symbols of the next layer.
    pub rules: u32,
    /// Number of words.
    pub vocabulary: u32,
    /// Probability that a symbol of layers 1 to levels - 1 ends in a word at once.
    #[serde(default)]
    pub word_probability: f64,
    /// Seed of the grammar itself.
    #[serde(default)]
    pub seed: u64,
}

/// Why there is no random grammar of a shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// No level, or so many that sentences would be too long.
    #[error("levels = {0}: 1 to 12 are possible (a sentence has up to 2^levels words)")]
    Levels(u32),
    /// No symbol or no rule.
    #[error("symbols and rules must be at least 1")]
    Empty,
    /// Too few words for the symbols of the last level, or too many.
    #[error("vocabulary = {vocabulary}: at least one word for each of the {symbols} symbols, at most 100000")]
    Vocabulary {
        /// Words that were asked for.
        vocabulary: u32,
        /// Symbols of a level.
        symbols: u32,
    },
    /// No probability of a word before the last level.
    #[error("word_probability = {0} must lie in [0, 1)")]
    WordProbability(f64),
}

/// The rule file of a random grammar, as text.
///
/// # Errors
/// A shape that no grammar has.
pub fn random_grammar(shape: &RandomGrammar) -> Result<String, ShapeError> {
    let RandomGrammar { levels, symbols, rules, vocabulary, word_probability, seed } = *shape;
    if !(1..=12).contains(&levels) {
        return Err(ShapeError::Levels(levels));
    }
    if symbols == 0 || rules == 0 {
        return Err(ShapeError::Empty);
    }
    if vocabulary < symbols || vocabulary > 100_000 {
        return Err(ShapeError::Vocabulary { vocabulary, symbols });
    }
    if !(0.0..1.0).contains(&word_probability) {
        return Err(ShapeError::WordProbability(word_probability));
    }
    let mut random = Stream::new(seed, Purpose::Grammar, 0);
    let digits = (vocabulary - 1).to_string().len();
    let word = |w: u32| format!("w{w:0digits$}");
    let name = |level: u32, i: u32| if level == 0 { format!("S{}", i + 1) } else { format!("A{level}_{i}") };
    let mut text = String::new();
    let mut rule = |left: &str, right: &str, weight: f64| text.push_str(&format!("{left} {right} {weight:.12}\n"));
    let weights = |random: &mut Stream, n: u32, total: f64| {
        let draws: Vec<f64> = (0..n).map(|_| random.exponential()).collect();
        let sum: f64 = draws.iter().sum();
        draws.into_iter().map(move |d| total * d / sum).collect::<Vec<f64>>()
    };
    for (i, p) in weights(&mut random, symbols, 1.0).into_iter().enumerate() {
        rule("S", &name(0, i as u32), p);
    }
    for level in 0..levels {
        let early = if level == 0 { 0.0 } else { word_probability };
        for i in 0..symbols {
            for p in weights(&mut random, rules, 1.0 - early) {
                let pair =
                    format!("{} {}", name(level + 1, random.below(symbols)), name(level + 1, random.below(symbols)));
                rule(&name(level, i), &pair, p);
            }
            if early > 0.0 {
                for p in weights(&mut random, rules, early) {
                    rule(&name(level, i), &word(random.below(vocabulary)), p);
                }
            }
        }
    }
    let mut deck: Vec<u32> = (0..vocabulary).collect();
    for i in (1..deck.len()).rev() {
        deck.swap(i, random.below(i as u32 + 1) as usize);
    }
    let mut hands: Vec<Vec<u32>> = vec![vec![]; symbols as usize];
    for (i, w) in deck.into_iter().enumerate() {
        hands[i % symbols as usize].push(w);
    }
    for _ in 0..vocabulary {
        hands[random.below(symbols) as usize].push(random.below(vocabulary));
    }
    for (i, hand) in hands.iter().enumerate() {
        for (w, p) in hand.iter().zip(weights(&mut random, hand.len() as u32, 1.0)) {
            rule(&name(levels, i as u32), &word(*w), p);
        }
    }
    Ok(text)
}

impl Grammar {
    /// A random grammar.
    pub fn random(shape: &RandomGrammar) -> Result<Grammar, LanguageError> {
        let file = "language.random".to_string();
        let text = random_grammar(shape).map_err(|e| LanguageError {
            file: file.clone(),
            line: None,
            message: e.to_string(),
        })?;
        let made = rule_file::parse(&text, &file)?;
        Grammar::of_rules(&RuleSet { words_by_name: false, numbered: false, ..made }, &file)
    }
}
