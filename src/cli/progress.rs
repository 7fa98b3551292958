//! Progress of a training run or a measurement: a bar on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print;
use crate::curvature;
use crate::train::{Evaluation, Observer, Progress};

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

/// Shows what a command is at, with the value and error so far of a measurement: a bar on a terminal, elsewhere a line
/// every ten seconds, also while nothing new is known.
pub struct Gauge {
    bar: Option<ProgressBar>,
    shared: Arc<Mutex<Shown>>,
    start: Instant,
}

/// What the plain lines say.
struct Shown {
    text: String,
    last: Instant,
    over: bool,
}

impl Gauge {
    pub fn new() -> Gauge {
        let start = Instant::now();
        let bar = Meter::new(1).bar;
        // Nothing is said of what is over at once.
        let shared = Arc::new(Mutex::new(Shown { text: "beginning".into(), last: start, over: false }));
        if bar.is_none() {
            let shared = shared.clone();
            std::thread::spawn(move || {
                while beat(&shared, start) {
                    std::thread::sleep(LOOK);
                }
            });
        }
        Gauge { bar, shared, start }
    }

    /// Something is done that has no measure.
    pub fn phase(&self, what: &str) {
        self.say(what.into());
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_string());
        }
    }

    /// `what` is measured; progress is counted in `unit`.
    pub fn show(&self, what: &str, unit: &str, p: &curvature::Progress) {
        let value = p.value.map_or(String::new(), |(v, e)| format!(" {} ± {}", print::short(v), print::short(e)));
        self.say(format!("{unit} {}/{}: {what}{value}", p.done, p.of));
        if let Some(bar) = &self.bar {
            bar.set_length(p.of as u64);
            bar.set_position(p.done as u64);
            let seconds = self.start.elapsed().as_secs_f64();
            bar.set_message(format!("{what}{value}, {}", print::duration(seconds)));
        }
    }

    fn say(&self, text: String) {
        self.shared.lock().unwrap_or_else(|e| e.into_inner()).text = text;
    }

    /// Takes the bar away before the result is printed.
    pub fn done(&self) {
        self.shared.lock().unwrap_or_else(|e| e.into_inner()).over = true;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.done();
    }
}

/// How often it is looked whether a line is due.
const LOOK: Duration = Duration::from_millis(200);

/// Writes the line that is due; false at the end.
fn beat(shared: &Mutex<Shown>, start: Instant) -> bool {
    let mut shown = shared.lock().unwrap_or_else(|e| e.into_inner());
    if !shown.over && shown.last.elapsed() >= PLAIN_EVERY {
        shown.last = Instant::now();
        print::note(&format!("{}, {}", shown.text, print::duration(start.elapsed().as_secs_f64())));
    }
    !shown.over
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
    let excess = match &p.evaluation {
        Some(Evaluation { excess_loss: Some(excess), excess_loss_standard_error: Some(error), .. }) => {
            format!(", excess loss {excess:.4} ± {error:.4}")
        }
        Some(e) => format!(", held-out loss {}", print::with_error(e.loss, e.loss_standard_error)),
        None => String::new(),
    };
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
