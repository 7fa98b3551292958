//! What `measure spectrum --nbeta` adds: the quadratic learning coefficient and the logarithm of the volume, from the
//! density in the coordinates of a prior.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Number, finite};
use crate::cli::arguments::PriorArguments;
use crate::cli::print;
use crate::curvature::{Named, Quadratic, Quadrature, SpectralSum};

/// Of a list one entry for each nβ; null, with a note, where nβ h + γ is not above 0 for all eigenvalues h.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct VolumeReport {
    /// Inverse temperatures.
    nbeta: Vec<f64>,
    /// `block` or `isotropic`: what D of the prior's covariance D / γ is.
    prior: String,
    gamma: f64,
    /// ½ Σ nβ h / (nβ h + γ) over the eigenvalues h of D^½ A D^½.
    lambda_q: Vec<Option<f64>>,
    /// Over the probes; null for one probe.
    lambda_q_standard_error: Vec<Option<f64>>,
    /// What the number of Lanczos steps leaves open, on either side; null of a matrix with negative eigenvalues.
    lambda_q_truncation: Vec<Option<f64>>,
    /// ½ Σ ln(1 + nβ h / γ), in nats.
    log_volume: Vec<Option<f64>>,
    log_volume_standard_error: Vec<Option<f64>>,
    log_volume_truncation: Vec<Option<f64>>,
    /// Largest h and Tr D^½ A D^½: with the block prior and the Fisher matrix the scale-free trace.
    scaled_largest: f64,
    scaled_trace: Number,
    /// Parameters in blocks of zeros, which the block prior holds still.
    frozen_parameters: usize,
    #[serde(skip)]
    pub(super) notes: Vec<String>,
}

/// The report of a density of D^½ A D^½.
pub(super) fn report(q: &Quadrature, nbetas: &[f64], prior: &PriorArguments, frozen: usize) -> VolumeReport {
    let all: Vec<Option<Quadratic>> = nbetas.iter().map(|b| q.quadratic(*b, prior.gamma)).collect();
    let of = |sum: fn(&Quadratic) -> SpectralSum, what: fn(&SpectralSum) -> f64| -> Vec<Option<f64>> {
        all.iter().map(|found| found.as_ref().and_then(|f| finite(what(&sum(f))))).collect()
    };
    let [lambda, volume]: [fn(&Quadratic) -> SpectralSum; 2] = [|f| f.lambda_q, |f| f.log_volume];
    let [value, error, truncation]: [fn(&SpectralSum) -> f64; 3] =
        [|s| s.value.value, |s| s.value.standard_error, |s| s.truncation.unwrap_or(f64::NAN)];
    let (low, high) = q.range();
    let mut notes = Vec::new();
    for (nbeta, found) in nbetas.iter().zip(&all) {
        let Some(f) = found else {
            notes.push(format!(
                "lambda_q at nβ = {nbeta} is null: the curvature {} is below -γ / nβ, and the quadratic posterior has \
                no end along it. The point is no minimum at this nβ; --matrix ggn has no negative curvature, a larger \
                --gamma bounds it",
                print::short(low)
            ));
            continue;
        };
        let value = f.lambda_q.value;
        let off = f.lambda_q.truncation.unwrap_or(0.0);
        if off > value.standard_error.max(0.01 * value.value.abs()) {
            notes.push(format!(
                "lambda_q at nβ = {nbeta} is open by {} on either side: more --steps narrow it",
                print::short(off)
            ));
        }
        if f.rounding > 0.01 * value.value.abs() {
            notes.push(format!(
                "lambda_q at nβ = {nbeta} is off by up to {}: eigenvalues that single precision does not tell from 0 \
                count at this nβ; a smaller nβ or a larger --gamma",
                print::short(f.rounding)
            ));
        }
    }
    VolumeReport {
        nbeta: nbetas.to_vec(),
        prior: prior.prior.name().into(),
        gamma: prior.gamma,
        lambda_q: of(lambda, value),
        lambda_q_standard_error: of(lambda, error),
        lambda_q_truncation: of(lambda, truncation),
        log_volume: of(volume, value),
        log_volume_standard_error: of(volume, error),
        log_volume_truncation: of(volume, truncation),
        scaled_largest: high,
        scaled_trace: trace(q),
        frozen_parameters: frozen,
        notes,
    }
}

/// Sum of the eigenvalues.
fn trace(q: &Quadrature) -> Number {
    let mut mean = q.moment(1);
    mean.value *= q.size as f64;
    mean.standard_error *= q.size as f64;
    mean.into()
}

pub(super) fn rows(report: &VolumeReport) -> Vec<(String, String)> {
    let text = |value: Option<f64>, error: Option<f64>| value.map_or("none".into(), |v| print::with_error(v, error));
    let mut rows = Vec::new();
    for (i, nbeta) in report.nbeta.iter().enumerate() {
        let lambda = text(report.lambda_q[i], report.lambda_q_standard_error[i]);
        rows.push((format!("lambda_q at nβ = {nbeta}"), lambda));
        rows.push(("  log volume".into(), text(report.log_volume[i], report.log_volume_standard_error[i])));
    }
    rows.push(("prior".into(), format!("{}, γ = {}", report.prior, report.gamma)));
    if report.frozen_parameters > 0 {
        rows.push(("held still".into(), format!("{} parameters in blocks of zeros", report.frozen_parameters)));
    }
    rows
}
