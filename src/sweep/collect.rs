//! The table of a sweep from what is there, and how each run stands.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::attempt;
use super::average::Averaging;
use super::check::check_runs;
use super::conventions::TraceConventions;
use super::error::RunFailure;
use super::folder::{self, ABOUT, About, Failed, ModelAt};
use super::gauge::Gauged;
use super::plan::{PlannedRun, SweepPlan, short};
use super::probe_section::{Method, ProbeSection};
use super::question::{Aligned, Curved, Probed, Question, parse};
use super::table::{LOOKUP, Missing, Row, Table};
use super::tidy;
use crate::config::{ObjectiveKind, OptimizerKind, TrainSection, as_text};
use crate::train::{Corpus, Evaluation, ExampleLoss};

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Trained and examined.
    Done,
    /// A process works on it.
    Running,
    /// Trained or examined in part.
    Partial,
    /// It has no result, and why is in its folder.
    Failed,
    /// Not begun.
    Missing,
}

/// A run's state with what there is of it.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Id of the run.
    pub run: String,
    /// What the sweep sets, in words.
    pub label: String,
    /// Seed of the run.
    pub seed: u64,
    /// Where it stands.
    pub state: State,
    /// Steps trained, by the newest checkpoint.
    pub step: u64,
    /// Steps of its config.
    pub steps: u64,
    /// Questions to its models that are answered.
    pub answers: usize,
    /// Questions that there are.
    pub questions: usize,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Folder of the run.
    #[serde(serialize_with = "as_text")]
    pub folder: PathBuf,
}

impl SweepPlan {
    /// The state of each run, in the plan's order; the runs that others begin with come first.
    pub fn status(&self) -> Vec<Standing> {
        self.starts.iter().chain(&self.runs).map(|run| self.standing(run)).collect()
    }

    fn standing(&self, run: &PlannedRun) -> Standing {
        let folder = self.folder(run);
        let steps = run.resolved.config.train.steps;
        let mut models = if self.is_start(run) { Vec::new() } else { self.models(run) };
        // What is asked of the model that it begins with is no part of it.
        models.retain(|model| model.answers.starts_with(&folder));
        let asked: Vec<_> = models.iter().map(|model| self.asked(run, model)).collect();
        let answered = |(model, asked): (&ModelAt, &Vec<Question<'_>>)| {
            asked.iter().filter(|q| model.answers.join(q.file(self)).exists()).count()
        };
        let answers = models.iter().zip(&asked).map(answered).sum();
        let questions = asked.iter().map(Vec::len).sum();
        let trained = self.has_model(run);
        let steps = if run.given.is_some() { 0 } else { steps };
        let step = if trained { steps } else { attempt::newest_step(&folder) };
        let failed = folder::failed(&folder);
        let state = match () {
            () if trained && answers == questions => State::Done,
            () if folder::is_claimed(&folder) => State::Running,
            () if failed.is_some() => State::Failed,
            () if step > 0 || answers > 0 => State::Partial,
            () => State::Missing,
        };
        Standing {
            run: run.id.clone(),
            label: run.label.clone(),
            seed: run.seed,
            state,
            step,
            steps,
            answers,
            questions,
            failure: failed.filter(|_| state == State::Failed).map(|f| f.message),
            folder,
        }
    }

    /// Tasks of the lookup table with the files of their answers; what fine-tunes an encoder has none.
    pub(super) fn lookup_files(&self) -> Vec<(&ProbeSection, PathBuf)> {
        let probes = self.examine.probe.iter().filter(|p| p.method != Method::Finetune && p.layer == -1);
        let language = self.language_hash();
        // Words masked and next words have tables of their own.
        let folder = match self.runs[0].resolved.config.objective.kind {
            ObjectiveKind::Mlm => self.store.join(format!("lookup-{language}")),
            ObjectiveKind::Causal => self.store.join(format!("lookup-next-{language}")),
        };
        probes.map(|p| (p, folder.join(Question::Probe(p).file(self)))).collect()
    }

