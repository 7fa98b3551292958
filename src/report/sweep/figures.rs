//! The figures of a section.

use super::super::axis::wide;
use super::super::panels::{Level, Look, Panel, Panels, Point, Scale, Series, bar};
use super::super::scene::Scene;
use super::collapse::{self, ABSCISSAE, has_curves};
use super::convention;
use super::correlations::Found;
use super::covariates;
use super::embeddings;
use super::forest;
use super::gauged;
use super::quantity::{self, EXCESS, FISHER, HESSIAN, Predictor, RELATIVE, SCALE_FREE, Value, titled};
use super::rows::Group;
use super::section::{Model, Section, is_lookup};
use crate::sweep::{Row, Table};

/// A figure with the name of its files and the words under it.
pub struct Drawn {
    pub name: String,
    pub scene: Scene,
    pub caption: String,
}

/// Letters of a legend's entry.
const LONGEST: usize = 70;

/// All figures of a section.
pub fn all(section: &Section, correlations: &[Found]) -> Vec<Drawn> {
    let mut drawn = Vec::new();
    for predictor in [&FISHER, &HESSIAN] {
        drawn.extend(transfer(section, predictor));
    }
    for predictor in [&FISHER, &HESSIAN, covariates::rival(section)] {
        drawn.extend(scores(section, predictor));
    }
    let briefly = if convention::decides_in(section) { format!(" {}", convention::BRIEFLY) } else { String::new() };
    drawn.extend(
        forest::draw(correlations, false)
            .map(|(scene, caption)| named(section, "correlations", scene, format!("{caption}{briefly}"))),
    );
    let of_covariates = forest::draw(correlations, true);
    drawn.extend(of_covariates.map(|(scene, caption)| named(section, "covariates", scene, caption)));
    let groups = Group::all(section);
    for table in &section.tables {
        let own: Vec<&Group<'_>> = groups.iter().filter(|g| std::ptr::eq(g.first().table, table)).collect();
        drawn.extend(steps(section, table, &own));
        drawn.extend(collapsed(section, table, &own));
        drawn.extend(gauged::figure(section, table));
    }
    drawn.extend(sizes(section, &groups));
    drawn.extend(embeddings::figure(section));
    drawn
}

pub fn named(section: &Section, name: &str, scene: Scene, caption: String) -> Drawn {
    Drawn { name: format!("{}{name}", section.prefix), scene, caption }
}

/// Letters and digits of a sweep's name, for a file.
pub fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

pub fn short(text: &str) -> String {
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => text.into(),
    }
}

/// Accuracy against a trace, one panel per task, one colour per intervention; models of the section's parametrisation.
fn transfer(section: &Section, predictor: &'static Predictor) -> Option<Drawn> {
    let parametrisation = section.parametrisation()?;
    let models: Vec<Model<'_>> =
        section.trained().into_iter().filter(|m| m.row.parametrisation == parametrisation).collect();
    let log = wide(models.iter().filter_map(|m| (predictor.of)(m.row)).map(|v| v.0));
    let label = format!("{}, {}{}", predictor.name, predictor.unit, if log { ", log scale" } else { "" });
    // Of text no excess loss is.
    let known = models.iter().any(|m| (EXCESS.of)(m.row).is_some());
    let mut panels = Vec::new();
    for task in section.tasks() {
        let mut series = Vec::new();
        for (style, intervention) in section.interventions().into_iter().enumerate() {
            let point = |m: &Model<'_>| {
                let (x, x_error) = (predictor.of)(m.row)?;
                let (y, y_error) = quantity::percent(m.row, &task.task)?;
                let (x_bar, y_bar) = (bar(x, x_error), bar(y, y_error));
                Some(Point { x, y, x_bar, y_bar, filled: m.row.saturated || !known })
            };
            let own = models.iter().filter(|m| m.table.intervention == intervention);
            let points: Vec<Point> = own.filter_map(point).collect();
            if !points.is_empty() {
                series.push(Series { name: short(intervention), style, look: Look::Markers, points });
            }
        }
        if series.is_empty() {
            continue;
        }
        panels.push(Panel {
            title: titled(&task.task),
            x: Scale::new(&label, log, "trace"),
            y: Scale::new("accuracy, %", false, &task.task),
            series,
            levels: lookup(section, &task.task),
        });
    }
    if panels.is_empty() {
        return None;
    }
    let caption = format!(
        "Each point is a model (a run at a step). Bars: one standard error; of the accuracy, that over the probe's \
         seeds and that of the choice of test sentences together (the latter is shared by all models, so that \
         differences between models are known better than the bars say).{} Traces are over one parametrisation: {}.{}",
        if known { format!(" Saturated: excess loss under {}.", bounds(section)) } else { String::new() },
        if parametrisation.is_empty() { "as trained" } else { &parametrisation },
        if convention::decides(&models) { format!(" {}", convention::BRIEFLY) } else { String::new() }
    );
    let name = format!("accuracy-{}", predictor.key.replace('_', "-"));
    let title = format!("Accuracy against the {}", predictor.name.split(',').next().unwrap_or(predictor.name));
    Some(named(section, &name, Panels { title, panels, saturation: known }.scene(), caption))
}

