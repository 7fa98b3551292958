//! Running a sweep: what is missing is done, what is there is left as it is.
//!
//! A run is claimed while it is worked on, so that several processes may work on one sweep, or on sweeps that share a
//! store; each takes the next run that is free, and looks at the end again for those that others had. A run that fails is
//! said at once and does not stop the others.

use super::error::RunFailure;
use super::examine::{Examiner, Subject};
use super::file::Models;
use super::folder::{self, Failed, ModelAt};
use super::plan::{Plan, PlannedRun};
use crate::config::ConfigError;
use crate::curvature::CurvatureError;
use crate::gpu::{Gpu, GpuError};
use crate::model;
use crate::ops::{Variants, Wishes};
use crate::train::{self, Claim, Observer, interrupt_requested};

/// Who watches a sweep.
pub trait Watcher: Observer {
    /// Run number `number` (from 1) of `of` is begun, or gone on with.
    fn begins(&self, number: usize, of: usize, run: &PlannedRun);
    /// A model is asked something.
    fn asks(&self, run: &PlannedRun, step: u64, what: &str);
    /// A run came to nothing.
    fn fails(&self, run: &PlannedRun, failure: &RunFailure);
}

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Stop at the first failure.
    pub fail_fast: bool,
    /// Try runs again that diverged before.
    pub retry_diverged: bool,
}

/// How the runs stand when there is nothing more to do here.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    pub runs: usize,
    pub done: usize,
    /// Left in the hands of other processes.
    pub claimed_elsewhere: usize,
    pub failed: Vec<FailedRun>,
}

/// A run without a result.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FailedRun {
    pub run: String,
    pub label: String,
    pub seed: u64,
    pub exit_code: u8,
    pub message: String,
}

/// What a sweep is run with; the adapter is opened when something is missing, and again when it was lost.
struct Worker<'s> {
    plan: &'s Plan,
    open: &'s dyn Fn() -> Result<Gpu, GpuError>,
    gpu: Option<Gpu>,
    wishes: &'s Wishes,
    examiner: Examiner<'s>,
    watcher: &'s dyn Watcher,
}

/// Does what is missing of a sweep.
///
/// # Errors
/// [`RunFailure::Interrupted`] (also of a training run) after an interrupt; no adapter; what is wrong with the plan as a
/// whole. Failures of single runs are in the tally.
pub fn run(
    plan: &Plan,
    open: &dyn Fn() -> Result<Gpu, GpuError>,
    wishes: &Wishes,
    options: Options,
    watcher: &dyn Watcher,
) -> Result<Tally, RunFailure> {
    check(plan)?;
    let examiner = Examiner::new(plan)?;
    let mut worker = Worker { plan, open, gpu: None, wishes, examiner, watcher };
    let mut tally = Tally { runs: plan.runs.len(), ..Tally::default() };
    let count = plan.runs.len();
    if let Some(start) = &plan.start
        && !worker.one(start, (0, count), options)?
    {
        // Without it nothing can begin.
        tally.done = plan.runs.iter().filter(|run| worker.is_done(run)).count();
        tally.claimed_elsewhere = count - tally.done;
        return Ok(tally);
    }
    worker.lookup()?;
    let mut left: Vec<usize> = (0..count).collect();
    loop {
        let before = left.len();
        let mut elsewhere = Vec::new();
        for i in left {
            let run = &plan.runs[i];
            match worker.one(run, (i + 1, count), options) {
                Ok(true) => tally.done += 1,
                Ok(false) => elsewhere.push(i),
                Err(failure) if failure.exit_code() == 75 || failure.exit_code() == 6 => return Err(failure),
                Err(failure) => {
                    watcher.fails(run, &failure);
                    if failure.lost() {
                        worker.gpu = None;
                    }
                    tally.failed.push(FailedRun {
                        run: run.id.clone(),
                        label: run.label.clone(),
                        seed: run.seed,
                        exit_code: failure.exit_code(),
                        message: failure.to_string(),
                    });
                    if options.fail_fast {
                        tally.claimed_elsewhere = elsewhere.len();
                        return Ok(tally);
                    }
                }
            }
        }
        tally.claimed_elsewhere = elsewhere.len();
        // While there was something to do here, others may have ended.
        if elsewhere.is_empty() || elsewhere.len() == before {
            return Ok(tally);
        }
        left = elsewhere;
    }
}

