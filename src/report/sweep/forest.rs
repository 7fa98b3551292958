//! The correlations with their intervals, one line per predictor and task.

use super::super::panels::{SMALL, marker, plain};
use super::super::scene::{Anchor, Ink, Pen, Scene, Words};
use super::correlations::Found;
use super::figures::short;
use super::quantity;
use crate::statistics::Coefficient;

/// Left and right end of the axis, -1 and 1.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 540.0;
const WIDTH: f64 = 760.0;
const LINE: f64 = 30.0;
const TOP: f64 = 66.0;

/// Letters of a predictor's name left of the axis.
const LONGEST_NAME: usize = 28;

/// Spearman's coefficient of accuracy, or of covariates, with each predictor, over all models (hollow) and over the
/// saturated ones (filled).
pub fn draw(all: &[Found], covariates: bool) -> Option<(Scene, String)> {
    let chosen: Vec<&Found> = all
        .iter()
        .filter(|f| f.covariate == covariates)
        .filter(|f| f.coefficient == Coefficient::Spearman && !f.partial && f.models.intervention.is_none())
        .filter(|f| f.value.is_some())
        .collect();
    let mut tasks: Vec<&str> = Vec::new();
    for f in &chosen {
        if !tasks.contains(&f.task.as_str()) {
            tasks.push(&f.task);
        }
    }
    if tasks.is_empty() {
        return None;
    }
    let blocks: Vec<(&str, Vec<&str>)> = tasks
        .iter()
        .map(|task| {
            let mut keys: Vec<&str> = Vec::new();
            for f in chosen.iter().filter(|f| f.task == *task) {
                if !keys.contains(&f.predictor.key.as_str()) {
                    keys.push(&f.predictor.key);
                }
            }
            (*task, keys)
        })
        .collect();
    let lines: usize = blocks.iter().map(|(_, p)| p.len()).sum();
    let height = TOP + blocks.len() as f64 * 26.0 + lines as f64 * LINE + 46.0;
    let of = if covariates { "each covariate with all that was measured" } else { "accuracy with each predictor" };
    let name = format!("Rank correlation of {of}");
    let name = name.as_str();
    let mut scene = Scene::new(WIDTH, height, name);
    scene.words(Words { size: 14.5, bold: true, ..plain(12.0, 23.0, name, Anchor::Start) });
    for (x, text, filled) in [(12.0, "saturated models", true), (170.0, "all models", false)] {
        interval(&mut scene, [x, x + 28.0], x + 14.0, 43.0, filled);
        scene.words(plain(x + 36.0, 47.0, text, Anchor::Start));
    }
    let title = |task: &str| if covariates { short(task) } else { quantity::titled(task) };
    let at = |v: f64| LEFT + (v + 1.0) / 2.0 * (RIGHT - LEFT);
    let bottom = height - 42.0;
    for tenths in [-10, -5, 0, 5, 10] {
        let v = f64::from(tenths) / 10.0;
        let (ink, dash): (_, &[f32]) = if tenths == 0 { (Ink::Text, &[]) } else { (Ink::Grid, &[]) };
        scene.line(vec![(at(v), TOP - 4.0), (at(v), bottom)], Pen { ink, width: 1.0, dash });
        let text = v.to_string().replace('-', "−");
        scene.words(Words { size: 11.0, ink: Ink::Muted, ..plain(at(v), bottom + 15.0, &text, Anchor::Middle) });
    }
    let label = "Spearman's ρ with its 95 % interval (bootstrap over runs)";
    scene.words(plain((LEFT + RIGHT) / 2.0, bottom + 33.0, label, Anchor::Middle));
    let mut y = TOP;
    for (task, predictors) in blocks {
        y += 26.0;
        scene.words(Words { bold: true, ..plain(12.0, y - 8.0, &title(task), Anchor::Start) });
        for key in predictors {
            let own: Vec<&&Found> = chosen.iter().filter(|f| f.task == task && f.predictor.key == key).collect();
            let name = own.first().map_or(key, |f| f.predictor.name.as_str());
            let name: String = name.chars().take(LONGEST_NAME).collect();
            scene.words(plain(20.0, y + 13.0, &name, Anchor::Start));
            for f in own {
                let place = y + if f.models.saturated { 4.0 } else { 16.0 };
                let value = f.value.map_or(f64::NAN, |c| c.value);
                let ends = f.interval().unwrap_or([value; 2]);
                interval(&mut scene, ends.map(at), at(value), place, f.models.saturated);
                let signed = |v: f64| format!("{v:.2}").replace('-', "−");
                let text = format!("{}, {} models, {} runs", signed(value), f.count, f.runs);
                let words = plain(RIGHT + 14.0, place + 4.0, &text, Anchor::Start);
                scene.words(Words { size: SMALL - 1.0, ..words });
            }
            y += LINE;
        }
    }
    if covariates {
        let caption = "Each block is a column of the sweep's table of covariates. Runs, not models, are drawn again \
            for the intervals: models that the sweep file says are of one training are drawn together, every other \
            one by itself. With many coefficients some intervals miss 0 by chance.";
        return Some((scene, caption.into()));
    }
    let caption = "Where a trace is the better predictor, its interval lies further from 0 than that of the excess \
        loss. A negative coefficient: flatter models, or those of lower loss, are more accurate. Runs, not models, are \
        drawn again for the intervals, because models along one run are not independent.";
    Some((scene, caption.into()))
}

fn interval(scene: &mut Scene, [low, high]: [f64; 2], at: f64, y: f64, filled: bool) {
    let style = usize::from(!filled);
    let pen = Pen { ink: Ink::Series(style), width: 1.6, dash: if filled { &[] } else { &[4.0, 2.5] } };
    scene.line(vec![(low, y), (high, y)], pen);
    for end in [low, high] {
        scene.line(vec![(end, y - 3.0), (end, y + 3.0)], Pen { dash: &[], ..pen });
    }
    marker(scene, style, at, y, filled);
}