/// Covariates that have a panel.
const MOST_PANELS: usize = 12;

/// Covariates against a predictor, one panel each; of a trace, models of the section's parametrisation.
fn scores(section: &Section, predictor: &'static Predictor) -> Option<Drawn> {
    let parametrisation = section.parametrisation();
    let one = |m: &Model<'_>| !predictor.curvature || Some(&m.row.parametrisation) == parametrisation.as_ref();
    let models: Vec<Model<'_>> = section.trained().into_iter().filter(one).collect();
    let log = predictor.curvature && wide(models.iter().filter_map(|m| (predictor.of)(m.row)).map(|v| v.0));
    let label = format!("{}, {}{}", predictor.name, predictor.unit, if log { ", log scale" } else { "" });
    let known = models.iter().any(|m| (EXCESS.of)(m.row).is_some());
    let panel = |name: &String| {
        let mut series = Vec::new();
        for (style, intervention) in section.interventions().into_iter().enumerate() {
            let point = |m: &Model<'_>| {
                let (x, error) = (predictor.of)(m.row)?;
                let y = covariates::value(m.row, name)?;
                Some(Point { x, y, x_bar: bar(x, error), y_bar: None, filled: m.row.saturated || !known })
            };
            let own = models.iter().filter(|m| m.table.intervention == intervention);
            let points: Vec<Point> = own.filter_map(point).collect();
            if !points.is_empty() {
                series.push(Series { name: short(intervention), style, look: Look::Markers, points });
            }
        }
        (!series.is_empty()).then(|| Panel {
            title: short(name),
            x: Scale::new(&label, log, "predictor"),
            y: Scale::new(&short(name), false, name),
            series,
            levels: Vec::new(),
        })
    };
    let panels: Vec<Panel> = covariates::names(section).iter().filter_map(panel).take(MOST_PANELS).collect();
    if panels.is_empty() {
        return None;
    }
    let over = match (&parametrisation, predictor.curvature) {
        (Some(over), true) => format!(" Traces are over one parametrisation: {over}."),
        _ => String::new(),
    };
    let first = match covariates::names(section).len() {
        n if n > MOST_PANELS => format!(" Of {n} covariates the first {MOST_PANELS}."),
        _ => String::new(),
    };
    let caption = format!(
        "Each point is a model; what is on the vertical axis comes from the sweep's table of covariates. Bars: one \
         standard error.{over}{first}"
    );
    let title = format!("Covariates against the {}", predictor.name.split(',').next().unwrap_or(predictor.name));
    let name = format!("covariates-{}", predictor.key.replace('_', "-"));
    Some(named(section, &name, Panels { title, panels, saturation: known }.scene(), caption))
}

/// The saturation bounds of a section's sweeps in words.
pub fn bounds(section: &Section) -> String {
    let mut all: Vec<f64> = section.tables.iter().map(|t| t.saturation_bound).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    let all: Vec<String> = all.iter().map(f64::to_string).collect();
    format!("{} nats", all.join(" or "))
}

fn lookup(section: &Section, task: &str) -> Vec<Level> {
    let row = section.models().into_iter().find(|m| is_lookup(m.row)).map(|m| m.row);
    let found = row.and_then(|r| quantity::percent(r, task));
    found.map(|(y, _)| Level { name: "lookup table of exact conditionals".into(), y }).into_iter().collect()
}

type Pick<'a> = Box<dyn Fn(&Row) -> Option<Value> + 'a>;

/// A panel's title, unit, key of its shared scale, and value.
type PanelSpec<'a> = (String, &'static str, &'static str, Pick<'a>);

