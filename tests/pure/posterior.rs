//! Chains and quadratic coefficients on targets whose answer is known; no model.

use crate::common::matrices::with_spectrum;
use lowland::curvature::*;
use lowland::interrupt::Interrupted;
use lowland::random::{Purpose, Stream};

/// U = nβ L + γ/2 |x|² of a loss with its gradient.
struct Loss<F: Fn(&[f64]) -> (f64, Vec<f64>)> {
    size: usize,
    nbeta: f64,
    gamma: f64,
    loss: F,
}

impl<F: Fn(&[f64]) -> (f64, Vec<f64>)> Target for Loss<F> {
    fn size(&self) -> usize {
        self.size
    }

    fn at(&self, x: &[f64]) -> Result<Point, CurvatureError> {
        let (loss, gradient) = (self.loss)(x);
        Ok(Point {
            loss: self.nbeta * loss,
            prior: 0.5 * self.gamma * x.iter().map(|x| x * x).sum::<f64>(),
            gradient: gradient.iter().zip(x).map(|(g, x)| self.nbeta * g + self.gamma * x).collect(),
        })
    }
}

fn run(target: &dyn Target, nbeta: f64, steps: usize, seed: u64) -> Coefficient {
    let what = ChainOptions { chains: 4, burn_in: steps / 2, steps, seed };
    Coefficient::of(&sample(target, &what, &mut |_| Ok(())).unwrap(), nbeta, 0.0)
}

fn z(found: &Coefficient, want: f64) -> f64 {
    (found.llc.value - want) / found.llc.standard_error
}

/// A quadratic loss with these curvatures along the axes.
fn quadratic(values: &[f64], nbeta: f64, gamma: f64) -> Loss<impl Fn(&[f64]) -> (f64, Vec<f64>)> {
    let own = values.to_vec();
    let loss = move |x: &[f64]| {
        let gradient: Vec<f64> = own.iter().zip(x).map(|(h, x)| h * x).collect();
        (0.5 * gradient.iter().zip(x).map(|(g, x)| g * x).sum::<f64>(), gradient)
    };
    Loss { size: values.len(), nbeta, gamma, loss }
}

fn lambda_q(values: &[f64], nbeta: f64, gamma: f64) -> f64 {
    0.5 * values.iter().map(|h| nbeta * h / (nbeta * h + gamma)).sum::<f64>()
}

/// The axes as directions of a conditioned target.
fn axes(values: &[f64], nbeta: f64, gamma: f64, count: usize) -> Vec<(Vec<f64>, f64)> {
    let axis = |i: usize| (0..values.len()).map(|j| f64::from(u8::from(i == j))).collect();
    (0..count).map(|i| (axis(i), (nbeta * values[i] + gamma).powf(-0.5))).collect()
}

#[test]
fn chains_on_a_quadratic_have_its_coefficient() {
    // Two decades of curvature, half of it none.
    let values: Vec<f64> = (0..60).map(|i| if i < 30 { 10f64.powf(-f64::from(i) / 15.0) } else { 0.0 }).collect();
    let (nbeta, gamma) = (50.0, 1.0);
    let want = lambda_q(&values, nbeta, gamma);
    let target = quadratic(&values, nbeta, gamma);
    for (count, seed) in [(20, 1), (30, 2)] {
        let conditioned = Conditioned::new(&target, gamma.powf(-0.5), axes(&values, nbeta, gamma, count));
        let found = run(&conditioned, nbeta, 12_000, seed);
        println!("{count} directions: {} against {want}, {:?}", found.llc, found.doubts);
        assert!(found.reliable() || count < 30, "{count} directions: {:?}", found.doubts);
        assert!(z(&found, want).abs() < 3.0, "{count} directions: {} against {want}", found.llc);
        assert!(found.llc.standard_error < 0.03 * want, "{}", found.llc);
        assert!((found.acceptance - 0.57).abs() < 0.05, "{}", found.acceptance);
    }
    // Without directions the chains are exact too, and slower.
    let found = run(&target, nbeta, 8000, 3);
    assert!(!found.reliable() || z(&found, want).abs() < 3.0, "{} against {want}", found.llc);
}

