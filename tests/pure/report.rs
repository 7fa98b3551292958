//! The page about sweeps, from tables made here.

use std::collections::HashMap;
use std::path::Path;

use lowland::downstream::Alignment;
use lowland::random::{Purpose, Stream};
use lowland::report;
use lowland::sweep::{
    Accuracies, Collapse, Decide, Hypothesis, Missing, PlanFile, Registration, Row, SeedRange, Seeds, Table, Task,
    Test, TraceConventions,
};
use lowland::train::{Evaluation, Measurement, Ratios};
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
        objective: Default::default(),
        language_hash: "f00d".into(),
        saturation_bound: BOUND,
        seed: 7,
        tasks: TASKS.map(task).into(),
        collapse: None,
        registration: None,
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
                ..Accuracies::default()
            }
        };
        let downstream = vec![of_task(0), of_task(1)];
        let mut values = serde_json::Map::new();
        values.insert("train.optimizer".into(), json!({ "kind": "adamw", "lr": 0.001 }));
        values.insert("train.algorithm".into(), json!({ "kind": self.group }));
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
                excess_loss: Some(self.excess),
                excess_loss_standard_error: Some(0.05 * self.excess),
                entropy_floor: Some(1.2),
                sentences: 1000,
                ..Evaluation::default()
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
                bartlett: Some(Ratios {
                    noise_fisher: Some(0.98),
                    noise_fisher_standard_error: Some(0.03),
                    hessian_fisher: Some(1.05),
                    hessian_fisher_standard_error: Some(0.04),
                }),
                measure_seconds: 12.5,
                part_seconds: [("trace".to_string(), 4.5)].into(),
                ..Measurement::default()
            }),
            alignment: Some(Alignment {
                share_of_conditional: 0.4 + 0.1 / trace,
                share_of_conditional_standard_error: 0.01,
                conditionals: 7,
                positions: 1000,
            }),
            downstream,
            ..Row::default()
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
    for (i, group) in ["plain", "adversarial", "sam"].into_iter().enumerate() {
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
    table.collapse = Some(Collapse { of: "fisher_trace".into(), speed: false });
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

/// The paragraph about a task.
fn said(page: &str, task: &str) -> String {
    let start = page.find(&format!("<b>task {task}</b>")).expect("each task has a paragraph");
    page[start..start + page[start..].find("</p>").unwrap()].to_string()
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_page_stands_alone_and_says_what_is_in_the_tables() {
    let folder = folder(Truth::Falling);
    let page = report::write(folder.path(), None).unwrap();
    assert_eq!(page, folder.path().join("report.html"));
    let page = read(page);
    for foreign in ["src=", "href=", "url(", "@import", "<script", "<img", "<link", "https:"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // The one address is the name of SVG.
    assert_eq!(page.matches("http:").count(), page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    // 30 + 9 + 9 + 60 models of 6 + 9 + 9 + 12 runs; the lookup table is no model, the first step and SAM are not
    // saturated.
    assert!(page.contains("108 models of 36 runs. 99 of them are saturated"), "{page}");
    assert!(page.contains("Planned and missing: 1.") && page.contains("out of memory &lt;1 GiB&gt;"));
    for text in ["19.34 ± 0.92", "42.3 ± 1.5", "39.7", "40.4 (smallest)", "50.5 (largest)", "+1.6 (SGD, 235 M)"] {
        assert!(page.contains(text), "the paper's {text}");
    }
    assert!(page.contains("paper: task B, %"));
    // SAM uses AdamW, and the paper has no numbers for it.
    assert_eq!(page.matches("49.2 ± 0.8").count(), 1);
}

#[test]
fn statements_follow_the_numbers() {
    let verdicts = [
        (Truth::Falling, "flatter models transfer better: seen."),
        (Truth::Rising, "flatter models transfer better: not seen, the opposite is."),
        (Truth::None, "flatter models transfer better: not decided by these models."),
    ];
    for (truth, verdict) in verdicts {
        let folder = folder(truth);
        let page = read(report::write(folder.path(), None).unwrap());
        for task in TASKS {
            assert!(said(&page, task).contains(verdict), "{}", said(&page, task));
        }
        let rows = json_rows(folder.path(), "correlations.json");
        let found = |predictor: &str, models: &str| {
            let same = |r: &&Value| {
                r["task"] == "b"
                    && r["predictor"] == predictor
                    && r["models"] == models
                    && r["coefficient"] == "spearman"
            };
            rows.iter().filter(same).find(|r| r["given"].is_null() && r["intervention"].is_null()).unwrap().clone()
        };
        // 24 checkpoints, 9 sizes and 6 algorithms are saturated.
        let saturated = found("fisher_trace", "saturated");
        assert_eq!((&saturated["n_models"], &saturated["n_runs"]), (&json!(39), &json!(21)));
        let all = found("fisher_trace", "all");
        assert_eq!((&all["n_models"], &all["n_runs"]), (&json!(48), &json!(24)));
        let value = saturated["value"].as_f64().unwrap();
        assert!(said(&page, "b").contains(&format!("{value:.2}").replace('-', "−")), "{}", said(&page, "b"));
        assert!(saturated["low"].as_f64().unwrap() <= value && value <= saturated["high"].as_f64().unwrap());
    }
}

#[test]
fn a_verdict_over_sizes_says_that_its_sign_is_a_convention() {
    const LONG: &str = "the sign of the traces' change over sizes is a convention";
    const SHORT: &str = "depends on the convention by which the smaller ones were embedded";
    let page = |table: &Table| {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), table);
        read(report::write_sweeps(folder.path(), None).unwrap()).replace("&#39;", "'").replace("&#x27;", "'")
    };
    let with = page(&sizes(Truth::Rising));
    for task in TASKS {
        let words = said(&with, task);
        assert!(words.contains("the opposite is") && words.contains(SHORT), "{words}");
    }
    // The note, the figure over sizes and the table beside the paper's.
    assert_eq!(with.matches(LONG).count(), 3, "{with}");
    // One verdict per task, two scatters, the coefficients as a figure and as a table.
    assert_eq!(with.matches(SHORT).count(), 2 + 2 + 2, "{with}");
    let mut apart = sizes(Truth::Rising);
    apart.rows.iter_mut().for_each(|r| r.parametrisation = format!("{} parameters, as trained", r.parameters));
    for without in [page(&steps(Truth::Rising)), page(&algorithms(Truth::Rising)), page(&apart)] {
        assert!(!without.contains("convention"), "{without}");
    }
}

/// Sizes with traces in every convention: level, up, down, down.
fn conventions() -> Table {
    let mut sizes = sizes(Truth::Falling);
    for (i, row) in sizes.rows.iter_mut().enumerate() {
        let (size, seed) = (i / 3, (i % 3) as f64 - 1.0);
        let value = |of: [f64; 3]| of[size] + seed;
        row.conventions = Some(TraceConventions {
            into: "width 128, 2 layers, 8 heads, feed-forward 512".into(),
            sentences: 64,
            own: value([57.0, 56.0, 62.0]),
            own_standard_error: 3.0,
            duplicate: Some(value([24.0, 32.0, 62.0])),
            duplicate_standard_error: Some(2.0),
            paper: Some(value([182.0, 104.0, 62.0])),
            paper_standard_error: Some(9.0),
            balanced: Some(value([19.0, 14.0, 10.0])),
            balanced_standard_error: Some(1.0),
            balanced_bias: Some(-0.02),
            balanced_table_scale: Some(2.0),
            note: None,
        });
    }
    sizes
}

#[test]
fn traces_in_every_convention_stand_beside_one_another() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &conventions());
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    for wanted in [
        "The trace in every convention: size mini",
        "Embedded in: width 128, 2 layers, 8 heads, feed-forward 512.",
        // Seeds one apart: a standard error of 1 / √3 of each mean.
        "<td>57.0 ± 0.577</td><td>24.0 ± 0.577</td><td>182 ± 0.577</td><td>19.0 ± 0.577</td><td>2.00 ± \
         0.00</td><td>3</td>",
        "as trained 5.00 ± 0.816; embedded, tables copied 38.0 ± 0.816; embedded, tables divided −120 ± 0.816; \
         balanced −9.00 ± 0.816",
        "Below is the trace in every convention",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let svg = read(folder.path().join("figures/conventions.svg"));
    for name in ["as trained", "embedded, tables copied", "embedded, tables divided", "balanced"] {
        assert!(svg.contains(name), "{name}: {svg}");
    }
    let models = json_rows(folder.path(), "models.json");
    assert_eq!((&models[0]["trace_own"], &models[0]["trace_paper"]), (&json!(56.0), &json!(181.0)));
    assert_eq!(models[0]["trace_balanced_bias"], json!(-0.02));
    let summary = json_rows(folder.path(), "summary.json");
    assert_eq!(summary[2]["trace_balanced"], json!(10.0));
    assert!((summary[2]["trace_balanced_standard_error"].as_f64().unwrap() - 1.0 / 3f64.sqrt()).abs() < 1e-12);

    // What a convention lacks is said; a table of an earlier version has none, and no table of them.
    let mut table = conventions();
    for row in &mut table.rows[..3] {
        let c = row.conventions.as_mut().unwrap();
        (c.balanced, c.balanced_table_scale, c.note) = (None, None, Some("the head is not tied".into()));
    }
    put(folder.path(), &table);
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    assert!(page.contains("<td>182 ± 0.577</td><td></td><td></td><td>3</td><td>the head is not tied</td>"), "{page}");
    assert!(!page.contains("balanced −"), "no change of what the smallest lacks");
    let mut text = serde_json::to_value(sizes(Truth::Falling)).unwrap();
    assert!(text["rows"][0].get("conventions").is_none(), "as earlier versions wrote it");
    let old: Table = serde_json::from_value(text.take()).unwrap();
    put(folder.path(), &old);
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    assert!(!page.contains("in every convention"), "{page}");
}

#[test]
fn an_interval_over_few_runs_decides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = steps(Truth::Falling);
    table.rows.retain(|r| r.seed < 4);
    put(folder.path(), &table);
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    assert!(said(&page, "b").contains("not decided by these models"), "{}", said(&page, "b"));
    assert!(said(&page, "b").contains("fewer than 5 runs"));
    let rows = json_rows(folder.path(), "correlations.json");
    assert!(rows[0]["value"].as_f64().unwrap() < -0.9, "the coefficient itself is strong: {}", rows[0]);
}

