//! Finds what makes a grammar unusable although each of its rules is fine: cycles of rules with one symbol, symbols
//! that never end in words, expected lengths that are not finite.

use super::grammar::Grammar;
use super::source::LanguageError;

/// Sorts unary rules so that parents come before children, or names a cycle.
pub(super) fn order_unary(grammar: &mut Grammar, lines: &[usize]) -> Result<(), LanguageError> {
    let n = grammar.symbols.len();
    let mut incoming = vec![0u32; n];
    for (_, b, _) in &grammar.unary {
        incoming[*b as usize] += 1;
    }
    let mut children: Vec<Vec<usize>> = vec![vec![]; n];
    for (a, b, _) in &grammar.unary {
        children[*a as usize].push(*b as usize);
    }
    let mut ready: Vec<usize> = (0..n).filter(|a| incoming[*a] == 0).collect();
    let mut rank = vec![usize::MAX; n];
    let mut next = 0;
    while let Some(a) = ready.pop() {
        rank[a] = next;
        next += 1;
        for b in &children[a] {
            incoming[*b] -= 1;
            if incoming[*b] == 0 {
                ready.push(*b);
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
pub(super) fn check_productive(grammar: &Grammar, first_line: &[usize]) -> Result<(), LanguageError> {
    let n = grammar.symbols.len();
    // Of each symbol the rules that it stands in, of each rule the places that are not known to end.
    let rules: Vec<(usize, [u32; 2])> = (grammar.unary.iter().map(|(a, b, _)| (*a as usize, [*b, *b])))
        .chain(grammar.binary.iter().map(|(a, b, c, _)| (*a as usize, [*b, *c])))
        .collect();
    let mut within: Vec<Vec<usize>> = vec![vec![]; n];
    for (i, (_, right)) in rules.iter().enumerate() {
        right.iter().for_each(|b| within[*b as usize].push(i));
    }
    let mut left = vec![2; rules.len()];
    let mut ends = vec![false; n];
    let mut ready: Vec<usize> = grammar.terminal.iter().map(|(a, _, _)| *a as usize).collect();
    while let Some(a) = ready.pop() {
        if std::mem::replace(&mut ends[a], true) {
            continue;
        }
        for rule in &within[a] {
            left[*rule] -= 1;
            if left[*rule] == 0 {
                ready.push(rules[*rule].0);
            }
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

/// Expected lengths x solve x = 1 + M x, M the mean number of children; they are finite exactly when that has a
/// positive solution (I − M is then a non-singular M-matrix).
pub(super) fn check_finite(grammar: &Grammar, first_line: &[usize]) -> Result<(), LanguageError> {
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

/// x = 1 + M x from below, for grammars too large for elimination; `None` when it does not converge.
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

/// Marks the symbols that occur in derivations from the start symbol.
pub(super) fn reachable(grammar: &Grammar) -> Vec<bool> {
    let mut children: Vec<Vec<u32>> = vec![vec![]; grammar.symbols.len()];
    for (a, b, _) in &grammar.unary {
        children[*a as usize].push(*b);
    }
    for (a, b, c, _) in &grammar.binary {
        children[*a as usize].extend([*b, *c]);
    }
    let mut seen = vec![false; grammar.symbols.len()];
    let mut stack = vec![grammar.start];
    while let Some(a) = stack.pop() {
        if !std::mem::replace(&mut seen[a], true) {
            stack.extend(children[a].iter().map(|b| *b as usize));
        }
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
