//! Asking the models of a sweep what has no answer yet.

use std::path::Path;

use super::attempt;
use super::error::{FailureKind, RunFailure};
use super::examine::Subject;
use super::file::Models;
use super::folder::{self, ABOUT, About, Failed, ModelAt};
use super::plan::PlannedRun;
use super::question::{Question, parse};
use super::run::{FailedRun, Worker, wait};
use super::table::LOOKUP;
use super::tidy;
use crate::config::ConfigError;
use crate::gpu::Gpu;
use crate::interrupt;
use crate::model;
use crate::ops::{Device, KernelChoice, Variants};
use crate::train::Claim;

impl Worker<'_> {
    /// The models with questions that have no answer yet.
    pub(super) fn unanswered(&self, run: &PlannedRun) -> Vec<ModelAt> {
        let open = |model: &ModelAt| {
            self.plan.asked(run, model).iter().any(|q| !model.answers.join(q.file(self.plan)).exists())
        };
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
    pub(super) fn examine(&mut self, run: &PlannedRun, claim: &Claim) -> Result<(), RunFailure> {
        let mut unanswered = Unanswered::default();
        if self.plan.examine.matched.is_some() {
            // Which checkpoints are asked more is said by the losses of all.
            self.examine_all(run, claim, &mut unanswered)?;
        }
        self.examine_all(run, claim, &mut unanswered)?;
        unanswered.finish()
    }

    fn examine_all(&mut self, run: &PlannedRun, claim: &Claim, unanswered: &mut Unanswered) -> Result<(), RunFailure> {
        for at in self.unanswered(run) {
            if let Err(failure) = self.examine_one(run, claim, &at, unanswered) {
                match ends_all(&failure) {
                    true => return Err(failure),
                    false => unanswered.add(at.step, None, self.explained(&failure)),
                }
            }
        }
        Ok(())
    }

    fn examine_one(
        &mut self,
        run: &PlannedRun,
        claim: &Claim,
        at: &ModelAt,
        unanswered: &mut Unanswered,
    ) -> Result<(), RunFailure> {
        let path = at.model.clone();
        let own = interrupt::or_stop(move || model::load(&path))??;
        if let Some(given) = &run.given {
            given.check()?;
            let about = About { path: given.path.display().to_string(), parameters: own.encoder.parameter_count() };
            folder::write(&self.plan.folder(run).join(ABOUT), &about)?;
            own.notes.iter().for_each(|n| self.watcher.note(n));
        }
        let gauged = at.gauge.map(|i| self.plan.gauges[i].apply(&own)).transpose()?;
        let loaded = gauged.as_ref().unwrap_or(&own);
        let (asked, notes) = self.examiner.asked_of(loaded)?;
        notes.iter().for_each(|n| self.watcher.note(n));
        let plan = self.plan;
        let kernel_choice = self.kernel_choice.clone();
        let gpu = self.gpu()?;
        let device = device(gpu, run, &kernel_choice)?;
        let mut subject = Subject::new(&device, loaded, asked, at.step, run)?;
        subject.original = gauged.is_some().then_some(&own);
        for question in plan.asked(run, at) {
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
            match answer {
                // Another one took over, and was first.
                Ok(answer) if path.exists() => {
                    let what = format!("{}, step {}", question.text(), at.step);
                    attempt::late_answer(&plan.folder(run), &what, &path, &answer)?;
                }
                Ok(answer) => answered(&path, &failed_path, &answer)?,
                Err(failure) if failure.interrupted() => return Err(RunFailure::Interrupted),
                Err(failure) if ends_all(&failure) => return Err(failure),
                Err(failure) => {
                    claim.check()?;
                    self.watcher.note(&format!(
                        "{}: {}; the other questions are asked",
                        question.text(),
                        self.watcher.explain(&failure)
                    ));
                    folder::write(&failed_path, &self.failed(&failure))?;
                    unanswered.add(at.step, Some(question), self.explained(&failure));
                }
            }
            claim.check()?;
        }
        Ok(())
    }

    /// The failure of a question that diverged before, unless it is to be asked again.
    fn diverged_before(&self, failed_path: &Path) -> Option<RunFailure> {
        let text = std::fs::read_to_string(failed_path).ok()?;
        let before: Failed = parse(&text)?;
        let same_crew = before.crew.is_some() && before.crew == self.options.crew;
        let diverged = before.kind == FailureKind::Diverged && !self.options.retry_diverged;
        (same_crew || diverged).then(|| before.into())
    }

    /// Draws the data of tasks and opens the adapter before anything is trained, where anything is missing, so that a
    /// task without data and an adapter without room for it are found now.
    pub(super) fn prepare(&mut self, of: &[usize]) -> Result<(), RunFailure> {
        let plan = self.plan;
        let runs: Vec<&PlannedRun> = of.iter().map(|i| &plan.runs[*i]).collect();
        let missing = |run: &PlannedRun| !self.unanswered(run).is_empty() || !plan.has_model(run);
        if !plan.starts.iter().chain(runs.iter().copied()).any(missing) {
            return Ok(());
        }
        let models: Vec<ModelAt> = runs.iter().flat_map(|run| plan.models(run)).collect();
        let open = |question: Question<'_>| models.iter().any(|at| !at.answers.join(question.file(plan)).exists());
        self.examiner.prepare(&open)?;
        self.gpu()?;
        let gpu = self.gpu.as_ref().expect("opened above");
        self.examiner.check_room(gpu, &open)?;
        Ok(())
    }

    /// Probes of the exact conditionals; gives those that failed, as a run.
    pub(super) fn lookup(&mut self) -> Result<Option<FailedRun>, RunFailure> {
        let plan = self.plan;
        let mut unanswered = Unanswered::default();
        let files: Vec<_> = plan.lookup_files().into_iter().filter(|_| plan.examine.lookup).collect();
        let missing = files.iter().find(|(_, path)| !path.exists());
        let _claim = missing.and_then(|(_, path)| path.parent()).map(claimed_in_time).transpose()?;
        for (section, path) in files {
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

/// The claim of a folder, as soon as others are done with it.
fn claimed_in_time(folder: &Path) -> Result<Claim, RunFailure> {
    loop {
        if let Some(claim) = folder::claim(folder)? {
            tidy::tidy(folder)?;
            return Ok(claim);
        }
        wait()?;
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
