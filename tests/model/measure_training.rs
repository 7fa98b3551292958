//! Curvature along the way: what is written, and that training does not notice it.

use std::path::Path;

use crate::common::adapter::gpu;
use lowland::config::{Positions, Resolved};
use lowland::curvature::{
    Chunks, Drawing, Flatness, FlatnessOptions, NoiseScale, Norms, Perturbation, PerturbationOptions, Stopping, Subject,
};
use lowland::gpu::Gpu;
use lowland::language::masked_position;
use lowland::model::{Loaded, Model, load};
use lowland::ops::{Device, LossDraw};
use lowland::statistics::{Estimate, Target};
use lowland::train::{self, Corpus, HeldOut, Measurement, Observer, Outcome, Progress, Quiet, measured_seed};
use serde_json::Value;

const CONFIG: &str = r#"
seed = 3
[language]
random = { levels = 2, symbols = 3, rules = 2, vocabulary = 8, seed = 1 }
max_length = 4
[model]
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 32
hidden_dropout_prob = 0.1
[train]
steps = 12
batch_size = 16
optimizer = { kind = "adamw", lr = 1e-2 }
evaluate_every = 4
checkpoint_every = 4
keep_checkpoints = 0
[evaluate]
sentences = 20
"#;

const MEASURE: &str = r#"
[measure]
every = 4
trace = { sentences = 48, draws = 2 }
top = { count = 2, sentences = 24, tolerance = 1e-3 }
noise = { sentences = 40 }
hessian_trace = { probes = 6, sentences = 32 }
flatness = { sentences = 44 }
perturb = { sigma = [0.01, 0.05], draws = 3, sentences = 20 }
"#;

fn resolved(folder: &Path, text: &str, overrides: &[&str]) -> Resolved {
    let output = format!("output={}", toml::Value::String(folder.display().to_string()));
    let all: Vec<String> = overrides.iter().map(|o| o.to_string()).chain([output]).collect();
    Resolved::from_text(text, "test", &all).unwrap()
}

fn run(gpu: &Gpu, folder: &Path, text: &str, overrides: &[&str]) -> Outcome {
    train::run(gpu, &resolved(folder, text, overrides), &Quiet).unwrap()
}

fn with_measure() -> String {
    format!("{CONFIG}{MEASURE}")
}

/// Lines of the metrics without what the clock tells.
fn metrics(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let one = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        for clock in ["seconds", "measure_seconds", "part_seconds", "sentences_per_second", "queue_idle"] {
            value.as_object_mut().unwrap().remove(clock);
        }
        value
    };
    text.lines().map(one).collect()
}

fn measurements(folder: &Path) -> Vec<Measurement> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().filter(|l| l.contains("fisher_trace")).map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn weights(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("model/model.safetensors")).unwrap()
}

#[test]
fn training_is_the_same_bits_with_and_without() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let (with, without) = (folder.path().join("with"), folder.path().join("without"));
    let measured = run(&gpu, &with, &with_measure(), &[]);
    let plain = run(&gpu, &without, CONFIG, &[]);
    assert_eq!(weights(&with), weights(&without));
    assert_eq!((measured.training_loss, &measured.evaluation), (plain.training_loss, &plain.evaluation));
    let kept: Vec<Value> = metrics(&with).into_iter().filter(|v| v.get("fisher_trace").is_none()).collect();
    assert_eq!(kept, metrics(&without));
    assert!(plain.curvature.is_none());
    assert!(!std::fs::read_to_string(without.join("result.json")).unwrap().contains("curvature"));
}

