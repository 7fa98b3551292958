//! Effects of measures on outcomes within strata, given the excess loss, and differences of labels paired by seed:
//! those that a plan names, and of every sweep those of all outcomes and measures.
//!
//! Measures and covariates are logarithms to base 2 and e, so that a slope is that of a doubling. Where a sweep's table
//! carries a plan from which nothing differs, its tests are *registered*; all else is *exploratory*, with the reason.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::files::Record;
use super::quantity::{EXCESS, PREDICTORS};
use super::rows;
use super::section::{Section, is_lookup};
use crate::statistics::{
    Effect, Paired, Within, detectable, holm, power, power_of_correlation, power_of_equivalence, ranks_within,
};
use crate::sweep::{Decide, Hypothesis, Registration, Table, Test};

/// Draws of permutations and of the bootstrap; fewer of what nobody asked for, of which there is much.
const DRAWS: u64 = 2000;
const EXPLORATORY_DRAWS: u64 = 400;
/// Level of all tests.
const LEVEL: f64 = 0.05;

/// Whether an effect was asked for before the first run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Named in a plan from which nothing differs.
    Registered { primary: bool },
    /// Anything else, and why.
    Exploratory(String),
}

impl Status {
    pub fn word(&self) -> &'static str {
        match self {
            Status::Registered { .. } => "registered",
            Status::Exploratory(_) => "exploratory",
        }
    }

    pub fn reason(&self) -> Option<&str> {
        match self {
            Status::Registered { .. } => None,
            Status::Exploratory(reason) => Some(reason),
        }
    }
}

/// What a test found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    pub value: f64,
    pub standard_error: Option<f64>,
    pub interval: Option<[f64; 2]>,
    /// Of no effect.
    pub p: Option<f64>,
    /// Of no difference or mean, by changes of sign.
    pub p_signs: Option<f64>,
    pub p_equivalent: Option<f64>,
    /// For the smallest effect of interest, of what the test is to show.
    pub power: Option<f64>,
    /// The least effect that would be seen in four cases of five.
    pub detectable: Option<f64>,
    pub models: usize,
    pub runs: usize,
    pub strata: usize,
    /// Without a number that is asked for, or one above 0 where a logarithm is taken.
    pub left_out: usize,
}

/// A test with what came of it.
pub struct Asked {
    pub sweep: String,
    pub test: Hypothesis,
    pub status: Status,
    /// `None` where the models do not suffice.
    pub found: Option<Found>,
    /// Of what the test is to show, corrected over the primary tests of the plan.
    pub p_holm: Option<f64>,
}

impl Asked {
    /// The probability that decides: of no effect, or of one beyond the bounds.
    pub fn p(&self) -> Option<f64> {
        let found = self.found?;
        match self.test.decide {
            Decide::Effect => found.p,
            Decide::Equivalence => found.p_equivalent,
        }
    }
}

/// Why nothing of a table is registered; `None` where its plan's tests are.
pub fn not_registered(table: &Table) -> Option<String> {
    match &table.registration {
        None => Some("the sweep names no plan".into()),
        Some(Registration { differs, .. }) if !differs.is_empty() => Some(differs.join("; ")),
        Some(_) => None,
    }
}

/// The status of a coefficient over the models of all tables of a section: registered where each of them carries the
/// same plan with this test, of these models.
pub fn status_of(section: &Section, column: &str, measure: &str, test: &str, saturated: bool, whole: bool) -> Status {
    let mut primary = true;
    for table in &section.tables {
        if let Some(reason) = not_registered(table) {
            return Status::Exploratory(format!("{}: {reason}", table.name));
        }
        let Some(registration) = &table.registration else { continue };
        let plan = &registration.plan;
        let same = |h: &Hypothesis| {
            h.column() == column && h.measure.as_deref() == Some(measure) && h.test.name() == test && !h.log
        };
        let Some((_, first)) = plan.hypotheses().find(|(h, _)| same(h)) else {
            return Status::Exploratory("not a test of the plan".into());
        };
        if plan.saturated != saturated || !whole {
            return Status::Exploratory("over other models than the plan's".into());
        }
        if section
            .tables
            .iter()
            .any(|other| other.registration.as_ref().map(|r| &r.plan_hash) != Some(&registration.plan_hash))
        {
            return Status::Exploratory("over models of several plans".into());
        }
        primary &= first;
    }
    Status::Registered { primary }
}

