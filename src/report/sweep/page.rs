//! The page about sweeps.

use super::super::html::{escape, head};
use super::collapse::Collapse;
use super::convention;
use super::correlations::{self, Found};
use super::effects::Asked;
use super::figures::Drawn;
use super::markup::{Grid, fixed};
use super::quantity::{self, EXCESS, PREDICTORS};
use super::section::Section;
use super::{covariates, effects_page, embeddings, paper, statement};
use crate::model::Per;
use crate::statistics::Coefficient;

const STYLE: &str = "
figure { margin: 16px 0; } figcaption { color: var(--muted); font-size: 13px; max-width: 90ch; }
.wide { overflow-x: auto; }
.grid { width: auto; font-variant-numeric: tabular-nums; font-size: 13px; margin: 8px 0 16px; }
.grid th { text-align: left; padding: 4px 14px 4px 0; vertical-align: bottom; font-weight: 600; }
.grid td { padding-right: 14px; white-space: nowrap; overflow-wrap: normal; }
.grid .paper { color: var(--muted); font-style: italic; }
.said { color: var(--text); } .said b { font-weight: 600; }
summary { cursor: pointer; color: var(--muted); margin: 8px 0; }
h3 { font-size: 15px; margin: 20px 0 4px; }
";

/// A section with all that was computed of it.
pub struct Content {
    pub section: Section,
    pub correlations: Vec<Found>,
    pub effects: Vec<Asked>,
    pub collapse: Vec<Collapse>,
    pub figures: Vec<Drawn>,
}

/// The whole page.
pub fn page(contents: &[Content]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for table in contents.iter().flat_map(|c| &c.section.tables) {
        if !names.contains(&table.name.as_str()) {
            names.push(&table.name);
        }
    }
    let title = format!("Sweep{}: {}", if names.len() == 1 { "" } else { "s" }, names.join(", "));
    let sections: String = contents.iter().map(section).collect();
    let mut units: Vec<&str> = contents.iter().flat_map(|c| &c.section.tables).map(|t| t.objective.unit()).collect();
    units.sort_unstable();
    units.dedup();
    let units = units.join(" or a ");
    let rows = || contents.iter().flat_map(|c| &c.section.tables).flat_map(|t| &t.rows);
    let noise = |per: Per| rows().filter_map(|r| r.curvature.as_ref()?.noise_per).any(|own| own == per);
    let whose = match (noise(Per::Token), noise(Per::Example)) {
        (true, true) => "single sentences' or single predicted tokens'",
        (true, false) => "single predicted tokens'",
        _ => "single sentences'",
    };
    let several = units.contains("token") && (noise(Per::Example) || !noise(Per::Token));
    let times = if several { TOKENS } else { "" };
    format!(
        "{0}<p>Among models with the same pre-training loss, does the flatter one transfer better? \
         Losses are in nats for a {units}; the excess loss is the mean KL divergence of the exact conditional from \
         the model's. F is the Fisher matrix of the mean loss (equal to Gauss-Newton's), H its Hessian, Σ the \
         covariance of {whose} gradients. Where the model is the language, the three have the same \
         trace{times}. Each figure lies in <code>figures/</code> as SVG and PNG, each number in \
         <code>tables/</code> as CSV and JSON.</p>\n{sections}</body>\n</html>\n",
        head(&title, STYLE)
    )
}

/// What several predicted tokens of a sentence do to Bartlett's identity.
const TOKENS: &str = ", Σ's as many times as a sentence has predicted tokens (its gradients are of summed losses; the \
     ratios are of like with like)";

