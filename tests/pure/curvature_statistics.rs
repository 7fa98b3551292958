//! Components of variance and sampling designs: expectations by enumeration, stated errors by simulation at fixed
//! seeds.

use lowland::random::{Purpose, Stream};
use lowland::statistics::{Crossed, Estimate, Importance, Measured, Stratified, Target, draws_for, nested};

#[test]
fn nested_draws_enumerated() {
    // Two examples of weights 1 and 3, two draws each from two equally likely values.
    let laws = [[1.0, 4.0], [2.0, -6.0]];
    let truth = 0.25 * 2.5 + 0.75 * -2.0;
    let (mut mean, mut variance, mut stated) = (0.0, 0.0, 0.0);
    for code in 0..16usize {
        let draw = |i: usize, d: usize| laws[i][code >> (2 * i + d) & 1];
        let p =
            nested(&[1.0, 3.0], &[vec![draw(0, 0), draw(0, 1)], vec![draw(1, 0), draw(1, 1)]], Target::TheseExamples);
        mean += p.value / 16.0;
        variance += (p.value - truth).powi(2) / 16.0;
        stated += p.standard_error.powi(2) / 16.0;
        assert_eq!(p.standard_error_data, 0.0);
    }
    assert!((mean - truth).abs() < 1e-12 && (variance - stated).abs() < 1e-12);
}

#[test]
fn one_draw_an_example_leaves_the_parts_unknown_and_the_whole_known() {
    let values: Vec<Vec<f64>> = (0..10).map(|i| vec![f64::from(i)]).collect();
    let p = nested(&[1.0; 10], &values, Target::Population);
    let plain = Estimate::of_mean(&values.concat());
    assert!((p.standard_error - plain.standard_error).abs() < 1e-12 && (p.value - plain.value).abs() < 1e-12);
    assert!(p.standard_error_probe.is_nan() && p.standard_error_data.is_nan());
    let these = nested(&[1.0; 10], &values, Target::TheseExamples);
    assert_eq!((these.standard_error, these.standard_error_data), (p.standard_error, 0.0), "an upper bound");
}

#[test]
fn weights_are_those_of_a_ratio() {
    let (sums, counts) = ([3.0, 10.0, 4.0, 9.0], [1.0, 3.0, 2.0, 2.0]);
    let values: Vec<Vec<f64>> = sums.iter().zip(&counts).map(|(s, c)| vec![s / c]).collect();
    let (p, e) = (nested(&counts, &values, Target::Population), Estimate::of_ratio(&sums, &counts));
    assert!((p.value - e.value).abs() < 1e-12 && (p.standard_error - e.standard_error).abs() < 1e-12);
}

/// Mean stated variances and the variance seen, over many simulated experiments.
struct Seen {
    whole: f64,
    probe: f64,
    data: f64,
    variance: f64,
    covered: f64,
}

fn simulate(runs: u64, truth: f64, one: impl Fn(&mut Stream) -> lowland::statistics::Parts) -> Seen {
    let parts: Vec<_> = (0..runs).map(|run| one(&mut Stream::new(5, Purpose::Test, run))).collect();
    let mean = |of: &dyn Fn(&lowland::statistics::Parts) -> f64| parts.iter().map(of).sum::<f64>() / runs as f64;
    Seen {
        whole: mean(&|p| p.standard_error.powi(2)),
        probe: mean(&|p| p.standard_error_probe.powi(2)),
        data: mean(&|p| p.standard_error_data.powi(2)),
        variance: mean(&|p| (p.value - truth).powi(2)),
        covered: mean(&|p| f64::from(u8::from((p.value - truth).abs() < 1.96 * p.standard_error))),
    }
}

fn near(a: f64, b: f64, relative: f64, what: &str) {
    assert!((a / b - 1.0).abs() < relative, "{what}: {a} against {b}");
}

