//! Models beside themselves in other gauges: what an outcome changes by where the function stays and its trace does
//! not.

use super::super::axis::wide;
use super::super::panels::{Look, Panel, Panels, Point, Scale, Series};
use super::figures::{Drawn, file_name, named, short};
use super::quantity::{self, FISHER, Value, titled};
use super::section::Section;
use crate::statistics::Estimate;
use crate::sweep::{Row, Table};

/// A model in another gauge with its own.
struct Pair<'a> {
    own: &'a Row,
    moved: &'a Row,
    /// The keys that its gauge moves, `tables`; one line a label and such.
    moves: String,
    /// Their factors, by which models of several seeds are told to be in one gauge.
    factors: String,
}

fn pairs(table: &Table) -> Vec<Pair<'_>> {
    table.rows.iter().filter_map(|moved| pair(table, moved)).collect()
}

fn pair<'a>(table: &'a Table, moved: &'a Row) -> Option<Pair<'a>> {
    let gauges = moved.values.iter().filter_map(|(key, value)| Some((key.strip_prefix("gauge.")?, value)));
    let gauges: Vec<(&str, &serde_json::Value)> = gauges.collect();
    let same = |row: &&Row| Some(&row.run) == moved.drawn_with.as_ref() && row.step == moved.step;
    let own = table.rows.iter().find(same).filter(|_| !gauges.is_empty())?;
    let moves = gauges.iter().map(|(key, _)| key.replace('_', " ")).collect::<Vec<_>>().join(", ");
    let factors = gauges.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ");
    Some(Pair { own, moved, moves, factors })
}

/// The mean over seeds of an outcome's change, over the mean of the trace.
fn point(pairs: &[&Pair<'_>], outcome: &dyn Fn(&Row) -> Option<Value>) -> Option<Point> {
    let known = pairs.iter().filter_map(|pair| {
        let trace = (FISHER.of)(pair.moved)?.0;
        Some((trace, outcome(pair.moved)?.0 - outcome(pair.own)?.0))
    });
    let (traces, changes): (Vec<f64>, Vec<f64>) = known.unzip();
    let change = (!changes.is_empty()).then(|| Estimate::of_mean(&changes))?;
    let trace = traces.iter().sum::<f64>() / traces.len() as f64;
    Some(Point::new(trace, change.value, (changes.len() > 1).then_some(change.standard_error)))
}

/// One line for each label and kind of gauge, through the models as they are.
fn lines(pairs: &[Pair<'_>], outcome: &dyn Fn(&Row) -> Option<Value>) -> Vec<Series> {
    let mut kinds: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair.own.label.as_str(), pair.moves.as_str())).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let line = |(style, (label, moves)): (usize, (&str, &str))| {
        let own: Vec<&Pair<'_>> = pairs.iter().filter(|p| p.own.label == label && p.moves == moves).collect();
        let mut factors: Vec<&str> = own.iter().map(|pair| pair.factors.as_str()).collect();
        factors.sort_unstable();
        factors.dedup();
        let of = |factors: &str| {
            let same: Vec<&Pair<'_>> = own.iter().filter(|pair| pair.factors == factors).copied().collect();
            point(&same, outcome)
        };
        let mut points: Vec<Point> = factors.into_iter().filter_map(of).collect();
        // In its own gauge nothing changes.
        let traces: Vec<f64> = own.iter().filter_map(|pair| Some((FISHER.of)(pair.own)?.0)).collect();
        if points.is_empty() || traces.is_empty() {
            return None;
        }
        points.push(Point::new(traces.iter().sum::<f64>() / traces.len() as f64, 0.0, None));
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let name = if label.is_empty() { moves.to_string() } else { format!("{label}: {moves}") };
        Some(Series { name: short(&name), style, look: Look::MarkedLine, points })
    };
    kinds.into_iter().enumerate().filter_map(line).collect()
}

/// The change of every outcome in nats over the trace, for a sweep with gauges.
pub fn figure(section: &Section, table: &Table) -> Option<Drawn> {
    let pairs = pairs(table);
    let traces = pairs.iter().flat_map(|pair| [pair.own, pair.moved]).filter_map(|row| Some((FISHER.of)(row)?.0));
    let log = wide(traces);
    let x = format!("{}, {}{}", FISHER.name, FISHER.unit, if log { ", log scale" } else { "" });
    let mut panels = Vec::new();
    type Outcome = fn(&Row, &str) -> Option<Value>;
    let outcomes: [(&str, Outcome); 2] = [("Excess", quantity::excess_nats), ("Forgetting", quantity::forgetting)];
    for (words, outcome) in outcomes {
        for task in &table.tasks {
            let series = lines(&pairs, &|row| outcome(row, &task.task));
            if !series.is_empty() {
                panels.push(Panel {
                    title: format!("{words}, {}", titled(&task.task)),
                    x: Scale::new(&x, log, "trace"),
                    y: Scale::new("change, nats", false, &format!("{words} {}", task.task)),
                    series,
                    levels: Vec::new(),
                });
            }
        }
    }
    if panels.is_empty() {
        return None;
    }
    let caption = "Every model beside itself in other gauges: the same function with parameters of another scale, and \
                   with them another trace. What an outcome changes by, in the mean over seeds; bars are one standard \
                   error of the mean of these differences. The point at 0 of each line is the models as they are."
        .to_string();
    let title = format!("The same function, another trace: {}", table.name);
    let name = format!("gauges-{}", file_name(&table.name));
    Some(named(section, &name, Panels { title, panels, saturation: false }.scene(), caption))
}
