//! Noise of gradients of which one sentence gives several: against vectors in double precision, with sentences left out
//! one at a time, and how often the stated errors cover.

use lowland::curvature::{Cluster, Noise, cluster_deviations};
use lowland::random::{Purpose, Stream};

type Vector = Vec<f64>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn sum(of: &[&Vector]) -> Vector {
    (0..of[0].len()).map(|j| of.iter().map(|g| g[j]).sum()).collect()
}

/// Sentences of 1 to 6 tokens; a token's gradient is a mean, a part that its sentence shares, and its own.
fn sentences(count: usize, shared: f64, seed: u64) -> Vec<Vec<Vector>> {
    let mut stream = Stream::new(seed, Purpose::Test, 4);
    let mut one = |scale: f64| -> Vector { (0..SIZE).map(|j| scale / (1.0 + j as f64) * stream.normal()).collect() };
    let mut sizes = Stream::new(seed, Purpose::Test, 5);
    (0..count)
        .map(|_| {
            let common = one(shared);
            (0..1 + sizes.below(6)).map(|_| sum(&[&vec![MEAN; SIZE], &common, &one(1.0)])).collect()
        })
        .collect()
}

const SIZE: usize = 6;
const MEAN: f64 = 0.2;

fn clusters(sentences: &[Vec<Vector>]) -> Vec<Cluster> {
    let all: Vec<&Vector> = sentences.iter().flatten().collect();
    let mean: Vector = sum(&all).iter().map(|x| x / all.len() as f64).collect();
    let one = |tokens: &Vec<Vector>| {
        let whole = sum(&tokens.iter().collect::<Vec<_>>());
        Cluster {
            gradients: tokens.len(),
            squares: tokens.iter().map(|g| dot(g, g)).sum(),
            square_of_sum: dot(&whole, &whole),
            slope: dot(&whole, &mean),
        }
    };
    sentences.iter().map(one).collect()
}

/// Tr Σ with n - 1, and the mean of g · g' over pairs from different sentences, from the vectors.
fn by_hand(sentences: &[&Vec<Vector>]) -> [f64; 2] {
    let all: Vec<(usize, &Vector)> =
        sentences.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |g| (i, g))).collect();
    let n = all.len() as f64;
    let mean: Vector = sum(&all.iter().map(|(_, g)| *g).collect::<Vec<_>>()).iter().map(|x| x / n).collect();
    let off = |g: &Vector| g.iter().zip(&mean).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
    let trace = all.iter().map(|(_, g)| off(g)).sum::<f64>() / (n - 1.0);
    let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a, b))).filter(|(a, b)| a.0 != b.0);
    let (total, count) = pairs.fold((0.0, 0.0), |(t, c), (a, b)| (t + dot(a.1, b.1), c + 1.0));
    [trace, total / count]
}

#[test]
fn values_and_errors_are_those_of_leaving_sentences_out() {
    let made = sentences(9, 0.7, 3);
    let all: Vec<&Vec<Vector>> = made.iter().collect();
    let known = clusters(&made);
    let noise = Noise::of_clusters(&known);
    let [trace, signal] = by_hand(&all);
    let left_out: Vec<[f64; 2]> = (0..9).map(|i| by_hand(&[&all[..i], &all[i + 1..]].concat())).collect();
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-10, "{a} against {b}");
    let check = |found: lowland::statistics::Estimate, of: &dyn Fn(&[f64; 2]) -> f64| {
        let values: Vec<f64> = left_out.iter().map(of).collect();
        let mean = values.iter().sum::<f64>() / 9.0;
        close(found.value, of(&[trace, signal]));
        close(found.standard_error, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() * 8.0 / 9.0).sqrt());
    };
    check(noise.trace_covariance, &|v| v[0]);
    check(noise.gradient_squared_norm, &|v| v[1]);
    check(noise.noise_scale, &|v| v[0] / v[1]);
    assert_eq!(noise.gradients, made.iter().map(Vec::len).sum::<usize>());
    let parts = cluster_deviations(&known, noise.mean_gradient_squared_norm);
    close(parts.iter().sum::<f64>() / noise.gradients as f64, trace);
}

#[test]
fn one_gradient_each_is_the_plain_noise_bit_for_bit() {
    let made: Vec<Vec<Vector>> = sentences(7, 0.4, 5).into_iter().map(|s| s[..1].to_vec()).collect();
    let known = clusters(&made);
    let (own, slopes): (Vec<f64>, Vec<f64>) = known.iter().map(|c| (c.squares, c.slope)).unzip();
    let (a, b) = (Noise::of(&own, &slopes), Noise::of_clusters(&known));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

#[test]
fn errors_over_sentences_cover_and_errors_over_tokens_do_not() {
    let weights: f64 = (0..SIZE).map(|j| 1.0 / (1.0 + j as f64).powi(2)).sum();
    let shared = 1.2;
    let (truth, signal) = ((1.0 + shared * shared) * weights, MEAN * MEAN * SIZE as f64);
    let (runs, mut covered, mut by_tokens, mut signals) = (400, 0, 0, Vec::new());
    for seed in 0..runs {
        let made = sentences(150, shared, seed);
        let found = Noise::of_clusters(&clusters(&made));
        let within = |e: lowland::statistics::Estimate| (e.value - truth).abs() < 1.96 * e.standard_error;
        covered += usize::from(within(found.trace_covariance));
        let apart: Vec<Vec<Vector>> = made.into_iter().flatten().map(|g| vec![g]).collect();
        by_tokens += usize::from(within(Noise::of_clusters(&clusters(&apart)).trace_covariance));
        signals.push(found.gradient_squared_norm.value);
    }
    let rate = |count: usize| count as f64 / runs as f64;
    assert!(rate(covered) > 0.90, "{}", rate(covered));
    assert!(rate(by_tokens) < rate(covered) - 0.1, "tokens as if they were independent: {}", rate(by_tokens));
    let mean = lowland::statistics::Estimate::of_mean(&signals);
    assert!((mean.value - signal).abs() < 4.0 * mean.standard_error, "{mean} against {signal}");
}
