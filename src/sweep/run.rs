//! Running a sweep: what is missing is done, what is there is left as it is.
//!
//! A run is claimed while it is worked on, so that several processes may work on one sweep, or on sweeps that share a
//! store; each takes the next run that is free, and looks at the end again for those that others had. A run that fails
//! is said at once and does not stop the others.

use std::time::Duration;

use super::attempt::{Attempt, End};
use super::check::check;
use super::error::{FailureKind, RunFailure};
use super::examine::Examiner;
use super::folder::{self, Failed};
use super::plan::{PlannedRun, SweepPlan};
use super::tidy;
use crate::config::ConfigError;
use crate::gpu::{Gpu, GpuError};
use crate::interrupt;
use crate::ops::KernelChoice;
use crate::train::{self, Holder, Observer, RunError};

/// Hears how a sweep goes.
pub trait Watcher: Observer {
    /// Run number `number` (from 1) of `of` is begun, or gone on with.
    fn begins(&self, number: usize, of: usize, run: &PlannedRun);
    /// A model is asked something.
    fn asks(&self, run: &PlannedRun, step: u64, what: &str);
    /// A run came to nothing.
    fn fails(&self, run: &PlannedRun, failure: &RunFailure);
    /// A failure in words for people, as the sweep's files keep it: the facts, and what would help where that is known.
    fn explain(&self, failure: &RunFailure) -> String {
        failure.to_string()
    }
}

/// The options of a run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop at the first failure.
    pub fail_fast: bool,
    /// Try runs again that diverged before.
    pub retry_diverged: bool,
    /// One of several workers that were started together, by a name for them: what failed with one of them is not tried
    /// by the others, and what the others make that it needs is waited for.
    pub crew: Option<String>,
    /// Of the plan's runs this one alone, counted from 0; what it begins with is made or waited for.
    pub only: Option<usize>,
}

impl Options {
    /// Whether what others make is waited for.
    fn waits(&self) -> bool {
        self.crew.is_some() || self.only.is_some()
    }
}

/// The state of the runs when there is nothing more to do here.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Tally {
    /// Runs of the plan.
    pub runs: usize,
    /// Runs that are trained and examined.
    pub done: usize,
    /// Left in the hands of other processes.
    pub claimed_elsewhere: usize,
    /// Runs without a result, in the order of the plan.
    pub failed: Vec<FailedRun>,
}

/// A run without a result.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FailedRun {
    /// Id of the run.
    pub run: String,
    /// What the sweep sets, in words.
    pub label: String,
    /// Seed of the run.
    pub seed: u64,
    /// As the number that the program would end with.
    #[serde(rename = "exit_code")]
    pub kind: FailureKind,
    /// What went wrong and what would help.
    pub message: String,
}

/// The means to run a sweep; the adapter is opened when something is missing, and again when it was lost.
pub(super) struct Worker<'s> {
    pub(super) plan: &'s SweepPlan,
    pub(super) open: &'s dyn Fn() -> Result<Gpu, GpuError>,
    pub(super) gpu: Option<Gpu>,
    pub(super) kernel_choice: &'s KernelChoice,
    pub(super) examiner: Examiner<'s>,
    pub(super) watcher: &'s dyn Watcher,
    pub(super) options: Options,
}

/// A name for [`Options::crew`] that nobody else has.
pub fn crew_name() -> String {
    Holder::here().token().to_string()
}

