//! Progress of a training run: a bar on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::print;
use crate::train::{Observer, Progress};

/// Time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows a run on standard error.
pub struct Bar {
    bar: Option<ProgressBar>,
    last: RefCell<Option<Instant>>,
}

impl Bar {
    pub fn new(steps: u64) -> Bar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30.cyan/blue} {pos}/{len} {msg}")
                .expect("a template of known fields");
            ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_style(style)
        });
        Bar { bar, last: RefCell::new(None) }
    }

    /// Leaves the bar as it stands.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
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
        if let Some(bar) = &self.bar {
            bar.set_position(p.step);
            bar.set_message(message(p));
            return;
        }
        let mut last = self.last.borrow_mut();
        if last.is_none_or(|l| l.elapsed() >= PLAIN_EVERY) || p.step == p.steps {
            *last = Some(Instant::now());
            print::note(&format!("step {}/{}: {}", p.step, p.steps, message(p)));
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print::note(text)),
            None => print::note(text),
        }
    }
}
