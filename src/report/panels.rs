//! Small multiples: panels of points with error bars both ways, joined by lines or not, under one legend.
//!
//! A series has a colour, a marker and a dash, so that a print in grey still tells them apart.

use super::axis::{Range, shown, tick};
use super::scene::{Anchor, Ink, Pen, Scene, Words, width};

/// A point; bars are given by their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub x_bar: Option<[f64; 2]>,
    pub y_bar: Option<[f64; 2]>,
    pub filled: bool,
}

impl Point {
    /// A filled point with a bar of one standard error up and down, where it is known.
    pub fn new(x: f64, y: f64, error: Option<f64>) -> Point {
        Point { x, y, x_bar: None, y_bar: bar(y, error), filled: true }
    }
}

/// Ends of a bar of one standard error each way.
pub fn bar(value: f64, error: Option<f64>) -> Option<[f64; 2]> {
    error.filter(|e| e.is_finite() && *e > 0.0).map(|e| [value - e, value + e])
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// Number of its colour, marker and dash.
    pub style: usize,
    pub look: Look,
    pub points: Vec<Point>,
}

/// The look of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Markers,
    Line,
    MarkedLine,
    /// A thin, pale line; put it first, so that it lies behind the others.
    Background,
}

impl Look {
    fn line(self, style: usize) -> Option<Pen> {
        match self {
            Look::Markers => None,
            Look::Line | Look::MarkedLine => {
                Some(Pen { ink: Ink::Series(style), width: 1.7, dash: DASHES[style % DASHES.len()] })
            }
            Look::Background => Some(Pen { ink: Ink::Pale, width: 1.2, dash: &[] }),
        }
    }

    fn marked(self) -> bool {
        matches!(self, Look::Markers | Look::MarkedLine)
    }
}

/// An axis; those of the same `shared` key have the same range.
#[derive(Clone, Debug)]
pub struct Scale {
    pub label: String,
    pub log: bool,
    pub shared: String,
}

impl Scale {
    pub fn new(label: &str, log: bool, shared: &str) -> Scale {
        Scale { label: label.into(), log, shared: shared.into() }
    }
}

/// A dashed line across a panel with its name.
#[derive(Clone, Debug)]
pub struct Level {
    pub name: String,
    pub y: f64,
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub title: String,
    pub x: Scale,
    pub y: Scale,
    pub series: Vec<Series>,
    pub levels: Vec<Level>,
}

/// Panels under a title and a legend.
#[derive(Clone, Debug)]
pub struct Panels {
    pub title: String,
    pub panels: Vec<Panel>,
    /// Explains filled and hollow markers.
    pub saturation: bool,
}

const WIDTH: f64 = 760.0;
/// Size of a panel, title and axes included.
const HEIGHT: f64 = 262.0;
/// Left, right, top and bottom of a panel's picture.
const MARGIN: [f64; 4] = [68.0, 16.0, 26.0, 46.0];
pub const SMALL: f64 = 12.0;
const DASHES: [&[f32]; 5] = [&[], &[7.0, 3.0], &[2.0, 3.0], &[9.0, 3.0, 2.0, 3.0], &[12.0, 4.0]];
const BARS: f64 = 1.1;

/// Plain words at a place.
pub fn plain(x: f64, y: f64, text: &str, anchor: Anchor) -> Words {
    Words { x, y, text: text.into(), size: SMALL, bold: false, anchor, upright: false, ink: Ink::Text }
}

/// A marker by its number: disc, square, triangle, diamond, triangle down, star, cross, pentagon.
pub fn marker(scene: &mut Scene, style: usize, x: f64, y: f64, filled: bool) {
    let ink = Ink::Series(style);
    let (pen, fill) = (Some(Pen { ink, width: 1.4, dash: &[] }), Some(if filled { ink } else { Ink::Card }));
    let ring = |n: usize, r: &dyn Fn(usize) -> f64, turn: f64| -> Vec<(f64, f64)> {
        let angle = |i: usize| std::f64::consts::TAU * (i as f64 / n as f64 + turn);
        (0..n).map(|i| (x + r(i) * libm::cos(angle(i)), y + r(i) * libm::sin(angle(i)))).collect()
    };
    let points = match style % 8 {
        0 => return scene.disc(x, y, 3.6, pen, fill),
        1 => ring(4, &|_| 4.6, 0.125),
        2 => ring(3, &|_| 5.0, -0.25),
        3 => ring(4, &|_| 5.0, 0.0),
        4 => ring(3, &|_| 5.0, 0.25),
        5 => ring(10, &|i| if i % 2 == 0 { 5.8 } else { 2.4 }, -0.25),
        6 => ring(12, &|i| if i % 3 == 0 { 1.8 } else { 4.8 }, 0.125),
        _ => ring(5, &|_| 4.8, -0.25),
    };
    scene.polygon(points, pen, fill);
}

