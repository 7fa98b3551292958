//! `config.json` and `model.safetensors`: what `transformers` writes is read, old names and 16-bit files too, and what is
//! written here it reads.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::config::{ModelConfig, ModelKind};
use super::encoder::Encoder;
use super::parameters::Weights;
use super::vocabulary::Vocabulary;
use crate::text::without_mark;

/// Why a model cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {message}", path.display())]
    Format { path: PathBuf, message: String },
}

impl ModelError {
    fn format(path: &Path, message: impl Into<String>) -> ModelError {
        ModelError::Format { path: path.into(), message: message.into() }
    }
}

/// A model from a folder.
pub struct Loaded {
    pub encoder: Encoder,
    pub weights: Weights,
    /// Where it was read, with what says which token is which.
    pub folder: PathBuf,
    /// What was left aside, in words.
    pub notes: Vec<String>,
}

/// Tensors of a safetensors file as f32, by name.
#[derive(Debug)]
pub struct WeightsFile {
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl WeightsFile {
    /// Reads f32, f16 and bf16 tensors.
    ///
    /// # Errors
    /// Names the tensor that is of another type or reaches beyond the end of the file.
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
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values: Vec<f32> = match view.dtype() {
                Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                // Buffers such as position_ids; whether that is all right is seen by name.
                Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL if is_aside(&name) => vec![],
                other => {
                    return Err(error(format!("tensor `{name}` has type {other:?}; F32, F16 and BF16 can be read")));
                }
            };
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok(WeightsFile { tensors })
    }
}

/// Parts of other heads and old buffers.
fn is_aside(name: &str) -> bool {
    name.ends_with("position_ids")
        || name.ends_with("token_type_ids")
        || name.contains(".pooler.")
        || name.contains("seq_relationship")
}

/// Today's name of a tensor of an old file.
fn modern(name: &str) -> String {
    match name.strip_suffix("LayerNorm.gamma").or_else(|| name.strip_suffix("layer_norm.gamma")) {
        Some(_) => name.replace(".gamma", ".weight"),
        None if name.ends_with("LayerNorm.beta") || name.ends_with("layer_norm.beta") => name.replace(".beta", ".bias"),
        None => name.to_string(),
    }
}

/// Reads a model's folder.
///
/// # Errors
/// Names a missing, unknown, mis-shaped or truncated tensor, and what `config.json` asks for that is not supported.
pub fn load(folder: &Path) -> Result<Loaded, ModelError> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?;
    let config = read_config(&text, &path)?;
    let encoder = Encoder::new(&config).map_err(|message| ModelError::format(&path, message))?;
    let weights_path = folder.join("model.safetensors");
    let mut notes = Vec::new();
    let mut file = WeightsFile::read(&weights_path)?;
    file.tensors = file.tensors.into_iter().map(|(name, tensor)| (modern(&name), tensor)).collect();
    let error = |message: String| ModelError::format(&weights_path, message);
    let (head, bias) = match config.kind {
        ModelKind::RobertaPreLayerNorm => ("lm_head", "lm_head.bias"),
        ModelKind::Bert => ("cls.predictions", "cls.predictions.bias"),
    };
    let (decoder, decoder_bias) = (format!("{head}.decoder.weight"), format!("{head}.decoder.bias"));
    if config.tie_word_embeddings {
        if let (false, Some(copy)) = (file.tensors.contains_key(bias), file.tensors.remove(&decoder_bias)) {
            file.tensors.insert(bias.into(), copy);
        }
        for name in [&decoder, &decoder_bias] {
            if file.tensors.remove(name).is_some() {
                notes.push(format!("`{name}` left aside: the head is tied"));
            }
        }
    } else if file.tensors.contains_key(&decoder_bias) {
        if file.tensors.remove(bias).is_some() {
            notes.push(format!("`{bias}` left aside: the untied head uses `{decoder_bias}`"));
        }
    } else if let Some(only) = file.tensors.remove(bias) {
        file.tensors.insert(decoder_bias.clone(), only);
    }
    let mut weights = Vec::with_capacity(encoder.parameters.len());
    for parameter in &encoder.parameters {
        let Some((shape, values)) = file.tensors.remove(&parameter.name) else {
            return Err(error(format!("tensor `{}` is missing (shape {:?})", parameter.name, parameter.shape)));
        };
        if shape != parameter.shape {
            return Err(error(format!(
                "tensor `{}` has shape {shape:?}, config.json asks for {:?}",
                parameter.name, parameter.shape
            )));
        }
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            return Err(error(format!("tensor `{}` holds {} at place {i}", parameter.name, values[i])));
        }
        weights.push(values);
    }
    for name in file.tensors.into_keys() {
        if !is_aside(&name) {
            return Err(error(format!("unknown tensor `{name}`: it belongs to no part of this model")));
        }
        notes.push(format!("`{name}` left aside: it belongs to another head"));
    }
    Ok(Loaded { encoder, weights: Weights(weights), folder: folder.into(), notes })
}

