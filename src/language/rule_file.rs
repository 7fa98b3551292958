//! Lowland's own rule files: one rule per line, separated by blanks: left-hand side, one or two right-hand symbols,
//! weight.
//!
//! A symbol that is nowhere a left-hand side is a word; a word in a rule with two symbols acts as a symbol of its own
//! that yields it. The same rule may stand on several lines, its weights add up; weights are normalised per left-hand
//! side. `S` is the start symbol. A field that begins with `#` begins a comment, on a line of its own or behind a rule,
//! so that no name begins with it. What is written as in another form of grammars is refused, not taken as a word.

use std::collections::HashSet;

use super::grammar::{Item, Rule, RuleSet};
use super::source::{COMMENT_HINT, LanguageError, fields};

const START: &str = "S";

/// Reads the rules of a text.
///
/// # Errors
/// With the line: what is no rule, a weight that is none, signs of another form.
pub(super) fn parse(text: &str, file: &str) -> Result<RuleSet, LanguageError> {
    let error = |line: Option<usize>, message: String| LanguageError { file: file.into(), line, message };
    let mut read: Vec<(usize, &str, Vec<&str>, f64)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let at = |message: String| error(Some(i + 1), message);
        let fields = fields(line);
        if let Some(what) = fields.iter().find_map(|field| foreign(field)) {
            return Err(at(format!(
                "{what}; in this file a rule is `LEFT RIGHT [RIGHT] WEIGHT`, separated by blanks (nltk's text is read \
                 where the first rule of a file has `->`, and then in the whole file)"
            )));
        }
        match fields.as_slice() {
            [] => {}
            [left, right @ .., weight] if (1..=2).contains(&right.len()) => {
                let value: f64 = weight.parse().map_err(|_| {
                    at(format!(
                        "`{weight}` is no number; a rule is `LEFT RIGHT [RIGHT] WEIGHT`, separated by blanks{}",
                        if line.contains('#') { COMMENT_HINT } else { "" }
                    ))
                })?;
                if !value.is_finite() {
                    return Err(at(format!("the weight {weight} is not finite")));
                }
                if value < 0.0 {
                    return Err(at(format!("the weight {weight} is negative; weights are 0 or more")));
                }
                read.push((i + 1, left, right.to_vec(), value));
            }
            other => {
                return Err(at(format!(
                    "{} fields; a rule is `LEFT RIGHT [RIGHT] WEIGHT`, separated by blanks (3 or 4 fields){}",
                    other.len(),
                    if line.contains('#') { COMMENT_HINT } else { "" }
                )));
            }
        }
    }
    if read.is_empty() {
        return Err(error(None, "holds no rule; write one a line: `LEFT RIGHT [RIGHT] WEIGHT`".into()));
    }
    let left: HashSet<&str> = read.iter().map(|rule| rule.1).collect();
    let item = |name: &&str| match left.contains(name) {
        true => Item::Symbol(name.to_string()),
        false => Item::Word(name.to_string()),
    };
    let rule = |(line, left, right, weight): &(usize, &str, Vec<&str>, f64)| Rule {
        line: *line,
        left: left.to_string(),
        right: right.iter().map(item).collect(),
        weight: *weight,
    };
    Ok(RuleSet { start: START.into(), rules: read.iter().map(rule).collect(), words_by_name: true, numbered: true })
}

/// Why a field belongs to another form of grammars. Apostrophes at one end (`'s`, `dogs'`) and single signs are words.
fn foreign(field: &str) -> Option<String> {
    let inner = |open: char, close: char| field.strip_prefix(open).and_then(|f| f.strip_suffix(close));
    if ["->", "→", "=>", "::="].iter().any(|arrow| field.contains(arrow)) {
        return Some(format!("`{field}` is written with an arrow"));
    }
    if field.starts_with('|') || field.ends_with('|') {
        return Some(format!("`{field}` sets alternatives apart; each rule stands on a line of its own"));
    }
    if field.starts_with("%start") {
        return Some(format!("`{field}` is a directive of nltk's; the start symbol here is `{START}`"));
    }
    if inner('\'', '\'').is_some() || inner('"', '"').is_some() || (field.starts_with('"') && field.len() > 1) {
        return Some(format!("`{field}` has quotes; a word stands without them"));
    }
    if inner('[', ']').is_some_and(|p| p.parse::<f64>().is_ok()) {
        return Some(format!("`{field}` is a weight in brackets; it stands without them"));
    }
    None
}
