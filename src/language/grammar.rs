//! Probabilistic context-free grammars: the rule file, and everything that makes a grammar unusable, with file and line.
//!
//! One rule a line, separated by blanks: left-hand side, one or two right-hand symbols, weight. A symbol that is nowhere a
//! left-hand side is a word; a word in a rule with two symbols acts as a symbol of its own that yields it. The same rule
//! may stand on several lines, its weights add up; weights are normalised per left-hand side. `S` is the start symbol.

use std::collections::HashMap;

use super::source::{LanguageError, RESERVED, read_text};

/// A checked grammar: probabilities sum to 1, every symbol ends, expected lengths are finite, no unary cycles.
#[derive(Clone, Debug)]
pub struct Grammar {
    pub(super) file: String,
    /// Names of the non-terminals; the start symbol is number `start`. Words in rules with two symbols come last.
    pub(super) symbols: Vec<String>,
    /// How many of them are named as left-hand sides in the file.
    pub(super) named: usize,
    pub(super) start: usize,
    pub(super) words: Vec<String>,
    /// (left-hand side, left child, right child, probability)
    pub(super) binary: Vec<(u32, u32, u32, f64)>,
    /// (left-hand side, child, probability); parents before children.
    pub(super) unary: Vec<(u32, u32, f64)>,
    /// (left-hand side, word, probability)
    pub(super) terminal: Vec<(u32, u32, f64)>,
}

const START: &str = "S";
struct Rule<'t> {
    line: usize,
    left: &'t str,
    right: Vec<&'t str>,
    weight: f64,
}

impl Grammar {
    /// Reads a rule file.
    pub fn read(path: &std::path::Path) -> Result<Grammar, LanguageError> {
        Grammar::parse(&read_text(path)?, &path.display().to_string())
    }

    /// Parses and checks the text of a rule file; `file` is named in errors.
    pub fn parse(text: &str, file: &str) -> Result<Grammar, LanguageError> {
        let error = |line: Option<usize>, message: String| LanguageError { file: file.into(), line, message };
        let mut rules: Vec<Rule<'_>> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let at = |message: String| error(Some(i + 1), message);
            match fields.as_slice() {
                [] => {}
                [left, right @ .., weight] if (1..=2).contains(&right.len()) => {
                    let value: f64 = weight.parse().map_err(|_| {
                        at(format!(
                            "`{weight}` is no number; a rule is `LEFT RIGHT [RIGHT] WEIGHT`, separated by blanks"
                        ))
                    })?;
                    if !value.is_finite() {
                        return Err(at(format!("the weight {weight} is not finite")));
                    }
                    if value < 0.0 {
                        return Err(at(format!("the weight {weight} is negative; weights are 0 or more")));
                    }
                    rules.push(Rule { line: i + 1, left, right: right.to_vec(), weight: value });
                }
                other => {
                    return Err(at(format!(
                        "{} fields; a rule is `LEFT RIGHT [RIGHT] WEIGHT`, separated by blanks (3 or 4 fields)",
                        other.len()
                    )));
                }
            }
        }
        if rules.is_empty() {
            return Err(error(None, "holds no rule; write one a line: `LEFT RIGHT [RIGHT] WEIGHT`".into()));
        }
        build(&rules, file)
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
                "yields a sentence of at most {max_length} words with probability {within:.1e} only, too seldom to draw again \
                 until one comes; raise `language.max_length`"
            )));
        }
        Ok(())
    }
}

