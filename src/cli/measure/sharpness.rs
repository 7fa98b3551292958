//! `lowland measure sharpness`: the largest eigenvalue, batch sharpness, and the loss's rise along the gradient.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Number, Session, check_figure, print_report, unless_interrupted, write_figure};
use crate::cli::arguments::{Common, MeasureSharpness};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{BatchSharpness, Lanczos, Matrix, ModelOperator, Progress, Scope, top_eigenpairs};
use crate::report::{Axis, Figure, Line};
use crate::statistics::{Estimate, Target};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SharpnessReport {
    /// Always `hessian`.
    matrix: String,
    /// The largest eigenvalue of the Hessian over all examples, among the three of largest absolute value.
    /// Null where an interrupt came before it.
    largest_eigenvalue: Option<f64>,
    /// ‖H v - λ v‖ with ‖v‖ = 1.
    residual: Option<f64>,
    converged: bool,
    /// Mean over batches of gᵀ H g / ‖g‖², with a batch's own g and H.
    batch_sharpness: Number,
    /// Mean over batches of the loss at θ + ρ g / ‖g‖ minus the loss at θ, on the batch itself.
    ascent_loss: Number,
    /// Mean over batches of ‖g‖.
    gradient_norm: Number,
    rho: f64,
    /// Examples in a batch.
    sharpness_batch: usize,
    batches: usize,
    /// Of each batch.
    batch_sharpness_values: Vec<f64>,
    ascent_loss_values: Vec<f64>,
    #[serde(flatten)]
    evidence: Evidence,
}

pub(super) fn run<S>(open: S, arguments: &MeasureSharpness) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    if !(arguments.rho > 0.0 && arguments.rho.is_finite()) {
        return Err(Failure::usage(format!("--rho {}: the step's length must be positive", arguments.rho)));
    }
    check_figure(arguments.out.as_deref())?;
    let session = open(common)?;
    let sentences = session.sentences()?;
    let size = (arguments.sharpness_batch as usize).min(sentences.len());
    let small = session.setting(common).subject_in(&sentences, size)?;
    let values = BatchSharpness::measure(&small, arguments.rho, &mut |p| session.watch("batch sharpness", "batch", p))?;
    let what = Lanczos {
        top: 3.min(small.size()),
        tolerance: arguments.tolerance,
        products: arguments.products as usize,
        block: 2.min(common.probes as usize),
        seed: common.seed(),
    };
    let mut look = |p: &Progress| session.watch("largest eigenvalue", "product", p);
    let pairs = match values.interrupted {
        true => None,
        false => unless_interrupted(
            session
                .setting(common)
                .subject(&sentences)
                .and_then(|subject| top_eigenpairs(&ModelOperator::new(&subject, Matrix::Hessian), &what, &mut look)),
        )?,
    };
    let interrupted = pairs.as_ref().is_none_or(|p| p.interrupted);
    let largest = pairs.as_ref().and_then(|p| {
        let place = (0..p.eigenvalues.len()).max_by(|a, b| p.eigenvalues[*a].total_cmp(&p.eigenvalues[*b]))?;
        Some((p.eigenvalues[place], p.residuals[place], p.converged[place]))
    });
    let converged = largest.is_some_and(|l| l.2);
    let cost = pairs.map_or(0.0, |p| p.gradient_equivalents) + values.gradient_equivalents;
    let number = |of: &[f64]| Number::from(Estimate::of_mean(of));
    let report = SharpnessReport {
        matrix: "hessian".into(),
        largest_eigenvalue: largest.map(|l| l.0),
        residual: largest.map(|l| l.1),
        converged,
        batch_sharpness: number(&values.curvature),
        ascent_loss: number(&values.ascent),
        gradient_norm: number(&values.gradient_norm),
        rho: arguments.rho,
        sharpness_batch: size,
        batches: values.curvature.len(),
        batch_sharpness_values: values.curvature,
        ascent_loss_values: values.ascent,
        evidence: session.evidence(common, Scope::of(&small, Target::Population, cost)).ended(interrupted, converged),
    };
    if !report.converged && !interrupted {
        print::note("the largest eigenvalue has not converged: give more --products, or a larger --tolerance");
    }
    write_figure(arguments.out.as_deref(), || figure(&report))?;
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

fn rows(report: &SharpnessReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let largest = match (report.largest_eigenvalue, report.residual) {
        (Some(value), Some(residual)) => format!("{}, residual {}", print::short(value), print::short(residual)),
        _ => "unknown".into(),
    };
    let batches = format!("over {} batches of {}", report.batches, report.sharpness_batch);
    let mut rows = vec![
        row("largest eigenvalue", largest),
        row("batch sharpness", format!("{} {batches}", report.batch_sharpness.text())),
        row("ascent loss", format!("{} at a step of {}", report.ascent_loss.text(), report.rho)),
        row("‖g‖ of a batch", report.gradient_norm.text()),
    ];
    rows.extend(report.evidence.rows(&report.matrix));
    rows
}

fn figure(report: &SharpnessReport) -> Figure {
    let points = |values: &[f64]| values.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect();
    Figure {
        title: format!("sharpness of batches of {}", report.sharpness_batch),
        x: "batch".into(),
        y: "gᵀHg / ‖g‖²".into(),
        axis: Axis::Linear,
        lines: vec![Line::new("batch sharpness", points(&report.batch_sharpness_values))],
        level: report.largest_eigenvalue.map(|value| ("largest eigenvalue".into(), value)),
    }
}