    /// The table of what is there. Nothing is run.
    ///
    /// # Errors
    /// A plan that cannot be; an answer that cannot be read.
    pub fn collect(&self) -> Result<Table, RunFailure> {
        check_runs(self)?;
        let resolved = &self.runs[0].resolved;
        let config = &resolved.config;
        let language = match &self.examples {
            Some(examples) => {
                format!("examples of {}", examples.path.file_name().unwrap_or_default().to_string_lossy())
            }
            None => {
                let corpus = Corpus::open(&config.language, &config.objective, self.examine.seed)?;
                format!("{}, {} words", config.language.kind.name(), corpus.language.vocabulary().len())
            }
        };
        let mut table = Table {
            format: Table::FORMAT,
            name: self.name.clone(),
            intervention: self.intervention.clone(),
            language,
            language_hash: self.language_hash(),
            objective: self.objective_kind(),
            saturation_bound: self.saturation_bound,
            seed: self.examine.seed,
            tasks: Vec::new(),
            collapse: self.collapse.clone(),
            registration: self.registration(None)?,
            rows: Vec::new(),
            missing: Vec::new(),
        };
        for run in &self.runs {
            let (mut absent, mut rows) = (None, Vec::new());
            for at in self.models(run) {
                match self.row(run, &at, &mut table)? {
                    Some(row) => rows.push(row),
                    None => absent = absent.or(Some(at.step)),
                }
            }
            match &self.examine.matched {
                None => table.rows.extend(rows),
                Some(matched) => {
                    let (rows, none) = self.matched_rows(matched, &rows);
                    table.rows.extend(rows);
                    if absent.is_none() {
                        table.missing.extend(none.into_iter().map(|(level, reason)| Missing {
                            run: run.id.clone(),
                            label: format!("{}, at {level} nats", run.label),
                            seed: run.seed,
                            reason,
                        }));
                    }
                }
            }
            if let Some(step) = absent {
                let standing = self.standing(run);
                let reason = match (standing.state, standing.failure) {
                    (_, Some(failure)) => failure,
                    (State::Missing, _) => "not begun".into(),
                    _ if run.given.is_some() => "not examined".into(),
                    _ if standing.step < standing.steps => {
                        format!("trained to step {} of {}", standing.step, standing.steps)
                    }
                    _ => format!("not examined at step {step}"),
                };
                let (run, label, seed) = (run.id.clone(), run.label.clone(), run.seed);
                table.missing.push(Missing { run, label, seed, reason });
            }
        }
        if self.collapse.as_ref().is_some_and(|collapse| collapse.speed) {
            self.displacements(&mut table.rows)?;
        }
        if self.examine.lookup {
            self.lookup_row(&mut table)?;
        }
        Ok(table)
    }

    /// A model's row with what is known, when any of its answers is there.
    fn row(&self, run: &PlannedRun, at: &ModelAt, table: &mut Table) -> Result<Option<Row>, RunFailure> {
        let Some(known) = self.known_before(run, at) else { return Ok(None) };
        let mut row = Row {
            run: run.id.clone(),
            group: run.group.clone(),
            label: run.label.clone(),
            seed: run.seed,
            values: run.values.clone(),
            step: at.step,
            last: at.last,
            ..known
        };
        if let Some(gauge) = at.gauge.map(|i| &self.gauges[i]) {
            row.drawn_with = row.drawn_with.or_else(|| Some(row.run.clone()));
            row.run = format!("{}-{}", row.run, gauge.folder());
            row.group = short(&format!("{} {}", row.group, gauge.folder()));
            row.label = format!("{}, {}", row.label, gauge.name());
            row.values.extend(gauge.values());
        }
        let mut answers = 0;
        for question in self.asked(run, at) {
            let path = at.answers.join(question.file(self));
            let Ok(text) = std::fs::read_to_string(&path) else {
                row.notes.push(self.unanswered(question, &at.answers.join(question.failure_file(self))));
                continue;
            };
            answers += 1;
            let damaged = || {
                let message = "is damaged; remove it and run the sweep again";
                RunFailure::Io { path: path.clone(), source: std::io::Error::other(message) }
            };
            match question {
                Question::Evaluation => {
                    let found: Evaluation = parse(&text).ok_or_else(damaged)?;
                    row.saturated = found.excess_loss.is_some_and(|excess| excess < self.saturation_bound);
                    row.evaluation = Some(found);
                }
                Question::Loss => {
                    row.examples = Some(parse::<ExampleLoss>(&text).ok_or_else(damaged)?);
                }
                Question::Curvature(_) => {
                    let mut found: Curved = parse(&text).ok_or_else(damaged)?;
                    // What depends on the hour is no result.
                    found.measurement.measure_seconds = 0.0;
                    found.measurement.part_seconds.clear();
                    found.measurement.step = at.step;
                    row.parametrisation = found.parametrisation;
                    row.curvature = Some(found.measurement);
                }
                Question::Conventions(..) => {
                    row.conventions = Some(parse::<TraceConventions>(&text).ok_or_else(damaged)?);
                }
                Question::Average => row.average = Some(parse::<Averaging>(&text).ok_or_else(damaged)?),
                Question::Gauge => row.gauge = Some(parse::<Gauged>(&text).ok_or_else(damaged)?),
                Question::Alignment => {
                    let found: Aligned = parse(&text).ok_or_else(damaged)?;
                    row.alignment = found.alignment;
                    row.notes.extend(found.reason.map(|reason| format!("{}: {reason}", question.text())));
                }
                Question::Probe(_) => {
                    let found: Probed = parse(&text).ok_or_else(damaged)?;
                    if table.tasks.iter().all(|t| t.task != found.task.task) {
                        table.tasks.push(found.task);
                    }
                    row.downstream.push(found.accuracies);
                }
            }
        }
        Ok((answers > 0).then_some(row))
    }

