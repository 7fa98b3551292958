//! The matrices of a hidden Markov model: from a file, or random.
//!
//! A file has one number per line, its fields separated by blanks: `initial STATE WEIGHT`, `transition FROM TO WEIGHT`
//! or `emission STATE WORD WEIGHT`. What is not named is 0, the same entry twice adds up, rows are normalised; without
//! any `initial` line all states are equally likely at the first word. A field that begins with `#` begins a comment,
//! on a line of its own or behind an entry, so that no name begins with it.

use std::collections::HashMap;

use super::hmm::{Hmm, Matrices};
use super::source::{COMMENT_HINT, LanguageError, RESERVED, fields};
use crate::random::{Purpose, Stream};

/// The shape of a random hidden Markov model: every row is a draw from a symmetric Dirichlet distribution.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomHmm {
    /// Hidden states.
    pub states: u32,
    /// Number of words.
    pub vocabulary: u32,
    /// Concentration of the rows of the transition matrix and of the first state's distribution; small is nearly
    /// deterministic, 1 is uniform over all distributions.
    #[serde(default = "one")]
    pub transition_concentration: f64,
    /// Concentration of the rows of the emission matrix.
    #[serde(default = "one")]
    pub emission_concentration: f64,
    /// Seed of the matrices.
    #[serde(default)]
    pub seed: u64,
}

fn one() -> f64 {
    1.0
}

/// The most numbers that a matrix may have.
const MOST: u64 = 1 << 26;

/// ln of a Gamma(a, 1) draw: Marsaglia and Tsang 2000 for a + 1, and G(a) = G(a + 1) U^(1/a).
fn log_gamma_draw(stream: &mut Stream, a: f64) -> f64 {
    let d = a + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = stream.normal();
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - stream.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln() + (1.0 - stream.uniform()).ln() / a;
        }
    }
}

/// A draw from a symmetric Dirichlet distribution, by logarithms so that small concentrations do not underflow.
fn dirichlet(stream: &mut Stream, n: usize, concentration: f64) -> Vec<f64> {
    let draws: Vec<f64> = (0..n).map(|_| log_gamma_draw(stream, concentration)).collect();
    let largest = draws.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    draws.into_iter().map(|g| (g - largest).exp()).collect()
}

impl Hmm {
    /// A random model.
    pub fn random(shape: &RandomHmm, min_length: usize, max_length: usize) -> Result<Hmm, LanguageError> {
        let error = |message: String| LanguageError { file: "language.hmm".into(), line: None, message };
        let (s, v) = (shape.states, shape.vocabulary);
        if s == 0 || v == 0 || u64::from(s) * u64::from(s.max(v)) > MOST {
            return Err(error(format!("{s} states and {v} words: at least 1 of each, and matrices of at most {MOST}")));
        }
        for (name, c) in [
            ("transition_concentration", shape.transition_concentration),
            ("emission_concentration", shape.emission_concentration),
        ] {
            if !(c > 0.0 && c.is_finite()) {
                return Err(error(format!("{name} = {c} must be positive")));
            }
        }
        let names = |letter: &str, n: u32| -> Vec<String> {
            let digits = (n - 1).to_string().len();
            (0..n).map(|i| format!("{letter}{i:0digits$}")).collect()
        };
        let rows = |part: u64, rows: u32, width: u32, c: f64| -> Vec<f64> {
            let draw = |i| dirichlet(&mut Stream::new(shape.seed, Purpose::Grammar, part << 32 | i), width as usize, c);
            (0..u64::from(rows)).flat_map(draw).collect()
        };
        let matrices = Matrices {
            states: names("z", s),
            words: names("w", v),
            initial: rows(1, 1, s, shape.transition_concentration),
            transition: rows(2, s, s, shape.transition_concentration),
            emission: rows(3, s, v, shape.emission_concentration),
        };
        Hmm::from_matrices(matrices, min_length, max_length).map_err(error)
    }

