//! nltk's text of a probabilistic context-free grammar, as `nltk.PCFG.fromstring` reads it:
//! `NP -> Det N [0.7] | 'dogs' [0.3]`.
//!
//! Words stand in quotes of either kind, all else are symbols (letters, digits, `_`, `/`, and behind the first
//! character `-`, `^`, `<`, `>`); a probability stands behind each right-hand side, and those of a symbol sum to 1
//! within 0.01, as nltk asks (they are normalised). `%start SYMBOL` names the start symbol, else it is the first
//! left-hand side; a line that ends in `\` goes on in the next. Beyond nltk, `#` outside of quotes begins a comment
//! behind a rule too, and probabilities may have an exponent, as nltk prints them. What nltk would take for 0 or for a
//! word that nobody can write is refused: right-hand sides without probability, empty ones, words with blanks, symbols
//! without rules.

use std::collections::{HashMap, HashSet};

use super::grammar::{Item, Rule, RuleSet};
use super::grammar_notes::similar;
use super::source::LanguageError;

/// nltk's `PCFG.EPSILON`.
const EPSILON: f64 = 0.01;

/// Whether a text is in this form: its first rule has `->`.
pub(super) fn is_nltk(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', '%']));
    first.is_some_and(|line| line.contains("->"))
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Arrow,
    Bar,
    Item(Item),
    Probability(f64),
}

/// Tokens with their lines.
type Tokens = Vec<(usize, Token)>;

/// Reads the rules of a text.
///
/// # Errors
/// With the line: what is no rule, probabilities that do not sum to 1, symbols without a rule.
pub(super) fn parse(text: &str, file: &str) -> Result<RuleSet, LanguageError> {
    let error = |(line, message): (usize, String)| LanguageError { file: file.into(), line: Some(line), message };
    let mut start: Option<(usize, String)> = None;
    let mut rules = Vec::new();
    let mut open = Tokens::new();
    let mut goes_on = None;
    for (i, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), i + 1);
        // A comment within a rule that goes on does not end it; an empty line does.
        if line.starts_with('#') || (line.is_empty() && goes_on.is_none()) {
            continue;
        }
        if line.starts_with('%') && goes_on.is_none() {
            start = Some((number, directive(line).map_err(|message| error((number, message)))?));
            continue;
        }
        let more = tokens(line, number, &mut open).map_err(|message| error((number, message)))?;
        goes_on = more.then_some(number);
        if !more {
            rule(&std::mem::take(&mut open), &mut rules).map_err(error)?;
        }
    }
    if let Some(line) = goes_on {
        return Err(error((line, "ends with `\\`, and nothing follows".into())));
    }
    let Some(first) = rules.first() else {
        return Err(LanguageError { file: file.into(), line: None, message: "holds no rule".into() });
    };
    let left: HashSet<&str> = rules.iter().map(|rule: &Rule| rule.left.as_str()).collect();
    let start = match start {
        Some((line, start)) if !left.contains(start.as_str()) => {
            return Err(error((line, format!("`{start}` has no rule{}", meant(&start, &left)))));
        }
        Some((_, start)) => start,
        None => first.left.clone(),
    };
    for rule in &rules {
        if let Some(Item::Symbol(name)) =
            rule.right.iter().find(|item| !matches!(item, Item::Word(_)) && !left.contains(item.name()))
        {
            let message = format!("`{name}` has no rule{}; a word stands in quotes, '{name}'", meant(name, &left));
            return Err(error((rule.line, message)));
        }
    }
    check_sums(&rules).map_err(error)?;
    Ok(RuleSet { start, rules, words_by_name: false, numbered: true })
}

/// The left-hand side that a name without rules is probably one of.
fn meant(name: &str, left: &HashSet<&str>) -> String {
    let near = left.iter().filter(|symbol| similar(name, symbol)).min();
    near.map_or(String::new(), |symbol| format!(" (is `{symbol}` meant?)"))
}

/// The symbol of `%start SYMBOL`.
fn directive(line: &str) -> Result<String, String> {
    let fields = super::source::fields(&line[1..]);
    match fields.as_slice() {
        ["start", symbol] if name_length(symbol) == symbol.len() => Ok(symbol.to_string()),
        _ => Err(format!("`{line}` is no directive; there is one, `%start SYMBOL`")),
    }
}

/// Bytes of the symbol that a text begins with; 0 where it begins with none.
fn name_length(text: &str) -> usize {
    let inner = |c: char| c.is_alphanumeric() || c == '_' || c == '/';
    match text.chars().next() {
        Some(c) if inner(c) => text.find(|c: char| !inner(c) && !"-^<>".contains(c)).unwrap_or(text.len()),
        _ => 0,
    }
}

