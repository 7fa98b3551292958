//! A drawing of lines, shapes and words that is written as SVG and as PNG, the same in both.
//!
//! Words are set in DejaVu Sans, of which the program carries what figures use (`font/`): a PNG needs no installed
//! font, and widths are known when a figure is laid out.

use std::fmt::Write;
use std::sync::OnceLock;

use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};
use ttf_parser::{Face, OutlineBuilder};

use super::html::escape;
pub use super::palette::Ink;

/// The stroke of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pen {
    pub ink: Ink,
    pub width: f64,
    /// Lengths of dashes and gaps; empty for a whole line.
    pub dash: &'static [f32],
}

/// The place of a word beside its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// Words on a drawing.
#[derive(Clone, Debug)]
pub struct Words {
    pub x: f64,
    pub y: f64,
    pub text: String,
    pub size: f64,
    pub bold: bool,
    pub anchor: Anchor,
    /// Read from below.
    pub upright: bool,
    pub ink: Ink,
}

#[derive(Clone, Debug)]
enum Element {
    Shape { points: Vec<(f64, f64)>, closed: bool, pen: Option<Pen>, fill: Option<Ink> },
    Disc { x: f64, y: f64, r: f64, pen: Option<Pen>, fill: Option<Ink> },
    Words(Words),
}

/// A drawing; y grows downwards.
#[derive(Clone, Debug)]
pub struct Scene {
    pub width: f64,
    pub height: f64,
    name: String,
    elements: Vec<Element>,
}

static REGULAR: &[u8] = include_bytes!("font/DejaVuSans.ttf");
static BOLD: &[u8] = include_bytes!("font/DejaVuSans-Bold.ttf");

fn face(bold: bool) -> &'static Face<'static> {
    static FACES: OnceLock<[Face<'static>; 2]> = OnceLock::new();
    let faces = FACES.get_or_init(|| [REGULAR, BOLD].map(|f| Face::parse(f, 0).expect("the embedded fonts are whole")));
    &faces[usize::from(bold)]
}

/// Whether both fonts have all of a text.
#[cfg(test)]
pub fn drawable(text: &str) -> bool {
    [false, true].iter().all(|bold| text.chars().all(|c| face(*bold).glyph_index(c).is_some()))
}

/// Width of words in units of the drawing.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    let face = face(bold);
    let advance = |c| {
        let glyph = face.glyph_index(c).unwrap_or_default();
        f64::from(face.glyph_hor_advance(glyph).unwrap_or(0))
    };
    text.chars().map(advance).sum::<f64>() * size / f64::from(face.units_per_em())
}

/// Pixels of a PNG per unit of a drawing: 720 units are 178 mm at 200 dots an inch.
const PIXELS: f32 = 2.0;

impl Scene {
    /// An empty drawing; the name is for those who do not see it.
    pub fn new(width: f64, height: f64, name: &str) -> Scene {
        Scene { width, height, name: name.into(), elements: Vec::new() }
    }

    pub fn line(&mut self, points: Vec<(f64, f64)>, pen: Pen) {
        self.elements.push(Element::Shape { points, closed: false, pen: Some(pen), fill: None });
    }

    pub fn polygon(&mut self, points: Vec<(f64, f64)>, pen: Option<Pen>, fill: Option<Ink>) {
        self.elements.push(Element::Shape { points, closed: true, pen, fill });
    }

    pub fn disc(&mut self, x: f64, y: f64, r: f64, pen: Option<Pen>, fill: Option<Ink>) {
        self.elements.push(Element::Disc { x, y, r, pen, fill });
    }

    pub fn words(&mut self, words: Words) {
        // Control characters are not allowed in SVG.
        let text = words.text.chars().filter(|c| !c.is_control()).collect();
        self.elements.push(Element::Words(Words { text, ..words }));
    }

    /// An `<svg>` element whose colours are the page's variables.
    pub fn svg(&self) -> String {
        self.markup(&|ink| ink.variable(), "")
    }

    /// An SVG file.
    pub fn document(&self) -> String {
        let paper = format!("<rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n", Ink::Card.hex());
        self.markup(&|ink| ink.hex(), &paper)
    }

