//! A training run as a folder: begun, resumed, finished or stopped, and never half written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::adversary::{AdversaryData, head_of};
use super::checkpoint::{Checkpoint, checkpoints, newest};
use super::data::{Ahead, Corpus, Micro};
use super::diverged::first_bad_tensor;
use super::evaluate::{Evaluation, Evaluator};
use super::events::EventWriter;
use super::folder::{Folder, earlier_seconds, keep_metrics_until, open};
use super::kernels::Kernels;
use super::measure::{Along, measure_error};
use super::measurement::Measurement;
use super::trainer::{LogLine, Trainer};
use super::tune::{Subject, Trial, Tuning};
use crate::config::{AlgorithmKind, ConfigError, LabelKind, Resolved};
use crate::curvature::CurvatureError;
use crate::gpu::{Gpu, GpuError};
use crate::model::{Encoder, ModelError, SentenceHead, Weights, load, save};
use crate::ops::{Dims, Labels};

/// Why a run stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "diverged at step {step}: {tensor} was not finite (loss {loss}). Nothing was updated in that step; the last \
         checkpoint is still good. Lower `train.optimizer.lr`, or set `train.clip`."
    )]
    Diverged { step: u64, tensor: String, loss: f64 },
    #[error("interrupted at step {step}; a checkpoint is saved, run the same command again to go on")]
    Interrupted { step: u64 },
}