/// Equal but for the last digit, which reading JSON may change.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-14 * b.abs()
}

#[test]
fn tables_agree_with_their_sources_in_both_forms() {
    let folder = folder(Truth::Falling);
    report::write_sweeps(folder.path(), None).unwrap();
    for name in ["models", "summary", "correlations", "collapse"] {
        let rows = json_rows(folder.path(), &format!("{name}.json"));
        let mut reader = csv::Reader::from_path(folder.path().join(format!("tables/{name}.csv"))).unwrap();
        let head: Vec<String> = reader.headers().unwrap().iter().map(str::to_string).collect();
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(lines.len(), rows.len(), "{name}");
        for (line, row) in lines.iter().zip(&rows) {
            for (key, cell) in head.iter().zip(line) {
                match &row[key] {
                    Value::Null => assert_eq!(cell, "", "{key}"),
                    Value::String(text) => assert_eq!(cell, text),
                    Value::Number(n) => {
                        assert!(same(cell.parse().unwrap(), n.as_f64().unwrap()), "{key}: {cell} and {n}")
                    }
                    other => assert_eq!(cell, other.to_string(), "{key}"),
                }
            }
            assert!(row.as_object().unwrap().keys().all(|k| head.contains(k)));
        }
    }
    let models = json_rows(folder.path(), "models.json");
    let tables = [algorithms(Truth::Falling), sizes(Truth::Falling), steps(Truth::Falling), theory()];
    let rows: Vec<&Row> = tables.iter().flat_map(|t| &t.rows).collect();
    assert_eq!(models.len(), rows.len());
    for (model, row) in models.iter().zip(rows) {
        assert_eq!((&model["run"], &model["step"]), (&json!(row.run), &json!(row.step)));
        let trace = row.curvature.as_ref().map(|c| c.fisher_trace);
        let accuracy = row.downstream.iter().find(|d| d.task == "c").map(|d| d.accuracy);
        for (key, want) in [("fisher_trace", trace), ("accuracy_c", accuracy)] {
            let found = model.get(key).and_then(Value::as_f64);
            assert!(found == want || same(found.unwrap(), want.unwrap()), "{key}: {found:?} and {want:?}");
        }
        for times in ["measure_seconds", "part_seconds"] {
            assert!(model.get(times).is_none(), "a table holds no times");
        }
    }
    // A group's mean and standard error over its three seeds, by hand.
    let summary = json_rows(folder.path(), "summary.json");
    let wide = summary.iter().find(|r| r["group"] == "64 wide").unwrap();
    let traces: Vec<f64> = tables[1]
        .rows
        .iter()
        .filter(|r| r.group == "64 wide")
        .map(|r| r.curvature.as_ref().unwrap().fisher_trace)
        .collect();
    let mean = traces.iter().sum::<f64>() / 3.0;
    let error = (traces.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / 2.0 / 3.0).sqrt();
    assert!((wide["fisher_trace"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!((wide["fisher_trace_standard_error"].as_f64().unwrap() - error).abs() < 1e-12);
    assert_eq!((&wide["seeds"], &wide["saturated"]), (&json!(3), &json!(3)));
}

#[test]
fn curves_of_one_function_of_the_noise_time_collapse_over_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), &theory());
    report::write_sweeps(folder.path(), None).unwrap();
    let rows = json_rows(folder.path(), "collapse.json");
    let ratio: HashMap<&str, f64> =
        rows.iter().map(|r| (r["abscissa"].as_str().unwrap(), r["variance_ratio"].as_f64().unwrap())).collect();
    assert!(ratio["noise_time"] < 0.05, "{ratio:?}");
    assert!(ratio["steps"] > 0.5 && ratio["eta_steps"] > 0.15, "{ratio:?}");
    for row in &rows {
        let at = |key: &str| row[key].as_f64().unwrap();
        assert!(at("low") <= at("variance_ratio") && at("variance_ratio") <= at("high") + 0.02, "{row}");
        assert_eq!((at("n_groups"), at("n_runs")), (4.0, 12.0));
    }
}

