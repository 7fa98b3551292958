//! Inside and outside probabilities of a sentence in f64, with one power of two set apart per span, so that nothing
//! underflows.
//!
//! inside(i, j, A) = p(A yields words i..j), outside(i, j, A) = p(S yields the words around i..j with A in between).
//! Lari and Young 1990. The outside of one word's span does not depend on that word, so that one pass gives
//! p(w | the other words) ∝ Σ_A outside(t, t+1, A) p(A → w) at every position t.

use super::grammar::Grammar;

/// Rules sorted for the chart, made once per grammar.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub symbols: usize,
    pub words: usize,
    pub start: usize,
    /// Binary rules of each left-hand side: (left child, right child, probability).
    pub by_parent: Vec<Vec<(u32, u32, f64)>>,
    /// Binary rules of each left child: (parent, right child, probability).
    pub by_left: Vec<Vec<(u32, u32, f64)>>,
    pub unary: Vec<(u32, u32, f64)>,
    /// Terminal rules of each word: (symbol, probability), and of each symbol.
    pub by_word: Vec<Vec<(u32, f64)>>,
    pub by_symbol: Vec<Vec<(u32, f64)>>,
}

impl Rules {
    pub fn new(grammar: &Grammar) -> Rules {
        let (n, v) = (grammar.symbols.len(), grammar.words.len());
        let mut rules = Rules {
            symbols: n,
            words: v,
            start: grammar.start,
            by_parent: vec![vec![]; n],
            by_left: vec![vec![]; n],
            unary: grammar.unary.clone(),
            by_word: vec![vec![]; v],
            by_symbol: vec![vec![]; n],
        };
        for (a, b, c, p) in &grammar.binary {
            rules.by_parent[*a as usize].push((*b, *c, *p));
            rules.by_left[*b as usize].push((*a, *c, *p));
        }
        for (a, w, p) in &grammar.terminal {
            rules.by_word[*w as usize].push((*a, *p));
            rules.by_symbol[*a as usize].push((*w, *p));
        }
        rules
    }
}

/// A vector over symbols for each span, times two to the span's own power.
#[derive(Clone, Debug, Default)]
struct Spans {
    values: Vec<f64>,
    power: Vec<i32>,
}

/// Inside (and outside) probabilities of one sentence.
#[derive(Clone, Debug)]
pub struct Chart<'g> {
    rules: &'g Rules,
    length: usize,
    inside: Spans,
    outside: Spans,
}

/// Stands for an empty span's power: smaller than any that occurs.
const NOTHING: i32 = i32::MIN / 4;

