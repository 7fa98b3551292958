//! Who watches a run.

use super::evaluate::Evaluation;

/// Where a run stands, for a progress bar.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Steps of the config.
    pub steps: u64,
    /// Mean loss since the last line.
    pub loss: f64,
    /// The last one.
    pub evaluation: Option<Evaluation>,
    /// Since the last line, of training alone.
    pub sentences_per_second: f64,
    /// Until the last step, measurements to come included.
    pub seconds_left: f64,
}

/// Who watches a run.
pub trait Observer {
    /// Called when there is something new to show.
    fn progress(&self, progress: &Progress);
    /// A sentence for the user.
    fn note(&self, text: &str);
}

/// Watches nothing.
pub struct Quiet;

impl Observer for Quiet {
    fn progress(&self, _: &Progress) {}
    fn note(&self, _: &str) {}
}