/// All tests of the plans of a section's sweeps, then those that nobody named.
pub fn all(section: &Section) -> Vec<Asked> {
    let mut asked = Vec::new();
    for table in &section.tables {
        let rows = Rows::of(section, table);
        if let Some(registration) = &table.registration {
            asked.extend(of_plan(table, registration, &rows));
        }
    }
    for table in &section.tables {
        asked.extend(exploratory(table, &Rows { draws: EXPLORATORY_DRAWS, ..Rows::of(section, table).own_gauges() }));
    }
    asked
}

fn of_plan(table: &Table, registration: &Registration, rows: &Rows) -> Vec<Asked> {
    let reason = not_registered(table);
    let plan = &registration.plan;
    let rows = rows.only(plan.saturated);
    let mut asked: Vec<Asked> = plan
        .hypotheses()
        // Those over all models are among the correlations.
        .filter(|(h, _)| is_here(h.test))
        .map(|(h, primary)| Asked {
            sweep: table.name.clone(),
            test: h.clone(),
            status: reason.clone().map_or(Status::Registered { primary }, Status::Exploratory),
            found: rows.test(h, table.seed),
            p_holm: None,
        })
        .collect();
    let family: Vec<usize> = (0..asked.len()).filter(|i| plan.primary.contains(&asked[*i].test)).collect();
    // A test without a result counts as one that shows nothing.
    let p: Vec<f64> = family.iter().map(|i| asked[*i].p().unwrap_or(1.0)).collect();
    // Coefficients over all models belong to the family too.
    let others = plan.primary.len() - family.len();
    let whole: Vec<f64> = p.iter().copied().chain(std::iter::repeat_n(1.0, others)).collect();
    for (i, raised) in family.into_iter().zip(holm(&whole)) {
        asked[i].p_holm = asked[i].p().map(|_| raised);
    }
    asked
}

/// Whether a test is made here, and not among the correlations.
fn is_here(test: Test) -> bool {
    matches!(test, Test::Slope | Test::Partial | Test::Difference | Test::Mean)
}

/// Every outcome with every measure, given the excess loss, all models of a sweep in one stratum; and where the plan
/// asks for a partial correlation, those of all measures, in its strata.
fn exploratory(table: &Table, rows: &Rows) -> Vec<Asked> {
    let of_plan = || table.registration.iter().flat_map(|r| r.plan.hypotheses()).map(|(own, _)| own);
    let mut asked = Vec::new();
    let mut ask = |test: Hypothesis| {
        let same =
            |own: &Hypothesis| (own.column(), &own.measure, own.test) == (test.column(), &test.measure, test.test);
        if of_plan().any(same) {
            return;
        }
        if let Some(found) = rows.test(&test, table.seed) {
            let status = Status::Exploratory("not a test of a plan".into());
            asked.push(Asked { sweep: table.name.clone(), test, status, found: Some(found), p_holm: None });
        }
    };
    for task in &table.tasks {
        for outcome in ["accuracy", "excess_nats", "forgetting"] {
            for measure in PREDICTORS {
                let given = if measure.key == EXCESS.key { vec![] } else { vec![EXCESS.key.to_string()] };
                let test = Hypothesis {
                    outcome: outcome.into(),
                    task: Some(task.task.clone()),
                    log: false,
                    measure: Some(measure.key.into()),
                    test: Test::Slope,
                    between: None,
                    given,
                    within: vec![],
                    decide: Decide::Effect,
                    smallest_effect: f64::NAN,
                };
                ask(test);
            }
        }
    }
    if let Some(like) = of_plan().find(|own| own.test == Test::Partial) {
        let known = PREDICTORS.iter().map(|measure| measure.key).filter(|key| *key != EXCESS.key);
        let mut measures: Vec<&str> = known.chain(of_plan().filter_map(|own| own.measure.as_deref())).collect();
        let mut seen = HashSet::new();
        measures.retain(|measure| seen.insert(*measure));
        for task in &table.tasks {
            for outcome in ["excess_nats", "forgetting"] {
                for measure in &measures {
                    ask(Hypothesis {
                        outcome: outcome.into(),
                        task: Some(task.task.clone()),
                        measure: Some((*measure).into()),
                        ..like.clone()
                    });
                }
            }
        }
    }
    asked
}