#[test]
fn figures_are_drawn_in_both_forms() {
    let folder = folder(Truth::Falling);
    report::write_sweeps(folder.path(), None).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(folder.path().join("figures"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter_map(|n| n.strip_suffix(".png").map(str::to_string))
        .collect();
    names.sort();
    let wanted = [
        "accuracy-fisher-trace",
        "accuracy-hessian-trace",
        "collapse-theory-mini",
        "correlations",
        "size",
        "steps-steps-mini",
        "steps-theory-mini",
    ];
    assert_eq!(names, wanted);
    for name in names {
        let bytes = std::fs::read(folder.path().join(format!("figures/{name}.png"))).unwrap();
        let pixels = tiny_skia::Pixmap::decode_png(&bytes).unwrap();
        let drawn = pixels.pixels().iter().filter(|p| p.red() < 200).count();
        assert!(drawn * 100 > pixels.pixels().len(), "{name}: {drawn} of {} pixels", pixels.pixels().len());
        let svg = read(folder.path().join(format!("figures/{name}.svg")));
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("var(") && !svg.contains("NaN") && !svg.contains("inf"), "{name}");
        let size = |key: &str| -> u32 {
            let at = svg.find(&format!(" {key}=\"")).unwrap() + key.len() + 3;
            svg[at..].split('"').next().unwrap().parse().unwrap()
        };
        assert_eq!((pixels.width(), pixels.height()), (2 * size("width"), 2 * size("height")), "{name}");
    }
    // The scatter: a point of every trained model with a trace and an accuracy, in each panel, and the legend's.
    let svg = read(folder.path().join("figures/accuracy-fisher-trace.svg"));
    let markers = svg.matches("stroke-width=\"1.4\"").count();
    assert_eq!(markers, 2 * 48 + 3 + 2);
}

#[test]
fn the_same_tables_give_the_same_bytes_wherever_they_lie() {
    let all = |root: &Path| -> HashMap<String, Vec<u8>> {
        let mut files = HashMap::new();
        for part in ["", "figures", "tables"] {
            for entry in std::fs::read_dir(root.join(part)).unwrap().map(Result::unwrap).filter(|e| e.path().is_file())
            {
                let name = format!("{part}/{}", entry.file_name().display());
                files.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
        files
    };
    let (first, second) = (folder(Truth::None), tempfile::tempdir().unwrap());
    report::write_sweeps(first.path(), None).unwrap();
    // In other folders, in another order, one of them twice.
    put(&second.path().join("a/a"), &theory());
    put(&second.path().join("b"), &algorithms(Truth::None));
    put(&second.path().join("c"), &sizes(Truth::None));
    put(&second.path().join("d"), &steps(Truth::None));
    put(&second.path().join("e"), &steps(Truth::None));
    let out = second.path().join("elsewhere/report.html");
    assert_eq!(report::write_sweeps(second.path(), Some(&out)).unwrap(), out);
    let (a, b) = (all(first.path()), all(&second.path().join("elsewhere")));
    assert!(a.len() == 1 + 2 * 7 + 2 * 5, "{:?}", a.keys());
    for (name, bytes) in &a {
        assert!(b[name] == *bytes, "{name} differs");
    }
}

#[test]
fn tables_of_different_languages_are_laid_apart() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder.path().join("one"), &steps(Truth::Falling));
    let mut other = sizes(Truth::Rising);
    (other.language, other.language_hash) = ("hmm: 12 states".into(), "beef".into());
    put(&folder.path().join("two"), &other);
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    assert_eq!(page.matches("<h2>").count(), 2);
    assert!(!page.contains("40.4 (smallest)"), "the paper's PCFG is not beside an HMM");
    assert!(page.contains("LSTMs of 10 to 135 M"));
    assert!(folder.path().join("figures/language2-accuracy-fisher-trace.png").exists());
    assert!(folder.path().join("figures/language1-size.svg").exists());
    let rows = json_rows(folder.path(), "correlations.json");
    assert!(rows.iter().any(|r| r["language_hash"] == "beef" && r["n_models"] == 9));
}

#[test]
fn traces_of_different_parametrisations_and_repeated_runs_are_not_put_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = steps(Truth::Falling);
    one.rows.iter_mut().filter(|r| r.seed == 5).for_each(|r| r.parametrisation = "as trained".into());
    put(&folder.path().join("one"), &one);
    // The same runs in a second sweep are the same models.
    let mut again = steps(Truth::Falling);
    again.name = "steps again".into();
    again.rows.retain(|r| r.seed < 2);
    put(&folder.path().join("two"), &again);
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    assert!(page.contains("5 models whose curvature is over another parametrisation"), "{}", said(&page, "b"));
    let rows = json_rows(folder.path(), "correlations.json");
    let counts = |predictor: &str| {
        let row = rows.iter().find(|r| r["predictor"] == predictor && r["models"] == "all").unwrap();
        (row["n_models"].as_u64().unwrap(), row["n_runs"].as_u64().unwrap(), row["left_out"].as_u64().unwrap())
    };
    assert_eq!(counts("fisher_trace"), (25, 5, 5));
    assert_eq!(counts("excess_loss"), (30, 6, 0));
}

