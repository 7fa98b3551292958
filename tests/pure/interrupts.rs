//! What an interrupt leaves of an estimate: what is there, with an honest error.

use std::cell::Cell;

use crate::common::matrices::{of_examples, with_spectrum};
use lowland::curvature::*;
use lowland::statistics::Target;

/// An operator that is interrupted at its call number `at`, after so many examples of it.
struct Halting {
    inner: Dense,
    calls: Cell<usize>,
    at: usize,
    examples: usize,
}

impl Halting {
    fn new(inner: Dense, at: usize) -> Halting {
        Halting { inner, calls: Cell::new(0), at, examples: 0 }
    }

    fn call(&self) -> Result<(), CurvatureError> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() > self.at { Err(CurvatureError::Interrupted) } else { Ok(()) }
    }
}

impl Operator for Halting {
    fn size(&self) -> usize {
        self.inner.size()
    }
    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        self.call()?;
        self.inner.apply(block)
    }
    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.call()?;
        self.inner.quadratic_forms(block)
    }
    fn quadratic_forms_so_far(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        match self.call() {
            Ok(()) => self.inner.quadratic_forms(block),
            Err(_) => {
                let all = self.inner.quadratic_forms(block)?;
                Ok(all.iter().map(|values| values[..self.examples].to_vec()).collect())
            }
        }
    }
    fn weights(&self) -> &[f64] {
        self.inner.weights()
    }
    fn product_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }
    fn form_cost(&self, vectors: usize) -> f64 {
        vectors as f64
    }
}

fn quiet(_: &Progress) -> Result<(), CurvatureError> {
    Ok(())
}

fn same(cut: &Trace, whole: &Trace) {
    assert!(cut.interrupted && !cut.reached && !whole.interrupted);
    assert_eq!((cut.estimate, cut.standard_error, &cut.values), (whole.estimate, whole.standard_error, &whole.values));
    assert_eq!(cut.standard_error_data, whole.standard_error_data);
    assert_eq!((cut.samples, cut.squared_norm), (whole.samples, whole.squared_norm));
}

#[test]
fn probes_until_an_interrupt_are_a_smaller_run() {
    for target in [Target::TheseExamples, Target::Population] {
        let what = |samples| Hutchinson { stop: Stopping::after(samples), block: 4, target, ..Hutchinson::default() };
        let matrix = of_examples(12, 6, 0.5, 1);
        let whole = hutchinson(&matrix, &what(8), &mut quiet).unwrap();
        let cut = hutchinson(&Halting::new(matrix.clone(), 2), &what(40), &mut quiet).unwrap();
        same(&cut, &whole);
        // The observer asks for the same.
        let stop = &mut |p: &Progress| if p.done < 8 { Ok(()) } else { Err(CurvatureError::Interrupted) };
        same(&hutchinson(&matrix, &what(40), stop).unwrap(), &whole);
        let whole = hutchinson_by_products(&matrix, &[], &what(8), &mut quiet).unwrap().trace;
        let calls = if target == Target::Population { 5 } else { 2 };
        let cut = hutchinson_by_products(&Halting::new(matrix.clone(), calls), &[], &what(40), &mut quiet).unwrap();
        same(&cut.trace, &whole);
        // An interrupt behind the last probe has cut nothing short.
        let late = &mut |_: &Progress| Err(CurvatureError::Interrupted);
        let all = hutchinson(&matrix, &what(4), late).unwrap();
        assert!(!all.interrupted && all.reached && all.samples == 4);
    }
}

#[test]
fn examples_until_an_interrupt_are_a_smaller_sample_of_a_population_alone() {
    let matrix = of_examples(10, 9, 0.5, 2);
    let what = |target| Hutchinson { stop: Stopping::after(8), block: 4, target, ..Hutchinson::default() };
    let cut = |target| {
        let stopping = Halting { examples: 5, ..Halting::new(matrix.clone(), 0) };
        hutchinson(&stopping, &what(target), &mut quiet)
    };
    let found = cut(Target::Population).unwrap();
    let mut first = lowland::statistics::Crossed::new(&matrix.weights()[..5]);
    let block = probes(ProbeKind::Rademacher, 0, 0..4, 10);
    matrix.quadratic_forms(&block).unwrap().iter().for_each(|values| first.push(&values[..5]));
    let wanted = first.parts(Target::Population);
    assert_eq!((found.estimate, found.standard_error), (wanted.value, wanted.standard_error));
    assert_eq!((found.examples, found.interrupted, found.samples), (Some(5), true, 4));
    assert!(matches!(cut(Target::TheseExamples), Err(CurvatureError::Interrupted)));
}

