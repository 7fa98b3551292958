//! The next word of every prefix of a sentence of a grammar, exactly, with the bound on length.
//!
//! A prefix w₁..wₖ is continued by words that are not known, at most L - k of them: a *gap*. With
//! I(i, j, A) = p(A yields words i..j) and N(m, A) = p(A yields m words, whichever), the chart of prefix k holds
//!
//! ```text
//! C(i, m, A) = p(A yields words i..k and m more)
//!   = Σ_{A → B C} p [ Σ_{i<j≤k} I(i, j, B) C(j, m, C) + Σ_{0<l<m} C(i, l, B) N(m - l, C) ],
//! C(k, m, A) = N(m, A),
//! ```
//!
//! so that Σ_m C(0, m, S) is the probability of the prefix with something behind it (Jelinek and Lafferty 1991 have the
//! sum without a bound, which is a linear system). The derivative of that sum by the first unknown word's leaf, taken
//! back through the chart, is its outside probability, and gives p(wₖ₊₁ | w₁..wₖ) of all words at once. The columns of
//! known words are divided by their probabilities given what is before them, so that nothing underflows.

use super::Prefixes;
use super::chart::Rules;

/// p(A yields m words, whichever), m from 0 to L, `[L + 1, symbols]`.
#[derive(Clone, Debug)]
pub(super) struct Gaps {
    most: usize,
    values: Vec<f64>,
}

/// A triangle of vectors over symbols, two numbers a place.
struct Places {
    symbols: usize,
    width: usize,
    values: Vec<f64>,
}

impl Places {
    fn new(symbols: usize, places: usize) -> Places {
        Places { symbols, width: places, values: vec![0.0; places * places * symbols] }
    }

    fn at(&self, i: usize, j: usize) -> &[f64] {
        &self.values[(i * self.width + j) * self.symbols..][..self.symbols]
    }

    fn at_mut(&mut self, i: usize, j: usize) -> &mut [f64] {
        &mut self.values[(i * self.width + j) * self.symbols..][..self.symbols]
    }
}

impl Gaps {
    /// Of a grammar with sentences of up to `most` words.
    pub fn new(rules: &Rules, most: usize) -> Gaps {
        let n = rules.symbols;
        let mut gaps = Gaps { most, values: vec![0.0; (most + 1) * n] };
        for m in 1..=most {
            let mut sum = vec![0.0; n];
            if m == 1 {
                for (a, words) in rules.by_symbol.iter().enumerate() {
                    sum[a] += words.iter().map(|(_, p)| p).sum::<f64>();
                }
            }
            for l in 1..m {
                add_pairs(rules, gaps.of(l), gaps.of(m - l), &mut sum);
            }
            close(rules, &mut sum);
            gaps.values[m * n..][..n].copy_from_slice(&sum);
        }
        gaps
    }

    fn of(&self, m: usize) -> &[f64] {
        let n = self.values.len() / (self.most + 1);
        &self.values[m * n..][..n]
    }

    /// p(a sentence has at most `most` words).
    fn within(&self, start: usize) -> f64 {
        (1..=self.most).map(|m| self.of(m)[start]).sum()
    }
}

/// Adds Σ_{A → B C} p b[B] c[C] to every A.
fn add_pairs(rules: &Rules, b: &[f64], c: &[f64], sum: &mut [f64]) {
    for (left, value) in b.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        for (parent, right, p) in &rules.by_left[left] {
            sum[*parent as usize] += p * value * c[*right as usize];
        }
    }
}

/// Adds what rules with one symbol on the right give, children first.
fn close(rules: &Rules, sum: &mut [f64]) {
    for (a, b, p) in rules.unary.iter().rev() {
        sum[*a as usize] += p * sum[*b as usize];
    }
}

/// The way back: adjoints of children from those of their parents.
fn close_back(rules: &Rules, bar: &mut [f64]) {
    for (a, b, p) in &rules.unary {
        bar[*b as usize] += p * bar[*a as usize];
    }
}

/// The chart of the known words, extended word by word.
struct Known<'r> {
    rules: &'r Rules,
    inside: Places,
    words: usize,
}

