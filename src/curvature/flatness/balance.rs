//! The least trace over changes of scale that leave the function as it is.
//!
//! With a factor exp(u_k) for each gauge k and M_pk its power for piece p the trace is f(u) = Σ_p T_p exp(-2 Σ_k M_pk
//! u_k): convex in u, least along one gauge at u_k = ln(A / B) / 4, A being what is multiplied and B what is divided,
//! with 2 √(A B) and the rest. One gauge after another, again and again, goes to the least of all.
//!
//! *Errors.* At the least f does not change with u, so that the error is that of Σ_p c_p T_p with the factors c_p held
//! fixed. Of traces that are estimates the least is too small in the mean: to second order by ½ tr(H⁻¹ C), H being the
//! second derivatives of f and C the covariance of its first ones, which are 0 of the estimates and not of the truth.
//! For one gauge that is √(A B) / 4 · Var(A' / A - B' / B).

use crate::model::Gauge;

/// Where the trace is least.
#[derive(Clone, Debug)]
pub(super) struct Least {
    /// Factor on each piece's trace, c_p.
    pub factors: Vec<f64>,
    /// u_k of each gauge; 0 where it is held.
    pub logs: Vec<f64>,
    /// Coefficients on the pieces' traces of K combinations y with ½ Σ Var(y) = ½ tr(H⁻¹ C).
    pub slopes: Vec<Vec<f64>>,
    /// Names of the gauges that are held, since nothing with a trace stands on one of their sides.
    pub held: Vec<String>,
}

/// Rounds over all gauges at most; each goes a good part of the way.
const ROUNDS: usize = 10_000;
/// Change of a logarithm of a factor below which nothing more is gained.
const STILL: f64 = 1e-13;

impl Least {
    /// The least over some gauges of the traces of all pieces.
    pub fn of(traces: &[f64], gauges: &[&Gauge]) -> Least {
        let mut factors = vec![1.0; traces.len()];
        let sides = |gauge: &Gauge, factors: &[f64]| {
            let side = |power: i32| -> f64 {
                let own = gauge.powers.iter().zip(factors.iter().zip(traces)).filter(|(p, _)| **p == power);
                own.map(|(_, (c, t))| c * t).sum()
            };
            [side(1), side(-1)]
        };
        let (mut free, mut held) = (Vec::new(), Vec::new());
        for (k, gauge) in gauges.iter().copied().enumerate() {
            match sides(gauge, &factors).map(|side| side > 0.0) {
                [true, true] => free.push((k, gauge)),
                [false, false] => {}
                _ => held.push(gauge.name()),
            }
        }
        let mut logs = vec![0.0; gauges.len()];
        for _ in 0..ROUNDS {
            let mut moved: f64 = 0.0;
            for (k, gauge) in &free {
                let [up, down] = sides(gauge, &factors);
                let step = (up / down).ln() / 4.0;
                let apply = |(c, power): (&mut f64, &i32)| *c *= (-2.0 * f64::from(*power) * step).exp();
                factors.iter_mut().zip(&gauge.powers).for_each(apply);
                logs[*k] += step;
                moved = moved.max(step.abs());
            }
            if moved < STILL {
                break;
            }
        }
        let free: Vec<&Gauge> = free.into_iter().map(|(_, gauge)| gauge).collect();
        let slopes = slopes(traces, &factors, &free);
        Least { factors, logs, slopes, held }
    }
}