const LEVEL: Pen = Pen { ink: Ink::Muted, width: 1.2, dash: &[5.0, 4.0] };

/// An item of a legend: its name, the width of its picture, and the picture drawn at a place.
type Item = (String, f64, Box<dyn Fn(&mut Scene, f64, f64)>);

impl Panels {
    pub fn scene(&self) -> Scene {
        let columns = self.panels.len().clamp(1, 2);
        let title = Words { size: 14.5, bold: true, ..plain(12.0, 23.0, &self.title, Anchor::Start) };
        // Panels side by side have short titles; one alone is as wide as its title wants.
        let whole = if columns == 1 { (24.0 + width(&title.text, title.size, true)).max(520.0) } else { WIDTH };
        let width_each = whole / columns as f64;
        let items = self.legend();
        let lines = flow(&items, whole - 24.0);
        // No room for the titles of panels that have none.
        let untitled = self.panels.iter().all(|p| p.title.is_empty());
        let top = 36.0 + 19.0 * lines.len() as f64 - if untitled { 16.0 } else { 0.0 };
        let rows = self.panels.len().div_ceil(columns);
        let mut scene = Scene::new(whole, top + rows as f64 * HEIGHT + 4.0, &self.title);
        scene.words(title);
        for (row, line) in lines.iter().enumerate() {
            let y = 43.0 + 19.0 * row as f64;
            for (item, x) in line {
                let (name, key, picture) = &items[*item];
                picture(&mut scene, 12.0 + x, y);
                scene.words(plain(12.0 + x + key + 6.0, y + 4.0, name, Anchor::Start));
            }
        }
        for (i, panel) in self.panels.iter().enumerate() {
            let origin = ((i % columns) as f64 * width_each, top + (i / columns) as f64 * HEIGHT);
            self.panel(&mut scene, panel, origin, width_each);
        }
        scene
    }

    fn legend(&self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        for series in self.panels.iter().flat_map(|p| &p.series) {
            if items.iter().any(|(name, ..)| *name == series.name) {
                continue;
            }
            let (style, look) = (series.style, series.look);
            let key = if look == Look::Markers { MARKER } else { LINE };
            let picture = move |scene: &mut Scene, x: f64, y: f64| {
                if let Some(pen) = look.line(style) {
                    scene.line(vec![(x, y), (x + key, y)], pen);
                }
                if look.marked() {
                    marker(scene, style, x + key / 2.0, y, true);
                }
            };
            items.push((series.name.clone(), key, Box::new(picture)));
        }
        for level in self.panels.iter().flat_map(|p| &p.levels) {
            if !items.iter().any(|(name, ..)| *name == level.name) {
                let picture = |scene: &mut Scene, x: f64, y: f64| scene.line(vec![(x, y), (x + LINE, y)], LEVEL);
                items.push((level.name.clone(), LINE, Box::new(picture)));
            }
        }
        if self.saturation {
            for (name, fill) in [("saturated", Ink::Text), ("not saturated", Ink::Card)] {
                let picture = move |scene: &mut Scene, x: f64, y: f64| {
                    let pen = Pen { ink: Ink::Text, width: 1.4, dash: &[] };
                    scene.disc(x + MARKER / 2.0, y, 3.6, Some(pen), Some(fill));
                };
                items.push((name.into(), MARKER, Box::new(picture)));
            }
        }
        items
    }

