//! Correlations against SciPy.

use crate::common::fixtures::fixture;
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Clusters, Coefficient, correlate};

const ALL: [(&str, Coefficient); 3] =
    [("pearson", Coefficient::Pearson), ("spearman", Coefficient::Spearman), ("kendall", Coefficient::Kendall)];

#[test]
fn coefficients_and_intervals_are_those_of_scipy() {
    let text = std::fs::read_to_string(fixture("correlation.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    for case in truth["cases"].as_array().unwrap() {
        let numbers = |v: &serde_json::Value| -> Vec<f64> { serde_json::from_value(v.clone()).unwrap() };
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        for (name, coefficient) in ALL {
            let ours = correlate(coefficient, &x, &y, 20_000, 5).unwrap();
            let theirs = case[name]["value"].as_f64().unwrap();
            assert!((ours.value - theirs).abs() < 1e-12, "{name}: {} against {theirs}", ours.value);
            // Both intervals come from 20,000 draws: their ends have standard errors of some thousandths.
            let ends = numbers(&case[name]["interval"]);
            assert!((ours.low - ends[0]).abs() < 0.015, "{name} of {}: {ours:?} against {ends:?}", x.len());
            assert!((ours.high - ends[1]).abs() < 0.015, "{name} of {}: {ours:?} against {ends:?}", x.len());
        }
    }
}

#[test]
fn perfect_order_is_one_and_reversal_turns_the_sign() {
    let x = [1.0, 2.0, 5.0, 9.0];
    for (name, coefficient) in ALL {
        let up: Vec<f64> = x.iter().map(|x| 3.0 * x - 7.0).collect();
        let down: Vec<f64> = x.iter().map(|x| -x).collect();
        assert!((coefficient.of(&x, &up).unwrap() - 1.0).abs() < 1e-12, "{name}");
        assert!((coefficient.of(&x, &down).unwrap() + 1.0).abs() < 1e-12, "{name}");
    }
    let cubes = x.map(|x| x.powi(3));
    assert!((Coefficient::Spearman.of(&x, &cubes).unwrap() - 1.0).abs() < 1e-12);
    assert!(Coefficient::Pearson.of(&x, &cubes).unwrap() < 1.0);
}

#[test]
fn what_has_no_correlation_gives_none() {
    for (_, coefficient) in ALL {
        assert!(correlate(coefficient, &[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0], 10, 0).is_none());
        assert!(correlate(coefficient, &[1.0], &[1.0], 10, 0).is_none());
        assert!(correlate(coefficient, &[], &[], 10, 0).is_none());
        assert!(correlate(coefficient, &[1.0, f64::NAN], &[1.0, 2.0], 10, 0).is_none());
        // Of two pairs half of the draws repeat one pair; the others lie on a line.
        let two = correlate(coefficient, &[1.0, 2.0], &[3.0, 4.0], 1000, 0).unwrap();
        assert!((two.value - 1.0).abs() < 1e-12 && (400..600).contains(&two.draws), "{two:?}");
    }
}

#[test]
fn intervals_are_functions_of_the_seed() {
    let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 6.0]);
    let at = |seed| correlate(Coefficient::Pearson, &x, &y, 500, seed).unwrap();
    assert_eq!(at(1), at(1));
    assert_ne!(at(1), at(2));
}

#[test]
fn clusters_are_drawn_again_whole() {
    let mut stream = Stream::new(2, Purpose::Test, 0);
    let x: Vec<f64> = (0..12).map(|_| stream.normal()).collect();
    let y: Vec<f64> = x.iter().map(|x| x + stream.normal()).collect();
    // Each pair four times: no new evidence, so that the interval over clusters is that over the pairs.
    let four = |v: &[f64]| -> Vec<f64> { v.iter().flat_map(|v| [*v; 4]).collect() };
    let of: Vec<usize> = (0..12).flat_map(|i| [i; 4]).collect();
    let clusters = Clusters { of: &of, draws: 2000, seed: 3 };
    for (name, coefficient) in ALL {
        let once = correlate(coefficient, &x, &y, 2000, 3).unwrap();
        let often = clusters.correlate(coefficient, &four(&x), &four(&y)).unwrap();
        assert_eq!((once.clusters, often.pairs, often.clusters), (12, 48, 12));
        for (a, b) in [(once.value, often.value), (once.low, often.low), (once.high, often.high)] {
            assert!((a - b).abs() < 1e-9, "{name}: {once:?} against {often:?}");
        }
        let naive = correlate(coefficient, &four(&x), &four(&y), 2000, 3).unwrap();
        assert!(naive.high - naive.low < 0.7 * (often.high - often.low), "{name}: {naive:?} against {often:?}");
    }
    // One cluster has a value and no interval.
    let one = Clusters { of: &[0; 12], ..clusters }.correlate(Coefficient::Pearson, &x, &y).unwrap();
    assert!(one.value.is_finite() && one.low.is_nan() && one.high.is_nan() && one.draws == 0);
}

#[test]
fn a_partial_correlation_is_that_of_residuals() {
    let mut stream = Stream::new(4, Purpose::Test, 0);
    let z: Vec<f64> = (0..40).map(|_| stream.normal()).collect();
    let x: Vec<f64> = z.iter().map(|z| 2.0 * z + stream.normal()).collect();
    let y: Vec<f64> = z.iter().map(|z| -3.0 * z + 0.5 * stream.normal()).collect();
    let residuals = |v: &[f64]| -> Vec<f64> {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (mv, mz) = (mean(v), mean(&z));
        let slope = v.iter().zip(&z).map(|(v, z)| (v - mv) * (z - mz)).sum::<f64>()
            / z.iter().map(|z| (z - mz).powi(2)).sum::<f64>();
        v.iter().zip(&z).map(|(v, z)| v - mv - slope * (z - mz)).collect()
    };
    let want = Coefficient::Pearson.of(&residuals(&x), &residuals(&y)).unwrap();
    let partial = Coefficient::Pearson.partial(&x, &y, &z).unwrap();
    assert!((partial - want).abs() < 1e-12, "{partial} against {want}");
    // x and y go together through z alone.
    assert!(Coefficient::Spearman.of(&x, &y).unwrap() < -0.7);
    let each: Vec<usize> = (0..40).collect();
    let found = Clusters { of: &each, draws: 1000, seed: 0 }.partial(Coefficient::Spearman, &x, &y, &z).unwrap();
    assert!(found.low < 0.0 && 0.0 < found.high, "{found:?}");
    assert!(Coefficient::Pearson.partial(&x, &y, &x).is_none(), "x is determined by itself");
}
