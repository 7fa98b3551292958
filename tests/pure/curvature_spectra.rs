//! Lanczos on known spectra, quadrature against exact moments, noise from Gram matrices.

use crate::common::matrices::{Broken, with_spectrum};
use crate::common::truth::Truth;
use lowland::curvature::*;
use lowland::random::{Purpose, Stream};

fn pairs(matrix: &Dense, what: &Lanczos) -> Eigenpairs {
    top_eigenpairs(matrix, what, &mut |_| Ok(())).unwrap()
}

/// Eigenvalues within the square of the tolerance plus f32's rounding, vectors that fit them.
fn right(found: &Eigenpairs, matrix: &Dense, expected: &[f64]) {
    let largest = expected.iter().map(|x| x.abs()).fold(0.0, f64::max);
    for (value, want) in found.eigenvalues.iter().zip(expected) {
        assert!((value - want).abs() < 2e-5 * largest, "{:?} against {expected:?}", found.eigenvalues);
    }
    assert_eq!(found.eigenvalues.len(), expected.len());
    assert!(found.converged.iter().all(|c| *c), "{found:?}");
    let images = matrix.apply(&found.vectors).unwrap();
    for (i, (v, image)) in found.vectors.iter().zip(&images).enumerate() {
        let residual: f64 =
            v.iter().zip(image).map(|(x, y)| (f64::from(*y) - found.eigenvalues[i] * f64::from(*x)).powi(2)).sum();
        assert!((residual.sqrt() - found.residuals[i]).abs() < 1e-5 * largest);
        for w in &found.vectors[..i] {
            assert!(dot(v, w).abs() < 1e-4, "vectors are orthogonal");
        }
    }
}

#[test]
fn lanczos_finds_the_largest_by_absolute_value_with_signs() {
    let uniform: Vec<f64> = (0..150).map(|i| f64::from(i) / 15.0 - 4.0).collect();
    let mut sorted = uniform.clone();
    sorted.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    let matrix = with_spectrum(&uniform, 1);
    for block in [1, 2, 4] {
        right(&pairs(&matrix, &Lanczos { top: 6, block, ..Default::default() }), &matrix, &sorted[..6]);
    }
    let mut outliers: Vec<f64> = (0..120).map(|i| 0.01 * f64::from(i)).collect();
    outliers[..4].copy_from_slice(&[-50.0, 40.0, -30.0, 20.0]);
    let matrix = with_spectrum(&outliers, 2);
    let found = pairs(&matrix, &Lanczos { top: 4, ..Default::default() });
    right(&found, &matrix, &[-50.0, 40.0, -30.0, 20.0]);
    assert!(found.products < 40, "{} products", found.products);
}

#[test]
fn repeated_eigenvalues_are_found_as_often_as_they_occur() {
    // Two clusters of one value each: a Krylov space of two dimensions.
    let clusters: Vec<f64> = (0..40).map(|i| if i < 7 { 5.0 } else { -1.0 }).collect();
    let matrix = with_spectrum(&clusters, 3);
    for block in [1, 2, 3] {
        let found = pairs(&matrix, &Lanczos { top: 8, block, ..Default::default() });
        right(&found, &matrix, &[5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, -1.0]);
    }
    // A pair inside a spectrum that never runs out: the block's business.
    let mut pair: Vec<f64> = (0..120).map(|i| f64::from(i) / 120.0).collect();
    pair[..4].copy_from_slice(&[4.0, 4.0, -3.0, 2.0]);
    let matrix = with_spectrum(&pair, 4);
    right(&pairs(&matrix, &Lanczos { top: 4, block: 2, ..Default::default() }), &matrix, &[4.0, 4.0, -3.0, 2.0]);
}

