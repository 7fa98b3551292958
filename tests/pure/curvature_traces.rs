//! Trace estimators on matrices that are written down: exact expectations by enumeration, stated errors by z-scores at
//! fixed seeds, naive twins.

use crate::common::matrices::{Broken, exact, of_examples, with_spectrum};
use lowland::curvature::*;
use lowland::statistics::{Crossed, Target};
use nalgebra::{DMatrix, DVector};

/// Share of z-scores below 1.96 over fixed seeds; 300 of them put a true 0.95 between 0.912 and 0.988 (3 standard
/// errors).
fn coverage(z: &[f64]) -> f64 {
    z.iter().filter(|z| z.abs() < 1.96).count() as f64 / z.len() as f64
}

/// Runs of (estimate, stated error): no bias beyond 4 standard errors of their mean, and `low..0.99` of the intervals
/// cover.
///
/// Bias is judged by the runs' own scatter and not by the mean z-score: where single values are skewed, as Gaussian
/// probes on one large eigenvalue are, a low estimate comes with a low error (Johnson 1978).
fn honest(runs: &[(f64, f64)], truth: f64, low: f64, what: &str) {
    let estimates: Vec<f64> = runs.iter().map(|r| r.0).collect();
    let mean = lowland::statistics::Estimate::of_mean(&estimates);
    let bias = (mean.value - truth) / mean.standard_error;
    assert!(bias.abs() < 4.0, "{what}: {bias:.1} standard errors of bias");
    let share = coverage(&runs.iter().map(|(e, s)| (e - truth) / s).collect::<Vec<_>>());
    assert!((low..0.99).contains(&share), "{what}: {share:.3} of the intervals cover");
}

#[test]
fn probes_are_functions_of_seed_and_number_with_unit_moments() {
    for kind in [ProbeKind::Rademacher, ProbeKind::Gaussian] {
        let long = probe(kind, 7, 3, 70_001);
        assert_eq!(long[..50], probe(kind, 7, 3, 50), "a shorter vector is the head of a longer one");
        assert_ne!(long[..50], probe(kind, 7, 4, 50));
        assert_ne!(long[..50], probe(kind, 8, 3, 50));
        let n = long.len() as f64;
        let moment = |p: i32| long.iter().map(|x| f64::from(*x).powi(p)).sum::<f64>() / n;
        assert!(moment(1).abs() < 4.0 / n.sqrt() && moment(3).abs() < 4.0 * (15.0 / n).sqrt());
        let fourth = if kind == ProbeKind::Gaussian { 3.0 } else { 1.0 };
        assert!(
            (moment(2) - 1.0).abs() < 4.0 * (2.0 / n).sqrt() && (moment(4) - fourth).abs() < 4.0 * (96.0 / n).sqrt()
        );
        // Neighbours, halves of a counter and chunks are not correlated.
        for lag in [1, 2, 4, 32, 128, 16_384] {
            let c: f64 = long.iter().zip(&long[lag..]).map(|(a, b)| f64::from(a * b)).sum::<f64>() / n.sqrt();
            assert!(c.abs() < 4.5, "{kind:?}: lag {lag} has {c:.2} standard errors");
        }
    }
}

#[test]
fn signs_enumerated_give_the_exact_trace_and_variance() {
    let matrix = of_examples(5, 3, 0.8, 1);
    let signs = |code: usize| (0..5).map(|j| if code >> j & 1 == 0 { 1.0 } else { -1.0 }).collect::<Vec<f32>>();
    let forms = matrix.quadratic_forms(&(0..32).map(signs).collect::<Vec<_>>()).unwrap();
    let (trace, _) = exact(&matrix);
    // Every ordered pair of probes, K = 2.
    let (mut mean, mut square, mut stated) = (0.0, 0.0, 0.0);
    for a in &forms {
        for b in &forms {
            let mut crossed = Crossed::new(matrix.weights());
            crossed.push(a);
            crossed.push(b);
            let parts = crossed.parts(Target::TheseExamples);
            mean += parts.value / 1024.0;
            square += (parts.value - trace).powi(2) / 1024.0;
            stated += parts.standard_error.powi(2) / 1024.0;
        }
    }
    assert!((mean / trace - 1.0).abs() < 1e-6, "{mean} against {trace}");
    assert!((stated / square - 1.0).abs() < 1e-5, "stated variance {stated} against {square}");
}