/// The quantities drawn along training and against size.
fn panel_specs<'a>(section: &Section, task: impl Fn(&str) -> Pick<'a>) -> Vec<PanelSpec<'a>> {
    let mut panel_specs: Vec<PanelSpec<'a>> = vec![
        ("Expected loss".into(), "nats", "loss", Box::new(quantity::loss)),
        ("Excess loss".into(), "nats", "excess", Box::new(EXCESS.of)),
        (FISHER.name.into(), FISHER.unit, "trace", Box::new(FISHER.of)),
        (HESSIAN.name.into(), HESSIAN.unit, "trace", Box::new(HESSIAN.of)),
        (capital(SCALE_FREE.name), SCALE_FREE.unit, "", Box::new(SCALE_FREE.of)),
        (capital(RELATIVE.name), RELATIVE.unit, "", Box::new(RELATIVE.of)),
    ];
    if section.models().iter().any(|m| m.row.alignment.is_some()) {
        panel_specs.push(("Alignment with the truth".into(), "share of variance", "", Box::new(quantity::alignment)));
    }
    for t in section.tasks() {
        let name = t.task.clone();
        panel_specs.push((format!("Accuracy, {}", titled(&t.task)), "%", "", task(&t.task)));
        let nats: Pick<'a> = Box::new(move |row| quantity::excess_nats(row, &name));
        panel_specs.push((format!("Excess nats, {}", titled(&t.task)), "nats", "", nats));
    }
    panel_specs
}

/// A name at the head of a panel.
fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn accuracy_of(task: &str) -> Pick<'static> {
    let task = task.to_string();
    Box::new(move |row| quantity::percent(row, &task))
}