#[test]
fn low_rank_zero_and_complete_spaces_end() {
    let mut values = vec![0.0; 25];
    let zero = pairs(&with_spectrum(&values, 5), &Lanczos { top: 3, ..Default::default() });
    assert!(zero.eigenvalues.iter().all(|x| *x == 0.0) && zero.converged.iter().all(|c| *c), "{zero:?}");
    values[0] = 3.0;
    let matrix = with_spectrum(&values, 5);
    let found = pairs(&matrix, &Lanczos { top: 2, ..Default::default() });
    right(&found, &matrix, &[3.0, 0.0]);
    let full: Vec<f64> = (0..12).map(|i| f64::from(12 - i)).collect();
    let matrix = with_spectrum(&full, 6);
    right(&pairs(&matrix, &Lanczos { top: 12, block: 5, ..Default::default() }), &matrix, &full);
}

#[test]
fn what_has_not_converged_says_so() {
    let matrix = with_spectrum(&(0..200).map(|i| f64::from(i) / 200.0).collect::<Vec<_>>(), 7);
    let found = pairs(&matrix, &Lanczos { top: 5, products: 14, ..Default::default() });
    assert!(found.converged.iter().any(|c| !c), "{found:?}");
    assert_eq!(found.products, 14 + 5);
    let bad = |l: Lanczos| top_eigenpairs(&matrix, &l, &mut |_| Ok(()));
    assert!(matches!(bad(Lanczos { top: 201, ..Default::default() }), Err(CurvatureError::Refused(_))));
    assert!(matches!(bad(Lanczos { top: 0, ..Default::default() }), Err(CurvatureError::Refused(_))));
    let broken = top_eigenpairs(&Broken, &Lanczos { top: 1, ..Default::default() }, &mut |_| Ok(()));
    assert!(matches!(broken, Err(CurvatureError::NotFinite(_))));
}

#[test]
fn quadrature_has_the_moments_of_the_matrix() {
    let values: Vec<f64> =
        (0..90).map(|i| if i < 5 { 30.0 - f64::from(i) } else { f64::from(i) / 30.0 - 1.5 }).collect();
    let matrix = with_spectrum(&values, 8);
    let what = QuadratureOptions { probes: 6, steps: 20, block: 4, ..Default::default() };
    let slq = quadrature(&matrix, &what, &mut |_| Ok(())).unwrap();
    let by_one = quadrature(&matrix, &QuadratureOptions { block: 1, ..what.clone() }, &mut |_| Ok(())).unwrap();
    assert_eq!(slq.nodes, by_one.nodes, "probes at once change nothing");
    assert_eq!(slq.products, 120);
    for (p, nodes) in slq.nodes.iter().enumerate() {
        assert!((nodes.iter().map(|(_, w)| w).sum::<f64>() - 1.0).abs() < 1e-12, "weights sum to 1");
        // m nodes are exact for polynomials up to degree 2 m - 1; the first two moments are forms of the probe itself.
        let v = probe(what.kind, what.seed, p as u64, 90);
        let image = &matrix.apply(std::slice::from_ref(&v)).unwrap()[0];
        let (form, square) = (dot(&v, image) / dot(&v, &v), dot(image, image) / dot(&v, &v));
        let moment = |power: i32| nodes.iter().map(|(x, w)| w * x.powi(power)).sum::<f64>();
        assert!((moment(1) - form).abs() < 1e-5 * 30.0 && (moment(2) - square).abs() < 1e-5 * 900.0);
    }
    // Over many probes they are the matrix's.
    let many = QuadratureOptions { probes: 300, steps: 8, block: 50, ..what };
    let many = quadrature(&matrix, &many, &mut |_| Ok(())).unwrap();
    for power in [1, 2] {
        let (got, want) = (many.moment(power), values.iter().map(|x| x.powi(power)).sum::<f64>() / 90.0);
        assert!((got.value - want).abs() < 4.0 * got.standard_error, "moment {power}: {got:?} against {want}");
    }
}

