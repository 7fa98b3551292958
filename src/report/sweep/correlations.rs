//! Correlates accuracy with each predictor: coefficients with intervals over draws of whole runs.

use serde_json::json;

use super::files::Record;
use super::quantity::{self, EXCESS, FISHER, HESSIAN, PREDICTORS, Predictor};
use super::section::{Model, Section};
use crate::statistics::{Clusters, Coefficient, Correlation};

/// Bootstrap draws per interval.
const DRAWS: u64 = 2000;

/// Runs that an interval needs to decide anything: three that agree by chance are one case in four.
pub const FEWEST_RUNS: usize = 5;

/// The models that a correlation is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    pub saturated: bool,
    /// The intervention whose models count; `None` for all.
    pub intervention: Option<String>,
}

/// A correlation of a task's accuracy with a predictor.
pub struct Found {
    pub task: String,
    pub predictor: &'static Predictor,
    pub coefficient: Coefficient,
    /// Given the excess loss.
    pub partial: bool,
    pub models: Models,
    /// `None` where it does not exist.
    pub value: Option<Correlation>,
    pub count: usize,
    pub runs: usize,
    /// Models with another parametrisation, which were left out.
    pub left_out: usize,
}

impl Found {
    /// Ends of the interval, where there is one.
    pub fn interval(&self) -> Option<[f64; 2]> {
        self.value.filter(|c| c.low.is_finite() && c.high.is_finite()).map(|c| [c.low, c.high])
    }

    pub fn name(&self) -> &'static str {
        match self.coefficient {
            Coefficient::Pearson => "pearson",
            Coefficient::Spearman => "spearman",
            Coefficient::Kendall => "kendall",
        }
    }
}

/// All correlations of a section: tasks, predictors, coefficients, all and saturated models, then the same within each
/// intervention where there are several.
pub fn all(section: &Section) -> Vec<Found> {
    let trained = section.trained();
    let parametrisation = section.parametrisation();
    let interventions = section.interventions();
    let mut scopes = vec![None];
    if interventions.len() > 1 {
        scopes.extend(interventions.iter().map(|i| Some(i.to_string())));
    }
    let mut found = Vec::new();
    for task in section.tasks() {
        for intervention in &scopes {
            for saturated in [false, true] {
                let models = Models { saturated, intervention: intervention.clone() };
                let within: Vec<&Model<'_>> = trained.iter().filter(|m| models.has(m)).collect();
                for predictor in PREDICTORS {
                    let sample = Sample::new(&within, predictor, &task.task, parametrisation.as_deref());
                    found.extend(sample.correlations(&models, section.tables[0].seed));
                }
            }
        }
    }
    found
}

impl Models {
    fn has(&self, m: &Model<'_>) -> bool {
        let intervention = self.intervention.as_ref().is_none_or(|i| *i == m.table.intervention);
        intervention && (!self.saturated || m.row.saturated)
    }
}

/// Pairs of a predictor and an accuracy.
struct Sample<'a> {
    task: &'a str,
    predictor: &'static Predictor,
    x: Vec<f64>,
    accuracy: Vec<f64>,
    excess: Vec<f64>,
    runs: Vec<usize>,
    left_out: usize,
}

impl<'a> Sample<'a> {
    fn new(
        models: &[&Model<'_>],
        predictor: &'static Predictor,
        task: &'a str,
        parametrisation: Option<&str>,
    ) -> Sample<'a> {
        let mut sample =
            Sample { task, predictor, x: vec![], accuracy: vec![], excess: vec![], runs: vec![], left_out: 0 };
        let mut names: Vec<&str> = Vec::new();
        for m in models {
            let (Some((x, _)), Some((accuracy, _)), Some((excess, _))) =
                ((predictor.of)(m.row), quantity::accuracy(m.row, task), (EXCESS.of)(m.row))
            else {
                continue;
            };
            if predictor.curvature && Some(m.row.parametrisation.as_str()) != parametrisation {
                sample.left_out += 1;
                continue;
            }
            let run = names.iter().position(|n| *n == m.row.run).unwrap_or_else(|| {
                names.push(&m.row.run);
                names.len() - 1
            });
            sample.x.push(x);
            sample.accuracy.push(accuracy);
            sample.excess.push(excess);
            sample.runs.push(run);
        }
        sample
    }

    fn correlations(&self, models: &Models, seed: u64) -> Vec<Found> {
        let clusters = Clusters { of: &self.runs, draws: DRAWS, seed };
        let found = |coefficient, partial, value| Found {
            task: self.task.to_string(),
            predictor: self.predictor,
            coefficient,
            partial,
            models: models.clone(),
            value,
            count: self.x.len(),
            runs: self.runs.iter().max().map_or(0, |last| last + 1),
            left_out: self.left_out,
        };
        let plain = [Coefficient::Pearson, Coefficient::Spearman, Coefficient::Kendall]
            .map(|c| found(c, false, clusters.correlate(c, &self.x, &self.accuracy)));
        let mut all = Vec::from(plain);
        if [FISHER.key, HESSIAN.key].contains(&self.predictor.key) {
            let given = [Coefficient::Pearson, Coefficient::Spearman]
                .map(|c| found(c, true, clusters.partial(c, &self.x, &self.accuracy, &self.excess)));
            all.extend(given);
        }
        all
    }
}

/// One row per correlation.
pub fn records(section: &Section, all: &[Found]) -> Vec<Record> {
    let table = &section.tables[0];
    let parametrisation = section.parametrisation();
    let record = |f: &Found| {
        let value = json!({
            "language": table.language, "language_hash": table.language_hash, "task": f.task,
            "predictor": f.predictor.key, "coefficient": f.name(),
            "given": f.partial.then_some(EXCESS.key), "models": if f.models.saturated { "saturated" } else { "all" },
            "intervention": f.models.intervention, "value": f.value.map(|c| c.value),
            "low": f.interval().map(|i| i[0]), "high": f.interval().map(|i| i[1]),
            "draws": f.value.map(|c| c.draws), "n_models": f.count, "n_runs": f.runs,
            "parametrisation": f.predictor.curvature.then_some(&parametrisation), "left_out": f.left_out,
        });
        value.as_object().cloned().unwrap_or_default()
    };
    all.iter().map(record).collect()
}
