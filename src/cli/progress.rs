//! Progress of a training run or a measurement: a bar on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print;
use crate::curvature;
use crate::train::{Observer, Progress};

/// Time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// A bar on a terminal, else a line now and then.
struct Meter {
    bar: Option<ProgressBar>,
    last: RefCell<Option<Instant>>,
}

impl Meter {
    fn new(length: u64) -> Meter {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30.cyan/blue} {pos}/{len} {msg}")
                .expect("a template of known fields");
            ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()).with_style(style)
        });
        Meter { bar, last: RefCell::new(None) }
    }

    /// Shows where it stands; a plain line is `unit done/of: message`, and always written when `now`.
    fn show(&self, unit: &str, done: u64, of: u64, message: &str, now: bool) {
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(message.to_string());
            return;
        }
        let mut last = self.last.borrow_mut();
        if last.is_none_or(|l| l.elapsed() >= PLAIN_EVERY) || now {
            *last = Some(Instant::now());
            print::note(&format!("{unit} {done}/{of}: {message}"));
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print::note(text)),
            None => print::note(text),
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// Shows a measurement with its value and error so far.
pub struct Gauge {
    meter: Meter,
    start: Instant,
}

impl Gauge {
    pub fn new() -> Gauge {
        // Nothing is said of what is over at once.
        let meter = Meter::new(1);
        *meter.last.borrow_mut() = Some(Instant::now());
        Gauge { meter, start: Instant::now() }
    }

    /// `what` is measured, in so many `unit`s.
    pub fn show(&self, what: &str, unit: &str, p: &curvature::Progress) {
        let value = p.value.map_or(String::new(), |(v, e)| format!(" {} ± {}", print::short(v), print::short(e)));
        let message = format!("{what}{value}, {}", print::duration(self.start.elapsed().as_secs_f64()));
        self.meter.show(unit, p.done as u64, p.of as u64, &message, false);
    }

    /// Takes the bar away before the result is printed.
    pub fn done(&self) {
        if let Some(bar) = &self.meter.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows a run on standard error.
pub struct Bar {
    meter: Meter,
}

impl Bar {
    pub fn new(steps: u64) -> Bar {
        Bar { meter: Meter::new(steps) }
    }

    /// Leaves the bar as it stands.
    pub fn done(&self) {
        self.meter.done();
    }
}

fn message(p: &Progress) -> String {
    let excess = p
        .evaluation
        .as_ref()
        .map_or(String::new(), |e| format!(", excess loss {:.4} ± {:.4}", e.excess_loss, e.excess_loss_standard_error));
    format!(
        "loss {:.4}{excess}, {:.0} sentences/s, {} left",
        p.loss,
        p.sentences_per_second,
        print::duration(p.seconds_left)
    )
}

impl Observer for Bar {
    fn progress(&self, p: &Progress) {
        self.meter.show("step", p.step, p.steps, &message(p), p.step == p.steps);
    }

    fn note(&self, text: &str) {
        self.meter.note(text);
    }
}