/// Scores that rise where models are flatter, of models that a sweep did not train.
#[test]
fn covariates_are_correlated_with_all_that_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut given = steps(Truth::None);
    for row in &mut given.rows {
        let trace = row.curvature.as_ref().unwrap().fisher_trace;
        row.covariates.insert("score".into(), json!(100.0 - trace));
        if row.step > 250 {
            row.covariates.insert("of some".into(), json!(row.step));
        }
        // Checkpoints of one training are drawn together, whatever folders they lie in.
        row.drawn_with = Some(row.run.clone());
        row.run = format!("{} {}", row.run, row.step);
    }
    put(folder.path(), &given);
    report::write(folder.path(), None).unwrap();
    let rows = json_rows(folder.path(), "correlations.json");
    let of = |covariate: &str, predictor: &str, given: Value| -> Value {
        let fits = |r: &&Value| {
            r["covariate"] == covariate
                && r["predictor"] == predictor
                && r["coefficient"] == "spearman"
                && r["models"] == "all"
                && r["given"] == given
        };
        rows.iter().find(fits).unwrap_or_else(|| panic!("{covariate}, {predictor}, {given}")).clone()
    };
    let score = of("score", "fisher_trace", Value::Null);
    assert!((score["value"].as_f64().unwrap() + 1.0).abs() < 1e-12, "{score}");
    assert_eq!((&score["n_models"], &score["n_runs"], &score["task"]), (&json!(30), &json!(6), &Value::Null));
    assert!(of("score", "fisher_trace", json!("excess_loss"))["value"].as_f64().unwrap() < -0.9);
    assert_eq!(of("of some", "accuracy_b", Value::Null)["n_models"], 24);
    assert!(of("of some", "excess_loss", Value::Null)["high"].as_f64().unwrap() < -0.999);
    assert!(rows.iter().all(|r| r["covariate"].is_null() != r["task"].is_null()));
    assert!(rows.iter().any(|r| r["task"] == "b" && r["n_runs"] == 6));
    let page = read(folder.path().join("report.html"));
    assert!(page.contains("<b>score</b>: higher in flatter models. Over 30 models of 6 runs"), "{page}");
    let models = json_rows(folder.path(), "models.json");
    assert_eq!(models[0]["covariate.score"], given.rows[0].covariates["score"]);
    assert!(models[0].get("covariate.of some").is_none_or(Value::is_null));
    for name in ["covariates", "covariates-fisher-trace", "covariates-hessian-trace", "covariates-excess-loss"] {
        assert!(folder.path().join(format!("figures/{name}.svg")).exists(), "{name}");
    }
}

