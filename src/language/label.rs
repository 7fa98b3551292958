//! Downstream labels: which symbol of a grammar yields a part of the sentence, which hidden state stood at a word, what
//! the sum of a sentence of brackets is.
//!
//! As in the paper's released code, a label is the most likely symbol by inside probability alone. Task A asks for the
//! whole sentence and the symbols below the root, B and C for the first 4 and the first 2 words of sentences of more
//! than 4 words and for any symbol. With the prior, A weighs by the root's rule and the others by the outside
//! probability, so that the label is the most likely symbol given the whole sentence.

use super::labelled::Tally;
use super::pcfg::Pcfg;

/// The question that a label answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The symbol below the root.
    A,
    /// The symbol over the first 4 words of more than 4.
    B,
    /// The symbol over the first 2 words of more than 4.
    C,
    /// The symbol over the first `span` words of more than `span`.
    Span(usize),
    /// The hidden state at a word, counted from 1.
    State(usize),
    /// Whether more brackets open than close.
    Positive,
    /// Whether more, as many or fewer brackets open than close.
    Sign,
    /// Opening brackets less closing ones.
    Sum,
}

impl Task {
    /// Words of the shortest sentence that the task asks about.
    pub fn shortest(self) -> usize {
        match self {
            Task::A | Task::Positive | Task::Sign | Task::Sum => 1,
            Task::B | Task::C => 5,
            Task::Span(span) => span.saturating_add(1),
            Task::State(k) => k,
        }
    }

    /// Names what has no answer where a sentence is long enough and has no label all the same.
    pub(super) fn uncovered(self) -> String {
        let first = |n: usize| match n {
            1 => "no symbol yields the first word alone".to_string(),
            n => format!("no symbol yields the first {n} words alone"),
        };
        match self {
            Task::A => "no single symbol below the root yields the sentence".into(),
            Task::B => first(4),
            Task::C => first(2),
            Task::Span(span) => first(span),
            Task::State(_) => "no state can have stood at the word".into(),
            Task::Positive | Task::Sign | Task::Sum => "there is no bracket".into(),
        }
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Task::A => f.write_str("A"),
            Task::B => f.write_str("B"),
            Task::C => f.write_str("C"),
            Task::Span(span) => write!(f, "span:{span}"),
            Task::State(k) => write!(f, "task-{k}"),
            Task::Positive => f.write_str("positive"),
            Task::Sign => f.write_str("sign"),
            Task::Sum => f.write_str("sum"),
        }
    }
}

/// A text that names no task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no task: write `A`, `B`, `C` or `span:K` (the first K words) for a grammar, `task-K` (the hidden state \
     at word K) for a hidden Markov model, `positive`, `sign` or `sum` (of opening less closing) for brackets"
)]
pub struct UnknownTask(pub String);

/// Why a language has no labels for a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// A grammar was asked for hidden states or sums.
    #[error("a grammar has the tasks `A`, `B`, `C` and `span:K`, not hidden states or sums")]
    NoStates,
    /// A hidden Markov model was asked for the symbols of spans, or for sums.
    #[error("a hidden Markov model has the tasks `task-K` (the hidden state at word K), not spans or sums")]
    NoSpans,
    /// Brackets were asked for anything but their sum.
    #[error(
        "brackets have the tasks `positive` (whether their sum is above 0), `sign` and `sum` (opening less closing)"
    )]
    SumsAlone,
    /// A generated language was asked for labels.
    #[error("a generated language has no tasks of its own; give a file of rows")]
    NoLabels,
    /// A hidden Markov model was asked for a word that no sentence has.
    #[error(
        "asks for word {word}; sentences have at most {longest}, so that `task-1` to `task-{longest}` are possible"
    )]
    NoSuchWord {
        /// Counted from 1.
        word: usize,
        /// Words of the longest sentence.
        longest: usize,
    },
    /// No sentence is long enough.
    #[error(
        "asks about sentences of at least {shortest} words, and `language.max_length` is {longest}; ask about fewer \
         words"
    )]
    NoneLongEnough {
        /// Words of the shortest sentence that the task asks about.
        shortest: usize,
        /// Words of the longest sentence of the language.
        longest: usize,
    },
    /// Task A of a grammar in which no symbol stands below the root for a whole sentence.
    #[error(
        "no rule leads from the start symbol to one symbol alone, so that none stands below the root for a whole \
         sentence; `B`, `C` and `span:K` ask about its first words"
    )]
    NoneBelowRoot,
    /// Hardly a sentence that was drawn has a label.
    #[error("{}", tally.too_few(*task))]
    TooFew {
        /// What was asked.
        task: Task,
        /// What was found.
        tally: Tally,
    },
}

