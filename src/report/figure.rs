//! Line figures as SVG.
//!
//! ```
//! use lowland::report::{Axis, Figure, Line};
//! let line = Line::new("loss", vec![(0.0, 2.0), (10.0, 1.0)]);
//! let figure = Figure { title: "loss".into(), x: "step".into(), y: "nats".into(), axis: Axis::Linear, lines: vec![line], level: None };
//! assert!(figure.svg().starts_with("<svg"));
//! ```

use super::html::escape;

/// Scale of the vertical axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    Linear,
    Log,
}

/// One line of a figure.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Standard errors, drawn as bars; empty for none.
    pub errors: Vec<f64>,
    /// Drawn thin and pale, behind the others.
    pub background: bool,
    /// Each point with a mark.
    pub marks: bool,
}

impl Line {
    /// A line without error bars.
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), points, errors: Vec::new(), background: false, marks: false }
    }
}

/// A figure of lines over a common x axis.
#[derive(Clone, Debug)]
pub struct Figure {
    pub title: String,
    pub x: String,
    pub y: String,
    pub axis: Axis,
    pub lines: Vec<Line>,
    /// A dashed horizontal line with its name.
    pub level: Option<(String, f64)>,
}

/// Colours and letters of a figure that stands alone.
const STYLE: &str = "
svg { --text: #1c2430; --muted: #5d6878; --grid: #e3e1da; --pale: #b9c6d6;
      --ink1: #0b6e8f; --ink2: #c2571a; --ink3: #4f7d2a; --ink4: #7b4fa3; }
text { fill: var(--text); font: 12px system-ui, sans-serif; } .title { font-size: 15px; font-weight: 600; }
.tick { fill: var(--muted); } .grid { stroke: var(--grid); }
";

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
/// Left, right, top and bottom margin.
const MARGIN: [f64; 4] = [76.0, 28.0, 66.0, 54.0];
const COLOURS: [&str; 4] = ["var(--ink1)", "var(--ink2)", "var(--ink3)", "var(--ink4)"];
/// Lines differ without colour too.
const DASHES: [&str; 4] =
    ["", " stroke-dasharray=\"7 3\"", " stroke-dasharray=\"2 3\"", " stroke-dasharray=\"9 3 2 3\""];

/// A mark of the line of a number: disc, square, triangle, diamond.
fn mark(number: usize, x: f64, y: f64, colour: &str) -> String {
    let corners = |points: &[(f64, f64)]| {
        let path: String = points.iter().map(|(dx, dy)| format!("{:.1},{:.1} ", x + dx, y + dy)).collect();
        format!("<polygon points=\"{}\" fill=\"{colour}\"/>\n", path.trim_end())
    };
    match number % 4 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\" fill=\"{colour}\"/>\n"),
        1 => corners(&[(-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)]),
        2 => corners(&[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)]),
        _ => corners(&[(0.0, -4.8), (4.8, 0.0), (0.0, 4.8), (-4.8, 0.0)]),
    }
}

impl Figure {
    /// The figure as a file of its own, with its colours in it.
    pub fn document(&self) -> String {
        let head = self.svg();
        let (open, rest) = head.split_once('\n').expect("the element's first line");
        format!("{open}\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{rest}")
    }