#[test]
fn a_probe_whose_space_is_exhausted_ends_there() {
    for value in [2.0, 0.0] {
        let matrix = with_spectrum(&[value; 20], 10);
        let what = QuadratureOptions { probes: 3, ..Default::default() };
        let slq = quadrature(&matrix, &what, &mut |_| Ok(())).unwrap();
        assert_eq!(slq.products, 3, "one product a probe");
        for nodes in &slq.nodes {
            assert!(nodes.len() == 1 && (nodes[0].0 - value).abs() < 1e-6 && (nodes[0].1 - 1.0).abs() < 1e-12);
        }
        let density = slq.density(0.01, 50);
        let whole = density.density.iter().sum::<f64>() * (density.grid[1] - density.grid[0]);
        assert!((whole - 1.0).abs() < 1e-3, "{whole}");
        let log = slq.log_density(1e-6, 0.1, 50);
        assert_eq!(log.near_zero.unwrap().value, if value == 0.0 { 1.0 } else { 0.0 });
        assert!(log.positive.density.iter().chain(&log.negative.density).all(|d| d.is_finite()));
    }
}

#[test]
fn densities_integrate_to_one_and_stand_where_the_eigenvalues_are() {
    let values: Vec<f64> = (0..100)
        .map(|i| match i {
            0..10 => 100.0,
            10..40 => -1.0,
            40..80 => 0.01,
            _ => 0.0,
        })
        .collect();
    let matrix = with_spectrum(&values, 9);
    let what = QuadratureOptions { probes: 40, steps: 12, ..Default::default() };
    let slq = quadrature(&matrix, &what, &mut |_| Ok(())).unwrap();
    let integral = |d: &Density| d.density.iter().sum::<f64>() * (d.grid[1] - d.grid[0]);
    let part = |d: &Density, from: f64, to: f64| {
        let inside = d.grid.iter().zip(&d.density).filter(|(x, _)| (from..to).contains(*x));
        inside.map(|(_, y)| y).sum::<f64>() * (d.grid[1] - d.grid[0])
    };
    let linear = slq.density(0.01, 2000);
    assert!((integral(&linear) - 1.0).abs() < 1e-3);
    assert!((part(&linear, 95.0, 105.0) - 0.1).abs() < 0.03);
    assert!(linear.standard_error.iter().all(|e| *e >= 0.0));
    let log = slq.log_density(1e-6, 0.1, 800);
    let whole = integral(&log.positive) + integral(&log.negative) + log.near_zero.unwrap().value;
    assert!((whole - 1.0).abs() < 1e-3, "{whole}");
    assert!((part(&log.positive, 1.5, 2.5) - 0.1).abs() < 0.03, "ten of a hundred at 10²");
    assert!((part(&log.positive, -2.5, -1.5) - 0.4).abs() < 0.06, "forty at 10⁻²");
    assert!((integral(&log.negative) - 0.3).abs() < 0.06);
    assert!((log.near_zero.unwrap().value - 0.2).abs() < 0.05);
}

#[test]
fn the_share_near_zero_is_told_only_where_it_can_be() {
    // A quarter zeros; the rest over four decades on both sides, as a Hessian's.
    let n = 160;
    let spread = |i: usize| 10f64.powf(-4.0 * (i as f64) / n as f64) * if i.is_multiple_of(3) { -1.0 } else { 1.0 };
    let values: Vec<f64> = (0..n).map(|i| if i < n / 4 { 0.0 } else { spread(i - n / 4) }).collect();
    let matrix = with_spectrum(&values, 11);
    let log = |steps: usize| {
        let what = QuadratureOptions { probes: 12, steps, ..Default::default() };
        quadrature(&matrix, &what, &mut |_| Ok(())).unwrap().log_density(1e-7, 0.1, 50)
    };
    for steps in [10, 20, 40] {
        let log = log(steps);
        assert!(log.near_zero.is_none(), "{steps} steps: {:?}", log.near_zero);
        assert!(log.gap > 100.0 * log.floor, "nodes are {} apart", log.gap);
        let most = log.near_zero_at_most;
        assert!(most.value > 0.25 - 4.0 * most.standard_error && most.value < 1.0, "{steps} steps: at most {most:?}");
    }
    let told = log(n).near_zero.expect("an exhausted space");
    assert!((told.value - 0.25).abs() < 4.0 * told.standard_error && told.standard_error < 0.03, "{told:?}");
}