#[test]
fn wrong_gradients_leave_the_coefficient_and_are_told() {
    // Wrong gradients make a bad proposal and no wrong answer: what the density is, the acceptance alone decides.
    let values: Vec<f64> = (1..=10).map(f64::from).collect();
    let exact = quadratic(&values, 10.0, 1.0);
    struct Wrong<T>(T);
    impl<T: Target> Target for Wrong<T> {
        fn size(&self) -> usize {
            self.0.size()
        }
        fn at(&self, x: &[f64]) -> Result<Point, CurvatureError> {
            let mut point = self.0.at(x)?;
            point.gradient.iter_mut().for_each(|g| *g *= 0.7);
            Ok(point)
        }
    }
    let found = run(&Wrong(exact), 10.0, 20_000, 4);
    let want = lambda_q(&values, 10.0, 1.0);
    assert!(z(&found, want).abs() < 4.0, "{} against {want}", found.llc);
    // Whose mean of x · ∇U is not the dimension, which is seen.
    assert!(found.doubts.iter().any(|d| matches!(d, Doubt::Virial { .. })), "{:?}", found.doubts);
}

/// ½ (w₁ w₂)²: λ by quadrature over the plane, of which w₂ is integrated out by hand.
fn crossing(nbeta: f64) -> f64 {
    // E[nβ L] = ½ E[s / (1 + s)], s = nβ w₁², under exp(-w₁²/2) (1 + s)^-½; w₁ on a grid of ln|w₁|.
    let (mut above, mut below) = (0.0, 0.0);
    for i in 0..200_000 {
        let w = (-14.0 + 17.0 * (f64::from(i) + 0.5) / 200_000.0).exp();
        let s = nbeta * w * w;
        let weight = w * (-0.5 * w * w).exp() / (1.0 + s).sqrt();
        above += weight * 0.5 * s / (1.0 + s);
        below += weight;
    }
    above / below
}

#[test]
fn a_crossing_is_met_or_its_failure_is_told() {
    for (nbeta, known) in [(1e2, 0.339), (1e4, 0.407)] {
        let want = crossing(nbeta);
        assert!((want - known).abs() < 5e-4, "{want}");
        let loss = |w: &[f64]| (0.5 * (w[0] * w[1]).powi(2), vec![w[0] * w[1] * w[1], w[0] * w[0] * w[1]]);
        let target = Loss { size: 2, nbeta, gamma: 1.0, loss };
        let mut believed = 0;
        for seed in 0..10 {
            let found = run(&target, nbeta, 2000, seed);
            let off = z(&found, want);
            println!("{nbeta} {seed}: {} z {off:.1} {:?}", found.llc, found.doubts);
            assert!(off.abs() < 4.0 || !found.reliable(), "nβ = {nbeta}, seed {seed}: {} against {want}", found.llc);
            believed += usize::from(found.reliable());
        }
        // The narrow axes at 1e4 are where a step of one size fails, and that it does is always told.
        assert!(nbeta < 1e3 || believed == 0, "{believed} believed at {nbeta}");
    }
}

