//! What `probe` and `finetune` share: a model, a task's data, the printed outcome.

use std::path::Path;

use super::arguments::{LabelChoice, OutOfVocabularyChoice, TaskArguments};
use super::failure::{DIVERGED, Failure, INPUT_OUTPUT, MEMORY};
use super::{advice, print};
use crate::config;
use crate::downstream::{
    Columns, DownstreamError, LabelSets, Limits, Outcome, RestrictedWords, SetFits, Sizes, TaskData, TaskError,
    TaskRows, Teaching,
};
use crate::interrupt::{self, Interrupted};
use crate::language::{Task, UnknownTask};
use crate::model::{self, Loaded, SizeError};
use crate::ops::batch::Sentence;
use crate::text::{OutOfVocabulary, Pieces, RestrictedPieces};
use crate::train::Corpus;

/// A model with its task.
pub struct Opened {
    pub model: Loaded,
    pub seed: u64,
    /// As the model is fed with it.
    pub data: TaskData<Sentence>,
    /// Which of its training rows are learned from together.
    pub sets: LabelSets,
    /// Where the sentences are words of a config's language.
    pub spoken: Option<Spoken>,
}

/// A task's sentences as words of a language.
pub struct Spoken {
    pub corpus: Corpus,
    pub data: TaskData,
}

pub fn open(arguments: &TaskArguments) -> Result<Opened, Failure> {
    if let Some(config) = &arguments.config {
        super::text::prepare(&config::load(config, &arguments.overrides)?.config)?;
    }
    let arguments = arguments.clone();
    let opened = interrupt::or_stop(move || open_here(&arguments))??;
    let unlearnt = opened.data.unlearnt();
    if !unlearnt.is_empty() {
        let some = unlearnt.iter().take(10).copied().collect::<Vec<&str>>().join("`, `");
        print::note(&format!(
            "no row to train on has a label that rows to test on have, of {}: `{some}`",
            unlearnt.len()
        ));
    }
    Ok(opened)
}

fn open_here(arguments: &TaskArguments) -> Result<Opened, Failure> {
    let columns = Columns { texts: arguments.text_column.clone(), label: arguments.label_column.clone() };
    if columns.texts.len() > 2 {
        return Err(Failure::usage("--text-column: one, or two for a pair".to_string()));
    }
    let model = model::load_body(&arguments.model)?;
    model.notes.iter().for_each(|n| print::note(n));
    let sizes = Sizes {
        train: asked_sets(arguments).drawn(),
        validation: arguments.validation as usize,
        test: arguments.test as usize,
    };
    let path = Path::new(&arguments.task);
    let is_file = path.exists() || [".csv", ".jsonl", ".json", ".tsv"].iter().any(|e| arguments.task.ends_with(e));
    if teaching(arguments) != Teaching::Mode && (is_file || arguments.config.is_none()) {
        let message = "--labels: rows of TASK have the labels that they have; a language's own tasks have posteriors";
        return Err(Failure::usage(message.to_string()));
    }
    match &arguments.config {
        Some(config) => {
            if is_file && let Some(policy) = arguments.out_of_vocabulary {
                return generated(arguments, config, model, (path, &columns), policy, sizes);
            }
            let spoken = spoken(arguments, config, &model, is_file.then_some((path, &columns)), sizes)?;
            let seed = spoken.corpus.seed;
            let data = spoken.data.fed(&spoken.corpus.tokens, model.encoder.config.reach());
            Ok(Opened { sets: label_sets(arguments, &data)?, model, seed, data, spoken: Some(spoken) })
        }
        None if !is_file => Err(Failure::usage(format!(
            "--task {}: no such file or folder; a task of a language needs its run config behind MODEL",
            arguments.task
        ))),
        None => {
            let seed = arguments.seed.unwrap_or(0);
            let data =
                texts(arguments, &model, TaskRows::read(path, &columns).map_err(DownstreamError::from)?, seed, sizes)?;
            Ok(Opened { sets: label_sets(arguments, &data)?, model, seed, data, spoken: None })
        }
    }
}

