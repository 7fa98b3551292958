//! `lowland language`: what is known of a config's language. A generated one alone needs an adapter.

use std::io::{BufRead, IsTerminal, Write};

use rayon::prelude::*;
use serde_json::json;

use super::arguments::{ConfigArguments, Draw, Language as Arguments, LanguageCommand};
use super::failure::{Failure, INPUT_OUTPUT};
use super::print;
use crate::config::{self, ObjectiveKind, Resolved};
use crate::gpu::AdapterChoice;
use crate::interrupt;
use crate::language::{
    CausalFloor, EntropyFloor, Language, Lengths, NoTruth, Task, Truth, Words, causal_floor_of, entropy_floor,
    task_names,
};
use crate::ops::KernelChoice;
use crate::text::without_mark;
use crate::train::Corpus;

/// Sentences made before they are printed.
const CHUNK: u64 = 16384;

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Arguments) -> Result<(), Failure> {
    let asked = |config, to_draw| {
        let corpus = if to_draw { open_to_draw(config)? } else { open(config)? };
        super::examples::put_on(&corpus, adapter, kernel_choice)?;
        Ok::<Corpus, Failure>(corpus)
    };
    match &arguments.command {
        LanguageCommand::Sample { config, draw } => sample(&asked(config, true)?, draw),
        LanguageCommand::Floor { config, draw, json } => floor(asked(config, false)?, draw, json.json),
        LanguageCommand::Conditional { config, causal } => conditional(truth(&asked(config, false)?)?, *causal),
        LanguageCommand::Label { config, task, with_prior, count, seed } => {
            let corpus = open(config)?;
            label(&corpus, *task, *with_prior, *count, seed.unwrap_or(corpus.seed))
        }
        LanguageCommand::Vocabulary { config } => Ok(print::line(&open(config)?.language.vocabulary().join("\n"))?),
    }
}

fn open(arguments: &ConfigArguments) -> Result<Corpus, Failure> {
    open_resolved(config::load(&arguments.config, &arguments.overrides)?)
}

/// Without a file of sentences, which may be what is to be written.
fn open_to_draw(arguments: &ConfigArguments) -> Result<Corpus, Failure> {
    let mut resolved = config::load(&arguments.config, &arguments.overrides)?;
    resolved.config.language.sentences = None;
    open_resolved(resolved)
}

fn open_resolved(resolved: Resolved) -> Result<Corpus, Failure> {
    super::text::prepare(&resolved.config)?;
    let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, resolved.config.seed)?;
    print::notes(&corpus);
    Ok(corpus)
}

/// What is known of the language.
fn truth(corpus: &Corpus) -> Result<&dyn Truth, Failure> {
    corpus.truth().map_err(no_truth)
}

fn no_truth(none: NoTruth) -> Failure {
    Failure::usage(format!("[language]: {none}"))
}

/// The floor of what the config's objective predicts.
fn floor(corpus: Corpus, draw: &Draw, as_json: bool) -> Result<(), Failure> {
    let (seed, count) = (draw.seed.unwrap_or(corpus.seed), draw.count);
    let lengths = |l: &Lengths| format!("{} to {} words, {:.2} in the mean", l.min, l.max, l.mean);
    match corpus.objective.kind {
        ObjectiveKind::Mlm => {
            let floor = interrupt::or_stop(move || corpus.truth().map(|truth| entropy_floor(truth, seed, count)))?
                .map_err(no_truth)?;
            // An adapter that was asked afterwards has not answered.
            interrupt::check()?;
            if as_json {
                return Ok(print::json(&floor)?);
            }
            let EntropyFloor { entropy_floor, standard_error, count, exact_entropy_floor, sentence_length } = floor;
            let exact =
                exact_entropy_floor.map_or(String::new(), |exact| format!("; of the whole language {exact:.6}"));
            print::line(&format!(
                "entropy floor {entropy_floor:.6} ± {standard_error:.6} nats a masked word ({count} sentences of \
                 {}){exact}",
                lengths(&sentence_length)
            ))?;
        }
        ObjectiveKind::Causal => {
            let floor = interrupt::or_stop(move || {
                let predicted = |length| corpus.objective.predicted(length);
                corpus.truth().map(|truth| causal_floor_of(truth, seed, count, &predicted))
            })?
            .map_err(no_truth)?;
            interrupt::check()?;
            if as_json {
                return Ok(print::json(&floor)?);
            }
            let CausalFloor { entropy_floor, standard_error, count, predicted_tokens, sentence_length, .. } = &floor;
            print::line(&format!(
                "entropy floor {entropy_floor:.6} ± {standard_error:.6} nats a predicted token, ends of sentences \
                 included ({predicted_tokens} tokens of {count} sentences of {})",
                lengths(sentence_length)
            ))?;
            let each = floor.per_position.iter().zip(&floor.per_position_standard_error).enumerate();
            let row = |(k, (value, error)): (usize, (&f64, &f64))| {
                (format!("behind {k} words"), print::with_error(*value, Some(*error).filter(|e| e.is_finite())))
            };
            print::line(&print::table(&each.map(row).collect::<Vec<_>>()))?;
        }
    }
    Ok(())
}

