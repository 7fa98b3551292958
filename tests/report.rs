//! The page about sweeps, from tables made here.

use std::collections::HashMap;
use std::path::Path;

use lowland::random::{Purpose, Stream};
use lowland::report;
use lowland::sweep::{Accuracies, Collapse, Missing, Row, Table, Task};
use lowland::train::{Bartlett, Evaluation, Measurement};
use serde_json::{Value, json};

/// How accuracy depends on the trace in the tables made here.
#[derive(Clone, Copy, PartialEq)]
enum Truth {
    /// Flatter models are better.
    Falling,
    /// Accuracy is drawn without a look at the trace.
    None,
    /// Flatter models are worse.
    Rising,
}

const BOUND: f64 = 0.02;
const TASKS: [&str; 2] = ["b", "c"];

fn task(name: &str) -> Task {
    Task {
        task: name.into(),
        method: "ridge".into(),
        classes: 9,
        chance: 1.0 / 9.0,
        majority: 0.2,
        bayes: Some(0.8),
        train: 2000,
        validation: 500,
        test: 1000,
    }
}

fn table(name: &str, intervention: &str, rows: Vec<Row>) -> Table {
    Table {
        format: 1,
        name: name.into(),
        intervention: intervention.into(),
        language: "pcfg: 3 levels, 12 words".into(),
        language_hash: "f00d".into(),
        saturation_bound: BOUND,
        seed: 7,
        tasks: TASKS.map(task).into(),
        collapse: None,
        rows,
        missing: Vec::new(),
    }
}

/// A model of a run; numbers are a function of what is asked for.
struct Made<'a> {
    group: &'a str,
    seed: u64,
    step: u64,
    last: bool,
    excess: f64,
    trace: f64,
    parameters: usize,
}

impl Made<'_> {
    fn row(&self, truth: Truth, number: u64) -> Row {
        let mut stream = Stream::new(11, Purpose::Test, number);
        let trace = self.trace * (1.0 + 0.06 * stream.normal());
        let flat = -trace.ln();
        let accuracy = match truth {
            Truth::Falling => 0.55 + 0.06 * flat + 0.004 * stream.normal(),
            Truth::Rising => 0.55 - 0.06 * flat + 0.004 * stream.normal(),
            Truth::None => 0.55 + 0.03 * stream.normal(),
        };
        let mut of_task = |i: usize| {
            let accuracy = accuracy - 0.1 * i as f64 + 0.002 * stream.normal();
            Accuracies {
                task: TASKS[i].into(),
                accuracy,
                standard_deviation: Some(0.008),
                standard_error: Some(0.0046),
                sampling_error: (accuracy * (1.0 - accuracy) / 1000.0).sqrt(),
                per_seed: vec![accuracy - 0.008, accuracy, accuracy + 0.008],
                features: "concat".into(),
            }
        };
        let downstream = vec![of_task(0), of_task(1)];
        let mut values = serde_json::Map::new();
        values.insert("train.optimizer".into(), json!({ "kind": self.group, "lr": 0.001 }));
        Row {
            run: format!("{}-{}", self.group, self.seed),
            group: self.group.into(),
            label: self.group.into(),
            seed: self.seed,
            values,
            step: self.step,
            last: self.last,
            batch_size: 256,
            learning_rate: 0.001,
            noise_time: self.step as f64 * 1e-6 / 256.0,
            parameters: self.parameters,
            parametrisation: "64 wide, 2 layers, by duplication".into(),
            evaluation: Some(Evaluation {
                loss: 1.2 + self.excess,
                excess_loss: self.excess,
                excess_loss_standard_error: 0.05 * self.excess,
                entropy_floor: 1.2,
                sentences: 1000,
            }),
            saturated: self.excess < BOUND,
            curvature: Some(Measurement {
                step: self.step,
                fisher_trace: trace,
                fisher_trace_standard_error: 0.04 * trace,
                hessian_trace: Some(1.05 * trace),
                hessian_trace_standard_error: Some(0.05 * trace),
                largest_eigenvalue: Some(0.1 * trace * (1.0 + 0.2 * stream.normal())),
                largest_eigenvalue_standard_error: Some(0.004 * trace),
                noise_trace: Some(0.98 * trace * (1.0 + 0.05 * stream.normal())),
                noise_trace_standard_error: Some(0.03 * trace),
                bartlett: Some(Bartlett {
                    noise_fisher: Some(0.98),
                    noise_fisher_standard_error: Some(0.03),
                    hessian_fisher: Some(1.05),
                    hessian_fisher_standard_error: Some(0.04),
                }),
                measure_seconds: 12.5,
                ..Measurement::default()
            }),
            downstream,
        }
    }
}

