//! Panels of what `[measure]` found, and the table of a linear probe.

use serde_json::Value;

use super::axis::wide;
use super::figure::{Axis, Figure, Line};
use super::run::Run;
use crate::model::Per;
use crate::train::Measurement;

type Pick = fn(&Measurement) -> Option<(f64, Option<f64>)>;

/// A line of what a measurement has, with its errors.
fn line(run: &Run, name: &str, pick: Pick) -> Option<Line> {
    let found: Vec<(f64, f64, f64)> = run
        .curvature
        .iter()
        .filter_map(|m| pick(m).map(|(value, error)| (m.step as f64, value, error.unwrap_or(0.0))))
        .collect();
    let points: Vec<(f64, f64)> = found.iter().map(|(x, y, _)| (*x, *y)).collect();
    let errors = found.iter().map(|(_, _, e)| *e).collect();
    (!points.is_empty()).then(|| Line { errors, marks: true, ..Line::new(name, points) })
}

/// Logarithmic where values of one sign run over more than a factor of 20.
fn axis(lines: &[Line]) -> Axis {
    if wide(lines.iter().flat_map(|l| l.points.iter().map(|p| p.1))) { Axis::Log } else { Axis::Linear }
}

fn figure(title: &str, unit: &str, lines: Vec<Option<Line>>, level: Option<(String, f64)>) -> Option<Figure> {
    let lines: Vec<Line> = lines.into_iter().flatten().collect();
    if lines.is_empty() {
        return None;
    }
    let axis = if level.is_some() { Axis::Linear } else { axis(&lines) };
    let y = if axis == Axis::Log { format!("{unit}, log scale") } else { unit.to_string() };
    Some(Figure { title: title.into(), x: "step".into(), y, axis, lines, level })
}

/// Trace, largest eigenvalue, noise and Bartlett's ratios against steps; none where nothing was measured.
pub fn figures(run: &Run) -> String {
    let traces = vec![
        line(run, "Fisher, Tr F", |m| Some((m.fisher_trace, Some(m.fisher_trace_standard_error)))),
        line(run, "between groups of words", |m| Some((m.trace_between?, m.trace_between_standard_error))),
        line(run, "within groups", |m| Some((m.trace_within?, m.trace_within_standard_error))),
        line(run, "Hessian, Tr H", |m| Some((m.hessian_trace?, m.hessian_trace_standard_error))),
    ];
    let top = vec![line(run, "Hessian", |m| Some((m.largest_eigenvalue?, m.largest_eigenvalue_standard_error)))];
    let noise = vec![line(run, "Tr Σ", |m| Some((m.noise_trace?, m.noise_trace_standard_error)))];
    let flatness = vec![
        line(run, "scale-free trace", |m| Some((m.scale_free_trace?, m.scale_free_trace_standard_error))),
        line(run, "relative flatness", |m| Some((m.relative_flatness?, m.relative_flatness_standard_error))),
    ];
    let rise = vec![line(run, "at the last size", |m| m.last_rise().map(|(rise, error)| (rise, Some(error))))];
    let bartlett = vec![
        line(run, "Tr Σ / Tr F", |m| {
            let b = m.bartlett.as_ref()?;
            Some((b.noise_fisher?, b.noise_fisher_standard_error))
        }),
        line(run, "Tr H / Tr F", |m| {
            let b = m.bartlett.as_ref()?;
            Some((b.hessian_fisher?, b.hessian_fisher_standard_error))
        }),
    ];
    [
        figure("Trace", "nats / weight²", traces, None),
        figure("Largest eigenvalue", "nats / weight²", top, None),
        figure("Gradient noise", "nats² / weight²", noise, None),
        figure("Flatness without scale", "nats", flatness, None),
        figure("Rise under noise on the weights", "nats", rise, None),
        figure("Bartlett's ratios", "ratio", bartlett, Some(("where the model is the language".into(), 1.0))),
    ]
    .into_iter()
    .flatten()
    .map(|f| f.svg())
    .collect()
}

/// Words about the panels, where there are any.
pub fn note(run: &Run) -> String {
    let Some(first) = run.curvature.first() else { return String::new() };
    let per_token = first.noise_per == Some(Per::Token);
    let whose = if per_token { "single predicted tokens'" } else { "single sentences'" };
    let times = first.tokens_per_example.filter(|_| !per_token).map_or(String::new(), |tokens| {
        format!(
            ", Σ's {tokens:.2} times that of the others: the gradients are of sentences' summed losses, of so many \
             predicted tokens in the mean, the others of the mean loss for each. The ratios are of like with like"
        )
    });
    format!(
        "<p>Curvature is that of the mean loss over all parameters, on held-out sentences that are the same at every \
     step: F is the Fisher matrix (equal to Gauss-Newton's), H the Hessian, Σ the covariance of {whose} \
     gradients. Where the model is the language, the three have the same trace (Bartlett){times}.</p>\n"
    )
}

fn percent(value: &Value) -> Option<String> {
    value.as_f64().map(|p| format!("{:.1} %", 100.0 * p))
}

/// A probe's accuracy for a card.
pub fn accuracy(run: &Run) -> Option<String> {
    let probe = run.probe.as_ref()?;
    let error = percent(&probe["standard_error"]).map_or(String::new(), |e| format!(" ± {e}"));
    Some(percent(&probe["accuracy"])? + &error)
}

/// The contents of `probe.json`, in rows.
pub fn probe(run: &Run) -> Vec<(String, String)> {
    let Some(probe) = &run.probe else { return Vec::new() };
    let text = |key: &str| probe[key].as_str().map(str::to_string);
    let number = |key: &str| probe[key].as_u64().map(|n| n.to_string());
    let rows = [
        ("task", text("task")),
        ("accuracy", accuracy(run)),
        ("chance", percent(&probe["chance"])),
        ("majority", percent(&probe["majority"])),
        ("Bayes", percent(&probe["bayes"])),
        ("sampling error", percent(&probe["sampling_error"])),
        ("features", text("features")),
        ("features per sentence", number("width")),
        ("sentences to train", number("train")),
        ("sentences to test", number("test")),
        ("seeds", number("seeds")),
        ("method", text("method")),
    ];
    rows.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
}