#[test]
fn deflated_traces_give_what_they_have() {
    let values: Vec<f64> = (0..40).map(|i| 100.0 / f64::from(1 + i * i)).collect();
    let matrix = with_spectrum(&values, 3);
    let trace: f64 = values.iter().sum();
    // XTrace with products on a part of its range is XTrace with as many probes.
    let what = |samples| XTrace { samples, block: 2, ..XTrace::default() };
    let cut = xtrace(&Halting::new(matrix.clone(), 12 + 5), &what(48), &mut quiet).unwrap();
    let whole = xtrace(&matrix, &what(20), &mut quiet).unwrap();
    assert!(
        cut.interrupted && (cut.estimate - whole.estimate).abs() < 1e-4 * trace,
        "{} {}",
        cut.estimate,
        whole.estimate
    );
    // Before that it is the plain mean.
    let plain = xtrace(&Halting::new(matrix.clone(), 5), &what(48), &mut quiet).unwrap();
    let gaussian =
        Hutchinson { kind: ProbeKind::Gaussian, stop: Stopping::after(10), block: 2, ..Hutchinson::default() };
    let hutchinson = hutchinson(&matrix, &gaussian, &mut quiet).unwrap();
    assert!((plain.estimate - hutchinson.estimate).abs() < 1e-4 * trace);
    assert!((plain.standard_error / hutchinson.standard_error - 1.0).abs() < 1e-3);
    // Hutch++: 6 blocks of products, as many of forms on the range, then the rest.
    let what = |target| HutchPlusPlus { stop: Stopping::after(36), block: 2, target, ..HutchPlusPlus::default() };
    let begun = hutch_plus_plus(&Halting::new(matrix.clone(), 3), &what(Target::TheseExamples), &mut quiet).unwrap();
    assert!(begun.interrupted && begun.values.len() == 6);
    let rest = hutch_plus_plus(&Halting::new(matrix.clone(), 14), &what(Target::TheseExamples), &mut quiet).unwrap();
    assert!(rest.interrupted && rest.values.len() == 4 && rest.standard_error < begun.standard_error);
    assert!((rest.estimate - trace).abs() < 6.0 * rest.standard_error + 1e-3 * trace);
    // Of a population the sketch tells nothing of the examples.
    let many = of_examples(40, 5, 0.5, 4);
    let begun = hutch_plus_plus(&Halting::new(many, 3), &what(Target::Population), &mut quiet).unwrap();
    assert!(begun.standard_error.is_nan() && begun.standard_error_probe > 0.0);
    let what = XTraceReplicates { seed: 1, stop: Stopping::at(1e-6).not_before(16).at_most(4000), block: 8 };
    let runs = xtrace_replicates(&Halting::new(matrix.clone(), 60), &what, &mut quiet).unwrap();
    assert!(runs.interrupted && !runs.reached && (runs.estimate - trace).abs() < 0.2 * trace);
}

#[test]
fn eigenpairs_and_densities_give_what_they_have() {
    let values: Vec<f64> = (0..60).map(|i| 50.0 * 0.8f64.powi(i)).collect();
    let matrix = with_spectrum(&values, 5);
    let what = Lanczos { top: 4, tolerance: 1e-7, block: 2, ..Lanczos::default() };
    let cut = top_eigenpairs(&Halting::new(matrix.clone(), 6), &what, &mut quiet).unwrap();
    assert!(cut.interrupted && cut.products == 12 && cut.eigenvalues.len() == 4);
    for (i, value) in cut.eigenvalues.iter().enumerate() {
        let mut image = matrix.apply(std::slice::from_ref(&cut.vectors[i])).unwrap().remove(0);
        image.iter_mut().zip(&cut.vectors[i]).for_each(|(a, v)| *a -= (*value as f32) * v);
        assert!((norm(&image) - cut.residuals[i]).abs() < 1e-3, "{} against {}", norm(&image), cut.residuals[i]);
    }
    assert!((cut.eigenvalues[0] - 50.0).abs() < 0.5);
    let one = Lanczos { top: 1, ..what };
    assert!(matches!(
        top_eigenpairs(&Halting::new(matrix.clone(), 0), &one, &mut quiet),
        Err(CurvatureError::Interrupted)
    ));
    // Two probes at a time, 20 steps each: an interrupt in the second pair leaves it with fewer nodes.
    let what = QuadratureOptions { probes: 4, steps: 20, block: 2, ..QuadratureOptions::default() };
    let q = quadrature(&Halting::new(matrix.clone(), 28), &what, &mut quiet).unwrap();
    let nodes: Vec<usize> = q.nodes.iter().map(Vec::len).collect();
    assert!(q.interrupted && nodes == [20, 20, 8, 8], "{nodes:?}");
    let mean = values.iter().sum::<f64>() / 60.0;
    assert!(q.nodes.iter().all(|n| (n.iter().map(|(_, w)| w).sum::<f64>() - 1.0).abs() < 1e-6));
    assert!((q.moment(1).value - mean).abs() < 5.0 * q.moment(1).standard_error);
}
