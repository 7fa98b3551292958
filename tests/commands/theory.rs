//! `lowland theory` as scripts see it: fields as their schema says, files, refusals, an interrupt.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::{Folder, number, text};
use crate::schema::{conforms, recorded_schema};

/// Few draws and steps.
const QUICK: [&str; 8] = ["--length", "4", "--draws", "200", "--restarts", "3", "--noise-steps", "2000"];

fn as_schema_says(value: &Value, of: &str) {
    let schema = recorded_schema(of);
    conforms(value, &schema, &schema, of);
}

#[test]
fn dyck_prints_what_is_promised_and_writes_its_page() {
    let f = Folder::empty();
    let made = f.json(&[&["theory", "dyck", "--neurons", "24", "--json", "--out", "out"], &QUICK[..]].concat());
    as_schema_says(&made, "theory-dyck");
    let bound = 2.0 * 3f64.sqrt();
    assert!((number(&made, "flattest_trace") - bound).abs() < 1e-12);
    assert!(number(&made, "random_trace") > number(&made, "random_trace_balanced"));
    assert!(number(&made, "random_trace_balanced") > bound);
    assert!((number(&made, "regularised_trace") / bound - 1.0).abs() < 0.01);
    assert_eq!((&made["interrupted"], &made["reached"]), (&Value::Bool(false), &Value::Bool(true)));
    let successes = made["head_success"].as_array().unwrap();
    assert_eq!(successes.len(), 10);
    for (i, s) in successes.iter().enumerate() {
        assert_eq!(s["examples"], i as u64 + 1);
        let (low, p, high) = (number(s, "low"), number(s, "probability"), number(s, "high"));
        assert!(low <= p && p <= high && high <= 1.0, "{s}");
    }
    assert_eq!(f.value("out/theory.json"), made);
    let page = f.read("out/report.html");
    assert_eq!(page.matches("<svg").count(), 3);
    for name in ["head-success", "downstream-loss", "label-noise"] {
        assert!(f.read(&format!("out/figures/{name}.svg")).starts_with("<svg"));
        assert!(std::fs::read(f.path("out/figures").join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"));
    }
}

#[test]
fn fewer_neurons_than_the_rank_have_no_random_solution() {
    let f = Folder::empty();
    let made = f.json(&[&["theory", "dyck", "--neurons", "8", "--json"], &QUICK[..]].concat());
    as_schema_says(&made, "theory-dyck");
    assert!(made["random_trace"].is_null() && made["random_trace_balanced"].is_null());
    assert!(made["notes"][0].as_str().unwrap().contains("rank 16"), "{}", made["notes"]);
}

#[test]
fn brackets_print_what_their_schema_says() {
    let f = Folder::empty();
    let arguments = ["theory", "brackets", "--length", "4", "--neurons", "8", "--starts", "2", "--time", "1", "--json"];
    let made = f.json(&[&arguments[..], &["--out", "out"]].concat());
    as_schema_says(&made, "theory-brackets");
    assert_eq!(made["courses"].as_array().unwrap().len(), 4);
    assert!(number(&made, "bound") <= number(&made, "two_neuron_trace"));
    assert!(f.read("out/figures/courses.svg").starts_with("<svg"));
}

#[test]
fn lengths_that_cannot_be_end_with_2() {
    let f = Folder::empty();
    for (arguments, said) in [
        (["theory", "dyck", "--length", "5"], "must be even"),
        (["theory", "dyck", "--length", "2"], "from 4 brackets on"),
        (["theory", "dyck", "--length", "14"], "up to 12 brackets"),
        (["theory", "dyck", "--neurons", "1"], "2 to 4096"),
        (["theory", "brackets", "--length", "7"], "must be even"),
        (["theory", "brackets", "--kappa", "-1"], "0 to 100"),
        (["theory", "brackets", "--time", "0"], "--time"),
    ] {
        let arguments = [&arguments[..3], &[arguments[3]]].concat();
        let joined = format!("{}={}", arguments[2], arguments[3]);
        let output = f.lowland(&[arguments[0], arguments[1], &joined]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty());
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_prints_what_there_is_and_ends_with_130() {
    let f = Folder::empty();
    let arguments = ["theory", "dyck", "--neurons", "24", "--length", "4", "--noise-steps", "100000000000", "--json"];
    let child = f.start(&mut f.command(&arguments));
    std::thread::sleep(Duration::from_secs(3));
    crate::folder::signal(&child, "-INT");
    let sent = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(sent.elapsed() < Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["interrupted"] == true && value["reached"] == false);
    assert!((number(&value, "flattest_trace") - 2.0 * 3f64.sqrt()).abs() < 1e-12);
    as_schema_says(&value, "theory-dyck");
}