#[test]
fn hutchinson_covers_at_its_stated_rate() {
    let heavy: Vec<f64> = (1..=40).map(|i| 100.0 / f64::from(i * i)).collect();
    let signed: Vec<f64> = (0..40).map(|i| f64::from(i) * 0.3 - 4.0).collect();
    for (name, values) in [("heavy", heavy), ("signed", signed)] {
        let matrix = with_spectrum(&values, 2);
        let trace: f64 = values.iter().sum();
        for kind in [ProbeKind::Rademacher, ProbeKind::Gaussian] {
            let one = |seed| {
                let t = hutchinson(
                    &matrix,
                    &Hutchinson { kind, seed, stop: Stopping::after(60), ..Default::default() },
                    &mut |_| Ok(()),
                );
                let t = t.unwrap();
                assert_eq!(t.standard_error_data, 0.0);
                (t.estimate, t.standard_error)
            };
            honest(&(0..300).map(one).collect::<Vec<_>>(), trace, 0.9, &format!("{name} {kind:?}"));
        }
    }
}

#[test]
fn gaussian_probes_tell_the_norm() {
    let values: Vec<f64> = (1..=30).map(|i| 10.0 / f64::from(i)).collect();
    let matrix = with_spectrum(&values, 3);
    let (trace, square): (f64, f64) = (values.iter().sum(), values.iter().map(|x| x * x).sum());
    let what = Hutchinson { kind: ProbeKind::Gaussian, stop: Stopping::after(4000), block: 64, ..Default::default() };
    let t = hutchinson(&matrix, &what, &mut |_| Ok(())).unwrap();
    assert!((t.squared_norm.unwrap() / square - 1.0).abs() < 0.15);
    assert!((t.r_eff.unwrap() / (trace * trace / square) - 1.0).abs() < 0.15);
    let plus =
        HutchPlusPlus { kind: ProbeKind::Gaussian, seed: 1, stop: Stopping::after(60), block: 8, ..Default::default() };
    let plus = hutch_plus_plus(&matrix, &plus, &mut |_| Ok(())).unwrap();
    assert!((plus.squared_norm.unwrap() / square - 1.0).abs() < 0.8);
}

#[test]
fn a_population_of_examples_is_covered_with_both_parts() {
    // Examples are drawn anew for each seed: A_i = s_i B / n with s_i lognormal, its mean known. Weights 1 to 3,
    // independent.
    let common: Vec<f64> = (1..=20).map(f64::from).collect();
    let q = crate::common::matrices::orthogonal(20, 5);
    let a = &q * DMatrix::from_diagonal(&DVector::from_column_slice(&common)) * q.transpose();
    let a: Vec<f64> = ((&a + a.transpose()) / 2.0).iter().copied().collect();
    let trace = common.iter().sum::<f64>() * (0.5f64 * 0.25).exp();
    let (mut both, mut probe_only) = (vec![], vec![]);
    for seed in 0..300 {
        let mut stream = lowland::random::Stream::new(seed, lowland::random::Purpose::Test, 9);
        let weights = (0..60).map(|_| 1.0 + f64::from(stream.below(3))).collect();
        let parts = (0..60).map(|_| (0.5 * stream.normal()).exp()).map(|s| a.iter().map(|x| x * s).collect()).collect();
        let matrix = Dense::of_examples(20, weights, parts).unwrap();
        let what = Hutchinson { seed, stop: Stopping::after(40), target: Target::Population, ..Default::default() };
        let t = hutchinson(&matrix, &what, &mut |_| Ok(())).unwrap();
        both.push((t.estimate, t.standard_error));
        probe_only.push((t.estimate - trace) / t.standard_error_probe);
        let whole = t.standard_error_probe.hypot(t.standard_error_data);
        assert!((whole / t.standard_error - 1.0).abs() < 1e-9);
    }
    honest(&both, trace, 0.9, "both parts");
    assert!(coverage(&probe_only) < 0.75, "the probe part alone must not cover: {}", coverage(&probe_only));
}