#[test]
fn the_schedule_is_the_beginning_every_so_many_steps_and_the_end() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let cheap = format!("{CONFIG}[measure]\ntrace = {{ sentences = 8 }}\n");
    for (every, steps) in [(5, vec![0, 5, 10, 12]), (6, vec![0, 6, 12]), (0, vec![0, 12]), (500, vec![0, 12])] {
        let folder = folder.path().join(every.to_string());
        let outcome = run(&gpu, &folder, &cheap, &[&format!("measure.every={every}")]);
        let found = measurements(&folder);
        assert_eq!(found.iter().map(|m| m.step).collect::<Vec<_>>(), steps);
        // Reading a number back may cost its last bit.
        let (own, read) = (outcome.curvature.unwrap(), found.last().unwrap());
        assert!(own.step == read.step && (own.fisher_trace / read.fisher_trace - 1.0).abs() < 1e-14);
        let result: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("result.json")).unwrap()).unwrap();
        assert_eq!(result["curvature"]["fisher_trace"].as_f64(), Some(found.last().unwrap().fisher_trace));
        // One draw per sentence: its two parts cannot be told apart, and nothing else was asked for.
        assert!(found.iter().all(|m| m.fisher_trace_standard_error_probe.is_none() && m.bartlett.is_none()));
        assert!(found.iter().all(|m| m.fisher_trace_standard_error > 0.0 && m.largest_eigenvalue.is_none()));
    }
}

/// Dies when it hears of a step's measurement.
struct StopAt(u64);

impl Observer for StopAt {
    fn progress(&self, _: &Progress) {}

    fn note(&self, text: &str) {
        if text.starts_with(&format!("step {}:", self.0)) {
            panic!("killed here");
        }
    }
}

#[test]
fn a_resumed_run_writes_the_same_metrics() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let through = folder.path().join("through");
    run(&gpu, &through, &with_measure(), &[]);
    // Killed in the measurement before the first step, in the middle and at the end: its line is not written.
    for step in [0, 8, 12] {
        let stopped = folder.path().join(format!("stopped-{step}"));
        let config = resolved(&stopped, &with_measure(), &[]);
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = train::run(&gpu, &config, &StopAt(step));
        }));
        assert!(killed.is_err(), "step {step} is measured");
        assert!(!stopped.join("result.json").exists());
        train::run(&gpu, &config, &Quiet).unwrap();
        assert_eq!(metrics(&stopped), metrics(&through), "killed at step {step}");
        assert_eq!(weights(&stopped), weights(&through));
    }
}

#[test]
fn a_warm_start_is_said_and_changes_no_eigenvalue_beyond_the_tolerance() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{CONFIG}[measure]\nevery = 1\ntrace = {{ sentences = 8 }}\n");
    let top = |warm: bool| format!("measure.top={{ sentences = 24, tolerance = 1e-3, warm_start = {warm} }}");
    let of = |warm: bool| {
        let folder = folder.path().join(warm.to_string());
        run(&gpu, &folder, &text, &[&top(warm), "train.optimizer.lr=1e-4"]);
        measurements(&folder)
    };
    let (cold, warm) = (of(false), of(true));
    assert!(cold.iter().all(|m| m.eigenvalue_warm_start.is_none()));
    let said: Vec<_> = warm.iter().map(|m| m.eigenvalue_warm_start.unwrap()).collect();
    assert!(!said[0] && said[1..].iter().all(|s| *s));
    for (cold, warm) in cold.iter().zip(&warm) {
        let [a, b] = [cold, warm].map(|m| m.largest_eigenvalue.unwrap());
        assert!(cold.eigenvalue_converged.unwrap() && warm.eigenvalue_converged.unwrap());
        assert!((a - b).abs() <= 2e-3 * a.abs(), "{a} and {b}");
    }
    let products = |all: &[Measurement]| all[1..].iter().map(|m| m.eigenvalue_products.unwrap()).sum::<u64>();
    assert!(products(&warm) < products(&cold), "{} and {}", products(&warm), products(&cold));
}

