//! `lowland finetune`: a model trained end to end on a task, read at a sentence's first token, or at its last where it
//! reads in one direction.

use std::time::Instant;

use super::arguments::{Finetune, LabelChoice};
use super::failure::Failure;
use super::progress::Gauge;
use super::task::{self, Opened, Spoken};
use crate::config::EvaluateSection;
use crate::downstream::{FineTuning, Memory, Outcome, Teaching, finetune_sentences, read_token};
use crate::gpu::AdapterChoice;
use crate::model::Reach;
use crate::ops::{Device, KernelChoice};

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Finetune) -> Result<(), Failure> {
    task::check_rate(arguments.lr)?;
    if !(arguments.clip >= 0.0 && arguments.clip.is_finite()) {
        return Err(Failure::usage(format!("--clip {} must be 0 (off) or positive", arguments.clip)));
    }
    if arguments.task.labels == LabelChoice::Posterior {
        return Err(Failure::usage("--labels posterior belongs to linear probes; take drawn".to_string()));
    }
    let start = Instant::now();
    let gauge = Gauge::new();
    gauge.phase("task");
    let opened = task::open(&arguments.task).map_err(Failure::resumable)?;
    let device = Device::open(adapter, kernel_choice)?;
    gauge.phase("fine-tuning");
    let options = FineTuning {
        lr: arguments.lr,
        epochs: arguments.epochs,
        batch: arguments.batch,
        warmup_steps: arguments.warmup_steps,
        pooled: arguments.pooled,
        clip: arguments.clip,
        ..FineTuning::default()
    };
    let seeds = task::seeds(&arguments.task, &opened);
    let memory = memory(&device, arguments, &opened)?;
    let fits = opened.sets.fit(&opened.data, |part, _| {
        finetune_sentences(&device, &opened.model, part, &options, &seeds, memory.as_ref())
    });
    let (fits, interrupted) = task::fits(fits).map_err(Failure::resumable)?;
    gauge.done();
    let chosen_by = match opened.data.teaching {
        Teaching::Mode => "validation accuracy",
        _ => "the validation cross-entropy with the posterior",
    };
    let method = format!("{}, epoch chosen by {chosen_by}", options.describe());
    let width = opened.model.encoder.config.hidden_size as usize;
    let reach = opened.model.encoder.config.reach();
    let read = match (&opened.spoken, reach) {
        (Some(_), _) => read_token(reach),
        (None, Reach::Sentence) => "first token",
        (None, Reach::Past) => "last token",
    };
    let mut outcome = Outcome::new(&opened.data, &fits, format!("{read}, all layers trained"), width, method);
    outcome.seconds = start.elapsed().as_secs_f64();
    (outcome.interrupted, outcome.reached) = (interrupted, !interrupted);
    task::report(&outcome, arguments.task.json.json)?;
    match interrupted {
        true => Err(Failure::stopped("the accuracy is of the seeds until then").resumable()),
        false => Ok(()),
    }
}

/// What the model knows before, where it is asked what it forgot.
fn memory(device: &Device, arguments: &Finetune, opened: &Opened) -> Result<Option<Memory>, Failure> {
    let Some(sentences) = arguments.forgetting else { return Ok(None) };
    let Some(Spoken { corpus, .. }) = &opened.spoken else {
        let message = "--forgetting needs a run config, whose language the model was trained on";
        return Err(Failure::usage(message.to_string()));
    };
    corpus.on(device)?;
    let asked = EvaluateSection { sentences, ..EvaluateSection::default() };
    let memory = Memory::of(device, &opened.model, corpus, &asked, BATCH).map_err(|e| Failure::from(e).resumable())?;
    memory.map(Some).map_err(|none| Failure::usage(format!("--forgetting: {none}")))
}

/// Sentences of one batch that is asked what was forgotten.
const BATCH: usize = 128;
