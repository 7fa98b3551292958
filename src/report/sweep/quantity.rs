//! The quantities that describe a model: numbers with their standard errors, under the names of files and in words.

use crate::sweep::{Accuracies, Row};
use crate::train::Measurement;

/// A number with its standard error, where that is known.
pub type Value = (f64, Option<f64>);

/// A quantity that accuracy may go with.
pub struct Predictor {
    /// The name in files.
    pub key: &'static str,
    /// The name in figures.
    pub name: &'static str,
    pub unit: &'static str,
    /// Depends on the parametrisation.
    pub curvature: bool,
    pub of: fn(&Row) -> Option<Value>,
}

fn measured(row: &Row, pick: impl Fn(&Measurement) -> Option<Value>) -> Option<Value> {
    pick(row.curvature.as_ref()?).filter(|(v, _)| v.is_finite())
}

pub const FISHER: Predictor = Predictor {
    key: "fisher_trace",
    name: "Fisher trace, Tr F",
    unit: "nats / weight²",
    curvature: true,
    of: |row| measured(row, |m| Some((m.fisher_trace, Some(m.fisher_trace_standard_error)))),
};

pub const HESSIAN: Predictor = Predictor {
    key: "hessian_trace",
    name: "Hessian trace, Tr H",
    unit: "nats / weight²",
    curvature: true,
    of: |row| measured(row, |m| Some((m.hessian_trace?, m.hessian_trace_standard_error))),
};

pub const EIGENVALUE: Predictor = Predictor {
    key: "largest_eigenvalue",
    name: "largest eigenvalue of H",
    unit: "nats / weight²",
    curvature: true,
    of: |row| measured(row, |m| Some((m.largest_eigenvalue?, m.largest_eigenvalue_standard_error))),
};

pub const NOISE: Predictor = Predictor {
    key: "noise_trace",
    name: "noise trace, Tr Σ",
    unit: "nats² / weight²",
    curvature: true,
    of: |row| measured(row, |m| Some((m.noise_trace?, m.noise_trace_standard_error))),
};

pub const SCALE_FREE: Predictor = Predictor {
    key: "scale_free_trace",
    name: "scale-free trace, Σ |w|² T",
    unit: "nats",
    curvature: false,
    of: |row| measured(row, |m| Some((m.scale_free_trace?, m.scale_free_trace_standard_error))),
};

pub const RELATIVE: Predictor = Predictor {
    key: "relative_flatness",
    name: "relative flatness, Σ E‖WᵀG‖²",
    unit: "nats",
    curvature: false,
    of: |row| measured(row, |m| Some((m.relative_flatness?, m.relative_flatness_standard_error))),
};

pub const RISE: Predictor = Predictor {
    key: "perturb_rise",
    name: "rise under noise on the weights",
    unit: "nats",
    curvature: false,
    of: |row| measured(row, |m| m.last_rise().map(|(rise, error)| (rise, Some(error)))),
};

pub const EXCESS: Predictor = Predictor {
    key: "excess_loss",
    name: "excess loss",
    unit: "nats",
    curvature: false,
    of: |row| {
        let e = row.evaluation.as_ref()?;
        e.excess_loss.filter(|excess| excess.is_finite()).map(|excess| (excess, e.excess_loss_standard_error))
    },
};

/// What a model is trained on, where the excess of it is not known; elsewhere they differ by a constant.
pub const LOSS: Predictor = Predictor { key: "loss", name: "loss", unit: "nats", curvature: false, of: loss };

/// The paper's predictor and its rivals.
pub const PREDICTORS: [&Predictor; 8] =
    [&FISHER, &HESSIAN, &EIGENVALUE, &NOISE, &SCALE_FREE, &RELATIVE, &RISE, &EXCESS];

/// Expected loss with the error of its excess part, which is what differs between models on the same sentences; the
/// loss on examples where models are asked about those.
pub fn loss(row: &Row) -> Option<Value> {
    let expected = row.evaluation.as_ref().map(|e| (e.loss, e.excess_loss_standard_error.or(e.loss_standard_error)));
    expected.or_else(|| row.examples.as_ref().map(|e| (e.loss, Some(e.loss_standard_error))))
}

/// Tr Σ / Tr F.
pub fn noise_fisher(row: &Row) -> Option<Value> {
    measured(row, |m| m.bartlett.as_ref().and_then(|b| Some((b.noise_fisher?, b.noise_fisher_standard_error))))
}

/// Tr H / Tr F.
pub fn hessian_fisher(row: &Row) -> Option<Value> {
    measured(row, |m| m.bartlett.as_ref().and_then(|b| Some((b.hessian_fisher?, b.hessian_fisher_standard_error))))
}

/// The share of the last representations' variance between exact conditionals.
pub fn alignment(row: &Row) -> Option<Value> {
    row.alignment.as_ref().map(|a| (a.share_of_conditional, Some(a.share_of_conditional_standard_error)))
}

pub fn accuracies<'a>(row: &'a Row, task: &str) -> Option<&'a Accuracies> {
    row.downstream.iter().find(|d| d.task == task && d.accuracy.is_finite())
}

/// Accuracy with the error over the probe's seeds and that of the test sentences together.
pub fn accuracy(row: &Row, task: &str) -> Option<Value> {
    let found = accuracies(row, task)?;
    let error = libm::hypot(found.standard_error.unwrap_or(0.0), found.sampling_error);
    Some((found.accuracy, Some(error)))
}

/// The excess over the exact posterior with the error over test sentences and that over label sets or fits together.
pub fn excess_nats(row: &Row, task: &str) -> Option<Value> {
    let nats = &row.downstream.iter().find(|d| d.task == task)?.nats;
    with_both(nats.excess_nats?, nats.excess_nats_standard_error, nats.excess_nats_standard_error_fits)
}

/// What fine-tuning made an encoder forget, with the errors over sentences and over label sets or fits together.
pub fn forgetting(row: &Row, task: &str) -> Option<Value> {
    let nats = &row.downstream.iter().find(|d| d.task == task)?.nats;
    with_both(nats.forgetting?, nats.forgetting_standard_error, nats.forgetting_standard_error_fits)
}

fn with_both(value: f64, sentences: Option<f64>, fits: Option<f64>) -> Option<Value> {
    let error = sentences.map(|error| libm::hypot(error, fits.unwrap_or(0.0)));
    value.is_finite().then_some((value, error))
}

/// Accuracy in per cent with that error.
pub fn percent(row: &Row, task: &str) -> Option<Value> {
    accuracy(row, task).map(|(a, e)| (100.0 * a, e.map(|e| 100.0 * e)))
}

/// Mean over seeds with its standard error; of one seed the error of the measurement itself.
pub fn mean(values: &[Value]) -> Option<Value> {
    match values {
        [] => None,
        [one] => Some(*one),
        several => {
            let values: Vec<f64> = several.iter().map(|v| v.0).collect();
            let mean = crate::statistics::Estimate::of_mean(&values);
            Some((mean.value, Some(mean.standard_error)))
        }
    }
}

/// A task's name in a title: `task B`, and `task-6` as it is.
pub fn titled(task: &str) -> String {
    if task.starts_with("task") { task.to_string() } else { format!("task {task}") }
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::drawable;
    use super::*;

    #[test]
    fn the_fonts_have_the_names_of_all_quantities() {
        for p in PREDICTORS.iter().chain([&&LOSS]) {
            assert!(drawable(p.name) && drawable(p.unit), "{}, {}", p.name, p.unit);
        }
        assert!(!drawable("\u{4e00}"), "a sign that the fonts do not have");
    }
}
