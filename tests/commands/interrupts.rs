//! What an interrupt leaves of a command: it ends soon, with the right code and one JSON object.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::{Folder, number, signal, text};

/// Twice what is promised, for a machine that has other things to do.
const BOUND: Duration = Duration::from_secs(10);

/// A folder with a config and a model after a few steps.
fn made() -> Folder {
    let f = Folder::empty();
    let config = include_str!("../../configs/quickstart.toml");
    f.write("run.toml", config.split("[measure]").next().unwrap());
    f.train(&["output=made", "train.steps=2"], 0);
    f
}

/// Ends a command by a signal after some time: its output, or `None` where it was over before.
fn stop(f: &Folder, arguments: &[&str], name: &str, after: Duration) -> Option<Output> {
    let mut child = f.start(&mut f.command(arguments));
    std::thread::sleep(after);
    if child.try_wait().unwrap().is_some() {
        return None;
    }
    signal(&child, name);
    let sent = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(sent.elapsed() < BOUND, "{arguments:?} took {:?}", sent.elapsed());
    Some(output)
}

/// The object of a command that is interrupted once it has something to give.
fn partial_of(f: &Folder, arguments: &[&str], signal: &str, code: i32, field: &str) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    for seconds in [1, 2, 4, 8, 16, 32, 64] {
        let output = stop(f, &arguments, signal, Duration::from_secs(seconds)).expect("longer than that");
        let error = text(&output.stderr);
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

#[test]
fn measurements_print_what_they_have_and_end_with_130() {
    let f = made();
    let partial = |more: &[&str], signal: &str, field: &str| {
        let arguments = [&["measure", more[0], "made/model", "run.toml"], &more[1..]].concat();
        partial_of(&f, &arguments, signal, 130, field)
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
    let llc = ["llc", "--nbeta", "100", "--gamma", "1e4", "--count", "64", "--steps", "1000000", "--burn-in", "10"];
    let llc = partial(&[&llc[..], &["--no-quadratic", "--directions", "2"]].concat(), "-INT", "llc");
    assert!(llc["reliable"] == false && number(&llc, "steps") >= 4.0 && number(&llc, "steps") < 1e6);
    let sharpness = partial(&["sharpness", "--count", "100000"], "-TERM", "batch_sharpness_values");
    assert_eq!(sharpness["batch_sharpness_values"].as_array().unwrap().len() as f64, number(&sharpness, "batches"));
}

#[test]
fn eval_probes_and_the_selftest_print_what_they_have() {
    let f = made();
    let eval = partial_of(&f, &["eval", "made/model", "run.toml", "--count", "400000"], "-TERM", 130, "loss");
    assert!(number(&eval, "count") < 4e5 && number(&eval, "standard_error") > 0.0);
    let task = ["made/model", "run.toml", "--task", "B", "--train", "100", "--test", "50", "--seeds", "500"];
    let probe = partial_of(&f, &[&["probe"], &task[..]].concat(), "-TERM", 130, "accuracy");
    assert_eq!(probe["per_seed"].as_array().unwrap().len() as f64, number(&probe, "seeds"));
    assert!(number(&probe, "seeds") < 500.0);
    let tuned = partial_of(&f, &[&["finetune"], &task[..]].concat(), "-INT", 75, "accuracy");
    assert!(number(&tuned, "seeds") < 500.0);
    let cases = partial_of(&f, &["selftest"], "-TERM", 130, "cases");
    assert!(cases["passed"] == true && !cases["cases"].as_array().unwrap().is_empty());
}

#[test]
fn training_keeps_a_checkpoint_whenever_the_signal_comes() {
    let f = made();
    let train = ["train", "run.toml", "output=stopped", "train.steps=1000000"];
    let mut steps = Vec::new();
    // The last ones come later and later, until a busy machine too has taken a step.
    for millis in [200, 700, 2500, 10_000, 40_000] {
        if steps.last().is_some_and(|step| *step > 0) {
            break;
        }
        let Some(output) = stop(&f, &train, "-TERM", Duration::from_millis(millis)) else { panic!("it ends") };
        let error = text(&output.stderr);
        // Before the handler stands a signal ends the process by itself.
        assert!(matches!(output.status.code(), Some(75) | None), "{error}");
        let newest = std::fs::read_dir(f.path("stopped/checkpoints")).into_iter().flatten().flatten();
        let at = |e: std::fs::DirEntry| e.file_name().to_str()?.strip_prefix("step-")?.parse::<u64>().ok();
        steps.push(newest.filter_map(at).max().unwrap_or(0));
    }
    assert!(steps.is_sorted() && steps.last() > Some(&0), "{steps:?}");
}
