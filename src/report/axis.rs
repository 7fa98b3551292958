//! Axes of panels: their ranges, the places of values on them, ticks and the ticks' text.

use super::panels::Panel;

/// Range of an axis in its own units: plain values, or their logarithms to base 10.
#[derive(Clone, Copy)]
pub struct Range {
    low: f64,
    high: f64,
    log: bool,
}

impl Range {
    /// Room for values and bars; on a log axis a bar that reaches towards 0 gets no more than a factor of 3.
    pub fn of<'a>(panels: impl Iterator<Item = &'a Panel>, log: bool, vertical: bool) -> Range {
        let mut values: Vec<f64> = Vec::new();
        for panel in panels {
            for point in panel.series.iter().flat_map(|s| &s.points) {
                let (value, bar) = if vertical { (point.y, point.y_bar) } else { (point.x, point.x_bar) };
                if !shown(value, log) {
                    continue;
                }
                let [low, high] = bar.unwrap_or([value; 2]);
                values.extend([if log { low.max(value / 3.0) } else { low }, high, value]);
            }
            if vertical {
                values.extend(panel.levels.iter().map(|l| l.y).filter(|y| shown(*y, log)));
            }
        }
        let at = |v: &f64| if log { libm::log10(*v) } else { *v };
        let (low, high) =
            values.iter().map(at).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let room = match low < high {
            true => 0.06 * (high - low),
            false if log => 0.3,
            false if low == 0.0 => 0.5,
            false => 0.05 * low.abs(),
        };
        match low.is_finite() {
            true => Range { low: low - room, high: high + room, log },
            false => Range { low: 0.0, high: 1.0, log },
        }
    }

    /// Place of a value in 0..1, kept inside.
    pub fn at(&self, value: f64) -> f64 {
        let value = if !self.log {
            value
        } else if value > 0.0 {
            libm::log10(value)
        } else {
            self.low
        };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    pub fn ticks(&self) -> Vec<f64> {
        let ticks = if self.log { log_ticks(self.low, self.high) } else { Vec::new() };
        // Over less than a decade the places of a linear axis say more.
        let (low, high) = match self.log {
            true => (libm::pow(10.0, self.low), libm::pow(10.0, self.high)),
            false => (self.low, self.high),
        };
        if ticks.len() > 2 { ticks } else { linear_ticks(low, high) }
    }
}

/// Whether an axis has a place for a value.
pub fn shown(value: f64, log: bool) -> bool {
    value.is_finite() && (!log || value > 0.0)
}

/// Whether positive values run over more than a factor of 20, so that a log axis is right.
pub fn wide(values: impl Iterator<Item = f64>) -> bool {
    let (low, high) =
        values.filter(|v| v.is_finite()).fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    low > 0.0 && high > 20.0 * low
}

/// A tick: whole numbers up to 9,999 as they are, larger and very small ones with a power of ten.
pub fn tick(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let power = libm::floor(libm::log10(value.abs()) + 1e-9);
    if (-3.0..5.0).contains(&power) {
        let text = format!("{:.6}", value);
        return text.trim_end_matches('0').trim_end_matches('.').replace('-', "−");
    }
    let digits = value / libm::pow(10.0, power);
    let digits = (digits * 1e4).round() / 1e4;
    let raised: String = format!("{power}").chars().map(superscript).collect();
    if digits == 1.0 { format!("10{raised}") } else { format!("{digits}·10{raised}") }
}

fn superscript(c: char) -> char {
    match c {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        d => d.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)).unwrap_or(c),
    }
}

/// Round numbers between two, about five.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|t| *t <= high).take(20).collect()
}

/// Powers of ten between two exponents; with 2 and 5 between them where there are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
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
