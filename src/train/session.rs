//! The loop of a run: steps, log, evaluations, measurements, checkpoints, and its end.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::checkpoint::{Checkpoint, Contents, Recent, State, checkpoints, newest};
use super::data::{Ahead, Micro};
use super::diverged::first_bad_tensor;
use super::evaluate::{Evaluation, Evaluator};
use super::events::EventWriter;
use super::folder::{Folder, earlier_seconds, evaluated_step, keep_metrics_until};
use super::measure::measure_error;
use super::measurement_schedule::MeasurementSchedule;
use super::observer::{Observer, Progress};
use super::past::{Length, Past};
use super::result::{Divergence, RunResult};
use super::run::{Outcome, RunError, Status, Stopping};
use super::setup::Setup;
use super::trainer::{LogLine, Trainer};
use crate::config::{AlgorithmKind, Resolved};
use crate::interrupt;
use crate::model::save;

/// Steps between lines of `metrics.jsonl`.
const LOG_EVERY: u64 = 10;

/// A run under way.
pub(super) struct Session<'r> {
    setup: &'r Setup,
    resolved: &'r Resolved,
    observer: &'r dyn Observer,
    evaluator: Evaluator,
    /// Of the average of the weights.
    averaged: Option<Evaluator>,
    measurements: Option<MeasurementSchedule>,
    events: EventWriter,
    root: PathBuf,
    started: Instant,
    before: f64,
    first_step: u64,
    /// The steps of the log's line that comes next, or of the last one.
    recent: Vec<Recent>,
    evaluation: Option<Evaluation>,
    /// That of the average of the weights.
    ema: Option<Evaluation>,
    /// Step of the evaluation that the metrics have.
    evaluated: Option<u64>,
    /// Whether an evaluation was at or below the excess loss that ends training.
    stopped: bool,
    /// Step of the newest checkpoint.
    saved: Option<u64>,
    lengths: Vec<Length>,
    unread: Vec<Vec<Micro>>,
}

