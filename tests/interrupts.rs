//! What an interrupt leaves: estimators give what they have with an honest error, and commands end soon, with the right code
//! and one JSON object.

mod common;

use std::cell::Cell;

use common::matrices::{of_examples, with_spectrum};
use lowland::curvature::*;
use lowland::statistics::Target;

/// An operator that is interrupted at its call number `at`, after so many examples of it.
struct Stopping {
    inner: Dense,
    calls: Cell<usize>,
    at: usize,
    examples: usize,
}

impl Stopping {
    fn new(inner: Dense, at: usize) -> Stopping {
        Stopping { inner, calls: Cell::new(0), at, examples: 0 }
    }

    fn call(&self) -> Result<(), CurvatureError> {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() > self.at { Err(CurvatureError::Interrupted) } else { Ok(()) }
    }
}

impl Operator for Stopping {
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
        let what = |samples| Hutchinson { samples, block: 4, target, ..Hutchinson::default() };
        let matrix = of_examples(12, 6, 0.5, 1);
        let whole = hutchinson(&matrix, &what(8), &mut quiet).unwrap();
        let cut = hutchinson(&Stopping::new(matrix.clone(), 2), &what(40), &mut quiet).unwrap();
        same(&cut, &whole);
        // The observer asks for the same.
        let stop = &mut |p: &Progress| if p.done < 8 { Ok(()) } else { Err(CurvatureError::Interrupted) };
        same(&hutchinson(&matrix, &what(40), stop).unwrap(), &whole);
        let whole = hutchinson_by_products(&matrix, &[], &what(8), &mut quiet).unwrap().trace;
        let calls = if target == Target::Population { 5 } else { 2 };
        let cut = hutchinson_by_products(&Stopping::new(matrix.clone(), calls), &[], &what(40), &mut quiet).unwrap();
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
    let what = |target| Hutchinson { samples: 8, block: 4, target, ..Hutchinson::default() };
    let cut = |target| {
        let stopping = Stopping { examples: 5, ..Stopping::new(matrix.clone(), 0) };
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
    let cut = xtrace(&Stopping::new(matrix.clone(), 12 + 5), &what(48), &mut quiet).unwrap();
    let whole = xtrace(&matrix, &what(20), &mut quiet).unwrap();
    assert!(
        cut.interrupted && (cut.estimate - whole.estimate).abs() < 1e-4 * trace,
        "{} {}",
        cut.estimate,
        whole.estimate
    );
    // Before that it is the plain mean.
    let plain = xtrace(&Stopping::new(matrix.clone(), 5), &what(48), &mut quiet).unwrap();
    let gaussian = Hutchinson { kind: ProbeKind::Gaussian, samples: 10, block: 2, ..Hutchinson::default() };
    let hutchinson = hutchinson(&matrix, &gaussian, &mut quiet).unwrap();
    assert!((plain.estimate - hutchinson.estimate).abs() < 1e-4 * trace);
    assert!((plain.standard_error / hutchinson.standard_error - 1.0).abs() < 1e-3);
    // Hutch++: 6 blocks of products, as many of forms on the range, then the rest.
    let what = |target| HutchPlusPlus { samples: 36, block: 2, target, ..HutchPlusPlus::default() };
    let begun = hutch_plus_plus(&Stopping::new(matrix.clone(), 3), &what(Target::TheseExamples), &mut quiet).unwrap();
    assert!(begun.interrupted && begun.values.len() == 6);
    let rest = hutch_plus_plus(&Stopping::new(matrix.clone(), 14), &what(Target::TheseExamples), &mut quiet).unwrap();
    assert!(rest.interrupted && rest.values.len() == 4 && rest.standard_error < begun.standard_error);
    assert!((rest.estimate - trace).abs() < 6.0 * rest.standard_error + 1e-3 * trace);
    // Of a population the sketch tells nothing of the examples.
    let many = of_examples(40, 5, 0.5, 4);
    let begun = hutch_plus_plus(&Stopping::new(many, 3), &what(Target::Population), &mut quiet).unwrap();
    assert!(begun.standard_error.is_nan() && begun.standard_error_probe > 0.0);
    let what = XTraceReplicates { seed: 1, samples: 4000, smallest: 16, rel_error: 1e-6, block: 8 };
    let runs = xtrace_replicates(&Stopping::new(matrix.clone(), 60), &what, &mut quiet).unwrap();
    assert!(runs.interrupted && !runs.reached && (runs.estimate - trace).abs() < 0.2 * trace);
}

#[test]
fn eigenpairs_and_densities_give_what_they_have() {
    let values: Vec<f64> = (0..60).map(|i| 50.0 * 0.8f64.powi(i)).collect();
    let matrix = with_spectrum(&values, 5);
    let what = Lanczos { top: 4, tolerance: 1e-7, block: 2, ..Lanczos::default() };
    let cut = top_eigenpairs(&Stopping::new(matrix.clone(), 6), &what, &mut quiet).unwrap();
    assert!(cut.interrupted && cut.products == 12 && cut.eigenvalues.len() == 4);
    for (i, value) in cut.eigenvalues.iter().enumerate() {
        let mut image = matrix.apply(std::slice::from_ref(&cut.vectors[i])).unwrap().remove(0);
        image.iter_mut().zip(&cut.vectors[i]).for_each(|(a, v)| *a -= (*value as f32) * v);
        assert!((norm(&image) - cut.residuals[i]).abs() < 1e-3, "{} against {}", norm(&image), cut.residuals[i]);
    }
    assert!((cut.eigenvalues[0] - 50.0).abs() < 0.5);
    let one = Lanczos { top: 1, ..what };
    assert!(matches!(
        top_eigenpairs(&Stopping::new(matrix.clone(), 0), &one, &mut quiet),
        Err(CurvatureError::Interrupted)
    ));
    // Two probes at a time, 20 steps each: an interrupt in the second pair leaves it with fewer nodes.
    let what = QuadratureOptions { probes: 4, steps: 20, block: 2, ..QuadratureOptions::default() };
    let q = quadrature(&Stopping::new(matrix.clone(), 28), &what, &mut quiet).unwrap();
    let nodes: Vec<usize> = q.nodes.iter().map(Vec::len).collect();
    assert!(q.interrupted && nodes == [20, 20, 8, 8], "{nodes:?}");
    let mean = values.iter().sum::<f64>() / 60.0;
    assert!(q.nodes.iter().all(|n| (n.iter().map(|(_, w)| w).sum::<f64>() - 1.0).abs() < 1e-6));
    assert!((q.moment(1).value - mean).abs() < 5.0 * q.moment(1).standard_error);
}

#[cfg(unix)]
mod commands {
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    /// Twice what is promised, for a machine that has other things to do.
    const BOUND: Duration = Duration::from_secs(10);

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// A folder with a config and a model after a few steps.
        fn new() -> Folder {
            let folder = Folder(tempfile::tempdir().unwrap());
            let config = include_str!("../configs/quickstart.toml");
            std::fs::write(folder.0.path().join("run.toml"), config.split("[measure]").next().unwrap()).unwrap();
            let made = folder.command(&["train", "run.toml", "output=made", "train.steps=2"]).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            folder
        }