#[test]
fn nested_components_are_told_apart() {
    // Examples N(3, 2²), draws with deviation 3 about them, five draws.
    let seen = simulate(1500, 3.0, |s| {
        let values: Vec<Vec<f64>> = (0..25)
            .map(|_| {
                let own = 3.0 + 2.0 * s.normal();
                (0..5).map(|_| own + 3.0 * s.normal()).collect()
            })
            .collect();
        nested(&[1.0; 25], &values, Target::Population)
    });
    near(seen.probe, 9.0 / 125.0, 0.03, "probe");
    near(seen.data, 4.0 / 25.0, 0.05, "data");
    near(seen.whole, seen.variance, 0.12, "whole against seen");
    assert!((0.92..0.97).contains(&seen.covered), "{}", seen.covered);
}

#[test]
fn crossed_components_are_told_apart() {
    // x_ki = 5 + d_i + p_k + e_ki with deviations 2, 1 and 4; 12 probes, 30 examples.
    let (n, k) = (30usize, 12usize);
    let experiment = |s: &mut Stream, target| {
        let d: Vec<f64> = (0..n).map(|_| 2.0 * s.normal()).collect();
        let mut crossed = Crossed::new(&vec![1.0; n]);
        for _ in 0..k {
            let p = s.normal();
            crossed.push(&d.iter().map(|d| 5.0 + d + p + 4.0 * s.normal()).collect::<Vec<_>>());
        }
        crossed.parts(target)
    };
    let seen = simulate(1500, 5.0, |s| experiment(s, Target::Population));
    let (probe, both) = (1.0 / 12.0 + 16.0 / 360.0, 4.0 / 30.0);
    near(seen.probe, probe, 0.05, "probe with interaction");
    near(seen.data, both, 0.06, "data");
    near(seen.whole, seen.variance, 0.12, "whole against seen");
    assert!((0.91..0.97).contains(&seen.covered), "{}", seen.covered);
    let these = simulate(1500, 5.0, |s| experiment(s, Target::TheseExamples));
    near(these.whole, probe, 0.05, "these examples");
}

#[test]
fn crossed_sums_do_not_depend_on_a_large_mean() {
    let rows = [[1.0, 2.0, 4.0], [2.0, 2.5, 3.0], [0.0, 2.0, 5.0]];
    let of = |shift: f64| {
        let mut c = Crossed::new(&[1.0, 2.0, 1.0]);
        rows.iter().for_each(|r| c.push(&r.map(|x| x + shift)));
        c.parts(Target::Population)
    };
    let (a, b) = (of(0.0), of(1e6));
    near(a.standard_error, b.standard_error, 1e-6, "whole");
    near(a.standard_error_data, b.standard_error_data, 1e-6, "data");
}

/// Examples of unequal weight whose values take two equally likely amounts, a heavy one among them.
const WEIGHTS: [f64; 4] = [1.0, 2.0, 1.0, 1.0];
const LAWS: [[f64; 2]; 4] = [[1.0, 2.0], [0.5, 1.5], [3.0, 4.0], [40.0, 60.0]];

fn frame_mean() -> f64 {
    let total: f64 = WEIGHTS.iter().sum();
    (0..4).map(|i| WEIGHTS[i] / total * (LAWS[i][0] + LAWS[i][1]) / 2.0).sum()
}

#[test]
fn importance_sampling_enumerated() {
    let design = Importance::new(&WEIGHTS, &[1.0, 1.0, 2.0, 70.0], 0.1).unwrap();
    let p = design.probabilities();
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    let total: f64 = WEIGHTS.iter().sum();
    assert!(p.iter().zip(WEIGHTS).all(|(p, w)| w / total / p <= 10.0 + 1e-9), "bounded weights");
    let control = [1.2, 1.1, 3.0, 45.0];
    for control in [None, Some(&control[..])] {
        let (mut mean, mut variance, mut stated) = (0.0, 0.0, 0.0);
        // Two draws of an example, one value each.
        for code in 0..64usize {
            let (i, j, a, b) = (code % 4, code / 4 % 4, code / 16 % 2, code / 32);
            let chance = p[i] * p[j] / 4.0;
            let sample =
                [Measured { example: i, values: vec![LAWS[i][a]] }, Measured { example: j, values: vec![LAWS[j][b]] }];
            let e = design.estimate(&sample, control, Target::TheseExamples);
            mean += chance * e.value;
            variance += chance * (e.value - frame_mean()).powi(2);
            stated += chance * e.standard_error.powi(2);
        }
        assert!((mean - frame_mean()).abs() < 1e-12, "{mean} against {}", frame_mean());
        assert!((variance - stated).abs() < 1e-10, "{variance} against {stated}");
    }
}

