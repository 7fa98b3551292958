//! `lowland theory`: the paper's theorem on the flattest model, by enumeration on the host. No adapter is needed.

use std::path::Path;

use serde::Serialize;

use super::arguments::{Theory, TheoryBrackets, TheoryCommand, TheoryDyck};
use super::failure::Failure;
use super::print;
use super::progress::Gauge;
use crate::model::write_synced;
use crate::report;
use crate::theory::{BracketsOptions, BracketsReport, DyckOptions, DyckReport, HeadSuccess, TheoryError};

pub fn run(arguments: &Theory) -> Result<(), Failure> {
    match &arguments.command {
        TheoryCommand::Dyck(a) => dyck(a),
        TheoryCommand::Brackets(a) => brackets(a),
    }
}

impl From<TheoryError> for Failure {
    fn from(error: TheoryError) -> Failure {
        let flag = match &error {
            TheoryError::Neurons { .. } => "--neurons: ",
            TheoryError::Language(_) => "--kappa: ",
            _ => "--length: ",
        };
        Failure::usage(format!("{flag}{error}"))
    }
}

fn dyck(a: &TheoryDyck) -> Result<(), Failure> {
    let options = DyckOptions {
        length: a.length,
        neurons: a.neurons,
        seed: a.seed,
        restarts: a.restarts as usize,
        draws: a.draws as usize,
        noise_steps: a.noise_steps,
    };
    let made = gauged(|tell| DyckReport::make(&options, tell))?;
    let page = |folder: &Path| report::write_dyck(folder, &made);
    finish(&made, &made.notes, made.interrupted, a.json.json, a.out.as_deref(), page, || text_of_dyck(&made))
}

fn brackets(a: &TheoryBrackets) -> Result<(), Failure> {
    if !(a.time > 0.0 && a.time <= 1e6) {
        return Err(Failure::usage(format!("--time: {} must lie above 0 and at most at 1e6", a.time)));
    }
    let options = BracketsOptions {
        length: a.length,
        kappa: a.kappa,
        neurons: a.neurons,
        seed: a.seed,
        starts: a.starts as usize,
        time: a.time,
    };
    let made = gauged(|tell| BracketsReport::make(&options, tell))?;
    let page = |folder: &Path| report::write_brackets(folder, &made);
    finish(&made, &made.notes, made.interrupted, a.json.json, a.out.as_deref(), page, || text_of_brackets(&made))
}

