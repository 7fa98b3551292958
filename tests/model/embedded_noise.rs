//! Noise in units of blocks, and the volume in them, on models that `enlarge` made: what copies, units and layers of
//! zeros leave as it is. At a minimum, where the Hessian is Gauss-Newton's.

use crate::common::adapter::gpu;
use crate::llc::{Case, quadratic};
use crate::sharpness::whole_trace;
use lowland::curvature::{
    Hutchinson, Matrix, ModelOperator, MovedLosses, NoiseScale, Perturbation, PerturbationOptions, Prior,
    ScaledOperator, Stopping, Subject, hutchinson,
};
use lowland::gpu::Gpu;
use lowland::model::{Enlargement, Size};
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Estimate, Target};

const MODELS: [&str; 3] = ["roberta-tiny", "bert-tiny", "postnorm-tiny"];

fn near(a: f64, b: f64, relative: f64, what: &str) {
    assert!((a / b - 1.0).abs() < relative, "{what}: {a} and {b}");
}

/// Tr S H S, and by every unit vector or, of larger models, by probes with their error.
fn trace(subject: &Subject) -> Estimate {
    let scales = NoiseScale::Tensor.of(subject, &subject.read_weights().unwrap());
    let operator = ModelOperator::new(subject, Matrix::Hessian);
    let scaled = ScaledOperator::new(&operator, &scales).unwrap();
    if subject.size() < 2500 {
        return Estimate { value: whole_trace(&scaled), standard_error: 0.0, samples: 1 };
    }
    let what = Hutchinson { stop: Stopping::after(256), block: 32, ..Hutchinson::default() };
    let found = hutchinson(&scaled, &what, &mut |_| Ok(())).unwrap();
    Estimate { value: found.estimate, standard_error: found.standard_error, samples: found.samples }
}

/// The rise at σ over ½ σ² times the trace: 1 for σ → 0.
fn beyond(subject: &Subject, sigma: f64, draws: usize, trace: f64) -> Estimate {
    let (sigmas, scale, target) = (vec![sigma], NoiseScale::Tensor, Target::TheseExamples);
    let what = PerturbationOptions { sigmas, scale, draws, seed: 5, probes: 0, block: 8, target };
    let rise = Perturbation::measure(subject, &what, &mut |_| Ok(())).unwrap().rise[0];
    let unit = 0.5 * sigma * sigma * trace;
    Estimate { value: rise.value / unit, standard_error: rise.standard_error / unit, ..rise }
}

/// The mean loss at the weights moved by noise that is a function of a parameter's name and of the place in it.
fn moved(subject: &Subject, sigma: f64) -> f64 {
    let losses = MovedLosses::new(subject).unwrap();
    let scales = NoiseScale::Tensor.of(subject, losses.weights());
    let mut noise = Vec::new();
    for (name, place) in subject.vectors().parts(subject.encoder()) {
        let key = name.bytes().fold(0u64, |key, b| key.wrapping_mul(31).wrapping_add(b.into()));
        let mut random = Stream::new(key, Purpose::Test, 1);
        noise.extend(place.map(|i| (f64::from(scales[i]) * random.normal()) as f32));
    }
    losses.at(&noise, sigma).unwrap().iter().zip(subject.weights()).map(|(x, w)| x * w).sum()
}

fn whole(gpu: &Gpu, case: &Case) -> Subject {
    case.in_batches(gpu, &[], 4)
}