#[test]
fn strata_enumerated() {
    // Stratum 0 holds three examples and gets two draws, stratum 1 the heavy one, whole, with two label draws.
    let mut design = Stratified::new(&WEIGHTS, vec![0, 0, 0, 1]).unwrap();
    design.draws = vec![2, 1];
    let (mut mean, mut variance, mut stated) = (0.0, 0.0, 0.0);
    let light = [0.25, 0.5, 0.25];
    for code in 0..3 * 3 * 16usize {
        let (i, j, bits) = (code % 3, code / 3 % 3, code / 9);
        let chance = light[i] * light[j] / 16.0;
        let sample = [
            Measured { example: i, values: vec![LAWS[i][bits & 1]] },
            Measured { example: j, values: vec![LAWS[j][bits >> 1 & 1]] },
            Measured { example: 3, values: vec![LAWS[3][bits >> 2 & 1], LAWS[3][bits >> 3]] },
        ];
        // The parts need two draws everywhere; the whole does not.
        let e = design.estimate(&sample, Target::TheseExamples);
        mean += chance * e.value;
        variance += chance * (e.value - frame_mean()).powi(2);
        stated += chance * e.standard_error.powi(2);
    }
    assert!((mean - frame_mean()).abs() < 1e-12, "{mean} against {}", frame_mean());
    assert!((variance - stated).abs() < 1e-10, "{variance} against {stated}");
}