/// Lines of groups over an abscissa: means over seeds.
fn lines(groups: &[&Group<'_>], x: &dyn Fn(&Row) -> f64, y: &dyn Fn(&Row) -> Option<Value>) -> Vec<Series> {
    let mut order: Vec<(&str, Vec<&&Group<'_>>)> = Vec::new();
    for group in groups.iter().filter(|g| !is_lookup(g.first().row)) {
        let id = group.first().row.group.as_str();
        match order.iter_mut().find(|(name, _)| *name == id) {
            Some((_, steps)) => steps.push(group),
            None => order.push((id, vec![group])),
        }
    }
    let mut series = Vec::new();
    for (style, (_, mut steps)) in order.into_iter().enumerate() {
        steps.sort_by_key(|g| g.first().row.step);
        let first = steps[0].first();
        let label = if first.row.label.is_empty() { &first.table.name } else { &first.row.label };
        let point = |g: &&&Group<'_>| {
            let (value, error) = quantity::mean(&g.values(y))?;
            Some(Point::new(x(g.first().row), value, error))
        };
        let points: Vec<Point> = steps.iter().filter_map(point).collect();
        if !points.is_empty() {
            series.push(Series { name: short(label), style, look: Look::MarkedLine, points });
        }
    }
    series
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + '_ {
    series.iter().flat_map(|s| s.points.iter().map(|p| p.y))
}

fn unit(unit: &str, log: bool) -> String {
    if log { format!("{unit}, log scale") } else { unit.into() }
}

const SEEDS: &str =
    "Means over seeds with one standard error over seeds; of one seed, the error of the measurement itself.";

/// Everything along training, one line per group; for sweeps whose runs have several steps.
fn steps(section: &Section, table: &Table, groups: &[&Group<'_>]) -> Option<Drawn> {
    if !has_curves(groups) {
        return None;
    }
    let positive = groups.iter().map(|g| g.first().row.step as f64).filter(|s| *s > 0.0);
    let log_x = wide(positive);
    let traces = [&FISHER, &HESSIAN].map(|p| lines(groups, &|r| r.step as f64, &p.of));
    let log_trace = wide(traces.iter().flat_map(|t| values(t)));
    let mut panels = Vec::new();
    for (title, name, shared, pick) in panel_specs(section, accuracy_of) {
        let series = lines(groups, &|r| r.step as f64, &pick);
        if series.is_empty() {
            continue;
        }
        let log = if shared == "trace" { log_trace } else { shared == "excess" && wide(values(&series)) };
        let key = if shared.is_empty() { title.clone() } else { shared.into() };
        let levels = match shared {
            "excess" => vec![Level { name: "saturation bound".into(), y: table.saturation_bound }],
            _ => Vec::new(),
        };
        let x = Scale::new(&unit("steps", log_x), log_x, "steps");
        panels.push(Panel { title, x, y: Scale::new(&unit(name, log), log, &key), series, levels });
    }
    let title = format!("Along training: {}", table.name);
    let hidden = log_x && groups.iter().any(|g| g.first().row.step == 0);
    let caption = format!("{SEEDS}{}", if hidden { " Step 0 has no place on a log scale." } else { "" });
    let name = format!("steps-{}", file_name(&table.name));
    Some(named(section, &name, Panels { title, panels, saturation: false }.scene(), caption))
}

/// Everything at the end of training against the number of parameters, for sweeps that vary it.
fn sizes(section: &Section, groups: &[Group<'_>]) -> Option<Drawn> {
    let ends = |table: &Table| -> Vec<&Group<'_>> {
        let own = groups.iter().filter(|g| std::ptr::eq(g.first().table, table));
        let mut ends: Vec<&Group<'_>> = own.filter(|g| g.first().row.last && !is_lookup(g.first().row)).collect();
        ends.sort_by_key(|g| g.first().row.parameters);
        ends
    };
    let varied: Vec<(&Table, Vec<&Group<'_>>)> = section
        .tables
        .iter()
        .map(|t| (t, ends(t)))
        .filter(|(_, e)| e.first().map(|g| g.first().row.parameters) != e.last().map(|g| g.first().row.parameters))
        .collect();
    if varied.is_empty() {
        return None;
    }
    let series = |pick: &dyn Fn(&Row) -> Option<Value>| -> Vec<Series> {
        let mut all = Vec::new();
        for (style, (table, ends)) in varied.iter().enumerate() {
            let point = |g: &&Group<'_>| {
                let (value, error) = quantity::mean(&g.values(pick))?;
                Some(Point::new(g.first().row.parameters as f64, value, error))
            };
            let points: Vec<Point> = ends.iter().filter_map(point).collect();
            // Several models of one size are no line.
            let joined = points.windows(2).all(|p| p[0].x < p[1].x);
            let look = if joined { Look::MarkedLine } else { Look::Markers };
            if !points.is_empty() {
                all.push(Series { name: short(&table.name), style, look, points });
            }
        }
        all
    };
    let traces = [&FISHER, &HESSIAN].map(|p| series(&p.of));
    let log_trace = wide(traces.iter().flat_map(|t| values(t)));
    let mut panels = Vec::new();
    for (title, name, shared, pick) in panel_specs(section, accuracy_of) {
        let series = series(&pick);
        if series.is_empty() || shared == "loss" {
            continue;
        }
        let log = if shared == "trace" { log_trace } else { shared == "excess" && wide(values(&series)) };
        let key = if shared.is_empty() { title.clone() } else { shared.into() };
        let x = Scale::new("parameters, log scale", true, "size");
        let levels = match title.strip_prefix("Accuracy, task ") {
            Some(task) => lookup(section, task),
            None => Vec::new(),
        };
        panels.push(Panel { title, x, y: Scale::new(&unit(name, log), log, &key), series, levels });
    }
    let mut over: Vec<&str> = varied
        .iter()
        .flat_map(|(_, e)| e.iter().flat_map(|g| &g.models))
        .filter(|m| m.row.curvature.is_some())
        .map(|m| m.row.parametrisation.as_str())
        .collect();
    over.sort_unstable();
    over.dedup();
    let models: Vec<Model<'_>> =
        varied.iter().flat_map(|(_, e)| e.iter().flat_map(|g| g.models.iter().copied())).collect();
    let traces = match over.len() {
        0 => String::new(),
        1 if convention::decides(&models) => format!(" Traces are over one parametrisation. {}", convention::WORDS),
        1 => " Traces are over one parametrisation.".to_string(),
        n => format!(" Traces are over {n} parametrisations and not comparable between them."),
    };
    let title = "At the end of training, by size".to_string();
    Some(named(section, "size", Panels { title, panels, saturation: false }.scene(), format!("{SEEDS}{traces}")))
}

/// The trace over each abscissa of the collapse, and Bartlett's ratios along the way.
fn collapsed(section: &Section, table: &Table, groups: &[&Group<'_>]) -> Option<Drawn> {
    let of = collapse::quantity(table)?;
    if !has_curves(groups) {
        return None;
    }
    let mut panels = Vec::new();
    for abscissa in &ABSCISSAE {
        panels.push(Panel {
            title: format!("{} over {}", of.name.split(", ").last().unwrap_or(of.name), abscissa.short),
            x: Scale::new(abscissa.label, false, abscissa.key),
            y: Scale::new(&unit(of.unit, true), true, "trace"),
            series: lines(groups, &abscissa.of, &of.of),
            levels: Vec::new(),
        });
    }
    let ratios: [(&str, Pick<'_>); 2] =
        [("Tr Σ / Tr F", Box::new(quantity::noise_fisher)), ("Tr H / Tr F", Box::new(quantity::hessian_fisher))];
    for (name, pick) in ratios {
        let series = lines(groups, &|r| r.noise_time, &pick);
        if !series.is_empty() {
            panels.push(Panel {
                title: format!("Bartlett: {name}"),
                x: Scale::new("Σ η² / B", false, "noise_time"),
                y: Scale::new("ratio", false, "ratio"),
                series,
                levels: vec![Level { name: "where the model is the language".into(), y: 1.0 }],
            });
        }
    }
    if panels.iter().all(|p| p.series.is_empty()) {
        return None;
    }
    let title = format!("Collapse of the trace: {}", table.name);
    let name = format!("collapse-{}", file_name(&table.name));
    Some(named(section, &name, Panels { title, panels, saturation: false }.scene(), SEEDS.into()))
}
