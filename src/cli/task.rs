//! What `probe` and `finetune` share: a model, a task's data, the printed outcome.

use std::path::Path;

use super::arguments::TaskArguments;
use super::failure::{DIVERGED, Failure, INPUT_OUTPUT, MEMORY};
use super::{advice, print};
use crate::config;
use crate::downstream::{DownstreamError, Fit, Limits, Outcome, Sizes, TaskData};
use crate::interrupt::{self, Interrupted};
use crate::language::{Task, UnknownTask};
use crate::model::{self, Loaded};
use crate::train::Corpus;

/// A model with its task.
pub struct Opened {
    pub model: Loaded,
    pub corpus: Corpus,
    pub data: TaskData,
}

pub fn open(arguments: &TaskArguments) -> Result<Opened, Failure> {
    super::text::prepare(&config::load(&arguments.config, &arguments.overrides)?.config)?;
    let arguments = arguments.clone();
    interrupt::or_stop(move || open_here(&arguments))?
}

fn open_here(arguments: &TaskArguments) -> Result<Opened, Failure> {
    let model = model::load(&arguments.model)?;
    model.notes.iter().for_each(|n| print::note(n));
    let resolved = config::load(&arguments.config, &arguments.overrides)?;
    let corpus = Corpus::open(&resolved.config.language, &resolved.config.objective, resolved.config.seed)?;
    print::notes(&corpus);
    let corpus = super::examples::spoken_by(&model, &corpus)?;
    let sizes = Sizes {
        train: arguments.train as usize,
        validation: arguments.validation as usize,
        test: arguments.test as usize,
    };
    let path = Path::new(&arguments.task);
    let is_file = path.exists() || [".csv", ".jsonl", ".json"].iter().any(|e| arguments.task.ends_with(e));
    let data = match is_file {
        true => {
            let longest = model.encoder.config.longest().saturating_sub(2) as usize;
            let limits = Limits { vocabulary: &corpus.vocabulary, longest };
            TaskData::of_file(path, limits, corpus.seed, sizes)
        }
        false => {
            let task: Task = arguments.task.parse().map_err(|e: UnknownTask| {
                Failure::usage(format!(
                    "--task: {e}; or a file of rows that ends in .csv or .jsonl, or a folder of such"
                ))
            })?;
            {
                let truth = corpus.truth().map_err(|none| {
                    Failure::usage(format!("--task {task}: {none}; take a file of rows that ends in .csv or .jsonl"))
                })?;
                TaskData::of_language(truth, task, arguments.with_prior, corpus.seed, sizes)
            }
        }
    };
    let data = data.map_err(DownstreamError::from)?;
    Ok(Opened { model, corpus, data })
}

/// The seeds of the fits: 0, 1, ... behind the config's.
pub fn seeds(arguments: &TaskArguments, corpus: &Corpus) -> Vec<u64> {
    (0..u64::from(arguments.seeds)).map(|i| corpus.seed.wrapping_add(i)).collect()
}

pub fn check_rate(lr: f64) -> Result<(), Failure> {
    match lr > 0.0 && lr.is_finite() {
        true => Ok(()),
        false => Err(Failure::usage(format!("--lr {lr} must be positive"))),
    }
}

/// The fits, or those until an interrupt; none of them is one.
pub fn fits(result: Result<Vec<Fit>, DownstreamError>) -> Result<(Vec<Fit>, bool), Failure> {
    match result {
        Ok(fits) => Ok((fits, false)),
        Err(DownstreamError::Interrupted { done }) if !done.is_empty() => Ok((done, true)),
        Err(error) => Err(error.into()),
    }
}

pub fn report(outcome: &Outcome, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print::json(outcome)?);
    }
    let percent = |p: f64| format!("{:.2} %", 100.0 * p);
    let a = &outcome.accuracy;
    let spread = match (a.standard_deviation, a.standard_error) {
        (Some(deviation), Some(error)) => {
            format!(" ± {} over {} seeds (standard error {})", percent(deviation), a.seeds, percent(error))
        }
        _ => String::new(),
    };
    let bayes =
        outcome.bayes.map_or(String::new(), |b| format!("; Bayes, of the truth behind the labels, {}", percent(b)));
    let end = if outcome.interrupted { " (interrupted)" } else { "" };
    Ok(print::line(&format!(
        "task {}: accuracy {}{spread}{end}\n\
         chance {} of {} classes, majority {}{bayes}\n\
         {} sentences to train, {} to validate, {} to test (sampling error {}); {} without a label\n\
         {}, {} numbers a sentence, {}, {}",
        outcome.task,
        percent(a.accuracy),
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
