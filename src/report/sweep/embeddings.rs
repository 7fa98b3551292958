//! Traces of models of several sizes in every convention: a table and a figure, so that a reader sees which of their
//! changes a convention makes.

use super::super::panels::{Look, Panel, Panels, Point, Scale, Series};
use super::figures::Drawn;
use super::markup::{Grid, number};
use super::paper::Beside;
use super::quantity::{self, Value};
use super::rows::Group;
use super::section::{Section, is_lookup};
use crate::sweep::{Row, Table, TraceConventions};

/// A convention by its name in files, in words, and with its value.
pub struct Convention {
    pub key: &'static str,
    pub name: &'static str,
    of: fn(&TraceConventions) -> Option<Value>,
}

impl Convention {
    pub fn value(&self, row: &Row) -> Option<Value> {
        (self.of)(row.conventions.as_ref()?).filter(|(value, _)| value.is_finite())
    }
}

/// All of them, in the order of the table.
pub const CONVENTIONS: [Convention; 4] = [
    Convention { key: "trace_own", name: "as trained", of: |c| Some((c.own, Some(c.own_standard_error))) },
    Convention {
        key: "trace_duplicate",
        name: "embedded, tables copied",
        of: |c| Some((c.duplicate?, c.duplicate_standard_error)),
    },
    Convention {
        key: "trace_paper",
        name: "embedded, tables divided",
        of: |c| Some((c.paper?, c.paper_standard_error)),
    },
    Convention { key: "trace_balanced", name: "balanced", of: |c| Some((c.balanced?, c.balanced_standard_error)) },
];

/// Where the page says that a sign is a convention.
pub const BELOW: &str = " Below is the trace in every convention, as a figure and as a table.";

const WORDS: &str = "The Fisher trace of the same functions over four sets of parameters, from one measurement by \
    tensor of each model as trained. Embedded: in the architecture named, with the tables copied and the norm before \
    the tied head divided by the factor r of the width, or with all tables divided by r as in the script released with \
    the paper. Balanced: with the tables times the factor that makes the trace least, 2 √(E G) and the rest, where E \
    is the tables' part and G that norm's; it does not depend on the choice between the two. ± is one standard error \
    over seeds; of one seed, that of the measurement, with the covariance of the parts.";

/// Groups of a table at the end of training by size, where at least one has traces in every convention.
fn ends<'a, 'b>(groups: &'b [Group<'a>], table: &Table) -> Vec<&'b Group<'a>> {
    let own = |g: &&Group<'_>| {
        let row = g.first().row;
        std::ptr::eq(g.first().table, table) && row.last && !is_lookup(row)
    };
    let mut ends: Vec<&Group<'_>> = groups.iter().filter(own).collect();
    ends.sort_by_key(|g| g.first().row.parameters);
    if ends.iter().any(|g| g.models.iter().any(|m| m.row.conventions.is_some())) { ends } else { vec![] }
}

fn text(value: Option<Value>) -> String {
    match value {
        None => String::new(),
        Some((value, Some(error))) if error.is_finite() => format!("{} ± {}", number(value), number(error)),
        Some((value, _)) => number(value),
    }
}

/// A table for each sweep whose models have traces in every convention.
pub fn tables(section: &Section) -> Vec<Beside> {
    let groups = Group::all(section);
    section.tables.iter().filter_map(|table| grid(table, &ends(&groups, table))).collect()
}

fn grid(table: &Table, ends: &[&Group<'_>]) -> Option<Beside> {
    let into = ends.iter().flat_map(|g| &g.models).find_map(|m| m.row.conventions.as_ref())?.into.clone();
    let mut grid = Grid::new(&["model", "parameters"]);
    grid.head.extend(CONVENTIONS.iter().map(|c| c.name.to_string()));
    grid.head.extend(["tables times, balanced".into(), "models".into(), "not known".into()]);
    for group in ends {
        let mean = |of: &dyn Fn(&Row) -> Option<Value>| text(quantity::mean(&group.values(of)));
        let row = group.first().row;
        let label = if row.label.is_empty() { &group.first().table.name } else { &row.label };
        let mut cells = vec![label.clone(), row.parameters.to_string()];
        cells.extend(CONVENTIONS.iter().map(|c| mean(&|row| c.value(row))));
        cells.push(mean(&|row| Some((row.conventions.as_ref()?.balanced_table_scale?, None))));
        cells.push(group.models.iter().filter(|m| m.row.conventions.is_some()).count().to_string());
        let notes = |m: &super::section::Model<'_>| m.row.conventions.as_ref()?.note.clone();
        cells.push(group.models.iter().find_map(notes).unwrap_or_default());
        grid.rows.push(cells);
    }
    let words = format!("{WORDS} Embedded in: {into}.{}", changes(ends));
    Some(Beside { title: format!("The trace in every convention: {}", table.name), words, grid })
}

/// From the smallest to the largest model, by how much each trace changes.
fn changes(ends: &[&Group<'_>]) -> String {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return String::new() };
    if first.first().row.parameters == last.first().row.parameters {
        return String::new();
    }
    let change = |c: &Convention| {
        let of = |group: &Group<'_>| quantity::mean(&group.values(|row| c.value(row)));
        let ((a, a_error), (b, b_error)) = (of(first)?, of(last)?);
        let error = a_error.zip(b_error).map(|(a, b)| libm::hypot(a, b));
        Some(format!("{} {}", c.name, text(Some((b - a, error)))))
    };
    let all: Vec<String> = CONVENTIONS.iter().filter_map(change).collect();
    format!(" Change from the smallest to the largest model: {}.", all.join("; "))
}

/// One panel a sweep of several sizes, one line a convention.
pub fn figure(section: &Section) -> Option<Drawn> {
    let groups = Group::all(section);
    let panel = |table: &Table| {
        let ends = ends(&groups, table);
        let varied = ends.windows(2).any(|g| g[0].first().row.parameters < g[1].first().row.parameters);
        let line = |(style, c): (usize, &Convention)| {
            let point = |g: &&Group<'_>| {
                let (value, error) = quantity::mean(&g.values(|row| c.value(row)))?;
                Some(Point::new(g.first().row.parameters as f64, value, error))
            };
            let points: Vec<Point> = ends.iter().filter_map(point).collect();
            let joined = points.windows(2).all(|p| p[0].x < p[1].x);
            let look = if joined { Look::MarkedLine } else { Look::Markers };
            (!points.is_empty()).then(|| Series { name: c.name.into(), style, look, points })
        };
        let series: Vec<Series> = CONVENTIONS.iter().enumerate().filter_map(line).collect();
        (varied && !series.is_empty()).then(|| Panel {
            title: table.name.clone(),
            x: Scale::new("parameters, log scale", true, "size"),
            y: Scale::new("Fisher trace, nats / weight², log scale", true, "trace"),
            series,
            levels: Vec::new(),
        })
    };
    let panels: Vec<Panel> = section.tables.iter().filter_map(panel).collect();
    if panels.is_empty() {
        return None;
    }
    let title = "The trace over sizes in every convention".to_string();
    let caption = "The same functions, their traces over four sets of parameters: see the table. Means over seeds with \
        one standard error over seeds; of one seed, the error of the measurement itself.";
    let name = format!("{}conventions", section.prefix);
    Some(Drawn { name, scene: Panels { title, panels, saturation: false }.scene(), caption: caption.into() })
}
