//! Our numbers in the form of the paper's tables, the paper's beside them where language and intervention are of the
//! same kind (Liu, Xie, Li and Ma 2023, arXiv 2210.14199, tables 1 and 2 and section 5).

use super::convention;
use super::markup::{Grid, fixed, number};
use super::quantity::{self, FISHER, Value};
use super::rows::Group;
use super::section::{Model, Section, is_lookup};
use crate::statistics::Estimate;
use crate::sweep::{Row, Table};

/// A row of the paper's Table 1 (PCFG, 235 M parameters): loss in nats, accuracies in per cent, trace.
struct Algorithm {
    /// Words in a model's settings or label by which the row is found.
    word: &'static str,
    loss: &'static str,
    accuracy: [(&'static str, &'static str); 3],
    trace: &'static str,
}

const ALGORITHMS: [Algorithm; 3] = [
    Algorithm {
        word: "adversarial",
        loss: "3.206",
        accuracy: [("a", "83.1 ± 0.6"), ("b", "42.3 ± 1.5"), ("c", "50.2 ± 1.0")],
        trace: "19.34 ± 0.92",
    },
    Algorithm { word: "lookup", loss: "3.196", accuracy: [("a", "71.2"), ("b", "39.7"), ("c", "")], trace: "" },
    Algorithm {
        word: "adamw",
        loss: "3.204",
        accuracy: [("a", "89.9 ± 0.3"), ("b", "49.2 ± 0.8"), ("c", "55.7 ± 0.6")],
        trace: "8.01 ± 0.73",
    },
];

fn is(table: &Table, kind: &str) -> bool {
    table.language.to_lowercase().starts_with(kind)
}

/// A table with the words above it.
pub struct Beside {
    pub title: String,
    pub words: String,
    pub grid: Grid,
}

/// Mean and standard deviation over seeds; of one seed that of the probe, where it is given.
fn spread(values: &[f64], alone: Option<f64>, digits: usize) -> String {
    let deviation = match values {
        [] => return String::new(),
        [_] => alone,
        several => Some(Estimate::of_mean(several).standard_error * (several.len() as f64).sqrt()),
    };
    let mean = fixed(values.iter().sum::<f64>() / values.len() as f64, digits);
    deviation.map_or(mean.clone(), |d| format!("{mean} ± {}", fixed(d, digits)))
}

fn plain(values: Vec<Value>) -> Vec<f64> {
    values.into_iter().map(|v| v.0).collect()
}

fn accuracy(group: &Group<'_>, task: &str) -> String {
    let values = plain(group.values(|r| quantity::percent(r, task)));
    let alone = quantity::accuracies(group.first().row, task).and_then(|a| a.standard_deviation);
    spread(&values, alone.map(|d| 100.0 * d), 1)
}

fn trace(group: &Group<'_>) -> String {
    let values = plain(group.values(FISHER.of));
    let alone = (FISHER.of)(group.first().row).and_then(|v| v.1);
    spread(&values, alone, 2)
}

const SPREADS: &str = "± is the standard deviation over seeds, as in the paper; of one run, that of the probe's seeds \
    and the trace's standard error.";

/// Groups of a table at the end of training, the lookup table last.
fn ends<'a, 'b>(groups: &'b [Group<'a>], table: &Table) -> Vec<&'b Group<'a>> {
    let own = |g: &&Group<'_>| std::ptr::eq(g.first().table, table) && (g.first().row.last || is_lookup(g.first().row));
    let mut ends: Vec<&Group<'_>> = groups.iter().filter(own).collect();
    ends.sort_by_key(|g| is_lookup(g.first().row));
    ends
}

fn label(model: &Model<'_>) -> String {
    let row = model.row;
    match (is_lookup(row), row.label.is_empty()) {
        (true, _) => "lookup table".into(),
        (_, true) => model.table.name.clone(),
        _ => row.label.clone(),
    }
}

/// Tables for a section: as Table 1 for algorithms, as Table 2 for sizes, and changes along training for steps.
pub fn tables(section: &Section) -> Vec<Beside> {
    let groups = Group::all(section);
    let mut found = Vec::new();
    for table in &section.tables {
        match table.intervention.as_str() {
            "algorithm" => found.push(algorithms(table, &ends(&groups, table))),
            "size" => {
                let mut ends = ends(&groups, table);
                ends.retain(|g| !is_lookup(g.first().row));
                ends.sort_by_key(|g| g.first().row.parameters);
                found.push(sizes(table, &ends));
            }
            "steps" => found.extend(steps(section, table)),
            _ => {}
        }
    }
    found
}

