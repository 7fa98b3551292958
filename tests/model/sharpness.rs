//! Sharpness along updates, in an optimiser's units and under noise, against double precision; and what no change of
//! scale moves.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use crate::flatness::{Case, changes};
use crate::llc::Case as Minimum;
use lowland::curvature::{
    Chunks, Hutchinson, Lanczos, Matrix, ModelOperator, MovedLosses, NoiseScale, Operator, OptimizerState,
    Perturbation, PerturbationOptions, ScaledOperator, SharpnessAlong, SqrtDiagonal, Stopping, Subject, hutchinson,
    norm, top_eigenpairs, top_eigenpairs_from,
};
use lowland::gpu::Gpu;
use lowland::model::{Model, Weights, load, read_examples};
use lowland::ops::{Device, UpdateRule};
use lowland::statistics::Target;
use serde_json::Value;

fn recorded() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("sharpness.json")).unwrap()).unwrap()
}

fn subject(gpu: &Gpu, name: &str, batch: usize) -> Subject {
    subject_of(gpu, name, batch, 0, 1)
}

/// A model with every `step`-th of its examples.
fn subject_of(gpu: &Gpu, name: &str, batch: usize, first: usize, step: usize) -> Subject {
    let loaded = load(&fixture(name)).unwrap();
    let sentences = read_examples(&fixture(name).join("examples.jsonl"), &loaded.encoder.config).unwrap();
    let sentences: Vec<_> = sentences.into_iter().skip(first).step_by(step).collect();
    let model = Model::new(&Device::of(gpu), &loaded.encoder, &loaded.weights).unwrap();
    Subject::new(&model, &sentences, &[], &Chunks { batch, probes: 32 }).unwrap()
}

/// Numbers of all parameters by a function of the place in one, from 1, and of the letters of its name.
fn by_place(subject: &Subject, of: impl Fn(f64, f64) -> f64) -> Weights {
    let one =
        |p: &lowland::model::Parameter| (0..p.len()).map(|i| of((i + 1) as f64, p.name.len() as f64) as f32).collect();
    Weights(subject.encoder().parameters.iter().map(one).collect())
}

fn near(got: f64, want: f64, relative: f64, least: f64, what: &str) {
    assert!((got - want).abs() <= relative * want.abs() + least, "{what}: {got} against {want}");
}

/// Σ_j of the forms of unit vectors.
pub fn whole_trace(operator: &dyn Operator) -> f64 {
    let unit = |j: usize| {
        let mut v = vec![0.0; operator.size()];
        v[j] = 1.0;
        v
    };
    let block: Vec<Vec<f32>> = (0..operator.size()).map(unit).collect();
    let forms = operator.quadratic_forms(&block).unwrap();
    forms.iter().flat_map(|own| own.iter().zip(operator.weights())).map(|(x, w)| x * w).sum()
}

fn mean(values: &[f64], subject: &Subject) -> f64 {
    values.iter().zip(subject.weights()).map(|(x, w)| x * w).sum()
}

/// The AdamW of the fixtures.
fn state(subject: &Subject) -> OptimizerState {
    let first = by_place(subject, |i, n| 2e-4 * (0.9 * i + 0.3 * n).sin());
    let second = by_place(subject, |i, n| 1e-6 * (1.0 + 0.9 * (1.7 * i + 0.5 * n).sin()));
    let rule = UpdateRule::AdamW { betas: [0.9, 0.999], eps: 1e-8, decay: 0.01 };
    OptimizerState { rule, clip: 0.5, steps: 1000, moments: vec![first, second] }
}

#[test]
fn moved_losses_and_scales_of_noise_are_those_of_double_precision() {
    let gpu = gpu();
    let recorded = recorded();
    assert!(recorded.as_object().unwrap().len() >= 8);
    for (name, want) in recorded.as_object().unwrap() {
        let subject = subject(&gpu, name, 4);
        let moved = MovedLosses::new(&subject).unwrap();
        let ones = subject.vectors().gather(&by_place(&subject, |i, n| 2f64.sqrt() * (0.7 * i + 1.3 * n).sin()));
        let still = mean(&moved.at(&ones, 0.0).unwrap(), &subject);
        for scale in [NoiseScale::Plain, NoiseScale::Tensor] {
            let scales = scale.of(&subject, moved.weights());
            let key = if scale == NoiseScale::Plain { "plain" } else { "tensor" };
            if scale == NoiseScale::Tensor {
                for (parameter, place) in subject.vectors().parts(subject.encoder()) {
                    let sum: f64 = scales[place].iter().map(|s| f64::from(*s)).sum();
                    near(sum, want["scales"][parameter].as_f64().unwrap(), 1e-5, 1e-9, &format!("{name} {parameter}"));
                }
            }
            let noise: Vec<f32> = ones.iter().zip(&scales).map(|(x, s)| x * s).collect();
            for (i, sigma) in [0.02, -0.02].into_iter().enumerate() {
                let rise = mean(&moved.at(&noise, sigma).unwrap(), &subject) - still;
                near(rise, want["moved"][key][i].as_f64().unwrap(), 1e-4, 1e-6, &format!("{name} {key} {sigma}"));
            }
            let operator = ModelOperator::new(&subject, Matrix::Hessian);
            let scaled = ScaledOperator::new(&operator, &scales).unwrap();
            let exact = want["trace"][key].as_f64().unwrap();
            if subject.size() < 500 {
                let trace = whole_trace(&scaled);
                near(trace, exact, 1e-3, 1e-3, &format!("{name} {key}, trace"));
            } else {
                let what = Hutchinson { stop: Stopping::after(64), block: 32, ..Hutchinson::default() };
                let trace = hutchinson(&scaled, &what, &mut |_| Ok(())).unwrap();
                assert!((trace.estimate - exact).abs() < 4.0 * trace.standard_error, "{name} {key}: {trace}, {exact}");
            }
        }
    }
}

