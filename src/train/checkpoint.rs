//! Checkpoints: a model folder with the moments and the step beside it, complete or not there at all.
//!
//! Everything is written into a temporary folder and made durable, then `MANIFEST.json` with sizes and hashes, then the
//! folder is renamed. The newest folder whose manifest fits its files is the one that counts.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::model::{Encoder, ModelError, Parameter, Vocabulary, Weights, WeightsFile, remove_temporary, save};

/// A whole checkpoint on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// `checkpoints/step-N` of the run.
    pub folder: PathBuf,
    /// Steps that were taken when it was written.
    pub step: u64,
}

/// Where a run stands beside its weights and moments; `state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this form.
    pub format_version: u32,
    /// Steps that were taken.
    pub step: u64,
    /// Hash of the config that it belongs to.
    pub config_hash: String,
    /// `train.steps` of that config; absent in files of versions up to 0.1.0.
    #[serde(default)]
    pub steps: Option<u64>,
    /// Steps in the average of the weights, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged: Option<u64>,
    /// Lines of the log since the last one that was written, or those of that one.
    #[serde(default)]
    pub recent: Vec<Recent>,
}

/// A step's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// Step, counted from 0.
    pub step: u64,
    /// Mean over the step's masked positions, in nats.
    pub loss: f32,
    /// ‖g‖ before clipping.
    pub gradient_norm: f32,
    /// The adversary's, in nats, where the algorithm has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial_loss: Option<f32>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct FileEntry {
    bytes: u64,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    files: BTreeMap<String, FileEntry>,
}

/// The list of a checkpoint's files, written last.
const MANIFEST: &str = "MANIFEST.json";

const MODEL: &str = "model.safetensors";
const STATE: &str = "state.json";

/// What is wrong with a checkpoint's files.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A file that cannot be read.
    #[error("{file}: {source}")]
    Unread {
        /// Its name in the checkpoint's folder.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A list of files that is none.
    #[error("{MANIFEST}: {0}")]
    Manifest(serde_json::Error),
    /// A file of another size or with another hash.
    #[error("{file} is not what was written ({bytes} bytes, {expected} expected)")]
    Changed {
        /// Its name in the checkpoint's folder.
        file: String,
        /// Its size.
        bytes: u64,
        /// The size that was written.
        expected: u64,
    },
    /// A list of files without one that every checkpoint has.
    #[error("{MANIFEST} does not list {0}")]
    Unlisted(&'static str),
    /// A state that is none.
    #[error("{STATE}: {0}")]
    State(serde_json::Error),
    /// A folder that is named after another step than its state.
    #[error("{STATE} says step {written}, and the folder's name says {named}")]
    Step {
        /// Of the state.
        written: u64,
        /// Of the name.
        named: u64,
    },
}

/// A tensor, by its name, that is not there or has another shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{0}` is missing or mis-shaped")]
pub struct MissingTensor(pub String);

/// A tensor of a checkpoint beside the model and its moments.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// As in the file.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// What a checkpoint holds of a trainer.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The model's.
    pub weights: &'a Weights,
    /// The optimiser's.
    pub moments: &'a [Weights],
    /// The average of the weights, where there is one.
    pub average: Option<&'a Weights>,
    /// What an algorithm keeps beside the optimiser.
    pub algorithm: &'a [NamedTensor],
}

/// The average of the weights, under the names of the model's file.
const AVERAGE: &str = "ema.safetensors";

/// What an algorithm keeps beside the optimiser.
const ALGORITHM: &str = "algorithm.safetensors";

const MOMENTS: [&str; 2] = ["first", "second"];

fn io(path: &Path) -> impl Fn(std::io::Error) -> ModelError + '_ {
    move |source| ModelError::Io { path: path.into(), source }
}

