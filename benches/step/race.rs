//! Times of both sides, taken in turn.

use serde_json::{Value, json};

/// Rounds whose times are thrown away: caches and, on software adapters, code are made in them.
pub const WARM_UP: usize = 2;

/// Seconds of our side and, where there is one, of the peer's, round by round.
#[derive(Default)]
pub struct Times {
    pub ours: Vec<f64>,
    pub theirs: Vec<f64>,
}

/// Quartiles.
pub fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|q| sorted[((sorted.len() - 1) as f64 * q).round() as usize])
}

impl Times {
    /// Notes a round.
    pub fn push(&mut self, ours: f64, theirs: Option<f64>) {
        self.ours.push(ours);
        self.theirs.extend(theirs);
    }

    /// Our median.
    pub fn seconds(&self) -> f64 {
        quartiles(&self.ours)[1]
    }

    /// The peer's median.
    pub fn peer_seconds(&self) -> Option<f64> {
        (!self.theirs.is_empty()).then(|| quartiles(&self.theirs)[1])
    }

    /// Quartiles of our time over the peer's, round by round.
    pub fn ratio(&self) -> Option<[f64; 3]> {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.theirs).map(|(a, b)| a / b).collect();
        (!ratios.is_empty()).then(|| quartiles(&ratios))
    }

    /// The numbers for the JSON file.
    pub fn json(&self) -> Value {
        let mut all = json!({ "seconds": self.seconds() });
        if let (Some(theirs), Some([low, median, high])) = (self.peer_seconds(), self.ratio()) {
            all["peer_seconds"] = json!(theirs);
            all["ratio"] = json!(median);
            all["ratio_quartiles"] = json!([low, high]);
        }
        all
    }
}