impl std::str::FromStr for Task {
    type Err = UnknownTask;

    fn from_str(text: &str) -> Result<Task, UnknownTask> {
        match text {
            "A" | "a" => Ok(Task::A),
            "B" | "b" => Ok(Task::B),
            "C" | "c" => Ok(Task::C),
            "positive" => Ok(Task::Positive),
            "sign" => Ok(Task::Sign),
            "sum" => Ok(Task::Sum),
            _ => {
                let number = |prefix| text.strip_prefix(prefix).and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                match (number("span:"), number("task-")) {
                    (Some(span), _) => Ok(Task::Span(span)),
                    (_, Some(k)) => Ok(Task::State(k)),
                    _ => Err(UnknownTask(text.into())),
                }
            }
        }
    }
}

/// A sentence's label.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The symbol's name.
    pub symbol: String,
    /// Its share of the score among all candidates.
    pub probability: f64,
}

impl Pcfg {
    /// The names that labels of a task are drawn from.
    pub(super) fn candidate_names(&self, task: Task) -> Result<Vec<String>, LabelError> {
        if let Task::State(_) | Task::Positive | Task::Sign | Task::Sum = task {
            return Err(LabelError::NoStates);
        }
        let grammar = self.grammar();
        Ok(self.candidates(task).into_iter().map(|a| grammar.symbols[a].clone()).collect())
    }

    fn candidates(&self, task: Task) -> Vec<usize> {
        let grammar = self.grammar();
        match task {
            Task::A => {
                let below = grammar.unary.iter().filter(|r| r.0 as usize == grammar.start);
                let mut symbols: Vec<usize> = below.map(|r| r.1 as usize).collect();
                symbols.sort_unstable();
                symbols
            }
            _ => (0..grammar.named).collect(),
        }
    }

    /// The label of a sentence; `None` when it is too short for the task or no candidate covers the span.
    pub(super) fn span_label(&self, words: &[u32], task: Task, with_prior: bool) -> Option<Label> {
        if words.len() < task.shortest() {
            return None;
        }
        let span = match task {
            Task::A => words.len(),
            Task::B => 4,
            Task::C => 2,
            Task::Span(span) => span,
            Task::State(_) | Task::Positive | Task::Sign | Task::Sum => return None,
        };
        let scores = self.scores(words, task, span, with_prior);
        let total: f64 = scores.iter().map(|s| s.1).sum();
        let best =
            scores.iter().copied().filter(|s| s.1 > 0.0).reduce(|best, s| if s.1 > best.1 { s } else { best })?;
        Some(Label { symbol: self.grammar().symbols[best.0].clone(), probability: best.1 / total })
    }

    /// The score of each candidate over the first `span` words.
    fn scores(&self, words: &[u32], task: Task, span: usize, with_prior: bool) -> Vec<(usize, f64)> {
        let grammar = self.grammar();
        let chart = if with_prior && task != Task::A { self.inside_outside(words) } else { self.inside(words) };
        let score = |a: usize| {
            let inside = chart.inside_at(0, span)[a];
            match (with_prior, task) {
                (false, _) => inside,
                (true, Task::A) => {
                    let rule = grammar.unary.iter().find(|r| r.0 as usize == grammar.start && r.1 as usize == a);
                    inside * rule.map_or(0.0, |r| r.2)
                }
                (true, _) => inside * chart.outside_at(0, span)[a],
            }
        };
        self.candidates(task).into_iter().map(|a| (a, score(a))).collect()
    }

    /// p(the symbol below the root | the sentence) over the candidates of task A, in their order; `None` when none
    /// yields it.
    pub(super) fn below_root(&self, words: &[u32]) -> Option<Vec<f64>> {
        if words.is_empty() {
            return None;
        }
        let scores = self.scores(words, Task::A, words.len(), true);
        let total: f64 = scores.iter().map(|s| s.1).sum();
        (total > 0.0).then(|| scores.into_iter().map(|s| s.1 / total).collect())
    }
}
