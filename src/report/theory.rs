//! Pages about the experiments of `theory`: figures, and a table of the solutions.

use std::path::{Path, PathBuf};

use super::ReportError;
use super::html::{escape, head};
use super::panels::{Level, Look, Panel, Panels, Point, Scale, Series};
use super::sweep::files;
use crate::theory::{BracketsReport, Course, DyckReport, HeadSuccess, Mark, Passed};

const STYLE: &str = "
.figures svg { width: 100%; max-width: 900px; }
td { text-align: right; } td:first-child { text-align: left; } th { text-align: right; font-weight: 600; \
padding-right: 12px; }
";

/// A figure: the name of its files, its drawing, the words under it.
type Drawn = (&'static str, Panels, String);

/// Writes `report.html` about the Dyck-like language into a folder, with each figure as SVG and PNG in `figures/`, and
/// gives the page's path.
///
/// # Errors
/// A file that cannot be written.
pub fn write_dyck(folder: &Path, r: &DyckReport) -> Result<PathBuf, ReportError> {
    let mut figures = vec![success(r)];
    figures.extend(downstream(r));
    figures.extend(noise(r));
    let words = format!(
        "Theorem 6.1 of Liu, Xie, Li and Ma, reconstructed: {} masked sentences of {} brackets, {} neurons, squared \
         loss, all by enumeration in f64. No network without loss has a trace under 2 √(T−1) = {:.4}; only features \
         along (1, .., 1) reach it.",
        r.sentences, r.length, r.neurons, r.bound
    );
    write(folder, "The flattest model of a Dyck-like language", &words, &solutions(r), &figures)
}

/// Writes `report.html` about soft brackets into a folder; files as for [`write_dyck`].
///
/// # Errors
/// A file that cannot be written.
pub fn write_brackets(folder: &Path, r: &BracketsReport) -> Result<PathBuf, ReportError> {
    let words = format!(
        "Soft brackets under cross-entropy: {} masked sentences of {} brackets, κ = {}, {} neurons, {} starts. Plain \
         SGD with sampled labels drifts along the solutions; bars are standard errors over starts.",
        r.sentences, r.length, r.kappa, r.neurons, r.starts
    );
    let mut rows = vec![
        vec!["bound".into(), String::new(), number(r.bound), String::new()],
        vec!["two neurons along (1, .., 1)".into(), "0".into(), number(r.two_neuron_trace), "1".into()],
    ];
    if let (Some(trace), Some(loss), Some(alignment)) =
        (r.regularised_trace, r.regularised_loss, r.regularised_alignment)
    {
        rows.push(vec!["trained on L + 0.001 Tr".into(), number(loss), number(trace), number(alignment)]);
    }
    for course in &r.courses {
        if let Some(last) = course.marks.last() {
            rows.push(vec![name_of(course), number(last.excess_loss), number(last.trace), number(last.alignment)]);
        }
    }
    let table = table(&["solution", "excess loss", "trace", "alignment"], &rows);
    write(folder, "Soft brackets: SGD's drift, flatness and transfer", &words, &table, &courses(r))
}

fn write(folder: &Path, title: &str, words: &str, table: &str, figures: &[Drawn]) -> Result<PathBuf, ReportError> {
    let mut page = head(title, STYLE) + &format!("<p>{}</p>\n{table}<div class=\"figures\">\n", escape(words));
    for (name, panels, caption) in figures {
        let scene = panels.scene();
        files::figure(&folder.join("figures"), name, &scene)?;
        page += &format!("<h2>{}</h2>\n{}<p>{}</p>\n", escape(&panels.title), scene.svg(), escape(caption));
    }
    files::write(folder, "report.html", (page + "</div>\n</body>\n</html>\n").as_bytes())?;
    Ok(folder.join("report.html"))
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String], name: &str| -> String {
        row.iter().map(|cell| format!("<{name}>{}</{name}>", escape(cell))).collect()
    };
    let head: Vec<String> = head.iter().map(|h| h.to_string()).collect();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row, "td"))).collect();
    format!("<table>\n<tr>{}</tr>\n{rows}</table>\n", cells(&head, "th"))
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
    }
}

