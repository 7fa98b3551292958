//! `lowland measure sharpness`: the largest eigenvalue, batch sharpness, and the loss's rise along the gradient.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Evidence, Number, Session, check_figure, print_report, write_figure};
use crate::cli::arguments::{Common, MeasureSharpness};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{BatchSharpness, Lanczos, Matrix, ModelOperator, top_eigenpairs};
use crate::report::{Axis, Figure, Line};
use crate::statistics::{Estimate, Target};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SharpnessReport {
    /// Always `hessian`.
    matrix: String,
    /// The largest eigenvalue of the Hessian over all examples, among the three of largest absolute value.
    largest_eigenvalue: f64,
    /// ‖H v - λ v‖ with ‖v‖ = 1.
    residual: f64,
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
    let sentences = session.sentences();
    let size = (arguments.sharpness_batch as usize).min(sentences.len());
    let small = session.subject(common, &sentences, size as u32)?;
    let values = BatchSharpness::measure(&small, arguments.rho, &mut |p| session.watch("batch sharpness", "batch", p))?;
    let subject = session.subject(common, &sentences, common.on.batch)?;
    let what = Lanczos {
        top: 3.min(subject.size()),
        tolerance: arguments.tolerance,
        products: arguments.products as usize,
        block: 2.min(common.probes as usize),
        seed: common.seed(),
    };
    let operator = ModelOperator::new(&subject, Matrix::Hessian);
    let pairs = top_eigenpairs(&operator, &what, &mut |p| session.watch("largest eigenvalue", "product", p))?;
    let largest = (0..pairs.eigenvalues.len())
        .max_by(|a, b| pairs.eigenvalues[*a].total_cmp(&pairs.eigenvalues[*b]))
        .expect("at least one was asked for");
    let cost = pairs.gradient_equivalents + values.gradient_equivalents;
    let number = |of: &[f64]| Number::from(Estimate::of_mean(of));
    let report = SharpnessReport {
        matrix: "hessian".into(),
        largest_eigenvalue: pairs.eigenvalues[largest],
        residual: pairs.residuals[largest],
        converged: pairs.converged[largest],
        batch_sharpness: number(&values.curvature),
        ascent_loss: number(&values.ascent),
        gradient_norm: number(&values.gradient_norm),
        rho: arguments.rho,
        sharpness_batch: size,
        batches: values.curvature.len(),
        batch_sharpness_values: values.curvature,
        ascent_loss_values: values.ascent,
        evidence: session.evidence(common, &subject, Target::Population, cost),
    };
    if !report.converged {
        print::note("the largest eigenvalue has not converged: give more --products, or a larger --tolerance");
    }
    write_figure(arguments.out.as_deref(), || figure(&report))?;
    print_report(common.json.json, &report, &rows(&report))
}

fn rows(report: &SharpnessReport) -> Vec<(String, String)> {
    let row = |a: &str, b: String| (a.to_string(), b);
    let largest = format!("{}, residual {}", print::short(report.largest_eigenvalue), print::short(report.residual));
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
        level: Some(("largest eigenvalue".into(), report.largest_eigenvalue)),
    }
}
