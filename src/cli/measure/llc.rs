//! `lowland measure llc`: the local learning coefficient, by exact chains.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Session, finite, print_report};
use crate::cli::arguments::{Common, MeasureLlc};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{
    ChainOptions, CoefficientRequest, LearningCoefficient, Named, Scope, Stage, learning_coefficient,
};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LlcReport {
    /// nβ (E[L] - L(w₀)) over the local posterior.
    llc: f64,
    /// The larger of the two below.
    llc_standard_error: Option<f64>,
    /// Of the means of 20 batches along each chain, about the mean of all.
    llc_standard_error_batches: Option<f64>,
    /// Of the chains' means.
    llc_standard_error_chains: Option<f64>,
    /// Whether nothing speaks against it; `notes` say what does.
    reliable: bool,
    /// Inverse temperature.
    nbeta: f64,
    /// `block` or `isotropic`: what D of the prior's covariance D / γ is.
    prior: String,
    gamma: f64,
    /// What a quadratic loss of the model's Gauss-Newton matrix would have; null with `--no-quadratic`.
    lambda_q: Option<f64>,
    /// Over its probes.
    lambda_q_standard_error: Option<f64>,
    /// What its Lanczos steps leave open, on either side.
    lambda_q_truncation: Option<f64>,
    /// ½ Σ ln(1 + nβ h / γ), in nats.
    log_volume: Option<f64>,
    log_volume_standard_error: Option<f64>,
    log_volume_truncation: Option<f64>,
    /// Mean loss of the model on the contexts: the excess over the truth's where `labels` are `conditional`.
    loss: f64,
    /// `conditional`: the language's exact distributions; `data`: the labels of the examples.
    labels: String,
    /// Share of steps that were taken.
    acceptance: f64,
    /// ε of the chains, in coordinates of about unit spread.
    step_size: f64,
    /// Split R-hat of the loss, and of the distance from the model.
    r_hat: Option<f64>,
    r_hat_distance: Option<f64>,
    /// Of the loss, over all chains.
    effective_samples: f64,
    /// The coefficient of the first and of the second halves of the chains, and their difference in standard errors.
    halves: [f64; 2],
    halves_z: f64,
    /// Mean of x · ∇U over the dimension: 1 for chains that are where the density is.
    virial: f64,
    virial_standard_error: Option<f64>,
    /// nβ times how far below the model's loss the chains came.
    below: f64,
    /// Standard deviation of what rounding adds to nβ L.
    resolution: f64,
    chains: usize,
    burn_in: usize,
    /// Recorded steps of each chain.
    steps: usize,
    /// Parameters that were sampled.
    sampled_parameters: usize,
    /// Parameters in blocks of zeros, which the block prior holds still.
    frozen_parameters: usize,
    /// Eigenvectors along which steps are scaled.
    directions: usize,
    /// Why it is not reliable.
    notes: Vec<String>,
    #[serde(flatten)]
    evidence: Evidence,
}

/// Probes and Lanczos steps of the quadratic coefficient.
const QUADRATIC: (usize, usize) = (8, 60);