/// Loss, accuracies, trace, and how many of a group are saturated.
fn ours(group: &Group<'_>, table: &Table) -> Vec<String> {
    let losses = plain(group.values(quantity::loss));
    let excess = plain(group.values(quantity::EXCESS.of));
    let lookup = is_lookup(group.first().row);
    let mut cells = vec![spread(&losses, None, 4)];
    cells.push(match excess.is_empty() && lookup {
        true => "0 by construction".into(),
        false => spread(&excess, None, 4),
    });
    cells.extend(table.tasks.iter().map(|t| accuracy(group, &t.task)));
    cells.push(trace(group));
    let saturated = group.models.iter().filter(|m| m.row.saturated).count();
    cells.push(if lookup { String::new() } else { format!("{saturated} of {}", group.models.len()) });
    cells
}

fn head(first: &str, table: &Table) -> Vec<String> {
    let mut head = vec![first.to_string(), "loss, nats".into(), "excess loss, nats".into()];
    head.extend(table.tasks.iter().map(|t| format!("{}, %", quantity::titled(&t.task))));
    head.extend(["Fisher trace".to_string(), "saturated".into()]);
    head
}

fn algorithms(table: &Table, ends: &[&Group<'_>]) -> Beside {
    let mut grid = Grid { head: head("algorithm", table), rows: Vec::new(), paper: 0 };
    let beside = is(table, "pcfg");
    // Probes by other methods ("b ridge") are not the paper's.
    let has = |t: &&str| ALGORITHMS[0].accuracy.iter().any(|(task, _)| task.eq_ignore_ascii_case(t));
    let letters: Vec<&str> = table.tasks.iter().map(|t| t.task.as_str()).filter(has).collect();
    if beside {
        let mut paper = vec!["paper: loss".to_string()];
        paper.extend(letters.iter().map(|t| format!("paper: task {}, %", t.to_uppercase())));
        paper.push("paper: trace".into());
        grid.paper = paper.len();
        grid.head.extend(paper);
    }
    for group in ends {
        let mut cells = vec![label(group.first())];
        cells.extend(ours(group, table));
        if beside {
            let theirs = algorithm(group.first().row);
            cells.push(theirs.map_or(String::new(), |a| a.loss.into()));
            let of = |task: &str| {
                let all = theirs.iter().flat_map(|a| &a.accuracy);
                all.filter(|(t, _)| task.eq_ignore_ascii_case(t)).map(|(_, v)| v.to_string()).next().unwrap_or_default()
            };
            cells.extend(letters.iter().map(|t| of(t)));
            cells.push(theirs.map_or(String::new(), |a| a.trace.into()));
        }
        grid.rows.push(cells);
    }
    let other = match beside {
        true => " The paper's columns: another grammar (least loss 3.196 nats), 235 M parameters.",
        false => " The paper's Table 1 is of a PCFG, so that it has no numbers for this language.",
    };
    Beside {
        title: format!("Algorithms: {} (the paper's Table 1)", table.name),
        words: format!("{SPREADS}{other}"),
        grid,
    }
}

/// The paper's row of a model, by its settings and label. AdamW's is that of no other algorithm with AdamW in it.
fn algorithm(row: &Row) -> Option<&'static Algorithm> {
    let settings = serde_json::to_string(&row.values).unwrap_or_default();
    let text = format!("{} {} {settings}", row.run, row.label).to_lowercase();
    let other = ["\"sam\"", "label-noise"].iter().any(|word| text.contains(word));
    ALGORITHMS.iter().find(|a| text.contains(a.word)).filter(|_| !other)
}