fn lookup() -> Row {
    let made = Made { group: "lookup", seed: 0, step: 0, last: true, excess: 0.0, trace: 1.0, parameters: 0 };
    let mut row = made.row(Truth::None, 999);
    (row.run, row.evaluation, row.curvature, row.label) = ("lookup".into(), None, None, "lookup table".into());
    row.parametrisation = String::new();
    row.values = serde_json::Map::new();
    row.downstream.iter_mut().for_each(|d| d.accuracy = 0.41);
    row
}

/// Checkpoints along runs of six seeds; the first is not saturated.
fn steps(truth: Truth) -> Table {
    let mut rows = Vec::new();
    for seed in 0..6 {
        for (i, step) in [250u64, 500, 1000, 2000, 4000].into_iter().enumerate() {
            let excess = [0.11, 0.015, 0.008, 0.005, 0.004][i];
            let trace = [30.0, 22.0, 15.0, 11.0, 8.0][i];
            let made = Made { group: "adamw", seed, step, last: i == 4, excess, trace, parameters: 120_000 };
            rows.push(made.row(truth, 10 * seed + i as u64));
        }
    }
    table("steps mini", "steps", rows)
}

fn sizes(truth: Truth) -> Table {
    let mut rows = Vec::new();
    for (i, group) in ["32 wide", "64 wide", "128 wide"].into_iter().enumerate() {
        for seed in 0..3 {
            let (excess, trace) = ([0.018, 0.01, 0.006][i], [25.0, 14.0, 7.0][i]);
            let parameters = [30_000, 120_000, 480_000][i];
            let made = Made { group, seed, step: 4000, last: true, excess, trace, parameters };
            rows.push(made.row(truth, 100 + 10 * i as u64 + seed));
        }
    }
    let mut table = table("size mini", "size", rows);
    table.missing.push(Missing {
        run: "abcd".into(),
        label: "256 wide".into(),
        seed: 0,
        reason: "out of memory <1 GiB>".into(),
    });
    table
}

fn algorithms(truth: Truth) -> Table {
    let mut rows = Vec::new();
    for (i, group) in ["adamw, long", "adversarial", "sgd"].into_iter().enumerate() {
        for seed in 0..3 {
            let (excess, trace) = ([0.004, 0.006, 0.03][i], [8.0, 28.0, 17.0][i]);
            let made = Made { group, seed, step: 4000, last: true, excess, trace, parameters: 120_000 };
            rows.push(made.row(truth, 200 + 10 * i as u64 + seed));
        }
    }
    rows.push(lookup());
    table("algorithm mini", "algorithm", rows)
}

/// Curves that are one function of Σ η²/B, at several learning rates and batch sizes.
fn theory() -> Table {
    let mut rows = Vec::new();
    for (i, (rate, batch)) in [(0.1, 64), (0.2, 64), (0.4, 64), (0.2, 16)].into_iter().enumerate() {
        for seed in 0..3u64 {
            for (j, step) in [0u64, 500, 1000, 1500, 2000].into_iter().enumerate() {
                let group = format!("η = {rate}, B = {batch}");
                let time = rate * rate * step as f64 / f64::from(batch);
                let trace = 20.0 * (-0.25 * time).exp();
                let made = Made { group: &group, seed, step, last: j == 4, excess: 0.004, trace, parameters: 120_000 };
                let mut row = made.row(Truth::Falling, 300 + 100 * i as u64 + 10 * seed + j as u64);
                (row.learning_rate, row.batch_size, row.noise_time) = (rate, batch, time);
                row.downstream.clear();
                rows.push(row);
            }
        }
    }
    let mut table = table("theory mini", "learning rate and batch", rows);
    table.collapse = Some(Collapse { of: "fisher_trace".into() });
    table
}

fn put(folder: &Path, table: &Table) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("table.json"), serde_json::to_string_pretty(table).unwrap()).unwrap();
}

/// All four sweeps in a folder, one of them a level deeper.
fn folder(truth: Truth) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("steps"), &steps(truth));
    put(&folder.path().join("size"), &sizes(truth));
    put(&folder.path().join("more/algorithm"), &algorithms(truth));
    put(&folder.path().join("theory"), &theory());
    folder
}

fn json_rows(folder: &Path, name: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("tables").join(name)).unwrap()).unwrap()
}

#[test]
fn look() {
    let folder = folder(Truth::Falling).keep();
    report::write(&folder, None).unwrap();
    println!("{}", folder.display());
}