/// Gradients of some examples about a mean, and their inner products.
fn gradients(n: usize, size: usize, mean: f64, seed: u64) -> (Vec<Vec<f64>>, Gram) {
    let mut stream = Stream::new(seed, Purpose::Test, 3);
    let g: Vec<Vec<f64>> =
        (0..n).map(|_| (0..size).map(|j| mean + stream.normal() / (1.0 + j as f64)).collect()).collect();
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let numbers = (0..n * n).map(|k| inner(&g[k / n], &g[k % n])).collect();
    (g, Gram::new(n, numbers).unwrap())
}

#[test]
fn the_gram_matrix_gives_the_covariance() {
    let (n, size) = (9, 6);
    let (g, gram) = gradients(n, size, 0.5, 1);
    let mean: Vec<f64> = (0..size).map(|j| g.iter().map(|g| g[j]).sum::<f64>() / n as f64).collect();
    let sigma = nalgebra::DMatrix::from_fn(size, size, |a, b| {
        g.iter().map(|g| (g[a] - mean[a]) * (g[b] - mean[b])).sum::<f64>() / (n - 1) as f64
    });
    let mut values: Vec<f64> = sigma.clone().symmetric_eigenvalues().iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    let found = gram.covariance_eigenvalues();
    assert_eq!(found.len(), n - 1);
    for (i, value) in found.iter().enumerate() {
        assert!((value - values.get(i).unwrap_or(&0.0)).abs() < 1e-12, "{found:?} against {values:?}");
    }
    let noise = gram.noise();
    assert!((noise.trace_covariance.value - sigma.trace()).abs() < 1e-12);
    assert!((noise.mean_gradient_squared_norm - mean.iter().map(|x| x * x).sum::<f64>()).abs() < 1e-12);
    let unbiased = noise.mean_gradient_squared_norm - sigma.trace() / n as f64;
    assert!((noise.gradient_squared_norm.value - unbiased).abs() < 1e-12);
    assert!((noise.noise_scale.value - sigma.trace() / unbiased).abs() < 1e-9);
    assert!((gram.covariance_squared_norm().0 - sigma.norm_squared()).abs() < 1e-12);
    // Against a matrix proportional to itself noise is aligned, with Tr(Σ A) from the forms.
    let form = |g: &Vec<f64>| {
        let d = nalgebra::DVector::from_iterator(size, g.iter().zip(&mean).map(|(x, m)| x - m));
        3.0 * d.dot(&(&sigma * &d))
    };
    let forms: Vec<f64> = g.iter().map(form).collect();
    assert!((alignment(&forms, sigma.norm_squared(), 9.0 * sigma.norm_squared()) - 1.0).abs() < 1e-12);
    assert!(matches!(Gram::new(1, vec![1.0]), Err(CurvatureError::Refused(_))));
    assert!(matches!(Gram::new(2, vec![1.0, f64::NAN, 0.0, 1.0]), Err(CurvatureError::NotFinite(_))));
}

#[test]
fn noise_estimates_are_unbiased_by_enumeration() {
    // Five examples drawn with replacement from three: all 243 samples.
    let (g, _) = gradients(3, 4, 0.3, 2);
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mean: Vec<f64> = (0..4).map(|j| g.iter().map(|g| g[j]).sum::<f64>() / 3.0).collect();
    let sigma = nalgebra::DMatrix::from_fn(4, 4, |a, b| {
        g.iter().map(|g| (g[a] - mean[a]) * (g[b] - mean[b])).sum::<f64>() / 3.0
    });
    let (mut trace, mut signal, mut square) = (0.0, 0.0, 0.0);
    for code in 0..243usize {
        let drawn: Vec<usize> = (0..5).map(|k| code / 3usize.pow(k) % 3).collect();
        let gram = Gram::new(5, (0..25).map(|k| inner(&g[drawn[k / 5]], &g[drawn[k % 5]])).collect()).unwrap();
        let noise = gram.noise();
        trace += noise.trace_covariance.value / 243.0;
        signal += noise.gradient_squared_norm.value / 243.0;
        square += gram.covariance_squared_norm().1 / 243.0;
    }
    assert!((trace - sigma.trace()).abs() < 1e-10);
    assert!((signal - inner(&mean, &mean)).abs() < 1e-10);
    assert!((square - sigma.norm_squared()).abs() < 1e-10, "{square} against {}", sigma.norm_squared());
}

