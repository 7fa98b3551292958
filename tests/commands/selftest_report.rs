//! `lowland selftest --report` as whoever has an adapter sees it: files, fields, what a failure and a crash leave.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::{Folder, text};
use crate::schema::recorded_schema;

/// `lowland selftest --report OUT` and more.
fn command(f: &Folder, out: &str, arguments: &[&str]) -> Command {
    f.command(&[&["selftest", "--report", out], arguments].concat())
}

fn run(f: &Folder, out: &str, arguments: &[&str]) -> (Output, String) {
    let output = command(f, out, arguments).output().unwrap();
    let error = text(&output.stderr);
    (output, error)
}

fn json(f: &Folder, out: &str) -> Value {
    f.value(&format!("{out}/report.json"))
}

fn statuses(report: &Value) -> Vec<(String, String)> {
    let plain = |v: &Value| v.as_str().unwrap().to_string();
    report["parts"].as_array().unwrap().iter().map(|p| (plain(&p["name"]), plain(&p["status"]))).collect()
}

#[test]
fn the_schema_checked_in_is_the_codes() {
    let now = Folder::empty().json(&["config", "schema", "selftest-report"]);
    let write = "write it anew: lowland config schema selftest-report > docs/schema/selftest-report.schema.json";
    assert_eq!(recorded_schema("selftest-report"), now, "{write}");
}

#[test]
fn a_report_has_every_part_in_both_files() {
    let f = Folder::empty();
    let start = Instant::now();
    let (output, error) = run(&f, "deep/out", &["--budget", "24", "--shape", "16/1/8/32", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{error}");
    // A part may go on for one more case or operation; other work on the machine is allowed for.
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    let report = json(&f, "deep/out");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, report);
    let schema = recorded_schema("selftest-report");
    for key in schema["required"].as_array().unwrap() {
        assert!(report.get(key.as_str().unwrap()).is_some(), "{key}");
    }
    let names: Vec<String> = statuses(&report).into_iter().map(|p| p.0).collect();
    assert_eq!(names, ["doctor", "step", "products", "mixed", "published", "comparison", "rates"]);
    for (name, status) in statuses(&report) {
        let may_lack = ["mixed", "published"].contains(&name.as_str()) && status == "left_out";
        assert!(status == "done" || may_lack, "{name} is {status}: {error}");
    }
    // A model of 135 million parameters has no room in 24 s, which is said with what has.
    let message = report["parts"][4]["message"].as_str().unwrap();
    assert!(message.contains("smollm2-135m") && message.contains("--budget"), "{message}");
    assert_eq!(
        (&report["finished"], &report["passed"], &report["running"]),
        (&true.into(), &true.into(), &Value::Null)
    );
    assert_eq!(report["doctor"]["kernel"]["passed"], true);
    let number = |path: &str| report.pointer(path).unwrap().as_f64().unwrap_or_else(|| panic!("{path}"));
    assert!(number("/comparison/ran") > 0.0 && number("/comparison/wrong") == 0.0);
    // What there was no time for is said.
    let whole = number("/comparison/cases") * number("/comparison/variants");
    let left: Vec<&str> = report["left_out"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert_eq!(number("/comparison/ran") < whole, left.iter().any(|l| l.contains("comparisons")), "{left:?}");
    let rates = report["rates"].as_array().unwrap();
    assert!(rates.iter().any(|r| r["used"] == true && r["gflops"].as_f64().unwrap() > 0.0), "{rates:?}");
    assert!(number("/step/step_seconds") > 0.0 && number("/step/step_in_gradients") > 0.0);
    assert_eq!(report["step"]["shape"], "16/1/8/32");
    let ratio = number("/products/first_seconds") / number("/products/gradient_seconds");
    assert!(
        (number("/products/first_in_gradients") - ratio).abs() < 1e-9 && number("/products/further_in_gradients") > 0.0
    );
    if report["mixed"].is_null() {
        let message = report["parts"][3]["message"].as_str().unwrap();
        assert!(message.contains("mixed precision"), "{message}");
    }
    let page = f.read("deep/out/report.md");
    let name = report["doctor"]["chosen"]["name"].as_str().unwrap();
    assert!(page.starts_with(&format!("### {name}")), "{page}");
    for text in [
        "| linear |",
        "chosen / best",
        "comparisons with f64",
        "Hessian-vector products",
        "every part is right",
        "16/1/8/32",
    ] {
        assert!(page.contains(text), "{text} is not in\n{page}");
    }
    // A table's rows have as many cells as its head.
    let mut wide = None;
    for line in page.lines() {
        let cells = line.starts_with('|').then(|| line.replace("\\|", "").matches('|').count());
        if let (Some(cells), Some(wide)) = (cells, wide) {
            assert_eq!(cells, wide, "{line}");
        }
        wide = cells;
    }
    assert_eq!(std::fs::read_dir(f.path("deep/out")).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn a_part_that_fails_is_recorded_and_the_others_run() {
    let f = Folder::empty();
    // Five columns have no two heads.
    let (output, error) = run(&f, "out", &["--budget", "6", "--shape", "5/1/8/8"]);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let report = json(&f, "out");
    for (name, status) in statuses(&report) {
        let expected = if ["step", "products"].contains(&name.as_str()) { "failed" } else { "done" };
        assert!(status == expected || ["mixed", "published"].contains(&name.as_str()), "{name} is {status}");
    }
    assert!(error.contains("error: step: ") && report["parts"][1]["message"].as_str().unwrap().contains("hidden_size"));
    assert_eq!((&report["passed"], &report["finished"]), (&false.into(), &true.into()));
    assert!(f.read("out/report.md").contains("SOMETHING IS WRONG"));
}

#[test]
fn a_crash_leaves_what_was_known_and_the_name_of_what_ran() {
    let f = Folder::empty();
    let mut child = command(&f, "out", &["--budget", "8", "--shape", "16/1/8/8"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // As a driver's segmentation fault would, in the middle of the rates.
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < Duration::from_secs(120), "the rates never began");
        let text = std::fs::read(f.path("out/report.json")).unwrap_or_default();
        let running = serde_json::from_slice::<Value>(&text).map(|r| r["running"].to_string()).unwrap_or_default();
        if running.starts_with("\"rates: ") {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let report = json(&f, "out");
    assert_eq!((&report["finished"], &report["passed"]), (&false.into(), &Value::Null));
    assert!(report["running"].as_str().unwrap().starts_with("rates: "), "{}", report["running"]);
    assert_eq!(report["parts"][6]["status"], "running");
    assert!(report["doctor"].is_object() && report["comparison"]["ran"].as_u64().unwrap() > 0);
    let page = f.read("out/report.md");
    assert!(page.contains("NOT FINISHED") && page.contains("rates"), "{page}");
}

#[test]
fn no_adapter_no_folder_and_no_shape_are_said() {
    let f = Folder::empty();
    let (output, error) = run(&f, "none", &["--adapter", "name:no such adapter"]);
    assert_eq!(output.status.code(), Some(6), "{error}");
    let report = json(&f, "none");
    assert!(statuses(&report).iter().all(|(_, status)| status == "failed"), "{report}");
    assert_eq!(report["passed"], false);
    f.write("file", "");
    let (output, error) = run(&f, "file", &[]);
    assert!(output.status.code() == Some(5) && error.contains("file"), "{error}");
    let (output, error) = run(&f, "out", &["--shape", "16/1"]);
    assert!(output.status.code() == Some(2) && error.contains("width/layers/tokens/sentences"), "{error}");
}
