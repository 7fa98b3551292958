//! Probabilistic context-free grammars as rules with one or two symbols on the right, checked: what sampling and the
//! chart work with, whatever form the file had.
//!
//! A rule file is read in one of two forms: Lowland's own ([`super::rule_file`]) or, where the first rule has `->`,
//! nltk's ([`super::nltk`]). Longer right-hand sides are binarised: `A -> X Y Z` becomes `A -> X A*` with probability p
//! and `A* -> Y Z` with probability 1, which changes the probability of no sentence. Such symbols, and those that stand
//! for words in rules with several symbols, come behind the author's own and are no labels of tasks.

use std::collections::HashMap;

use super::grammar_check::{check_finite, check_productive, order_unary};
use super::grammar_notes;
use super::source::{LanguageError, RESERVED, read_text};
use super::{nltk, rule_file};

/// A checked grammar: probabilities sum to 1, every symbol ends, expected lengths are finite, no unary cycles.
#[derive(Clone, Debug)]
pub struct Grammar {
    pub(super) file: String,
    /// Names of the non-terminals; the start symbol is number `start`. Behind the file's own come those that stand for
    /// a word or for the end of a right-hand side.
    pub(super) symbols: Vec<String>,
    /// The number of those named as left-hand sides in the file.
    pub(super) named: usize,
    pub(super) start: usize,
    pub(super) words: Vec<String>,
    /// (left-hand side, left child, right child, probability)
    pub(super) binary: Vec<(u32, u32, u32, f64)>,
    /// (left-hand side, child, probability); parents before children.
    pub(super) unary: Vec<(u32, u32, f64)>,
    /// (left-hand side, word, probability)
    pub(super) terminal: Vec<(u32, u32, f64)>,
    notes: Vec<String>,
}

/// A symbol or word of a right-hand side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    Symbol(String),
    Word(String),
}

impl Item {
    pub fn name(&self) -> &str {
        let (Item::Symbol(name) | Item::Word(name)) = self;
        name
    }
}

/// A rule as a file has it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub line: usize,
    pub left: String,
    /// At least one.
    pub right: Vec<Item>,
    pub weight: f64,
}

/// The rules of a file, whatever its form: at least one.
#[derive(Clone, Debug)]
pub(super) struct RuleSet {
    pub start: String,
    pub rules: Vec<Rule>,
    /// Whether a name is a word because no rule has it on the left, so that a mistyped symbol is one.
    pub words_by_name: bool,
    /// Whether somebody can look the lines up.
    pub numbered: bool,
}

impl Grammar {
    /// Reads a rule file.
    pub fn read(path: &std::path::Path) -> Result<Grammar, LanguageError> {
        Grammar::parse(&read_text(path)?, &path.display().to_string())
    }

    /// Parses and checks the text of a rule file in either form; `file` is named in errors.
    pub fn parse(text: &str, file: &str) -> Result<Grammar, LanguageError> {
        let text = crate::text::without_mark(text);
        let set = if nltk::is_nltk(text) { nltk::parse(text, file)? } else { rule_file::parse(text, file)? };
        Grammar::of_rules(&set, file)
    }

    /// Checks and notes of rules that were read or made.
    pub(super) fn of_rules(set: &RuleSet, file: &str) -> Result<Grammar, LanguageError> {
        let mut grammar = build(set, file)?;
        grammar.notes = grammar_notes::of(&grammar, set);
        Ok(grammar)
    }

    /// Notes on what is possible and probably not meant, each with file and line: symbols that are never reached, words
    /// that look like mistyped symbols.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Names of the non-terminals that are left-hand sides in the file.
    pub fn symbols(&self) -> &[String] {
        &self.symbols[..self.named]
    }

    /// Words in byte order.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The probability of each length up to `max_length` words: entry n is p(n words).
    pub fn length_distribution(&self, max_length: usize) -> Vec<f64> {
        let n = self.symbols.len();
        let mut by_length = vec![vec![0.0; n]; max_length + 1];
        for length in 1..=max_length {
            let mut now = vec![0.0; n];
            if length == 1 {
                for (a, _, p) in &self.terminal {
                    now[*a as usize] += p;
                }
            }
            for (a, b, c, p) in &self.binary {
                let both: f64 =
                    (1..length).map(|l| by_length[l][*b as usize] * by_length[length - l][*c as usize]).sum();
                now[*a as usize] += p * both;
            }
            for (a, b, p) in self.unary.iter().rev() {
                now[*a as usize] += p * now[*b as usize];
            }
            by_length[length] = now;
        }
        by_length.iter().map(|row| row[self.start]).collect()
    }

    /// Checks that sentences of at most `max_length` words come often enough to be drawn.
    pub(super) fn check_length(&self, max_length: usize) -> Result<(), LanguageError> {
        let error = |message| LanguageError { file: self.file.clone(), line: None, message };
        let within: f64 = self.length_distribution(max_length).iter().sum();
        if within <= 0.0 {
            return Err(error(format!(
                "yields no sentence of at most {max_length} words; raise `language.max_length`"
            )));
        }
        if within < 1e-6 {
            return Err(error(format!(
                "yields a sentence of at most {max_length} words with probability {within:.1e} only, too seldom to \
                 draw again until one comes; raise `language.max_length`"
            )));
        }
        Ok(())
    }
}

