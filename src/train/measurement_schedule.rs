//! When a run measures its curvature, and the newest measurement.

use std::path::Path;
use std::time::Instant;

use super::data::Corpus;
use super::measure::Instruments;
use super::measurement::Measurement;
use super::observer::Observer;
use crate::config::MeasureSection;
use crate::curvature::CurvatureError;
use crate::interrupt::{self, Interrupted};
use crate::model::Model;

/// The measurements of a run.
pub(super) struct MeasurementSchedule {
    instruments: Instruments,
    every: u64,
    /// The newest one, also one from before the run was resumed.
    pub last: Option<Measurement>,
    /// Seconds spent since the run was begun or resumed.
    pub seconds: f64,
}

impl MeasurementSchedule {
    /// Samples the sentences, and looks into a run's metrics for what was measured before.
    pub fn new(
        corpus: &Corpus,
        settings: &MeasureSection,
        batch: usize,
        metrics: &Path,
    ) -> Result<MeasurementSchedule, Interrupted> {
        let text = std::fs::read_to_string(metrics).unwrap_or_default();
        let last = text.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let instruments = Instruments::new(corpus, settings, batch)?;
        Ok(MeasurementSchedule { instruments, every: settings.every, last, seconds: 0.0 })
    }

    /// Whether the schedule asks for a measurement at a step that has none yet.
    pub fn due(&self, step: u64) -> bool {
        (step == 0 || self.every > 0 && step.is_multiple_of(self.every)) && !self.done(step)
    }

    /// Whether a step has its measurement.
    pub fn done(&self, step: u64) -> bool {
        self.last.as_ref().is_some_and(|m| m.step == step)
    }

    /// About how long the measurements take that are still to come.
    pub fn seconds_left(&self, step: u64, steps: u64) -> f64 {
        let each = self.last.as_ref().map_or(0.0, |m| m.measure_seconds);
        let coming = if self.every == 0 { 1 } else { steps.div_ceil(self.every) - (step / self.every).min(steps) };
        each * coming as f64
    }

    /// Measures and keeps it as the newest. `None`, with a note, where a number is not finite: training goes on.
    pub fn measure(
        &mut self,
        model: &Model,
        step: u64,
        observer: &dyn Observer,
    ) -> Result<Option<Measurement>, CurvatureError> {
        let started = Instant::now();
        let found = self.instruments.measure(model, step, &|| !interrupt::requested());
        self.seconds += started.elapsed().as_secs_f64();
        match found {
            Ok(measurement) => {
                observer.note(&measurement.text());
                self.last = Some(measurement.clone());
                Ok(Some(measurement))
            }
            Err(CurvatureError::NotFinite(what)) => {
                observer.note(&format!("warning: step {step}: no curvature, {what} is not finite"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