#[test]
fn neyman_takes_the_tail_whole_and_spends_what_is_given() {
    let proxy: Vec<f64> =
        (0..1000).map(|i| if i < 10 { 500.0 + f64::from(i) } else { 1.0 + f64::from(i % 7) }).collect();
    let weights = vec![1.0; 1000];
    let mut design = Stratified::by_proxy(&weights, &proxy, 8).unwrap();
    assert!((design.shares().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    for (a, b) in [(0, 1), (11, 18)] {
        assert_eq!(proxy[a] == proxy[b], design.strata[a] == design.strata[b] && proxy[a] == proxy[b]);
    }
    let spread: Vec<f64> = (0..design.sizes().len())
        .map(|h| (0..1000).filter(|i| design.strata[*i] == h).map(|i| proxy[i]).fold(0.0, f64::max))
        .collect();
    design.allocate(&spread, 200);
    let sizes = design.sizes();
    assert_eq!(design.draws[design.strata[9]], sizes[design.strata[9]], "the largest are all taken");
    let spent: usize = design.draws.iter().sum();
    assert!((190..=210).contains(&spent), "{spent}");
    let sample = design.sample(3);
    assert_eq!(sample.len(), spent);
    assert_eq!(sample, design.sample(3));
    assert_ne!(sample, design.sample(4));
    assert!((0..10).all(|i| design.sizes()[design.strata[i]] > design.draws[design.strata[i]] || sample.contains(&i)));
}

/// A population where one sentence in a hundred holds about half of the sum: y = x · noise, x seen for the whole frame.
fn heavy(seed: u64, size: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut s = Stream::new(seed, Purpose::Test, 77);
    let weights: Vec<f64> = (0..size).map(|_| 1.0 + f64::from(s.below(2))).collect();
    let x: Vec<f64> = (0..size).map(|_| if s.uniform() < 0.01 { 100.0 } else { 1.0 } * s.exponential()).collect();
    let y = x.iter().map(|x| x * (0.6 + 0.8 * s.uniform())).collect();
    (weights, x, y)
}

/// Labels: each draw of a measured example is y times 0 or 2.
fn measure(y: &[f64], examples: &[usize], draws: usize, s: &mut Stream) -> Vec<Measured> {
    let values = |i: usize, s: &mut Stream| (0..draws).map(|_| y[i] * f64::from(2 * s.below(2))).collect();
    examples.iter().map(|i| Measured { example: *i, values: values(*i, s) }).collect()
}

#[test]
fn heavy_tails_are_covered_by_both_designs_and_at_a_fraction_of_the_variance() {
    let (size, draws, n) = (2000, 2, 300);
    let truth_population = 0.99 + 1.0;
    let mut z: [Vec<f64>; 5] = Default::default();
    let mut spread = [0.0f64; 3];
    for seed in 0..300u64 {
        let (weights, x, y) = heavy(seed, size);
        let total: f64 = weights.iter().sum();
        let truth: f64 = (0..size).map(|i| weights[i] / total * y[i]).sum();
        // What even knowing every y of the frame would give for the population: its sum is skewed.
        let all = Estimate::of_ratio(&(0..size).map(|i| weights[i] * y[i]).collect::<Vec<_>>(), &weights);
        z[4].push((all.value - truth_population) / all.standard_error);
        let s = &mut Stream::new(seed, Purpose::Test, 78);
        let importance = Importance::new(&weights, &x, 0.1).unwrap();
        let drawn: Vec<usize> = (0..n).map(|k| importance.draw(seed, k)).collect();
        let sample = measure(&y, &drawn, draws, s);
        let e = importance.estimate(&sample, None, Target::TheseExamples);
        z[0].push((e.value - truth) / e.standard_error);
        let p = importance.estimate(&sample, None, Target::Population);
        z[1].push((p.value - truth_population) / p.standard_error);
        spread[0] += (e.value - truth).powi(2);

        let mut strata = Stratified::by_proxy(&weights, &x, 12).unwrap();
        let plain = Importance::new(&weights, &vec![1.0; size], 1.0).unwrap();
        let pilot: Vec<usize> = (0..400).map(|k| plain.draw(1000 + seed, k)).collect();
        let spreads = strata.spread(&measure(&y, &pilot, draws, s), false);
        strata.allocate(&spreads, n as usize);
        // A whole stratum's error comes from its labels alone: two draws would tell their scatter too badly.
        let sample = measure(&y, &strata.sample(seed), 3 * draws, s);
        let e = strata.estimate(&sample, Target::TheseExamples);
        z[2].push((e.value - truth) / e.standard_error);
        let p = strata.estimate(&sample, Target::Population);
        z[3].push((p.value - truth_population) / p.standard_error);
        spread[1] += (e.value - truth).powi(2);

        let plain: Vec<usize> = (0..n as usize).collect();
        let values: f64 =
            measure(&y, &plain, draws, s).iter().map(|m| weights[m.example] * m.values.iter().sum::<f64>() / 2.0).sum();
        let weight: f64 = plain.iter().map(|i| weights[*i]).sum();
        spread[2] += (values / weight - truth).powi(2);
    }
    let share = |z: &[f64]| z.iter().filter(|z| z.abs() < 1.96).count() as f64 / z.len() as f64;
    let shares = z.each_ref().map(|z| share(z));
    let [importance, of_population, strata, of_population_by_strata, all] = shares;
    assert!((0.9..0.99).contains(&importance) && (0.9..0.99).contains(&strata), "{shares:?}");
    assert!(of_population > all - 0.04 && of_population_by_strata > all - 0.04, "{shares:?}");
    assert!((0.82..0.99).contains(&all), "{shares:?}");
    assert!(spread[0] < spread[2] / 20.0 && spread[1] < spread[2] / 20.0, "{spread:?}");
}

#[test]
fn designs_refuse_what_makes_no_sense() {
    assert!(Importance::new(&[1.0, 1.0], &[1.0], 0.1).is_err());
    assert!(Importance::new(&[1.0, 0.0], &[1.0, 1.0], 0.1).is_err());
    assert!(Importance::new(&[1.0, 1.0], &[1.0, -1.0], 0.1).is_err());
    assert!(Importance::new(&[1.0, 1.0], &[1.0, f64::NAN], 0.1).is_err());
    assert!(Importance::new(&[1.0, 1.0], &[1.0, 1.0], 0.0).is_err());
    assert!(Stratified::new(&[1.0, 1.0], vec![0, 2]).is_err());
    let zero = Importance::new(&[1.0, 3.0], &[0.0, 0.0], 0.1).unwrap();
    assert_eq!(zero.probabilities(), [0.25, 0.75], "no prediction, plain draws");
    assert_eq!(draws_for(1.0, 0.25, 3.0, 1.0), 3);
    assert_eq!(draws_for(1.0, 0.25, 0.0, 1.0), 1);
}
