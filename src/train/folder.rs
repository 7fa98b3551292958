//! The folder of a run: opened or made under a lock, with the resolved config, what it runs on, and the metrics.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::kernels::Kernels;
use super::observer::Observer;
use super::run::{Outcome, RunError, Status};
use crate::config::{ConfigError, Resolved};
use crate::gpu::Gpu;

/// The folder of a run while it is worked in.
pub(super) struct Folder {
    pub path: PathBuf,
    _lock: File,
    metrics: File,
}

impl Folder {
    fn at(path: &Path, name: &str) -> PathBuf {
        path.join(name)
    }

    /// Writes a file of the folder and makes it durable.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RunError> {
        let path = Folder::at(&self.path, name);
        crate::model::write_synced(&path, text.as_bytes()).map_err(|source| RunError::Io { path, source })
    }

    /// One JSON object a line, given to the system when this returns.
    pub fn metric(&mut self, line: &serde_json::Value) -> Result<(), RunError> {
        let write = writeln!(self.metrics, "{line}").and_then(|()| self.metrics.flush());
        write.map_err(|source| RunError::Io { path: self.path.join("metrics.jsonl"), source })
    }
}

/// Opens or makes the folder of a run; `None` in the second place when it is finished already.
pub(super) fn open(
    gpu: &Gpu,
    resolved: &Resolved,
    kernels: &Kernels,
    observer: &dyn Observer,
) -> Result<(Folder, Option<Outcome>), RunError> {
    let path = resolved.output();
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| RunError::Io { path, source }
    };
    std::fs::create_dir_all(&path).map_err(io(&path))?;
    let lock_path = path.join("run.lock");
    let lock = File::create(&lock_path).map_err(io(&lock_path))?;
    if lock.try_lock().is_err() {
        let message = "another process works in this run folder; wait for it, or give another `output`".into();
        return Err(ConfigError { place: path.display().to_string(), message }.into());
    }
    let hash = resolved.hash();
    let about = path.join("run.json");
    if let Ok(text) = std::fs::read_to_string(&about) {
        let known: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if known["hash"].as_str().is_some_and(|h| h != hash) {
            let message = "holds a run of another config; give another `output`, or remove the folder".into();
            return Err(ConfigError { place: path.display().to_string(), message }.into());
        }
    }
    let before: serde_json::Value =
        std::fs::read_to_string(&about).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let metrics_path = path.join("metrics.jsonl");
    let metrics = File::options().create(true).append(true).open(&metrics_path).map_err(io(&metrics_path))?;
    let folder = Folder { path: path.clone(), _lock: lock, metrics };
    let done = std::fs::read_to_string(path.join("result.json"))
        .ok()
        .and_then(|text| serde_json::from_str::<Outcome>(&text).ok())
        .filter(|o| o.status == Status::Done)
        .map(|o| Outcome { folder: path.clone(), ..o });
    if done.is_none() {
        let now = serde_json::to_value(kernels.variants).unwrap_or_default();
        if before["adapter"].as_str().is_some_and(|a| a != gpu.info().name)
            || before["variants"].as_object().is_some_and(|_| before["variants"] != now)
        {
            observer.note(&format!(
                "warning: this run began on {} with other kernels; from here on its numbers round differently",
                before["adapter"].as_str().unwrap_or("another adapter")
            ));
        }
        let mut config = resolved.config.clone();
        if let Some(rules) = &config.language.rules {
            let text = std::fs::read_to_string(rules).map_err(io(rules))?;
            folder.write("grammar.txt", &text)?;
            config.language.rules = Some("grammar.txt".into());
        }
        if let Some(matrices) = &config.language.matrices {
            let text = std::fs::read_to_string(matrices).map_err(io(matrices))?;
            folder.write("matrices.txt", &text)?;
            config.language.matrices = Some("matrices.txt".into());
        }
        config.output = Some(std::path::absolute(&path).unwrap_or(path.clone()));
        if let Some(start) = &mut config.train.start_from {
            *start = std::path::absolute(&*start).unwrap_or(start.clone());
        }
        folder.write("config.toml", &config.to_toml())?;
        let info = gpu.info();
        let about = json!({
            "lowland": env!("CARGO_PKG_VERSION"),
            "hash": hash,
            "name": resolved.name,
            "adapter": info.name,
            "backend": format!("{:?}", info.backend),
            "driver": format!("{} {}", info.driver, info.driver_info).trim(),
            "device_type": format!("{:?}", info.device_type),
            "checks": gpu.checks(),
            "variants": kernels.variants,
            "variants_source": kernels.source,
        });
        if let Some(tuning) = &kernels.tuning {
            observer.note("kernels as measured for these shapes on this adapter");
            folder.write("tuning.json", &(serde_json::to_string_pretty(tuning).expect("plain values") + "\n"))?;
        }
        folder.write("run.json", &(serde_json::to_string_pretty(&about).expect("plain values") + "\n"))?;
    }
    Ok((folder, done))
}

/// Keeps the lines of `metrics.jsonl` up to a checkpoint's step, so that a resumed run does not say things twice; none
/// where there is no checkpoint.
pub(super) fn keep_metrics_until(path: &Path, step: Option<u64>) -> std::io::Result<()> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
    let keep = |line: &&str| {
        serde_json::from_str::<serde_json::Value>(line)
            .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| step.is_some_and(|step| s <= step)))
    };
    let kept: String = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
    if kept.len() < text.len() { std::fs::write(path, kept) } else { Ok(()) }
}

/// Whether the metrics hold an evaluation at a step.
pub(super) fn evaluated(path: &Path, step: u64) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let at = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line)
            .is_ok_and(|v| v["step"].as_u64() == Some(step) && v["held_out_loss"].is_number())
    };
    text.lines().any(at)
}

/// Seconds that earlier attempts spent, from the last line of the metrics.
pub(super) fn earlier_seconds(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let last = text.lines().rev().find_map(|l| serde_json::from_str::<serde_json::Value>(l).ok()?["seconds"].as_f64());
    last.unwrap_or(0.0)
}