fn entry_of(path: &Path) -> std::io::Result<FileEntry> {
    let mut hasher = blake3::Hasher::new();
    let bytes = std::io::copy(&mut files::open(path)?, &mut hasher)?;
    Ok(FileEntry { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

/// Makes the entries of a folder durable; a no-op where folders cannot be opened.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl Checkpoint {
    /// Writes a checkpoint under `root` and returns it.
    pub fn write(
        root: &Path,
        state: &State,
        encoder: &Encoder,
        vocabulary: &Vocabulary,
        contents: Contents<'_>,
    ) -> Result<Checkpoint, ModelError> {
        // Not the folder that it lies in: where that is gone, somebody has taken it away.
        if !root.is_dir() {
            std::fs::create_dir(root).map_err(io(root))?;
        }
        let step = state.step;
        let folder = root.join(format!("step-{step}"));
        let temporary = root.join(format!("step-{step}.tmp-{}", std::process::id()));
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(io(&temporary))?;
        }
        let written = Checkpoint::fill(&temporary, state, encoder, vocabulary, contents);
        if written.is_err() {
            // A disk that is full is not kept full by half a checkpoint.
            let _ = std::fs::remove_dir_all(&temporary);
        }
        written?;
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        std::fs::rename(&temporary, &folder).map_err(io(&folder))?;
        sync_folder(root).map_err(io(root))?;
        Ok(Checkpoint { folder, step })
    }

    /// Writes all files of a checkpoint, and makes them durable.
    fn fill(
        temporary: &Path,
        state: &State,
        encoder: &Encoder,
        vocabulary: &Vocabulary,
        contents: Contents<'_>,
    ) -> Result<(), ModelError> {
        let Contents { weights, moments, average, algorithm } = contents;
        std::fs::create_dir(temporary).map_err(io(temporary))?;
        save(temporary, encoder, weights, Some(vocabulary))?;
        if !moments.is_empty() {
            let names: Vec<Vec<String>> = MOMENTS
                .iter()
                .map(|m| encoder.parameters.iter().map(|p| format!("{m}.{}", p.name)).collect())
                .collect();
            let tensors = moments.iter().zip(&names).flat_map(|(values, names)| {
                encoder
                    .parameters
                    .iter()
                    .zip(&values.0)
                    .zip(names)
                    .map(|((p, v), n)| (n.as_str(), p.shape.as_slice(), v.as_slice()))
            });
            let path = temporary.join("moments.safetensors");
            crate::model::save_tensors(&path, tensors).map_err(io(&path))?;
        }
        if let Some(average) = average {
            let path = temporary.join(AVERAGE);
            let named = encoder.parameters.iter().zip(&average.0);
            let tensors = named.map(|(p, v)| (p.name.as_str(), p.shape.as_slice(), v.as_slice()));
            crate::model::save_tensors(&path, tensors).map_err(io(&path))?;
        }
        if !algorithm.is_empty() {
            let path = temporary.join(ALGORITHM);
            let tensors = algorithm.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.values.as_slice()));
            crate::model::save_tensors(&path, tensors).map_err(io(&path))?;
        }
        let state = serde_json::to_string_pretty(state).expect("plain values");
        let path = temporary.join(STATE);
        crate::model::write_synced(&path, state.as_bytes()).map_err(io(&path))?;
        let mut files = BTreeMap::new();
        for file in std::fs::read_dir(temporary).map_err(io(temporary))? {
            let path = file.map_err(io(temporary))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            File::open(&path).and_then(|f| f.sync_all()).map_err(io(&path))?;
            files.insert(name, entry_of(&path).map_err(io(&path))?);
        }
        let manifest = serde_json::to_string_pretty(&Manifest { files }).expect("plain values");
        let path = temporary.join(MANIFEST);
        crate::model::write_synced(&path, manifest.as_bytes()).map_err(io(&path))?;
        sync_folder(temporary).map_err(io(temporary))
    }

    /// Whether a checkpoint's files are as they were written.
    ///
    /// # Errors
    /// The first that is not.
    pub fn verify(&self) -> Result<(), Damage> {
        let unread = |file: &str| {
            let file = file.to_string();
            move |source| Damage::Unread { file, source }
        };
        let text = files::text(&self.folder.join(MANIFEST), files::SMALL).map_err(unread(MANIFEST))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(Damage::Manifest)?;
        for (name, wanted) in &manifest.files {
            let path =
                files::below(&self.folder, &self.folder, name).map_err(|outside| unread(name)(outside.into()))?;
            let found = entry_of(&path).map_err(unread(name))?;
            if found != *wanted {
                return Err(Damage::Changed { file: name.clone(), bytes: found.bytes, expected: wanted.bytes });
            }
        }
        if let Some(file) = [MODEL, STATE].into_iter().find(|file| !manifest.files.contains_key(*file)) {
            return Err(Damage::Unlisted(file));
        }
        let text = files::text(&self.folder.join(STATE), files::SMALL).map_err(unread(STATE))?;
        let state: State = serde_json::from_str(&text).map_err(Damage::State)?;
        match state.step == self.step {
            true => Ok(()),
            false => Err(Damage::Step { written: state.step, named: self.step }),
        }
    }

    /// Where the run stands.
    pub fn state(&self) -> Result<State, ModelError> {
        let path = self.folder.join(STATE);
        let text = files::text(&path, files::SMALL).map_err(io(&path))?;
        serde_json::from_str(&text).map_err(|e| ModelError::Format { path, message: e.to_string() })
    }

    /// What the algorithm keeps beside the optimiser.
    pub fn algorithm(&self) -> Result<Vec<NamedTensor>, ModelError> {
        let file = WeightsFile::read(&self.folder.join(ALGORITHM))?;
        let named = |(name, (shape, values))| NamedTensor { name, shape, values };
        Ok(file.tensors.into_iter().map(named).collect())
    }

    /// The moments, as many as the optimiser has.
    pub fn moments(&self, encoder: &Encoder, count: usize) -> Result<Vec<Weights>, ModelError> {
        if count == 0 {
            return Ok(vec![]);
        }
        let path = self.folder.join("moments.safetensors");
        let mut file = WeightsFile::read(&path)?;
        MOMENTS[..count].iter().map(|moment| taken(&mut file, &path, encoder, &format!("{moment}."))).collect()
    }

    /// The average of the weights.
    pub fn average(&self, encoder: &Encoder) -> Result<Weights, ModelError> {
        let path = self.folder.join(AVERAGE);
        taken(&mut WeightsFile::read(&path)?, &path, encoder, "")
    }
}