/// The solutions by loss, trace and alignment.
fn solutions(r: &DyckReport) -> String {
    let mut rows =
        vec![vec!["flattest, two neurons".into(), number(r.flattest_loss), number(r.flattest_trace), "1".into()]];
    for at in &r.regularised {
        let m = at.best.measured;
        let name = format!("trained on L + {} Tr", at.weight);
        rows.push(vec![name, number(m.loss), number(m.trace), number(m.alignment)]);
    }
    if let Some(first) = r.random.first() {
        let m = first.measured;
        let median = |value: Option<f64>| value.map_or(String::new(), number);
        for (how, trace) in [
            ("as drawn", r.random_trace),
            ("at one common scale", r.random_trace_together),
            ("each neuron balanced", r.random_trace_balanced),
        ] {
            let name = format!("random features, {how}");
            rows.push(vec![name, number(m.loss), median(trace), number(m.alignment)]);
        }
    }
    for arm in &r.gradient_descent {
        let m = arm.measured;
        let name = format!("gradient descent from weights of {}", arm.start);
        rows.push(vec![name, number(m.loss), number(m.trace), number(m.alignment)]);
    }
    table(&["solution", "loss", "trace", "alignment"], &rows)
}

fn panel(title: &str, x: &Scale, y: Scale, series: Vec<Series>, levels: Vec<Level>) -> Panel {
    Panel { title: title.into(), x: x.clone(), y, series, levels }
}

/// Success of the head against the number of examples.
fn success(r: &DyckReport) -> Drawn {
    let found = |name: &str, style: usize, all: &[HeadSuccess], shift: f64| {
        let point = |s: &HeadSuccess| Point {
            y_bar: Some([s.low, s.high]),
            ..Point::new(s.examples as f64 + shift, s.probability, None)
        };
        Series { name: name.into(), style, look: Look::Markers, points: all.iter().map(point).collect() }
    };
    let expected = r.head_success.iter().map(|s| Point::new(s.examples as f64, s.expected, None)).collect();
    let series = vec![
        Series { name: "1 − 2⁻ⁿ".into(), style: 2, look: Look::Line, points: expected },
        found("masked sentences, label 1(S > 0)", 0, &r.head_success, -0.06),
        found("free brackets, label max(S, 0)", 1, &r.head_success_free, 0.06),
    ];
    let x = Scale::new("labelled examples n", false, "n");
    let y = Scale::new("share of draws without loss", false, "success");
    let title = "The flattest solution transfers with probability 1 − 2⁻ⁿ".to_string();
    let panels = Panels { title, panels: vec![panel("", &x, y, series, vec![])], saturation: false };
    ("head-success", panels, format!("Intervals: {}.", r.head_interval))
}