fn build(rules: &[Rule<'_>], file: &str) -> Result<Grammar, LanguageError> {
    let error = |line: Option<usize>, message: String| LanguageError { file: file.into(), line, message };
    let mut symbols: Vec<String> = Vec::new();
    let mut number: HashMap<&str, u32> = HashMap::new();
    let mut first_line: Vec<usize> = Vec::new();
    for rule in rules {
        number.entry(rule.left).or_insert_with(|| {
            symbols.push(rule.left.to_string());
            first_line.push(rule.line);
            symbols.len() as u32 - 1
        });
    }
    let named = symbols.len();
    let Some(start) = number.get(START).map(|n| *n as usize) else {
        return Err(error(None, format!("has no rule for the start symbol `{START}`")));
    };
    let mut words: Vec<String> =
        rules.iter().flat_map(|r| &r.right).filter(|s| !number.contains_key(*s)).map(|s| s.to_string()).collect();
    words.sort();
    words.dedup();
    let word_of = |s: &str| words.binary_search_by(|w| w.as_str().cmp(s)).expect("all words are listed") as u32;
    if let Some(rule) = rules.iter().find(|r| r.right.iter().any(|s| RESERVED.contains(s))) {
        return Err(error(Some(rule.line), format!("{} are reserved for the model's own tokens", RESERVED.join(" "))));
    }
    let mut totals = vec![0.0; named];
    for rule in rules {
        totals[number[rule.left] as usize] += rule.weight;
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
    let mut sums: Vec<(Vec<&str>, f64, usize)> = Vec::new();
    let mut place: HashMap<(&str, &[&str]), usize> = HashMap::new();
    for rule in rules.iter().filter(|r| r.weight > 0.0) {
        let at = *place.entry((rule.left, &rule.right)).or_insert_with(|| {
            sums.push(([&[rule.left], rule.right.as_slice()].concat(), 0.0, rule.line));
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
    };
    let mut unary_lines = Vec::new();
    let mut own_symbol: HashMap<u32, u32> = HashMap::new();
    for (names, weight, line) in &sums {
        let a = number[names[0]];
        let p = weight / totals[a as usize];
        match names.len() {
            2 => match number.get(names[1]) {
                Some(b) => {
                    grammar.unary.push((a, *b, p));
                    unary_lines.push(*line);
                }
                None => grammar.terminal.push((a, word_of(names[1]), p)),
            },
            _ => {
                let mut child = |name: &str| match number.get(name) {
                    Some(b) => *b,
                    None => *own_symbol.entry(word_of(name)).or_insert_with(|| {
                        grammar.symbols.push(name.to_string());
                        grammar.symbols.len() as u32 - 1
                    }),
                };
                let (b, c) = (child(names[1]), child(names[2]));
                grammar.binary.push((a, b, c, p));
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

/// Sorts unary rules so that parents come before children, or names a cycle.
fn order_unary(grammar: &mut Grammar, lines: &[usize]) -> Result<(), LanguageError> {
    let n = grammar.symbols.len();
    let mut incoming = vec![0u32; n];
    for (_, b, _) in &grammar.unary {
        incoming[*b as usize] += 1;
    }
    let mut ready: Vec<usize> = (0..n).filter(|a| incoming[*a] == 0).collect();
    let mut rank = vec![usize::MAX; n];
    let mut next = 0;
    while let Some(a) = ready.pop() {
        rank[a] = next;
        next += 1;
        for (_, b, _) in grammar.unary.iter().filter(|(p, _, _)| *p as usize == a) {
            incoming[*b as usize] -= 1;
            if incoming[*b as usize] == 0 {
                ready.push(*b as usize);
            }
        }
    }
    let on_cycle = |rule: &(u32, u32, f64)| rank[rule.0 as usize] == usize::MAX && rank[rule.1 as usize] == usize::MAX;
    if let Some(i) = grammar.unary.iter().position(on_cycle) {
        let (a, b, _) = grammar.unary[i];
        return Err(LanguageError {
            file: grammar.file.clone(),
            line: Some(lines[i]),
            message: format!(
                "`{}` to `{}` belongs to a cycle of rules with one symbol; remove one of them",
                grammar.symbols[a as usize], grammar.symbols[b as usize]
            ),
        });
    }
    grammar.unary.sort_by_key(|(a, b, _)| (rank[*a as usize], rank[*b as usize]));
    Ok(())
}

/// Every symbol must be able to end in words.
fn check_productive(grammar: &Grammar, first_line: &[usize]) -> Result<(), LanguageError> {
    let mut ends = vec![false; grammar.symbols.len()];
    for (a, _, _) in &grammar.terminal {
        ends[*a as usize] = true;
    }
    loop {
        let before = ends.iter().filter(|e| **e).count();
        for (a, b, _) in &grammar.unary {
            ends[*a as usize] |= ends[*b as usize];
        }
        for (a, b, c, _) in &grammar.binary {
            ends[*a as usize] |= ends[*b as usize] && ends[*c as usize];
        }
        if ends.iter().filter(|e| **e).count() == before {
            break;
        }
    }
    match ends.iter().position(|e| !e) {
        None => Ok(()),
        Some(a) => Err(LanguageError {
            file: grammar.file.clone(),
            line: first_line.get(a).copied(),
            message: format!("`{}` can never end: none of its rules leads to words only", grammar.symbols[a]),
        }),
    }
}

/// Expected lengths x solve x = 1 + M x, M the mean number of children; they are finite exactly when that has a positive
/// solution (I − M is then a non-singular M-matrix).
fn check_finite(grammar: &Grammar, first_line: &[usize]) -> Result<(), LanguageError> {
    let n = grammar.symbols.len();
    let reachable = reachable(grammar);
    let mut children: Vec<Vec<(usize, f64)>> = vec![vec![]; n];
    for (a, b, c, p) in &grammar.binary {
        children[*a as usize].extend([(*b as usize, *p), (*c as usize, *p)]);
    }
    for (a, b, p) in &grammar.unary {
        children[*a as usize].push((*b as usize, *p));
    }
    let solution = if n <= 800 { solve(&children) } else { iterate(&children) };
    let bad = (0..n).find(|a| reachable[*a] && !solution.as_ref().is_some_and(|x| x[*a] > 0.0 && x[*a] < 1e9));
    match bad {
        None => Ok(()),
        Some(a) => Err(LanguageError {
            file: grammar.file.clone(),
            line: first_line.get(a).copied(),
            message: format!(
                "the expected length of what `{}` yields is not finite: its rules call for more symbols than they end; \
                 give rules that end in words more weight",
                grammar.symbols[a]
            ),
        }),
    }
}

/// x = 1 + M x from below, for grammars too large for elimination; `None` when it does not settle.
fn iterate(children: &[Vec<(usize, f64)>]) -> Option<Vec<f64>> {
    let mut x = vec![1.0; children.len()];
    for _ in 0..20_000 {
        let mut change: f64 = 0.0;
        for a in (0..x.len()).rev() {
            let new = 1.0 + children[a].iter().map(|(b, p)| p * x[*b]).sum::<f64>();
            change = change.max((new - x[a]) / new);
            x[a] = new;
        }
        if change < 1e-9 {
            return Some(x);
        }
    }
    None
}

fn reachable(grammar: &Grammar) -> Vec<bool> {
    let mut seen = vec![false; grammar.symbols.len()];
    let mut stack = vec![grammar.start];
    while let Some(a) = stack.pop() {
        if std::mem::replace(&mut seen[a], true) {
            continue;
        }
        stack.extend(grammar.unary.iter().filter(|r| r.0 as usize == a).map(|r| r.1 as usize));
        stack.extend(grammar.binary.iter().filter(|r| r.0 as usize == a).flat_map(|r| [r.1 as usize, r.2 as usize]));
    }
    seen
}

/// x = 1 + M x by Gaussian elimination with partial pivoting; `None` when the matrix is singular.
fn solve(children: &[Vec<(usize, f64)>]) -> Option<Vec<f64>> {
    let n = children.len();
    let mut m = vec![vec![0.0; n + 1]; n];
    for (a, row) in m.iter_mut().enumerate() {
        row[a] = 1.0;
        row[n] = 1.0;
        for (b, p) in &children[a] {
            row[*b] -= p;
        }
    }
    for i in 0..n {
        let pivot = (i..n).max_by(|a, b| m[*a][i].abs().total_cmp(&m[*b][i].abs()))?;
        if m[pivot][i].abs() < 1e-13 {
            return None;
        }
        m.swap(i, pivot);
        let (head, tail) = m.split_at_mut(i + 1);
        let top = &head[i];
        for row in tail {
            let factor = row[i] / top[i];
            if factor != 0.0 {
                for (x, t) in row[i..].iter_mut().zip(&top[i..]) {
                    *x -= factor * t;
                }
            }
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|j| m[i][j] * x[j]).sum();
        x[i] = (m[i][n] - sum) / m[i][i];
    }
    Some(x)
}