/// Outcome, measure and covariates of a model.
type Numbers = (f64, f64, Vec<f64>);

/// The models of a sweep as records.
struct Rows {
    records: Vec<Record>,
    /// What is drawn together.
    runs: Vec<String>,
    draws: u64,
}

impl Rows {
    fn of(section: &Section, table: &Table) -> Rows {
        let models = section.models();
        let own = models.iter().zip(rows::models(section));
        let own = own.filter(|(m, _)| std::ptr::eq(m.table, table) && !is_lookup(m.row));
        let (runs, records) = own.map(|(m, record)| (m.drawn_with().to_string(), record)).unzip();
        Rows { records, runs, draws: DRAWS }
    }

    fn only(&self, saturated: bool) -> Rows {
        self.kept(|record| !saturated || record.get("saturated") == Some(&Value::Bool(true)))
    }

    /// Without the same functions in other gauges.
    fn own_gauges(&self) -> Rows {
        self.kept(|record| !record.keys().any(|key| key.starts_with("set.gauge.")))
    }

    fn kept(&self, kept: impl Fn(&Record) -> bool) -> Rows {
        let both = self.records.iter().cloned().zip(self.runs.iter().cloned());
        let (records, runs) = both.filter(|(record, _)| kept(record)).unzip();
        Rows { records, runs, draws: self.draws }
    }

    fn test(&self, h: &Hypothesis, seed: u64) -> Option<Found> {
        match h.test {
            Test::Difference => self.difference(h, seed),
            Test::Mean => self.mean(h, seed),
            _ => self.within(h, seed),
        }
    }

    /// The models with all the numbers that are asked for, and how many lack one.
    fn complete<T>(&self, of: impl Fn(&Record) -> Option<T>) -> (Vec<(usize, T)>, usize) {
        let found: Vec<(usize, T)> =
            self.records.iter().enumerate().filter_map(|(i, record)| Some((i, of(record)?))).collect();
        let left_out = self.records.len() - found.len();
        (found, left_out)
    }

    fn within(&self, h: &Hypothesis, seed: u64) -> Option<Found> {
        let measure = h.measure.as_ref()?;
        let (models, left_out) = self.complete(|record| {
            let given: Option<Vec<f64>> = h.given.iter().map(|key| Some(above_zero(record, key)?.ln())).collect();
            Some((outcome(record, h)?, above_zero(record, measure)?.log2(), given?))
        });
        let column = |of: &dyn Fn(&Numbers) -> f64| models.iter().map(|(_, m)| of(m)).collect::<Vec<f64>>();
        let strata = numbered(models.iter().map(|(i, _)| stratum(&self.records[*i], &h.within)));
        let runs = numbered(models.iter().map(|(i, _)| self.runs[*i].clone()));
        let ranked = |values: Vec<f64>| match h.test {
            // Robust against one odd model, as Spearman's is.
            Test::Partial => ranks_within(&values, &strata),
            _ => values,
        };
        let (y, x) = (ranked(column(&|m| m.0)), ranked(column(&|m| m.1)));
        let given: Vec<Vec<f64>> = (0..h.given.len()).map(|k| ranked(column(&|m| m.2[k]))).collect();
        let within = Within::new(&y, &x, &given, &strata, &runs)?;
        let bound = (h.decide == Decide::Equivalence).then_some(h.smallest_effect);
        let effect = within.effect(bound, self.draws, seed);
        Some(match h.test {
            Test::Partial => correlation(h, &effect, left_out),
            _ => slope(h, &effect, left_out),
        })
    }