#[test]
fn noise_errors_cover_at_their_stated_rate() {
    let size = 12;
    let want: f64 = (0..size).map(|j| 1.0 / (1.0 + j as f64).powi(2)).sum();
    let (mut trace, mut signal, mut ratio) = (vec![], vec![], vec![]);
    for seed in 0..300 {
        let (g, gram) = gradients(80, size, 0.2, 100 + seed);
        let noise = gram.noise();
        trace.push((noise.trace_covariance.value - want) / noise.trace_covariance.standard_error);
        signal.push(
            (noise.gradient_squared_norm.value - 0.04 * size as f64) / noise.gradient_squared_norm.standard_error,
        );
        // Two linear statistics of one sample: Σ g_0² / Σ g_1², 1.04 over 0.29.
        let square = |j: usize| g.iter().map(|g| g[j] * g[j]).collect::<Vec<_>>();
        let r = ratio_paired(&square(0), &square(1));
        ratio.push((r.value - 1.04 / 0.29) / r.standard_error);
    }
    for (name, z) in [("trace", trace), ("signal", signal), ("ratio", ratio)] {
        let share = z.iter().filter(|z| z.abs() < 1.96).count() as f64 / 300.0;
        assert!((0.89..0.99).contains(&share), "{name}: {share}");
    }
    let e = |value, standard_error| lowland::statistics::Estimate { value, standard_error, samples: 9 };
    let r = ratio_independent(e(6.0, 0.6), e(3.0, 0.4));
    assert!((r.value - 2.0).abs() < 1e-12 && (r.standard_error - 2.0 * (0.1f64.hypot(0.4 / 3.0))).abs() < 1e-12);
}

#[test]
fn a_transformers_own_hessian_is_seen_through_its_products() {
    for model in ["roberta-tiny", "bert-tiny"] {
        let truth = Truth::read(model, "curvature");
        for matrix in ["hessian", "ggn"] {
            let numbers = truth.values(matrix);
            let n = numbers.len().isqrt();
            let symmetric = (0..n * n).map(|k| (numbers[k] + numbers[k % n * n + k / n]) / 2.0).collect();
            let dense = Dense::new(n, symmetric).unwrap();
            let values = truth.values(&format!("{matrix}_eigenvalues"));
            let what = Lanczos { top: 5, tolerance: 1e-4, ..Default::default() };
            right(&pairs(&dense, &what), &dense, &values[..5]);
            let what = QuadratureOptions { probes: 60, steps: 10, block: 20, ..Default::default() };
            let slq = quadrature(&dense, &what, &mut |_| Ok(())).unwrap();
            for (power, name) in [(1, "trace"), (2, "squared_norm")] {
                let (got, want) = (slq.moment(power), truth.values(&format!("{matrix}_{name}"))[0] / n as f64);
                assert!(
                    (got.value - want).abs() < 4.0 * got.standard_error,
                    "{model} {matrix}: {got:?} against {want}"
                );
            }
            let trace = truth.values(&format!("{matrix}_trace"))[0];
            let x = xtrace(&dense, &XTrace { seed: 0, samples: 300, block: 50, ..Default::default() }, &mut |_| Ok(()))
                .unwrap();
            // Its own error is optimistic: twice the usual four. The Gauss-Newton matrix has a rank below the sketch's,
            // so that only rounding is left.
            assert!(
                (x.estimate - trace).abs() < 8.0 * x.standard_error + 1e-6 * trace.abs(),
                "{model} {matrix}: {} against {trace}",
                x.estimate
            );
            assert!(x.standard_error < 0.01 * truth.values(&format!("{matrix}_squared_norm"))[0].sqrt());
        }
    }
}
