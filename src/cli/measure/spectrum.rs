//! `lowland measure spectrum`: the eigenvalues of largest absolute value, and the spectral density.

use schemars::JsonSchema;
use serde::Serialize;

use super::volume::{self, VolumeReport};
use super::{Evidence, Number, Session, check_figure, finite, print_report, unless_interrupted, write_figure};
use crate::cli::arguments::{Common, MeasureSpectrum};
use crate::cli::failure::Failure;
use crate::cli::print;
use crate::curvature::{
    Density, Eigenpairs, Lanczos, LogDensity, Operator, Prior, Quadrature, QuadratureOptions, ScaledOperator, Scope,
    quadrature, top_eigenpairs,
};
use crate::report::{Axis, Figure, Line};

/// What is printed under `--json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SpectrumReport {
    matrix: String,
    /// Largest absolute value first, with their signs.
    eigenvalues: Vec<f64>,
    /// ‖A v - λ v‖ of each, with ‖v‖ = 1.
    residuals: Vec<f64>,
    /// Whether the residual is within the tolerance.
    converged: Vec<bool>,
    /// Largest residual over |λ|.
    tolerance: f64,
    /// Products with the matrix.
    products: usize,
    #[serde(flatten)]
    density: Option<DensityReport>,
    #[serde(flatten)]
    evidence: Evidence,
}

/// What `--density` adds.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct DensityReport {
    /// Eigenvalues at which the density is given.
    grid: Vec<f64>,
    /// Share of the eigenvalues per unit of the axis, broadened by a Gaussian.
    density: Vec<f64>,
    /// Of the density over the probes; null for one probe.
    density_standard_error: Vec<Option<f64>>,
    /// Standard deviation of the Gaussian.
    width: f64,
    /// log10 |λ| at which the logarithmic densities are given.
    log_grid: Vec<f64>,
    /// Share of the eigenvalues per decade, those above 0.
    log_density_positive: Vec<f64>,
    log_density_positive_standard_error: Vec<Option<f64>>,
    /// The same for those below 0.
    log_density_negative: Vec<f64>,
    log_density_negative_standard_error: Vec<Option<f64>>,
    /// Standard deviation of the Gaussian in decades.
    log_width: f64,
    /// Share of the eigenvalues with |λ| below `floor`, which f32 does not tell from 0. Null, with a note, where the
    /// quadrature cannot tell it: where a probe's Krylov space is not exhausted.
    near_zero: Option<Number>,
    /// Bound on that share: weight of the nodes below `floor` and of the next one on either side.
    near_zero_at_most: Number,
    floor: f64,
    /// Share of the parameters on which no example's loss depends (rows of tables that nothing uses, biases of keys),
    /// counted outright: at least so large a share of the eigenvalues is 0.
    untouched_share: f64,
    /// Their number.
    untouched_parameters: usize,
    /// Why something is null.
    notes: Vec<String>,
    /// Mean eigenvalue, Tr A / N.
    mean_eigenvalue: Number,
    /// Mean squared eigenvalue, ‖A‖_F² / N.
    mean_squared_eigenvalue: Number,
    /// Probe vectors and Lanczos steps of each.
    density_probes: usize,
    steps: usize,
    #[serde(flatten)]
    volume: Option<VolumeReport>,
}

/// Width of the Gaussian on the linear axis, as a share of the range.
const RELATIVE_WIDTH: f64 = 0.01;
/// On the logarithmic axis, in decades.
const LOG_WIDTH: f64 = 0.1;
/// |λ| below this times the largest is near zero: the rounding of products in f32.
const FLOOR: f64 = 1e-7;