#[test]
fn block_size_changes_nothing() {
    let matrix = of_examples(33, 4, 0.5, 7);
    let samples = 23;
    let by = |block| {
        let h = Hutchinson { stop: Stopping::at(0.03).not_before(5).at_most(samples), block, ..Default::default() };
        let p = HutchPlusPlus {
            kind: ProbeKind::Rademacher,
            seed: 4,
            stop: Stopping::after(samples),
            block,
            target: Target::Population,
        };
        let x = XTrace { seed: 4, samples, block, ..Default::default() };
        let mut none = |_: &Progress| Ok(());
        (
            hutchinson(&matrix, &h, &mut none).unwrap(),
            hutch_plus_plus(&matrix, &p, &mut none).unwrap(),
            xtrace(&matrix, &x, &mut none).unwrap(),
        )
    };
    let (h, p, x) = by(1);
    for block in [2, 5, 64] {
        let (a, b, c) = by(block);
        assert_eq!((a.values, a.estimate, a.standard_error), (h.values.clone(), h.estimate, h.standard_error));
        assert_eq!((b.values, b.standard_error), (p.values.clone(), p.standard_error));
        assert_eq!((c.values, c.standard_error), (x.values.clone(), x.standard_error));
    }
}

#[test]
fn the_stop_rule_keeps_its_word() {
    let matrix = with_spectrum(&(1..=50).map(f64::from).collect::<Vec<_>>(), 8);
    let run = |rel_error, samples, minimum| {
        let what =
            Hutchinson { stop: Stopping { rel_error: Some(rel_error), minimum, most: samples }, ..Default::default() };
        hutchinson(&matrix, &what, &mut |_| Ok(())).unwrap()
    };
    let t = run(0.02, 10_000, 20);
    assert!(t.reached && t.samples > 20 && t.samples < 1000 && t.standard_error <= 0.02 * t.estimate);
    // One probe earlier it was not reached.
    let earlier = hutchinson(
        &matrix,
        &Hutchinson { stop: Stopping::after(t.samples - 1), ..Default::default() },
        &mut |_| Ok(()),
    )
    .unwrap();
    assert!(earlier.standard_error > 0.02 * earlier.estimate);
    let loose = run(0.9, 1000, 30);
    assert_eq!((loose.samples, loose.reached), (30, true), "not before the minimum");
    let cut = run(1e-6, 40, 10);
    assert_eq!((cut.samples, cut.reached), (40, false), "not reached, and says so");
}

/// Hutch++ and XTrace to a relative error: reached within the samples, no bias, and intervals that cover. A rule that
/// looks after every probe or run stops early on a low error, so that somewhat fewer than 0.95 do.
#[test]
fn hutch_plus_plus_and_xtrace_to_a_relative_error_are_honest() {
    let values: Vec<f64> = (0..60).map(|i| 10.0 / f64::from(i + 1).powf(1.5) + 0.2).collect();
    let matrix = with_spectrum(&values, 12);
    let trace: f64 = values.iter().sum();
    let mut none = |_: &Progress| Ok(());
    let mut runs = [vec![], vec![], vec![]];
    let mut spent = 0;
    for seed in 0..300 {
        for (kind, own) in [(ProbeKind::Rademacher, 0), (ProbeKind::Gaussian, 1)] {
            let what = HutchPlusPlus {
                kind,
                seed,
                stop: Stopping::at(0.01).not_before(48).at_most(4000),
                ..Default::default()
            };
            let t = hutch_plus_plus(&matrix, &what, &mut none).unwrap();
            assert!(t.reached && t.samples >= 48 && t.standard_error <= 0.01 * t.estimate, "{}", t.samples);
            assert_eq!(t.samples, 32 + t.values.len(), "the range keeps its size");
            runs[own].push((t.estimate, t.standard_error));
        }
        let what = XTraceReplicates { seed, stop: Stopping::at(0.01).not_before(8).at_most(4000), block: 8 };
        let t = xtrace_replicates(&matrix, &what, &mut none).unwrap();
        assert!(t.reached && t.values.len() >= 8 && t.standard_error <= 0.01 * t.estimate, "{}", t.samples);
        spent += t.samples;
        runs[2].push((t.estimate, t.standard_error));
    }
    assert!(spent / 300 < 2000, "{spent}");
    for (runs, what) in runs.iter().zip(["Hutch++ Rademacher", "Hutch++ Gaussian", "XTrace"]) {
        honest(runs, trace, 0.86, what);
    }
}

