//! Measures how well curves of a trace fall onto one another over an abscissa: over Σ η²/B they should (Theorem 4.3).
//!
//! ln of the trace is interpolated, one curve per group (mean over seeds), at 64 places between the smallest and the
//! largest abscissa that two groups have. The measure is s_w² / s_t²: the variance between groups at the same place,
//! pooled over places, over the variance of all values. 0: one curve. 1: the abscissa tells nothing. Over 1: less than
//! nothing.

use serde_json::json;

use super::files::Record;
use super::quantity::{FISHER, HESSIAN, Predictor};
use super::rows::Group;
use super::section::{Model, Section, is_lookup};
use crate::random::{Purpose, Stream};
use crate::statistics::Interval;
use crate::sweep::{Row, Table};

/// Places on the common grid.
const PLACES: usize = 64;
/// Bootstrap draws of seeds.
const DRAWS: u64 = 1000;

/// The abscissa that curves are laid over.
pub struct Abscissa {
    pub key: &'static str,
    pub label: &'static str,
    /// The name in titles.
    pub short: &'static str,
    pub of: fn(&Row) -> f64,
}

pub const ABSCISSAE: [Abscissa; 3] = [
    Abscissa { key: "steps", label: "steps", short: "steps", of: |r| r.step as f64 },
    // The time of the gradient flow. With the peak rate: the schedule is not in the table.
    Abscissa {
        key: "eta_steps",
        label: "η · steps (η: peak learning rate)",
        short: "η · steps",
        of: |r| r.learning_rate * r.step as f64,
    },
    Abscissa { key: "noise_time", label: "Σ η² / B", short: "Σ η² / B", of: |r| r.noise_time },
];

/// A measured collapse.
pub struct Collapse {
    pub sweep: String,
    pub of: &'static Predictor,
    pub abscissa: &'static Abscissa,
    /// `None` where no two curves lie over one another.
    pub ratio: Option<f64>,
    /// Over draws of seeds; `None` where every group has one.
    pub interval: Option<[f64; 2]>,
    pub groups: usize,
    pub runs: usize,
}

/// The trace that a table asks for.
pub fn quantity(table: &Table) -> Option<&'static Predictor> {
    let of = &table.collapse.as_ref()?.of;
    [&FISHER, &HESSIAN].into_iter().find(|p| p.key == of)
}

/// A run's ln trace by step.
struct Curve<'a> {
    run: &'a str,
    /// abscissa, ln trace; in the order of steps.
    points: Vec<(f64, f64)>,
}

/// Curves of a group's runs.
type Curves<'a> = Vec<Curve<'a>>;

/// All measures of a section's tables that ask for one.
pub fn all(section: &Section) -> Vec<Collapse> {
    let mut found = Vec::new();
    for table in &section.tables {
        let Some(of) = quantity(table) else { continue };
        for abscissa in &ABSCISSAE {
            found.push(measure(section, table, of, abscissa));
        }
    }
    found
}

fn measure(section: &Section, table: &Table, of: &'static Predictor, abscissa: &'static Abscissa) -> Collapse {
    let groups = curves(section, table, of, abscissa);
    let whole: Vec<Vec<&Curve<'_>>> = groups.iter().map(|g| g.iter().collect()).collect();
    let ratio = ratio(&whole);
    let several = groups.iter().any(|g| g.len() > 1);
    let interval = (several && ratio.is_some()).then(|| {
        let drawn = (0..DRAWS).filter_map(|draw| {
            let mut stream = Stream::new(table.seed, Purpose::Bootstrap, draw);
            let pick = |group: &'_ Curves<'_>, stream: &mut Stream| -> Vec<usize> {
                (0..group.len()).map(|_| stream.below(group.len() as u32) as usize).collect()
            };
            let picked: Vec<Vec<usize>> = groups.iter().map(|g| pick(g, &mut stream)).collect();
            let drawn: Vec<Vec<&Curve<'_>>> =
                groups.iter().zip(&picked).map(|(g, p)| p.iter().map(|i| &g[*i]).collect()).collect();
            self::ratio(&drawn)
        });
        Interval::of(drawn.collect())
    });
    Collapse {
        sweep: table.name.clone(),
        of,
        abscissa,
        ratio,
        interval: interval.filter(|i| i.low.is_finite()).map(|i| [i.low, i.high]),
        groups: groups.len(),
        runs: groups.iter().map(Vec::len).sum(),
    }
}

