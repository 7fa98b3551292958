//! Says in plain words what the numbers decide.

use super::convention;
use super::correlations::{FEWEST_RUNS, Found};
use super::figures::bounds;
use super::markup::{fixed, number};
use super::quantity::{EXCESS, FISHER};
use super::section::Section;
use crate::statistics::Coefficient;

/// Whether flatter models transfer better, by the models at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Seen,
    Opposite,
    NotDecided,
}

/// Seen when the interval of a correlation of accuracy with the trace lies below 0, the opposite when it lies above; an
/// interval over too few runs decides nothing.
pub fn verdict(interval: Option<[f64; 2]>, runs: usize) -> Verdict {
    match interval {
        Some([_, high]) if runs >= FEWEST_RUNS && high < 0.0 => Verdict::Seen,
        Some([low, _]) if runs >= FEWEST_RUNS && low > 0.0 => Verdict::Opposite,
        _ => Verdict::NotDecided,
    }
}

/// The number of models and their distance from the language.
pub fn counts(section: &Section) -> String {
    let trained = section.trained();
    let runs: std::collections::BTreeSet<&str> = trained.iter().map(|m| m.drawn_with()).collect();
    let saturated: Vec<f64> =
        trained.iter().filter(|m| m.row.saturated).filter_map(|m| (EXCESS.of)(m.row)).map(|e| e.0).collect();
    let missing: usize = section.tables.iter().map(|t| t.missing.len()).sum();
    let parametrisation = section.parametrisation();
    let left = trained
        .iter()
        .filter(|m| m.row.curvature.is_some() && Some(&m.row.parametrisation) != parametrisation.as_ref())
        .count();
    let mut text = format!("{} models of {} runs.", trained.len(), runs.len());
    // Of examples and of text no conditional is known.
    if trained.iter().any(|m| (EXCESS.of)(m.row).is_some()) {
        let count = trained.iter().filter(|m| m.row.saturated).count();
        text += &format!(" {count} of them are saturated: their excess loss is under {}", bounds(section));
        if !saturated.is_empty() {
            let [low, high] = [f64::min, f64::max].map(|f| saturated.iter().copied().reduce(f).unwrap_or(f64::NAN));
            text += &format!(" (it is {} to {})", number(low), number(high));
        }
        text += ".";
    }
    match section.regauged() {
        0 => {}
        n => {
            text += &format!(
                " {n} more are the same functions in other gauges: they are in no correlation, since a trace that \
                 differs by gauge alone tells nothing of a function."
            );
        }
    }
    if left > 0 {
        text += &format!(
            " {left} models whose curvature is over another parametrisation than most are in no correlation with a \
             trace."
        );
    }
    if missing > 0 {
        text += &format!(" Planned and missing: {missing}.");
    }
    text
}

fn coefficient(f: &Found) -> String {
    let value = f.value.map_or(f64::NAN, |c| c.value);
    match f.interval() {
        Some([low, high]) => format!("{} (95 % interval {} to {})", fixed(value, 2), fixed(low, 2), fixed(high, 2)),
        None => format!("{} (no interval)", fixed(value, 2)),
    }
}

/// One paragraph per task.
pub fn tasks(section: &Section, all: &[Found]) -> Vec<(String, Verdict, String)> {
    let sizes = convention::decides_in(section);
    section.tasks().iter().map(|t| task(&t.task, all, sizes)).collect()
}

/// `sizes`: the traces' order is partly that of a convention.
fn task(task: &str, all: &[Found], sizes: bool) -> (String, Verdict, String) {
    let found = |key: &str, partial: bool| {
        all.iter().find(|f| {
            !f.covariate
                && f.task == task
                && f.predictor.key == key
                && f.coefficient == Coefficient::Spearman
                && f.partial == partial
                && f.models.saturated
                && f.models.intervention.is_none()
        })
    };
    let Some(fisher) = found(FISHER.key, false).filter(|f| f.value.is_some()) else {
        let text = "flatter models transfer better: not decided by these models. Fewer than two saturated models have \
            both a trace and an accuracy that differ.";
        return (task.into(), Verdict::NotDecided, text.into());
    };
    let verdict = verdict(fisher.interval(), fisher.runs);
    let said = match verdict {
        Verdict::Seen => "seen",
        Verdict::Opposite => "not seen, the opposite is",
        Verdict::NotDecided => "not decided by these models",
    };
    let mut text = format!(
        "flatter models transfer better: {said}. Over {} saturated models of {} runs, Spearman's coefficient of \
         accuracy with the Fisher trace is {}",
        fisher.count,
        fisher.runs,
        coefficient(fisher)
    );
    if fisher.runs < FEWEST_RUNS {
        text += &format!("; an interval over fewer than {FEWEST_RUNS} runs is not taken to decide");
    }
    text += ".";
    if sizes {
        text += &format!(" {}", convention::BRIEFLY);
    }
    if let Some(partial) = found(FISHER.key, true).filter(|f| f.value.is_some()) {
        text += &format!(" Given the excess loss it is {}.", coefficient(partial));
    }
    if let Some(excess) = found(EXCESS.key, false).filter(|f| f.value.is_some()) {
        text += &format!(" With the excess loss itself it is {}.", coefficient(excess));
    }
    (task.into(), verdict, text)
}