/// Any block size stops at the same sample with the same numbers; too few samples are said, or refused.
#[test]
fn relative_errors_of_hutch_plus_plus_and_xtrace_stop_where_they_say() {
    let values: Vec<f64> = (0..60).map(|i| 10.0 / f64::from(i + 1) + 0.2).collect();
    let matrix = with_spectrum(&values, 13);
    let mut none = |_: &Progress| Ok(());
    let mut plus = |samples, block| {
        let what =
            HutchPlusPlus { stop: Stopping::at(0.01).not_before(30).at_most(samples), block, ..Default::default() };
        hutch_plus_plus(&matrix, &what, &mut none).unwrap()
    };
    let (one, other) = (plus(2000, 1), plus(2000, 7));
    assert_eq!(one.values, other.values);
    let cut = plus(one.samples - 1, 4);
    assert!(!cut.reached && cut.standard_error > 0.01 * cut.estimate && cut.samples == one.samples - 1);
    let replicates = |samples, rel_error, block| {
        let what = XTraceReplicates { seed: 5, stop: Stopping::at(rel_error).not_before(8).at_most(samples), block };
        xtrace_replicates(&matrix, &what, &mut |_| Ok(()))
    };
    let (one, other) = (replicates(4000, 0.01, 1).unwrap(), replicates(4000, 0.01, 5).unwrap());
    assert!(one.reached && one.values == other.values && one.samples == other.samples);
    let cut = replicates(100, 1e-6, 4).unwrap();
    assert!(!cut.reached && cut.samples <= 100 && cut.values.len() >= 8);
    assert!(replicates(40, 0.01, 4).unwrap_err().to_string().contains("72 samples, not 40"));
}

/// XTrace by its definition: Q anew without each probe, in f64.
fn naive_xtrace(matrix: &Dense, omega: &[Vec<f32>]) -> Vec<f64> {
    let (n, s) = (matrix.size(), omega.len());
    let unit = |i: usize| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    let columns = matrix.apply(&(0..n).map(unit).collect::<Vec<_>>()).unwrap();
    let a = DMatrix::from_fn(n, n, |i, j| f64::from(columns[j][i]));
    let omega: Vec<DVector<f64>> =
        omega.iter().map(|v| DVector::from_iterator(n, v.iter().map(|x| f64::from(*x)))).collect();
    let one = |left_out: usize| {
        let others: Vec<DVector<f64>> = (0..s).filter(|j| *j != left_out).map(|j| &a * &omega[j]).collect();
        let q = DMatrix::from_columns(&others).qr().q();
        let mu = &omega[left_out] - &q * (q.transpose() * &omega[left_out]);
        let scale = (n - s + 1) as f64 / mu.norm_squared();
        (q.transpose() * &a * &q).trace() + scale * mu.dot(&(&a * &mu))
    };
    (0..s).map(one).collect()
}

