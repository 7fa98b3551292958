//! Effects within strata against statsmodels and SciPy, and how often tests err.

use crate::common::fixtures::fixture;
use lowland::random::{Purpose, Stream};
use lowland::statistics::{
    OneWay, Paired, Within, detectable, holm, power, power_of_equivalence, ranks_within, student_below,
    student_quantile,
};
use serde_json::Value;

fn truth() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("within.json")).unwrap()).unwrap()
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn slopes_errors_and_permutations_are_those_of_statsmodels() {
    for case in truth()["within"].as_array().unwrap() {
        let given: Vec<Vec<f64>> = case["given"].as_array().unwrap().iter().map(numbers).collect();
        let (x, y): (Vec<f64>, Vec<f64>) = (numbers(&case["x"]), numbers(&case["y"]));
        let (strata, runs): (Vec<usize>, Vec<usize>) = (numbers(&case["strata"]), numbers(&case["runs"]));
        let within = Within::new(&y, &x, &given, &strata, &runs).unwrap();
        let effect = within.effect(Some(1.0), 4000, 3);
        assert!((effect.slope - number(&case["slope"])).abs() < 1e-10, "{effect:?}");
        assert!((effect.standard_error - number(&case["standard_error"])).abs() < 1e-10, "{effect:?}");
        assert!((effect.partial - number(&case["partial"])).abs() < 1e-10, "{effect:?}");
        // 4,000 draws against 20,000.
        let (p, theirs) = (effect.p.unwrap(), number(&case["p"]));
        assert!((p - theirs).abs() < 4.0 * (theirs.max(1e-3) / 4000.0).sqrt(), "{p} against {theirs}");
        assert!(effect.interval.low < effect.slope && effect.slope < effect.interval.high);
        assert_eq!((effect.rows, effect.runs), (x.len(), runs.last().unwrap() + 1));
        // The order of rows and a covariate that is told twice change nothing.
        let back = |v: &[f64]| v.iter().rev().copied().collect::<Vec<f64>>();
        let turned = |v: &[usize]| v.iter().rev().copied().collect::<Vec<usize>>();
        let twice: Vec<Vec<f64>> = given.iter().chain(&given).map(|z| back(z)).collect();
        let same = Within::new(&back(&y), &back(&x), &twice, &turned(&strata), &turned(&runs)).unwrap();
        assert!((same.slope() - within.slope()).abs() < 1e-10);
        assert!((same.standard_error() - within.standard_error()).abs() < 1e-10);
    }
}

#[test]
fn pairs_families_and_laws_are_those_of_scipy() {
    let truth = truth();
    for case in truth["pairs"].as_array().unwrap() {
        let d: Vec<f64> = numbers(&case["differences"]);
        let found = Paired::of(&d, Some(number(&case["bound"])), 20_000, 1).unwrap();
        let interval: Vec<f64> = numbers(&case["interval"]);
        assert!((found.interval.low - interval[0]).abs() < 1e-9 && (found.interval.high - interval[1]).abs() < 1e-9);
        assert!((found.p_equivalent.unwrap() - number(&case["p_equivalent"])).abs() < 1e-9, "{found:?}");
        // Enumerated up to 16 pairs, drawn beyond.
        let (tolerance, p) = (if d.len() <= 16 { 1e-4 } else { 0.012 }, number(&case["p"]));
        assert!((found.p_signs - p).abs() < tolerance, "{found:?} against {p}");
        assert!((found.p - number(&case["p_student"])).abs() < 1e-9, "{found:?}");
    }
    let (p, raised): (Vec<f64>, Vec<f64>) = (numbers(&truth["holm"]["p"]), numbers(&truth["holm"]["raised"]));
    assert!(holm(&p).iter().zip(&raised).all(|(a, b)| (a - b).abs() < 1e-12), "{:?}", holm(&p));
    for case in truth["student"].as_array().unwrap() {
        let v: Vec<f64> = numbers(case);
        assert!((student_below(v[0], v[1]) - v[2]).abs() < 1e-10, "{v:?}: {}", student_below(v[0], v[1]));
    }
    for case in truth["quantiles"].as_array().unwrap() {
        let v: Vec<f64> = numbers(case);
        assert!((student_quantile(v[0], v[1]) / v[2] - 1.0).abs() < 1e-8, "{v:?}");
    }
    for case in truth["power"].as_array().unwrap() {
        let v: Vec<f64> = numbers(case);
        assert!((power(v[0], v[1], f64::INFINITY, 0.05) - v[2]).abs() < 1e-10, "{v:?}");
    }
    assert!((power(detectable(0.3, 20.0, 0.05), 0.3, 20.0, 0.05) - 0.8).abs() < 1e-9);
    assert_eq!(power_of_equivalence(0.1, 1.0, 10.0, 0.05), 0.0, "nothing is shown within a tenth of the error");
}

/// Models of runs in three strata: the measure is the run's, with an error of each model's; the outcome has the same
/// and the true slope.
fn made(slope: f64, number: u64) -> Within {
    let mut stream = Stream::new(5, Purpose::Test, number);
    let (mut x, mut y, mut z, mut strata, mut runs) = (vec![], vec![], vec![], vec![], vec![]);
    for run in 0..18 {
        let (own, luck) = (stream.normal(), stream.normal());
        for _ in 0..2 {
            let loss = stream.normal() + 0.7 * own;
            let measure = own + 0.5 * stream.normal() + 3.0 * f64::from(run % 3);
            y.push(slope * measure - 5.0 * f64::from(run % 3) + 0.8 * loss + luck + 0.4 * stream.normal());
            x.push(measure);
            z.push(loss);
            strata.push(run as usize % 3);
            runs.push(run as usize);
        }
    }
    Within::new(&y, &x, &[z], &strata, &runs).unwrap()
}