pub(super) fn run<S>(open: S, arguments: &MeasureSpectrum) -> Result<(), Failure>
where
    S: FnOnce(&Common) -> Result<Session, Failure>,
{
    let common = &arguments.common;
    check_figure(arguments.out.as_deref())?;
    let session = open(common)?;
    let subject = session.setting(common).subject(&session.sentences()?)?;
    let operator = arguments.matrix.operator(&subject)?;
    let what = Lanczos {
        top: arguments.top as usize,
        tolerance: arguments.tolerance,
        products: arguments.products as usize,
        block: 2.min(common.probes as usize),
        seed: common.seed(),
    };
    session.gauge.phase("largest eigenvalue");
    let pairs = top_eigenpairs(&*operator, &what, &mut |p| session.watch("largest eigenvalue", "product", p))?;
    let what = QuadratureOptions {
        seed: common.seed(),
        probes: arguments.density_probes as usize,
        steps: arguments.steps as usize,
        block: common.probes as usize,
        ..QuadratureOptions::default()
    };
    let taken = |name: &str, operator: &dyn Operator| {
        unless_interrupted(quadrature(operator, &what, &mut |p| session.watch(name, "product", p)))
    };
    let density = match arguments.density && !pairs.interrupted {
        true => taken("density", &*operator)?,
        false => None,
    };
    let cut = |q: &Quadrature| q.interrupted;
    let mut interrupted = pairs.interrupted || arguments.density && density.as_ref().is_none_or(cut);
    // With a round prior the density is that of the matrix itself.
    let mut scaled = None;
    let mut frozen = 0;
    if !arguments.nbeta.is_empty() && !interrupted {
        scaled = match arguments.prior.prior {
            Prior::Isotropic => density.clone().map(|q| Quadrature { products: 0, gradient_equivalents: 0.0, ..q }),
            Prior::Block => {
                let scales = arguments.prior.prior.scales(&subject)?;
                frozen = scales.iter().filter(|s| **s == 0.0).count();
                taken("density in blocks", &ScaledOperator::new(&*operator, &scales)?)?
            }
        };
        interrupted = scaled.as_ref().is_none_or(cut);
    }
    let converged = pairs.converged.iter().all(|c| *c);
    let quadratures = || density.iter().chain(&scaled);
    let cost = pairs.gradient_equivalents + quadratures().map(|q| q.gradient_equivalents).sum::<f64>();
    let products = pairs.products + quadratures().map(|q| q.products).sum::<usize>();
    let points = arguments.points as usize;
    let curves = density.as_ref().map(|q| (q.density(RELATIVE_WIDTH, points), q.log_density(FLOOR, LOG_WIDTH, points)));
    let untouched: usize = subject.untouched().iter().map(|r| r.len()).sum();
    let scope = Scope::of(&subject, session.target(), cost).of_sums(arguments.matrix.of_sums());
    let report = SpectrumReport {
        matrix: arguments.matrix.to_string(),
        eigenvalues: pairs.eigenvalues.clone(),
        residuals: pairs.residuals.clone(),
        converged: pairs.converged.clone(),
        tolerance: arguments.tolerance,
        products,
        density: density.as_ref().zip(curves.as_ref()).map(|(q, (linear, log))| {
            let steps = q.nodes.iter().map(Vec::len).max().unwrap_or(0);
            let volume = scaled.as_ref().map(|q| volume::report(q, &arguments.nbeta, &arguments.prior, frozen));
            density_report(q, linear, log, (steps, untouched), volume)
        }),
        evidence: session.evidence(common, scope).ended(interrupted, converged),
    };
    if !converged && !pairs.interrupted {
        print::note("not every eigenvalue has converged: give more --products, or a larger --tolerance");
    }
    report.density.iter().flat_map(|d| &d.notes).for_each(|n| print::note(n));
    write_figure(arguments.out.as_deref(), || figure(&report.matrix, &pairs, curves.as_ref()))?;
    print_report(common.json.json, &report, &rows(&report), &report.evidence)
}

