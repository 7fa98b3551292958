//! The folder of a run: claimed while a process works in it, with the resolved config, what it runs on, and the
//! metrics.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::claim::{Claim, Taken};
use super::kernels::Kernels;
use super::observer::Observer;
use super::past::Past;
use super::run::RunError;
use crate::config::{ConfigError, MicroBatch, Resolved, RunConfig, path_in};
use crate::generated::Tokens;
use crate::gpu::Gpu;
use crate::interrupt;
use crate::ops::Variants;

/// The claim's file.
pub(crate) const CLAIM: &str = "run.lock";

/// What a run leaves in its folder, and what gives way to another one.
const LEFT: [&str; 10] = [
    "checkpoints",
    "model",
    "model-ema",
    "result.json",
    "metrics.jsonl",
    "run.json",
    "config.toml",
    "grammar.txt",
    "matrices.txt",
    "tuning.json",
];

/// Whether a name in a run's folder is that of something a training leaves.
pub(crate) fn is_of_training(name: &str) -> bool {
    LEFT.contains(&name) || name.starts_with("events.out.tfevents.") || name.starts_with("result-")
}

/// The folder of a run while it is worked in.
pub(super) struct Folder {
    pub path: PathBuf,
    claim: Claim,
    metrics: Option<File>,
}

impl Folder {
    /// Makes the folder where there is none, and claims it.
    ///
    /// # Errors
    /// [`RunError::Claimed`] while somebody else works in it.
    pub fn enter(path: &Path) -> Result<Folder, RunError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RunError::Io { path, source }
        };
        std::fs::create_dir_all(path).map_err(io(path))?;
        let claim = path.join(CLAIM);
        match Claim::take(&claim, &|| !interrupt::requested()).map_err(io(&claim))? {
            Taken::Mine(claim) => Ok(Folder { path: path.into(), claim, metrics: None }),
            Taken::Theirs(holder) => {
                let by = holder.map_or("another process".into(), |h| h.to_string());
                Err(RunError::Claimed { folder: path.into(), by })
            }
        }
    }

    /// Whether it is still ours to write in.
    ///
    /// # Errors
    /// [`RunError::Lost`] when it is not.
    pub fn check(&self) -> Result<(), RunError> {
        Ok(self.claim.check()?)
    }

    /// An error of the run, or that the folder was lost, of which it may be the consequence.
    pub fn explain(&self, error: RunError) -> RunError {
        self.check().err().unwrap_or(error)
    }

    /// Writes a file of the folder and makes it durable.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RunError> {
        self.check()?;
        let path = self.path.join(name);
        crate::model::write_synced(&path, text.as_bytes()).map_err(|source| RunError::Io { path, source })
    }

    /// One JSON object per line, given to the system when this returns.
    pub fn metric(&mut self, line: &serde_json::Value) -> Result<(), RunError> {
        self.check()?;
        let path = self.path.join("metrics.jsonl");
        let mut write = || {
            let file = match self.metrics.take() {
                Some(file) => file,
                None => File::options().create(true).append(true).open(&path)?,
            };
            let file = self.metrics.insert(file);
            writeln!(file, "{line}").and_then(|()| file.flush())
        };
        write().map_err(|source| RunError::Io { path: path.clone(), source })
    }

    /// Makes the folder this run's: moves aside what gives way, and writes what the run is and what it runs on.
    pub fn begin(
        &self,
        gpu: &Gpu,
        resolved: &Resolved,
        kernels: &Kernels,
        past: &Past,
        observer: &dyn Observer,
    ) -> Result<(), RunError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RunError::Io { path, source }
        };
        self.check()?;
        let about = self.path.join("run.json");
        let before: serde_json::Value = match past.gives_way {
            Some(_) => serde_json::Value::Null,
            None => {
                std::fs::read_to_string(&about).ok().and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default()
            }
        };
        if let Some(hash) = &past.gives_way {
            self.give_way(hash.as_deref(), observer)?;
        }
        let began: Option<Variants> = serde_json::from_value(before["variants"].clone()).ok();
        let caps = gpu.capabilities();
        if before["adapter"].as_str().is_some_and(|a| a != gpu.info().name)
            || before["variants"]
                .as_object()
                .is_some_and(|_| began.and_then(|began| began.runnable(caps)) != kernels.variants.runnable(caps))
        {
            observer.note(&format!(
                "warning: this run began on {} with other kernels; from here on its numbers round differently",
                before["adapter"].as_str().unwrap_or("another adapter")
            ));
        }
        for (file, name) in
            [(&resolved.config.language.rules, "grammar.txt"), (&resolved.config.language.matrices, "matrices.txt")]
        {
            if let Some(file) = file {
                let text = std::fs::read_to_string(file).map_err(io(file))?;
                self.write(name, &text)?;
            }
        }
        self.write("config.toml", &storable(resolved, &self.path)?.to_toml())?;
        let info = gpu.info();
        let mut about = json!({
            "lowland": env!("CARGO_PKG_VERSION"),
            "hash": resolved.hash(),
            "name": resolved.name,
            "steps": resolved.config.train.steps,
            "adapter": info.name,
            "backend": format!("{:?}", info.backend),
            "driver": format!("{} {}", info.driver, info.driver_info).trim(),
            "device_type": format!("{:?}", info.device_type),
            "checks": gpu.checks(),
            "variants": kernels.variants,
            "variants_source": kernels.source,
        });
        if resolved.config.train.micro_batch == Some(MicroBatch::AUTO) {
            about["micro_batch"] = json!(resolved.config.train.micro_batch());
        }
        if !past.lengths.is_empty() {
            about["earlier_lengths"] = json!(past.lengths);
        }
        if !past.hashes.is_empty() {
            about["earlier_hashes"] = json!(past.hashes);
        }
        if let Some(tuning) = &kernels.tuning {
            observer.note("kernels as measured for these shapes on this adapter");
            self.write("tuning.json", &(serde_json::to_string_pretty(tuning).expect("plain values") + "\n"))?;
        }
        self.write("run.json", &(serde_json::to_string_pretty(&about).expect("plain values") + "\n"))?;
        if let Some(steps) = past.outgrown {
            let (result, kept) = (self.path.join("result.json"), self.path.join(format!("result-{steps}.json")));
            std::fs::rename(&result, kept).map_err(io(&result))?;
        }
        Ok(())
    }

    /// Moves what a run of another config left into a folder of its own.
    fn give_way(&self, hash: Option<&str>, observer: &dyn Observer) -> Result<(), RunError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RunError::Io { path, source }
        };
        let entries = std::fs::read_dir(&self.path).map_err(io(&self.path))?.flatten();
        let mut left: Vec<std::ffi::OsString> = entries.map(|entry| entry.file_name()).collect();
        left.retain(|name| is_of_training(&name.to_string_lossy()));
        if left.is_empty() {
            return Ok(());
        }
        let name = format!("before-{}", hash.map_or("unknown", |hash| hash.get(..8).unwrap_or(hash)));
        let names = std::iter::once(name.clone()).chain((2..).map(|i| format!("{name}-{i}")));
        let aside = names.map(|name| self.path.join(name)).find(|path| !path.exists()).expect("names do not end");
        std::fs::create_dir(&aside).map_err(io(&aside))?;
        for name in left {
            let from = self.path.join(&name);
            std::fs::rename(&from, aside.join(&name)).map_err(io(&from))?;
        }
        observer
            .note(&format!("what a run of another config left here, without an end, is in {} now", aside.display()));
        Ok(())
    }
}