fn sample(corpus: &Corpus, draw: &Draw) -> Result<(), Failure> {
    let seed = draw.seed.unwrap_or(corpus.seed);
    let language = &corpus.language;
    if let Some(heading) = language.heading(seed) {
        print::line(&heading)?;
    }
    in_chunks(draw.count, |i| language.shown(&language.sample(seed, i)))
}

/// Makes lines 0..count on all cores and prints them in order.
fn in_chunks(count: u64, make: impl Fn(u64) -> String + Sync) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for start in (0..count).step_by(CHUNK as usize) {
        let lines: Vec<String> = (start..count.min(start + CHUNK)).into_par_iter().map(&make).collect();
        out.write_all((lines.join("\n") + "\n").as_bytes())?;
    }
    Ok(out.flush()?)
}

/// Sentences of standard input with their line numbers.
fn sentences(language: &dyn Language) -> impl Iterator<Item = Result<(usize, Words), Failure>> + '_ {
    if std::io::stdin().is_terminal() {
        print::note("reading sentences from standard input, one a line");
    }
    let lines = std::io::stdin().lock().lines().enumerate();
    lines.filter_map(move |(i, line)| {
        let place = format!("standard input, line {}", i + 1);
        let line = match line {
            Ok(line) => line,
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Some(Err(Failure::usage(format!("{place}: not UTF-8 text"))));
            }
            Err(e) => return Some(Err(Failure { code: INPUT_OUTPUT, message: format!("{place}: {e}") })),
        };
        let line = if i == 0 { without_mark(&line) } else { &line };
        let words: Vec<&str> = line.split_whitespace().collect();
        // A heading is what `sample` prints first of some languages.
        if words.is_empty() || i == 0 && line.starts_with("# {") {
            return None;
        }
        if words.len() > language.max_length() {
            let message = format!("{place}: {} words, sentences have at most {}", words.len(), language.max_length());
            return Some(Err(Failure::usage(message)));
        }
        let unknown = |word: &str| {
            let hint = match word.len() <= 40 {
                true => format!("`{word}` is not a word of this language"),
                false => "a word that this language does not have".into(),
            };
            Failure::usage(format!("{place}: {hint}; `lowland language vocabulary CONFIG` lists its words"))
        };
        Some(language.encode(&words).map(|w| (i + 1, w)).map_err(unknown))
    })
}

fn conditional(language: &dyn Truth, causal: bool) -> Result<(), Failure> {
    for sentence in sentences(language) {
        let (line, words) = sentence?;
        let spelled = language.decode(&words);
        let value = match causal {
            true => language
                .prefixes(&words)
                .map(|known| json!({ "words": spelled, "log_probability": known.log_probability, "next": known.next })),
            false => language.conditional(&words).map(|known| {
                json!({
                    "words": spelled,
                    "log_probability": known.log_probability,
                    "conditional": known.conditional,
                })
            }),
        };
        let value = value.ok_or_else(|| {
            Failure::usage(format!("standard input, line {line}: the language gives this sentence no probability"))
        })?;
        print::line(&value.to_string())?;
    }
    Ok(())
}

fn label(corpus: &Corpus, task: Task, with_prior: bool, count: Option<u64>, seed: u64) -> Result<(), Failure> {
    let language = truth(corpus)?;
    language.label_names(task).map_err(|e| Failure::usage(format!("--task {task}: {e}")))?;
    if let Err(why) = task_names(language, task) {
        print::note(&format!("--task {task}: no sentence has a label: {why}"));
    }
    let as_line = |words: &[u32]| {
        // Sentences that a task does not ask about (too short for it) have no label.
        let label = language.label(words, task, with_prior);
        json!({
            "words": language.decode(words),
            "label": label.as_ref().map(|l| &l.symbol),
            "probability": label.as_ref().map(|l| l.probability),
        })
        .to_string()
    };
    if let Some(count) = count {
        return in_chunks(count, |i| as_line(&language.sample(seed, i)));
    }
    for sentence in sentences(language) {
        print::line(&as_line(&sentence?.1))?;
    }
    Ok(())
}