#[test]
fn what_is_no_table_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &Path| {
        let error = report::write(folder, None).unwrap_err();
        assert!(matches!(error, report::ReportError::Table { .. } | report::ReportError::Empty(_)), "{error:?}");
        error.to_string()
    };
    let none = error(folder.path());
    assert!(none.contains("metrics.jsonl") && none.contains("table.json"), "{none}");
    let inner = folder.path().join("size");
    put(&inner, &sizes(Truth::None));
    let text = read(inner.join("table.json"));
    std::fs::write(inner.join("table.json"), &text[..text.len() / 2]).unwrap();
    let damaged = error(folder.path());
    assert!(damaged.contains("size/table.json") && damaged.contains("line "), "{damaged}");
    put(&inner, &Table { format: 99, ..sizes(Truth::None) });
    let format = error(folder.path());
    assert!(format.contains("size/table.json") && format.contains("format 99"), "{format}");
    assert!(!folder.path().join("report.html").exists());
}

#[test]
fn a_table_with_next_to_nothing_in_it_makes_a_page() {
    for rows in [Vec::new(), vec![lookup()], steps(Truth::Falling).rows[..1].to_vec()] {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), &table("small", "algorithm", rows));
        let page = read(report::write_sweeps(folder.path(), None).unwrap());
        assert!(said(&page, "b").contains("not decided by these models"), "{}", said(&page, "b"));
        assert!(!page.contains("NaN"));
    }
}

