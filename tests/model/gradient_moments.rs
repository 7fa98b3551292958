//! Products and quadratic forms of the empirical Fisher matrix and the noise covariance against per-example gradients,
//! and against the inner products of gradients that `fixtures/make_curvature.py` recorded in double precision.

use crate::common::adapter::gpu;
use crate::common::curvature::{distance, norm, setting, subject};
use crate::common::truth::Truth;
use lowland::curvature::{
    GradientOperator, Gradients, Hutchinson, Lanczos, Moment, Operator, ProbeKind, Stopping, Subject, hutchinson,
    probes, top_eigenpairs,
};
use lowland::ops::Variants;
use nalgebra::{DMatrix, SymmetricEigen};

/// Both head kinds, both norm places; sentences of unequal length with one or several masked positions.
const MODELS: [&str; 6] = ["roberta-20", "bert-24", "bert-untied", "roberta-tiny", "postnorm-untied", "lstm-16"];
const MOMENTS: [Moment; 2] = [Moment::EmpiricalFisher, Moment::NoiseCovariance];

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The rows whose outer products the moment is a sum of, and what the sum is divided by.
fn rows(subject: &Subject, moment: Moment) -> (Vec<Vec<f64>>, f64) {
    let gradients = Gradients::new(subject).unwrap();
    let n = subject.examples();
    let wide = |g: Vec<f32>| g.into_iter().map(f64::from).collect::<Vec<f64>>();
    let mut rows: Vec<Vec<f64>> = (0..n).map(|i| wide(gradients.of_example(subject, i).unwrap())).collect();
    if moment == Moment::EmpiricalFisher {
        return (rows, n as f64);
    }
    let mean: Vec<f64> = (0..subject.size()).map(|j| rows.iter().map(|g| g[j]).sum::<f64>() / n as f64).collect();
    for row in &mut rows {
        row.iter_mut().zip(&mean).for_each(|(g, m)| *g -= m);
    }
    (rows, n as f64 - 1.0)
}

/// Gᵢⱼ / n, or its centred form / (n - 1), from the recorded inner products.
fn recorded(truth: &Truth, n: usize, moment: Moment) -> DMatrix<f64> {
    let gram = DMatrix::from_row_slice(n, n, &truth.values("gram"));
    match moment {
        Moment::EmpiricalFisher => gram / n as f64,
        Moment::NoiseCovariance => {
            let centre = DMatrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) - 1.0 / n as f64);
            &centre * gram * &centre / (n as f64 - 1.0)
        }
    }
}

/// A v for several vectors at once within 2e-4 of its norm, and ⟨row, v⟩² of every example, for every kernel variant.
#[test]
fn products_and_forms_are_those_of_the_per_example_gradients() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let s = setting(name);
            let subject = subject(&gpu, &s, variants, 256, 3);
            let n = subject.examples() as f64;
            let block = probes(ProbeKind::Gaussian, 4, 0..3, subject.size());
            for moment in MOMENTS {
                let operator = GradientOperator::new(&subject, moment).unwrap();
                let (rows, divisor) = rows(&subject, moment);
                let products = operator.apply(&block).unwrap();
                let forms = operator.quadratic_forms(&block).unwrap();
                for ((v, product), forms) in block.iter().zip(&products).zip(&forms) {
                    let slopes: Vec<f64> =
                        rows.iter().map(|g| g.iter().zip(v).map(|(g, v)| g * f64::from(*v)).sum()).collect();
                    let mut want = vec![0.0; v.len()];
                    for (row, slope) in rows.iter().zip(&slopes) {
                        want.iter_mut().zip(row).for_each(|(w, g)| *w += slope * g / divisor);
                    }
                    let error = distance(product, &want) / norm(&want);
                    assert!(error <= 2e-4, "{name} {moment:?} {variants:?}: {error:.1e}");
                    let squares: Vec<f64> = slopes.iter().map(|s| s * s * n / divisor).collect();
                    let largest = squares.iter().fold(0.0f64, |m, x| m.max(*x));
                    for (got, want) in forms.iter().zip(&squares) {
                        assert!((got - want).abs() <= 2e-4 * largest, "{name} {moment:?}: {got} against {want}");
                    }
                }
            }
        }
    }
}

