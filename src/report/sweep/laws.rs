//! What laws of SGD say of a model, beside what was measured; columns of `models`.
//!
//! With t = Σ η² / B, plain SGD, labels from the language and the noise of a saturated model:
//!
//! - *excess*: the noise adds (η / 4 B) Σ λ / (1 - η λ / 2) to the excess loss;
//! - *drift*: of the two sides A and C of a change of scale that no function knows, |A|² - |C|² moves by T_A - T_C per
//!   unit of t. A·∇_A = C·∇_C of every batch's gradient, so that a step changes it by η² (|g_A|² - |g_C|²) and nothing
//!   else. Of a batch's gradient g the mean is not 0 beside the minimum: along an eigenvector |g|² is 1 / (1 - η λ / 2)
//!   times the noise's at stationarity, so that slopes are above 1 at rates that are not small;
//! - *speed*: d Tr / dt = -4 ‖dθ / dt‖², with ‖dθ‖² of the flow from inner products of two seeds' displacements.

use serde_json::json;

use super::files::Record;
use super::section::Model;
use crate::sweep::Row;
use crate::train::{Measurement, Sides};

/// The models of a model's run up to it, in order of steps.
pub fn course<'a>(model: &Model<'a>, all: &[Model<'a>]) -> Vec<&'a Row> {
    let own = all.iter().filter(|m| std::ptr::eq(m.table, model.table) && m.row.run == model.row.run);
    let mut rows: Vec<&Row> = own.map(|m| m.row).filter(|row| row.step <= model.row.step).collect();
    rows.sort_by_key(|row| row.step);
    rows
}

/// All of it that can be told.
pub fn of(model: &Model<'_>, course: &[&Row]) -> Record {
    let row = model.row;
    let mut record = Record::new();
    let optimizer = row.values.get("train.optimizer");
    if optimizer.is_none_or(|o| o.get("kind") != Some(&json!("sgd"))) {
        return record;
    }
    record.extend(row.average.iter().flat_map(|average| excess(row, average.noise_excess)));
    if let [.., before, _] = course {
        record.extend(drift(before, row).into_iter().flat_map(|drift| drift.record(is_sampled(row))));
        record.extend(speed(before, row).into_iter().flat_map(Speed::record));
    }
    if row.last && course.len() > 2 {
        record.extend(whole(&course[1..]));
    }
    record
}

/// Whether labels are drawn from the language: then the noise is that of the Fisher matrix.
fn is_sampled(row: &Row) -> bool {
    row.values.get("objective.labels").is_none_or(|labels| labels == "sampled")
}

/// (η / 4 B) Σ λ / (1 - η λ / 2), and the logarithm of what the noise adds over that: 0 where the law holds. Σ λ is the
/// Hessian's trace, with the factors of the eigenvalues that are known; momentum μ makes η as large as η / (1 - μ).
fn excess(row: &Row, found: f64) -> Record {
    let mut record = Record::new();
    let Some(trace) = row.curvature.as_ref().and_then(|c| c.hessian_trace).filter(|_| is_sampled(row)) else {
        return record;
    };
    let momentum = row.values.get("train.optimizer").and_then(|optimizer| optimizer.get("momentum")?.as_f64());
    let rate = row.learning_rate / (1.0 - momentum.unwrap_or(0.0));
    let known = row.curvature.iter().flat_map(|c| &c.eigenvalues);
    let more: f64 = known.map(|l| l / (1.0 - 0.5 * rate * l) - l).filter(|more| *more > 0.0).sum();
    let predicted = rate / (4.0 * f64::from(row.batch_size)) * (trace + more);
    record.insert("noise_excess_predicted".into(), json!(predicted));
    if predicted > 0.0 && found > 0.0 {
        record.insert("noise_excess_log_ratio".into(), json!((found / predicted).ln()));
    }
    record
}

/// The end of the parametrisation's name where it is what training moved, and no larger architecture.
const OWN: &str = "as trained";

/// How |A|² - |C|² of all gauges moved between two models, over how it should have.
struct Drift {
    /// Σ measured · predicted / Σ predicted², the errors of the traces taken off below: 1 where the law holds.
    slope: f64,
    /// Σ (measured - predicted)² / Σ measured².
    unexplained: f64,
    /// All of them.
    gauges: Vec<Moved>,
}

/// The two sides of a gauge between two models.
struct Moved {
    gauge: String,
    measured: f64,
    predicted: f64,
    /// Of what is predicted.
    variance: f64,
}

fn drift(before: &Row, row: &Row) -> Option<Drift> {
    let time = row.noise_time - before.noise_time;
    let sides = |row: &Row| {
        let own = row.curvature.as_ref().filter(|_| row.parametrisation.ends_with(OWN));
        own.map(|c: &Measurement| c.per_gauge.clone()).unwrap_or_default()
    };
    let (start, end) = (sides(before), sides(row));
    let moved = |a: &Sides| {
        let b = end.iter().find(|b| b.gauge == a.gauge)?;
        let error = |s: &Sides| s.traces_apart_standard_error.unwrap_or(0.0).powi(2);
        Some(Moved {
            gauge: a.gauge.clone(),
            measured: b.norms_apart - a.norms_apart,
            // The trapezoid over the interval, with its error.
            predicted: 0.5 * time * (a.traces_apart + b.traces_apart),
            variance: (0.5 * time).powi(2) * (error(a) + error(b)),
        })
    };
    let all: Vec<Moved> = start.iter().filter_map(moved).collect();
    let sum = |of: &dyn Fn(&Moved) -> f64| all.iter().map(of).sum::<f64>();
    let predicted = sum(&|m| m.predicted.powi(2) - m.variance);
    let measured = sum(&|m| m.measured.powi(2));
    if predicted <= 0.0 || measured <= 0.0 {
        return None;
    }
    let slope = sum(&|m| m.measured * m.predicted) / predicted;
    let unexplained = sum(&|m| (m.measured - m.predicted).powi(2) - m.variance) / measured;
    Some(Drift { slope, unexplained, gauges: all })
}

impl Drift {
    fn record(self, sampled: bool) -> Record {
        let mut record = Record::new();
        record.insert("drift_slope".into(), json!(self.slope));
        record.insert("drift_unexplained".into(), json!(self.unexplained));
        if sampled && self.slope > 0.0 {
            record.insert("drift_log_slope".into(), json!(self.slope.ln()));
        }
        for moved in self.gauges {
            record.insert(format!("drift.{}", moved.gauge), json!(moved.measured));
            record.insert(format!("drift_predicted.{}", moved.gauge), json!(moved.predicted));
        }
        record
    }
}

/// How much the trace fell between two models, and should have by how far the seeds moved alike.
struct Speed {
    drop: f64,
    predicted: f64,
}

fn speed(before: &Row, row: &Row) -> Option<Speed> {
    let displacement = row.displacement.as_ref().filter(|d| d.since == before.step)?;
    let time = row.noise_time - before.noise_time;
    let trace = |row: &Row| row.curvature.as_ref().map(|c| c.fisher_trace);
    let drop = trace(before)? - trace(row)?;
    (time > 0.0).then(|| Speed { drop, predicted: 4.0 * displacement.inner / time })
}

impl Speed {
    fn record(self) -> Record {
        let mut record = Record::new();
        record.insert("trace_drop".into(), json!(self.drop));
        record.insert("trace_drop_predicted".into(), json!(self.predicted));
        record
    }
}

/// The speed law over a run but for its first interval, in which noise of another size settles: the predicted fall over
/// the measured one, less 1.
fn whole(course: &[&Row]) -> Record {
    let pairs = course.windows(2).map(|pair| speed(pair[0], pair[1]));
    let mut record = Record::new();
    if let Some(all) = pairs.collect::<Option<Vec<Speed>>>().filter(|all| !all.is_empty()) {
        let (drop, predicted) = all.iter().fold((0.0, 0.0), |(d, p), s| (d + s.drop, p + s.predicted));
        record.insert("speed_drop".into(), json!(drop));
        record.insert("speed_drop_predicted".into(), json!(predicted));
        record.insert("speed_difference".into(), json!(predicted - drop));
        if drop > 0.0 {
            record.insert("speed_ratio_less_one".into(), json!(predicted / drop - 1.0));
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Displacement;

    fn row(step: u64, time: f64, trace: f64, balances: &[(f64, f64)]) -> Row {
        let sides = balances.iter().enumerate().map(|(i, (norms, traces))| Sides {
            gauge: format!("query_key.{i}"),
            norms_apart: *norms,
            traces_apart: *traces,
            traces_apart_standard_error: Some(0.0),
        });
        let curvature = Measurement { fisher_trace: trace, per_gauge: sides.collect(), ..Measurement::default() };
        let parametrisation = format!("width 32, {OWN}");
        Row { step, noise_time: time, curvature: Some(curvature), parametrisation, ..Row::default() }
    }

    #[test]
    fn a_drift_by_the_law_has_the_slope_1_and_nothing_unexplained() {
        let before = row(0, 0.5, 9.0, &[(3.0, 10.0), (-1.0, -4.0)]);
        // Over 0.2 the means of the differences, 8 and -3, move the norms by 1.6 and -0.6.
        let after = row(10, 0.7, 8.0, &[(4.6, 6.0), (-1.6, -2.0)]);
        let found = drift(&before, &after).unwrap();
        assert!((found.slope - 1.0).abs() < 1e-12 && found.unexplained.abs() < 1e-12);
        assert!((found.gauges[0].measured - 1.6).abs() < 1e-12 && (found.gauges[1].predicted + 0.6).abs() < 1e-12);
        // Balances that do not move have the slope 0, and no logarithm.
        let still = row(10, 0.7, 8.0, &[(3.0 + 1e-9, 6.0), (-1.0, -2.0)]);
        let record = drift(&before, &still).unwrap().record(true);
        assert!(record["drift_slope"].as_f64().unwrap().abs() < 1e-6);
    }

    #[test]
    fn what_the_traces_errors_add_to_their_square_is_taken_off() {
        let with = |error: f64| {
            let of = |mut row: Row| {
                let sides = row.curvature.iter_mut().flat_map(|c| &mut c.per_gauge);
                sides.for_each(|s| s.traces_apart_standard_error = Some(error));
                row
            };
            let (before, after) = (row(0, 0.0, 1.0, &[(0.0, 10.0)]), row(1, 1.0, 1.0, &[(10.0, 10.0)]));
            drift(&of(before), &of(after)).unwrap()
        };
        // (½)² (2² + 2²) of 10².
        assert!((with(2.0).slope - 100.0 / 98.0).abs() < 1e-12);
    }

    #[test]
    fn a_fall_by_the_speed_law_is_four_times_the_squared_length_a_unit_of_time() {
        let moved = |inner: f64| Some(Displacement { since: 10, inner, ..Displacement::default() });
        let start = row(10, 0.1, 9.0, &[]);
        let end = Row { displacement: moved(0.05), ..row(20, 0.3, 8.0, &[]) };
        let found = speed(&start, &end).unwrap();
        assert!((found.predicted - 1.0).abs() < 1e-12 && (found.drop - 1.0).abs() < 1e-12);
        let record = whole(&[&start, &end]);
        assert!(record["speed_ratio_less_one"].as_f64().unwrap().abs() < 1e-12);
        assert!(speed(&row(5, 0.05, 9.5, &[]), &end).is_none(), "of another interval");
    }
}
