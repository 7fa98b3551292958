//! `models`: one row per model, flat; `summary`: one row per group and step, means and standard errors over seeds.

use serde_json::{Value, json};

use super::covariates;
use super::embeddings::CONVENTIONS;
use super::files::Record;
use super::laws;
use super::quantity::{self, PREDICTORS, Value as Number};
use super::section::{Model, Section};
use crate::statistics::{Estimate, OneWay};
use crate::sweep::Accuracies;

/// One row per model.
pub fn models(section: &Section) -> Vec<Record> {
    let all = section.models();
    let of = |m: &Model<'_>| {
        let mut record = model(m);
        // Of the model of the same run before it, too.
        record.extend(laws::of(m, &laws::course(m, &all)));
        record
    };
    all.iter().map(of).collect()
}

fn object(value: Value) -> Record {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("built as an object"),
    }
}

fn model(m: &Model<'_>) -> Record {
    let (table, row) = (m.table, m.row);
    let mut record = object(json!({
        "language": table.language, "language_hash": table.language_hash, "sweep": table.name,
        "intervention": table.intervention, "run": row.run, "group": row.group, "label": row.label, "seed": row.seed,
        "step": row.step, "last": row.last, "repeat": m.repeat, "batch_size": row.batch_size,
        "learning_rate": row.learning_rate, "noise_time": row.noise_time, "parameters": row.parameters,
        "parametrisation": row.parametrisation, "saturated": row.saturated,
    }));
    let mut nested = |prefix: &str, value: Value| {
        for (key, value) in object(value) {
            // A table does not hold how fast it was made.
            if !["measure_seconds", "part_seconds", "step"].contains(&key.as_str()) {
                record.insert(format!("{prefix}{key}"), value);
            }
        }
    };
    let plain = "measurements are plain data";
    if let Some(evaluation) = &row.evaluation {
        nested("", serde_json::to_value(evaluation).expect(plain));
    }
    if let Some(examples) = &row.examples {
        nested("", serde_json::to_value(examples).expect(plain));
    }
    if let Some(curvature) = &row.curvature {
        let mut value = serde_json::to_value(curvature).expect(plain);
        let bartlett = value.as_object_mut().and_then(|v| v.shift_remove("bartlett"));
        // A list of gauges is in table.json; a table has what follows from it.
        value.as_object_mut().and_then(|v| v.shift_remove("per_gauge"));
        nested("", value);
        if let Some(ratios) = bartlett {
            nested("bartlett_", ratios);
        }
    }
    if let Some(conventions) = &row.conventions {
        nested("trace_", serde_json::to_value(conventions).expect(plain));
    }
    if let Some(alignment) = &row.alignment {
        nested("", serde_json::to_value(alignment).expect(plain));
    }
    if let Some(average) = &row.average {
        nested("", serde_json::to_value(average).expect(plain));
    }
    if let Some(gauge) = &row.gauge {
        nested("", serde_json::to_value(gauge).expect(plain));
    }
    for d in &row.downstream {
        record.extend(object(json!({
            format!("accuracy_{}", d.task): d.accuracy,
            format!("accuracy_{}_standard_deviation", d.task): d.standard_deviation,
            format!("accuracy_{}_standard_error", d.task): d.standard_error,
            format!("accuracy_{}_sampling_error", d.task): d.sampling_error,
            format!("features_{}", d.task): d.features,
        })));
        record.extend(nats(d));
    }
    if !row.notes.is_empty() {
        record.insert("notes".into(), row.notes.join("; ").into());
    }
    record.extend(row.path.iter().map(|path| ("path".to_string(), path.clone().into())));
    record.extend(row.drawn_with.iter().map(|run| ("drawn_with".to_string(), run.clone().into())));
    record.extend(row.covariates.iter().map(|(key, value)| (format!("covariate.{key}"), value.clone())));
    record.extend(row.values.iter().map(|(key, value)| (format!("set.{key}"), value.clone())));
    record
}