/// The update by the gradient on some examples, and the loss of others along it; both may be the same.
fn along_is_that_of_double_precision(gpu: &Gpu, of: &str, [first, step]: [usize; 2], [own, own_step]: [usize; 2]) {
    let mut critical = 0;
    for (name, want) in recorded().as_object().unwrap() {
        let want_of = |key: &str| &want[format!("{of}{key}")];
        let subject = subject_of(gpu, name, 4, first, step);
        let u = state(&subject).direction(&subject, &subject.loss_gradient().unwrap()).unwrap();
        let name = format!("{name} {of}");
        let [length, total] = [0, 1].map(|i| want_of("direction")[i].as_f64().unwrap());
        near(norm(&u), length, 1e-4, 0.0, &format!("{name}, length of the update"));
        let sum: f64 = u.iter().map(|x| f64::from(*x)).sum();
        near(sum, total, 1e-3, 1e-3 * norm(&u), &format!("{name}, sum of the update"));
        let subject = subject_of(gpu, name.split(' ').next().unwrap(), 4, own, own_step);
        let found = SharpnessAlong::measure(&subject, &u, Target::TheseExamples).unwrap();
        let want_directional = want_of("directional").as_f64().unwrap();
        near(found.directional.value, want_directional, 1e-3, 1e-6, &format!("{name}, directional"));
        assert_eq!(found.directional.standard_error, 0.0);
        let numbers = [("quadratic_critical", &found.quadratic_critical, 2e-3), ("critical", &found.critical, 4e-3)];
        for (key, got, bound) in numbers {
            match want_of(key).as_f64() {
                Some(want) => near(got.as_ref().unwrap().value, want, bound, 0.0, &format!("{name}, {key}")),
                None => assert!(got.is_err(), "{name}, {key}: {got:?}"),
            }
        }
        critical += usize::from(found.critical.is_ok());
    }
    // Along the update of other examples the loss of some rises at once; they are refused.
    let least = if of.is_empty() { 8 } else { 7 };
    assert!(critical >= least, "{critical} models have a critical step");
}

#[test]
fn sharpness_along_an_update_is_that_of_double_precision() {
    along_is_that_of_double_precision(&gpu(), "", [0, 1], [0, 1]);
}

#[test]
fn sharpness_along_the_update_of_other_examples_is_that_of_double_precision() {
    along_is_that_of_double_precision(&gpu(), "relative_", [0, 2], [1, 2]);
}

#[test]
fn a_matrix_in_units_of_adam_is_that_of_double_precision() {
    let gpu = gpu();
    for (name, want) in recorded().as_object().unwrap() {
        let subject = subject(&gpu, name, 4);
        let scales = state(&subject).preconditioner(&subject).unwrap().unwrap();
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let scaled = ScaledOperator::new(&operator, &scales).unwrap();
        let what = Lanczos { top: 3, tolerance: 1e-4, products: 300, block: 2, seed: 0 };
        let pairs = top_eigenpairs(&scaled, &what, &mut |_| Ok(())).unwrap();
        let largest = pairs.eigenvalues.iter().copied().fold(f64::MIN, f64::max);
        near(largest, want["preconditioned_eigenvalue"].as_f64().unwrap(), 1e-3, 0.0, name);
        let what = Hutchinson { stop: Stopping::after(64), block: 32, ..Hutchinson::default() };
        let trace = hutchinson(&scaled, &what, &mut |_| Ok(())).unwrap();
        let exact = want["preconditioned_trace"].as_f64().unwrap();
        assert!((trace.estimate - exact).abs() < 4.0 * trace.standard_error, "{name}: {} and {exact}", trace.estimate);
    }
}