/// Takes a number for each parameter out of a file, under its name behind `prefix`.
fn taken(file: &mut WeightsFile, path: &Path, encoder: &Encoder, prefix: &str) -> Result<Weights, ModelError> {
    let one = |p: &Parameter| {
        let name = format!("{prefix}{}", p.name);
        match file.tensors.remove(&name) {
            Some((shape, values)) if shape == p.shape => Ok(values),
            _ => Err(ModelError::Format { path: path.into(), message: MissingTensor(name).to_string() }),
        }
    };
    Ok(Weights(encoder.parameters.iter().map(one).collect::<Result<_, _>>()?))
}

/// Removes what attempts left in a run's folder that were killed while they wrote a checkpoint, a model or another
/// file. Only for who holds the run's claim.
pub(super) fn tidy(run: &Path) {
    [run.to_path_buf(), run.join("model"), run.join("model-ema")].iter().for_each(|folder| remove_temporary(folder));
    for entry in std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(".tmp-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Checkpoints under a folder, oldest first, whole or not.
pub fn checkpoints(root: &Path) -> Vec<Checkpoint> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("step-").and_then(|n| n.parse().ok()) {
            found.push(Checkpoint { folder: entry.path(), step });
        }
    }
    found.sort_by_key(|c| c.step);
    found
}

/// The newest whole checkpoint, and what was wrong with newer ones.
pub fn newest(root: &Path) -> (Option<Checkpoint>, Vec<String>) {
    let mut warnings = Vec::new();
    for checkpoint in checkpoints(root).into_iter().rev() {
        match checkpoint.verify() {
            Ok(()) => return (Some(checkpoint), warnings),
            Err(what) => warnings.push(format!("{} is damaged and left aside: {what}", checkpoint.folder.display())),
        }
    }
    (None, warnings)
}