/// Work with its progress on standard error.
fn gauged<T>(work: impl FnOnce(crate::theory::Tell<'_>) -> T) -> T {
    let gauge = Gauge::new();
    let made = work(&|what| gauge.phase(what));
    gauge.done();
    made
}

/// Writes what is to be written and prints the rest.
fn finish(
    made: &impl Serialize,
    notes: &[String],
    interrupted: bool,
    json: bool,
    out: Option<&Path>,
    page: impl FnOnce(&Path) -> Result<std::path::PathBuf, report::ReportError>,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if let Some(folder) = out.filter(|_| !interrupted) {
        let page = page(folder)?;
        let path = folder.join("theory.json");
        let bytes = serde_json::to_vec_pretty(made).map_err(|e| Failure::io(&path, &std::io::Error::other(e)))?;
        write_synced(&path, &bytes).map_err(|e| Failure::io(&path, &e))?;
        print::note(&format!("page: {}", page.display()));
    }
    match json {
        true => print::json(made)?,
        false => {
            notes.iter().for_each(|note| print::note(note));
            print::line(&text())?;
        }
    }
    if interrupted { Err(Failure::stopped("what was known until then was printed")) } else { Ok(()) }
}

fn row(name: &str, value: String) -> (String, String) {
    (name.into(), value)
}

fn text_of_dyck(r: &DyckReport) -> String {
    let short = print::short;
    let mut rows = vec![
        row("bound 2 sqrt(T-1)", short(r.bound)),
        row("flattest", format!("trace {}, loss {:.1e}", short(r.flattest_trace), r.flattest_loss)),
    ];
    if let (Some(drawn), Some(together), Some(balanced)) =
        (r.random_trace, r.random_trace_together, r.random_trace_balanced)
    {
        rows.push(row(
            "random features",
            format!(
                "trace {} as drawn, {} at one common scale, {} with each neuron balanced (medians of {})",
                short(drawn),
                short(together),
                short(balanced),
                r.random.len()
            ),
        ));
    }
    for at in &r.regularised {
        let m = at.best.measured;
        let near = at.restarts.iter().filter(|end| end.objective < 1.01 * at.least_objective).count();
        rows.push(row(
            &format!("trained, μ {}", at.weight),
            format!(
                "trace {}, loss {:.2e}, alignment {:.4}; {near} of {} starts at the least L + μ Tr",
                short(m.trace),
                m.loss,
                m.alignment,
                at.restarts.len()
            ),
        ));
    }
    for arm in &r.gradient_descent {
        let m = arm.measured;
        let found = format!("trace {}, loss {:.1e}, alignment {:.3}", short(m.trace), m.loss, m.alignment);
        rows.push(row(&format!("descent from {}", arm.start), found));
    }
    for arm in &r.label_noise {
        if let (Some(first), Some(last)) = (arm.course.first(), arm.course.last()) {
            let (a, b) = (first.measured, last.measured);
            rows.push(row(
                &format!("SGD, label noise {}", arm.sgd.label_noise),
                format!(
                    "trace {} to {}, alignment {:.2} to {:.2} in {} steps; late loss {:.2e}, expected {:.2e}",
                    short(a.trace),
                    short(b.trace),
                    a.alignment,
                    b.alignment,
                    last.step,
                    arm.late_loss,
                    arm.expected_late_loss
                ),
            ));
        }
    }
    for (name, all) in [("masked sentences", &r.head_success), ("free brackets", &r.head_success_free)] {
        let one = |s: &HeadSuccess| {
            let value = format!("{:.4} ({:.4} to {:.4}), 1 - 2^-n = {:.4}", s.probability, s.low, s.high, s.expected);
            row(&format!("{name}, n = {}", s.examples), value)
        };
        rows.extend(all.iter().map(one));
    }
    if !r.head_success.is_empty() {
        rows.push(row("intervals", r.head_interval.clone()));
    }
    print::table(&rows)
}

/// A solution of soft brackets.
fn solved(trace: f64, loss: f64, alignment: f64, accuracy: Option<f64>) -> String {
    let accuracy = accuracy.map_or(String::new(), |a| format!(", accuracy {:.1} %", 100.0 * a));
    format!("trace {}, excess {loss:.1e}, alignment {alignment:.4}{accuracy}", print::short(trace))
}

fn text_of_brackets(r: &BracketsReport) -> String {
    let short = print::short;
    let mut rows = vec![
        row("entropy floor", short(r.entropy_floor)),
        row("bound on Tr H", short(r.bound)),
        row("two neurons", solved(r.two_neuron_trace, 0.0, 1.0, r.two_neuron_accuracy)),
    ];
    if let (Some(trace), Some(loss), Some(alignment)) =
        (r.regularised_trace, r.regularised_loss, r.regularised_alignment)
    {
        rows.push(row("trained, μ 0.001", solved(trace, loss, alignment, r.regularised_accuracy)));
    }
    for course in &r.courses {
        if let (Some(a), Some(b)) = (course.marks.first(), course.marks.last()) {
            rows.push(row(
                &format!("SGD {}, batch {}", course.rate, course.batch),
                format!(
                    "t {:.3}: trace {} to {} ± {}, alignment {:.3} to {:.3} ± {:.3}, share of S {:.3} to {:.3} ± \
                     {:.3}, accuracy {:.1} to {:.1} ± {:.1} %, excess {:.4} (expected {:.4})",
                    b.time,
                    short(a.trace),
                    short(b.trace),
                    short(b.trace_standard_error),
                    a.alignment,
                    b.alignment,
                    b.alignment_standard_error,
                    a.share_of_sum,
                    b.share_of_sum,
                    b.share_of_sum_standard_error,
                    100.0 * a.accuracy,
                    100.0 * b.accuracy,
                    100.0 * b.accuracy_standard_error,
                    b.excess_loss,
                    b.expected_excess_loss
                ),
            ));
        }
    }
    print::table(&rows)
}
