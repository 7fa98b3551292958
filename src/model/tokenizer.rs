//! What a model's folder says of its tokens.
//!
//! Words: `tokenizer.json` (models `WordLevel` and `WordPiece`, with `added_tokens`), else `vocab.txt` with
//! `added_tokens.json`; where both are there the first counts, as in `transformers`. Special tokens: what the
//! `post_processor` of `tokenizer.json` puts around a sentence; else, and for mask and padding, those that
//! `tokenizer_config.json` and `special_tokens_map.json` name; else the usual spellings.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::ModelError;
use crate::text::{SPECIAL_TOKENS_MAP as SPECIAL_MAP, TOKENIZER_CONFIG as CONFIG, roles, without_mark};

/// The tokens of a model's folder.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// The file that says which token has which id.
    pub file: PathBuf,
    pub(super) ids: HashMap<String, u32>,
    /// Tokens that stand more than once in the file.
    pub(super) repeated: HashSet<String>,
    /// What is put before and behind a sentence, where the file says.
    pub(super) frame: Frame,
    /// Spellings by role (`mask_token`, ...), and the file that names them.
    pub(super) named: HashMap<String, (String, &'static str)>,
    /// Whether the class of the tokenizer adds special tokens by itself.
    pub(super) adds_by_class: bool,
    /// What a user should know.
    pub(super) notes: Vec<String>,
}

/// What stands around a sentence.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    /// The file does not say.
    Unsaid,
    Ids {
        bos: u32,
        eos: u32,
    },
    /// Something else than one token before and one behind.
    Other(String),
}

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const VOCABULARY: &str = "vocab.txt";
const ADDED: &str = "added_tokens.json";
/// Everything in a folder that belongs to its tokenizer.
const FILES: [&str; 7] = [TOKENIZER, VOCABULARY, CONFIG, SPECIAL_MAP, ADDED, "vocab.json", "merges.txt"];

impl Tokenizer {
    /// Reads a folder; `None` where no file tells its words.
    ///
    /// # Errors
    /// Files that cannot be read, and a kind of tokenizer whose tokens are no words.
    pub fn read(folder: &Path) -> Result<Option<Tokenizer>, ModelError> {
        let json = read_json(&folder.join(TOKENIZER))?;
        let lines = read_text(&folder.join(VOCABULARY))?;
        let mut made = match (json, lines) {
            (Some(json), lines) => {
                let mut made = Tokenizer::of_json(&json, folder.join(TOKENIZER))?;
                made.compare(lines.as_deref().unwrap_or_default());
                made
            }
            (None, Some(lines)) => Tokenizer::of_lines(&lines, folder)?,
            (None, None) => return Ok(None),
        };
        made.name_specials(folder)?;
        Ok(Some(made))
    }

    fn new(file: PathBuf, ids: HashMap<String, u32>, frame: Frame) -> Tokenizer {
        let (repeated, named) = (HashSet::new(), HashMap::new());
        Tokenizer { file, ids, repeated, frame, named, adds_by_class: true, notes: vec![] }
    }

    fn of_json(json: &Value, file: PathBuf) -> Result<Tokenizer, ModelError> {
        let error = |message: String| ModelError::Format { path: file.clone(), message };
        let model = &json["model"];
        let unsaid = if model["merges"].is_null() { "WordLevel" } else { "BPE" };
        let kind = model["type"].as_str().unwrap_or(unsaid);
        let vocabulary = match (kind, model["vocab"].as_object()) {
            ("WordLevel" | "WordPiece", Some(vocabulary)) => vocabulary,
            _ => {
                return Err(error(format!(
                    "its model is of the type {kind}; words can be found by name in `WordLevel` and `WordPiece`"
                )));
            }
        };
        let id = |token: &str, id: &Value| {
            token_id(id).ok_or_else(|| error(format!("token `{token}` has the id {id}, which is no id")))
        };
        let mut ids = HashMap::with_capacity(vocabulary.len());
        for (token, value) in vocabulary {
            ids.insert(token.clone(), id(token, value)?);
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            if let Some(token) = added["content"].as_str()
                && !ids.contains_key(token)
            {
                ids.insert(token.to_string(), id(token, &added["id"])?);
            }
        }
        let frame = frame_of(&json["post_processor"]);
        Ok(Tokenizer::new(file, ids, frame))
    }

    fn of_lines(text: &str, folder: &Path) -> Result<Tokenizer, ModelError> {
        let mut made = Tokenizer::new(folder.join(VOCABULARY), HashMap::new(), Frame::Unsaid);
        for (id, token) in text.lines().enumerate() {
            if made.ids.insert(token.to_string(), id as u32).is_some() {
                made.repeated.insert(token.to_string());
            }
        }
        let added = read_json(&folder.join(ADDED))?;
        for (token, id) in added.iter().filter_map(Value::as_object).flatten() {
            if let Some(id) = token_id(id) {
                made.ids.entry(token.clone()).or_insert(id);
            }
        }
        Ok(made)
    }

    /// Notes the first token in which a `vocab.txt` differs.
    fn compare(&mut self, lines: &str) {
        let differs = |(id, token): &(usize, &str)| self.ids.get(*token).is_none_or(|own| *own as usize != *id);
        if let Some((id, token)) = lines.lines().enumerate().find(differs) {
            let own = self.spelling(id as u32).map_or("another".into(), |own| format!("`{own}`"));
            self.notes.push(format!(
                "{VOCABULARY} has `{token}` where {TOKENIZER} has {own} (id {id}); {TOKENIZER} counts, as in \
                 transformers"
            ));
        }
    }