/// What cannot be of the plan as a whole.
pub(super) fn check(plan: &Plan) -> Result<(), ConfigError> {
    let place = |key: &str| format!("sweep {}: {key}", plan.name);
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

impl Worker<'_> {
    /// The adapter.
    fn gpu(&mut self) -> Result<&Gpu, GpuError> {
        if self.gpu.is_none() {
            self.gpu = Some((self.open)()?);
        }
        Ok(self.gpu.as_ref().expect("just opened"))
    }

    /// Does what is missing of a run; false while another process has it.
    fn one(&mut self, run: &PlannedRun, place: (usize, usize), options: Options) -> Result<bool, RunFailure> {
        let folder = self.plan.folder(run);
        if self.is_done(run) {
            return Ok(true);
        }
        let Some(claim) = folder::claim(&folder)? else { return Ok(false) };
        // The one that had it may have ended a moment ago.
        if self.is_done(run) {
            return Ok(true);
        }
        let failure = folder.join("failure.json");
        match folder::failed(&folder) {
            Some(before) if before.exit_code == 3 && !options.retry_diverged => {
                let message = format!("{} (in an earlier attempt; --retry-diverged tries again)", before.message);
                return Err(RunFailure::Before { code: before.exit_code, message });
            }
            _ => {}
        }
        self.watcher.begins(place.0, place.1, run);
        let done = self.train(run).and_then(|()| self.examine(run, &claim));
        // What failed may have failed because another one works there.
        let done = done.map_err(|failure| claim.check().err().map_or(failure, RunFailure::Lost));
        match &done {
            Ok(()) => {
                if failure.exists() {
                    std::fs::remove_file(&failure).map_err(RunFailure::io(&failure))?;
                }
            }
            Err(error) if error.is_elsewhere() => {
                self.watcher.note(&error.to_string());
                return Ok(false);
            }
            Err(error) if error.exit_code() == 75 => {}
            Err(error) => {
                folder::write(&failure, &Failed { exit_code: error.exit_code(), message: error.to_string() })?;
            }
        }
        done.map(|()| true)
    }

    /// Whether nothing is missing of a run.
    fn is_done(&self, run: &PlannedRun) -> bool {
        self.unanswered(run).is_empty() && folder::result(&self.plan.folder(run)).is_some()
    }

    fn train(&mut self, run: &PlannedRun) -> Result<(), RunFailure> {
        let folder = self.plan.folder(run);
        if folder::result(&folder).is_some() {
            return Ok(());
        }
        let mut resolved = run.resolved.clone().wishing(self.wishes);
        resolved.config.output = Some(folder);
        if let Some(start) = self.plan.start.as_ref().filter(|start| start.id != run.id) {
            resolved.config.train.start_from = Some(self.plan.folder(start).join("model"));
        }
        let watcher = self.watcher;
        train::run(self.gpu()?, &resolved, watcher)?;
        Ok(())
    }

    /// The models with questions that have no answer yet.
    fn unanswered(&self, run: &PlannedRun) -> Vec<ModelAt> {
        let questions = self.plan.questions();
        let open = |model: &ModelAt| questions.iter().any(|q| !model.answers.join(q.file(self.plan)).exists());
        let is_start = self.plan.start.as_ref().is_some_and(|start| start.id == run.id);
        if is_start && self.plan.examine.models != Models::Checkpoints {
            return Vec::new();
        }
        let mut models = self.plan.models(run);
        if is_start {
            models.retain(|model| model.last);
        }
        models.into_iter().filter(open).collect()
    }

    fn examine(&mut self, run: &PlannedRun, claim: &Claim) -> Result<(), RunFailure> {
        for at in self.unanswered(run) {
            let loaded = model::load(&at.model)?;
            let plan = self.plan;
            let wishes = self.wishes.clone();
            let gpu = self.gpu()?;
            let variants = variants(gpu, run, &wishes)?;
            let mut subject = Subject::new(gpu, &loaded, at.step, run, variants)?;
            for question in plan.questions() {
                let path = at.answers.join(question.file(plan));
                if path.exists() {
                    continue;
                }
                if interrupt_requested() {
                    return Err(RunFailure::Interrupted);
                }
                self.watcher.asks(run, at.step, &question.text());
                let gpu = self.gpu.as_ref().expect("opened above");
                let answer = self.examiner.ask(gpu, &mut subject, question).map_err(|failure| match failure {
                    RunFailure::Curvature(CurvatureError::Interrupted) => RunFailure::Interrupted,
                    other => other,
                })?;
                claim.check()?;
                folder::write(&path, &answer)?;
            }
        }
        Ok(())
    }

    /// Probes of the exact conditionals.
    fn lookup(&mut self) -> Result<(), RunFailure> {
        if !self.plan.examine.lookup {
            return Ok(());
        }
        let plan = self.plan;
        for (section, path) in plan.lookup_files() {
            if path.exists() {
                continue;
            }
            if interrupt_requested() {
                return Err(RunFailure::Interrupted);
            }
            self.watcher.note(&format!("lookup table: task {}", section.name(&section.task)));
            let wishes = self.wishes.clone();
            let gpu = self.gpu()?;
            let variants = variants(gpu, &plan.runs[0], &wishes)?;
            let gpu = self.gpu.as_ref().expect("opened above");
            folder::write(&path, &self.examiner.probe_lookup(gpu, &variants, section)?)?;
        }
        Ok(())
    }
}

/// The kernel variants of a run's examinations.
fn variants(gpu: &Gpu, run: &PlannedRun, wishes: &Wishes) -> Result<Variants, RunFailure> {
    let refused = |place: &str| {
        let place = place.to_string();
        move |message| ConfigError { place, message }
    };
    let caps = gpu.capabilities();
    let own = run.resolved.config.adapter.wishes().map_err(refused("adapter.variant"))?;
    let variants = own.apply(Variants::choose(caps), caps).map_err(refused("adapter.variant"))?;
    Ok(wishes.apply(variants, caps).map_err(refused("--variant"))?)
}