/// A run's config as its folder keeps it: files by their copies, paths absolute.
///
/// # Errors
/// A path that no TOML file can hold, and that cannot be left out.
pub(super) fn storable(resolved: &Resolved, folder: &Path) -> Result<RunConfig, ConfigError> {
    let mut config = resolved.config.clone();
    let language = &mut config.language;
    for (file, name) in [(&mut language.rules, "grammar.txt"), (&mut language.matrices, "matrices.txt")] {
        if file.is_some() {
            *file = Some(name.into());
        }
    }
    // Left out where it is no text; the config then names no folder.
    config.output = std::path::absolute(folder).ok().filter(|path| path.to_str().is_some());
    // Text and models stay where they are.
    let language = &mut config.language;
    let files = language.files.iter_mut().flat_map(|files| files.list_mut()).map(|file| ("language.files", file));
    let tokens = language.tokens.as_mut().and_then(Tokens::file).map(|file| ("language.tokens", file));
    let single = [
        ("train.start_from", &mut config.train.start_from),
        ("language.tokenizer", &mut language.tokenizer),
        ("language.cache", &mut language.cache),
        ("language.model", &mut language.model),
        ("language.sentences", &mut language.sentences),
    ];
    let single = single.into_iter().filter_map(|(key, path)| Some((key, path.as_mut()?)));
    let branch = config.train.branch.as_mut().map(|branch| ("train.branch.from", &mut branch.from));
    for (key, path) in single.chain(branch).chain(files).chain(tokens) {
        *path = path_in(folder, path).ok_or_else(|| ConfigError {
            place: format!("{key} = {}", path.display()),
            message: "its path is not UTF-8 text, which config.toml could not hold; rename or move it".into(),
        })?;
    }
    Ok(config)
}

/// Says in the config of a run that is over that its folder is another one, to which it is about to be moved.
pub(crate) fn settle(folder: &Path, resolved: &Resolved, to: &Path) -> Result<(), RunError> {
    let path = folder.join("config.toml");
    let text = storable(resolved, to)?.to_toml();
    crate::model::write_synced(&path, text.as_bytes()).map_err(|source| RunError::Io { path, source })
}

/// Keeps the lines of `metrics.jsonl` up to a checkpoint's step, so that a resumed run does not say things twice; none
/// where there is no checkpoint.
pub(super) fn keep_metrics_until(path: &Path, step: Option<u64>) -> std::io::Result<()> {
    let text = match std::fs::read(path) {
        // Whatever is no line of metrics goes, bytes that are no text too.
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let keep = |line: &&str| {
        serde_json::from_str::<serde_json::Value>(line)
            .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| step.is_some_and(|step| s <= step)))
    };
    let kept: String = text.lines().filter(keep).map(|l| format!("{l}\n")).collect();
    if kept.len() < text.len() { crate::model::write_synced(path, kept.as_bytes()) } else { Ok(()) }
}

/// Seconds that earlier attempts spent, from the last line of the metrics.
pub(super) fn earlier_seconds(path: &Path) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let last = text.lines().rev().find_map(|l| serde_json::from_str::<serde_json::Value>(l).ok()?["seconds"].as_f64());
    last.unwrap_or(0.0)
}

/// The step of the newest evaluation in the metrics.
pub(super) fn evaluated_step(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let step = |line: &str| {
        let value = serde_json::from_str::<serde_json::Value>(line).ok()?;
        value.get("held_out_loss").and_then(|_| value["step"].as_u64())
    };
    text.lines().rev().find_map(step)
}
