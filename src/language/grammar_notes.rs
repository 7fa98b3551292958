//! Notes on what is possible in a grammar and probably not meant.
//!
//! **Symbols that are never reached** from the start symbol, with the words that occur in no sentence because of it.
//!
//! **Words that look like mistyped symbols**, in files where a name is a word because no rule has it on the left. A
//! note comes where the name stands like a symbol (beside another one in a rule with two, all capitals, most words
//! without a capital; single letters but the words I, A and O), or where it is like a symbol: the same but for the case
//! of its letters, or one letter inserted, left out, changed or two exchanged behind a common first one. The latter
//! counts only where the name stands beside another in a rule, is all capitals of three letters or more, or is like a
//! symbol that is never reached. A symbol that itself yields the word (`TO to`, `NOT not`) is no reason.

use std::collections::{HashMap, HashSet};

use super::grammar::{Grammar, Item, RuleSet};
use super::grammar_check::reachable;
use super::source::list;

/// Notes of one kind.
const MOST: usize = 5;

/// Bytes of a name that nobody mistypes; what two such have in common takes long to find.
const LONGEST: usize = 100;

/// Notes with file and line; lines that nobody can look up (of a random grammar) are left out.
pub(super) fn of(grammar: &Grammar, set: &RuleSet) -> Vec<String> {
    let reached = reachable(grammar);
    let unreached: Vec<&str> =
        (0..grammar.named).filter(|a| !reached[*a]).map(|a| grammar.symbols[a].as_str()).collect();
    let mut notes = Vec::new();
    if set.words_by_name {
        notes = mistyped(grammar, set, &unreached);
    }
    notes.extend(never_reached(grammar, set, &unreached));
    notes
}

fn never_reached(grammar: &Grammar, set: &RuleSet, unreached: &[&str]) -> Option<String> {
    let out: HashSet<&str> = unreached.iter().copied().collect();
    let used = set.rules.iter().filter(|rule| rule.weight > 0.0 && !out.contains(rule.left.as_str()));
    let words = used.flat_map(|rule| &rule.right).filter(|item| matches!(item, Item::Word(_)));
    let occurs: HashSet<&str> = words.map(Item::name).collect();
    let lost: Vec<&str> = grammar.words.iter().map(String::as_str).filter(|word| !occurs.contains(word)).collect();
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for rule in &set.rules {
        lines.entry(&rule.left).or_insert(rule.line);
    }
    let line = |name: &str| lines[name];
    let names: Vec<String> = unreached
        .iter()
        .map(|name| if set.numbered { format!("`{name}` (line {})", line(name)) } else { format!("`{name}`") })
        .collect();
    let mut parts = Vec::new();
    let mut place = grammar.file.clone();
    match unreached {
        [] => {}
        [one] if set.numbered => {
            place += &format!(":{}", line(one));
            parts.push(format!("`{one}` is never reached from `{}`", set.start));
        }
        _ => parts.push(format!("never reached from `{}`: {}", set.start, list(&names))),
    }
    if !lost.is_empty() {
        let words: Vec<String> = lost.iter().map(|word| format!("`{word}`")).collect();
        parts.push(format!("in no sentence, though in the vocabulary: {}", list(&words)));
    }
    (!parts.is_empty()).then(|| format!("{place}: {}", parts.join("; ")))
}

/// A name that is read as a word, and where.
struct Word<'s> {
    line: usize,
    /// Whether it stands beside another name in a rule.
    in_pair: bool,
    /// Left-hand sides of its rules.
    from: HashSet<&'s str>,
}

fn mistyped(grammar: &Grammar, set: &RuleSet, unreached: &[&str]) -> Vec<String> {
    let mut words: HashMap<&str, Word<'_>> = HashMap::new();
    for rule in &set.rules {
        for item in &rule.right {
            if let Item::Word(name) = item {
                let word = words.entry(name).or_insert(Word { line: rule.line, in_pair: false, from: HashSet::new() });
                word.in_pair |= rule.right.len() > 1;
                word.from.insert(&rule.left);
            }
        }
    }
    let plain = words.keys().filter(|name| !name.contains(char::is_uppercase)).count();
    let symbols = Symbols::new(&grammar.symbols[..grammar.named], unreached);
    let mut found: Vec<(usize, String)> = Vec::new();
    for (name, word) in &words {
        let count = name.chars().count();
        let letters = name.chars().filter(|c| c.is_alphabetic()).count();
        let capitals = letters > 0 && !name.contains(char::is_lowercase) && name.contains(char::is_uppercase);
        // Among the others three of four have no capital.
        let stands_out = capitals && 4 * plain >= 3 * (words.len() - 1) && plain > 0;
        let anywhere = (word.in_pair && (stands_out || count > 2)) || (stands_out && letters > 2);
        let near = if count > 1 { symbols.near(name, anywhere, &word.from) } else { None };
        let place = format!("{}:{}: `{name}` is a word, no rule has it on the left", grammar.file, word.line);
        if let Some(symbol) = near {
            found.push((word.line, format!("{place}; is the symbol `{symbol}` meant?")));
        } else if stands_out && word.in_pair && !["I", "A", "O"].contains(name) {
            found.push((word.line, format!("{place}, though it stands like a symbol")));
        }
    }
    found.sort();
    let more = found.len().saturating_sub(MOST);
    let mut notes: Vec<String> = found.into_iter().take(MOST).map(|(_, note)| note).collect();
    if more > 0 {
        notes.push(format!("{}: {more} more words look like mistyped symbols", grammar.file));
    }
    notes
}

/// Left-hand sides by the first letter, without its case.
struct Symbols<'s> {
    by_first: HashMap<String, Vec<&'s str>>,
    unreached: &'s [&'s str],
}

impl<'s> Symbols<'s> {
    fn new(symbols: &'s [String], unreached: &'s [&'s str]) -> Symbols<'s> {
        let mut by_first: HashMap<String, Vec<&str>> = HashMap::new();
        for symbol in symbols {
            by_first.entry(first(symbol)).or_default().push(symbol);
        }
        Symbols { by_first, unreached }
    }

    /// The symbol that a word is like: by the case of its letters alone, or also by spelling, `anywhere` or among those
    /// that are never reached. These come before others, then the first by name.
    fn near(&self, name: &str, anywhere: bool, from: &HashSet<&str>) -> Option<&'s str> {
        let all = self.by_first.get(&first(name))?.iter().copied().filter(|symbol| !from.contains(symbol));
        let like = all.filter(|symbol| {
            let unreached = self.unreached.contains(symbol);
            if anywhere || unreached { similar(name, symbol) } else { same_but_case(name, symbol) }
        });
        like.min_by_key(|symbol| (!self.unreached.contains(symbol), *symbol))
    }
}

fn first(name: &str) -> String {
    name.chars().next().map_or(String::new(), |c| c.to_lowercase().to_string())
}

fn same_but_case(a: &str, b: &str) -> bool {
    a != b && a.len().abs_diff(b.len()) <= 4 && a.to_lowercase() == b.to_lowercase()
}

/// One letter inserted, left out, changed or two exchanged, behind the same first letter but for its case; or the same
/// but for case.
pub(super) fn similar(a: &str, b: &str) -> bool {
    if a == b || first(a) != first(b) || a.len().abs_diff(b.len()) > 4 || a.len() > LONGEST {
        return false;
    }
    same_but_case(a, b) || strsim::damerau_levenshtein(a, b) == 1
}