/// What was asked of a task in nats, and its components of variance over label sets.
fn nats(d: &Accuracies) -> Record {
    let mut record = Record::new();
    let mut put = |key: String, value: Option<f64>| {
        record.extend(value.map(|value| (key, json!(value))));
    };
    for (key, value, error, fits) in [
        ("excess_nats", d.nats.excess_nats, d.nats.excess_nats_standard_error, d.nats.excess_nats_standard_error_fits),
        ("forgetting", d.nats.forgetting, d.nats.forgetting_standard_error, d.nats.forgetting_standard_error_fits),
    ] {
        put(format!("{key}_{}", d.task), value);
        put(format!("{key}_{}_standard_error", d.task), error);
        put(format!("{key}_{}_standard_error_fits", d.task), fits);
    }
    let averages = d.nats.label_sets.as_ref().map(|averages| &averages.all);
    let of = |key: &str, found: Option<&OneWay>| {
        let Some(found) = found else { return vec![] };
        let named = |part: &str| format!("{key}_{}_{part}", d.task);
        vec![(named("between_sets"), found.between), (named("within_sets"), found.within)]
    };
    let components = averages.into_iter().flat_map(|a| {
        let all = [
            ("accuracy", Some(&a.accuracy)),
            ("excess_nats", a.excess_nats.as_ref()),
            ("forgetting", a.forgetting.as_ref()),
        ];
        all.into_iter().flat_map(|(key, found)| of(key, found)).collect::<Vec<_>>()
    });
    components.for_each(|(key, value)| put(key, value));
    record
}

/// Runs that differ in nothing but the seed, at one step.
pub struct Group<'a> {
    pub models: Vec<Model<'a>>,
}

impl<'a> Group<'a> {
    /// Groups of a section in the order of its tables; the lookup table is a group of its own.
    pub fn all(section: &'a Section) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for model in section.models() {
            let same = |g: &&mut Group<'_>| {
                let first = &g.models[0];
                std::ptr::eq(first.table, model.table)
                    && (&first.row.group, first.row.step) == (&model.row.group, model.row.step)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.models.push(model),
                None => groups.push(Group { models: vec![model] }),
            }
        }
        groups
    }

    pub fn first(&self) -> &Model<'a> {
        &self.models[0]
    }

    pub fn values(&self, of: impl Fn(&crate::sweep::Row) -> Option<Number>) -> Vec<Number> {
        self.models.iter().filter_map(|m| of(m.row)).collect()
    }
}

/// One row per group and step.
pub fn summary(section: &Section) -> Vec<Record> {
    let tasks: Vec<String> = section.tasks().iter().map(|t| t.task.clone()).collect();
    let covariates = covariates::names(section);
    Group::all(section).iter().map(|group| summarise(group, &tasks, &covariates)).collect()
}

fn summarise(group: &Group<'_>, tasks: &[String], covariates: &[String]) -> Record {
    let Model { table, row, .. } = *group.first();
    let mut record = object(json!({
        "language": table.language, "language_hash": table.language_hash, "sweep": table.name,
        "intervention": table.intervention, "group": row.group, "label": row.label, "step": row.step, "last": row.last,
        "seeds": group.models.len(), "parameters": row.parameters, "parametrisation": row.parametrisation,
        "saturated": group.models.iter().filter(|m| m.row.saturated).count(),
    }));
    let mut put = |key: &str, values: Vec<Number>| {
        let values: Vec<f64> = values.iter().map(|v| v.0).collect();
        if values.is_empty() {
            return;
        }
        let mean = Estimate::of_mean(&values);
        record.insert(key.into(), json!(mean.value));
        // Of one seed there is no error over seeds: NaN, which JSON has as null.
        record.insert(format!("{key}_standard_error"), json!(mean.standard_error));
    };
    put("noise_time", group.values(|r| Some((r.noise_time, None))));
    put("loss", group.values(quantity::loss));
    for predictor in PREDICTORS {
        put(predictor.key, group.values(predictor.of));
    }
    for convention in &CONVENTIONS {
        put(convention.key, group.values(|r| convention.value(r)));
    }
    put("bartlett_noise_fisher", group.values(quantity::noise_fisher));
    put("bartlett_hessian_fisher", group.values(quantity::hessian_fisher));
    put("share_of_conditional", group.values(quantity::alignment));
    for name in covariates {
        put(&format!("covariate.{name}"), group.values(|r| Some((covariates::value(r, name)?, None))));
    }
    for task in tasks {
        put(&format!("accuracy_{task}"), group.values(|r| quantity::accuracy(r, task)));
        put(&format!("excess_nats_{task}"), group.values(|r| quantity::excess_nats(r, task)));
        put(&format!("forgetting_{task}"), group.values(|r| quantity::forgetting(r, task)));
    }
    record
}
