//! Correlates accuracy with each predictor, and covariates with all that was measured: coefficients with intervals over
//! draws of whole runs.

use serde_json::json;

use super::covariates::{self, Measure};
use super::effects::{self, Status};
use super::files::Record;
use super::quantity::{self, EXCESS, FISHER, HESSIAN, PREDICTORS, RELATIVE, RISE, SCALE_FREE, Value};
use super::section::{Model, Section};
use crate::statistics::{Clusters, Coefficient, Correlation};
use crate::sweep::Row;

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

/// A correlation of a task's accuracy, or of a covariate, with a predictor.
pub struct Found {
    /// Name of the task or of the covariate.
    pub task: String,
    pub covariate: bool,
    pub predictor: Measure,
    pub coefficient: Coefficient,
    /// Given the excess loss, or of covariates the loss where no excess is known.
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
/// intervention where there are several. Those of covariates come last.
pub fn all(section: &Section) -> Vec<Found> {
    let trained = section.trained();
    let parametrisation = section.parametrisation();
    let interventions = section.interventions();
    let mut scopes = vec![None];
    if interventions.len() > 1 {
        scopes.extend(interventions.iter().map(|i| Some(i.to_string())));
    }
    let of_tasks = |task: String| {
        let predictors = PREDICTORS.map(|p| {
            let partial = [FISHER, HESSIAN, SCALE_FREE, RELATIVE, RISE].iter().any(|own| own.key == p.key);
            Measure { partial, ..p.into() }
        });
        (task, false, Vec::from(predictors))
    };
    let measures = covariates::measures(section);
    let targets = section.tasks().into_iter().map(|task| of_tasks(task.task.clone()));
    let targets = targets.chain(covariates::names(section).into_iter().map(|name| (name, true, measures.clone())));
    let given = covariates::rival(section).of;
    let mut found = Vec::new();
    for (name, covariate, predictors) in targets {
        for intervention in &scopes {
            for saturated in [false, true] {
                let models = Models { saturated, intervention: intervention.clone() };
                let within: Vec<&Model<'_>> = trained.iter().filter(|m| models.has(m)).collect();
                for predictor in &predictors {
                    let target = Target { name: &name, covariate, given };
                    let sample = Sample::new(&within, predictor, target, parametrisation.as_deref());
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

/// What predictors are correlated with: a task's accuracy, or a covariate.
#[derive(Clone, Copy)]
struct Target<'a> {
    name: &'a str,
    covariate: bool,
    /// The loss that partial coefficients are given.
    given: fn(&Row) -> Option<Value>,
}

impl Target<'_> {
    fn value(&self, row: &Row) -> Option<f64> {
        match self.covariate {
            true => covariates::value(row, self.name),
            false => quantity::accuracy(row, self.name).map(|(accuracy, _)| accuracy),
        }
    }
}

/// Pairs of a predictor and a target, of models whose loss is known; a covariate needs no loss but for the partial
/// ones.
struct Sample<'a> {
    target: Target<'a>,
    predictor: Measure,
    x: Vec<f64>,
    y: Vec<f64>,
    /// Not a number where the loss is not known.
    given: Vec<f64>,
    runs: Vec<usize>,
    left_out: usize,
}

impl<'a> Sample<'a> {
    fn new(
        models: &[&Model<'_>],
        predictor: &Measure,
        target: Target<'a>,
        parametrisation: Option<&str>,
    ) -> Sample<'a> {
        let mut sample = Sample {
            target,
            predictor: predictor.clone(),
            x: vec![],
            y: vec![],
            given: vec![],
            runs: vec![],
            left_out: 0,
        };
        let mut names: Vec<&str> = Vec::new();
        for m in models {
            let (Some((x, _)), Some(y)) = ((predictor.of)(m.row), target.value(m.row)) else { continue };
            let given = (target.given)(m.row).map(|(value, _)| value);
            if given.is_none() && !target.covariate {
                continue;
            }
            if predictor.curvature && Some(m.row.parametrisation.as_str()) != parametrisation {
                sample.left_out += 1;
                continue;
            }
            let run = names.iter().position(|n| *n == m.drawn_with()).unwrap_or_else(|| {
                names.push(m.drawn_with());
                names.len() - 1
            });
            sample.x.push(x);
            sample.y.push(y);
            sample.given.push(given.unwrap_or(f64::NAN));
            sample.runs.push(run);
        }
        sample
    }

    fn correlations(&self, models: &Models, seed: u64) -> Vec<Found> {
        let clusters = Clusters { of: &self.runs, draws: DRAWS, seed };
        let found = |coefficient, partial, value| Found {
            task: self.target.name.to_string(),
            covariate: self.target.covariate,
            predictor: self.predictor.clone(),
            coefficient,
            partial,
            models: models.clone(),
            value,
            count: self.x.len(),
            runs: self.runs.iter().max().map_or(0, |last| last + 1),
            left_out: self.left_out,
        };
        let plain = [Coefficient::Pearson, Coefficient::Spearman, Coefficient::Kendall]
            .map(|c| found(c, false, clusters.correlate(c, &self.x, &self.y)));
        let mut all = Vec::from(plain);
        if self.predictor.partial && self.given.iter().all(|value| value.is_finite()) {
            let given = [Coefficient::Pearson, Coefficient::Spearman]
                .map(|c| found(c, true, clusters.partial(c, &self.x, &self.y, &self.given)));
            all.extend(given);
        }
        all
    }
}

/// The status of a coefficient: registered where the plan of all tables has this test.
pub fn status(section: &Section, f: &Found) -> Status {
    if f.covariate {
        return Status::Exploratory("covariates are of no plan".into());
    }
    let test = if f.partial { format!("partial-{}", f.name()) } else { f.name().to_string() };
    let column = format!("accuracy_{}", f.task);
    let whole = f.models.intervention.is_none();
    effects::status_of(section, &column, &f.predictor.key, &test, f.models.saturated, whole)
}

/// The status of coefficients of one row of the page.
pub fn status_words<'f>(section: &Section, all: impl Iterator<Item = &'f Found>) -> String {
    let registered: Vec<&str> = all
        .filter(|f| matches!(status(section, f), Status::Registered { .. }))
        .map(|f| if f.partial { "partial" } else { f.name() })
        .collect();
    match registered.is_empty() {
        true => "exploratory".into(),
        false => format!("registered: {}; others exploratory", registered.join(", ")),
    }
}

/// One row per correlation.
pub fn records(section: &Section, all: &[Found]) -> Vec<Record> {
    let table = &section.tables[0];
    let parametrisation = section.parametrisation();
    let rival = covariates::rival(section).key;
    let record = |f: &Found| {
        let status = status(section, f);
        let value = json!({
            "language": table.language, "language_hash": table.language_hash,
            "task": (!f.covariate).then_some(&f.task), "covariate": f.covariate.then_some(&f.task),
            "predictor": f.predictor.key, "coefficient": f.name(),
            "given": f.partial.then_some(if f.covariate { rival } else { EXCESS.key }),
            "models": if f.models.saturated { "saturated" } else { "all" },
            "intervention": f.models.intervention, "value": f.value.map(|c| c.value),
            "low": f.interval().map(|i| i[0]), "high": f.interval().map(|i| i[1]),
            "draws": f.value.map(|c| c.draws), "n_models": f.count, "n_runs": f.runs,
            "parametrisation": f.predictor.curvature.then_some(&parametrisation), "left_out": f.left_out,
            "status": status.word(), "reason": status.reason(),
        });
        value.as_object().cloned().unwrap_or_default()
    };
    all.iter().map(record).collect()
}