fn section(content: &Content) -> String {
    let section = &content.section;
    let mut out = format!("<h2>{}</h2>\n", escape(section.language()));
    let sweeps: Vec<String> =
        section.tables.iter().map(|t| format!("{} ({}, {} models)", t.name, t.intervention, t.rows.len())).collect();
    out += &paragraph(&format!("Sweeps: {}.", sweeps.join("; ")));
    out += &format!("<p class=\"said\">{}</p>\n", escape(&statement::counts(section)));
    if convention::decides_in(section) {
        let all = if embeddings::tables(section).is_empty() { "" } else { embeddings::BELOW };
        out += &format!("<p class=\"said\">{}{all}</p>\n", escape(convention::WORDS));
    }
    for (task, _, text) in statement::tasks(section, &content.correlations) {
        out += &format!("<p class=\"said\"><b>{}</b>: {}</p>\n", escape(&quantity::titled(&task)), escape(&text));
    }
    for (name, text) in covariates::statements(section, &content.correlations) {
        out += &format!("<p class=\"said\"><b>{}</b>: {}</p>\n", escape(&name), escape(&text));
    }
    for drawn in &content.figures {
        out +=
            &format!("<figure>\n{}<figcaption>{}</figcaption>\n</figure>\n", drawn.scene.svg(), escape(&drawn.caption));
    }
    out += &effects_page::html(section, &content.effects);
    out += &collapse(&content.collapse);
    for beside in embeddings::tables(section).into_iter().chain(paper::tables(section)) {
        out += &format!("<h3>{}</h3>\n{}{}", escape(&beside.title), paragraph(&beside.words), beside.grid.html());
    }
    for of_covariates in [false, true] {
        let own: Vec<&Found> = content.correlations.iter().filter(|f| f.covariate == of_covariates).collect();
        out += &correlations(section, &own, of_covariates);
    }
    out += &tasks(section);
    out + &missing(section)
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

fn collapse(all: &[Collapse]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(&["sweep", "trace", "over", "variance ratio", "95 % interval", "groups", "runs"]);
    for m in all {
        let interval =
            m.interval.map_or("none: one seed a group".into(), |[a, b]| format!("{} to {}", fixed(a, 3), fixed(b, 3)));
        grid.rows.push(vec![
            m.sweep.clone(),
            m.of.name.into(),
            m.abscissa.label.into(),
            m.ratio.map_or("no two curves lie over one another".into(), |r| fixed(r, 3)),
            if m.ratio.is_some() { interval } else { String::new() },
            m.groups.to_string(),
            m.runs.to_string(),
        ]);
    }
    let words = "The measured collapse. The logarithm of the trace is averaged over the seeds of a group (one learning \
        rate and batch size) and interpolated at 64 evenly spaced places, wherever at least two groups have values. \
        The ratio is the variance between groups at the same place, pooled over places, over the variance of all these \
        values: 0 when all groups lie on one curve, 1 when the abscissa tells nothing. Theorem 4.3 says that Σ η²/B \
        gathers the curves, so that its ratio should be the smallest. The interval is the bootstrap's over seeds \
        within groups.";
    format!("<h3>Collapse</h3>\n{}{}", paragraph(words), grid.html())
}

fn correlations(section: &Section, all: &[&Found], of_covariates: bool) -> String {
    // Models that are asked about examples have no tasks; elsewhere it is said what was not measured.
    if all.is_empty() && (of_covariates || section.trained().iter().any(|m| m.row.examples.is_some())) {
        return String::new();
    }
    let (of, first, given) = match of_covariates {
        true => ("covariates", "covariate", covariates::rival(section).name),
        false => ("accuracy", "task", EXCESS.name),
    };
    let mut out = format!("<h3>Correlations of {of}</h3>\n");
    out += &paragraph(&format!(
        "Coefficient [95 % interval]; the intervals draw runs again. The partial coefficients are those given the \
         {given}. Sums of squares for Pearson's are of the quantities as they are, not of their logarithms."
    ));
    if convention::decides_in(section) {
        out += &paragraph(convention::BRIEFLY);
    }
    let head = [
        first,
        "models",
        "predictor",
        "models (runs)",
        "Pearson",
        "Spearman",
        "Kendall",
        "partial Pearson",
        "partial Spearman",
        "status",
    ];
    let (mut whole, mut within) = (Grid::new(&head), Grid::new(&head));
    for f in all.iter().filter(|f| f.coefficient == Coefficient::Pearson && !f.partial) {
        let same = |g: &&&Found| g.task == f.task && g.models == f.models && g.predictor.key == f.predictor.key;
        let cell = |coefficient: Coefficient, partial: bool| {
            let found = all.iter().filter(same).find(|g| g.coefficient == coefficient && g.partial == partial);
            let Some(c) = found.and_then(|g| g.value) else { return String::new() };
            match found.and_then(|g| g.interval()) {
                Some([low, high]) => format!("{} [{}, {}]", fixed(c.value, 2), fixed(low, 2), fixed(high, 2)),
                None => fixed(c.value, 2),
            }
        };
        if f.count == 0 {
            continue;
        }
        let which = if f.models.saturated { "saturated" } else { "all" };
        let models = match &f.models.intervention {
            Some(intervention) => format!("{intervention}, {which}"),
            None => which.into(),
        };
        let row = vec![
            f.task.clone(),
            models,
            f.predictor.name.clone(),
            format!("{} ({})", f.count, f.runs),
            cell(Coefficient::Pearson, false),
            cell(Coefficient::Spearman, false),
            cell(Coefficient::Kendall, false),
            cell(Coefficient::Pearson, true),
            cell(Coefficient::Spearman, true),
            correlations::status_words(section, all.iter().copied().filter(|g| same(&g))),
        ];
        if f.models.intervention.is_some() { within.rows.push(row) } else { whole.rows.push(row) }
    }
    out += &whole.html();
    if !within.rows.is_empty() {
        out += &format!("<details><summary>Within each intervention</summary>\n{}</details>\n", within.html());
    }
    let absent: Vec<&str> = PREDICTORS
        .iter()
        .filter(|p| section.trained().iter().all(|m| (p.of)(m.row).is_none()))
        .map(|p| p.name)
        .collect();
    if !absent.is_empty() && !of_covariates {
        out += &paragraph(&format!("Not measured: {}.", absent.join("; ")));
    }
    out
}

fn tasks(section: &Section) -> String {
    let mut grid = Grid::new(&[
        "task",
        "method",
        "classes",
        "chance, %",
        "majority, %",
        "Bayes, %",
        "sentences to train",
        "to choose",
        "to test",
    ]);
    let percent = |p: f64| fixed(100.0 * p, 1);
    for t in section.tasks() {
        grid.rows.push(vec![
            t.task.clone(),
            t.method.clone(),
            t.classes.to_string(),
            percent(t.chance),
            percent(t.majority),
            t.bayes.map_or("not defined".into(), percent),
            t.train.to_string(),
            t.validation.to_string(),
            t.test.to_string(),
        ]);
    }
    if grid.rows.is_empty() { String::new() } else { format!("<h3>Tasks</h3>\n{}", grid.html()) }
}

fn missing(section: &Section) -> String {
    let mut grid = Grid::new(&["sweep", "model", "seed", "run", "reason"]);
    for table in &section.tables {
        for m in &table.missing {
            grid.rows.push(vec![
                table.name.clone(),
                m.label.clone(),
                m.seed.to_string(),
                m.run.clone(),
                m.reason.clone(),
            ]);
        }
    }
    let mut out =
        if grid.rows.is_empty() { String::new() } else { format!("<h3>Missing models</h3>\n{}", grid.html()) };
    let mut grid = Grid::new(&["sweep", "model", "seed", "step", "run", "not known"]);
    for table in &section.tables {
        for row in table.rows.iter().filter(|row| !row.notes.is_empty()) {
            grid.rows.push(vec![
                table.name.clone(),
                row.label.clone(),
                row.seed.to_string(),
                row.step.to_string(),
                row.run.clone(),
                row.notes.join("; "),
            ]);
        }
    }
    if !grid.rows.is_empty() {
        out += &format!("<h3>Models of which something is not known</h3>\n{}", grid.html());
    }
    out
}
