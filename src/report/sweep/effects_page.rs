//! The tests of plans and the exploratory slopes, as tables of the page.

use super::super::html::escape;
use super::effects::{Asked, Status, not_registered};
use super::markup::{Grid, fixed, number};
use super::section::Section;
use crate::sweep::{Decide, Test};

/// Words on what the plans of a section's sweeps are, and the tests.
pub fn html(section: &Section, all: &[Asked]) -> String {
    let (planned, found): (Vec<&Asked>, Vec<&Asked>) = all.iter().partition(|a| !a.test.smallest_effect.is_nan());
    let mut out = String::new();
    for table in section.tables.iter().filter(|table| table.registration.is_some()) {
        let Some(registration) = &table.registration else { continue };
        let plan = &registration.plan;
        let status = match not_registered(table) {
            None => format!("registered by {} (hash {})", registration.file, registration.plan_hash),
            Some(reason) => format!("exploratory, in spite of {}: {reason}", registration.file),
        };
        let seeds = plan.seeds.list();
        let ends = seeds.first().zip(seeds.last()).map_or(String::new(), |(a, b)| format!("{a} to {b}"));
        out += &format!(
            "<p class=\"said\"><b>{}</b>: {} Seeds {ends}; left out: {}. This is {}.</p>\n",
            escape(&table.name),
            escape(&plan.question),
            escape(&plan.exclude),
            escape(&status)
        );
    }
    if !planned.is_empty() {
        out += "<h3>Tests of plans</h3>\n";
        out += &format!("<p>{}</p>\n{}", escape(PLANNED), grid(&planned).html());
    }
    if !found.is_empty() {
        out += "<h3>Within a sweep, given the excess loss</h3>\n";
        out += &format!("<p>{}</p>\n", escape(EXPLORATORY));
        out += &format!("<details><summary>{} slopes</summary>\n{}</details>\n", found.len(), grid(&found).html());
    }
    out
}

const PLANNED: &str = "A slope is the change of the outcome when the measure doubles, between models of one stratum \
    and given the covariates; its interval is the wild bootstrap's over runs, its p that of permuted residuals \
    (Freedman and Lane). A partial coefficient is the same of ranks within strata. Differences are paired by seed, \
    their p is Student's (by changes of sign: tables/effects). Equivalence is two one-sided tests against the smallest \
    effect of interest. Holm's correction is over the primary tests of a plan. Power is the probability to show what \
    the plan says, were the effect the smallest of interest (of equivalence: were there none).";

const EXPLORATORY: &str = "All outcomes with all measures, exploratory: nobody said before the runs that these would \
    be looked at, and no correction is made for their number. Detectable is the least effect that would have been seen \
    in four cases of five.";

fn grid(all: &[&Asked]) -> Grid {
    let mut grid = Grid::new(&[
        "sweep",
        "outcome",
        "test",
        "over",
        "given, within",
        "effect",
        "95 % interval",
        "p",
        "p (Holm)",
        "smallest effect",
        "power",
        "detectable",
        "models (runs)",
        "status",
    ]);
    grid.rows = all.iter().map(|a| row(a)).collect();
    grid
}

fn probability(p: Option<f64>) -> String {
    p.map_or(String::new(), |p| if p < 0.001 { format!("{p:.1e}").replace('-', "−") } else { fixed(p, 3) })
}

fn row(a: &Asked) -> Vec<String> {
    let test = match (a.test.test, a.test.decide) {
        (test, Decide::Effect) => test.name().to_string(),
        (test, Decide::Equivalence) => format!("{}, equivalence", test.name()),
    };
    let over = match (&a.test.measure, &a.test.between) {
        (_, Some([first, second])) => format!("{first} less {second}"),
        (Some(measure), _) => measure.clone(),
        _ => String::new(),
    };
    let given = [(&a.test.given, ""), (&a.test.within, "within ")];
    let given = given.iter().filter(|(keys, _)| !keys.is_empty());
    let given: Vec<String> = given.map(|(keys, word)| format!("{word}{}", keys.join(", "))).collect();
    let outcome = if a.test.log { format!("ln {}", a.test.column()) } else { a.test.column() };
    let status = match &a.status {
        Status::Registered { primary: true } => "registered, primary".to_string(),
        Status::Registered { primary: false } => "registered, secondary".to_string(),
        Status::Exploratory(_) if a.test.smallest_effect.is_nan() => "exploratory".into(),
        Status::Exploratory(reason) => format!("exploratory: {reason}"),
    };
    let smallest = if a.test.smallest_effect.is_nan() { String::new() } else { number(a.test.smallest_effect) };
    let Some(f) = a.found else {
        let none = "too few models".to_string();
        let mut cells = vec![a.sweep.clone(), outcome, test, over, given.join("; "), none];
        cells.extend(["", "", ""].map(String::from));
        cells.extend([smallest, String::new(), String::new(), String::new(), status]);
        return cells;
    };
    let digits = |v: f64| if a.test.test == Test::Partial { fixed(v, 2) } else { number(v) };
    vec![
        a.sweep.clone(),
        outcome,
        test,
        over,
        given.join("; "),
        digits(f.value),
        f.interval.map_or(String::new(), |[low, high]| format!("{} to {}", digits(low), digits(high))),
        probability(a.p()),
        probability(a.p_holm),
        smallest,
        f.power.map_or(String::new(), |p| fixed(p, 2)),
        f.detectable.map_or(String::new(), number),
        format!("{} ({})", f.models, f.runs),
        status,
    ]
}
