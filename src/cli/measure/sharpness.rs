//! `lowland measure sharpness`: the largest eigenvalue, batch sharpness, the loss's rise along the gradient, and
//! sharpness as the optimiser meets it.

use schemars::JsonSchema;
use serde::Serialize;

use super::update::{Update, UpdateReport, lanczos, largest, scatter};
use super::{Evidence, Number, Session, check_figure, finite, print_report, unless_interrupted, write_figure};
use crate::cli::arguments::{Common, MeasureSharpness, ModelAndExamples};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{BatchSharpness, Matrix, ModelOperator, Progress, Scope, top_eigenpairs};
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
    /// Of the choice of examples, to first order: the scatter of vᵀH_i v for the eigenvector v.
    largest_eigenvalue_standard_error: Option<f64>,
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
    update: UpdateReport,
    #[serde(flatten)]
    evidence: Evidence,
}

pub(super) fn run<S>(open: S, arguments: &MeasureSharpness) -> Result<(), Failure>
where
    S: Fn(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    if !(arguments.rho > 0.0 && arguments.rho.is_finite()) {
        return Err(Failure::usage(format!("--rho {}: the step's length must be positive", arguments.rho)));
    }
    check_figure(arguments.out.as_deref())?;
    // The other examples first: their copy of the model is gone before the measurement's is there.
    let others = match &arguments.update {
        None => None,
        Some(path) => {
            let on = ModelAndExamples { examples: path.clone(), overrides: vec![], ..common.on.clone() };
            Some(open(&Common { on, ..common.clone() })?.sentences()?)
        }
    };
    let session = open(common)?;
    let sentences = session.sentences()?;
    let size = (arguments.sharpness_batch as usize).min(sentences.len());
    let small = session.setting(common).subject_in(&sentences, size)?;
    let values = BatchSharpness::measure(&small, arguments.rho, &mut |p| session.watch("batch sharpness", "batch", p))?;
    let what = lanczos(arguments, small.size());
    let mut look = |p: &Progress| session.watch("largest eigenvalue", "product", p);
    let subject = session.setting(common).subject(&sentences)?;
    let operator = ModelOperator::new(&subject, Matrix::Hessian);
    let pairs = match values.interrupted {
        true => None,
        false => unless_interrupted(top_eigenpairs(&operator, &what, &mut look))?,
    };
    let mut interrupted = pairs.as_ref().is_none_or(|p| p.interrupted);
    let place = pairs.as_ref().map_or(0, |p| largest(&p.eigenvalues));
    let found = pairs.as_ref().map(|p| (p.eigenvalues[place], p.residuals[place], p.converged[place]));
    let error = match &pairs {
        Some(pairs) if !interrupted => unless_interrupted(scatter(&operator, &subject, &pairs.vectors[place]))?,
        _ => None,
    };
    let update = match interrupted {
        true => UpdateReport::default(),
        false => Update { session: &session, arguments, sentences: &sentences, others: others.as_deref() }.measure()?,
    };
    interrupted |= update.interrupted;
    let converged = found.is_some_and(|f| f.2);
    let cost = pairs.map_or(0.0, |p| p.gradient_equivalents) + values.gradient_equivalents + update.cost;
    let number = |of: &[f64]| Number::from(Estimate::of_mean(of));
    let report = SharpnessReport {
        matrix: "hessian".into(),
        largest_eigenvalue: found.map(|f| f.0),
        largest_eigenvalue_standard_error: error.and_then(finite),
        residual: found.map(|f| f.1),
        converged,
        batch_sharpness: number(&values.curvature),
        ascent_loss: number(&values.ascent),
        gradient_norm: number(&values.gradient_norm),
        rho: arguments.rho,
        sharpness_batch: size,
        batches: values.curvature.len(),
        batch_sharpness_values: values.curvature,
        ascent_loss_values: values.ascent,
        evidence: session
            .evidence(common, Scope::of(&small, Target::Population, cost))
            .ended(interrupted, converged && !update.unconverged()),
        update,
    };
    for (name, lost) in [("largest", !report.converged), ("preconditioned", report.update.unconverged())] {
        if lost && !interrupted {
            print::note(&format!(
                "the {name} eigenvalue has not converged: give more --products, or a larger --tolerance"
            ));
        }
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
        row("update", report.update.update().to_string()),
    ];
    let known = |(name, value, error): (&str, Option<f64>, Option<f64>)| {
        row(name, value.map_or("none".into(), |value| print::with_error(value, error)))
    };
    rows.extend(report.update.rows().into_iter().map(known));
    rows.extend(report.update.notes().iter().map(|note| row("note", note.clone())));
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