fn density_report(
    q: &Quadrature,
    linear: &Density,
    log: &LogDensity,
    (steps, untouched): (usize, usize),
    volume: Option<VolumeReport>,
) -> DensityReport {
    let mut notes = match log.near_zero {
        Some(_) => Vec::new(),
        None => {
            let short = (0..q.nodes.len()).filter(|p| !q.tells(*p, log.floor)).count();
            vec![format!(
                "the share near zero cannot be told from {steps} steps: the Krylov space of {short} of {} probes is \
                not exhausted, and the nodes next to 0 are up to {} apart, where {} counts as 0. Nor do the \
                logarithmic densities say anything between them. It is at most `near_zero_at_most`; more --steps (at \
                most {}, the parameters that take part) may tell it",
                q.nodes.len(),
                print::short(log.gap),
                print::short(log.floor),
                q.size
            )]
        }
    };
    notes.extend(volume.iter().flat_map(|v| v.notes.clone()));
    let errors = |d: &Density| d.standard_error.iter().map(|e| finite(*e)).collect();
    DensityReport {
        grid: linear.grid.clone(),
        density: linear.density.clone(),
        density_standard_error: errors(linear),
        width: linear.width,
        log_grid: log.positive.grid.clone(),
        log_density_positive: log.positive.density.clone(),
        log_density_positive_standard_error: errors(&log.positive),
        log_density_negative: log.negative.density.clone(),
        log_density_negative_standard_error: errors(&log.negative),
        log_width: log.positive.width,
        near_zero: log.near_zero.map(Number::from),
        near_zero_at_most: log.near_zero_at_most.into(),
        floor: log.floor,
        untouched_share: untouched as f64 / q.size as f64,
        untouched_parameters: untouched,
        notes,
        mean_eigenvalue: q.moment(1).into(),
        mean_squared_eigenvalue: q.moment(2).into(),
        density_probes: q.nodes.len(),
        steps,
        volume,
    }
}

fn rows(report: &SpectrumReport) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (i, value) in report.eigenvalues.iter().enumerate() {
        let residual = print::short(report.residuals[i]);
        let mark = if report.converged[i] { "" } else { ", not converged" };
        rows.push((format!("eigenvalue {}", i + 1), format!("{}, residual {residual}{mark}", print::short(*value))));
    }
    if let Some(d) = &report.density {
        rows.push(("mean eigenvalue".into(), d.mean_eigenvalue.text()));
        rows.push(("mean square".into(), d.mean_squared_eigenvalue.text()));
        let near = match &d.near_zero {
            Some(share) => share.text(),
            None => format!("cannot be told, at most {}", d.near_zero_at_most.text()),
        };
        rows.push((format!("share below {}", print::short(d.floor)), near));
        let share = print::short(d.untouched_share);
        rows.push(("untouched share".into(), format!("{share}, {} parameters", d.untouched_parameters)));
        rows.extend(d.volume.iter().flat_map(volume::rows));
    }
    rows.extend(report.evidence.rows(&report.matrix));
    rows
}

fn figure(matrix: &str, pairs: &Eigenpairs, curves: Option<&(Density, LogDensity)>) -> Figure {
    let line = |name: &str, d: &Density| Line {
        name: name.into(),
        points: d.grid.iter().copied().zip(d.density.iter().copied()).collect(),
        errors: d.standard_error.iter().map(|e| if e.is_finite() { *e } else { 0.0 }).collect(),
        background: false,
        marks: false,
    };
    match curves {
        Some((_, log)) => Figure {
            title: format!("spectral density of the {matrix} (bars: standard error over probes)"),
            x: "log10 |eigenvalue|".into(),
            y: "share of the eigenvalues per decade".into(),
            axis: Axis::Linear,
            lines: vec![line("above 0", &log.positive), line("below 0", &log.negative)],
            level: None,
        },
        None => {
            let points = pairs.eigenvalues.iter().enumerate().map(|(i, v)| ((i + 1) as f64, *v)).collect();
            Figure {
                title: format!("eigenvalues of the {matrix} (bars: residuals)"),
                x: "rank by absolute value".into(),
                y: "eigenvalue".into(),
                axis: Axis::Linear,
                lines: vec![Line { errors: pairs.residuals.clone(), ..Line::new("eigenvalue", points) }],
                level: None,
            }
        }
    }
}