pub(super) fn run<S>(open: S, arguments: &MeasureLlc) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<(Session, bool), Failure>,
{
    let common = &arguments.common;
    let (session, conditional) = open(common)?;
    let subject = session.setting(common).subject(&session.sentences()?)?;
    let steps = arguments.steps as usize;
    let what = CoefficientRequest {
        nbeta: arguments.nbeta,
        prior: arguments.prior.prior,
        gamma: arguments.prior.gamma,
        chains: ChainOptions {
            chains: arguments.chains as usize,
            burn_in: arguments.burn_in.map_or(steps.div_ceil(2), |b| b as usize),
            steps,
            seed: common.seed(),
        },
        directions: arguments.directions as usize,
        quadratic: (!arguments.no_quadratic).then_some(QUADRATIC),
        block: common.probes as usize,
    };
    let found = learning_coefficient(&subject, &what, &mut |stage: &Stage<'_>| session.follow(stage))?;
    let scope = Scope::of(&subject, session.target(), found.gradient_equivalents);
    let interrupted = found.coefficient.interrupted;
    let evidence = session.evidence(common, scope).ended(interrupted, found.coefficient.reliable());
    let report = report(&what, &found, conditional, evidence);
    report.notes.iter().for_each(|n| print::note(n));
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

fn report(what: &CoefficientRequest, of: &LearningCoefficient, conditional: bool, evidence: Evidence) -> LlcReport {
    let found = &of.coefficient;
    let lambda = of.quadratic.map(|q| q.lambda_q);
    let volume = of.quadratic.map(|q| q.log_volume);
    LlcReport {
        llc: found.llc.value,
        llc_standard_error: finite(found.llc.standard_error),
        llc_standard_error_batches: finite(found.loss.batch_error),
        llc_standard_error_chains: finite(found.loss.chain_error),
        reliable: found.reliable(),
        nbeta: found.nbeta,
        prior: what.prior.name().into(),
        gamma: what.gamma,
        lambda_q: lambda.map(|l| l.value.value),
        lambda_q_standard_error: lambda.and_then(|l| finite(l.value.standard_error)),
        lambda_q_truncation: lambda.and_then(|l| l.truncation),
        log_volume: volume.map(|v| v.value.value),
        log_volume_standard_error: volume.and_then(|v| finite(v.value.standard_error)),
        log_volume_truncation: volume.and_then(|v| v.truncation),
        loss: of.loss,
        labels: if conditional { "conditional" } else { "data" }.into(),
        acceptance: found.acceptance,
        step_size: found.step_size,
        r_hat: finite(found.loss.r_hat),
        r_hat_distance: finite(found.prior.r_hat),
        effective_samples: found.loss.effective_samples,
        halves: found.loss.halves,
        halves_z: found.loss.halves_z,
        virial: found.virial.value,
        virial_standard_error: finite(found.virial.standard_error),
        below: found.below,
        resolution: found.resolution,
        chains: what.chains.chains,
        burn_in: what.chains.burn_in,
        steps: found.steps,
        sampled_parameters: found.size,
        frozen_parameters: of.frozen,
        directions: of.directions,
        notes: found.doubts.iter().map(|d| format!("not reliable: {d}")).collect(),
        evidence,
    }
}

fn rows(report: &LlcReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let short = print::short;
    let sure = if report.reliable { "" } else { ", not reliable" };
    let lambda = |value: Option<f64>, error| value.map_or("none".into(), |v| print::with_error(v, error));
    let rhat = |r: Option<f64>| r.map_or("infinite".into(), |r| format!("{r:.3}"));
    let mut rows = vec![
        row("llc", format!("{}{sure}", print::with_error(report.llc, report.llc_standard_error))),
        row("  if quadratic", lambda(report.lambda_q, report.lambda_q_standard_error)),
        row("log volume", lambda(report.log_volume, report.log_volume_standard_error)),
        row("nβ", format!("{}, a mean rise of {} nats", report.nbeta, short(report.llc / report.nbeta))),
        row("prior", format!("{}, γ = {}", report.prior, report.gamma)),
        row("loss", format!("{} on {} labels", short(report.loss), report.labels)),
        row("chains", format!("{} of {} steps, {} before them", report.chains, report.steps, report.burn_in)),
        row("acceptance", format!("{:.2} at a step size of {}", report.acceptance, short(report.step_size))),
        row(
            "split R-hat",
            format!("{} of the loss, {} of the distance", rhat(report.r_hat), rhat(report.r_hat_distance)),
        ),
        row("effective samples", format!("{:.0}", report.effective_samples)),
        row(
            "halves",
            format!(
                "{} and {}, {:.1} standard errors apart",
                short(report.halves[0]),
                short(report.halves[1]),
                report.halves_z.abs()
            ),
        ),
        row(
            "sampled",
            format!(
                "{} parameters, {} in blocks of zeros held still",
                report.sampled_parameters, report.frozen_parameters
            ),
        ),
    ];
    rows.extend(report.evidence.rows("ggn, for the quadratic coefficient"));
    rows
}