fn sizes(table: &Table, ends: &[&Group<'_>]) -> Beside {
    let mut grid = Grid { head: head("model", table), rows: Vec::new(), paper: 0 };
    grid.head.insert(1, "parameters".into());
    let beside = is(table, "pcfg");
    if beside {
        grid.head.extend(["paper: task B, %".to_string(), "paper: trace".into()]);
        grid.paper = 2;
    }
    for (i, group) in ends.iter().enumerate() {
        let mut cells = vec![label(group.first()), group.first().row.parameters.to_string()];
        cells.extend(ours(group, table));
        if beside {
            let theirs = match i {
                0 => ["40.4 (smallest)", "19.8"],
                i if i + 1 == ends.len() => ["50.5 (largest)", "12.6"],
                _ => ["", ""],
            };
            cells.extend(theirs.map(String::from));
        }
        grid.rows.push(cells);
    }
    let theirs = match (beside, is(table, "hmm")) {
        (true, _) => {
            "On its own PCFG the paper's rises by 6.9 points from 9 M to 730 M parameters; its columns are of its \
                      smallest and largest model."
        }
        (_, true) => "On its own HMM the paper's rises by 4.5 points, with LSTMs of 10 to 135 M parameters.",
        _ => "The paper has no numbers for a language of this kind.",
    };
    let models: Vec<Model<'_>> = ends.iter().flat_map(|g| g.models.iter().copied()).collect();
    let convention = if convention::decides(&models) { format!(" {}", convention::WORDS) } else { String::new() };
    let words = format!(
        "{SPREADS} From the smallest to the largest model accuracy changes by {}. {theirs}{convention}",
        changes(table, ends)
    );
    Beside { title: format!("Sizes: {} (the paper's Table 2)", table.name), words, grid }
}

fn changes(table: &Table, ends: &[&Group<'_>]) -> String {
    let (Some(first), Some(last)) = (ends.first(), ends.last()) else { return "nothing that is known".into() };
    let change = |task: &str| {
        let of = |g: &Group<'_>| {
            let values = plain(g.values(|r| quantity::percent(r, task)));
            Estimate::of_mean(&values)
        };
        let (a, b) = (of(first), of(last));
        let error = libm::hypot(a.standard_error, b.standard_error);
        let error = if error.is_finite() { format!(" ± {}", fixed(error, 1)) } else { String::new() };
        format!("{}{error} points on {}", fixed(b.value - a.value, 1), quantity::titled(task))
    };
    let all: Vec<String> = table.tasks.iter().map(|t| change(&t.task)).collect();
    if all.is_empty() { "nothing that is known".into() } else { all.join(", ") }
}

/// Changes of accuracy and trace from a run's first saturated checkpoint to its last.
fn steps(section: &Section, table: &Table) -> Option<Beside> {
    let trained = section.models().into_iter().filter(|m| std::ptr::eq(m.table, table) && !is_lookup(m.row));
    let mut runs: Vec<(&Row, &Row)> = Vec::new();
    let mut saturated: Vec<&Row> = trained.filter(|m| m.row.saturated).map(|m| m.row).collect();
    saturated.sort_by_key(|r| r.step);
    for row in saturated {
        match runs.iter_mut().find(|(first, _)| first.run == row.run) {
            Some((_, last)) => *last = row,
            None => runs.push((row, row)),
        }
    }
    runs.retain(|(first, last)| first.step < last.step);
    if runs.is_empty() {
        return None;
    }
    let beside = is(table, "pcfg") || is(table, "hmm");
    let mut grid = Grid::new(&["quantity", "first saturated checkpoint", "last", "change", "runs"]);
    if beside {
        grid.head.push("paper: change".into());
        grid.paper = 1;
    }
    let mut put = |name: String, digits: usize, of: &dyn Fn(&Row) -> Option<Value>, theirs: &str| {
        let pairs: Vec<(f64, f64)> = runs.iter().filter_map(|(a, b)| Some((of(a)?.0, of(b)?.0))).collect();
        if pairs.is_empty() {
            return;
        }
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
        let change = Estimate::of_mean(&differences);
        let error = match change.standard_error.is_finite() {
            true => format!(" ± {}", fixed(change.standard_error, digits)),
            false => String::new(),
        };
        let mean = |v: Vec<f64>| fixed(v.iter().sum::<f64>() / v.len() as f64, digits);
        let mut cells = vec![
            name,
            mean(pairs.iter().map(|p| p.0).collect()),
            mean(pairs.iter().map(|p| p.1).collect()),
            format!("{}{error}", fixed(change.value, digits)),
            pairs.len().to_string(),
        ];
        if beside {
            cells.push(theirs.into());
        }
        grid.rows.push(cells);
    };
    for task in &table.tasks {
        let theirs = match task.task.to_lowercase().as_str() {
            "c" if is(table, "pcfg") => "+1.6 (SGD, 235 M)",
            "task-10" if is(table, "hmm") => "+4.0 (SGD, LSTM of 67 M)",
            _ => "",
        };
        put(format!("accuracy, {}, %", quantity::titled(&task.task)), 2, &|r| quantity::percent(r, &task.task), theirs);
    }
    put("Fisher trace".into(), 3, &FISHER.of, if beside { "falls" } else { "" });
    put("excess loss, nats".into(), 5, &quantity::EXCESS.of, if beside { "about 0" } else { "" });
    let words = format!(
        "Means over runs; ± is the standard error of the change over runs. Saturated: excess loss under {} nats.{}",
        number(table.saturation_bound),
        if beside { " The paper's column: another language of this kind, and other sizes." } else { "" }
    );
    Some(Beside { title: format!("Along training after saturation: {}", table.name), words, grid })
}