/// Added layers write through matrices and biases of zeros, which noise in their own units does not move.
#[test]
fn layers_of_zeros_are_not_felt_by_noise_of_any_size() {
    let gpu = gpu();
    for name in ["roberta-tiny", "roberta-20"] {
        let case = Case::of(&gpu, name);
        let layers = case.encoder.config.num_hidden_layers + 2;
        let deeper = case.enlarged(Size { layers: Some(layers), ..Size::default() }, Enlargement::Duplicate);
        let [small, large] = [&case, &deeper].map(|case| whole(&gpu, case));
        for sigma in [0.01, 0.1, 0.5] {
            let still = moved(&small, 0.0);
            let [a, b] = [&small, &large].map(|subject| moved(subject, sigma) - still);
            assert!(a > 1e-5 && (a - b).abs() < 1e-4 * a + 1e-6, "{name} at {sigma}: {a} and {b}");
        }
        if name == "roberta-tiny" {
            near(trace(&small).value, trace(&large).value, 1e-4, name);
        }
        let at = (1000.0, 10.0);
        let [a, b] = [&small, &large].map(|s| quadratic(s, Prior::Block, at, 24, 40));
        for (a, b) in [(a.lambda_q, b.lambda_q), (a.log_volume, b.log_volume)] {
            let error = a.value.standard_error.hypot(b.value.standard_error).hypot(a.truncation.unwrap());
            let z = (a.value.value - b.value.value) / error;
            assert!(z.abs() < 4.0, "{name}: {} and {} with layers of zeros, z = {z}", a.value, b.value);
        }
    }
}

#[test]
fn units_of_zeros_leave_the_limit_and_raise_what_is_beyond_it() {
    let gpu = gpu();
    for name in MODELS {
        let case = Case::of(&gpu, name);
        let wider = |more: u32| {
            let units = Size { intermediate: Some(case.encoder.config.intermediate_size + more), ..Size::default() };
            whole(&gpu, &case.enlarged(units, Enlargement::Zero))
        };
        let small = whole(&gpu, &case);
        let [a, b] = [&small, &wider(24)].map(trace);
        near(a.value, b.value, 1e-4, name);
        // Many, so that what is of fourth order is far beyond the error.
        let large = wider(960);
        let [fine, coarse] =
            [(0.01, 100), (0.05, 300)].map(|(sigma, draws)| [&small, &large].map(|s| beyond(s, sigma, draws, a.value)));
        println!("{name}: {fine:?} {coarse:?}");
        for (of, found) in [("as it is", fine[0]), ("with units of zeros", fine[1])] {
            assert!((found.value - 1.0).abs() < 4.0 * found.standard_error + 0.02, "{name} {of}: {found}");
        }
        let apart = (coarse[1].value - coarse[0].value) / coarse[0].standard_error.hypot(coarse[1].standard_error);
        assert!(apart > 4.0, "{name}: {} and, with units of zeros, {}, z = {apart}", coarse[0], coarse[1]);
    }
}

#[test]
fn copies_leave_the_limit_at_a_minimum_and_not_what_is_beyond_it() {
    let gpu = gpu();
    let mut moved = 0.0;
    for name in MODELS {
        let case = Case::of(&gpu, name);
        let small = whole(&gpu, &case);
        let (own, far) = (trace(&small), 0.2);
        let before = beyond(&small, far, 300, own.value);
        for r in [2, 4] {
            for method in [Enlargement::Duplicate, Enlargement::Paper] {
                // Of four times as many one is enough.
                if r == 4 && method == Enlargement::Paper {
                    continue;
                }
                let size = Size { hidden: Some(r * case.encoder.config.hidden_size), ..Size::default() };
                let large = whole(&gpu, &case.enlarged(size, method));
                let what = format!("{name}, {r} times as wide, {method:?}");
                let copied = trace(&large);
                let off = (copied.value - own.value).abs();
                assert!(off < 4.0 * copied.standard_error + 2e-4 * own.value, "{what}: {copied} and {own}");
                assert!(copied.standard_error < 0.06 * own.value, "{what}: {copied}");
                if method == Enlargement::Duplicate {
                    let fine = beyond(&large, 0.01, 100, own.value);
                    assert!((fine.value - 1.0).abs() < 4.0 * fine.standard_error + 0.02, "{what}: {fine}");
                    if r == 4 {
                        let after = beyond(&large, far, 300, own.value);
                        let error = after.standard_error.hypot(before.standard_error);
                        moved += ((after.value - before.value) / error).powi(2);
                        println!("{what}: at {far} {after} for {before}");
                    }
                }
            }
        }
    }
    // Three squared normals are above 16.3 once in a thousand.
    assert!(moved > 16.3, "{moved}");
}
