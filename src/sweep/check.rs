//! Finds what cannot be in a plan as a whole before anything is trained: models of several languages, checkpoints that
//! are not kept, questions that no model can answer.

use super::error::RunFailure;
use super::examine::{Examiner, Material};
use super::file::{EnlargeBy, EnlargeSize, Models};
use super::gauge;
use super::plan::{PlannedRun, SweepPlan};
use super::probe_section::{Method, ProbeSection};
use super::question::Question;
use crate::config::{ConfigError, ObjectiveKind, Positions};
use crate::downstream::{Features, Room, TaskData, check_room, layer_in, part_seed};
use crate::gpu::Gpu;
use crate::language::{LabelError, Task, Truth, UnknownTask, check_task, part, task_names};
use crate::model::{EnlargeError, Enlargement, Size, check_enlarge};
use crate::train::Corpus;

/// Checks a plan without an adapter; draws a few hundred sentences for each task.
///
/// Gives the notes of its language.
///
/// # Errors
/// The first thing that cannot be, with its key and what would be right.
pub fn check(plan: &SweepPlan) -> Result<Vec<String>, ConfigError> {
    check_runs(plan)?;
    if let Some(examples) = &plan.examples {
        plan.check_examples(examples)?;
        check_sizes(plan, None)?;
        return Ok(vec![]);
    }
    let config = &plan.runs[0].resolved.config;
    let corpus = Corpus::open(&config.language, &config.objective, plan.examine.seed)?;
    let language = corpus.language.as_ref();
    if corpus.objective.kind == ObjectiveKind::Causal && plan.examine.positions != Positions::One {
        let message =
            "belongs to `objective.kind = \"mlm\"`; of next words `objective.positions` of the base says which";
        return Err(ConfigError { place: place(plan, "[examine] `positions`"), message: message.into() });
    }
    for (i, probe) in plan.examine.probe.iter().enumerate() {
        let wrong = |key: &str| {
            let place = place(plan, &probe_key(i, key));
            move |message| ConfigError { place, message }
        };
        check_layer(plan, probe).map_err(wrong("layer"))?;
        check_features(plan, probe, language.max_length()).map_err(wrong("features"))?;
        check_padding(plan, probe, language.max_length()).map_err(wrong("padded_length"))?;
        let truth = language.truth().map_err(|none| wrong("task")(none.to_string()))?;
        check_probe(truth, plan.examine.seed, probe).map_err(wrong("task"))?;
    }
    check_sizes(plan, Some(&corpus))?;
    let longest = language.longest() as u32;
    gauge::check(plan, corpus.vocabulary.len() as u32, longest)?;
    if plan.examine.matched.is_some() && language.truth().is_err() {
        let message = "the language knows no exact conditionals, against which an excess loss is taken";
        return Err(ConfigError { place: place(plan, "[examine] `matched`"), message: message.into() });
    }
    Ok(language.notes().to_vec())
}

/// Every model can be enlarged to the architecture that curvature is taken in.
fn check_sizes(plan: &SweepPlan, corpus: Option<&Corpus>) -> Result<(), ConfigError> {
    let Some(size) = plan.enlarged() else { return Ok(()) };
    let method = enlargement(plan.examine.enlarge_by);
    // A model that is given has a vocabulary of its own.
    let (tokens, longest) = corpus.map_or((1, 1), |c| (c.vocabulary.len() as u32, c.language.longest() as u32));
    let mut seen = Vec::new();
    for run in &plan.runs {
        let small = run.model_config(tokens, longest);
        if seen.contains(&small) {
            continue;
        }
        if run.given.is_none() {
            run.resolved.config.model.check_vocabulary(tokens)?;
        }
        check_enlarge(&small, sizes(size), method).map_err(|error| {
            let message = format!("the model of `{}` does not fit: {}", run.label, enlarge_text(&error));
            ConfigError { place: place(plan, ENLARGE), message }
        })?;
        seen.push(small);
    }
    Ok(())
}

/// Why a model cannot be enlarged, with the key that would help.
pub(super) fn enlarge_text(error: &EnlargeError) -> String {
    match error {
        EnlargeError::Widened { .. } => format!("{error}; use `enlarge_by = \"duplication\"` for width"),
        _ => error.to_string(),
    }
}

/// The place of an error in a plan.
pub(super) fn place(plan: &SweepPlan, key: &str) -> String {
    format!("sweep {}: {key}", plan.name)
}

/// A key of the probe at a place of the list.
pub(super) fn probe_key(i: usize, key: &str) -> String {
    format!("[[examine.probe]] number {}: `{key}`", i + 1)
}