/// Curves by group; a trace that is not positive has no logarithm and is left out.
fn curves<'a>(section: &'a Section, table: &Table, of: &Predictor, abscissa: &Abscissa) -> Vec<Curves<'a>> {
    let mut groups: Vec<(&str, Curves<'a>)> = Vec::new();
    let mut models: Vec<Model<'a>> =
        section.models().into_iter().filter(|m| std::ptr::eq(m.table, table) && !is_lookup(m.row)).collect();
    models.sort_by_key(|m| m.row.step);
    for m in models {
        let Some((trace, _)) = (of.of)(m.row).filter(|(t, _)| *t > 0.0) else { continue };
        let point = ((abscissa.of)(m.row), libm::log(trace));
        let at = groups.iter().position(|(name, _)| *name == m.row.group).unwrap_or_else(|| {
            groups.push((&m.row.group, Vec::new()));
            groups.len() - 1
        });
        let curves = &mut groups[at].1;
        match curves.iter_mut().find(|c| c.run == m.row.run) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { run: &m.row.run, points: vec![point] }),
        }
    }
    groups.into_iter().map(|(_, curves)| curves).collect()
}

/// Mean of a group's curves at a place, of those that reach it.
fn at(curves: &[&Curve<'_>], x: f64) -> Option<f64> {
    let values: Vec<f64> = curves.iter().filter_map(|c| interpolate(&c.points, x)).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn interpolate(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let above = points.iter().position(|p| p.0 >= x)?;
    let (x1, y1) = points[above];
    if x1 == x {
        return Some(y1);
    }
    let (x0, y0) = points[above.checked_sub(1)?];
    Some(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
}

/// Pooled variance between groups at the same place over the variance of all values.
fn ratio(groups: &[Vec<&Curve<'_>>]) -> Option<f64> {
    // A curve has a point at least.
    let start = |g: &Vec<&Curve<'_>>| g.iter().map(|c| c.points[0].0).reduce(f64::min);
    let stop = |g: &Vec<&Curve<'_>>| g.iter().map(|c| c.points[c.points.len() - 1].0).reduce(f64::max);
    let mut starts: Vec<f64> = groups.iter().filter_map(start).collect();
    let mut stops: Vec<f64> = groups.iter().filter_map(stop).collect();
    starts.sort_by(f64::total_cmp);
    stops.sort_by(|a, b| b.total_cmp(a));
    let (low, high) = (*starts.get(1)?, *stops.get(1)?);
    if low >= high {
        return None;
    }
    let (mut within, mut free) = (0.0, 0.0);
    let mut all: Vec<f64> = Vec::new();
    for i in 0..PLACES {
        let x = low + (high - low) * i as f64 / (PLACES - 1) as f64;
        let values: Vec<f64> = groups.iter().filter_map(|g| at(g, x)).collect();
        if values.len() < 2 {
            continue;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        within += values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        free += values.len() as f64 - 1.0;
        all.extend(values);
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let total = all.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (all.len() as f64 - 1.0);
    (free > 0.0 && total > 0.0).then(|| within / free / total)
}

/// One row per measure.
pub fn records(all: &[Collapse]) -> Vec<Record> {
    let record = |m: &Collapse| {
        let value = json!({
            "sweep": m.sweep, "of": m.of.key, "abscissa": m.abscissa.key, "variance_ratio": m.ratio,
            "low": m.interval.map(|i| i[0]), "high": m.interval.map(|i| i[1]), "n_groups": m.groups, "n_runs": m.runs,
        });
        value.as_object().cloned().unwrap_or_default()
    };
    all.iter().map(record).collect()
}

/// Groups with several steps exist, so that curves can be drawn.
pub fn has_curves(groups: &[&Group<'_>]) -> bool {
    groups.iter().any(|a| {
        groups.iter().any(|b| {
            let (a, b) = (a.first(), b.first());
            a.row.group == b.row.group && a.row.step != b.row.step && std::ptr::eq(a.table, b.table)
        })
    })
}