impl<'g> Chart<'g> {
    /// Inside probabilities of a sentence.
    pub(super) fn inside_of(rules: &'g Rules, words: &[u32]) -> Chart<'g> {
        let n = words.len();
        let spans = n * (n + 1);
        let empty = || Spans { values: vec![0.0; spans * rules.symbols], power: vec![NOTHING; spans] };
        let mut chart = Chart { rules, length: n, inside: empty(), outside: Spans::default() };
        let mut sum = vec![0.0; rules.symbols];
        for (t, word) in words.iter().enumerate() {
            sum.fill(0.0);
            for (a, p) in &rules.by_word[*word as usize] {
                sum[*a as usize] += p;
            }
            chart.close_and_store(t, t + 1, 0, &mut sum);
        }
        for length in 2..=n {
            for i in 0..=n - length {
                let j = i + length;
                let power =
                    (i + 1..j).map(|k| chart.inside_power(i, k) + chart.inside_power(k, j)).max().unwrap_or(NOTHING);
                sum.fill(0.0);
                for k in i + 1..j {
                    let shift = chart.inside_power(i, k) + chart.inside_power(k, j) - power;
                    if shift < -1000 {
                        continue;
                    }
                    let factor = two_to(shift);
                    let (left, right) = (chart.inside_at(i, k), chart.inside_at(k, j));
                    for (b, value) in left.iter().enumerate() {
                        if *value > 0.0 {
                            let scaled = value * factor;
                            for (a, c, p) in &rules.by_left[b] {
                                sum[*a as usize] += p * scaled * right[*c as usize];
                            }
                        }
                    }
                }
                chart.close_and_store(i, j, power, &mut sum);
            }
        }
        chart
    }

    /// Adds unary rules (children first) and stores a span's inside vector, scaled to a largest value in [1/2, 1).
    fn close_and_store(&mut self, i: usize, j: usize, power: i32, sum: &mut [f64]) {
        for (a, b, p) in self.rules.unary.iter().rev() {
            sum[*a as usize] += p * sum[*b as usize];
        }
        let at = self.span(i, j);
        self.inside.power[at] =
            store(&mut self.inside.values[at * self.rules.symbols..][..self.rules.symbols], sum, power);
    }

    /// Fills in the outside probabilities.
    pub(super) fn outside(&mut self) {
        let (n, symbols, rules) = (self.length, self.rules.symbols, self.rules);
        let spans = n * (n + 1);
        self.outside = Spans { values: vec![0.0; spans * symbols], power: vec![NOTHING; spans] };
        let mut sum = vec![0.0; symbols];
        for length in (1..=n).rev() {
            for i in 0..=n - length {
                let j = i + length;
                sum.fill(0.0);
                let power;
                if length == n {
                    sum[rules.start] = 1.0;
                    power = 0;
                } else {
                    let right = (j + 1..=n).map(|e| self.outside_power(i, e) + self.inside_power(j, e));
                    let left = (0..i).map(|s| self.outside_power(s, j) + self.inside_power(s, i));
                    power = right.chain(left).max().unwrap_or(NOTHING).max(NOTHING);
                    for e in j + 1..=n {
                        let shift = self.outside_power(i, e) + self.inside_power(j, e) - power;
                        if shift >= -1000 {
                            let (parent, sibling) = (self.outside_at(i, e), self.inside_at(j, e));
                            self.add_from_parent(parent, sibling, two_to(shift), true, &mut sum);
                        }
                    }
                    for s in 0..i {
                        let shift = self.outside_power(s, j) + self.inside_power(s, i) - power;
                        if shift >= -1000 {
                            let (parent, sibling) = (self.outside_at(s, j), self.inside_at(s, i));
                            self.add_from_parent(parent, sibling, two_to(shift), false, &mut sum);
                        }
                    }
                }
                for (a, b, p) in &rules.unary {
                    sum[*b as usize] += p * sum[*a as usize];
                }
                let at = self.span(i, j);
                self.outside.power[at] = store(&mut self.outside.values[at * symbols..][..symbols], &sum, power);
            }
        }
    }

    /// Outside of the left (or right) child from its parent's outside and its sibling's inside.
    fn add_from_parent(&self, parent: &[f64], sibling: &[f64], factor: f64, left: bool, sum: &mut [f64]) {
        for (a, value) in parent.iter().enumerate() {
            if *value > 0.0 {
                let scaled = value * factor;
                for (b, c, p) in &self.rules.by_parent[a] {
                    let (own, other) = if left { (*b, *c) } else { (*c, *b) };
                    sum[own as usize] += p * scaled * sibling[other as usize];
                }
            }
        }
    }

    /// ln p(S yields the sentence); −∞ when it cannot.
    pub fn log_probability(&self) -> f64 {
        let p = self.inside_at(0, self.length)[self.rules.start];
        p.ln() + f64::from(self.inside_power(0, self.length)) * std::f64::consts::LN_2
    }

    /// p(. | the other words) at a position; zeros when no word is possible there. Needs [`outside`](Self::outside).
    pub(super) fn conditional(&self, t: usize) -> Vec<f64> {
        let mut p = vec![0.0; self.rules.words];
        for (a, value) in self.outside_at(t, t + 1).iter().enumerate() {
            if *value > 0.0 {
                for (w, rule) in &self.rules.by_symbol[a] {
                    p[*w as usize] += value * rule;
                }
            }
        }
        let total: f64 = p.iter().sum();
        if total > 0.0 {
            p.iter_mut().for_each(|p| *p /= total);
        }
        p
    }

    /// Inside probabilities of a span over symbols, up to a common factor.
    pub fn inside_at(&self, i: usize, j: usize) -> &[f64] {
        &self.inside.values[self.span(i, j) * self.rules.symbols..][..self.rules.symbols]
    }

    /// Outside probabilities of a span over symbols, up to a common factor.
    pub fn outside_at(&self, i: usize, j: usize) -> &[f64] {
        &self.outside.values[self.span(i, j) * self.rules.symbols..][..self.rules.symbols]
    }

    fn inside_power(&self, i: usize, j: usize) -> i32 {
        self.inside.power[self.span(i, j)]
    }

    fn outside_power(&self, i: usize, j: usize) -> i32 {
        self.outside.power[self.span(i, j)]
    }

    fn span(&self, i: usize, j: usize) -> usize {
        i * (self.length + 1) + j
    }
}

/// 2^shift for shift in -1000..=0.
fn two_to(shift: i32) -> f64 {
    f64::from_bits(((1023 + shift) as u64) << 52)
}

/// Copies `sum` scaled so that its largest value lies in [1, 2) and returns the power of two taken out.
fn store(to: &mut [f64], sum: &[f64], power: i32) -> i32 {
    let largest = sum.iter().copied().fold(0.0, f64::max);
    if largest <= 0.0 {
        return NOTHING;
    }
    // Values here are at least 2^-1060, products of numbers scaled to [1, 2) and of rules.
    let exponent = largest.log2().floor() as i32;
    let (half, rest) = (exponent / 2, exponent - exponent / 2);
    for (to, value) in to.iter_mut().zip(sum) {
        *to = value * 2f64.powi(-half) * 2f64.powi(-rest);
    }
    power.saturating_add(exponent)
}
