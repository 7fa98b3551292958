//! The key `train.schedule`: the course of the learning rate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Share of the steps over which the learning rate rises from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Warmup {
    /// Share of all steps over which the learning rate rises linearly from 0.
    pub warmup: f64,
}

impl Default for Warmup {
    fn default() -> Self {
        Warmup { warmup: 0.06 }
    }
}

/// Warm-up, stable phase, decay: up to the decay the learning rates of `constant`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wsd {
    /// Share of all steps over which the learning rate rises linearly from 0.
    pub warmup: f64,
    /// Share of all steps, the last ones, over which it falls linearly to the floor.
    pub decay: f64,
    /// What it falls to, as a share of the peak learning rate.
    pub floor: f64,
}

impl Default for Wsd {
    fn default() -> Self {
        Wsd { warmup: 0.06, decay: 0.1, floor: 0.0 }
    }
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Falls linearly to 0 at the last step.
    Linear(Warmup),
    /// Stays.
    Constant(Warmup),
    /// Falls to 0 along half a cosine.
    Cosine(Warmup),
    /// Stays, and over the last steps falls linearly to a floor.
    Wsd(Wsd),
}

impl ScheduleKind {
    /// Share of the steps over which the learning rate rises from 0.
    pub fn warmup(&self) -> f64 {
        match self {
            ScheduleKind::Linear(w) | ScheduleKind::Constant(w) | ScheduleKind::Cosine(w) => w.warmup,
            ScheduleKind::Wsd(w) => w.warmup,
        }
    }

    /// Factor on the peak learning rate at a step counted from 0.
    ///
    /// ```
    /// use lowland::config::{ScheduleKind, Warmup, Wsd};
    /// let schedule = ScheduleKind::Linear(Warmup { warmup: 0.5 });
    /// assert_eq!([schedule.factor(0, 4), schedule.factor(1, 4), schedule.factor(3, 4)], [0.5, 1.0, 0.5]);
    /// let schedule = ScheduleKind::Wsd(Wsd { warmup: 0.25, decay: 0.5, floor: 0.5 });
    /// assert_eq!([0, 1, 2, 3, 4, 5, 7].map(|s| schedule.factor(s, 8)), [0.5, 1.0, 1.0, 1.0, 1.0, 0.875, 0.625]);
    /// ```
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let steps = steps as f64;
        let warm = (self.warmup() * steps).round();
        let now = step as f64;
        if now < warm {
            return (now + 1.0) / warm;
        }
        let left = |of: f64| ((steps - now) / of.max(1.0)).clamp(0.0, 1.0);
        match self {
            ScheduleKind::Linear(_) => left(steps - warm),
            ScheduleKind::Constant(_) => 1.0,
            ScheduleKind::Cosine(_) => 0.5 * (1.0 - (std::f64::consts::PI * left(steps - warm)).cos()),
            ScheduleKind::Wsd(w) => match left((w.decay * steps).round()) {
                // To the bit what `constant` has.
                1.0 => 1.0,
                left => w.floor + (1.0 - w.floor) * left,
            },
        }
    }

    /// Names what cannot be, with the key it stands at.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((format!("train.schedule.{key}"), message));
        let warmup = self.warmup();
        if !(0.0..=1.0).contains(&warmup) {
            return bad("warmup", format!("{warmup} is a share of the steps, 0 to 1"));
        }
        let ScheduleKind::Wsd(Wsd { decay, floor, .. }) = self else { return Ok(()) };
        if !(0.0..=1.0).contains(decay) {
            return bad("decay", format!("{decay} is a share of the steps, 0 to 1"));
        }
        if warmup + decay > 1.0 + 1e-12 {
            return bad("decay", format!("{decay} and `warmup` {warmup} are more than all steps together"));
        }
        if !(0.0..=1.0).contains(floor) {
            return bad("floor", format!("{floor} is a share of the peak learning rate, 0 to 1"));
        }
        Ok(())
    }
}