#[test]
fn tests_err_and_intervals_cover_as_often_as_they_say() {
    let (mut wrong, mut covered, mut equivalent, mut seen) = (0, 0, 0, 0);
    const TIMES: u64 = 300;
    for number in 0..TIMES {
        let none = made(0.0, number).effect(None, 399, number);
        wrong += u64::from(none.p.unwrap() <= 0.05);
        covered += u64::from(none.interval.low <= 0.0 && none.interval.high >= 0.0);
        // At the edge of the bounds equivalence is wrong in one case of twenty.
        let edge = made(1.0, 1000 + number).effect(Some(1.0), 399, number);
        equivalent += u64::from(edge.p_equivalent.unwrap() <= 0.05);
        seen += u64::from(edge.p.unwrap() <= 0.05);
    }
    // 15 with a deviation of 3.8; 285.
    assert!((4..=28).contains(&wrong), "{wrong} of {TIMES} are significant where there is nothing");
    assert!((270..=297).contains(&covered), "{covered} of {TIMES} intervals cover");
    assert!((3..=30).contains(&equivalent), "{equivalent} of {TIMES} are equivalent at the edge");
    assert!(seen > 200, "a slope of 1 is seen {seen} times of {TIMES}");
}

/// Twelve runs in four strata, each at the same four times, with a level and a course of its own.
fn courses(slope: f64, number: u64) -> Within {
    let mut stream = Stream::new(6, Purpose::Test, number);
    let (mut x, mut y, mut strata, mut runs) = (vec![], vec![], vec![], vec![]);
    for run in 0..12 {
        let (level, own) = (stream.normal(), 0.3 * stream.normal());
        for time in 0..4 {
            let measure = f64::from(time) + f64::from(run % 4);
            x.push(measure);
            y.push(f64::from(run % 4) + level + (slope + own) * measure + 0.3 * stream.normal());
            strata.push(run as usize % 4);
            runs.push(run as usize);
        }
    }
    Within::new(&y, &x, &[], &strata, &runs).unwrap()
}

/// To change the places of runs that have all been measured at the same times changes nothing, and would show nothing.
#[test]
fn a_measure_that_all_runs_go_through_is_tested_by_signs() {
    let (mut wrong, mut seen) = (0, 0);
    for number in 0..300 {
        wrong += u64::from(courses(0.0, number).permuted(399, number).unwrap() <= 0.05);
        seen += u64::from(courses(0.4, number).permuted(399, number).unwrap() <= 0.05);
    }
    assert!((4..=28).contains(&wrong), "{wrong} of 300 are significant where there is nothing");
    assert!(seen > 200, "a slope of 0.4 is seen {seen} times of 300");
    // Six runs that all rise: as few changes of sign as there can be, all of them looked at.
    let rows = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
        (0..6).flat_map(|run| (0..4).map(move |time| (run, f64::from(time)))).map(|(run, time)| of(run, time)).collect()
    };
    let runs: Vec<usize> = (0..24).map(|i| i / 4).collect();
    let strata: Vec<usize> = runs.iter().map(|run| run % 2).collect();
    let y = rows(&|run, time| run as f64 + (1.0 + 0.1 * run as f64) * time);
    let rising = Within::new(&y, &rows(&|_, time| time), &[], &strata, &runs).unwrap();
    assert_eq!(rising.permuted(2000, 1), Some(2.0 / 64.0));
}

#[test]
fn what_tells_nothing_gives_none() {
    let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 6.0]);
    let each = [0, 1, 2, 3, 4];
    assert!(Within::new(&y, &[1.0; 5], &[], &[0; 5], &each).is_none(), "a measure that does not vary");
    assert!(Within::new(&y, &x, &[x.to_vec()], &[0; 5], &each).is_none(), "one that a covariate tells");
    assert!(Within::new(&y, &x, &[], &each, &each).is_none(), "strata of one row each");
    assert!(Within::new(&[1.0, 2.0, f64::NAN, 3.0, 4.0], &x, &[], &[0; 5], &each).is_none());
    let alone = Within::new(&y, &x, &[], &[0; 5], &[0, 0, 0, 0, 0]).unwrap().effect(Some(1.0), 100, 0);
    assert!(alone.p.is_none() && alone.p_equivalent.is_none() && !alone.interval.low.is_finite(), "one run: {alone:?}");
    assert!(Paired::of(&[1.0], None, 10, 0).is_none());
    assert_eq!(ranks_within(&[5.0, 7.0, 1.0, 1.0], &[0, 0, 1, 1]), [1.0, 2.0, 1.5, 1.5]);
}

#[test]
fn components_of_variance_come_out_of_what_was_put_in() {
    // Sets with a variance of 4 and fits with one of 1 within them.
    let mut stream = Stream::new(3, Purpose::Test, 0);
    let values: Vec<Vec<f64>> = (0..400)
        .map(|_| {
            let set = 2.0 * stream.normal();
            (0..3).map(|_| set + stream.normal()).collect()
        })
        .collect();
    let found = OneWay::of(&values);
    assert!((found.between.unwrap() - 4.0).abs() < 1.0 && (found.within.unwrap() - 1.0).abs() < 0.2, "{found:?}");
    assert!((found.standard_error.unwrap() - ((4.0 + 1.0 / 3.0) / 400f64).sqrt()).abs() < 0.02);
    let one = OneWay::of(&[vec![1.0, 2.0]]);
    assert_eq!((one.mean, one.standard_error, one.between, one.within), (1.5, None, None, Some(0.5)));
}