/// Normalises, binarises and checks.
fn build(set: &RuleSet, file: &str) -> Result<Grammar, LanguageError> {
    let rules = &set.rules;
    let error = |line: Option<usize>, message: String| LanguageError { file: file.into(), line, message };
    let mut symbols: Vec<String> = Vec::new();
    let mut number: HashMap<&str, u32> = HashMap::new();
    let mut first_line: Vec<usize> = Vec::new();
    for rule in rules {
        number.entry(&rule.left).or_insert_with(|| {
            symbols.push(rule.left.clone());
            first_line.push(rule.line);
            symbols.len() as u32 - 1
        });
    }
    let named = symbols.len();
    let start = &set.start;
    let Some(start) = number.get(start.as_str()).map(|n| *n as usize) else {
        return Err(error(None, format!("has no rule for the start symbol `{start}`")));
    };
    let mut words: Vec<String> = Vec::new();
    for item in rules.iter().flat_map(|r| &r.right) {
        if let Item::Word(word) = item {
            words.push(word.clone());
        }
    }
    words.sort();
    words.dedup();
    let word_of = |s: &str| words.binary_search_by(|w| w.as_str().cmp(s)).expect("all words are listed") as u32;
    if let Some(rule) = rules.iter().find(|r| r.right.iter().any(|item| RESERVED.contains(&item.name()))) {
        return Err(error(Some(rule.line), format!("{} are reserved for the model's own tokens", RESERVED.join(" "))));
    }
    let mut totals = vec![0.0; named];
    for rule in rules {
        totals[number[rule.left.as_str()] as usize] += rule.weight;
    }
    if let Some(a) = totals.iter().position(|t| *t <= 0.0) {
        return Err(error(Some(first_line[a]), format!("the weights of `{}` sum to 0", symbols[a])));
    }
    if let Some(a) = totals.iter().position(|t| !t.is_finite()) {
        return Err(error(
            Some(first_line[a]),
            format!("the weights of `{}` sum to more than a number can hold", symbols[a]),
        ));
    }
    // The same rule on several lines is one rule.
    let mut sums: Vec<(&Rule, f64)> = Vec::new();
    let mut place: HashMap<(&str, &[Item]), usize> = HashMap::new();
    for rule in rules.iter().filter(|r| r.weight > 0.0) {
        let at = *place.entry((&rule.left, &rule.right)).or_insert_with(|| {
            sums.push((rule, 0.0));
            sums.len() - 1
        });
        sums[at].1 += rule.weight;
    }
    let mut grammar = Grammar {
        file: file.into(),
        symbols,
        named,
        start,
        words: words.clone(),
        binary: vec![],
        unary: vec![],
        terminal: vec![],
        notes: vec![],
    };
    let mut unary_lines = Vec::new();
    let mut own_symbol: HashMap<u32, u32> = HashMap::new();
    let mut ends: HashMap<Vec<u32>, u32> = HashMap::new();
    for (rule, weight) in &sums {
        let a = number[rule.left.as_str()];
        let p = weight / totals[a as usize];
        match rule.right.as_slice() {
            [Item::Word(word)] => grammar.terminal.push((a, word_of(word), p)),
            [Item::Symbol(symbol)] => {
                grammar.unary.push((a, number[symbol.as_str()], p));
                unary_lines.push(rule.line);
            }
            several => {
                let mut child = |item: &Item| match item {
                    Item::Symbol(symbol) => number[symbol.as_str()],
                    Item::Word(word) => *own_symbol.entry(word_of(word)).or_insert_with(|| {
                        grammar.symbols.push(word.clone());
                        first_line.push(rule.line);
                        grammar.symbols.len() as u32 - 1
                    }),
                };
                let children: Vec<u32> = several.iter().map(&mut child).collect();
                let mut rest = children[children.len() - 1];
                for i in (1..children.len() - 1).rev() {
                    rest = *ends.entry(children[i..].to_vec()).or_insert_with(|| {
                        let new = grammar.symbols.len() as u32;
                        grammar.symbols.push(format!("{}*", rule.left));
                        first_line.push(rule.line);
                        grammar.binary.push((new, children[i], rest, 1.0));
                        new
                    });
                }
                grammar.binary.push((a, children[0], rest, p));
            }
        }
    }
    for (word, symbol) in own_symbol {
        grammar.terminal.push((symbol, word, 1.0));
    }
    grammar.terminal.sort_by_key(|(a, w, _)| (*a, *w));
    order_unary(&mut grammar, &unary_lines)?;
    check_productive(&grammar, &first_line)?;
    check_finite(&grammar, &first_line)?;
    Ok(grammar)
}
