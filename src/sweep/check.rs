//! What cannot be of a plan as a whole, found before anything is trained: models of several languages, checkpoints that are
//! not kept, questions that no model can answer.

use super::examine::{ENLARGE, enlargement, sizes};
use super::file::{Method, Models, ProbeSection};
use super::plan::{Plan, PlannedRun};
use crate::config::ConfigError;
use crate::downstream::{TaskData, layer_in, part_seed};
use crate::language::{Language, Task, check_task, part, task_names};
use crate::model::check_enlarge;
use crate::train::Corpus;

/// Checks a plan without an adapter; draws a few hundred sentences for each task.
///
/// Gives the notes of its language.
///
/// # Errors
/// The first thing that cannot be, with its key and what would be right.
pub fn check(plan: &Plan) -> Result<Vec<String>, ConfigError> {
    check_runs(plan)?;
    let config = &plan.runs[0].resolved.config;
    let corpus = Corpus::open(&config.language, &config.objective, plan.examine.seed)?;
    let language = corpus.language.as_ref();
    for (i, probe) in plan.examine.probe.iter().enumerate() {
        let wrong = |key: &str| {
            let place = place(plan, &probe_key(i, key));
            move |message| ConfigError { place, message }
        };
        check_layer(plan, probe).map_err(wrong("layer"))?;
        check_probe(language, plan.examine.seed, probe).map_err(wrong("task"))?;
    }
    if let Some(size) = plan.enlarged() {
        let method = enlargement(plan.examine.enlarge_by);
        let mut seen = Vec::new();
        for run in &plan.runs {
            if seen.contains(&&run.resolved.config.model) {
                continue;
            }
            seen.push(&run.resolved.config.model);
            let tokens = corpus.vocabulary.len() as u32;
            let small = run.resolved.config.model.model_config(tokens, language.max_length());
            check_enlarge(&small, sizes(size), method).map_err(|message| {
                let message = format!("the model of `{}` does not fit: {message}", run.label);
                ConfigError { place: place(plan, ENLARGE), message }
            })?;
        }
    }
    Ok(language.notes().to_vec())
}

/// Where in a plan something is wrong.
pub(super) fn place(plan: &Plan, key: &str) -> String {
    format!("sweep {}: {key}", plan.name)
}

/// A key of the probe at a place of the list.
pub(super) fn probe_key(i: usize, key: &str) -> String {
    format!("[[examine.probe]] number {}: `{key}`", i + 1)
}

/// What cannot be of the runs together.
pub(super) fn check_runs(plan: &Plan) -> Result<(), ConfigError> {
    let place = |key: &str| place(plan, key);
    let language = plan.runs[0].resolved.language_hash();
    let all = plan.start.iter().chain(&plan.runs);
    if let Some(other) = all.clone().find(|run| run.resolved.language_hash() != language) {
        let message = format!(
            "`{}` has another language than `{}`; models are compared within one language, make a sweep for each",
            other.label, plan.runs[0].label
        );
        return Err(ConfigError { place: place("language"), message });
    }
    if plan.examine.models == Models::Checkpoints
        && let Some(run) = plan.runs.iter().find(|run| {
            let train = &run.resolved.config.train;
            train.keep_checkpoints != 0 && train.checkpoint_every > 0
        })
    {
        let message = format!(
            "all checkpoints are examined, and `{}` keeps only {}; set it to 0, which keeps all",
            run.label, run.resolved.config.train.keep_checkpoints
        );
        return Err(ConfigError { place: place("train.keep_checkpoints"), message });
    }
    Ok(())
}

/// The layer is one of every model.
fn check_layer(plan: &Plan, probe: &ProbeSection) -> Result<(), String> {
    let layers = |run: &PlannedRun| run.resolved.config.model.num_hidden_layers as usize + 1;
    for run in &plan.runs {
        layer_in(probe.layer, layers(run)).map_err(|message| format!("{message} (`{}`)", run.label))?;
    }
    Ok(())
}

/// The language has the task, enough of its sentences have a label, and not all the same.
fn check_probe(language: &dyn Language, seed: u64, probe: &ProbeSection) -> Result<(), String> {
    let task: Task = probe.task.parse()?;
    let about = |message: String| format!("task {task}: {message}");
    if let [one] = task_names(language, task).map_err(about)?.as_slice() {
        return Err(about(format!("all labels are `{one}`; there is nothing to tell apart")));
    }
    let labels = check_task(language, task, probe.with_prior, part_seed(seed, part::TRAIN)).map_err(about)?;
    if labels < 2 {
        // A rarer one may be among the sentences that are asked about; these are drawn to know.
        TaskData::of_language(language, task, probe.with_prior, seed, probe.sizes()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Whether a probe reads the representations of a layer.
pub(super) fn is_linear(probe: &ProbeSection) -> bool {
    probe.method != Method::Finetune
}