/// Mean loss of the head on several solutions.
fn downstream(r: &DyckReport) -> Option<Drawn> {
    let rows = &r.downstream_loss;
    type Part = (&'static str, fn(&crate::theory::DownstreamLoss) -> Option<(f64, Option<f64>)>);
    let parts: [Part; 3] = [
        ("flattest", |d| Some((d.flattest, Some(d.flattest_standard_error)))),
        ("trained with a weight on flatness", |d| Some((d.regularised?, d.regularised_standard_error))),
        ("random features", |d| Some((d.random?, d.random_standard_error))),
    ];
    let series = parts.into_iter().enumerate().map(|(style, (name, of))| {
        let point = |d| of(d).map(|(y, error)| Point::new(d.examples as f64, y, error));
        Series { name: name.into(), style, look: Look::MarkedLine, points: rows.iter().filter_map(point).collect() }
    });
    let series: Vec<Series> = series.filter(|s| !s.points.is_empty()).collect();
    let x = Scale::new("labelled examples n, log scale", true, "n");
    let y = Scale::new("loss, share of the label's variance", false, "loss");
    let title = "Loss of the head on free brackets".to_string();
    let panels = Panels { title, panels: vec![panel("", &x, y, series, vec![])], saturation: false };
    let caption = "Mean squared error of the shortest head on n examples, over all sentences; bars are standard errors \
        over draws.";
    (!rows.is_empty()).then(|| ("downstream-loss", panels, caption.into()))
}

/// Trace and alignment along SGD with label noise.
fn noise(r: &DyckReport) -> Option<Drawn> {
    let series = |of: fn(&Passed) -> f64| -> Vec<Series> {
        let one = |(style, arm): (usize, &crate::theory::LabelNoise)| Series {
            name: match arm.sgd.label_noise {
                0.0 => "no label noise".into(),
                delta => format!("labels + N(0, {delta}²)"),
            },
            style,
            look: Look::Line,
            points: arm.course.iter().map(|p| Point::new(p.time, of(p), None)).collect(),
        };
        r.label_noise.iter().enumerate().map(one).collect()
    };
    let sgd = r.label_noise.first()?.sgd;
    let level = Level { name: "2 √(T−1)".into(), y: r.bound };
    let x = Scale::new("η²·steps/B", false, "t");
    let panels = vec![
        panel("Trace", &x, Scale::new("Tr H", false, "trace"), series(|p| p.measured.trace), vec![level]),
        panel(
            "Alignment",
            &x,
            Scale::new("|cos| to (1, .., 1)", false, "cos"),
            series(|p| p.measured.alignment),
            vec![],
        ),
    ];
    let title = "Label noise flattens, and turns features towards S".to_string();
    let caption = format!("SGD from a solution of gradient descent, η = {:.3}, B = {}.", sgd.rate, sgd.batch);
    Some(("label-noise", Panels { title, panels, saturation: false }, caption))
}

fn name_of(course: &Course) -> String {
    format!("η {}, B {}", course.rate, course.batch)
}

/// Trace, excess loss, alignment and accuracy against t.
fn courses(r: &BracketsReport) -> Vec<Drawn> {
    let series = |of: fn(&Mark) -> (f64, f64)| -> Vec<Series> {
        let point = |m: &Mark| Point::new(m.time, of(m).0, Some(of(m).1));
        let one = |(style, course): (usize, &Course)| Series {
            name: name_of(course),
            style,
            look: Look::MarkedLine,
            points: course.marks.iter().map(point).collect(),
        };
        r.courses.iter().enumerate().map(one).collect()
    };
    let x = Scale::new("η²·steps/B", false, "t");
    let two = Level { name: "two neurons along (1, .., 1)".into(), y: r.two_neuron_trace };
    let accuracy = Level { name: two.name.clone(), y: 100.0 * r.two_neuron_accuracy.unwrap_or(f64::NAN) };
    let panels = vec![
        panel(
            "Trace",
            &x,
            Scale::new("Tr H", false, "trace"),
            series(|m| (m.trace, m.trace_standard_error)),
            vec![two],
        ),
        panel(
            "Alignment",
            &x,
            Scale::new("|cos| to (1, .., 1)", false, "cos"),
            series(|m| (m.alignment, m.alignment_standard_error)),
            vec![],
        ),
        panel(
            "Share of the features' variance",
            &x,
            Scale::new("that is a function of S", false, "share"),
            series(|m| (m.share_of_sum, m.share_of_sum_standard_error)),
            vec![],
        ),
        panel(
            &format!("Transfer: sign of S from {} examples", r.examples),
            &x,
            Scale::new("accuracy, %", false, "accuracy"),
            series(|m| (100.0 * m.accuracy, 100.0 * m.accuracy_standard_error)),
            vec![accuracy],
        ),
        panel(
            "Excess loss",
            &x,
            Scale::new("nats", false, "excess"),
            series(|m| (m.excess_loss, m.excess_loss_standard_error)),
            vec![],
        ),
    ];
    let title = "Plain SGD with sampled labels".to_string();
    let caption = "Means over starts; the theorem says that the trace is one function of η²·steps/B.";
    vec![("courses", Panels { title, panels, saturation: false }, caption.into())]
}