/// The last measurement again from the model that the run left, by the estimators themselves.
#[test]
fn numbers_are_those_of_the_estimators() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let outcome = run(&gpu, &path, &with_measure(), &[]);
    let m = outcome.curvature.unwrap();
    let Loaded { encoder, weights, .. } = load(&path.join("model")).unwrap();
    let config = resolved(&path, &with_measure(), &[]);
    let corpus = Corpus::open(&config.config.language, &config.config.objective, 3).unwrap();
    let seed = measured_seed(3);
    let sentences: Vec<_> = (0..48)
        .map(|i| {
            let words = corpus.language.sample(seed, i);
            corpus.tokens.mask(&words, masked_position(seed, i, words.len()))
        })
        .collect();
    let subject = |n: usize| {
        Subject::new(
            &Model::new(&Device::of(&gpu), &encoder, &weights).unwrap(),
            &sentences[..n],
            &[],
            &Chunks::default(),
        )
        .unwrap()
    };
    let close = |a: f64, b: f64| assert!((a - b).abs() <= 1e-5 * a.abs().max(b.abs()), "{a} against {b}");

    let all = subject(48);
    let mut drawing = Drawing::new(&all, LossDraw::Signs, seed, 2).unwrap();
    let trace = drawing.run(&all, Target::Population, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap().trace;
    close(m.fisher_trace, trace.estimate);
    close(m.fisher_trace_standard_error, trace.standard_error);
    assert!(m.trace_between.is_none(), "labels are no dial, and nothing asks for parts");
    let parts = [m.fisher_trace_standard_error_probe.unwrap(), m.fisher_trace_standard_error_data.unwrap()];
    close(parts[0].hypot(parts[1]), m.fisher_trace_standard_error);

    // Flatness by the trace's draws, over fewer sentences.
    let what = FlatnessOptions { kind: LossDraw::Signs, seed, draws: 2, target: Target::Population, into: None };
    let flat = Flatness::measure(&subject(44), &what, &mut |_| Ok(())).unwrap();
    let (balanced, relative) = (flat.balanced_trace.unwrap().trace, flat.relative_flatness.unwrap());
    close(m.scale_free_trace.unwrap(), flat.scale_free_trace.value);
    close(m.scale_free_trace_standard_error.unwrap(), flat.scale_free_trace.standard_error);
    close(m.balanced_trace.unwrap(), balanced.value);
    close(m.balanced_trace_all.unwrap(), flat.balanced_trace_all.unwrap().trace.value);
    close(m.relative_flatness.unwrap(), relative.value);
    close(m.relative_flatness_standard_error.unwrap(), relative.standard_error);
    assert!(relative.standard_error > 0.0 && balanced.standard_error > 0.0);

    // Noise on the weights, with the language's conditionals as labels.
    let held_out = HeldOut { corpus: corpus.clone(), seed };
    let known = held_out.exact(0..20, Positions::One).unwrap().unwrap();
    let known: Vec<_> = known.into_iter().flatten().map(|known| known.sentence).collect();
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let exact = Subject::new(&model, &known, &[], &Chunks::default()).unwrap();
    let (sigmas, scale, target) = (vec![0.01, 0.05], NoiseScale::Tensor, Target::Population);
    let what = PerturbationOptions { sigmas, scale, draws: 3, seed, probes: 0, block: 8, target };
    let noisy = Perturbation::measure(&exact, &what, &mut |_| Ok(())).unwrap();
    assert_eq!(m.perturb_sigma, [0.01, 0.05]);
    for (i, rise) in noisy.rise.iter().enumerate() {
        close(m.perturb_rise[i], rise.value);
        close(m.perturb_rise_standard_error[i], rise.standard_error);
    }
    assert!(m.perturb_rise[1] > m.perturb_rise[0] && noisy.trace.is_none());

    // Tr Σ from single gradients: each example's own mean gradient is its gradient.
    let n = 40;
    let gradients: Vec<Vec<f32>> = (0..n)
        .map(|i| {
            let one = [sentences[i].clone()];
            let own = Subject::new(
                &Model::new(&Device::of(&gpu), &encoder, &weights).unwrap(),
                &one,
                &[],
                &Chunks::default(),
            )
            .unwrap();
            own.loss_gradient().unwrap()
        })
        .collect();
    let size = gradients[0].len();
    let mean: Vec<f64> = (0..size).map(|j| gradients.iter().map(|g| f64::from(g[j])).sum::<f64>() / n as f64).collect();
    let off = |g: &Vec<f32>| g.iter().zip(&mean).map(|(g, m)| (f64::from(*g) - m).powi(2)).sum::<f64>();
    let deviations: Vec<f64> = gradients.iter().map(off).collect();
    let trace = deviations.iter().sum::<f64>() / (n as f64 - 1.0);
    close(m.noise_trace.unwrap(), trace);
    let squared = mean.iter().map(|x| x * x).sum::<f64>() - trace / n as f64;
    close(m.gradient_squared_norm.unwrap(), squared);
    close(m.noise_scale.unwrap(), trace / squared);
    let norms = Norms::measure(&subject(n), &mut |_| Ok(())).unwrap().squared;
    let own: Vec<f64> = gradients.iter().map(|g| g.iter().map(|x| f64::from(*x).powi(2)).sum()).collect();
    norms.iter().zip(&own).for_each(|(a, b)| close(*a, *b));

    // Bartlett's first ratio, over the sentences that both were measured on.
    let fisher: f64 = drawing.per_example()[..n].iter().map(|(value, _)| value).sum::<f64>() / n as f64;
    let bartlett = m.bartlett.unwrap();
    close(bartlett.noise_fisher.unwrap(), trace / fisher);
    assert!(bartlett.noise_fisher_standard_error.unwrap() > 0.0);

    assert_eq!((m.eigenvalues.len(), m.largest_eigenvalue), (2, Some(m.eigenvalues[0])));
    assert!(m.eigenvalue_converged.unwrap() && m.eigenvalue_residual.unwrap() <= 1e-3 * m.eigenvalues[0].abs());
}

