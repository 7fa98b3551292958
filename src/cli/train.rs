//! `lowland train`: a run in its folder, or with `--dry-run` its plan.

use serde_json::json;

use super::arguments::Train;
use super::failure::Failure;
use super::progress::Bar;
use super::{advice, print};
use crate::config::{self, Resolved};
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::ops::KernelChoice;
use crate::train::{self, Evaluation, Outcome, PlanReport, Stopping};

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Train) -> Result<(), Failure> {
    let resolved = config::load(&arguments.config.config, &arguments.config.overrides)?.with_kernels(kernel_choice);
    super::text::prepare(&resolved.config).map_err(Failure::resumable)?;
    print::notes_of(&resolved.config);
    let gpu = Gpu::open(adapter, Options::default())?;
    if arguments.dry_run {
        let plan = train::plan(&gpu, &resolved)?;
        match arguments.json.json {
            true => {
                let mut value = json!(plan);
                value["refused"] = json!(plan.refused.as_ref().map(advice::of_refusal));
                print::json(&value)?;
            }
            false => print::line(plan_text(&plan).trim_end())?,
        }
        return advice::refused(&plan).map_or(Ok(()), Err);
    }
    let outcome = train_here(&gpu, &resolved)?;
    match arguments.json.json {
        true => {
            let mut value = json!(outcome);
            value["folder"] = print::path(&outcome.folder);
            print::json(&value)?;
        }
        false => print::line(&outcome_text(&outcome))?,
    }
    Ok(())
}

/// Trains with progress on standard error; an interrupt ends it with a checkpoint.
pub fn train_here(gpu: &Gpu, resolved: &Resolved) -> Result<Outcome, Failure> {
    print::note(&format!("{} on {}", resolved.output().display(), gpu.info().name));
    let bar = Bar::new(resolved.config.train.steps);
    let outcome = train::run(gpu, resolved, &bar);
    bar.done();
    Ok(outcome?)
}

pub fn outcome_text(outcome: &Outcome) -> String {
    let e = &outcome.evaluation;
    let idle =
        outcome.queue_idle.map_or(String::new(), |s| format!(", its queue idle {:.1} % of the steps' time", 100.0 * s));
    let losses = match (e.entropy_floor, e.excess_loss, e.excess_loss_standard_error) {
        (Some(floor), Some(excess), Some(error)) => {
            format!("{:.4}, entropy floor {floor:.4}, excess loss {excess:.4} ± {error:.4} nats", e.loss)
        }
        _ => {
            let unit = if e.positions.is_some() { "a predicted token" } else { "a masked token" };
            format!("{} nats {unit}", print::with_error(e.loss, e.loss_standard_error))
        }
    };
    let ema = match &outcome.ema {
        Some(Evaluation { excess_loss: Some(excess), excess_loss_standard_error: Some(error), .. }) => {
            format!("; averaged weights: excess loss {excess:.4} ± {error:.4} nats")
        }
        Some(e) => format!("; averaged weights: {} nats", print::with_error(e.loss, e.loss_standard_error)),
        None => String::new(),
    };
    let stop = match outcome.stop {
        Some(Stopping { excess, reached: true }) => format!(", up to an excess loss of {excess}"),
        Some(Stopping { excess, reached: false }) => format!(", an excess loss of {excess} not reached"),
        None => String::new(),
    };
    format!(
        "{} steps{stop} in {}: held-out loss {losses} ({} sentences){ema}\n{} on the adapter at most{idle}\nmodel {}",
        outcome.steps,
        print::duration(outcome.seconds),
        e.sentences,
        print::bytes(outcome.peak_bytes),
        outcome.folder.join("model").display(),
    )
}

fn plan_text(plan: &PlanReport) -> String {
    let b = &plan.bytes;
    let lines = [
        ("adapter", plan.adapter.clone()),
        ("parameters", plan.parameters.to_string()),
        ("layers", plan.layers.to_string()),
        ("vocabulary", plan.vocabulary.to_string()),
        ("micro batch", format!("{} sentences", plan.micro_batch)),
        ("dispatches", format!("{} a micro batch", plan.dispatches_per_micro_batch)),
        ("arithmetic", format!("{:.3} GFLOP a step", plan.flops_per_step / 1e9)),
        ("memory: parameters", print::bytes(b.parameters)),
        ("memory: gradients", print::bytes(b.gradients)),
        ("memory: optimizer", print::bytes(b.optimizer)),
        ("memory: algorithm", print::bytes(b.algorithm)),
        ("memory: ema", print::bytes(b.ema)),
        (
            "memory: activations",
            format!(
                "{} ({} without reuse of memory; {} with train.recompute, {} without)",
                print::bytes(b.activations),
                print::bytes(b.activations_unshared),
                print::bytes(b.activations_recomputed),
                print::bytes(b.activations_stored),
            ),
        ),
        ("memory: workspace", print::bytes(b.workspace)),
        ("memory: batch", print::bytes(b.batch)),
        ("memory: evaluation", print::bytes(b.evaluation)),
        ("memory: measure", print::bytes(b.measure)),
        ("memory: other", print::bytes(b.other)),
        ("memory: total", print::bytes(b.total)),
    ];
    lines.iter().map(|(name, value)| format!("{name:<22}{value}\n")).collect()
}