/// g_kᵀ A g_j of all pairs from the recorded inner products alone, and the eigenvalues that they imply.
#[test]
fn products_and_eigenvalues_are_those_of_the_gram_matrix_in_double_precision() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    for name in MODELS {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 256, 4);
        let n = subject.examples();
        let gradients = Gradients::new(&subject).unwrap();
        let own: Vec<Vec<f32>> = (0..n).map(|i| gradients.of_example(&subject, i).unwrap()).collect();
        let gram = DMatrix::from_row_slice(n, n, &s.truth.values("gram"));
        for moment in MOMENTS {
            let operator = GradientOperator::new(&subject, moment).unwrap();
            // With R the rows of gradients: g_kᵀ A g_j = (R Rᵀ C R Rᵀ)_kj / divisor, C the centring where there is one.
            let small = recorded(&s.truth, n, moment);
            let want = match moment {
                Moment::EmpiricalFisher => &small * &gram,
                Moment::NoiseCovariance => {
                    let centre = DMatrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) - 1.0 / n as f64);
                    &gram * centre * &gram / (n as f64 - 1.0)
                }
            };
            let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (j, product) in operator.apply(&own).unwrap().iter().enumerate() {
                for (k, g) in own.iter().enumerate() {
                    let got = dot(g, product);
                    assert!((got - want[(k, j)]).abs() <= 2e-4 * scale, "{name} {moment:?} {k} {j}: {got}");
                }
            }
            let mut values: Vec<f64> = SymmetricEigen::new(small).eigenvalues.iter().copied().collect();
            values.sort_by(|a, b| b.total_cmp(a));
            let found = top_eigenpairs(&operator, &Lanczos { top: 3, ..Lanczos::default() }, &mut |_| Ok(())).unwrap();
            for ((got, want), converged) in found.eigenvalues.iter().zip(&values).zip(&found.converged) {
                assert!((got / want - 1.0).abs() <= 1e-3 && *converged, "{name} {moment:?}: {got} against {want}");
            }
        }
    }
}

/// uᵀAv = vᵀAu, vᵀAv ≥ 0 and equal to the forms' weighted sum; probes estimate the trace that the norms tell.
#[test]
fn moments_are_symmetric_positive_and_have_the_trace_of_the_norms() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    for name in ["roberta-20", "bert-24"] {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 4, 4);
        let n = subject.examples();
        let block = probes(ProbeKind::Gaussian, 9, 0..2, subject.size());
        for moment in MOMENTS {
            let operator = GradientOperator::new(&subject, moment).unwrap();
            let products = operator.apply(&block).unwrap();
            let scale = dot(&products[0], &products[0]).sqrt() * dot(&block[1], &block[1]).sqrt();
            assert!((dot(&block[1], &products[0]) - dot(&block[0], &products[1])).abs() <= 1e-5 * scale, "{name}");
            let forms = operator.quadratic_forms(&block).unwrap();
            for ((v, product), form) in block.iter().zip(&products).zip(&forms) {
                let by_form: f64 = form.iter().zip(operator.weights()).map(|(f, w)| f * w).sum();
                assert!((by_form / dot(v, product) - 1.0).abs() <= 1e-4, "{name} {moment:?}: {by_form}");
                assert!(form.iter().all(|f| *f >= 0.0));
            }
            let what = Hutchinson { stop: Stopping::after(400), seed: 3, ..Hutchinson::default() };
            let trace = hutchinson(&operator, &what, &mut |_| Ok(())).unwrap();
            let want = recorded(&s.truth, n, moment).trace();
            let z = (trace.estimate - want) / trace.standard_error;
            assert!(z.abs() < 4.0 && trace.standard_error < 0.2 * want, "{name} {moment:?}: z = {z}");
        }
    }
}

/// Any batches and any number of vectors at once give the same products.
#[test]
fn chunks_do_not_matter() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    let s = setting("roberta-20");
    for moment in MOMENTS {
        let measure = |batch: usize, at_once: u32| {
            let subject = subject(&gpu, &s, variants, batch, at_once);
            let block = probes(ProbeKind::Rademacher, 2, 0..3, subject.size());
            let operator = GradientOperator::new(&subject, moment).unwrap();
            (operator.apply(&block).unwrap(), operator.quadratic_forms(&block).unwrap().concat())
        };
        let (products, forms) = measure(256, 8);
        let largest = forms.iter().fold(0.0f64, |m, x| m.max(*x));
        for (batch, at_once) in [(1, 1), (3, 2), (5, 3)] {
            let (other, other_forms) = measure(batch, at_once);
            for (a, b) in products.iter().zip(&other) {
                let b: Vec<f64> = b.iter().map(|x| f64::from(*x)).collect();
                assert!(distance(a, &b) <= 2e-6 * norm(&b), "{batch}: {:.1e}", distance(a, &b) / norm(&b));
            }
            for (a, b) in forms.iter().zip(&other_forms) {
                assert!((a - b).abs() <= 2e-6 * largest, "batches of {batch}: {a} against {b}");
            }
        }
    }
}

#[test]
fn a_covariance_of_one_example_is_refused() {
    let gpu = gpu();
    let mut s = setting("roberta-tiny");
    s.sentences.truncate(1);
    let subject = subject(&gpu, &s, Variants::choose(gpu.capabilities()), 256, 1);
    assert!(GradientOperator::new(&subject, Moment::EmpiricalFisher).is_ok());
    let error = GradientOperator::new(&subject, Moment::NoiseCovariance).err().unwrap().to_string();
    assert!(error.contains("at least 2 examples"), "{error}");
}