    /// The figure as an `<svg>` element; colours come from the page's `--ink1..4`, `--pale`, `--grid`, `--text`.
    pub fn svg(&self) -> String {
        let [left, right, top, bottom] = MARGIN;
        let transform = |y: f64| if self.axis == Axis::Log { y.log10() } else { y };
        let visible = |y: f64| y.is_finite() && (self.axis == Axis::Linear || y > 0.0);
        let points = || self.lines.iter().flat_map(|l| &l.points).filter(|p| p.0.is_finite() && visible(p.1));
        let level = self.level.iter().map(|l| l.1).filter(|y| visible(*y));
        let (x0, x1) = range(points().map(|p| p.0), 0.0);
        // Error bars belong into the picture.
        let ends = self
            .lines
            .iter()
            .flat_map(|l| l.points.iter().zip(&l.errors).flat_map(|(p, e)| [p.1 - e, p.1 + e]).filter(|y| visible(*y)));
        let (y0, y1) = range(points().map(|p| p.1).chain(level).chain(ends).map(transform), 0.06);
        let px = |x: f64| left + (x - x0) / (x1 - x0) * (WIDTH - left - right);
        let py = |y: f64| {
            let y = transform(y).clamp(y0, y1);
            HEIGHT - bottom - (y - y0) / (y1 - y0) * (HEIGHT - top - bottom)
        };
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n\
             <text class=\"title\" x=\"{left}\" y=\"26\">{0}</text>\n",
            escape(&self.title)
        );
        let ticks = match self.axis {
            Axis::Linear => linear_ticks(y0, y1),
            Axis::Log => log_ticks(y0, y1),
        };
        for tick in ticks {
            let y = py(tick);
            out += &format!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                WIDTH - right,
                left - 8.0,
                y + 4.0,
                label(tick)
            );
        }
        for tick in linear_ticks(x0, x1) {
            out += &format!(
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                px(tick),
                HEIGHT - bottom + 18.0,
                label(tick)
            );
        }
        out += &format!(
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n\
             <text class=\"tick\" text-anchor=\"middle\" transform=\"translate(18 {:.1}) rotate(-90)\">{}</text>\n",
            (left + WIDTH - right) / 2.0,
            HEIGHT - 10.0,
            escape(&self.x),
            (top + HEIGHT - bottom) / 2.0,
            escape(&self.y)
        );
        let mut number = 0;
        let mut legend = Vec::new();
        let order = self.lines.iter().filter(|l| l.background).chain(self.lines.iter().filter(|l| !l.background));
        for line in order {
            let (colour, dash) = match line.background {
                true => ("var(--pale)", ""),
                false => (COLOURS[number % 4], DASHES[number % 4]),
            };
            let width = if line.background { 1.2 } else { 2.0 };
            let path: String = line
                .points
                .iter()
                .filter(|p| visible(p.1))
                .enumerate()
                .map(|(i, p)| format!("{}{:.1} {:.1}", if i == 0 { "M" } else { "L" }, px(p.0), py(p.1)))
                .collect();
            out += &format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>\n");
            for (p, e) in line.points.iter().zip(&line.errors).filter(|(p, _)| visible(p.1)) {
                let low = if visible(p.1 - e) { py(p.1 - e) } else { HEIGHT - bottom };
                let (x, high) = (px(p.0), py(p.1 + e));
                let cap = |y: f64| format!("M{:.1} {y:.1}h6", x - 3.0);
                out += &format!(
                    "<path d=\"M{x:.1} {low:.1}V{high:.1}{}{}\" fill=\"none\" stroke=\"{colour}\" \
                     stroke-width=\"1.3\"/>\n",
                    cap(low),
                    cap(high)
                );
            }
            if line.marks {
                out += &line
                    .points
                    .iter()
                    .filter(|p| visible(p.1))
                    .map(|p| mark(number, px(p.0), py(p.1), colour))
                    .collect::<String>();
            }
            legend.push((line.name.as_str(), colour, dash, line.marks.then_some(number)));
            number += usize::from(!line.background);
        }
        if let Some((name, y)) = self.level.as_ref().filter(|l| visible(l.1)) {
            out += &format!(
                "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"var(--text)\" \
                 stroke-dasharray=\"6 4\" stroke-width=\"1.4\"/>\n",
                WIDTH - right,
                py(*y)
            );
            legend.push((name, "var(--text)", " stroke-dasharray=\"6 4\"", None));
        }
        // A row between title and picture, where it hides nothing.
        let (mut x, y) = (left, top - 16.0);
        for (name, colour, dash, number) in legend {
            out += &format!(
                "<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" \
                 stroke-width=\"2\"{dash}/>{}\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{}\">{}</text>\n",
                x + 26.0,
                number.map_or(String::new(), |n| mark(n, x + 13.0, y, colour)),
                x + 32.0,
                y + 4.0,
                escape(name)
            );
            // About 7.8 units a letter at this size.
            x += 50.0 + 7.8 * name.chars().count() as f64;
        }
        out + "</svg>\n"
    }
}

/// Smallest and largest value, widened by a share of their distance.
fn range(values: impl Iterator<Item = f64>, widen: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match low < high {
        true => (low - widen * (high - low), high + widen * (high - low)),
        false if low.is_finite() => (low - 0.5, low + 0.5),
        false => (0.0, 1.0),
    }
}

/// Round numbers between two, about five.
pub(super) fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|t| *t <= high).take(20).collect()
}

/// Powers of ten between two exponents; with 2 and 5 between them where there are few.
pub(super) fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let within = |t: &f64| (low..=high).contains(&t.log10());
    let exponents = low.floor() as i32..=high.ceil() as i32;
    let of = |digits: &[f64]| {
        exponents
            .clone()
            .flat_map(|e| digits.iter().map(move |d| d * 10f64.powi(e)))
            .filter(within)
            .collect::<Vec<f64>>()
    };
    let tens = of(&[1.0]);
    if tens.len() >= 3 { tens } else { of(&[1.0, 2.0, 5.0]) }
}

fn label(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:e}") } else { format!("{}", (value * 1e6).round() / 1e6) }
}
