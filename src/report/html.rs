//! The page about a run.

use serde_json::Value;

use super::curvature;
use super::figure::{Axis, Figure, Line};
use super::palette;
use super::run::Run;
use crate::train::RunResult;

/// Text safe inside html.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The head of a page up to its style: words, cards, tables and figures of every page, and what is `own`.
pub(super) fn head(title: &str, own: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n\
         <style>{1}{BASE}{own}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
        escape(title),
        palette::css()
    )
}

const BASE: &str = "
body { margin: 0 auto; max-width: 1360px; padding: 32px 24px; background: var(--paper); color: var(--text);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 28px 0 8px; }
p { margin: 4px 0; color: var(--muted); max-width: 80ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(205px, 1fr)); gap: 12px; margin: 20px 0; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: 8px; padding: 12px 16px; }
.card b { display: block; font-size: 19px; font-weight: 600; white-space: nowrap; }
.card span { color: var(--muted); font-size: 13px; }
svg { background: var(--card); border: 1px solid var(--grid); border-radius: 8px; max-width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
td { border-top: 1px solid var(--grid); padding: 4px 12px 4px 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--muted); white-space: nowrap; }
";

const STYLE: &str = "
.figures, .tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px;
                    align-items: start; }
.figures svg { width: 100%; }
";

/// The whole page.
pub fn page(run: &Run) -> String {
    let known = run.evaluations.last().and_then(|e| e.known);
    let status = match &run.result {
        Some(RunResult::Diverged(d)) => format!("Diverged at step {}: {} was not finite.", d.step, d.tensor),
        Some(RunResult::Done(outcome)) => match outcome.stop {
            Some(stop) if stop.reached => format!("Finished at an excess loss of {} or less.", stop.excess),
            Some(stop) => format!("Finished; an excess loss of {} was not reached.", stop.excess),
            None => "Finished.".into(),
        },
        None => "Not finished: the figures show how far it has come.".to_string(),
    };
    format!(
        "{0}<p>{1} Losses are in nats for a {10}. {11} Bars are standard errors.</p>\n{7}{2}\
         <div class=\"figures\">\n{3}{4}{8}</div>\n<div class=\"tables\">\n{9}{5}{6}</div>\n</body>\n</html>\n",
        head(&run.name, STYLE),
        escape(&status),
        cards(run),
        loss_figure(run, known.map(|known| known.floor)).svg(),
        excess_figure(run).map_or(String::new(), |figure| figure.svg()),
        table("Settings", &settings(&run.config)),
        table("Adapter and program", &about(&run.about)),
        curvature::note(run),
        curvature::figures(run),
        match curvature::probe(run) {
            rows if rows.is_empty() => String::new(),
            rows => table("Linear probe", &rows),
        },
        if run.is_causal() { "predicted token, ends of sentences included" } else { "masked word" },
        if known.is_some() || run.evaluations.is_empty() { KNOWN } else { UNKNOWN },
    )
}

const KNOWN: &str = "The entropy floor is the least loss that any model can reach on this language; the excess loss is \
     the mean KL divergence of the exact conditional from the model's, on sentences that training never sees.";
const UNKNOWN: &str = "The held-out loss is on sentences that training never sees; their exact conditionals are not \
     known, so that there is neither an entropy floor nor an excess loss.";

fn cards(run: &Run) -> String {
    let mut cards: Vec<(String, &str)> = Vec::new();
    if let Some(e) = run.evaluations.last() {
        if let Some(known) = e.known {
            cards.push((format!("{:.4} ± {:.4}", known.excess, known.excess_error), "excess loss at the end"));
        }
        let error = e.error.map_or(String::new(), |error| format!(" ± {error:.4}"));
        cards.push((format!("{:.4}{error}", e.loss), "held-out loss at the end"));
        if let Some(known) = e.known {
            cards.push((format!("{:.4}", known.floor), "entropy floor of the same sentences"));
        }
    }
    if let Some(m) = run.curvature.last() {
        let trace = format!("{:.3} ± {:.3}", m.fisher_trace, m.fisher_trace_standard_error);
        cards.push((trace, "Fisher trace of the last measurement"));
    }
    if let Some(accuracy) = curvature::accuracy(run) {
        cards.push((accuracy, "accuracy of a linear probe"));
    }
    if let Some(RunResult::Done(outcome)) = &run.result {
        cards.push((outcome.parameters.to_string(), "parameters"));
        cards.push((outcome.steps.to_string(), "steps"));
        cards.push((format!("{:.0} s", outcome.seconds), "time in the loop"));
    }
    let each = |(value, name): &(String, &str)| {
        format!("<div class=\"card\"><b>{}</b><span>{name}</span></div>\n", escape(value))
    };
    format!("<div class=\"cards\">\n{}</div>\n", cards.iter().map(each).collect::<String>())
}

fn loss_figure(run: &Run, floor: Option<f64>) -> Figure {
    let training = Line { background: true, ..Line::new("training", run.training.clone()) };
    let errors = run.evaluations.iter().filter_map(|e| e.error).collect();
    let points = run.evaluations.iter().map(|e| (e.step, e.loss)).collect();
    let held_out = Line { errors, ..Line::new("held out", points) };
    Figure {
        title: "Loss".into(),
        x: "step".into(),
        y: "nats".into(),
        axis: Axis::Linear,
        lines: vec![training, held_out],
        level: floor.map(|f| (format!("entropy floor {f:.4}"), f)),
    }
}

/// Nothing where no conditional is known.
fn excess_figure(run: &Run) -> Option<Figure> {
    let known = || run.evaluations.iter().filter_map(|e| Some((e.step, e.known?)));
    let points = known().map(|(step, known)| (step, known.excess)).collect();
    let errors = known().map(|(_, known)| known.excess_error).collect();
    (known().next().is_some() || run.evaluations.is_empty()).then(|| Figure {
        title: "Excess loss".into(),
        x: "step".into(),
        y: "nats, log scale".into(),
        axis: Axis::Log,
        lines: vec![Line { errors, ..Line::new("held out", points) }],
        level: None,
    })
}

fn table(title: &str, rows: &[(String, String)]) -> String {
    let row =
        |(key, value): &(String, String)| format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(key), escape(value));
    format!("<div><h2>{title}</h2><table>\n{}</table></div>\n", rows.iter().map(row).collect::<String>())
}

/// Every key of a config with its path.
fn settings(config: &toml::Table) -> Vec<(String, String)> {
    fn walk(prefix: &str, table: &toml::Table, rows: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(inner) => walk(&path, inner, rows),
                toml::Value::String(text) => rows.push((path, text.clone())),
                other => rows.push((path, other.to_string())),
            }
        }
    }
    let mut rows = Vec::new();
    walk("", config, &mut rows);
    rows
}

fn about(about: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (key, value) in about.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(inner) => rows.extend(inner.iter().map(|(k, v)| (format!("{key}.{k}"), plain(v)))),
            None => rows.push((key.clone(), plain(value))),
        }
    }
    rows
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}