        fn command(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
            command.args(arguments).current_dir(self.0.path());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        }

        /// Ends a command by a signal after some time: its output, or `None` where it was over before.
        fn stop(&self, arguments: &[&str], signal: &str, after: Duration) -> Option<Output> {
            let mut child = self.command(arguments).spawn().unwrap();
            std::thread::sleep(after);
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            let sent = Instant::now();
            let output = child.wait_with_output().unwrap();
            assert!(sent.elapsed() < BOUND, "{arguments:?} took {:?}", sent.elapsed());
            Some(output)
        }

        /// The object of a command that is interrupted once it has something to give.
        fn partial(&self, arguments: &[&str], signal: &str, code: i32, field: &str) -> Value {
            let arguments = [arguments, &["--json"]].concat();
            for seconds in [1, 2, 4, 8, 16, 32, 64] {
                let output = self.stop(&arguments, signal, Duration::from_secs(seconds)).expect("longer than that");
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
                let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"));
                assert!(value["interrupted"] == true && value["reached"] == false, "{arguments:?}: {value}");
                assert!(error.contains("interrupted"), "{arguments:?}: {error}");
                if value.get(field).is_some_and(|v| !v.is_null()) {
                    return value;
                }
                assert!(value.as_object().unwrap().len() == 2 || value["count"].is_number(), "{value}");
            }
            panic!("{arguments:?} gives nothing")
        }
    }