#[test]
fn xtrace_equals_its_naive_twin() {
    let fast: Vec<f64> = (0..60).map(|i| 10.0 * 0.8f64.powi(i)).collect();
    let signed: Vec<f64> = (0..60).map(|i| if i % 3 == 0 { -5.0 } else { 20.0 } / f64::from(i + 1)).collect();
    for (values, samples) in [(&fast, 24), (&signed, 40), (&signed, 4)] {
        let matrix = with_spectrum(values, 9);
        let t = xtrace(&matrix, &XTrace { seed: 3, samples, block: 7, ..Default::default() }, &mut |_| Ok(())).unwrap();
        let naive = naive_xtrace(&matrix, &probes(ProbeKind::Gaussian, 3, 0..samples / 2, 60));
        assert_eq!(t.values.len(), naive.len());
        // Products are rounded to f32: 6e-8 of the largest eigenvalue times √n.
        let bound = 1e-5 * values.iter().map(|x| x.abs()).fold(0.0, f64::max);
        for (a, b) in t.values.iter().zip(&naive) {
            assert!((a - b).abs() < bound, "{a} against {b} with {samples}");
        }
    }
}

#[test]
fn xtrace_and_hutch_plus_plus_are_unbiased() {
    let values: Vec<f64> = (0..40).map(|i| 10.0 / f64::from(i + 1).powf(1.5) - 0.1).collect();
    let matrix = with_spectrum(&values, 10);
    let trace: f64 = values.iter().sum();
    let mut none = |_: &Progress| Ok(());
    let runs = 300;
    let mean_z = |estimates: &[f64]| {
        let e = lowland::statistics::Estimate::of_mean(estimates);
        (e.value - trace) / e.standard_error
    };
    let x: Vec<Trace> = (0..runs)
        .map(|seed| xtrace(&matrix, &XTrace { seed, samples: 16, block: 8, ..Default::default() }, &mut none).unwrap())
        .collect();
    let z = mean_z(&x.iter().map(|t| t.estimate).collect::<Vec<_>>());
    assert!(z.abs() < 4.0, "XTrace: {z:.2}");
    for kind in [ProbeKind::Rademacher, ProbeKind::Gaussian] {
        let of = |seed| HutchPlusPlus { kind, seed, stop: Stopping::after(60), block: 8, ..Default::default() };
        let p: Vec<Trace> = (0..runs).map(|seed| hutch_plus_plus(&matrix, &of(seed), &mut none).unwrap()).collect();
        let scores: Vec<(f64, f64)> = p.iter().map(|t| (t.estimate, t.standard_error)).collect();
        honest(&scores, trace, 0.88, &format!("Hutch++ {kind:?}, 20 probes"));
    }
    // XTrace's own error is optimistic, as its paper says; within a factor of 2 here.
    let spread = lowland::statistics::Estimate::of_mean(&x.iter().map(|t| t.estimate).collect::<Vec<_>>())
        .standard_error
        * f64::from(runs as u32).sqrt();
    let stated = (x.iter().map(|t| t.standard_error.powi(2)).sum::<f64>() / f64::from(runs as u32)).sqrt();
    assert!((0.4..2.0).contains(&(stated / spread)), "stated {stated:.3}, seen {spread:.3}");
}

#[test]
fn deflation_beats_plain_probes_on_a_decaying_spectrum() {
    let values: Vec<f64> = (0..100).map(|i| 100.0 * 0.8f64.powi(i)).collect();
    let matrix = with_spectrum(&values, 11);
    let trace: f64 = values.iter().sum();
    let mut none = |_: &Progress| Ok(());
    let (mut h, mut p, mut x) = (0.0f64, 0.0f64, 0.0f64);
    for seed in 0..40 {
        let error = |t: Trace| (t.estimate - trace).powi(2);
        h += error(
            hutchinson(&matrix, &Hutchinson { seed, stop: Stopping::after(60), ..Default::default() }, &mut none)
                .unwrap(),
        );
        let what = HutchPlusPlus {
            kind: ProbeKind::Gaussian,
            seed,
            stop: Stopping::after(60),
            block: 8,
            ..Default::default()
        };
        p += error(hutch_plus_plus(&matrix, &what, &mut none).unwrap());
        x += error(xtrace(&matrix, &XTrace { seed, samples: 60, block: 8, ..Default::default() }, &mut none).unwrap());
    }
    assert!(p < h / 100.0 && x < p / 2.0, "mean squares {h:.2e} {p:.2e} {x:.2e}");
}