    /// What is known of a model before any question; `None` where it is not trained, or was never read.
    fn known_before(&self, run: &PlannedRun, at: &ModelAt) -> Option<Row> {
        let folder = self.folder(run);
        if let Some(given) = &run.given {
            let about = parse::<About>(&std::fs::read_to_string(folder.join(ABOUT)).ok()?)?;
            return Some(Row {
                parameters: about.parameters,
                path: Some(given.path.display().to_string()),
                drawn_with: given.run.clone(),
                covariates: given.covariates.clone(),
                ..Row::default()
            });
        }
        let train = &run.resolved.config.train;
        Some(Row {
            batch_size: train.batch_size,
            learning_rate: run.resolved.config.peak_lr(),
            noise_time: noise_time(train, run.resolved.config.peak_lr(), at.step),
            parameters: folder::result(&folder)?.parameters,
            ..Row::default()
        })
    }

    /// Why a question has no answer.
    fn unanswered(&self, question: Question<'_>, failure: &Path) -> String {
        let before = std::fs::read_to_string(failure).ok().and_then(|text| parse::<Failed>(&text));
        format!("{}: {}", question.text(), before.map_or("not asked yet".into(), |failed| failed.message))
    }

    fn lookup_row(&self, table: &mut Table) -> Result<(), RunFailure> {
        let mut row = Row {
            run: LOOKUP.into(),
            group: LOOKUP.into(),
            label: "lookup table".into(),
            seed: self.examine.seed,
            last: true,
            saturated: true,
            ..Row::default()
        };
        for (section, path) in self.lookup_files() {
            if let Ok(text) = std::fs::read_to_string(&path)
                && let Some(found) = parse::<Probed>(&text)
            {
                if table.tasks.iter().all(|t| t.task != found.task.task) {
                    table.tasks.push(found.task);
                }
                row.downstream.push(found.accuracies);
            } else {
                let question = Question::Probe(section);
                row.notes.push(self.unanswered(question, &path.with_file_name(question.failure_file(self))));
            }
        }
        if !row.downstream.is_empty() {
            table.rows.push(row);
        }
        Ok(())
    }

    /// Writes `table.json` into the sweep's folder and gives its path; beside it `costs.json`.
    ///
    /// # Errors
    /// A folder or file that cannot be written.
    pub fn write_table(&self, table: &Table) -> Result<PathBuf, RunFailure> {
        [self.output.clone(), self.output.join("tables")].iter().for_each(|folder| tidy::remove_old_halves(folder));
        let path = self.output.join("table.json");
        folder::write(&path, table)?;
        self.write_costs(&self.output.join("costs.json"))?;
        Ok(path)
    }
}

/// Σ η² / B over the run's own steps up to `steps`. Momentum μ makes η as large as η / (1 - μ).
fn noise_time(train: &TrainSection, peak: f64, steps: u64) -> f64 {
    let momentum = match &train.optimizer {
        OptimizerKind::Sgd(sgd) => sgd.momentum,
        OptimizerKind::AdamW(_) => 0.0,
    };
    let lr = peak / (1.0 - momentum);
    let squares: f64 =
        (train.first_step()..steps).map(|step| (lr * train.schedule.factor(step, train.steps)).powi(2)).sum();
    squares / f64::from(train.batch_size)
}
