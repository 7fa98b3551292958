//! Running a sweep: what is missing is done, what is there is left as it is.
//!
//! A run is claimed while it is worked on, so that several processes may work on one sweep, or on sweeps that share a
//! store; each takes the next run that is free, and looks at the end again for those that others had. A run that fails
//! is said at once and does not stop the others.

use std::path::Path;

use super::check::check;
use super::error::{FailureKind, RunFailure};
use super::examine::{Examiner, Question, Subject, parse};
use super::file::Models;
use super::folder::{self, ABOUT, About, Failed, ModelAt};
use super::plan::{PlannedRun, SweepPlan};
use super::table::LOOKUP;
use crate::config::ConfigError;
use crate::gpu::{Gpu, GpuError};
use crate::interrupt;
use crate::model;
use crate::ops::{Device, KernelChoice, Variants};
use crate::train::{self, Claim, Observer};

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
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Stop at the first failure.
    pub fail_fast: bool,
    /// Try runs again that diverged before.
    pub retry_diverged: bool,
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
struct Worker<'s> {
    plan: &'s SweepPlan,
    open: &'s dyn Fn() -> Result<Gpu, GpuError>,
    gpu: Option<Gpu>,
    kernel_choice: &'s KernelChoice,
    examiner: Examiner<'s>,
    watcher: &'s dyn Watcher,
    options: Options,
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
    let examiner = Examiner::new(plan)?;
    let mut worker = Worker { plan, open, gpu: None, kernel_choice, examiner, watcher, options };
    worker.prepare()?;
    let mut tally = Tally { runs: plan.runs.len(), ..Tally::default() };
    let count = plan.runs.len();
    let mut ready = true;
    for start in &plan.starts {
        ready &= worker.start(start, (0, count), options, &mut tally)?;
    }
    if !ready {
        // Another process makes what runs begin with.
        tally.done = plan.runs.iter().filter(|run| worker.is_done(run)).count();
        tally.claimed_elsewhere = count - tally.done;
        return Ok(tally);
    }
    if let Some(failed) = worker.lookup()? {
        tally.failed.push(failed);
    }
    let mut left: Vec<usize> = (0..count).collect();
    loop {
        let before = left.len();
        let mut elsewhere = Vec::new();
        for i in left {
            let run = &plan.runs[i];
            match worker.one(run, (i + 1, count), options) {
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
    fn gpu(&mut self) -> Result<&Gpu, GpuError> {
        if self.gpu.is_none() {
            self.gpu = Some((self.open)()?);
        }
        Ok(self.gpu.as_ref().expect("just opened"))
    }

    /// The kind of a failure, and the failure in words.
    fn explained(&self, failure: &RunFailure) -> (FailureKind, String) {
        (failure.kind(), self.watcher.explain(failure))
    }

    /// What is written of a failure.
    fn failed(&self, failure: &RunFailure) -> Failed {
        let (kind, message) = self.explained(failure);
        Failed { kind, message }
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
            // What diverged in training; a question that did is left alone where it is asked.
            Some(before)
                if before.kind == FailureKind::Diverged && !options.retry_diverged && !self.plan.has_model(run) =>
            {
                return Err(before.into());
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
    fn start(
        &mut self,
        start: &PlannedRun,
        place: (usize, usize),
        options: Options,
        tally: &mut Tally,
    ) -> Result<bool, RunFailure> {
        match self.one(start, place, options) {
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
        let mut resolved = run.resolved.clone().with_kernels(self.kernel_choice);
        resolved.config.output = Some(folder);
        if let Some(start) = self.plan.start_of(run) {
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
        let is_start = self.plan.is_start(run);
        if is_start && self.plan.examine.models != Models::Checkpoints {
            return Vec::new();
        }
        let mut models = self.plan.models(run);
        if is_start {
            models.retain(|model| model.last);
        }
        models.into_iter().filter(open).collect()
    }

    /// Asks what has no answer yet. A question that fails does not keep the others from being asked.
    fn examine(&mut self, run: &PlannedRun, claim: &Claim) -> Result<(), RunFailure> {
        let mut unanswered = Unanswered::default();
        for at in self.unanswered(run) {
            if let Err(failure) = self.examine_one(run, claim, &at, &mut unanswered) {
                match ends_all(&failure) {
                    true => return Err(failure),
                    false => unanswered.add(at.step, None, self.explained(&failure)),
                }
            }
        }
        unanswered.finish()
    }

    fn examine_one(
        &mut self,
        run: &PlannedRun,
        claim: &Claim,
        at: &ModelAt,
        unanswered: &mut Unanswered,
    ) -> Result<(), RunFailure> {
        let path = at.model.clone();
        let loaded = interrupt::or_stop(move || model::load(&path))??;
        if let Some(given) = &run.given {
            given.check()?;
            let about = About { path: given.path.display().to_string(), parameters: loaded.encoder.parameter_count() };
            folder::write(&self.plan.folder(run).join(ABOUT), &about)?;
            loaded.notes.iter().for_each(|n| self.watcher.note(n));
        }
        let (asked, notes) = self.examiner.asked_of(&loaded)?;
        notes.iter().for_each(|n| self.watcher.note(n));
        let plan = self.plan;
        let kernel_choice = self.kernel_choice.clone();
        let gpu = self.gpu()?;
        let device = device(gpu, run, &kernel_choice)?;
        let mut subject = Subject::new(&device, &loaded, asked, at.step, run)?;
        for question in plan.questions() {
            let path = at.answers.join(question.file(plan));
            if path.exists() {
                continue;
            }
            if interrupt::requested() {
                return Err(RunFailure::Interrupted);
            }
            let failed_path = at.answers.join(question.failure_file(plan));
            if let Some(before) = self.diverged_before(&failed_path) {
                unanswered.add(at.step, Some(question), self.explained(&before));
                continue;
            }
            self.watcher.asks(run, at.step, &question.text());
            let answer = self.examiner.ask(&mut subject, question);
            claim.check()?;
            match answer {
                Ok(answer) => answered(&path, &failed_path, &answer)?,
                Err(failure) if failure.interrupted() => return Err(RunFailure::Interrupted),
                Err(failure) if ends_all(&failure) => return Err(failure),
                Err(failure) => {
                    self.watcher.note(&format!(
                        "{}: {}; the other questions are asked",
                        question.text(),
                        self.watcher.explain(&failure)
                    ));
                    folder::write(&failed_path, &self.failed(&failure))?;
                    unanswered.add(at.step, Some(question), self.explained(&failure));
                }
            }
        }
        Ok(())
    }

    /// The failure of a question that diverged before, unless it is to be asked again.
    fn diverged_before(&self, failed_path: &Path) -> Option<RunFailure> {
        let text = std::fs::read_to_string(failed_path).ok()?;
        let before: Failed = parse(&text)?;
        (before.kind == FailureKind::Diverged && !self.options.retry_diverged).then(|| before.into())
    }

    /// Draws the data of tasks and opens the adapter before anything is trained, where anything is missing, so that a
    /// task without data and an adapter without room for it are found now.
    fn prepare(&mut self) -> Result<(), RunFailure> {
        let plan = self.plan;
        let models: Vec<ModelAt> = plan.runs.iter().flat_map(|run| plan.models(run)).collect();
        let open = |question: Question<'_>| models.iter().any(|at| !at.answers.join(question.file(plan)).exists());
        self.examiner.prepare(&open)?;
        let all = plan.starts.iter().chain(&plan.runs);
        let missing = |run: &PlannedRun| !self.unanswered(run).is_empty() || !plan.has_model(run);
        if all.clone().any(missing) {
            self.gpu()?;
            let gpu = self.gpu.as_ref().expect("opened above");
            self.examiner.check_room(gpu, &open)?;
        }
        Ok(())
    }

    /// Probes of the exact conditionals; gives those that failed, as a run.
    fn lookup(&mut self) -> Result<Option<FailedRun>, RunFailure> {
        let plan = self.plan;
        let mut unanswered = Unanswered::default();
        for (section, path) in plan.lookup_files().into_iter().filter(|_| plan.examine.lookup) {
            if path.exists() {
                continue;
            }
            if interrupt::requested() {
                return Err(RunFailure::Interrupted);
            }
            let question = Question::Probe(section);
            let failed_path = path.with_file_name(question.failure_file(plan));
            if let Some(before) = self.diverged_before(&failed_path) {
                unanswered.add(0, Some(question), self.explained(&before));
                continue;
            }
            self.watcher.note(&format!("lookup table: {}", question.text()));
            let kernel_choice = self.kernel_choice.clone();
            let gpu = self.gpu()?;
            let device = device(gpu, &plan.runs[0], &kernel_choice)?;
            match self.examiner.probe_lookup(&device, section) {
                Ok(answer) => answered(&path, &failed_path, &answer)?,
                Err(failure) if ends_all(&failure) => return Err(failure),
                Err(failure) => {
                    self.watcher.note(&format!(
                        "lookup table, {}: {}",
                        question.text(),
                        self.watcher.explain(&failure)
                    ));
                    folder::write(&failed_path, &self.failed(&failure))?;
                    unanswered.add(0, Some(question), self.explained(&failure));
                }
            }
        }
        Ok(unanswered.finish().err().map(|failure| FailedRun {
            run: LOOKUP.into(),
            label: "lookup table".into(),
            seed: plan.examine.seed,
            kind: failure.kind(),
            message: self.watcher.explain(&failure),
        }))
    }
}

/// Keeps an answer in the place of an earlier failure.
fn answered(path: &Path, failed_path: &Path, answer: &impl serde::Serialize) -> Result<(), RunFailure> {
    folder::write(path, answer)?;
    match failed_path.exists() {
        true => std::fs::remove_file(failed_path).map_err(RunFailure::io(failed_path)),
        false => Ok(()),
    }
}

/// Whether nothing else can be asked either: interrupted, no adapter or none any more, a folder that cannot be written.
fn ends_all(failure: &RunFailure) -> bool {
    [FailureKind::Interrupted, FailureKind::NoAdapter].contains(&failure.kind())
        || failure.lost()
        || matches!(failure, RunFailure::Io { .. })
}

/// Questions that have no answer: the first one's failure, and how many there are.
#[derive(Default)]
struct Unanswered {
    first: Option<(FailureKind, String)>,
    count: usize,
}

impl Unanswered {
    fn add(&mut self, step: u64, question: Option<Question<'_>>, failure: (FailureKind, String)) {
        self.count += 1;
        self.first.get_or_insert_with(|| {
            let model = || if step == 0 { "the model".into() } else { format!("the model at step {step}") };
            let what = question.map_or_else(model, |q| q.text());
            let (kind, why) = failure;
            (kind, format!("{what}: {why}"))
        });
    }

    fn finish(self) -> Result<(), RunFailure> {
        let Some((kind, message)) = self.first else { return Ok(()) };
        let others = match self.count {
            1 => String::new(),
            n => format!(" (the first of {n} questions without an answer)"),
        };
        Err(RunFailure::Unanswered { kind, message: message + &others })
    }
}

/// The adapter with the kernel variants of a run's examinations.
fn device(gpu: &Gpu, run: &PlannedRun, kernel_choice: &KernelChoice) -> Result<Device, RunFailure> {
    let of_config =
        run.resolved.config.adapter.kernel_choice().map_err(|error| ConfigError::at("adapter.variant", error))?;
    let caps = gpu.capabilities();
    let mut variants = Variants::choose(caps);
    for asked in [&of_config, kernel_choice] {
        variants = asked.apply(variants, caps).map_err(|error| ConfigError::at(asked.place(), error))?;
    }
    Ok(Device::new(gpu, variants))
}