/// Texts in the words of a generated language: its model's tokenizer cuts them.
fn generated(
    arguments: &TaskArguments,
    config: &Path,
    model: Loaded,
    (path, columns): (&Path, &Columns),
    policy: OutOfVocabularyChoice,
    sizes: Sizes,
) -> Result<Opened, Failure> {
    let config = config::load(config, &arguments.overrides)?.config;
    let Some(language) = config.language.generated()? else {
        let message = "--out-of-vocabulary: the run config's language is not of `kind = \"generated\"`";
        return Err(Failure::usage(message.to_string()));
    };
    if arguments.with_prior {
        let message = "--with-prior: the rows of TASK have their labels; it weighs those that a language gives";
        return Err(Failure::usage(message.to_string()));
    }
    if arguments.tokenizer.is_some() {
        let message = "--tokenizer: texts in a generated language's words are cut by the tokenizer of its own model";
        return Err(Failure::usage(message.to_string()));
    }
    let seed = arguments.seed.unwrap_or(config.seed);
    let corpus = super::examples::spoken_by(&model, &Corpus::open(&config.language, &config.objective, seed)?)?;
    let positions = model.encoder.config.longest();
    let most = arguments.max_tokens.unwrap_or(positions.min(corpus.language.longest() as u32));
    if most > positions {
        return Err(Failure::usage(format!("--max-tokens {most}: the model has positions for {positions}")));
    }
    let policy = match policy {
        OutOfVocabularyChoice::Unk => OutOfVocabulary::Unk,
        OutOfVocabularyChoice::Drop => OutOfVocabulary::Drop,
        OutOfVocabularyChoice::Split => OutOfVocabulary::Split,
    };
    let pieces = RestrictedPieces::new(tokenizer_of(language.folder())?, language.token_ids(), policy);
    let size = |e: SizeError| Failure::usage(format!("{}: {e}", arguments.model.display()));
    let (model, unknown) = model.with_unknown(corpus.tokens.words()).map_err(size)?;
    let words = RestrictedWords {
        pieces: &pieces,
        tokens: &corpus.tokens,
        unknown,
        reach: model.encoder.config.reach(),
        max_tokens: most as usize,
    };
    let texts = TaskRows::read(path, columns).and_then(|rows| rows.parts(seed, sizes));
    let data = texts.and_then(|texts| TaskData::of_restricted(texts, words)).map_err(DownstreamError::from)?;
    Ok(Opened { sets: label_sets(arguments, &data)?, model, seed, data, spoken: None })
}

/// A task whose sentences are words of a config's language, from a file or drawn from the language.
fn spoken(
    arguments: &TaskArguments,
    config: &Path,
    model: &Loaded,
    file: Option<(&Path, &Columns)>,
    sizes: Sizes,
) -> Result<Spoken, Failure> {
    if arguments.out_of_vocabulary.is_some() {
        let message = "--out-of-vocabulary: TASK is no file of texts, and a language's own sentences have its words";
        return Err(Failure::usage(message.to_string()));
    }
    let of_texts = [("--tokenizer", arguments.tokenizer.is_some()), ("--max-tokens", arguments.max_tokens.is_some())];
    if let Some((flag, _)) = of_texts.iter().find(|(_, given)| *given) {
        return Err(Failure::usage(format!(
            "{flag}: with {} sentences are words of its language; leave the config out and the model's tokenizer reads \
             the texts",
            config.display()
        )));
    }
    let resolved = config::load(config, &arguments.overrides)?;
    let seed = arguments.seed.unwrap_or(resolved.config.seed);
    let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, seed)?;
    print::notes(&corpus);
    let corpus = super::examples::spoken_by(model, &corpus)?;
    let data = match file {
        Some((path, columns)) => {
            let longest = model.encoder.config.longest().saturating_sub(2) as usize;
            let limits = Limits { vocabulary: &corpus.vocabulary, longest };
            TaskRows::read(path, columns).and_then(|rows| TaskData::of_words(rows, limits, corpus.seed, sizes))
        }
        None => {
            let task: Task = arguments.task.parse().map_err(|e: UnknownTask| {
                Failure::usage(format!(
                    "--task: {e}; or a file of rows that ends in .csv, .jsonl or .tsv, or a folder of such"
                ))
            })?;
            let truth = corpus.truth().map_err(|none| {
                Failure::usage(format!("--task {task}: {none}; take a file of rows that ends in .csv, .jsonl or .tsv"))
            })?;
            TaskData::of_language_taught(truth, task, arguments.with_prior, corpus.seed, sizes, teaching(arguments))
        }
    };
    Ok(Spoken { data: data.map_err(DownstreamError::from)?, corpus })
}

