//! A probabilistic context-free grammar as a language.

use super::chart::{Chart, Rules};
use super::grammar::Grammar;
use super::label::{Label, LabelError, Task};
use super::prefix::{self, Gaps};
use super::source::LanguageError;
use super::{Known, Language, NoTruth, Prefixes, Truth, Words};
use crate::random::{Purpose, Stream};

/// One choice of a symbol.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Word(u32),
    One(u32),
    Two(u32, u32),
}

/// The choices of a symbol with their cumulative probabilities as 64-bit thresholds: integers, so that every machine
/// draws the same.
#[derive(Clone, Debug, Default)]
struct Choices {
    upto: Vec<u64>,
    what: Vec<Choice>,
}

/// A grammar with a bound on the length of sentences; longer ones are drawn again.
#[derive(Clone, Debug)]
pub struct Pcfg {
    grammar: Grammar,
    max_length: usize,
    rules: Rules,
    gaps: Gaps,
    choices: Vec<Choices>,
}

impl Pcfg {
    /// # Errors
    /// When the grammar yields no sentence within `max_length`, or hardly ever one.
    pub fn new(grammar: Grammar, max_length: usize) -> Result<Pcfg, LanguageError> {
        grammar.check_length(max_length)?;
        let mut weighted: Vec<Vec<(Choice, f64)>> = vec![vec![]; grammar.symbols.len()];
        for (a, w, p) in &grammar.terminal {
            weighted[*a as usize].push((Choice::Word(*w), *p));
        }
        for (a, b, p) in &grammar.unary {
            weighted[*a as usize].push((Choice::One(*b), *p));
        }
        for (a, b, c, p) in &grammar.binary {
            weighted[*a as usize].push((Choice::Two(*b, *c), *p));
        }
        let choices = weighted.into_iter().map(thresholds).collect();
        let rules = Rules::new(&grammar);
        Ok(Pcfg { gaps: Gaps::new(&rules, max_length), rules, grammar, max_length, choices })
    }

    /// The grammar.
    pub fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// The chart of a sentence with inside probabilities.
    pub fn inside(&self, words: &[u32]) -> Chart<'_> {
        Chart::inside_of(&self.rules, words)
    }

    /// The chart of a sentence with inside and outside probabilities.
    pub fn inside_outside(&self, words: &[u32]) -> Chart<'_> {
        let mut chart = self.inside(words);
        chart.outside();
        chart
    }

    /// One attempt from the start symbol; false when the sentence grows longer than allowed.
    fn derive(&self, stream: &mut Stream, stack: &mut Vec<u32>, words: &mut Words) -> bool {
        stack.clear();
        words.clear();
        stack.push(self.grammar.start as u32);
        while let Some(symbol) = stack.pop() {
            let choices = &self.choices[symbol as usize];
            let draw = u64::from(stream.bits()) << 32 | u64::from(stream.bits());
            let at = choices.upto.partition_point(|upto| *upto <= draw).min(choices.what.len() - 1);
            match choices.what[at] {
                Choice::Word(w) => words.push(w),
                Choice::One(b) => stack.push(b),
                Choice::Two(b, c) => stack.extend([c, b]),
            }
            // Every symbol on the stack yields at least one word.
            if words.len() + stack.len() > self.max_length {
                return false;
            }
        }
        true
    }
}

fn thresholds(weighted: Vec<(Choice, f64)>) -> Choices {
    let mut sum = 0.0;
    let mut made = Choices::default();
    for (what, p) in weighted {
        sum += p;
        made.upto.push((sum * 18_446_744_073_709_551_616.0) as u64);
        made.what.push(what);
    }
    made
}

impl Language for Pcfg {
    fn vocabulary(&self) -> &[String] {
        &self.grammar.words
    }

    fn notes(&self) -> &[String] {
        self.grammar.notes()
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn sample(&self, seed: u64, index: u64) -> Words {
        let mut stream = Stream::new(seed, Purpose::Sentence, index);
        let (mut stack, mut words) = (Vec::new(), Words::new());
        while !self.derive(&mut stream, &mut stack, &mut words) {}
        words
    }

    fn truth(&self) -> Result<&dyn Truth, NoTruth> {
        Ok(self)
    }
}

impl Truth for Pcfg {
    fn conditional(&self, words: &[u32]) -> Option<Known> {
        let known = self.conditional_unchecked(words);
        known.log_probability.is_finite().then_some(known)
    }

    fn conditional_unchecked(&self, words: &[u32]) -> Known {
        let chart = self.inside_outside(words);
        Known {
            log_probability: chart.log_probability(),
            conditional: (0..words.len()).map(|t| chart.conditional(t)).collect(),
        }
    }

    fn prefixes(&self, words: &[u32]) -> Option<Prefixes> {
        if words.len() > self.max_length {
            return None;
        }
        prefix::prefixes(&self.rules, &self.gaps, words)
    }

    fn label_names(&self, task: Task) -> Result<Vec<String>, LabelError> {
        self.candidate_names(task)
    }

    fn label(&self, words: &[u32], task: Task, with_prior: bool) -> Option<Label> {
        self.span_label(words, task, with_prior)
    }

    fn label_posterior(&self, words: &[u32], task: Task, with_prior: bool) -> Option<Vec<f64>> {
        self.label_is_posterior_mode(task, with_prior).then(|| self.below_root(words))?
    }

    /// Only the root's rule is a partition of all derivations: a span need not be a constituent, and may be one of
    /// several.
    fn label_is_posterior_mode(&self, task: Task, with_prior: bool) -> bool {
        task == Task::A && with_prior
    }
}