/// L⁻¹ g for the first derivatives g, as coefficients on the traces, with L Lᵀ the second derivatives.
fn slopes(traces: &[f64], factors: &[f64], gauges: &[&Gauge]) -> Vec<Vec<f64>> {
    let n = gauges.len();
    let second = |k: usize, l: usize| -> f64 {
        let both = gauges[k].powers.iter().zip(&gauges[l].powers);
        4.0 * both.zip(factors.iter().zip(traces)).map(|((a, b), (c, t))| f64::from(a * b) * c * t).sum::<f64>()
    };
    let mut lower = vec![vec![0.0; n]; n];
    let mut slopes: Vec<Vec<f64>> = Vec::with_capacity(n);
    for k in 0..n {
        for l in 0..=k {
            let known: f64 = (0..l).map(|j| lower[k][j] * lower[l][j]).sum();
            lower[k][l] = if k == l { (second(k, k) - known).sqrt() } else { (second(k, l) - known) / lower[l][l] };
        }
        let mut row: Vec<f64> = gauges[k].powers.iter().zip(factors).map(|(p, c)| -2.0 * f64::from(*p) * c).collect();
        for (l, before) in slopes.iter().enumerate() {
            row.iter_mut().zip(before).for_each(|(x, y)| *x -= lower[k][l] * y);
        }
        row.iter_mut().for_each(|x| *x /= lower[k][k]);
        slopes.push(row);
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GaugeKind;

    fn gauge(powers: &[i32]) -> Gauge {
        Gauge { kind: GaugeKind::Tables, layer: None, powers: powers.to_vec() }
    }

    fn value(least: &Least, traces: &[f64]) -> f64 {
        least.factors.iter().zip(traces).map(|(c, t)| c * t).sum()
    }

    #[test]
    fn one_gauge_has_the_closed_form() {
        let traces = [8.0, 0.5, 3.0];
        let least = Least::of(&traces, &[&gauge(&[1, -1, 0])]);
        assert!((value(&least, &traces) - (2.0 * 4f64.sqrt() + 3.0)).abs() < 1e-12);
        // a⁴ = A / B.
        assert!((least.logs[0] - 2f64.ln()).abs() < 1e-12);
        // ½ Var(y) = √(A B) / 4 · Var(A' / A - B' / B).
        let y = &least.slopes[0];
        let [a, b] = [y[0] * traces[0], y[1] * traces[1]];
        assert!((a + b).abs() < 1e-12 && (0.5 * a * a - 4f64.sqrt() / 4.0).abs() < 1e-12 && y[2] == 0.0);
    }

    #[test]
    fn gauges_that_share_pieces_end_where_no_scale_is_flatter() {
        let traces = [5.0, 0.1, 2.0, 0.7, 1.0];
        let gauges = [gauge(&[1, -1, 0, 0, 0]), gauge(&[0, 1, -1, 0, 0]), gauge(&[1, 0, 1, -1, 0])];
        let least = Least::of(&traces, &gauges.iter().collect::<Vec<_>>());
        let at = |u: [f64; 3]| -> f64 {
            let power = |p: usize| (0..3).map(|k| f64::from(gauges[k].powers[p]) * u[k]).sum::<f64>();
            (0..5).map(|p| least.factors[p] * traces[p] * (-2.0 * power(p)).exp()).sum()
        };
        let best = at([0.0; 3]);
        // The factors of the gauges lead there.
        for p in 0..5 {
            let log: f64 = (0..3).map(|k| f64::from(gauges[k].powers[p]) * least.logs[k]).sum();
            assert!((least.factors[p] - (-2.0 * log).exp()).abs() < 1e-9, "{p}");
        }
        for k in 0..3 {
            for step in [-1e-3, 1e-3, -0.3, 0.3] {
                let mut u = [0.0; 3];
                u[k] = step;
                assert!(at(u) > best, "{k} {step}");
            }
        }
        // Σ y yᵀ over the slopes is H⁻¹ in the metric of the derivatives: g H⁻¹ g of any g, here of one trace off.
        let off = 0.01;
        let moved = [5.0 + off, 0.1, 2.0, 0.7, 1.0];
        let second_order: f64 = least.slopes.iter().map(|y| 0.5 * (y[0] * off).powi(2)).sum();
        let again = Least::of(&moved, &gauges.iter().collect::<Vec<_>>());
        let linear = best + least.factors[0] * off;
        let error = linear - second_order - value(&again, &moved);
        assert!(error.abs() < 0.01 * second_order, "{error} beside {second_order}");
    }

    #[test]
    fn a_side_without_a_trace_is_held_and_named() {
        let least = Least::of(&[1.0, 0.0], &[&gauge(&[1, -1])]);
        assert_eq!((least.held.len(), least.factors, least.logs), (1, vec![1.0, 1.0], vec![0.0]));
        assert!(Least::of(&[0.0, 0.0, 1.0], &[&gauge(&[1, -1, 0])]).held.is_empty());
    }
}