impl Known<'_> {
    /// Takes in the next word, its column times `scale`.
    fn push(&mut self, word: u32, scale: f64) {
        let end = self.words + 1;
        for i in (0..end).rev() {
            let mut sum = vec![0.0; self.rules.symbols];
            if i + 1 == end {
                for (a, p) in &self.rules.by_word[word as usize] {
                    sum[*a as usize] += p * scale;
                }
            }
            for k in i + 1..end {
                add_pairs(self.rules, self.inside.at(i, k), self.inside.at(k, end), &mut sum);
            }
            close(self.rules, &mut sum);
            self.inside.at_mut(i, end).copy_from_slice(&sum);
        }
        self.words = end;
    }

    /// The outside probability of the first unknown word's leaf: of C(0, m, S) for m from 1 to `room`, added up.
    fn next(&self, gaps: &Gaps, room: usize) -> Vec<f64> {
        let (rules, k) = (self.rules, self.words);
        let n = rules.symbols;
        let places = k.max(room) + 1;
        let mut chart = Places::new(n, places);
        for m in 1..=room {
            chart.at_mut(k, m).copy_from_slice(gaps.of(m));
        }
        for i in (0..k).rev() {
            for m in 1..=room {
                let mut sum = vec![0.0; n];
                for j in i + 1..=k {
                    add_pairs(rules, self.inside.at(i, j), chart.at(j, m), &mut sum);
                }
                for l in 1..m {
                    add_pairs(rules, chart.at(i, l), gaps.of(m - l), &mut sum);
                }
                close(rules, &mut sum);
                chart.at_mut(i, m).copy_from_slice(&sum);
            }
        }
        let mut bars = Places::new(n, places);
        for m in 1..=room {
            bars.at_mut(0, m)[rules.start] += 1.0;
        }
        for i in 0..=k {
            for m in (1..=room).rev() {
                let mut bar = bars.at(i, m).to_vec();
                close_back(rules, &mut bar);
                bars.at_mut(i, m).copy_from_slice(&bar);
                for (parent, bar) in bar.iter().enumerate().filter(|(_, bar)| **bar > 0.0) {
                    for (left, right, p) in &rules.by_parent[parent] {
                        let (left, right, weight) = (*left as usize, *right as usize, p * bar);
                        for j in i + 1..=k {
                            bars.at_mut(j, m)[right] += weight * self.inside.at(i, j)[left];
                        }
                        for l in 1..m {
                            bars.at_mut(i, l)[left] += weight * gaps.of(m - l)[right];
                        }
                    }
                }
            }
        }
        bars.at(k, 1).to_vec()
    }
}

/// p(. | prefix) of every prefix of a sentence of at most `gaps.most` words; `None` where a word is impossible.
pub(super) fn prefixes(rules: &Rules, gaps: &Gaps, words: &[u32]) -> Option<Prefixes> {
    let places = words.len() + 1;
    let mut known = Known { rules, inside: Places::new(rules.symbols, places), words: 0 };
    let mut next = Vec::with_capacity(places);
    let mut log_probability = 0.0;
    for k in 0..places {
        let mut p = vec![0.0; rules.words + 1];
        for (a, outside) in known.next(gaps, gaps.most - k).iter().enumerate().filter(|(_, value)| **value > 0.0) {
            for (w, rule) in &rules.by_symbol[a] {
                p[*w as usize] += outside * rule;
            }
        }
        if k > 0 {
            p[rules.words] = known.inside.at(0, k)[rules.start];
        }
        // 1 up to rounding behind the first word, whose column is divided by its probability.
        let total: f64 = p.iter().sum();
        debug_assert!(k > 0 || (total / gaps.within(rules.start) - 1.0).abs() < 1e-9);
        p.iter_mut().for_each(|p| *p /= total);
        let word = words.get(k).map_or(rules.words, |w| *w as usize);
        // Also where the prefix itself is impossible, and nothing is a number.
        if p[word].is_nan() || p[word] <= 0.0 {
            return None;
        }
        log_probability += p[word].ln();
        if let Some(word) = words.get(k) {
            known.push(*word, 1.0 / (p[*word as usize] * total));
        }
        next.push(p);
    }
    Some(Prefixes { log_probability, next })
}
