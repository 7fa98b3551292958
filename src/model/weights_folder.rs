//! The weights of a model's folder: one `model.safetensors`, or the shards that `model.safetensors.index.json` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::{ModelError, config_of};
use super::hub::root_of;
use super::kind::ModelKind;
use super::weights_file::WeightsFile;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

impl WeightsFile {
    /// The tensors of a model's folder, and the file that errors are about: `model.safetensors`, or the index of shards
    /// where there is none.
    ///
    /// # Errors
    /// Names missing shards, or what the folder holds instead.
    pub(super) fn of_model(folder: &Path) -> Result<(WeightsFile, PathBuf), ModelError> {
        let mut files = check_weights(folder)?;
        let first = files.remove(0);
        match files.is_empty() {
            true => Ok((WeightsFile::read(&first)?, first)),
            false => Ok((WeightsFile::of_shards(folder, &first)?, first)),
        }
    }

    fn of_shards(folder: &Path, index: &Path) -> Result<WeightsFile, ModelError> {
        let error = |message: String| ModelError::format(index, message);
        let map = weight_map(index)?;
        let files: BTreeSet<&String> = map.values().collect();
        let mut all = WeightsFile::default();
        for file in files {
            let shard = WeightsFile::read(&shard_of(folder, index, file)?)?;
            let lacks = map.iter().find(|(name, of)| *of == file && !shard.tensors.contains_key(*name));
            if let Some((name, _)) = lacks {
                return Err(error(format!("tensor `{name}` should be in {file}, which does not hold it")));
            }
            if let Some(name) = shard.tensors.keys().find(|name| all.tensors.contains_key(*name)) {
                return Err(error(format!("tensor `{name}` is in {file} and in another of the files")));
            }
            all.tensors.extend(shard.tensors);
            all.rounded.extend(shard.rounded);
        }
        all.rounded.sort_unstable();
        Ok(all)
    }
}

/// The files that a model's weights are read from, all of which are there: the index first where there are shards.
/// Nothing is read but the index.
///
/// # Errors
/// Names missing shards, or what the folder holds instead.
pub fn check_weights(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let (whole, index) = (folder.join(WHOLE), folder.join(INDEX));
    if whole.exists() {
        return Ok(vec![whole]);
    }
    if !index.exists() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(no_weights(folder).unwrap_or(ModelError::Io { path: whole, source }));
    }
    let files: BTreeSet<String> = weight_map(&index)?.into_values().collect();
    let paths: Vec<PathBuf> = files.iter().map(|file| shard_of(folder, &index, file)).collect::<Result<_, _>>()?;
    let missing: Vec<String> = files.iter().filter_map(|file| absent(folder, file)).collect();
    if !missing.is_empty() {
        let message = format!("{} of its {} files are missing: {}", missing.len(), files.len(), missing.join(", "));
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, message);
        return Err(ModelError::Io { path: index, source });
    }
    Ok(std::iter::once(index).chain(paths).collect())
}

/// The path of a file that the index names.
fn shard_of(folder: &Path, index: &Path, file: &str) -> Result<PathBuf, ModelError> {
    crate::files::below(&root_of(folder), folder, file).map_err(|outside| ModelError::format(index, outside))
}

/// A file of a folder in words, where it is not there.
fn absent(folder: &Path, file: &str) -> Option<String> {
    let path = folder.join(file);
    match std::fs::read_link(&path) {
        _ if path.exists() => None,
        Ok(to) => Some(format!("{file} (a link to {}, which is not there)", to.display())),
        Err(_) => Some(file.into()),
    }
}

/// The files that a model's weights are read from, whether or not they are there.
pub fn weight_files(folder: &Path) -> Vec<PathBuf> {
    let (whole, index) = (folder.join(WHOLE), folder.join(INDEX));
    match weight_map(&index) {
        Ok(map) if !whole.exists() => {
            let files: BTreeSet<&String> = map.values().collect();
            let shards: Vec<PathBuf> = files.into_iter().map(|f| folder.join(f)).collect();
            [vec![index], shards].concat()
        }
        _ => vec![whole],
    }
}

/// The shard of every tensor.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let error = |message: String| ModelError::format(index, message);
    let text = crate::files::text(index, crate::files::LARGE)
        .map_err(|source| ModelError::Io { path: index.into(), source })?;
    let text = text.trim_start_matches('\u{feff}');
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| error(e.to_string()))?;
    let map = json.get("weight_map").cloned().unwrap_or_default();
    let map: BTreeMap<String, String> = serde_json::from_value(map)
        .map_err(|e| error(format!("`weight_map` must be an object of tensor names and files: {e}")))?;
    match map.is_empty() {
        true => Err(error("`weight_map` is empty".into())),
        false => Ok(map),
    }
}

/// What is wrong with a folder that has no safetensors of the usual name, where something can be said of it.
fn no_weights(folder: &Path) -> Option<ModelError> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    // As its config names it; of one that cannot be read, whatever `transformers` makes of it.
    let class = match config_of(folder).map(|config| config.kind) {
        Ok(ModelKind::Lstm) => "sys.path.append('scripts'); from lstm_mlm import RNNLMHeadModel",
        Ok(kind) if kind.is_causal() => "from transformers import AutoModelForCausalLM",
        _ => "from transformers import AutoModelForMaskedLM",
    };
    if let Some(pickle) = names.iter().find(|n| n.starts_with("pytorch_model") && n.contains(".bin")) {
        return Some(ModelError::format(
            folder,
            format!(
                "the weights are in {pickle}, which is a pickle and is not read; this writes {WHOLE} beside it:\n  \
                 python -c \"import sys; {class} as M; \
                 M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])\" '{}'",
                folder.display()
            ),
        ));
    }
    let endings = [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx"];
    let others: Vec<String> = names.into_iter().filter(|n| endings.iter().any(|e| n.ends_with(e))).collect();
    let instead = match others.is_empty() {
        true => String::new(),
        false => format!("; there is {}, which is not read", others.join(", ")),
    };
    let source =
        std::io::Error::new(std::io::ErrorKind::NotFound, format!("there is neither {WHOLE} nor {INDEX}{instead}"));
    Some(ModelError::Io { path: folder.into(), source })
}