/// A test of task b or c over the Fisher trace.
fn hypothesis(task: &str, test: Test) -> Hypothesis {
    let given = if test == Test::Slope { vec!["excess_loss".to_string()] } else { vec![] };
    Hypothesis {
        outcome: "accuracy".into(),
        task: Some(task.into()),
        log: false,
        measure: Some("fisher_trace".into()),
        test,
        between: None,
        given,
        within: vec![],
        decide: Decide::Effect,
        smallest_effect: 0.01,
    }
}

fn registered(mut table: Table, differs: &[&str]) -> Table {
    let equivalent = Hypothesis { decide: Decide::Equivalence, smallest_effect: 0.2, ..hypothesis("b", Test::Slope) };
    table.registration = Some(Registration {
        file: "plans/steps.toml".into(),
        plan_hash: "beef".into(),
        plan: PlanFile {
            question: "Is it <flat>?".into(),
            sweep_hash: "f00d".into(),
            seeds: Seeds::Range(SeedRange { from: 101, count: 6 }),
            exclude: "none".into(),
            saturated: false,
            primary: vec![hypothesis("b", Test::Slope), hypothesis("c", Test::Slope)],
            secondary: vec![hypothesis("b", Test::Spearman), equivalent],
        },
        differs: differs.iter().map(|d| d.to_string()).collect(),
    });
    table
}

/// Its page, its effects and its correlations.
fn reported(table: &Table) -> (String, Vec<Value>, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), table);
    let page = read(report::write_sweeps(folder.path(), None).unwrap());
    (page, json_rows(folder.path(), "effects.json"), json_rows(folder.path(), "correlations.json"))
}

