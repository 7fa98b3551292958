//! Tensors from safetensors files: one `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
//! 16-bit numbers are widened, 64-bit ones rounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::files::ModelError;
use super::tensor_names::is_aside;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Shapes and values by name.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Tensors of safetensors files as f32, by name.
#[derive(Debug, Default)]
pub struct WeightsFile {
    /// Shape and values, row-major.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// Names of those that were rounded from double precision.
    pub rounded: Vec<String>,
}

impl WeightsFile {
    /// Reads f32, f16, bf16 and f64 tensors.
    ///
    /// # Errors
    /// Names the tensor that is of another type, reaches beyond the end of the file or does not fit single precision.
    pub fn read(path: &Path) -> Result<WeightsFile, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        WeightsFile::parse(&bytes, path)
    }

    /// Reads from memory; `path` is named in errors.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<WeightsFile, ModelError> {
        let error = |message: String| ModelError::format(path, message);
        if let Ok((header, metadata)) = SafeTensors::read_metadata(bytes) {
            let data = bytes.len().saturating_sub(header + 8);
            let mut infos: Vec<_> = metadata.tensors().into_iter().collect();
            infos.sort_by_key(|(_, info)| info.data_offsets);
            if let Some((name, info)) = infos.iter().find(|(_, info)| info.data_offsets.1 > data) {
                return Err(error(format!(
                    "the file is truncated: tensor `{name}` ends at byte {} of the data, of which there are {data}",
                    info.data_offsets.1
                )));
            }
        }
        let file =
            SafeTensors::deserialize(bytes).map_err(|e| error(format!("not a readable safetensors file: {e}")))?;
        let mut read = WeightsFile::default();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::F64 => {
                    read.rounded.push(name.clone());
                    rounded(data).map_err(|(i, value)| {
                        error(format!("tensor `{name}` holds {value:e} at place {i}, beyond single precision"))
                    })?
                }
                // Buffers such as position_ids; whether that is all right is seen by name.
                Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL if is_aside(&name) => vec![],
                other => {
                    return Err(error(format!(
                        "tensor `{name}` has type {other:?}; F32, F16, BF16 and F64 can be read"
                    )));
                }
            };
            read.tensors.insert(name, (view.shape().to_vec(), values));
        }
        read.rounded.sort_unstable();
        Ok(read)
    }

    /// The tensors of a model's folder, and the file that errors are about: `model.safetensors`, or the index of shards
    /// where there is none.
    ///
    /// # Errors
    /// Names missing shards, or what the folder holds instead.
    pub(super) fn of_model(folder: &Path) -> Result<(WeightsFile, PathBuf), ModelError> {
        let (whole, index) = (folder.join(WHOLE), folder.join(INDEX));
        if !whole.exists() && index.exists() {
            return Ok((WeightsFile::of_shards(folder, &index)?, index));
        }
        if !whole.exists()
            && let Some(error) = no_weights(folder)
        {
            return Err(error);
        }
        Ok((WeightsFile::read(&whole)?, whole))
    }

    fn of_shards(folder: &Path, index: &Path) -> Result<WeightsFile, ModelError> {
        let error = |message: String| ModelError::format(index, message);
        let map = weight_map(index)?;
        let files: BTreeSet<&String> = map.values().collect();
        let missing: Vec<&str> = files.iter().filter(|f| !folder.join(f).exists()).map(|f| f.as_str()).collect();
        if !missing.is_empty() {
            let message = format!("{} of its {} files are missing: {}", missing.len(), files.len(), missing.join(", "));
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, message);
            return Err(ModelError::Io { path: index.into(), source });
        }
        let mut all = WeightsFile::default();
        for file in files {
            let shard = WeightsFile::read(&folder.join(file))?;
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
    let text = std::fs::read_to_string(index).map_err(|source| ModelError::Io { path: index.into(), source })?;
    let text = text.trim_start_matches('\u{feff}');
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| error(e.to_string()))?;
    let map = json.get("weight_map").cloned().unwrap_or_default();
    let map: BTreeMap<String, String> = serde_json::from_value(map)
        .map_err(|e| error(format!("`weight_map` must be an object of tensor names and files: {e}")))?;
    if map.is_empty() {
        return Err(error("`weight_map` is empty".into()));
    }
    let plain =
        |file: &str| !file.is_empty() && Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
    match map.values().find(|file| !plain(file)) {
        Some(file) => Err(error(format!("`{file}` is not the name of a file beside it"))),
        None => Ok(map),
    }
}

/// Double precision to single; the place and value of the first number that is beyond it.
fn rounded(data: &[u8]) -> Result<Vec<f32>, (usize, f64)> {
    let doubles = data.chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
    let one = |(i, value): (usize, f64)| match value as f32 {
        single if value.is_finite() && !single.is_finite() => Err((i, value)),
        single => Ok(single),
    };
    doubles.enumerate().map(one).collect()
}

/// What is wrong with a folder that has no safetensors of the usual name, where something can be said of it.
fn no_weights(folder: &Path) -> Option<ModelError> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    if let Some(pickle) = names.iter().find(|n| n.starts_with("pytorch_model") && n.contains(".bin")) {
        return Some(ModelError::format(
            folder,
            format!(
                "the weights are in {pickle}, which is a pickle and is not read; this writes {WHOLE} beside it:\n  \
                 python -c \"import sys; from transformers import AutoModelForMaskedLM as M; \
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
