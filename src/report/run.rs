//! Reads a run's folder.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ReportError;
use crate::files;
use crate::train::{Measurement, RunResult};

/// A run as read from its folder.
pub struct Run {
    pub name: String,
    /// Lines of `metrics.jsonl` with a training loss: step, loss.
    pub training: Vec<(f64, f64)>,
    pub evaluations: Vec<Evaluated>,
    /// Lines of `metrics.jsonl` with curvature.
    pub curvature: Vec<Measurement>,
    /// `probe.json`, where a probe was fitted.
    pub probe: Option<Value>,
    /// `run.json`: version, adapter, driver, variants.
    pub about: Value,
    /// `result.json`, absent while the run is not finished.
    pub result: Option<RunResult>,
    pub config: toml::Table,
}

/// An evaluation line of `metrics.jsonl`.
pub struct Evaluated {
    pub step: f64,
    pub loss: f64,
    /// Standard error of the loss, where no conditional is known.
    pub error: Option<f64>,
    pub known: Option<Known>,
}

/// What exact conditionals say beside it.
#[derive(Clone, Copy)]
pub struct Known {
    pub excess: f64,
    pub excess_error: f64,
    pub floor: f64,
}

impl Run {
    /// Whether next words are predicted, and no masked ones.
    pub fn is_causal(&self) -> bool {
        let kind = self.config.get("objective").and_then(|o| o.get("kind"));
        kind.and_then(toml::Value::as_str) == Some("causal")
    }

    pub fn read(folder: &Path) -> Result<Run, ReportError> {
        let wrong = |path: PathBuf, message: String| ReportError::Run { path, message };
        let path = folder.join("metrics.jsonl");
        // A line that a killed run left may be cut within a letter.
        let text = match files::read(&path, files::LARGE) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(ReportError::NoRun(folder.into()));
            }
            Err(source) => return Err(ReportError::Io { path, source }),
        };
        let (mut training, mut evaluations, mut curvature) = (Vec::new(), Vec::new(), Vec::new());
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let value: Value = match serde_json::from_str(line) {
                Ok(value) => value,
                // The last line of a run that was killed may be cut off.
                Err(_) if i + 1 == lines.len() => break,
                Err(e) => return Err(wrong(path, format!("line {}: {e}", i + 1))),
            };
            let number = |key: &str| value[key].as_f64();
            let Some(step) = number("step") else { continue };
            if let Some(loss) = number("loss") {
                training.push((step, loss));
            }
            if value.get("fisher_trace").is_some() {
                let found = serde_json::from_value(value.clone())
                    .map_err(|e| wrong(path.clone(), format!("line {}: {e}", i + 1)))?;
                curvature.push(found);
            }
            if let Some(loss) = number("held_out_loss") {
                let error = number("held_out_loss_standard_error");
                let known = number("excess_loss").zip(number("entropy_floor")).map(|(excess, floor)| {
                    let excess_error = number("excess_loss_standard_error").unwrap_or(0.0);
                    Known { excess, excess_error, floor }
                });
                evaluations.push(Evaluated { step, loss, error, known });
            }
        }
        let json =
            |name: &str| files::text(&folder.join(name), files::SMALL).ok().and_then(|t| serde_json::from_str(&t).ok());
        let config =
            std::fs::read_to_string(folder.join("config.toml")).ok().and_then(|t| t.parse().ok()).unwrap_or_default();
        let name = std::path::absolute(folder).ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
        Ok(Run {
            name: name.unwrap_or_else(|| "run".into()),
            training,
            evaluations,
            curvature,
            probe: json("probe.json"),
            about: json("run.json").unwrap_or_default(),
            result: RunResult::read(folder),
            config,
        })
    }
}