    /// Parses a file of matrices; `file` is named in errors.
    pub fn parse(text: &str, file: &str, min_length: usize, max_length: usize) -> Result<Hmm, LanguageError> {
        let error = |line: Option<usize>, message: String| LanguageError { file: file.into(), line, message };
        let mut entries = Vec::new();
        for (i, line) in crate::text::without_mark(text).lines().enumerate() {
            let at = |message: String| error(Some(i + 1), message);
            let fields = fields(line);
            let (kind, names, weight) = match fields.as_slice() {
                [] => continue,
                [kind @ "initial", state, weight] => (*kind, vec![*state], weight),
                [kind @ ("transition" | "emission"), a, b, weight] => (*kind, vec![*a, *b], weight),
                _ => {
                    return Err(at(format!(
                        "not an entry; write `initial STATE WEIGHT`, `transition FROM TO WEIGHT` or `emission STATE \
                         WORD WEIGHT`{}",
                        if line.contains('#') { COMMENT_HINT } else { "" }
                    )));
                }
            };
            let value: f64 = weight.parse().map_err(|_| at(format!("`{weight}` is no number")))?;
            if !(value.is_finite() && value >= 0.0) {
                return Err(at(format!("the weight {weight} must be finite and not negative")));
            }
            if kind == "emission" && RESERVED.contains(&names[1]) {
                return Err(at(format!("{} are reserved for the model's own tokens", RESERVED.join(" "))));
            }
            entries.push((i + 1, kind, names, value));
        }
        assemble(&entries, file, min_length, max_length)
    }
}

/// Line, kind, names and weight.
type Entry<'t> = (usize, &'t str, Vec<&'t str>, f64);

fn assemble(entries: &[Entry<'_>], file: &str, min_length: usize, max_length: usize) -> Result<Hmm, LanguageError> {
    let error = |line: Option<usize>, message: String| LanguageError { file: file.into(), line, message };
    let mut states: Vec<String> = Vec::new();
    let mut number: HashMap<&str, usize> = HashMap::new();
    let mut first_line = Vec::new();
    for (line, kind, names, _) in entries {
        for name in if *kind == "emission" { &names[..1] } else { &names[..] } {
            number.entry(name).or_insert_with(|| {
                states.push(name.to_string());
                first_line.push(*line);
                states.len() - 1
            });
        }
    }
    let mut words: Vec<String> = entries.iter().filter(|e| e.1 == "emission").map(|e| e.2[1].to_string()).collect();
    words.sort();
    words.dedup();
    let (s, v) = (states.len(), words.len());
    if s == 0 || v == 0 {
        return Err(error(None, "names no state that emits a word; write `emission STATE WORD WEIGHT` lines".into()));
    }
    if (s * s.max(v)) as u64 > MOST {
        return Err(error(None, format!("{s} states and {v} words make matrices of more than {MOST} numbers")));
    }
    let mut matrices = Matrices {
        initial: vec![0.0; s],
        transition: vec![0.0; s * s],
        emission: vec![0.0; s * v],
        states: states.clone(),
        words,
    };
    for (_, kind, names, value) in entries {
        let from = number[names[0]];
        match *kind {
            "initial" => matrices.initial[from] += value,
            "transition" => matrices.transition[from * s + number[names[1]]] += value,
            _ => {
                let word = matrices.words.binary_search_by(|w| w.as_str().cmp(names[1])).expect("all words are listed");
                matrices.emission[from * v + word] += value;
            }
        }
    }
    if !entries.iter().any(|e| e.1 == "initial") {
        matrices.initial.fill(1.0);
    }
    // A single-word language never moves on.
    let moves = max_length > 1;
    for (z, name) in states.iter().enumerate() {
        let line = Some(first_line[z]);
        let sums = [
            ("transition", matrices.transition[z * s..][..s].iter().sum::<f64>(), moves),
            ("emission", matrices.emission[z * v..][..v].iter().sum::<f64>(), true),
        ];
        for (kind, sum, needed) in sums {
            if !sum.is_finite() {
                return Err(error(
                    line,
                    format!("the {kind} weights of state `{name}` sum to more than a number holds"),
                ));
            }
            if sum <= 0.0 && needed {
                return Err(error(line, format!("state `{name}` has no {kind} with a positive weight")));
            }
        }
        if !moves && sums[0].1 <= 0.0 {
            matrices.transition[z * s + z] = 1.0;
        }
    }
    let sum: f64 = matrices.initial.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return Err(error(None, "the `initial` weights must have a positive, finite sum".into()));
    }
    let hmm = Hmm::from_matrices(matrices, min_length, max_length).map_err(|message| error(None, message))?;
    Ok(hmm.noted(file))
}