/// With every label in place of draws and the Hessian column by column, the Hessian's trace and its ratio are within
/// what their errors say.
#[test]
fn the_trace_is_in_two_parts_where_labels_are_the_dial_or_groups_are_asked_for() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{CONFIG}[measure]\nevery = 0\ntrace = {{ sentences = 48, draws = 2 }}\n");
    let last = |name: &str, overrides: &[&str]| {
        let all = [&["train.steps=2", "train.evaluate_every=0", "train.checkpoint_every=0"], overrides].concat();
        run(&gpu, &folder.path().join(name), &text, &all).curvature.unwrap()
    };
    let dial = "objective.labels={mix={between=1.0, within=0.5, groups=2}}";
    let by_dial = last("dial", &[dial]);
    let asked = last("asked", &["measure.trace.label_groups=2"]);
    let three = last("three", &[dial, "measure.trace.label_groups=3"]);
    for m in [&by_dial, &asked, &three] {
        let errors = [m.trace_between_standard_error, m.trace_within_standard_error].map(|e| e.unwrap());
        let sum = m.trace_between.unwrap() + m.trace_within.unwrap();
        let error = errors[0].hypot(errors[1]).hypot(m.fisher_trace_standard_error);
        assert!((sum - m.fisher_trace).abs() < 4.0 * error, "{sum} of {} with {error}", m.fisher_trace);
        assert!(error < 0.5 * m.fisher_trace && errors.iter().all(|e| *e > 0.0));
        assert!(m.text().contains("between groups"), "{}", m.text());
    }
    assert_ne!(three.trace_between, by_dial.trace_between);
    let path = folder.path().join("dial");
    let config = resolved(&path, &text, &[dial]);
    let corpus = Corpus::open(&config.config.language, &config.config.objective, 3).unwrap();
    // Eight words behind five special tokens, word v in group v modulo 2, what is no word in the last.
    let groups = corpus.tokens.groups(2);
    let of_words: Vec<u32> = corpus.tokens.words().iter().map(|id| groups[*id as usize]).collect();
    assert_eq!(of_words, [0, 1, 0, 1, 0, 1, 0, 1]);
    assert_eq!(groups[lowland::model::MASK as usize], 2);
}