    fn number(value: &Value, field: &str) -> f64 {
        value[field].as_f64().unwrap_or_else(|| panic!("{field}: {}", value[field]))
    }

    #[test]
    fn measurements_print_what_they_have_and_end_with_130() {
        let f = Folder::new();
        let measure = |more: &[&str]| -> Vec<String> {
            let all = [&["measure", more[0], "made/model", "run.toml"], &more[1..]].concat();
            all.into_iter().map(String::from).collect()
        };
        let partial = |more: &[&str], signal: &str, field: &str| {
            let arguments = measure(more);
            f.partial(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), signal, 130, field)
        };
        let forms = ["trace", "--estimator", "quadratic-form", "--rel-error", "0.0005"];
        let trace = partial(&forms, "-TERM", "standard_error");
        assert!(number(&trace, "standard_error") > 0.0 && number(&trace, "count") > 1.0, "{trace}");
        let exact = partial(&["trace", "--estimator", "exact-labels", "--count", "300000"], "-INT", "trace");
        assert!(number(&exact, "count") < 3e5 && number(&exact, "standard_error_probe") == 0.0);
        let spectrum = partial(&["spectrum", "--tolerance", "1e-12", "--products", "2000"], "-TERM", "eigenvalues");
        assert!(spectrum["residuals"][0].as_f64().unwrap() >= 0.0);
        let noise = ["noise", "--count", "300000", "--eigenvalues-up-to", "1"];
        let noise = partial(&noise, "-TERM", "per_example_squared_norm");
        assert_eq!(noise["per_example_squared_norm"].as_array().unwrap().len() as f64, number(&noise, "count"));
        let sharpness = partial(&["sharpness", "--count", "100000"], "-TERM", "batch_sharpness_values");
        assert_eq!(sharpness["batch_sharpness_values"].as_array().unwrap().len() as f64, number(&sharpness, "batches"));
    }

    #[test]
    fn eval_probes_and_the_selftest_print_what_they_have() {
        let f = Folder::new();
        let eval = f.partial(&["eval", "made/model", "run.toml", "--count", "400000"], "-TERM", 130, "loss");
        assert!(number(&eval, "count") < 4e5 && number(&eval, "standard_error") > 0.0);
        let task = ["made/model", "run.toml", "--task", "B", "--train", "100", "--test", "50", "--seeds", "500"];
        let probe = f.partial(&[&["probe"], &task[..]].concat(), "-TERM", 130, "accuracy");
        assert_eq!(probe["per_seed"].as_array().unwrap().len() as f64, number(&probe, "seeds"));
        assert!(number(&probe, "seeds") < 500.0);
        let tuned = f.partial(&[&["finetune"], &task[..]].concat(), "-INT", 75, "accuracy");
        assert!(number(&tuned, "seeds") < 500.0);
        let cases = f.partial(&["selftest"], "-TERM", 130, "cases");
        assert!(cases["passed"] == true && !cases["cases"].as_array().unwrap().is_empty());
    }

    #[test]
    fn training_keeps_a_checkpoint_whenever_the_signal_comes() {
        let f = Folder::new();
        let train = ["train", "run.toml", "output=stopped", "train.steps=1000000"];
        let mut steps = Vec::new();
        // The last ones come later and later, until a busy machine too has taken a step.
        for millis in [200, 700, 2500, 10_000, 40_000] {
            if steps.last().is_some_and(|step| *step > 0) {
                break;
            }
            let Some(output) = f.stop(&train, "-TERM", Duration::from_millis(millis)) else { panic!("it ends") };
            let error = String::from_utf8_lossy(&output.stderr);
            // Before the handler stands a signal ends the process by itself.
            assert!(matches!(output.status.code(), Some(75) | None), "{error}");
            let newest = std::fs::read_dir(f.0.path().join("stopped/checkpoints")).into_iter().flatten().flatten();
            let at = |e: std::fs::DirEntry| e.file_name().to_str()?.strip_prefix("step-")?.parse::<u64>().ok();
            steps.push(newest.filter_map(at).max().unwrap_or(0));
        }
        assert!(steps.is_sorted() && steps.last() > Some(&0), "{steps:?}");
    }
}