/// Does what is missing of a sweep.
///
/// # Errors
/// [`RunFailure::Interrupted`] (also of a training run) after an interrupt; no adapter; what is wrong with the plan as
/// a whole. Failures of single runs are in the tally.
pub fn run(
    plan: &SweepPlan,
    open: &dyn Fn() -> Result<Gpu, GpuError>,
    kernel_choice: &KernelChoice,
    options: Options,
    watcher: &dyn Watcher,
) -> Result<Tally, RunFailure> {
    check(plan)?;
    plan.freeze()?;
    let examiner = Examiner::new(plan)?;
    let count = plan.runs.len();
    let mut left: Vec<usize> = match options.only {
        Some(one) if one < count => vec![one],
        Some(one) => return Err(ConfigError::at("the plan", NoSuchRun { number: one + 1, count }).into()),
        None => (0..count).collect(),
    };
    let mut worker = Worker { plan, open, gpu: None, kernel_choice, examiner, watcher, options: options.clone() };
    worker.prepare(&left)?;
    let mut tally = Tally { runs: left.len(), ..Tally::default() };
    let mut ready = true;
    let needed = |start: &&PlannedRun| left.iter().any(|i| plan.runs[*i].start.as_ref() == Some(&start.id));
    for start in plan.starts.iter().filter(needed) {
        while !worker.start(start, (0, count), &mut tally)? {
            if !options.waits() {
                ready = false;
                break;
            }
            wait()?;
        }
    }
    if !ready {
        // Another process makes what runs begin with.
        tally.done = left.iter().filter(|i| worker.is_done(&plan.runs[**i])).count();
        tally.claimed_elsewhere = left.len() - tally.done;
        return Ok(tally);
    }
    if let Some(failed) = worker.lookup()? {
        tally.failed.push(failed);
    }
    loop {
        let before = left.len();
        let mut elsewhere = Vec::new();
        for i in left {
            let run = &plan.runs[i];
            match worker.one(run, (i + 1, count)) {
                Ok(true) => tally.done += 1,
                Ok(false) => elsewhere.push(i),
                Err(failure) if failure.interrupted() || failure.kind() == FailureKind::NoAdapter => {
                    return Err(failure);
                }
                Err(failure) => {
                    watcher.fails(run, &failure);
                    if failure.lost() {
                        worker.gpu = None;
                    }
                    tally.failed.push(FailedRun {
                        run: run.id.clone(),
                        label: run.label.clone(),
                        seed: run.seed,
                        kind: failure.kind(),
                        message: watcher.explain(&failure),
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

impl Worker<'_> {
    /// The adapter.
    pub(super) fn gpu(&mut self) -> Result<&Gpu, GpuError> {
        if self.gpu.is_none() {
            self.gpu = Some((self.open)()?);
        }
        Ok(self.gpu.as_ref().expect("just opened"))
    }

    /// The kind of a failure, and the failure in words.
    pub(super) fn explained(&self, failure: &RunFailure) -> (FailureKind, String) {
        (failure.kind(), self.watcher.explain(failure))
    }

    /// What is written of a failure.
    pub(super) fn failed(&self, failure: &RunFailure) -> Failed {
        let (kind, message) = self.explained(failure);
        Failed { kind, message, crew: self.options.crew.clone() }
    }

    /// Does what is missing of a run; false while another process has it.
    fn one(&mut self, run: &PlannedRun, place: (usize, usize)) -> Result<bool, RunFailure> {
        let folder = self.plan.folder(run);
        if self.is_done(run) && !tidy::is_untidy(&folder) {
            return Ok(true);
        }
        let Some(claim) = folder::claim(&folder)? else { return Ok(self.is_done(run)) };
        // The one that had it may have ended a moment ago, or was killed in the middle of its end.
        if self.is_done(run) || tidy::is_untidy(&folder) && self.plan.has_model(run) {
            tidy::tidy(&folder)?;
            if self.is_done(run) {
                return Ok(true);
            }
        }
        let failure = folder.join("failure.json");
        match folder::failed(&folder) {
            // What diverged in training; a question that did is left alone where it is asked.
            Some(before)
                if before.kind == FailureKind::Diverged
                    && !self.options.retry_diverged
                    && !self.plan.has_model(run) =>
            {
                return Err(before.into());
            }
            Some(before) if before.crew.is_some() && before.crew == self.options.crew => return Err(before.into()),
            _ => {}
        }
        self.watcher.begins(place.0, place.1, run);
        let done = self.train(run).and_then(|()| self.examine(run, &claim));
        if done.is_ok() && claim.check().is_ok() {
            tidy::tidy(&folder)?;
        }
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
            Err(error) if error.interrupted() => {}
            Err(error) => {
                folder::write(&failure, &self.failed(error))?;
            }
        }
        done.map(|()| true)
    }

    /// Whether nothing is missing of a run.
    fn is_done(&self, run: &PlannedRun) -> bool {
        self.unanswered(run).is_empty() && self.plan.has_model(run)
    }

    /// A run that others begin with. They do so where it is trained, whether all questions to it have an answer or not.
    fn start(&mut self, start: &PlannedRun, place: (usize, usize), tally: &mut Tally) -> Result<bool, RunFailure> {
        match self.one(start, place) {
            Err(failure @ RunFailure::Unanswered { .. }) => {
                self.watcher.fails(start, &failure);
                tally.failed.push(FailedRun {
                    run: start.id.clone(),
                    label: start.label.clone(),
                    seed: start.seed,
                    kind: failure.kind(),
                    message: self.watcher.explain(&failure),
                });
                Ok(true)
            }
            done => done,
        }
    }

    fn train(&mut self, run: &PlannedRun) -> Result<(), RunFailure> {
        let folder = self.plan.folder(run);
        if self.plan.has_model(run) {
            return Ok(());
        }
        let lock = folder.join(train::CLAIM);
        if train::is_claimed(&lock) {
            let by = Holder::read(&lock).map_or("another process".into(), |holder| holder.to_string());
            return Err(RunError::Claimed { folder, by }.into());
        }
        let attempt = Attempt::begin(&folder)?;
        let mut resolved = run.resolved.clone().with_kernels(self.kernel_choice);
        resolved.config.output = Some(attempt.folder.clone());
        if let Some(start) = self.plan.start_of(run) {
            resolved.config.train.start_from = Some(self.plan.folder(start).join("model"));
        }
        let watcher = self.watcher;
        let trained = match self.gpu() {
            Ok(gpu) => train::run(gpu, &resolved, watcher),
            Err(error) => Err(error.into()),
        };
        match &trained {
            Ok(_) | Err(RunError::Diverged { .. }) => match attempt.publish(&resolved)? {
                End::First => {}
                End::Late(same) => watcher.note(&format!(
                    "{}: another process had trained it; the result is {}",
                    run.id,
                    if same { "the same" } else { "ANOTHER: see attempts in its folder" }
                )),
            },
            // What ended it is what is told.
            Err(_) => drop(attempt.release()),
        }
        trained?;
        Ok(())
    }
}

/// A number that no run of the plan has.
#[derive(Debug, thiserror::Error)]
#[error("has {count} runs, and none has number {number}")]
struct NoSuchRun {
    number: usize,
    count: usize,
}

/// Time between two looks at what others make.
const LOOK: Duration = Duration::from_millis(500);

/// Waits a moment for others.
pub(super) fn wait() -> Result<(), RunFailure> {
    std::thread::sleep(LOOK);
    match interrupt::requested() {
        true => Err(RunFailure::Interrupted),
        false => Ok(()),
    }
}