#[test]
fn low_rank_and_zero_matrices_are_exact() {
    let mut none = |_: &Progress| Ok(());
    let mut values = vec![0.0; 30];
    let zero = with_spectrum(&values, 12);
    values[..3].copy_from_slice(&[5.0, -2.0, 1.0]);
    let low = with_spectrum(&values, 12);
    for (matrix, trace) in [(&zero, 0.0), (&low, 4.0)] {
        let x = xtrace(matrix, &XTrace { seed: 0, samples: 16, block: 4, ..Default::default() }, &mut none).unwrap();
        let what = HutchPlusPlus {
            kind: ProbeKind::Gaussian,
            seed: 0,
            stop: Stopping::after(18),
            block: 4,
            ..Default::default()
        };
        let p = hutch_plus_plus(matrix, &what, &mut none).unwrap();
        assert!(
            (x.estimate - trace).abs() < 1e-5 && (p.estimate - trace).abs() < 1e-5,
            "{} {}",
            x.estimate,
            p.estimate
        );
        assert!(x.standard_error < 1e-5 && p.standard_error < 1e-5);
    }
    let h = hutchinson(
        &zero,
        &Hutchinson { stop: Stopping::at(0.01).not_before(16).at_most(64), ..Default::default() },
        &mut none,
    )
    .unwrap();
    assert_eq!((h.estimate, h.standard_error, h.reached), (0.0, 0.0, true));
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let mut none = |_: &Progress| Ok(());
    let matrix = Dense::new(2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
    let request = |r: Result<Trace, CurvatureError>| assert!(matches!(r, Err(CurvatureError::Refused(_))), "{r:?}");
    request(hutchinson(&matrix, &Hutchinson { stop: Stopping::after(1), ..Default::default() }, &mut none));
    request(hutchinson(
        &matrix,
        &Hutchinson { stop: Stopping::at(0.0).not_before(16).at_most(64), ..Default::default() },
        &mut none,
    ));
    request(hutchinson(&matrix, &Hutchinson { target: Target::Population, ..Default::default() }, &mut none));
    request(xtrace(&matrix, &XTrace { seed: 0, samples: 2, block: 1, ..Default::default() }, &mut none));
    request(xtrace(&matrix, &XTrace { seed: 0, samples: 10, block: 1, ..Default::default() }, &mut none));
    assert!(Dense::new(2, vec![1.0, 2.0, 3.0, 4.0]).is_err(), "not symmetric");
    let finite = |r: Result<Trace, CurvatureError>| assert!(matches!(r, Err(CurvatureError::NotFinite(_))), "{r:?}");
    finite(hutchinson(&Broken, &Hutchinson::default(), &mut none));
    finite(xtrace(&Broken, &XTrace { seed: 0, samples: 4, block: 2, ..Default::default() }, &mut none));
}

#[test]
fn an_interrupted_trace_is_that_of_the_probes_until_then() {
    let matrix = Dense::new(2, vec![1.0, 0.5, 0.5, 3.0]).unwrap();
    let whole = Hutchinson { stop: Stopping::after(64), block: 8, ..Default::default() };
    let stop = hutchinson(&matrix, &whole, &mut |p| {
        if p.done >= 16 { Err(CurvatureError::Interrupted) } else { Ok(()) }
    })
    .unwrap();
    assert_eq!((stop.samples, stop.interrupted, stop.reached), (16, true, false));
    let same = hutchinson(&matrix, &Hutchinson { stop: Stopping::after(16), ..whole }, &mut |_| Ok(())).unwrap();
    assert_eq!((same.estimate, same.standard_error), (stop.estimate, stop.standard_error));
    assert!(!same.interrupted && same.reached);
}