#[test]
fn what_a_plan_named_is_registered_and_all_else_exploratory() {
    let (page, effects, correlations) = reported(&registered(steps(Truth::Falling), &[]));
    assert!(
        page.contains("Is it &lt;flat&gt;?") && page.contains("registered by plans/steps.toml (hash beef)"),
        "{page}"
    );
    let planned: Vec<&Value> = effects.iter().filter(|e| e["status"] == "registered").collect();
    assert_eq!(planned.len(), 3);
    let slope = planned[0];
    assert_eq!((&slope["task"], &slope["primary"], &slope["test"]), (&json!("b"), &json!(true), &json!("slope")));
    assert_eq!((&slope["n_models"], &slope["n_runs"], &slope["n_strata"]), (&json!(30), &json!(6), &json!(1)));
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap_or_else(|| panic!("`{key}` of {row}"));
    // 0.06 for each e-fold.
    let (value, low, high) = (number(slope, "value"), number(slope, "low"), number(slope, "high"));
    assert!((value + 0.06 * 2f64.ln()).abs() < 0.006 && low < value && value < high && high < 0.0, "{slope}");
    assert!(number(slope, "p_holm") >= number(slope, "p") && number(slope, "power") > 0.3, "{slope}");
    assert!(number(slope, "detectable") < 0.02, "{slope}");
    let equivalent = planned[2];
    assert!(number(equivalent, "p_equivalent") < 0.05 && equivalent["primary"] == false, "{equivalent}");
    assert!(equivalent["p_holm"].is_null(), "Holm is over the primary tests");
    let others = || effects.iter().filter(|e| e["status"] == "exploratory");
    assert!(others().count() > 5 && others().all(|e| e["reason"] == "not a test of a plan"));
    assert!(others().all(|e| !(e["task"] == "b" && e["measure"] == "fisher_trace" && e["test"] == "slope")));
    let named: Vec<&Value> = correlations.iter().filter(|c| c["status"] == "registered").collect();
    assert_eq!(named.len(), 1, "{named:?}");
    let facts = [&named[0]["task"], &named[0]["predictor"], &named[0]["coefficient"], &named[0]["models"]];
    assert_eq!(facts, [&json!("b"), &json!("fisher_trace"), &json!("spearman"), &json!("all")]);
    let saturated = correlations.iter().find(|c| c["models"] == "saturated" && c["coefficient"] == "spearman").unwrap();
    assert_eq!(saturated["reason"], "over other models than the plan's");
}

#[test]
fn a_plan_that_the_sweep_does_not_keep_registers_nothing() {
    let why = "the plan has the seeds [101], and the sweep [0]";
    let (page, effects, correlations) = reported(&registered(steps(Truth::None), &[why]));
    assert!(page.contains("exploratory, in spite of plans/steps.toml"), "{page}");
    assert!(effects.iter().all(|e| e["status"] == "exploratory"));
    assert_eq!(effects[0]["reason"], why, "a planned test says why it is not");
    assert!(correlations.iter().all(|c| c["status"] == "exploratory"));
    assert_eq!(correlations[0]["reason"], format!("steps mini: {why}"));
    let (_, effects, correlations) = reported(&steps(Truth::None));
    assert!(effects.iter().all(|e| e["status"] == "exploratory"));
    assert_eq!(correlations[0]["reason"], "steps mini: the sweep names no plan");
}

#[test]
fn differences_are_paired_by_seed_and_an_exact_null_is_equivalent() {
    let mut table = algorithms(Truth::None);
    let of = |group: &str| table.rows.iter().filter(|r| r.label == group).map(|r| r.downstream[0].accuracy).collect();
    let (plain, adversarial): (Vec<f64>, Vec<f64>) = (of("plain"), of("adversarial"));
    // The same models in another gauge.
    for row in table.rows.clone().into_iter().filter(|r| r.label == "plain") {
        let (run, drawn_with) = (format!("{}-gauge", row.run), Some(row.run.clone()));
        table.rows.push(Row { run, drawn_with, label: "plain, tables 0.25".into(), ..row });
    }
    let mut table = registered(table, &[]);
    let plan = &mut table.registration.as_mut().unwrap().plan;
    let between = |a: &str, b: &str, decide| Hypothesis {
        test: Test::Difference,
        measure: None,
        given: vec![],
        between: Some([a.into(), b.into()]),
        decide,
        ..hypothesis("b", Test::Slope)
    };
    plan.primary = vec![
        between("plain", "adversarial", Decide::Effect),
        between("plain, tables 0.25", "plain", Decide::Equivalence),
    ];
    plan.secondary = vec![];
    let (_, effects, _) = reported(&table);
    let mean = plain.iter().zip(&adversarial).map(|(a, b)| a - b).sum::<f64>() / 3.0;
    assert!(
        (effects[0]["value"].as_f64().unwrap() - mean).abs() < 1e-12 && effects[0]["n_runs"] == 3,
        "{}",
        effects[0]
    );
    assert_eq!((&effects[1]["value"], &effects[1]["p_equivalent"]), (&json!(0.0), &json!(0.0)), "{}", effects[1]);
    assert_eq!(effects[0]["between"], "plain | adversarial");
}
