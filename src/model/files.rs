//! `config.json` and the weights beside it: what `transformers` writes is read as version 5 reads it, old names, shards
//! and 16-bit files too, and what is written here it reads. For LSTMs, which it lacks, `scripts/lstm_mlm.py` is in its
//! place.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::config::ModelConfig;
use super::encoder::Encoder;
use super::family::Decoder;
use super::family::opt::without_projections;
use super::hidden_act::HiddenAct;
use super::hub::model_folder;
use super::kind::ModelKind;
use super::parameters::{Parameter, Weights};
use super::tensor_names::{is_aside, is_of_classifier, missing, renamed};
use super::vocabulary::Vocabulary;
use super::weights_file::{Tensors, WeightsFile};
use super::weights_writer::save_tensors;
use crate::text::without_mark;

/// Why a model cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file whose content is not what is wanted.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl ModelError {
    pub(super) fn format(path: &Path, message: impl std::fmt::Display) -> ModelError {
        ModelError::Format { path: path.into(), message: message.to_string() }
    }
}

/// A model from a folder.
pub struct Loaded {
    /// The graph of its `config.json`.
    pub encoder: Encoder,
    /// One tensor for each of the encoder's parameters.
    pub weights: Weights,
    /// Where it was read, with what says which token is which.
    pub folder: PathBuf,
    /// What was left aside, in words.
    pub notes: Vec<String>,
}

/// Reads a model's folder, or the snapshot in one of the hub's cache ([`model_folder`]), tied or not as
/// `transformers` 5 ties it.
///
/// # Errors
/// Names a missing, unknown, mis-shaped or truncated tensor, what `config.json` asks for that is not supported, and the
/// folder that was probably meant.
pub fn load(named: &Path) -> Result<Loaded, ModelError> {
    read(named, false)
}

/// [`load`] of a model whose file may hold no language model's head ([`Head::Nothing`](super::Head::Nothing)), as those
/// of `BertModel` and `GPT2Model` do: what features are taken of and what is fine-tuned.
///
/// # Errors
/// As [`load`]; a head of which a part is there.
pub fn load_body(named: &Path) -> Result<Loaded, ModelError> {
    read(named, true)
}