    /// Reads which tokens have which role: `tokenizer_config.json`, over which `special_tokens_map.json` goes unless
    /// the first lists its tokens, as in `transformers`.
    fn name_specials(&mut self, folder: &Path) -> Result<(), ModelError> {
        let config = read_json(&folder.join(CONFIG))?.unwrap_or_default();
        let class = config["tokenizer_class"].as_str().unwrap_or_default();
        self.adds_by_class = !["PreTrainedTokenizerFast", "TokenizersBackend"].contains(&class);
        let listed = config["added_tokens_decoder"].as_object();
        for (id, token) in listed.into_iter().flatten() {
            if let (Ok(id), Some(token)) = (id.parse(), token["content"].as_str()) {
                self.ids.entry(token.to_string()).or_insert(id);
            }
        }
        let map = read_json(&folder.join(SPECIAL_MAP))?;
        self.named.extend(roles(&config, map.as_ref()));
        Ok(())
    }

    /// The token with an id.
    pub(super) fn spelling(&self, id: u32) -> Option<&str> {
        self.ids.iter().filter(|(_, own)| **own == id).map(|(token, _)| token.as_str()).min()
    }

    /// The token of a role.
    pub(super) fn special(&self, roles: &[&str], usual: [&str; 2]) -> Result<Option<u32>, String> {
        for role in roles {
            if let Some((spelling, file)) = self.named.get(*role) {
                let found = self.ids.get(spelling).copied();
                return found.map(Some).ok_or_else(|| format!("has no token `{spelling}`, the `{role}` of {file}"));
            }
        }
        Ok(usual.iter().find_map(|spelling| self.ids.get(*spelling).copied()))
    }
}

/// The files of a folder that may say which token is which, whether or not they are there.
pub fn tokenizer_files(folder: &Path) -> Vec<PathBuf> {
    FILES.iter().map(|name| folder.join(name)).collect()
}

/// Gives a model's folder the tokenizer of another one with the same ids: its files, and the ids that config.json
/// names.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), ModelError> {
    for name in FILES {
        let (source, target) = (from.join(name), to.join(name));
        match std::fs::copy(&source, &target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ModelError::Io { path: source, source: error });
            }
            _ => {}
        }
    }
    let path = to.join("config.json");
    let (Some(theirs), Some(mut own)) = (read_json(&from.join("config.json"))?, read_json(&path)?) else {
        return Ok(());
    };
    for key in ["bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"] {
        match theirs.get(key) {
            Some(id) => own[key] = id.clone(),
            None => drop(own.as_object_mut().and_then(|own| own.remove(key))),
        }
    }
    let text = serde_json::to_string_pretty(&own).expect("plain values") + "\n";
    super::write_synced(&path, text.as_bytes()).map_err(|source| ModelError::Io { path, source })
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// What a post-processor puts around one sentence.
fn frame_of(processor: &Value) -> Frame {
    let pair = |role: &str| token_id(&processor[role][1]);
    match processor["type"].as_str() {
        Some("BertProcessing" | "RobertaProcessing") => match (pair("cls"), pair("sep")) {
            (Some(bos), Some(eos)) => Frame::Ids { bos, eos },
            _ => Frame::Unsaid,
        },
        Some("Sequence") => {
            let parts = processor["processors"].as_array();
            parts.into_iter().flatten().map(frame_of).find(|f| *f != Frame::Unsaid).unwrap_or(Frame::Unsaid)
        }
        Some("TemplateProcessing") => {
            let pieces: Vec<&Value> = processor["single"].as_array().into_iter().flatten().collect();
            let name = |piece: &Value| piece["SpecialToken"]["id"].as_str().map(String::from);
            let id = |name: &str| match processor["special_tokens"][name]["ids"].as_array().map(Vec::as_slice) {
                Some([id]) => token_id(id),
                _ => None,
            };
            let described = || {
                let names = pieces.iter().map(|p| name(p).map_or("the words".into(), |n| format!("`{n}`")));
                Frame::Other(names.collect::<Vec<_>>().join(" "))
            };
            match pieces.as_slice() {
                [before, words, behind] if words.get("Sequence").is_some() => {
                    let ids = |piece| name(piece).and_then(|name| id(&name));
                    match (ids(before), ids(behind)) {
                        (Some(bos), Some(eos)) => Frame::Ids { bos, eos },
                        _ => described(),
                    }
                }
                _ => described(),
            }
        }
        _ => Frame::Unsaid,
    }
}

/// A file's text; `None` where there is no file.
fn read_text(path: &Path) -> Result<Option<String>, ModelError> {
    let bytes = match crate::files::read(path, crate::files::LARGE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ModelError::Io { path: path.into(), source }),
    };
    let error = |_| ModelError::Format { path: path.into(), message: "is not UTF-8 text".into() };
    let text = String::from_utf8(bytes).map_err(error)?;
    Ok(Some(without_mark(&text).to_string()))
}

fn read_json(path: &Path) -> Result<Option<Value>, ModelError> {
    let error = |e: serde_json::Error| ModelError::Format { path: path.into(), message: e.to_string() };
    read_text(path)?.map(|text| serde_json::from_str(&text).map_err(error)).transpose()
}