    /// The mean over runs; several models of a run count as their mean.
    fn mean(&self, h: &Hypothesis, seed: u64) -> Option<Found> {
        let (models, left_out) = self.complete(|record| outcome(record, h));
        let mut runs: std::collections::BTreeMap<&str, Vec<f64>> = Default::default();
        for (i, value) in &models {
            runs.entry(&self.runs[*i]).or_default().push(*value);
        }
        let values: Vec<f64> = runs.values().map(|v| v.iter().sum::<f64>() / v.len() as f64).collect();
        let found = of_pairs(h, &values, seed)?;
        Some(Found { models: models.len(), left_out, ..found })
    }

    fn difference(&self, h: &Hypothesis, seed: u64) -> Option<Found> {
        let [first, second] = h.between.as_ref()?;
        let of_label = |label: &String| {
            let own = self.complete(|record| (record.get("label")? == label).then_some(()).and(outcome(record, h)));
            // Several models of a seed count as their mean.
            let mut seeds: std::collections::BTreeMap<String, Vec<f64>> = Default::default();
            for (i, value) in own.0 {
                seeds
                    .entry(self.records[i].get("seed").map(Value::to_string).unwrap_or_default())
                    .or_default()
                    .push(value);
            }
            seeds.into_iter().map(|(seed, v)| (seed, v.iter().sum::<f64>() / v.len() as f64)).collect::<Vec<_>>()
        };
        let (a, b) = (of_label(first), of_label(second));
        let pairs = a.iter().filter_map(|(seed, value)| Some(value - b.iter().find(|(other, _)| other == seed)?.1));
        let pairs: Vec<f64> = pairs.collect();
        let found = of_pairs(h, &pairs, seed)?;
        Some(Found { models: 2 * found.runs, left_out: a.len() + b.len() - 2 * found.runs, ..found })
    }
}

/// Numbers of which each is independent, beside 0.
fn of_pairs(h: &Hypothesis, values: &[f64], seed: u64) -> Option<Found> {
    let bound = (h.decide == Decide::Equivalence).then_some(h.smallest_effect);
    let found = Paired::of(values, bound, DRAWS, seed)?;
    let df = (found.pairs - 1) as f64;
    Some(Found {
        value: found.mean,
        standard_error: Some(found.standard_error),
        interval: Some([found.interval.low, found.interval.high]),
        p: Some(found.p),
        p_signs: Some(found.p_signs),
        p_equivalent: found.p_equivalent,
        power: power_for(h, found.standard_error, df),
        detectable: finite(detectable(found.standard_error, df, LEVEL)),
        models: found.pairs,
        runs: found.pairs,
        strata: 1,
        left_out: 0,
    })
}

/// Numbers for names, in the order of first appearance.
fn numbered(names: impl Iterator<Item = String>) -> Vec<usize> {
    let mut seen: Vec<String> = Vec::new();
    names
        .map(|name| {
            seen.iter().position(|other| *other == name).unwrap_or_else(|| {
                seen.push(name);
                seen.len() - 1
            })
        })
        .collect()
}

/// A number of a model; of a list the last.
fn value(record: &Record, key: &str) -> Option<f64> {
    let found = match record.get(key)? {
        Value::Array(all) => all.last()?.as_f64()?,
        one => one.as_f64()?,
    };
    found.is_finite().then_some(found)
}

fn above_zero(record: &Record, key: &str) -> Option<f64> {
    value(record, key).filter(|value| *value > 0.0)
}

fn outcome(record: &Record, h: &Hypothesis) -> Option<f64> {
    match h.log {
        true => above_zero(record, &h.column()).map(f64::ln),
        false => value(record, &h.column()),
    }
}