    fn markup(&self, colour: &dyn Fn(Ink) -> String, paper: &str) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" width=\"{:.0}\" height=\"{:.0}\" \
             role=\"img\" aria-label=\"{}\" font-family=\"'DejaVu Sans', Verdana, sans-serif\" \
             stroke-linejoin=\"round\">\n{paper}",
            self.width,
            self.height,
            self.width,
            self.height,
            escape(&self.name)
        );
        let paint = |pen: &Option<Pen>, fill: &Option<Ink>| {
            let mut text = format!(" fill=\"{}\"", fill.map_or("none".into(), colour));
            if let Some(pen) = pen {
                let _ = write!(text, " stroke=\"{}\" stroke-width=\"{}\"", colour(pen.ink), pen.width);
                if !pen.dash.is_empty() {
                    let dash: Vec<String> = pen.dash.iter().map(f32::to_string).collect();
                    let _ = write!(text, " stroke-dasharray=\"{}\"", dash.join(" "));
                }
            }
            text
        };
        for element in &self.elements {
            match element {
                Element::Shape { points, closed, pen, fill } => {
                    let name = if *closed { "polygon" } else { "polyline" };
                    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                    out += &format!("<{name} points=\"{}\"{}/>\n", points.join(" "), paint(pen, fill));
                }
                Element::Disc { x, y, r, pen, fill } => {
                    out += &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"{}/>\n", paint(pen, fill));
                }
                Element::Words(w) => {
                    let anchor = match w.anchor {
                        Anchor::Start => "",
                        Anchor::Middle => " text-anchor=\"middle\"",
                        Anchor::End => " text-anchor=\"end\"",
                    };
                    let place = match w.upright {
                        true => format!("transform=\"translate({:.1} {:.1}) rotate(-90)\"", w.x, w.y),
                        false => format!("x=\"{:.1}\" y=\"{:.1}\"", w.x, w.y),
                    };
                    out += &format!(
                        "<text {place} font-size=\"{}\"{}{anchor} fill=\"{}\">{}</text>\n",
                        w.size,
                        if w.bold { " font-weight=\"bold\"" } else { "" },
                        colour(w.ink),
                        escape(&w.text)
                    );
                }
            }
        }
        out + "</svg>\n"
    }

    /// A PNG file, two pixels per unit; `None` for a drawing without area.
    pub fn png(&self) -> Option<Vec<u8>> {
        let size = |v: f64| (v * f64::from(PIXELS)).ceil() as u32;
        let mut pixels = Pixmap::new(size(self.width), size(self.height))?;
        pixels.fill(colour(Ink::Card));
        for element in &self.elements {
            match element {
                Element::Shape { points, closed, pen, fill } => {
                    let mut path = PathBuilder::new();
                    for (i, (x, y)) in points.iter().enumerate() {
                        match i {
                            0 => path.move_to(*x as f32, *y as f32),
                            _ => path.line_to(*x as f32, *y as f32),
                        }
                    }
                    if *closed {
                        path.close();
                    }
                    draw(&mut pixels, path.finish(), pen, fill);
                }
                Element::Disc { x, y, r, pen, fill } => {
                    let path = PathBuilder::from_circle(*x as f32, *y as f32, *r as f32);
                    draw(&mut pixels, path, pen, fill);
                }
                Element::Words(words) => draw(&mut pixels, outline(words), &None, &Some(words.ink)),
            }
        }
        pixels.encode_png().ok()
    }
}

fn colour(ink: Ink) -> tiny_skia::Color {
    let [r, g, b] = ink.rgb();
    tiny_skia::Color::from_rgba8(r, g, b, 255)
}

/// Draws a path; what has no extent (a word of blanks) draws nothing.
fn draw(pixels: &mut Pixmap, path: Option<Path>, pen: &Option<Pen>, fill: &Option<Ink>) {
    let Some(path) = path else { return };
    let scale = Transform::from_scale(PIXELS, PIXELS);
    let paint = |ink| {
        let mut paint = Paint { anti_alias: true, ..Paint::default() };
        paint.set_color(colour(ink));
        paint
    };
    if let Some(ink) = fill {
        pixels.fill_path(&path, &paint(*ink), FillRule::Winding, scale, None);
    }
    if let Some(pen) = pen {
        let dash = if pen.dash.is_empty() { None } else { StrokeDash::new(pen.dash.to_vec(), 0.0) };
        let stroke =
            Stroke { width: pen.width as f32, dash, line_join: tiny_skia::LineJoin::Round, ..Stroke::default() };
        pixels.stroke_path(&path, &paint(pen.ink), &stroke, scale, None);
    }
}

/// Glyphs as a path.
struct Glyphs {
    path: PathBuilder,
    scale: f32,
    x: f32,
}

impl Glyphs {
    /// Font units, y upwards, to the drawing's at the word's place.
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Glyphs {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }
    fn close(&mut self) {
        self.path.close();
    }
}

fn outline(words: &Words) -> Option<Path> {
    let face = face(words.bold);
    let scale = words.size as f32 / f32::from(face.units_per_em());
    let start = match words.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -0.5 * width(&words.text, words.size, words.bold),
        Anchor::End => -width(&words.text, words.size, words.bold),
    };
    let mut glyphs = Glyphs { path: PathBuilder::new(), scale, x: start as f32 };
    for c in words.text.chars() {
        let glyph = face.glyph_index(c).unwrap_or_default();
        // A blank has no outline.
        let _ = face.outline_glyph(glyph, &mut glyphs);
        glyphs.x += f32::from(face.glyph_hor_advance(glyph).unwrap_or(0)) * scale;
    }
    let placed = Transform::from_translate(words.x as f32, words.y as f32);
    let placed = if words.upright { placed.pre_rotate(-90.0) } else { placed };
    glyphs.path.finish()?.transform(placed)
}