/// Texts as the model's tokenizer cuts them.
fn texts(
    arguments: &TaskArguments,
    model: &Loaded,
    rows: TaskRows,
    seed: u64,
    sizes: Sizes,
) -> Result<TaskData<Sentence>, Failure> {
    const MOST: u32 = 128;
    if arguments.out_of_vocabulary.is_some() {
        let message = "--out-of-vocabulary belongs to the run config of a generated language";
        return Err(Failure::usage(message.to_string()));
    }
    if arguments.with_prior {
        return Err(Failure::usage(
            "--with-prior belongs to a run config, whose language labels sentences".to_string(),
        ));
    }
    let config = &model.encoder.config;
    let longest = config.longest();
    let most = arguments.max_tokens.unwrap_or(longest.min(MOST));
    if most > longest {
        return Err(Failure::usage(format!("--max-tokens {most}: the model has positions for {longest}")));
    }
    let pieces = pieces(arguments, &model.folder)?;
    let framing = pieces.framing(most as usize).map_err(|e| Failure::usage(format!("--max-tokens: {e}")))?;
    let texts = rows.parts(seed, sizes).map_err(DownstreamError::from)?;
    if texts.has_pairs() && !framing.parts_pairs() {
        print::note("the tokenizer puts no special token between the two texts of a pair; they follow one another");
    }
    let data: Result<_, TaskError> = TaskData::of_texts(texts, &pieces, config, most as usize);
    Ok(data.map_err(DownstreamError::from)?)
}

/// The tokenizer of a model, or another that is named.
fn pieces(arguments: &TaskArguments, folder: &Path) -> Result<Pieces, Failure> {
    match &arguments.tokenizer {
        Some(named) if named.is_dir() => tokenizer_of(named),
        Some(named) => Pieces::read(named).map_err(|e| Failure::usage(e.to_string())),
        None if !folder.join(TOKENIZER).exists() => Err(Failure::usage(format!(
            "{}. --tokenizer PATH names one; a run config behind MODEL reads texts as words of its language",
            no_tokenizer(folder)
        ))),
        None => tokenizer_of(folder),
    }
}

const TOKENIZER: &str = "tokenizer.json";

fn tokenizer_of(folder: &Path) -> Result<Pieces, Failure> {
    let path = folder.join(TOKENIZER);
    match path.exists() {
        true => Pieces::read(&path).map_err(|e| Failure::usage(e.to_string())),
        false => Err(Failure::usage(no_tokenizer(folder))),
    }
}

fn no_tokenizer(folder: &Path) -> String {
    format!(
        "{}: has no {TOKENIZER}, by which texts are cut into pieces; \
         `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of transformers writes it where there are other \
         files of a tokenizer",
        folder.display()
    )
}

/// The label sets that are asked for.
fn asked_sets(arguments: &TaskArguments) -> LabelSets {
    let mut sizes: Vec<usize> = arguments.train_sizes.iter().map(|n| *n as usize).collect();
    if sizes.is_empty() {
        sizes.push(arguments.train as usize);
    }
    sizes.sort_unstable();
    sizes.dedup();
    LabelSets { sets: arguments.label_sets as usize, sizes }
}

/// The label sets of a task that may have fewer rows than were asked for: a single one is of all rows that there are.
fn label_sets<S>(arguments: &TaskArguments, data: &TaskData<S>) -> Result<LabelSets, Failure> {
    let (asked, rows) = (asked_sets(arguments), data.train.len());
    match asked.is_one() {
        true => Ok(LabelSets::one(rows)),
        false if asked.drawn() == rows => Ok(asked),
        false => Err(Failure::usage(format!(
            "--task {}: {rows} rows to train on, of {} for {} of {} rows; take fewer with --label-sets, and with \
             --train or --train-sizes",
            arguments.task,
            asked.drawn(),
            if asked.sets == 1 { "1 label set".to_string() } else { format!("{} label sets", asked.sets) },
            asked.drawn() / asked.sets,
        ))),
    }
}

fn teaching(arguments: &TaskArguments) -> Teaching {
    match arguments.labels {
        LabelChoice::Mode => Teaching::Mode,
        LabelChoice::Drawn => Teaching::Drawn,
        LabelChoice::Posterior => Teaching::Posterior,
    }
}

/// The seeds of the fits: 0, 1, ... behind the task's.
pub fn seeds(arguments: &TaskArguments, opened: &Opened) -> Vec<u64> {
    (0..u64::from(arguments.seeds)).map(|i| opened.seed.wrapping_add(i)).collect()
}

pub fn check_rate(lr: f64) -> Result<(), Failure> {
    match lr > 0.0 && lr.is_finite() {
        true => Ok(()),
        false => Err(Failure::usage(format!("--lr {lr} must be positive"))),
    }
}