#[test]
fn hessian_traces_lie_within_their_errors_of_the_exact_ones() {
    use lowland::curvature::{Matrix, ModelOperator};
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let small = ["model.hidden_size=8", "model.intermediate_size=8", "model.hidden_dropout_prob=0.0"];
    let overrides: Vec<&str> = small
        .iter()
        .copied()
        .chain(["measure.hessian_trace.probes=64", "measure.hessian_trace.sentences=48"])
        .collect();
    let m = run(&gpu, &path, &with_measure(), &overrides).curvature.unwrap();
    let Loaded { encoder, weights, .. } = load(&path.join("model")).unwrap();
    let config = resolved(&path, &with_measure(), &overrides);
    let corpus = Corpus::open(&config.config.language, &config.config.objective, 3).unwrap();
    let seed = measured_seed(3);
    let sentences: Vec<_> = (0..48)
        .map(|i| {
            let words = corpus.language.sample(seed, i);
            corpus.tokens.mask(&words, masked_position(seed, i, words.len()))
        })
        .collect();
    let chunks = Chunks { batch: 48, probes: 64 };
    let subject =
        Subject::new(&Model::new(&Device::of(&gpu), &encoder, &weights).unwrap(), &sentences, &[], &chunks).unwrap();
    let operator = ModelOperator::new(&subject, Matrix::Hessian);
    let size = subject.size();
    let (mut hessian, mut ggn) = (0.0, 0.0);
    for first in (0..size).step_by(64) {
        let unit = |i: usize| (0..size).map(|j| f32::from(u8::from(i == j))).collect::<Vec<f32>>();
        let block: Vec<Vec<f32>> = (first..size.min(first + 64)).map(unit).collect();
        for forms in operator.forms(&block).unwrap() {
            hessian += Estimate::of_mean(&forms.hessian).value;
            ggn += Estimate::of_mean(&forms.ggn).value;
        }
    }
    // The sentences are the same, so that only the probes' part can keep the two apart.
    let (estimate, probe) = (m.hessian_trace.unwrap(), m.hessian_trace_standard_error_probe.unwrap());
    assert!((estimate - hessian).abs() <= 3.5 * probe, "{estimate} ± {probe} against {hessian}");
    assert!(probe <= 0.1 * hessian.abs(), "{probe}: says something");
    let bartlett = m.bartlett.unwrap();
    let (ratio, error) = (bartlett.hessian_fisher.unwrap(), bartlett.hessian_fisher_standard_error.unwrap());
    assert!((ratio - hessian / ggn).abs() <= 3.5 * error, "{ratio} ± {error} against {}", hessian / ggn);
    println!("Tr H {estimate:.3} ± {probe:.3} against {hessian:.3}; Tr H / Tr F {ratio:.3} ± {error:.3}");
}

#[test]
fn a_measurement_that_cannot_be_is_refused_with_its_key() {
    for (key, says) in [
        ("measure.trace.sentences=1", "must lie in 2"),
        ("measure.trace.draws=0", "must lie in 1"),
        ("measure.trace.label_groups=64", "must lie in 2 to 63"),
        ("measure.trace.estimator=\"hutchinson\"", "random-signs"),
        ("measure.top.tolerance=0", "between 0 and 1"),
        ("measure.top.count=60", "must lie in 120"),
        ("measure.noise.sentences=2", "must lie in 3"),
        ("measure.hessian_trace.probes=1", "must lie in 2"),
        ("measure.evry=5", "did you mean `every`"),
    ] {
        let error = Resolved::from_text(&with_measure(), "test", &[key.to_string()]).unwrap_err().to_string();
        assert!(error.contains(says), "{key}: {error}");
    }
    let found = lowland::config::explain("measure.top.count").unwrap();
    assert_eq!(found.default.as_deref(), Some("1"));
}