/// What a finished run leaves; also `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    pub steps: u64,
    /// Mean training loss of the last steps; `loss` is that of held-out sentences.
    pub training_loss: f64,
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The last measurement of a config with `[measure]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curvature: Option<Measurement>,
    pub parameters: usize,
    /// Seconds of this and earlier attempts in the training loop.
    pub seconds: f64,
    /// The most bytes that there were on the adapter at once, in this attempt.
    #[serde(default)]
    pub peak_bytes: u64,
    /// Share of the training steps' time in which the adapter's queue had none of them to work on, in this attempt;
    /// absent where the adapter has no timestamps.
    #[serde(default)]
    pub queue_idle: Option<f64>,
    #[serde(skip)]
    pub folder: PathBuf,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Done,
    Diverged,
}

/// Where a run stands, for a progress bar.
#[derive(Clone, Debug)]
pub struct Progress {
    pub step: u64,
    pub steps: u64,
    /// Mean loss since the last line.
    pub loss: f64,
    pub evaluation: Option<Evaluation>,
    pub sentences_per_second: f64,
    pub seconds_left: f64,
}

/// Who watches a run.
pub trait Observer {
    /// Called when there is something new to show.
    fn progress(&self, progress: &Progress);
    /// A sentence for the user.
    fn note(&self, text: &str);
}

/// Watches nothing.
pub struct Quiet;

impl Observer for Quiet {
    fn progress(&self, _: &Progress) {}
    fn note(&self, _: &str) {}
}

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Asks the run in this process to finish its step, save and stop.
pub fn request_interrupt() {
    INTERRUPT.store(true, Ordering::SeqCst);
}

/// Whether that was asked for.
pub fn interrupt_requested() -> bool {
    INTERRUPT.load(Ordering::SeqCst)
}

/// Steps between lines of `metrics.jsonl`.
const LOG_EVERY: u64 = 10;

/// What a config makes before anything is allocated.
pub(super) struct Setup {
    pub corpus: Corpus,
    pub encoder: Encoder,
    pub labels: Labels,
    /// Of the adversarial algorithm.
    pub head: Option<SentenceHead>,
    /// Of the largest micro-batch.
    pub dims: Dims,
    pub kernels: Kernels,
}

impl Setup {
    pub fn new(gpu: &Gpu, resolved: &Resolved) -> Result<Setup, RunError> {
        let config = &resolved.config;
        let corpus = Corpus::open(&config.language, &config.objective, config.seed)?;
        let longest = corpus.language.max_length();
        let model = config.model.model_config(corpus.vocabulary.len() as u32, longest);
        let head = match &config.train.algorithm {
            AlgorithmKind::Adversarial(algorithm) => Some(head_of(algorithm, corpus.language.as_ref())?),
            _ => None,
        };
        let place = |message: String| ConfigError { place: "[model]".into(), message };
        let mut encoder = Encoder::new(&model).map_err(place)?;
        encoder.recompute = config.train.recompute;
        let sentences = config.train.micro_batch();
        let dims = Dims {
            rows: sentences * (longest as u32 + 2),
            masked: corpus.most_masked(sentences),
            sentences,
            probes: 1,
        };
        let labels = match config.objective.labels {
            LabelKind::Sampled => Labels::Hard,
            LabelKind::Expected => Labels::Soft,
        };
        let kernels = Kernels::settle(gpu, resolved, &Subject::new(gpu, &encoder, &dims, labels))?;
        Ok(Setup { corpus, encoder, labels, head, dims, kernels })
    }
}

/// Times the variant table on the shapes of a config; nothing is kept yet.
pub fn tune(gpu: &Gpu, resolved: &Resolved, note: &dyn Fn(&str)) -> Result<Tuning, RunError> {
    let Setup { corpus, encoder, labels, dims, .. } = Setup::new(gpu, resolved)?;
    let trial = Trial { encoder: &encoder, corpus: &corpus, labels, dims };
    Ok(trial.tune(gpu, resolved, note)?)
}

/// Trains as a config says; goes on from the newest whole checkpoint where there is one.
///
/// # Errors
/// [`RunError::Interrupted`] after [`request_interrupt`], [`RunError::Diverged`] before a step that is not finite is
/// taken, and whatever the adapter or the disk refuses.
pub fn run(gpu: &Gpu, resolved: &Resolved, observer: &dyn Observer) -> Result<Outcome, RunError> {
    let setup = Setup::new(gpu, resolved)?;
    let config = &resolved.config;
    let (mut folder, done) = open(gpu, resolved, &setup.kernels, observer)?;
    if let Some(done) = done {
        observer.note(&format!("{} is finished already", folder.path.display()));
        return Ok(done);
    }
    let Setup { corpus, encoder, labels, dims, kernels, .. } = &setup;
    let variants = &kernels.variants;
    let start = starting_weights(resolved, encoder, observer)?;
    let mut trainer = Trainer::new(gpu, encoder, &start, &config.train, *labels, *dims, variants, config.seed)?;
    oppose(gpu, resolved, &setup, &mut trainer, observer)?;
    let root = folder.path.join("checkpoints");
    let (checkpoint, warnings) = newest(&root);
    warnings.iter().for_each(|w| observer.note(&format!("warning: {w}")));
    if let Some(checkpoint) = &checkpoint {
        let loaded = load(&checkpoint.folder)?;
        let moments = checkpoint.moments(encoder, trainer.moment_count())?;
        trainer.restore(gpu, encoder, &loaded.weights, &moments, checkpoint.step);
        if let Some(adversary) = trainer.adversary() {
            let wrong = |message| ModelError::Format { path: checkpoint.folder.clone(), message };
            adversary.restore(gpu, &checkpoint.algorithm()?).map_err(wrong)?;
        }
        observer.note(&format!("resumed at step {}", checkpoint.step));
    }
    let metrics_path = folder.path.join("metrics.jsonl");
    // What stands at step 0 is said anew.
    keep_metrics_until(&metrics_path, checkpoint.as_ref().map(|c| c.step).filter(|step| *step > 0))
        .map_err(|source| RunError::Io { path: metrics_path.clone(), source })?;
    let before = earlier_seconds(&metrics_path);
    let evaluator = Evaluator::new(
        gpu,
        encoder,
        &trainer.parameters,
        variants,
        corpus,
        config.evaluate.sentences,
        config.train.micro_batch() as usize,
    )?;
    let batch = config.train.micro_batch() as usize;
    let along = config.measure.as_ref().map(|m| Along::new(corpus, m, variants, batch, &metrics_path));
    gpu.keep_pipelines();
    let events =
        EventWriter::create(&folder.path).map_err(|source| RunError::Io { path: folder.path.clone(), source })?;
    let mut session = Session {
        gpu,
        setup: &setup,
        resolved,
        observer,
        evaluator,
        along,
        events,
        root,
        started: Instant::now(),
        before,
        first_step: trainer.step,
        recent: Vec::new(),
        evaluation: None,
        // Steps whose lines are not read yet, kept in case one of them diverged.
        unread: Vec::new(),
    };
    session.train(&mut trainer, &mut folder)?;
    session.finish(&mut trainer, &mut folder)
}

/// Gives a trainer its adversary, where the config asks for one.
fn oppose(
    gpu: &Gpu,
    resolved: &Resolved,
    setup: &Setup,
    trainer: &mut Trainer,
    observer: &dyn Observer,
) -> Result<(), RunError> {
    let AlgorithmKind::Adversarial(algorithm) = &resolved.config.train.algorithm else { return Ok(()) };
    let Setup { corpus, encoder, kernels, .. } = setup;
    let data = AdversaryData::draw(algorithm, corpus.language.as_ref(), corpus.seed)?;
    observer.note(&format!(
        "against a head on task {}: labels of entropy {:.3} nats, in force below a loss of {:.3}",
        algorithm.task,
        data.entropy,
        algorithm.ceiling * data.entropy
    ));
    Ok(trainer.oppose(gpu, encoder, algorithm, data, &kernels.variants)?)
}

/// The weights that a run begins with.
fn starting_weights(resolved: &Resolved, encoder: &Encoder, observer: &dyn Observer) -> Result<Weights, RunError> {
    let config = &resolved.config;
    let Some(path) = &config.train.start_from else {
        return Ok(Weights::initial(&encoder.parameters, config.model.initializer_range, config.seed));
    };
    let loaded = load(path)?;
    loaded.notes.iter().for_each(|n| observer.note(n));
    for (wanted, found) in encoder.parameters.iter().zip(&loaded.encoder.parameters) {
        if wanted.name != found.name || wanted.shape != found.shape {
            let message = format!(
                "its tensor `{}` {:?} does not fit `{}` {:?} of [model]",
                found.name, found.shape, wanted.name, wanted.shape
            );
            return Err(ConfigError { place: format!("train.start_from = {}", path.display()), message }.into());
        }
    }
    if encoder.parameters.len() != loaded.encoder.parameters.len() {
        let message = "it has another number of layers than [model]".into();
        return Err(ConfigError { place: format!("train.start_from = {}", path.display()), message }.into());
    }
    Ok(loaded.weights)
}

/// A run under way.
struct Session<'r> {
    gpu: &'r Gpu,
    setup: &'r Setup,
    resolved: &'r Resolved,
    observer: &'r dyn Observer,
    evaluator: Evaluator,
    along: Option<Along>,
    events: EventWriter,
    root: PathBuf,
    started: Instant,
    before: f64,
    first_step: u64,
    recent: Vec<LogLine>,
    evaluation: Option<Evaluation>,
    unread: Vec<Vec<Micro>>,
}

impl Session<'_> {
    fn train(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let train = &self.resolved.config.train;
        let steps = train.steps;
        if trainer.step == 0 && steps > 0 {
            self.evaluate(trainer, folder)?;
        }
        // One that an interrupt broke off is made up for.
        if trainer.step < steps && self.along.as_ref().is_some_and(|a| a.due(trainer.step)) {
            self.measure(trainer, folder)?;
        }
        let corpus = self.setup.corpus.clone();
        let ahead = Ahead::start(corpus, *trainer.layout(), trainer.step, train);
        while trainer.step < steps {
            let Some(micros) = ahead.next() else {
                return Err(GpuError::Lost("the thread that makes batches died".into()).into());
            };
            trainer.advance(self.gpu, &micros)?;
            self.unread.push(micros);
            let step = trainer.step;
            let due = |every: u64| every > 0 && step.is_multiple_of(every);
            if due(LOG_EVERY) || step == steps || trainer.log_is_full() {
                self.log(trainer, folder)?;
            }
            if due(train.evaluate_every) && step < steps {
                trainer.pause();
                self.evaluate(trainer, folder)?;
            }
            if step < steps && self.along.as_ref().is_some_and(|a| a.due(step)) {
                self.measure(trainer, folder)?;
            }
            let interrupted = interrupt_requested();
            if (due(train.checkpoint_every) && step < steps) || interrupted {
                self.log(trainer, folder)?;
                trainer.pause();
                self.save(trainer)?;
            }
            if interrupted {
                return Err(RunError::Interrupted { step });
            }
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// Reads the steps' losses, stops at one that is not finite, writes a line.
    fn log(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let lines = trainer.read_log(self.gpu)?;
        if let Some(i) = lines.iter().position(|l| l.bad) {
            return Err(self.diverged(trainer, folder, lines[i], i)?);
        }
        self.unread.clear();
        if lines.is_empty() {
            return Ok(());
        }
        let n = lines.len() as f64;
        let loss = lines.iter().map(|l| f64::from(l.loss)).sum::<f64>() / n;
        let norm = lines.iter().map(|l| f64::from(l.gradient_norm)).sum::<f64>() / n;
        self.recent = lines;
        let config = &self.resolved.config.train;
        let measuring = self.along.as_ref().map_or(0.0, |a| a.seconds);
        let seconds = self.started.elapsed().as_secs_f64() - measuring;
        let taken = (trainer.step - self.first_step) as f64;
        let rate = taken / seconds.max(1e-9);
        let mut line = json!({
            "step": trainer.step,
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": trainer.learning_rate(trainer.step - 1),
            "sentences_per_second": rate * f64::from(config.batch_size),
            "seconds": self.seconds(),
            "queue_idle": trainer.queue_idle(),
        });
        let mut values = vec![
            ("train/loss", loss),
            ("train/gradient_norm", norm),
            ("train/learning_rate", trainer.learning_rate(trainer.step - 1)),
        ];
        let first = self.recent[0].step;
        let opposed = trainer.adversary_lines(self.gpu, first..trainer.step)?;
        if !opposed.is_empty() {
            let loss = opposed.iter().map(|l| f64::from(l.loss)).sum::<f64>() / opposed.len() as f64;
            line["adversarial_loss"] = json!(loss);
            values.push(("train/adversarial_loss", loss));
        }
        folder.metric(&line)?;
        self.event(trainer.step, &values, folder)?;
        self.observer.progress(&Progress {
            step: trainer.step,
            steps: config.steps,
            loss,
            evaluation: self.evaluation.clone(),
            sentences_per_second: rate * f64::from(config.batch_size),
            seconds_left: (config.steps - trainer.step) as f64 / rate.max(1e-9)
                + self.along.as_ref().map_or(0.0, |a| a.seconds_left(trainer.step, config.steps)),
        });
        Ok(())
    }

    fn event(&mut self, step: u64, values: &[(&str, f64)], folder: &Folder) -> Result<(), RunError> {
        self.events.scalars(step, values).map_err(|source| RunError::Io { path: folder.path.clone(), source })
    }

    fn evaluate(&mut self, trainer: &Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let e = self.evaluator.run(self.gpu)?;
        folder.metric(&json!({
            "step": trainer.step,
            "held_out_loss": e.loss,
            "excess_loss": e.excess_loss,
            "excess_loss_standard_error": e.excess_loss_standard_error,
            "entropy_floor": e.entropy_floor,
            "sentences": e.sentences,
            "seconds": self.seconds(),
        }))?;
        let values = [
            ("held_out/loss", e.loss),
            ("held_out/excess_loss", e.excess_loss),
            ("held_out/entropy_floor", e.entropy_floor),
        ];
        self.event(trainer.step, &values, folder)?;
        self.evaluation = Some(e);
        Ok(())
    }

    /// Measures curvature at the step where the trainer stands. An interrupt breaks it off, with a checkpoint.
    fn measure(&mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<(), RunError> {
        let step = trainer.step;
        let Some(along) = self.along.as_mut().filter(|a| !a.done(step)) else { return Ok(()) };
        match along.measure(self.gpu, &self.setup.encoder, &trainer.parameters, step, self.observer) {
            Ok(Some(measurement)) => {
                let mut line = json!(measurement);
                line["seconds"] = json!(self.seconds());
                folder.metric(&line)?;
                self.event(step, &measurement.scalars(), folder)
            }
            Ok(None) => Ok(()),
            Err(CurvatureError::Interrupted) => {
                self.log(trainer, folder)?;
                self.save(trainer)?;
                Err(RunError::Interrupted { step })
            }
            Err(error) => Err(measure_error(error)),
        }
    }

    fn save(&self, trainer: &Trainer) -> Result<(), RunError> {
        let Setup { corpus, encoder, .. } = self.setup;
        let (weights, moments) = trainer.state(self.gpu, encoder)?;
        let algorithm = trainer.adversary().map_or(Ok(vec![]), |a| a.state(self.gpu))?;
        let hash = self.resolved.hash();
        let vocabulary = &corpus.vocabulary;
        Checkpoint::write(&self.root, trainer.step, &hash, encoder, vocabulary, &weights, &moments, &algorithm)?;
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
        let Setup { encoder, dims, kernels, labels, .. } = self.setup;
        let scale = self.resolved.config.train.loss_scale();
        let micros = &self.unread[at];
        let found =
            first_bad_tensor(self.gpu, encoder, &trainer.parameters, *dims, &kernels.variants, *labels, micros, scale)?;
        let otherwise = match &self.resolved.config.train.algorithm {
            AlgorithmKind::Sam(_) => "the gradient at the weights after SAM's ascent",
            AlgorithmKind::Adversarial(_) => "the adversarial loss or its gradient",
            _ => "the norm of the gradient",
        };
        let tensor = found.unwrap_or_else(|| otherwise.into());
        let result = json!({
            "status": "diverged",
            "step": line.step + 1,
            "tensor": tensor,
            "loss": if line.loss.is_finite() { json!(line.loss) } else { json!(line.loss.to_string()) },
            "last_finite_loss": self.recent.last().map(|l| l.loss),
        });
        folder.write("result.json", &(serde_json::to_string_pretty(&result).expect("plain values") + "\n"))?;
        Ok(RunError::Diverged { step: line.step + 1, tensor, loss: f64::from(line.loss) })
    }

    /// Evaluates, writes the model and, last of all, the result.
    fn finish(mut self, trainer: &mut Trainer, folder: &mut Folder) -> Result<Outcome, RunError> {
        let Setup { corpus, encoder, .. } = self.setup;
        self.measure(trainer, folder)?;
        self.evaluate(trainer, folder)?;
        let weights = trainer.parameters.read(self.gpu, encoder)?;
        save(&folder.path.join("model"), encoder, &weights, Some(&corpus.vocabulary))?;
        let evaluation = self.evaluation.clone().expect("just evaluated");
        let losses: Vec<f64> = self.recent.iter().map(|l| f64::from(l.loss)).collect();
        let outcome = Outcome {
            status: Status::Done,
            steps: trainer.step,
            training_loss: losses.iter().sum::<f64>() / losses.len().max(1) as f64,
            evaluation,
            curvature: self.along.as_ref().and_then(|a| a.last.clone()),
            parameters: encoder.parameter_count(),
            seconds: self.seconds(),
            peak_bytes: self.gpu.memory().1,
            queue_idle: trainer.queue_idle(),
            folder: folder.path.clone(),
        };
        folder.write("result.json", &(serde_json::to_string_pretty(&outcome).expect("plain values") + "\n"))?;
        Ok(outcome)
    }
}