#[test]
fn linear_layers_of_full_rank_have_half_the_dimensions_that_count() {
    // ½ |A B - A₀ B₀|², A of m x r, B of r x n: r (m + n - r) / 2 where nβ is large.
    let (m, r, n) = (4, 2, 3);
    let mut random = Stream::new(5, Purpose::Test, 0);
    let start: Vec<f64> = (0..m * r + r * n).map(|_| random.normal()).collect();
    let product = |w: &[f64]| -> Vec<f64> {
        let (a, b) = w.split_at(m * r);
        (0..m * n).map(|i| (0..r).map(|k| a[i / n * r + k] * b[k * n + i % n]).sum()).collect()
    };
    let truth = product(&start);
    let loss = |x: &[f64]| {
        let w: Vec<f64> = start.iter().zip(x).map(|(w, x)| w + x).collect();
        let off: Vec<f64> = product(&w).iter().zip(&truth).map(|(p, t)| p - t).collect();
        let (a, b) = w.split_at(m * r);
        let of_a = (0..m * r).map(|i| (0..n).map(|j| off[i / r * n + j] * b[i % r * n + j]).sum());
        let of_b = (0..r * n).map(|i| (0..m).map(|k| off[k * n + i % n] * a[k * r + i / n]).sum());
        (0.5 * off.iter().map(|x| x * x).sum::<f64>(), of_a.chain(of_b).collect())
    };
    let (nbeta, gamma) = (1e4, 100.0);
    let target = Loss { size: m * r + r * n, nbeta, gamma, loss };
    // Curvature by differences of gradients, for directions and the quadratic coefficient.
    let size = target.size;
    let unit = |i: usize, by: f64| (0..size).map(|j| if i == j { by } else { 0.0 }).collect::<Vec<f64>>();
    let column = |i: usize| {
        let [up, down] = [1e-5, -1e-5].map(|by| (target.loss)(&unit(i, by)).1);
        up.iter().zip(down).map(|(u, d)| (u - d) / 2e-5).collect::<Vec<f64>>()
    };
    let columns: Vec<Vec<f64>> = (0..size).map(column).collect();
    let hessian = nalgebra::DMatrix::from_fn(size, size, |i, j| 0.5 * (columns[i][j] + columns[j][i]));
    let eigen = nalgebra::SymmetricEigen::new(hessian);
    let values: Vec<f64> = eigen.eigenvalues.iter().map(|h| h.max(0.0)).collect();
    let want = r as f64 * (m + n - r) as f64 / 2.0;
    assert!((lambda_q(&values, 1e8, 1.0) - want).abs() < 0.01, "the rank is that of the formula");
    let directions = (0..size)
        .map(|k| (eigen.eigenvectors.column(k).iter().copied().collect(), (nbeta * values[k] + gamma).powf(-0.5)))
        .collect();
    let found = run(&Conditioned::new(&target, gamma.powf(-0.5), directions), nbeta, 6000, 6);
    assert!(found.reliable(), "{:?}", found.doubts);
    // The prior holds back a few hundredths, which the quadratic coefficient has.
    let quadratic = lambda_q(&values, nbeta, gamma);
    assert!(
        (found.llc.value - want).abs() < 3.0 * found.llc.standard_error + 2.0 * (want - quadratic),
        "{}",
        found.llc
    );
}

#[test]
fn what_is_no_minimum_is_told() {
    // A slope: the chains go below the start.
    let loss = |x: &[f64]| (0.5 * (x[0] - 1.0).powi(2) + 0.5 * x[1] * x[1] - 0.5, vec![x[0] - 1.0, x[1]]);
    let found = run(&Loss { size: 2, nbeta: 100.0, gamma: 1.0, loss }, 100.0, 4000, 7);
    assert!(found.llc.value < 0.0 && !found.reliable());
    assert!(found.doubts.contains(&Doubt::Negative), "{:?}", found.doubts);
    assert!(found.doubts.iter().any(|d| matches!(d, Doubt::Lower(_))), "{:?}", found.doubts);
}

#[test]
fn few_steps_rounding_and_infinite_losses_are_told() {
    let target = quadratic(&[1.0; 20], 10.0, 1.0);
    let short = run(&target, 10.0, 40, 8);
    assert!(short.doubts.iter().any(|d| matches!(d, Doubt::FewSamples(_))), "{:?}", short.doubts);
    let what = ChainOptions { chains: 4, burn_in: 500, steps: 4000, seed: 9 };
    let chains = sample(&target, &what, &mut |_| Ok(())).unwrap();
    assert!(Coefficient::of(&chains, 10.0, 0.01).reliable());
    assert_eq!(Coefficient::of(&chains, 10.0, 0.5).doubts, vec![Doubt::Rounding(0.5)]);
    // What is not finite is never stepped to.
    let walled = |x: &[f64]| (if x[0].abs() > 1.5 { f64::NAN } else { 0.5 * x[0] * x[0] }, vec![x[0]]);
    let found = run(&Loss { size: 1, nbeta: 1.0, gamma: 1.0, loss: walled }, 1.0, 4000, 10);
    assert!(found.llc.value.is_finite(), "{}", found.llc);
    let nowhere = |x: &[f64]| (f64::NAN, x.to_vec());
    let target = Loss { size: 2, nbeta: 1.0, gamma: 1.0, loss: nowhere };
    assert!(matches!(sample(&target, &what, &mut |_| Ok(())), Err(CurvatureError::NotFinite(_))));
}

