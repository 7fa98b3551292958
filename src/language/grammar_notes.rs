//! What is possible in a grammar and probably not meant.
//!
//! **Symbols that are never reached** from the start symbol, with the words that occur in no sentence because of it.
//!
//! **Words that look like mistyped symbols**, in files where a name is a word because no rule has it on the left. A note
//! comes where the name stands like a symbol (beside another one in a rule with two, all capitals, most words without a
//! capital; single letters but the words I, A and O), or where it is like a symbol: the same but for the case of its
//! letters, or one letter inserted, left out, changed or two exchanged behind a common first one. The latter counts only
//! where the name stands beside another in a rule, is all capitals of three letters or more, or is like a symbol that is
//! never reached. A symbol that itself yields the word (`TO to`, `NOT not`) is no reason.

use std::collections::{HashMap, HashSet};

use super::grammar::{Grammar, Item, RuleSet};
use super::grammar_check::reachable;
use super::source::list;

/// Notes of one kind.
const MOST: usize = 5;

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
    if unreached.is_empty() {
        return None;
    }
    let out: HashSet<&str> = unreached.iter().copied().collect();
    let used = set.rules.iter().filter(|rule| rule.weight > 0.0 && !out.contains(rule.left.as_str()));
    let occurs: HashSet<&str> = used.flat_map(|rule| &rule.right).map(Item::name).collect();
    let lost: Vec<&str> = grammar.words.iter().map(String::as_str).filter(|word| !occurs.contains(word)).collect();
    let line = |name: &str| set.rules.iter().find(|rule| rule.left == name).map_or(0, |rule| rule.line);
    let names: Vec<String> = unreached
        .iter()
        .map(|name| if set.numbered { format!("`{name}` (line {})", line(name)) } else { format!("`{name}`") })
        .collect();
    let mut note = match unreached {
        [one] if set.numbered => {
            format!("{}:{}: `{one}` is never reached from `{}`", grammar.file, line(one), set.start)
        }
        _ => format!("{}: never reached from `{}`: {}", grammar.file, set.start, list(&names)),
    };
    if !lost.is_empty() {
        let words: Vec<String> = lost.iter().map(|word| format!("`{word}`")).collect();
        note += &format!("; in no sentence, though in the vocabulary: {}", list(&words));
    }
    Some(note)
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
    let symbols = &grammar.symbols[..grammar.named];
    let mut found: Vec<(usize, String)> = Vec::new();
    for (name, word) in &words {
        let letters = name.chars().filter(|c| c.is_alphabetic()).count();
        let capitals = letters > 0 && !name.contains(char::is_lowercase) && name.contains(char::is_uppercase);
        // Among the others three of four have no capital.
        let stands_out = capitals && 4 * plain >= 3 * (words.len() - 1) && plain > 0;
        let shouted = stands_out && word.in_pair && !["I", "A", "O"].contains(name);
        let near = symbols.iter().map(String::as_str).filter(|symbol| !word.from.contains(symbol)).filter(|symbol| {
            let long = name.chars().count() > 1;
            long && (same_but_case(name, symbol)
                || (similar(name, symbol)
                    && ((word.in_pair && (stands_out || name.chars().count() > 2))
                        || (stands_out && letters > 2)
                        || unreached.contains(symbol))))
        });
        let place = format!("{}:{}", grammar.file, word.line);
        // The closest by name; a symbol that is never reached before others.
        let near = near.min_by_key(|symbol| (!unreached.contains(symbol), *symbol));
        if let Some(symbol) = near {
            found.push((
                word.line,
                format!("{place}: `{name}` is a word, no rule has it on the left; is the symbol `{symbol}` meant?"),
            ));
        } else if shouted {
            let message =
                format!("{place}: `{name}` is a word, no rule has it on the left, though it stands like a symbol");
            found.push((word.line, message));
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

fn same_but_case(a: &str, b: &str) -> bool {
    a != b && a.to_lowercase() == b.to_lowercase()
}

/// One letter inserted, left out, changed or two exchanged, behind the same first letter but for its case; or the same but
/// for case.
pub(super) fn similar(a: &str, b: &str) -> bool {
    let first = |s: &str| s.chars().next().map(|c| c.to_lowercase().to_string());
    if a == b || first(a) != first(b) || a.len().abs_diff(b.len()) > 4 {
        return false;
    }
    same_but_case(a, b) || strsim::damerau_levenshtein(a, b) == 1
}