/// Adds a line's tokens; true when the rule goes on in the next line.
fn tokens(line: &str, number: usize, out: &mut Tokens) -> Result<bool, String> {
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '#' => return Ok(false),
            '\\' if rest[1..].trim_start().is_empty() || rest[1..].trim_start().starts_with('#') => return Ok(true),
            '|' => (Token::Bar, 1),
            '-' if rest.starts_with("->") => (Token::Arrow, 2),
            '\'' | '"' => {
                let end = rest[1..].find(first).ok_or_else(|| format!("a quote {first} that is not closed"))?;
                (Token::Item(Item::Word(word(&rest[1..=end])?)), end + 2)
            }
            '[' => {
                let end = rest.find(']').ok_or("a bracket [ that is not closed")?;
                (Token::Probability(probability(&rest[1..end])?), end + 1)
            }
            _ => {
                let field = rest.split_whitespace().next().unwrap_or(rest);
                if field.contains('.') && field.parse::<f64>().is_ok() {
                    return Err(format!("`{field}`: a probability stands in brackets, as [0.7]"));
                }
                let length = name_length(rest);
                if length == 0 {
                    return Err(format!(
                        "`{field}` is no symbol (letters, digits, _, /, -, ^, <, >); words stand in quotes, as 'dogs'"
                    ));
                }
                (Token::Item(Item::Symbol(rest[..length].into())), length)
            }
        };
        out.push((number, token));
        rest = rest[length..].trim_start();
    }
    Ok(false)
}

fn word(quoted: &str) -> Result<String, String> {
    if quoted.is_empty() {
        return Err("an empty word; every symbol yields at least one word".into());
    }
    match quoted.contains(char::is_whitespace) {
        true => Err(format!(
            "'{quoted}' has a blank in it, and blanks set words apart; write '{}'",
            quoted.split_whitespace().collect::<Vec<_>>().join("_")
        )),
        false => Ok(quoted.into()),
    }
}

fn probability(inner: &str) -> Result<f64, String> {
    match inner.trim().parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        Ok(_) => Err(format!("[{inner}] does not lie in 0 to 1")),
        Err(_) => Err(format!("[{inner}] is no probability, as [0.7]")),
    }
}

/// Adds the rules of `LEFT -> RIGHT [p] | RIGHT [p] ...`, an error with its line.
fn rule(tokens: &[(usize, Token)], out: &mut Vec<Rule>) -> Result<(), (usize, String)> {
    let Some(((line, first), rest)) = tokens.split_first() else { return Ok(()) };
    let wrong = |line: usize, message: &str| Err((line, message.to_string()));
    let left = match first {
        Token::Item(Item::Symbol(left)) => left.clone(),
        Token::Item(Item::Word(_)) => return wrong(*line, "a left-hand side is a symbol, without quotes"),
        _ => return wrong(*line, "begins with no symbol; a rule is `LEFT -> RIGHT ... [p]`"),
    };
    let Some(((_, Token::Arrow), rest)) = rest.split_first() else {
        let message = match left.contains("->") {
            true => format!("`{left}` is one symbol to nltk; put blanks around `->`"),
            false => format!(
                "no `->` behind `{left}`; the first rule of this file has it, so that the whole file is nltk's text"
            ),
        };
        return Err((*line, message));
    };
    // A bar in the end stands for the end of the rule.
    let last = tokens[tokens.len() - 1].0;
    let end = (last, Token::Bar);
    let (mut right, mut weight, mut begun) = (Vec::new(), None, None);
    for (line, token) in rest.iter().chain([&end]) {
        match token {
            Token::Arrow => return wrong(*line, "a second `->`; one rule a line, which goes on after `\\` at its end"),
            Token::Item(_) if weight.is_some() => {
                return wrong(*line, "behind a probability comes `|` or the end of the rule");
            }
            Token::Item(item) => {
                begun.get_or_insert(*line);
                right.push(item.clone());
            }
            Token::Probability(_) if weight.is_some() => {
                return wrong(*line, "two probabilities of one right-hand side");
            }
            Token::Probability(p) => weight = Some(*p),
            Token::Bar => {}
        }
        if *token == Token::Bar || right.is_empty() {
            if right.is_empty() {
                return wrong(*line, "an empty right-hand side; every symbol yields at least one word");
            }
            let right = std::mem::take(&mut right);
            let line = begun.take().unwrap_or(*line);
            let weight = weight.take().ok_or_else(|| (line, without_probability(&right)))?;
            out.push(Rule { line, left: left.clone(), right, weight });
        }
    }
    Ok(())
}

fn without_probability(right: &[Item]) -> String {
    let names: Vec<&str> = right.iter().map(Item::name).collect();
    let hint = match right.last() {
        Some(Item::Symbol(last)) if last.parse::<f64>().is_ok() => format!("; write [{last}]"),
        _ => String::new(),
    };
    format!("`{}` has no probability in brackets behind it, as [0.7]{hint}", names.join(" "))
}

/// The probabilities of each left-hand side sum to 1 within nltk's margin.
fn check_sums(rules: &[Rule]) -> Result<(), (usize, String)> {
    let mut sums: HashMap<&str, f64> = HashMap::new();
    for rule in rules {
        *sums.entry(&rule.left).or_default() += rule.weight;
    }
    for rule in rules {
        let sum = sums[rule.left.as_str()];
        if !(1.0 - EPSILON < sum && sum < 1.0 + EPSILON) {
            let message = format!("the probabilities of `{}` sum to {sum:.6}, not to 1 within {EPSILON}", rule.left);
            return Err((rule.line, message));
        }
    }
    Ok(())
}