    fn panel(&self, scene: &mut Scene, panel: &Panel, (left, top): (f64, f64), whole: f64) {
        let xs = self.panels.iter().filter(|p| p.x.shared == panel.x.shared);
        let ys = self.panels.iter().filter(|p| p.y.shared == panel.y.shared);
        let (rx, ry) = (Range::of(xs, panel.x.log, false), Range::of(ys, panel.y.log, true));
        let (x0, x1) = (left + MARGIN[0], left + whole - MARGIN[1]);
        let (y0, y1) = (top + HEIGHT - MARGIN[3], top + MARGIN[2]);
        let px = |v: f64| x0 + rx.at(v) * (x1 - x0);
        let py = |v: f64| y0 + ry.at(v) * (y1 - y0);
        if !panel.title.is_empty() {
            scene.words(Words { bold: true, ..plain(x0, y1 - 9.0, &panel.title, Anchor::Start) });
        }
        let frame = |ink| Pen { ink, width: 1.0, dash: &[] };
        for value in ry.ticks() {
            scene.line(vec![(x0, py(value)), (x1, py(value))], frame(Ink::Grid));
            let words = plain(x0 - 6.0, py(value) + 4.0, &tick(value), Anchor::End);
            scene.words(Words { size: 11.0, ink: Ink::Muted, ..words });
        }
        // Labels of a log axis may stand close: one that would touch the last is left out.
        let mut free = f64::NEG_INFINITY;
        for value in rx.ticks() {
            scene.line(vec![(px(value), y0), (px(value), y0 + 4.0)], frame(Ink::Muted));
            let text = tick(value);
            let half = width(&text, 11.0, false) / 2.0;
            if px(value) - half > free {
                let words = plain(px(value), y0 + 17.0, &text, Anchor::Middle);
                scene.words(Words { size: 11.0, ink: Ink::Muted, ..words });
                free = px(value) + half + 5.0;
            }
        }
        scene.line(vec![(x0, y1), (x0, y0), (x1, y0)], frame(Ink::Muted));
        scene.words(plain((x0 + x1) / 2.0, y0 + 35.0, &panel.x.label, Anchor::Middle));
        let side = plain(left + 14.0, (y0 + y1) / 2.0, &panel.y.label, Anchor::Middle);
        // A long label is set smaller, so that it stays beside the picture.
        let size = SMALL * ((y0 - y1 + 12.0) / width(&side.text, SMALL, false)).min(1.0);
        scene.words(Words { upright: true, size, ..side });
        for level in panel.levels.iter().filter(|l| shown(l.y, panel.y.log)) {
            scene.line(vec![(x0, py(level.y)), (x1, py(level.y))], LEVEL);
        }
        for series in &panel.series {
            let seen = |p: &&Point| shown(p.x, panel.x.log) && shown(p.y, panel.y.log);
            let points = || series.points.iter().filter(seen);
            if let Some(pen) = series.look.line(series.style) {
                scene.line(points().map(|p| (px(p.x), py(p.y))).collect(), pen);
            }
            let bars = Pen { ink: Ink::Series(series.style), width: BARS, dash: &[] };
            for p in points() {
                let (x, y) = (px(p.x), py(p.y));
                if let Some([low, high]) = p.y_bar {
                    let (low, high) = (py(low), py(high));
                    scene.line(vec![(x, low), (x, high)], bars);
                    for end in [low, high] {
                        scene.line(vec![(x - 3.0, end), (x + 3.0, end)], bars);
                    }
                }
                if let Some([low, high]) = p.x_bar {
                    let (low, high) = (px(low), px(high));
                    scene.line(vec![(low, y), (high, y)], bars);
                    for end in [low, high] {
                        scene.line(vec![(end, y - 3.0), (end, y + 3.0)], bars);
                    }
                }
            }
            for p in points().filter(|_| series.look.marked()) {
                marker(scene, series.style, px(p.x), py(p.y), p.filled);
            }
        }
    }
}

/// Widths of a legend's pictures: a line, a marker alone.
const LINE: f64 = 28.0;
const MARKER: f64 = 12.0;

/// Items of a legend in lines, each with its place.
fn flow(items: &[Item], room: f64) -> Vec<Vec<(usize, f64)>> {
    let mut lines: Vec<Vec<(usize, f64)>> = Vec::new();
    let mut x = f64::INFINITY;
    for (i, (name, key, _)) in items.iter().enumerate() {
        let need = key + 6.0 + width(name, SMALL, false) + 18.0;
        if x + need > room {
            lines.push(Vec::new());
            x = 0.0;
        }
        lines.last_mut().expect("a line was begun").push((i, x));
        x += need;
    }
    lines
}