#[test]
fn the_root_of_the_diagonal_is_that_of_double_precision_within_its_error() {
    let gpu = gpu();
    let mut far = 0;
    for (name, want) in recorded().as_object().unwrap() {
        let exact = want["sqrt_diagonal_trace"].as_f64().unwrap();
        let found = SqrtDiagonal::measure(&subject(&gpu, name, 4), 1, Target::TheseExamples, &mut |_| Ok(())).unwrap();
        let off = (found.value.value - exact) / found.value.standard_error;
        assert!(off.abs() < 4.0, "{name}: {} against {exact}", found.value);
        assert!(found.value.standard_error < 0.05 * exact, "{name}: {}", found.value);
        // 32 draws: the plain root is about 1 - 1 / 128 of it.
        assert!(found.bias < 0.0 && found.bias > -0.03 * exact, "{name}: {}", found.bias);
        far += usize::from(off.abs() > 2.0);
    }
    assert!(far <= 2, "{far} are more than two errors off");
}

#[test]
fn noise_in_units_of_blocks_does_not_know_their_scale() {
    let gpu = gpu();
    for name in ["bert-18", "postnorm-tiny", "gpt2-20", "llama-tiny"] {
        let case = Case::of(name);
        let measure = |case: &Case, scale: NoiseScale, sigma: f64| {
            let model = Model::new(&Device::of(&gpu), &case.encoder, &case.weights).unwrap();
            let subject = Subject::new(&model, &case.sentences, &[], &Chunks { batch: 4, probes: 8 }).unwrap();
            let (sigmas, target) = (vec![sigma], Target::TheseExamples);
            let what = PerturbationOptions { sigmas, scale, draws: 3, seed: 5, probes: 2, block: 2, target };
            Perturbation::measure(&subject, &what, &mut |_| Ok(())).unwrap()
        };
        let before = measure(&case, NoiseScale::Tensor, 0.05);
        let plain = measure(&case, NoiseScale::Plain, 0.05);
        for (change, power) in changes(&case.encoder.config) {
            let after = case.scaled(0.5, &power);
            let what = format!("{name}, {change}");
            let moved = measure(&after, NoiseScale::Tensor, 0.05);
            // The noise is the same in every function, so that also what is beyond the second order stays.
            near(moved.rise[0].value, before.rise[0].value, 1e-3, 1e-6, &what);
            let [now, then] = [&moved, &before].map(|p| p.trace.as_ref().unwrap().estimate);
            near(now, then, 1e-4, 1e-5, &what);
            let other = measure(&after, NoiseScale::Plain, 0.05).rise[0].value;
            assert!((other / plain.rise[0].value - 1.0).abs() > 1e-3, "{what}: plain noise knows no scale");
        }
    }
}

#[test]
fn the_limit_of_the_noise_curve_is_the_trace_beside_it() {
    let gpu = gpu();
    // At a minimum the trace is a sum of what is above 0, as large as its parts.
    for (name, sigma) in [("roberta-20", 0.01), ("llama-tiny", 0.01)] {
        let case = Minimum::of(&gpu, name);
        let measure = |batch: usize, draws: usize, sigma: f64, scale: NoiseScale| {
            let (sigmas, target) = (vec![4.0 * sigma, sigma], Target::TheseExamples);
            let what = PerturbationOptions { sigmas, scale, draws, seed: 2, probes: 64, block: 8, target };
            Perturbation::measure(&case.in_batches(&gpu, &[], batch), &what, &mut |_| Ok(())).unwrap()
        };
        for (scale, sigma) in [(NoiseScale::Tensor, sigma), (NoiseScale::Plain, sigma)] {
            let found = measure(4, 60, sigma, scale);
            let trace = found.trace.unwrap();
            let apart = found.limit.value - trace.estimate;
            let error = found.limit.standard_error.hypot(trace.standard_error);
            assert!(apart.abs() < 4.0 * error, "{name} {scale:?}: {} and {trace}", found.limit);
            assert!(error < 0.35 * trace.estimate.abs(), "{name} {scale:?}: {error} of {}", trace.estimate);
        }
        // Draws are by number: batches change nothing.
        let [a, b] = [4, 3].map(|batch| measure(batch, 2, sigma, NoiseScale::Tensor));
        near(a.rise[0].value, b.rise[0].value, 1e-3, 1e-7, name);
    }
}

#[test]
fn a_warm_start_finds_the_same_eigenvalue_in_fewer_products() {
    let gpu = gpu();
    let subject = subject(&gpu, "roberta-20", 4);
    let operator = ModelOperator::new(&subject, Matrix::Hessian);
    let what = Lanczos { top: 2, tolerance: 1e-3, products: 200, block: 2, seed: 0 };
    let cold = top_eigenpairs(&operator, &what, &mut |_| Ok(())).unwrap();
    let warm = top_eigenpairs_from(&operator, &what, &cold.vectors, &mut |_| Ok(())).unwrap();
    near(warm.eigenvalues[0], cold.eigenvalues[0], 1e-3, 0.0, "the largest");
    assert!(warm.converged[0] && 2 * warm.products < cold.products, "{} and {}", warm.products, cold.products);
    // What is no direction is left aside.
    let none = vec![vec![0.0; subject.size()], vec![1.0; 3]];
    let lost = top_eigenpairs_from(&operator, &what, &none, &mut |_| Ok(())).unwrap();
    near(lost.eigenvalues[0], cold.eigenvalues[0], 1e-3, 0.0, "from nothing");
}
