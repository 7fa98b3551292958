//! Numbers about models that were not trained here, which a sweep's table of covariates gave them: each is correlated
//! with all that was measured, as the accuracy of a task is.

use std::rc::Rc;

use super::correlations::{FEWEST_RUNS, Found};
use super::embeddings::CONVENTIONS;
use super::markup::fixed;
use super::quantity::{self, EXCESS, FISHER, LOSS, PREDICTORS, Predictor, Value};
use super::section::{Section, is_lookup};
use crate::statistics::Coefficient;
use crate::sweep::Row;

/// Reads a number from a row.
type Read = dyn Fn(&Row) -> Option<Value>;

/// A quantity that an accuracy or a covariate may go with.
#[derive(Clone)]
pub struct Measure {
    /// The name in files.
    pub key: String,
    /// The name in figures.
    pub name: String,
    /// Depends on the parametrisation.
    pub curvature: bool,
    /// Whether the loss is a rival to it, so that what is left given the loss is of interest.
    pub partial: bool,
    pub of: Rc<Read>,
}

impl From<&'static Predictor> for Measure {
    fn from(p: &'static Predictor) -> Measure {
        let (key, name) = (p.key.to_string(), p.name.to_string());
        let partial = ![EXCESS.key, LOSS.key].contains(&p.key);
        Measure { key, name, curvature: p.curvature, partial, of: Rc::new(p.of) }
    }
}

/// The covariates of a section's models, in the order of their tables.
pub fn names(section: &Section) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in section.trained().iter().flat_map(|m| m.row.covariates.keys()) {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// A model's covariate.
pub fn value(row: &Row, name: &str) -> Option<f64> {
    row.covariates.get(name)?.as_f64().filter(|value| value.is_finite())
}

/// All that was measured of some model and is one number: traces in every convention, losses, accuracies.
pub fn measures(section: &Section) -> Vec<Measure> {
    let mut all: Vec<Measure> = PREDICTORS.into_iter().map(Measure::from).collect();
    // Where the excess loss is known, the loss differs from it by a constant.
    if rival(section).key == LOSS.key {
        all.push((&LOSS).into());
    }
    // As trained it is the trace above; the others are over one architecture.
    all.extend(CONVENTIONS.iter().skip(1).map(|convention| Measure {
        key: convention.key.into(),
        name: format!("trace {}", convention.name),
        curvature: false,
        partial: true,
        of: Rc::new(|row| convention.value(row)),
    }));
    for task in section.tasks() {
        let task = task.task.clone();
        all.push(Measure {
            key: format!("accuracy_{task}"),
            name: format!("accuracy, {}", quantity::titled(&task)),
            curvature: false,
            partial: false,
            of: Rc::new(move |row| quantity::accuracy(row, &task)),
        });
    }
    let models: Vec<&Row> = section.trained().into_iter().map(|m| m.row).filter(|row| !is_lookup(row)).collect();
    all.retain(|measure| models.iter().any(|row| (measure.of)(row).is_some()));
    all
}

/// The loss that a partial coefficient is given: the excess loss where it is known, else that on examples.
pub fn rival(section: &Section) -> &'static Predictor {
    let excess = section.trained().iter().any(|m| (EXCESS.of)(m.row).is_some());
    if excess { &EXCESS } else { &LOSS }
}

/// One paragraph per covariate, on its rank correlation with the Fisher trace.
pub fn statements(section: &Section, all: &[Found]) -> Vec<(String, String)> {
    let rival = rival(section);
    let of = |name: &str, key: &str, partial: bool| {
        all.iter().find(|f| {
            f.covariate
                && f.task == name
                && f.predictor.key == key
                && f.coefficient == Coefficient::Spearman
                && f.partial == partial
                && !f.models.saturated
                && f.models.intervention.is_none()
                && f.value.is_some()
        })
    };
    let text = |f: &Found| {
        let value = f.value.map_or(f64::NAN, |c| c.value);
        match f.interval() {
            Some([low, high]) => format!("{} (95 % interval {} to {})", fixed(value, 2), fixed(low, 2), fixed(high, 2)),
            None => format!("{} (no interval)", fixed(value, 2)),
        }
    };
    let statement = |name: String| {
        let Some(fisher) = of(&name, FISHER.key, false) else {
            let why =
                "there are no two models over one parametrisation that have both it and a Fisher trace and differ";
            return (name, format!("no coefficient with the Fisher trace: {why}."));
        };
        let said = match fisher.interval() {
            Some(_) if fisher.runs < FEWEST_RUNS => "not decided by these models",
            Some([_, high]) if high < 0.0 => "higher in flatter models",
            Some([low, _]) if low > 0.0 => "lower in flatter models",
            _ => "not decided by these models",
        };
        let mut words = format!(
            "{said}. Over {} models of {} runs, Spearman's coefficient with the Fisher trace is {}",
            fisher.count,
            fisher.runs,
            text(fisher)
        );
        if fisher.runs < FEWEST_RUNS && fisher.interval().is_some() {
            words += &format!("; an interval over fewer than {FEWEST_RUNS} runs is not taken to decide");
        }
        words += ".";
        if let Some(partial) = of(&name, FISHER.key, true) {
            words += &format!(" Given the {} it is {}.", rival.name, text(partial));
        }
        if let Some(loss) = of(&name, rival.key, false) {
            words += &format!(" With the {} itself it is {}.", rival.name, text(loss));
        }
        (name, words)
    };
    names(section).into_iter().map(statement).collect()
}