#[test]
fn an_interrupt_leaves_what_was_recorded_and_seeds_repeat() {
    let target = quadratic(&[1.0, 2.0], 10.0, 1.0);
    let what = ChainOptions { chains: 3, burn_in: 50, steps: 100, seed: 11 };
    let until =
        |last: usize| sample(&target, &what, &mut |p| if p.done == last { Err(Interrupted.into()) } else { Ok(()) });
    let whole = sample(&target, &what, &mut |_| Ok(())).unwrap();
    let part = until(90).unwrap();
    assert!(part.interrupted && !whole.interrupted);
    assert_eq!(part.chains[1].loss, whole.chains[1].loss[..40]);
    assert!(!Coefficient::of(&part, 10.0, 0.0).reliable(), "what was cut short is not believed");
    assert!(matches!(until(30), Err(CurvatureError::Interrupted)), "nothing was recorded yet");
    assert_eq!(whole, sample(&target, &what, &mut |_| Ok(())).unwrap());
    let one = ChainOptions { chains: 1, ..what };
    assert!(matches!(sample(&target, &one, &mut |_| Ok(())), Err(CurvatureError::Refused(Refusal::FewChains))));
}

#[test]
fn intervals_of_the_coefficient_cover() {
    let values: Vec<f64> = (0..12).map(|i| 3.0 / f64::from(i + 1)).collect();
    let (nbeta, gamma) = (20.0, 1.0);
    let want = lambda_q(&values, nbeta, gamma);
    let target = quadratic(&values, nbeta, gamma);
    let target = Conditioned::new(&target, 1.0, axes(&values, nbeta, gamma, 6));
    let found: Vec<Coefficient> = (0..200).map(|seed| run(&target, nbeta, 2000, seed)).collect();
    let covered = found.iter().filter(|f| z(f, want).abs() < 1.96).count();
    let reliable = found.iter().filter(|f| f.reliable()).count();
    println!("{covered} of 200 cover, {reliable} reliable");
    assert!((180..=198).contains(&covered), "{covered} of 200 cover");
    assert!(reliable > 150, "{reliable} of 200 reliable");
}

#[test]
fn intervals_of_the_quadratic_coefficient_cover() {
    let values: Vec<f64> = (0..80).map(|i| if i < 40 { 0.0 } else { 10f64.powf(f64::from(i - 60) / 10.0) }).collect();
    let matrix = with_spectrum(&values, 12);
    let (nbeta, gamma) = (3.0, 1.0);
    let want = [lambda_q(&values, nbeta, gamma), 0.5 * values.iter().map(|h| (nbeta * h / gamma).ln_1p()).sum::<f64>()];
    let mut covered = [0; 2];
    for seed in 0..200 {
        let what = QuadratureOptions { seed, probes: 16, steps: 40, ..Default::default() };
        let found = quadrature(&matrix, &what, &mut |_| Ok(())).unwrap().quadratic(nbeta, gamma).unwrap();
        for (i, sum) in [found.lambda_q, found.log_volume].iter().enumerate() {
            covered[i] += usize::from((sum.value.value - want[i]).abs() < 1.96 * sum.value.standard_error);
        }
    }
    println!("{covered:?} of 200 cover");
    assert!(covered.iter().all(|c| (180..=198).contains(c)), "{covered:?} of 200 cover");
}

#[test]
fn a_scaled_matrix_is_that_of_the_new_coordinates() {
    let matrix = with_spectrum(&[3.0, 1.0, 0.5], 13);
    let scales = [2.0, 0.0, 1.0];
    let scaled = ScaledOperator::new(&matrix, &scales).unwrap();
    let unit = |i: usize| (0..3).map(|j| f32::from(u8::from(i == j))).collect::<Vec<f32>>();
    let block: Vec<Vec<f32>> = (0..3).map(unit).collect();
    let (plain, got) = (matrix.apply(&block).unwrap(), scaled.apply(&block).unwrap());
    for i in 0..3 {
        for j in 0..3 {
            let want = scales[i] * scales[j] * f64::from(plain[i][j]);
            assert!((f64::from(got[i][j]) - want).abs() < 1e-6, "{i} {j}");
        }
    }
    let forms = scaled.quadratic_forms(&block).unwrap();
    assert!((forms[0][0] - f64::from(got[0][0])).abs() < 1e-6 && forms[1][0] == 0.0);
    assert!(ScaledOperator::new(&matrix, &[1.0]).is_err());
}