/// `config.json` as far as it is understood, with a refusal of what would change the function.
fn read_config(text: &str, path: &Path) -> Result<ModelConfig, ModelError> {
    let error = |message: String| ModelError::format(path, message);
    let json: serde_json::Value = serde_json::from_str(without_mark(text)).map_err(|e| error(e.to_string()))?;
    let kind = json.get("model_type").and_then(|t| t.as_str()).unwrap_or("none");
    if !["roberta-prelayernorm", "bert"].contains(&kind) {
        return Err(error(format!("model_type is {kind}; \"roberta-prelayernorm\" and \"bert\" are supported")));
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if json.get(key).and_then(|v| v.as_bool()) == Some(true) {
            return Err(error(format!("{key} is true; only encoders are supported")));
        }
    }
    let position = json.get("position_embedding_type").and_then(|v| v.as_str()).unwrap_or("absolute");
    if position != "absolute" {
        return Err(error(format!("position_embedding_type is {position}; only \"absolute\" is supported")));
    }
    // Keys that a file leaves out have the values of transformers, not ours.
    let pad = if kind == "bert" { 0 } else { 1 };
    let mut full = serde_json::json!({
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": pad, "tie_word_embeddings": true,
    });
    if let (Some(full), Some(given)) = (full.as_object_mut(), json.as_object()) {
        full.extend(given.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())));
    }
    serde_json::from_value(full).map_err(|e| error(e.to_string()))
}

/// Writes a model's folder: `config.json`, `model.safetensors`, and the vocabulary's files where there is one.
///
/// Every file is complete on disk when this returns.
pub fn save(
    folder: &Path,
    encoder: &Encoder,
    weights: &Weights,
    vocabulary: Option<&Vocabulary>,
) -> Result<(), ModelError> {
    let io = |source| ModelError::Io { path: folder.into(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let config = serde_json::to_string_pretty(&encoder.config.to_json()).expect("plain values") + "\n";
    write_synced(&folder.join("config.json"), config.as_bytes()).map_err(io)?;
    if let Some(vocabulary) = vocabulary {
        vocabulary.save(folder, encoder.config.longest()).map_err(io)?;
    }
    let named =
        encoder.parameters.iter().zip(&weights.0).map(|(p, v)| (p.name.as_str(), p.shape.as_slice(), v.as_slice()));
    save_tensors(&folder.join("model.safetensors"), named).map_err(io)
}

/// Writes f32 tensors as safetensors with the metadata that `transformers` wants.
pub(crate) fn save_tensors<'t>(
    path: &Path,
    tensors: impl Iterator<Item = (&'t str, &'t [usize], &'t [f32])>,
) -> std::io::Result<()> {
    let views: Vec<(&str, safetensors::tensor::TensorView<'_>)> = tensors
        .map(|(name, shape, values)| {
            let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), bytemuck::cast_slice(values))
                .map_err(|e| std::io::Error::other(format!("{name}: {e}")))?;
            Ok((name, view))
        })
        .collect::<std::io::Result<_>>()?;
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(std::io::Error::other)?;
    write_synced(path, &bytes)
}

/// Writes a file under a temporary name, makes it durable and renames it into place.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
