//! Correlations against SciPy.

mod common;

use lowland::statistics::{Coefficient, correlate};

const ALL: [(&str, Coefficient); 3] =
    [("pearson", Coefficient::Pearson), ("spearman", Coefficient::Spearman), ("kendall", Coefficient::Kendall)];

#[test]
fn coefficients_and_intervals_are_those_of_scipy() {
    let text = std::fs::read_to_string(common::fixture("correlation.json")).unwrap();
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