fn read(named: &Path, without_head: bool) -> Result<Loaded, ModelError> {
    let folder = model_folder(named)?;
    let path = folder.join("config.json");
    let mut config = config_of(&folder)?;
    let (file, weights_path) = WeightsFile::of_model(&folder)?;
    let error = |message: String| ModelError::format(&weights_path, message);
    let mut notes = Vec::new();
    if !file.rounded.is_empty() {
        let n = file.rounded.len();
        notes.push(format!(
            "{n} tensors of double precision were rounded to single precision (`{}` ..)",
            file.rounded[0]
        ));
    }
    let mut tensors = renamed(config.kind, file.tensors, &mut notes).map_err(error)?;
    if config.kind == ModelKind::Opt {
        without_projections(&mut tensors, &mut notes).map_err(error)?;
    }
    tie_head(&mut config, &mut tensors, &mut notes);
    let size = |message| ModelError::format(&path, message);
    let mut encoder = Encoder::new(&config).map_err(size)?;
    let is_there = |parameter: &&Parameter| tensors.contains_key(&parameter.name);
    let no_head = encoder.parameters.iter().filter(|p| !is_there(p)).any(|p| p.role.is_head())
        && !encoder.parameters.iter().filter(is_there).any(|p| p.role.is_head());
    if without_head && no_head {
        encoder = Encoder::body(&config).map_err(size)?;
        notes.push("the file holds no language model's head: there are features and no loss".into());
    }
    let lacking: Vec<&Parameter> = encoder.parameters.iter().filter(|p| !is_there(p)).collect();
    if !lacking.is_empty() {
        let left: Vec<(&str, &[usize])> = tensors
            .iter()
            .filter(|(name, _)| encoder.find(name).is_none() && !is_aside(name))
            .map(|(name, (shape, _))| (name.as_str(), shape.as_slice()))
            .collect();
        return Err(error(missing(config.kind, &lacking, &left)));
    }
    let mut weights = Vec::with_capacity(encoder.parameters.len());
    for parameter in &encoder.parameters {
        let (shape, values) = tensors.remove(&parameter.name).expect("no parameter is lacking");
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
    for name in tensors.into_keys() {
        let is_aside = is_aside(&name) || without_head && is_of_classifier(&name);
        if !is_aside {
            return Err(error(format!("unknown tensor `{name}`: it belongs to no part of this model")));
        }
        notes.push(format!("`{name}` left aside: it belongs to another head"));
    }
    Ok(Loaded { encoder, weights: Weights(weights), folder, notes })
}

/// The config of a model's folder, or of one of the hub's cache, without a look at the weights. Whether its head is
/// tied is said by the weights too.
///
/// # Errors
/// As [`load`], as far as `config.json` is concerned.
pub fn config_of(named: &Path) -> Result<ModelConfig, ModelError> {
    let folder = model_folder(named)?;
    let path = folder.join("config.json");
    let text = crate::files::text(&path, crate::files::SMALL).map_err(|source| {
        let meant = if path.exists() { None } else { meant(&folder) };
        meant.unwrap_or(ModelError::Io { path: path.clone(), source })
    })?;
    let config = read_config(&text, &path)?;
    config.check().map_err(|message| ModelError::format(&path, message))?;
    Ok(config)
}

/// Ties the head to the word table as `transformers` 5 does: what config.json ties and the file holds once is taken for
/// both, whichever name it has; what the file holds twice stays apart where the two differ. Weight and bias each for
/// itself.
fn tie_head(config: &mut ModelConfig, tensors: &mut Tensors, notes: &mut Vec<String>) {
    let Decoder { table, weight: decoder, biases } = config.kind.family().decoder(config.kind);
    let untied_by_config = !config.tie_word_embeddings;
    if config.tie_word_embeddings {
        match (tensors.get(&table), tensors.get(&decoder)) {
            (Some(own), Some(other)) if own != other => {
                config.tie_word_embeddings = false;
                notes.push(format!(
                    "`{decoder}` is not the word table: the head is not tied, though config.json says so (transformers \
                     5 does the same)"
                ));
            }
            (Some(_), Some(_)) => {
                tensors.remove(&decoder);
                notes.push(format!("`{decoder}` left aside: it equals the word table, to which the head is tied"));
            }
            (None, Some(_)) => {
                let one = tensors.remove(&decoder).expect("it was there");
                tensors.insert(table.clone(), one);
                notes.push(format!("`{table}` taken from `{decoder}`: they are tied, and the file holds one of them"));
            }
            _ => {}
        }
    }
    let Some([decoder_bias, bias]) = biases else { return };
    // The bias that is added is the decoder's; `bias` is another name for it where they are tied, and nothing where
    // not.
    let used = if config.tie_word_embeddings { &bias } else { &decoder_bias };
    match (tensors.remove(&bias), tensors.remove(&decoder_bias)) {
        (Some(named), Some(decoders)) => {
            if named != decoders {
                notes.push(format!(
                    "`{bias}` left aside: it differs from `{decoder_bias}`, which is the one that is added"
                ));
            }
            tensors.insert(used.clone(), decoders);
        }
        (Some(named), None) => {
            tensors.insert(used.clone(), named);
            if untied_by_config {
                notes.push(format!(
                    "`{decoder_bias}` taken from `{bias}`, as transformers before 5 did; 5 would begin with zeros"
                ));
            }
        }
        (None, Some(decoders)) => {
            tensors.insert(used.clone(), decoders);
        }
        (None, None) => {}
    }
}

/// What was meant by a folder without a config.json, where that can be seen.
fn meant(folder: &Path) -> Option<ModelError> {
    let is_model = |path: &Path| path.join("config.json").is_file();
    let newest = |root: &Path| {
        let steps = std::fs::read_dir(root).ok()?.filter_map(|entry| {
            let path = entry.ok()?.path();
            let step: u64 = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
            is_model(&path).then_some((step, path))
        });
        steps.max().map(|(_, path)| path)
    };
    let (what, meant) = if is_model(&folder.join("model")) {
        ("the folder of a run", folder.join("model"))
    } else if let Some(step) = newest(&folder.join("checkpoints")) {
        ("the folder of a run that is not finished", step)
    } else if let Some(step) = newest(folder) {
        ("a folder of checkpoints", step)
    } else if folder.is_file() && folder.parent().is_some_and(is_model) {
        let parent = folder.parent()?;
        ("a file of a model's folder", if parent == Path::new("") { ".".into() } else { parent.into() })
    } else if folder.is_file() {
        let message = "this is a file; a model is a folder with config.json and its weights";
        return Some(ModelError::format(folder, message.to_string()));
    } else {
        return None;
    };
    Some(ModelError::format(folder, format!("this is {what}; did you mean {}?", meant.display())))
}

/// `config.json` as far as it is understood, with a refusal of what would change the function.
fn read_config(text: &str, path: &Path) -> Result<ModelConfig, ModelError> {
    let error = |message: String| ModelError::format(path, message);
    let json: serde_json::Value = serde_json::from_str(without_mark(text)).map_err(|e| error(e.to_string()))?;
    let name = json.get("model_type").and_then(|t| t.as_str()).unwrap_or("none");
    let Some(kind) = ModelKind::ALL.into_iter().find(|k| k.name() == name) else {
        return Err(error(format!(
            "model_type is {name}; {} are supported",
            quoted(&ModelKind::ALL.map(ModelKind::name))
        )));
    };
    let family = kind.family();
    let mut given = json.as_object().cloned().unwrap_or_default();
    let named = |ours: &str| kind.keys().iter().find(|(own, _)| *own == ours).map_or("", |(_, theirs)| theirs);
    let act = given.get(named("hidden_act")).filter(|v| !v.is_null());
    if act.is_some_and(|act| !HiddenAct::ALL.iter().any(|known| act == known.name())) {
        let (key, known) = (named("hidden_act"), quoted(&HiddenAct::ALL.map(HiddenAct::name)));
        return Err(error(format!("{key} is {}; {known} are supported", act.unwrap_or(&json))));
    }
    if given.get("quantization_config").is_some_and(|v| !v.is_null()) {
        let message =
            "quantization_config: this model is to be computed in fewer bits; only models without it are read";
        return Err(error(message.to_string()));
    }
    family.read(kind, &mut given).map_err(error)?;
    // Keys that a file leaves out have the values of transformers, not ours; another family's keys say nothing.
    let mut full = family.absent(kind).as_object().cloned().unwrap_or_default();
    // Null leaves these of a decoder open.
    let open = ["pad_token_id", "num_key_value_heads", "head_dim"];
    let counts = |key: &str, value: &serde_json::Value| {
        kind.has_key(key) && (!value.is_null() || kind.is_causal() && open.contains(&key))
    };
    full.extend(given.into_iter().filter(|(key, value)| counts(key, value)));
    ModelConfig::of_named(kind, &full).map_err(|e| error(e.to_string()))
}

/// `"a", "b" and "c"`
fn quoted(names: &[&str]) -> String {
    let all: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => all.concat(),
    }
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
    let mut config = encoder.config.to_json();
    if let Some(given) = vocabulary.and_then(Vocabulary::given) {
        given.name_in(&mut config);
    }
    let config = serde_json::to_string_pretty(&config).expect("plain values") + "\n";
    write_synced(&folder.join("config.json"), config.as_bytes()).map_err(io)?;
    if let Some(vocabulary) = vocabulary {
        vocabulary.save(folder, encoder.config.longest()).map_err(io)?;
    }
    let named =
        encoder.parameters.iter().zip(&weights.0).map(|(p, v)| (p.name.as_str(), p.shape.as_slice(), v.as_slice()));
    save_tensors(&folder.join("model.safetensors"), named).map_err(io)
}

/// Whether a name is a temporary one of [`write_synced`]: `STEM.PROCESS.tmp`.
pub(crate) fn is_temporary(name: &str) -> bool {
    let process = name.strip_suffix(".tmp").and_then(|rest| rest.rsplit_once('.')).map(|(_, process)| process);
    process.is_some_and(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Removes those that processes left which were killed. Only for who alone writes there.
pub(crate) fn remove_temporary(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_temporary(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes a file under a temporary name, makes it durable and renames it into place.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_synced_by(path, |file| file.write_all(bytes))
}

/// The same of what is written piece by piece.
pub(super) fn write_synced_by(
    path: &Path,
    write: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        write(&mut file)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What could not be written whole takes no room.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}