/// Checks the runs together.
pub(super) fn check_runs(plan: &SweepPlan) -> Result<(), ConfigError> {
    let place = |key: &str| place(plan, key);
    let language = plan.runs[0].resolved.language_hash();
    let all = plan.starts.iter().chain(&plan.runs);
    if let Some(other) = all.clone().find(|run| run.resolved.language_hash() != language) {
        let message = format!(
            "`{}` has another language than `{}`; models are compared within one language, make a sweep for each",
            other.label, plan.runs[0].label
        );
        return Err(ConfigError { place: place("language"), message });
    }
    let asked = |run: &PlannedRun| {
        let objective = &run.resolved.config.objective;
        (objective.kind, objective.positions)
    };
    if let Some(other) = plan.runs.iter().find(|run| asked(run) != asked(&plan.runs[0])) {
        let message = format!(
            "`{}` predicts other words than `{}` (`objective.kind`, `objective.positions`); their losses and traces do \
             not compare, make a sweep for each",
            other.label, plan.runs[0].label
        );
        return Err(ConfigError { place: place("objective"), message });
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
fn check_layer(plan: &SweepPlan, probe: &ProbeSection) -> Result<(), String> {
    let layers = |run: &PlannedRun| run.model_config(1, 1).num_hidden_layers as usize + 1;
    for run in &plan.runs {
        layer_in(probe.layer, layers(run)).map_err(|message| format!("{message} (`{}`)", run.label))?;
    }
    Ok(())
}

/// What is read says something of a sentence in every model.
fn check_features(plan: &SweepPlan, probe: &ProbeSection, longest: usize) -> Result<(), String> {
    for run in plan.runs.iter().filter(|_| probe.method != Method::Finetune) {
        let reach = run.resolved.config.model.model_config(1, longest as u32 + 2).reach();
        let about = |message: String| format!("{message} (`{}`)", run.label);
        probe.pooling(longest).check_reach(reach).map_err(about)?;
    }
    Ok(())
}

/// Every model has positions for padded sentences.
fn check_padding(plan: &SweepPlan, probe: &ProbeSection, longest: usize) -> Result<(), String> {
    for run in &plan.runs {
        let positions = run.model_config(1, longest as u32 + 2).longest();
        let about = |message: String| format!("{message} (`{}`)", run.label);
        probe.pooling(longest).check(positions, longest).map_err(about)?;
    }
    Ok(())
}

/// The language has the task, enough of its sentences have a label, and not all the same.
fn check_probe(language: &dyn Truth, seed: u64, probe: &ProbeSection) -> Result<(), String> {
    let task: Task = probe.task.parse().map_err(|e: UnknownTask| e.to_string())?;
    let about = |error: LabelError| format!("task {task}: {error}");
    if let [one] = task_names(language, task).map_err(about)?.as_slice() {
        return Err(format!("task {task}: all labels are `{one}`; there is nothing to tell apart"));
    }
    let labels = check_task(language, task, probe.with_prior, part_seed(seed, part::TRAIN)).map_err(about)?;
    if labels < 2 {
        // A rarer one may be among the sentences that are asked about; these are drawn to know.
        TaskData::of_language_taught(language, task, probe.with_prior, seed, probe.sizes(), probe.labels)
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The key of the architecture that curvature is taken in.
pub(super) const ENLARGE: &str = "[examine] `enlarge`";

pub(super) fn enlargement(by: EnlargeBy) -> Enlargement {
    match by {
        EnlargeBy::Duplication => Enlargement::Duplicate,
        EnlargeBy::Zeros => Enlargement::Zero,
    }
}

pub(super) fn sizes(size: EnlargeSize) -> Size {
    Size {
        hidden: size.hidden_size,
        layers: size.num_hidden_layers,
        heads: size.num_attention_heads,
        intermediate: size.intermediate_size,
    }
}

impl<'p> Examiner<'p> {
    /// Draws the data of tasks that are to be asked about, which later questions use again.
    ///
    /// # Errors
    /// A task that the language cannot give, with its place in the plan.
    pub fn prepare(&mut self, wanted: &impl Fn(Question<'p>) -> bool) -> Result<(), RunFailure> {
        let plan = self.plan;
        for (i, section) in plan.examine.probe.iter().enumerate() {
            if wanted(Question::Probe(section)) {
                self.data(section).map_err(|failure| match failure {
                    RunFailure::Downstream(error) => {
                        let place = place(plan, &probe_key(i, "task"));
                        ConfigError { place, message: error.to_string() }.into()
                    }
                    other => other,
                })?;
            }
        }
        Ok(())
    }

    /// Whether the adapter has room for what probes that are to be asked read.
    ///
    /// # Errors
    /// The probe that has too many features, with its place in the plan.
    pub fn check_room(&self, gpu: &Gpu, wanted: &impl Fn(Question<'p>) -> bool) -> Result<(), Room> {
        let Material::Language(corpus) = &self.material else { return Ok(()) };
        let longest = corpus.language.max_length();
        for (i, section) in self.plan.examine.probe.iter().enumerate().filter(|(_, s)| s.method == Method::Adamw) {
            if !wanted(Question::Probe(section)) {
                continue;
            }
            let sizes = section.sizes();
            let widths = self.plan.runs.iter().map(|run| {
                let d = run.model_config(1, 1).hidden_size as usize;
                section.pooling(longest).width(d, longest)
            });
            let exact = || Features::exact_width(corpus.objective.kind, corpus.language.as_ref(), longest);
            let looked_up = self.plan.examine.lookup.then(exact);
            let widest = widths.chain(looked_up).max().unwrap_or(0);
            let width = section.projection.map_or(widest, |to| to as usize);
            check_room(gpu, sizes.train + sizes.validation + sizes.test, width)
                .map_err(|room| Room { place: Some(place(self.plan, &probe_key(i, "projection"))), ..room })?;
        }
        Ok(())
    }
}