impl<'r> Session<'r> {
    /// What the loop needs beside the trainer; `past` has the checkpoint that the trainer goes on from.
    pub fn begin(
        setup: &'r Setup,
        resolved: &'r Resolved,
        observer: &'r dyn Observer,
        trainer: &Trainer,
        folder: &Folder,
        past: &Past,
    ) -> Result<Session<'r>, RunError> {
        let since = past.checkpoint.as_ref().map(|(checkpoint, _)| checkpoint.step);
        let (corpus, config) = (&setup.corpus, &resolved.config);
        let metrics_path = folder.path.join("metrics.jsonl");
        // What stands at the first step is said anew.
        let said = since.filter(|step| *step > config.train.first_step());
        keep_metrics_until(&metrics_path, said)
            .map_err(|source| RunError::Io { path: metrics_path.clone(), source })?;
        let before = earlier_seconds(&metrics_path);
        let batch = config.train.micro_batch() as usize;
        let evaluator = Evaluator::new(&trainer.model, corpus, &config.evaluate, batch)?;
        let averaged = trainer.averaged_model().map(|model| evaluator.of(&model)).transpose()?;
        let measurements =
            config.measure.as_ref().map(|m| MeasurementSchedule::new(corpus, m, batch, &metrics_path)).transpose()?;
        trainer.model.gpu().keep_pipelines();
        let events = EventWriter::create(&folder.path, said.map_or(0, |step| step + 1))
            .map_err(|source| RunError::Io { path: folder.path.clone(), source })?;
        Ok(Session {
            setup,
            resolved,
            observer,
            evaluator,
            averaged,
            measurements,
            events,
            root: folder.path.join("checkpoints"),
            started: Instant::now(),
            before,
            first_step: trainer.step,
            recent: past.start().map_or(Vec::new(), |(_, state)| state.recent.clone()),
            evaluation: None,
            ema: None,
            evaluated: evaluated_step(&metrics_path),
            stopped: false,
            saved: since,
            lengths: past.lengths.clone(),
            // Steps whose lines are not read yet, kept in case one of them diverged.
            unread: Vec::new(),
        })
    }

    /// Takes all steps that are left. An interrupt ends it at the last step that was taken whole, with a checkpoint.
    pub fn train(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let taken = self.steps(trainer, folder);
        self.with_checkpoint(taken, trainer, folder)
    }

    /// What was interrupted and has no checkpoint yet gets one.
    fn with_checkpoint<T>(
        &mut self,
        result: Result<T, RunError>,
        trainer: &mut Trainer,
        folder: &mut Folder,
    ) -> Result<T, RunError> {
        match result {
            Err(error) if error.interrupted() => {
                self.log(trainer, folder)?;
                self.save(trainer, folder)?;
                Err(RunError::Interrupted { step: trainer.step })
            }
            other => other,
        }
    }

    fn steps(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let train = &self.resolved.config.train;
        let steps = train.steps;
        let begun = trainer.step;
        // An evaluation that an interrupt broke off is made up for; one that ends training ends it again.
        let due = begun < steps && train.evaluate_every > 0 && begun.is_multiple_of(train.evaluate_every);
        let missing = self.evaluated != Some(begun) || train.stop.is_some();
        if begun == train.first_step() && steps > 0 || due && missing {
            self.evaluate(trainer, folder)?;
        }
        // One that an interrupt broke off is made up for.
        if trainer.step < steps && self.measurements.as_ref().is_some_and(|a| a.due(trainer.step)) {
            self.measure(trainer, folder)?;
        }
        let corpus = self.setup.corpus.clone();
        let ahead = Ahead::start(corpus, *trainer.layout(), trainer.step, train);
        while trainer.step < steps && !self.stopped {
            let micros = ahead.next()?;
            trainer.advance(&micros)?;
            self.unread.push(micros);
            // What was asked for behind the step before: the adapter is at this one meanwhile.
            if trainer.log_is_asked_for() {
                self.log_read(trainer, folder)?;
            }
            let step = trainer.step;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            let measured = self.measurements.as_ref().is_some_and(|a| a.due(step));
            let other_work = step == steps || due(train.evaluate_every) || measured || due(train.checkpoint_every);
            if trainer.log_is_full() || (due(LOG_EVERY) && other_work) || step == steps {
                self.log(trainer, folder)?;
            } else if due(LOG_EVERY) {
                trainer.ask_for_log()?;
            }
            if due(train.evaluate_every) && step < steps {
                trainer.pause();
                self.evaluate(trainer, folder)?;
                if self.stopped {
                    break;
                }
            }
            if step < steps && measured {
                self.measure(trainer, folder)?;
            }
            let interrupted = interrupt::requested();
            if (due(train.checkpoint_every) && step < steps) || interrupted {
                self.log(trainer, folder)?;
                trainer.pause();
                self.save(trainer, folder)?;
            }
            if interrupted {
                return Err(RunError::Interrupted { step });
            }
        }
        self.log(trainer, folder)
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// Reads and writes the log of all steps.
    fn log(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        if trainer.log_is_asked_for() {
            self.log_read(trainer, folder)?;
        }
        self.log_read(trainer, folder)
    }

    /// Reads the losses of steps, of those that were asked for or else of all, stops at one that is not finite, and
    /// writes a line where one is due: of the steps since the last multiple of [`LOG_EVERY`], wherever a checkpoint or
    /// another attempt came between.
    fn log_read(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let lines = trainer.read_log()?;
        let step = trainer.logged();
        if let Some(i) = lines.iter().position(|l| l.bad) {
            return Err(self.diverged(trainer, folder, lines[i], i)?);
        }
        self.unread.drain(..lines.len().min(self.unread.len()));
        let Some(first) = lines.first().map(|line| line.step) else { return Ok(()) };
        let opposed = trainer.adversary_lines(first..step)?;
        for (i, line) in lines.iter().enumerate() {
            if line.step.is_multiple_of(LOG_EVERY) {
                self.recent.clear();
            }
            let adversarial_loss = opposed.get(i).map(|l| l.loss);
            let LogLine { step, loss, gradient_norm, .. } = *line;
            self.recent.push(Recent { step, loss, gradient_norm, adversarial_loss });
        }
        let config = &self.resolved.config.train;
        if !(step.is_multiple_of(LOG_EVERY) || step == config.steps || self.stopped) {
            return Ok(());
        }
        let loss = self.mean(|line| Some(line.loss)).unwrap_or(f64::NAN);
        let norm = self.mean(|line| Some(line.gradient_norm)).unwrap_or(f64::NAN);
        let measuring = self.measurements.as_ref().map_or(0.0, |a| a.seconds);
        let seconds = self.started.elapsed().as_secs_f64() - measuring;
        let taken = (step - self.first_step) as f64;
        let rate = taken / seconds.max(1e-9);
        let mut line = json!({
            "step": step,
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": trainer.learning_rate(step - 1),
            "sentences_per_second": rate * f64::from(config.batch_size),
            "seconds": self.seconds(),
            "queue_idle": trainer.queue_idle(),
        });
        let mut values = vec![
            ("train/loss", loss),
            ("train/gradient_norm", norm),
            ("train/learning_rate", trainer.learning_rate(step - 1)),
        ];
        if let Some(loss) = self.mean(|line| line.adversarial_loss) {
            line["adversarial_loss"] = json!(loss);
            values.push(("train/adversarial_loss", loss));
        }
        folder.metric(&line)?;
        self.event(step, &values, folder)?;
        self.observer.progress(&Progress {
            step,
            steps: config.steps,
            loss,
            evaluation: self.evaluation.clone(),
            sentences_per_second: rate * f64::from(config.batch_size),
            seconds_left: (config.steps - step) as f64 / rate.max(1e-9)
                + self.measurements.as_ref().map_or(0.0, |a| a.seconds_left(step, config.steps)),
        });
        Ok(())
    }

    /// Mean over the steps of a line; `None` where a number is of none of them.
    fn mean(&self, number: impl Fn(&Recent) -> Option<f32>) -> Option<f64> {
        let all: Vec<f64> = self.recent.iter().filter_map(number).map(f64::from).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }

    fn event(&mut self, step: u64, values: &[(&str, f64)], folder: &Folder) -> Result<(), RunError> {
        self.events.scalars(step, values).map_err(|source| RunError::Io { path: folder.path.clone(), source })
    }

    fn evaluate(&mut self, trainer: &Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let e = self.evaluator.run()?;
        // Before its first step there is no average.
        let averaged = self.averaged.as_ref().filter(|_| trainer.average_steps() > 0);
        self.ema = averaged.map(Evaluator::run).transpose()?;
        let stop = self.resolved.config.train.stop;
        self.stopped = stop.zip(e.excess_loss).is_some_and(|(stop, excess)| excess <= stop.excess);
        // A run that was stopped behind its last step has said it.
        if self.evaluated == Some(trainer.step) {
            self.evaluation = Some(e);
            return Ok(());
        }
        let mut line = json!({
            "step": trainer.step,
            "held_out_loss": e.loss,
            "excess_loss": e.excess_loss,
            "excess_loss_standard_error": e.excess_loss_standard_error,
            "entropy_floor": e.entropy_floor,
            "sentences": e.sentences,
            "seconds": self.seconds(),
        });
        if let Some((value, error)) = e.excess_loss_paired.zip(e.excess_loss_paired_standard_error) {
            line["excess_loss_paired"] = value.into();
            line["excess_loss_paired_standard_error"] = error.into();
        }
        if let Some(error) = e.loss_standard_error {
            line["held_out_loss_standard_error"] = json!(error);
        }
        if !e.notes.is_empty() {
            line["notes"] = json!(e.notes);
        }
        if let Some(ema) = &self.ema {
            line["ema"] = json!(ema);
        }
        if let Some(stop) = stop {
            line["stop"] = json!(Stopping { excess: stop.excess, reached: self.stopped });
        }
        folder.metric(&line)?;
        let values = [
            ("held_out/loss", Some(e.loss)),
            ("held_out/excess_loss", e.excess_loss),
            ("held_out/entropy_floor", e.entropy_floor),
            ("held_out/ema_loss", self.ema.as_ref().map(|e| e.loss)),
            ("held_out/ema_excess_loss", self.ema.as_ref().and_then(|e| e.excess_loss)),
        ];
        let values: Vec<(&str, f64)> = values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        self.event(trainer.step, &values, folder)?;
        self.evaluation = Some(e);
        self.evaluated = Some(trainer.step);
        Ok(())
    }

    /// Measures curvature at the step where the trainer stands. An interrupt breaks it off, with a checkpoint.
    fn measure(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let step = trainer.step;
        let Some(measurements) = self.measurements.as_mut().filter(|a| !a.done(step)) else { return Ok(()) };
        match measurements.measure(&trainer.model, step, self.observer) {
            Ok(Some(measurement)) => {
                let mut line = json!(measurement);
                line["seconds"] = json!(self.seconds());
                folder.metric(&line)?;
                self.event(step, &measurement.scalars(), folder)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(measure_error(error)),
        }
    }

    /// Writes a checkpoint of the step where the trainer stands, where there is none, and removes old ones: also those
    /// that stayed when the run was killed between the two.
    fn save(&mut self, trainer: &Trainer, folder: &Folder) -> Result<(), RunError> {
        if self.saved != Some(trainer.step) {
            self.write(trainer, folder)?;
        }
        self.remove_old()
    }

    fn write(&mut self, trainer: &Trainer, folder: &Folder) -> Result<(), RunError> {
        let Setup { corpus, encoder, .. } = self.setup;
        let (weights, moments) = trainer.state()?;
        let algorithm = trainer.adversary().map_or(Ok(vec![]), |a| a.state())?;
        let average = trainer.average()?.filter(|(_, steps)| *steps > 0);
        let state = State {
            format_version: 1,
            step: trainer.step,
            config_hash: self.resolved.hash(),
            steps: Some(self.resolved.config.train.steps),
            averaged: average.as_ref().map(|(_, steps)| *steps),
            recent: self.recent.clone(),
        };
        let average = average.as_ref().map(|(weights, _)| weights);
        let contents = Contents { weights: &weights, moments: &moments, average, algorithm: &algorithm };
        folder.check()?;
        Checkpoint::write(&self.root, &state, encoder, &corpus.vocabulary, contents)?;
        self.saved = Some(trainer.step);
        Ok(())
    }

    fn remove_old(&self) -> Result<(), RunError> {
        let keep = self.resolved.config.train.keep_checkpoints as usize;
        let all = checkpoints(&self.root);
        if keep > 0 && all.len() > keep {
            for old in &all[..all.len() - keep] {
                let path = old.folder.clone();
                std::fs::remove_dir_all(&path).map_err(|source| RunError::Io { path, source })?;
            }
        }
        Ok(())
    }

    /// The error of a step that was not finite, with `result.json` written.
    fn diverged(&self, trainer: &Trainer, folder: &Folder, line: LogLine, at: usize) -> Result<RunError, RunError> {
        let Setup { dims, labels, .. } = self.setup;
        let scale = self.resolved.config.train.loss_scale();
        let micros = &self.unread[at];
        let _whole = trainer.model.gpu().hold();
        let found = first_bad_tensor(&trainer.model, *dims, *labels, micros, scale)?;
        let otherwise = match &self.resolved.config.train.algorithm {
            AlgorithmKind::Sam(_) => "the gradient at the weights after SAM's ascent",
            AlgorithmKind::Adversarial(_) => "the adversarial loss or its gradient",
            _ => "the norm of the gradient",
        };
        let tensor = found.unwrap_or_else(|| otherwise.into());
        let checkpoint = newest(&self.root).0.map(|c| c.step);
        let result = RunResult::Diverged(Divergence {
            status: Status::Diverged,
            step: line.step + 1,
            tensor: tensor.clone(),
            loss: if line.loss.is_finite() { json!(line.loss) } else { json!(line.loss.to_string()) },
            last_finite_loss: self.recent.last().map(|l| f64::from(l.loss)),
            checkpoint,
        });
        folder.write("result.json", &result.text())?;
        Ok(RunError::Diverged { step: line.step + 1, tensor, loss: f64::from(line.loss), checkpoint })
    }

    /// Evaluates, writes the last checkpoint, which a longer run goes on from, the model and, last of all, the result.
    pub fn finish(mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<Outcome, RunError> {
        let Setup { corpus, encoder, .. } = self.setup;
        let last = self.measure(trainer, folder).and_then(|()| self.evaluate(trainer, folder));
        self.with_checkpoint(last, trainer, folder)?;
        let train = &self.resolved.config.train;
        if train.checkpoint_every > 0 {
            self.save(trainer, folder)?;
        }
        folder.check()?;
        let weights = trainer.model.weights()?;
        save(&folder.path.join("model"), encoder, &weights, Some(&corpus.vocabulary))?;
        if let Some((average, _)) = trainer.average()?.filter(|(_, steps)| *steps > 0) {
            save(&folder.path.join("model-ema"), encoder, &average, Some(&corpus.vocabulary))?;
        }
        let evaluation = self.evaluation.clone().expect("just evaluated");
        let outcome = Outcome {
            status: Status::Done,
            steps: trainer.step,
            stop: train.stop.map(|stop| Stopping { excess: stop.excess, reached: self.stopped }),
            training_loss: self.mean(|line| Some(line.loss)).unwrap_or(0.0),
            evaluation,
            ema: self.ema.clone(),
            curvature: self.measurements.as_ref().and_then(|a| a.last.clone()),
            parameters: encoder.parameter_count(),
            seconds: self.seconds(),
            peak_bytes: trainer.model.gpu().memory().1,
            queue_idle: trainer.queue_idle(),
            earlier_lengths: self.lengths.clone(),
            folder: folder.path.clone(),
        };
        folder.write("result.json", &RunResult::Done(Box::new(outcome.clone())).text())?;
        Ok(outcome)
    }
}