/// The fits, or of a single label set those until an interrupt; none of them is one.
pub fn fits(result: Result<SetFits, DownstreamError>) -> Result<(SetFits, bool), Failure> {
    match result {
        Ok(fits) => Ok((fits, false)),
        Err(DownstreamError::Interrupted { done }) if !done.is_empty() => Ok((SetFits::of_one(done), true)),
        Err(error) => Err(error.into()),
    }
}

/// What was asked in nats and over label sets, in lines.
fn nats_text(outcome: &Outcome) -> String {
    let nats = &outcome.nats;
    let mut text = String::new();
    let of = |value: f64, error: Option<f64>, fits: Option<f64>| {
        let over = if nats.label_sets.is_some() { "label sets" } else { "fits" };
        let fits = fits.map_or(String::new(), |error| format!(", {} over {over}", print::short(error)));
        format!("{} nats{fits}", print::with_error(value, error))
    };
    if let Some(excess) = nats.excess_nats {
        let value = of(excess, nats.excess_nats_standard_error, nats.excess_nats_standard_error_fits);
        text += &format!("\nexcess over the exact posterior {value}");
    }
    if let Some(forgetting) = nats.forgetting {
        let value = of(forgetting, nats.forgetting_standard_error, nats.forgetting_standard_error_fits);
        let before = nats.excess_loss_before.map_or(String::new(), |e| format!(", from {}", print::short(e)));
        text += &format!("\nforgotten of the language {value}{before}");
    }
    for size in nats.label_sets.iter().flat_map(|averages| &averages.sizes) {
        let excess = size.averaged.excess_nats.as_ref();
        let excess =
            excess.map_or(String::new(), |e| format!(", excess {} nats", print::with_error(e.mean, e.standard_error)));
        let accuracy = &size.averaged.accuracy;
        let percent = |p: f64| format!("{:.2}", 100.0 * p);
        let error = accuracy.standard_error.map_or(String::new(), |e| format!(" ± {}", percent(e)));
        text += &format!("\nof {} sentences: accuracy {}{error} %{excess}", size.train, percent(accuracy.mean));
    }
    text
}

pub fn report(outcome: &Outcome, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print::json(outcome)?);
    }
    let percent = |p: f64| format!("{:.2} %", 100.0 * p);
    let a = &outcome.accuracy;
    let over = if outcome.nats.label_sets.is_some() { "label sets" } else { "seeds" };
    let spread = match (a.standard_deviation, a.standard_error) {
        (Some(deviation), Some(error)) => {
            format!(" ± {} over {} {over} (standard error {})", percent(deviation), a.seeds, percent(error))
        }
        _ => String::new(),
    };
    let bayes =
        outcome.bayes.map_or(String::new(), |b| format!("; Bayes, of the truth behind the labels, {}", percent(b)));
    // A language's tasks come without them.
    let lost = match (outcome.max_tokens, outcome.truncated, outcome.unknown_share) {
        (Some(most), Some(truncated), Some(unknown)) => format!(
            "\n{truncated} texts cut to {most} tokens, {} of the pieces unknown to the tokenizer",
            percent(unknown)
        ),
        _ => String::new(),
    };
    let end = if outcome.interrupted { " (interrupted)" } else { "" };
    Ok(print::line(&format!(
        "task {}: accuracy {}{spread}{end}{}\n\
         chance {} of {} classes, majority {}{bayes}\n\
         {} sentences to train, {} to validate, {} to test (sampling error {}); {} without a label{lost}\n\
         {}, {} numbers a sentence, {}, {}",
        outcome.task,
        percent(a.accuracy),
        nats_text(outcome),
        percent(outcome.chance),
        outcome.classes,
        percent(outcome.majority),
        outcome.train,
        outcome.validation,
        outcome.test,
        percent(outcome.sampling_error),
        outcome.skipped,
        outcome.features,
        outcome.width,
        outcome.method,
        print::duration(outcome.seconds)
    ))?)
}

impl From<DownstreamError> for Failure {
    fn from(error: DownstreamError) -> Failure {
        match error {
            DownstreamError::Gpu(error) => error.into(),
            DownstreamError::Task(_) => Failure::usage(advice::of_downstream(&error)),
            DownstreamError::Interrupted { .. } => Interrupted.into(),
            DownstreamError::Room(_) => Failure { code: MEMORY, message: advice::of_downstream(&error) },
            DownstreamError::Diverged { .. } => Failure { code: DIVERGED, message: advice::of_downstream(&error) },
        }
    }
}

/// A file that cannot be written.
pub fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure { code: INPUT_OUTPUT, message: format!("{}: {error}", path.display()) }
}
