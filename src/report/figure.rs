//! Lines over a common x axis as one panel ([`super::panels`]): the figures of a run's page and of `measure --out`.
//!
//! ```
//! use lowland::report::{Axis, Figure, Line};
//! let line = Line::new("loss", vec![(0.0, 2.0), (10.0, 1.0)]);
//! let (title, x, y) = ("loss".into(), "step".into(), "nats".into());
//! let figure = Figure { title, x, y, axis: Axis::Linear, lines: vec![line], level: None };
//! assert!(figure.svg().starts_with("<svg"));
//! ```

use super::panels::{Level, Look, Panel, Panels, Point, Scale, Series};
use super::scene::Scene;

/// Scale of the vertical axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Equal steps for equal differences.
    Linear,
    /// Equal steps for equal quotients; what is not positive is left out.
    Log,
}

/// One line of a figure.
#[derive(Clone, Debug)]
pub struct Line {
    /// As the legend has it.
    pub name: String,
    /// (x, y), by rising x.
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
    /// Above the panel.
    pub title: String,
    /// Name and unit of the horizontal axis.
    pub x: String,
    /// Name and unit of the vertical axis.
    pub y: String,
    /// Scale of the vertical axis.
    pub axis: Axis,
    /// In the order of the legend.
    pub lines: Vec<Line>,
    /// A dashed horizontal line with its name.
    pub level: Option<(String, f64)>,
}

impl Figure {
    /// The figure as a file of its own, with its colours in it.
    pub fn document(&self) -> String {
        self.scene().document()
    }

    /// The figure as an `<svg>` element whose colours are the page's variables.
    pub fn svg(&self) -> String {
        self.scene().svg()
    }

    fn scene(&self) -> Scene {
        let series = |line: &Line, style: usize| {
            let look = match (line.background, line.marks) {
                (true, _) => Look::Background,
                (false, true) => Look::MarkedLine,
                (false, false) => Look::Line,
            };
            let error = |i: usize| line.errors.get(i).copied();
            let points = line.points.iter().enumerate().map(|(i, (x, y))| Point::new(*x, *y, error(i)));
            Series { name: line.name.clone(), style, look, points: points.collect() }
        };
        let (behind, front): (Vec<&Line>, Vec<&Line>) = self.lines.iter().partition(|l| l.background);
        let behind = behind.into_iter().map(|line| series(line, 0));
        let front = front.into_iter().enumerate().map(|(style, line)| series(line, style));
        let panel = Panel {
            title: String::new(),
            x: Scale::new(&self.x, false, "x"),
            y: Scale::new(&self.y, self.axis == Axis::Log, "y"),
            series: behind.chain(front).collect(),
            levels: self.level.iter().map(|(name, y)| Level { name: name.clone(), y: *y }).collect(),
        };
        Panels { title: self.title.clone(), panels: vec![panel], saturation: false }.scene()
    }
}