/// What models of one stratum have in common.
fn stratum(record: &Record, within: &[String]) -> String {
    let of = |key: &String| match key.as_str() {
        "label" => record.get("label").map(Value::to_string),
        key => record.get(&format!("set.{key}")).map(Value::to_string),
    };
    within.iter().map(|key| of(key).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn power_for(h: &Hypothesis, error: f64, df: f64) -> Option<f64> {
    finite(match h.decide {
        Decide::Effect => power(h.smallest_effect, error, df, LEVEL),
        Decide::Equivalence => power_of_equivalence(h.smallest_effect, error, df, LEVEL),
    })
}

fn slope(h: &Hypothesis, effect: &Effect, left_out: usize) -> Found {
    let df = effect.runs.saturating_sub(effect.strata + h.given.len() + 1).max(1) as f64;
    let known = effect.standard_error.is_finite();
    Found {
        value: effect.slope,
        standard_error: finite(effect.standard_error),
        interval: Some([effect.interval.low, effect.interval.high]).filter(|i| i.iter().all(|end| end.is_finite())),
        p: effect.p,
        p_signs: None,
        p_equivalent: effect.p_equivalent,
        power: if known { power_for(h, effect.standard_error, df) } else { None },
        detectable: finite(detectable(effect.standard_error, df, LEVEL)),
        models: effect.rows,
        runs: effect.runs,
        strata: effect.strata,
        left_out,
    }
}

fn correlation(h: &Hypothesis, effect: &Effect, left_out: usize) -> Found {
    let given = h.given.len() + effect.strata - 1;
    let n = effect.runs;
    // Fisher's z over runs, which is wide for few of them.
    let left = n as f64 - 3.0 - given as f64;
    let z = libm::atanh(effect.partial.clamp(-0.999_999, 0.999_999));
    let reach = 1.959_963_984_540_054 * ((1.0 + effect.partial.powi(2) / 2.0) / left).sqrt();
    Found {
        value: effect.partial,
        standard_error: None,
        interval: (left > 0.0).then(|| [libm::tanh(z - reach), libm::tanh(z + reach)]),
        p: effect.p,
        p_signs: None,
        p_equivalent: None,
        power: (!h.smallest_effect.is_nan()).then(|| power_of_correlation(h.smallest_effect, n, given, LEVEL)),
        detectable: None,
        models: effect.rows,
        runs: n,
        strata: effect.strata,
        left_out,
    }
}

/// One row per test.
pub fn records(section: &Section, all: &[Asked]) -> Vec<Record> {
    let table = &section.tables[0];
    let record = |a: &Asked| {
        let f = a.found;
        let value = json!({
            "language": table.language, "language_hash": table.language_hash, "sweep": a.sweep,
            "status": a.status.word(), "primary": a.status == Status::Registered { primary: true },
            "reason": a.status.reason(),
            "outcome": a.test.outcome, "task": a.test.task, "log": a.test.log, "measure": a.test.measure,
            "test": a.test.test.name(), "between": a.test.between.as_ref().map(|b| b.join(" | ")),
            "given": (!a.test.given.is_empty()).then(|| a.test.given.join(", ")),
            "within": (!a.test.within.is_empty()).then(|| a.test.within.join(", ")),
            "decide": a.test.decide, "smallest_effect": finite(a.test.smallest_effect),
            "value": f.map(|f| f.value), "value_standard_error": f.and_then(|f| f.standard_error),
            "low": f.and_then(|f| f.interval).map(|i| i[0]), "high": f.and_then(|f| f.interval).map(|i| i[1]),
            "p": f.and_then(|f| f.p), "p_signs": f.and_then(|f| f.p_signs),
            "p_equivalent": f.and_then(|f| f.p_equivalent), "p_holm": a.p_holm,
            "power": f.and_then(|f| f.power), "detectable": f.and_then(|f| f.detectable),
            "n_models": f.map(|f| f.models), "n_runs": f.map(|f| f.runs), "n_strata": f.map(|f| f.strata),
            "left_out": f.map(|f| f.left_out),
        });
        value.as_object().cloned().unwrap_or_default()
    };
    all.iter().map(record).collect()
}
