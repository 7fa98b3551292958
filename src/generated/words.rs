//! The words of a restricted model: the token ids that are left to it, their spelling, and the ids that begin and end a
//! sentence.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files;
use crate::language::LanguageError;
use crate::model::{ModelConfig, ModelKind, SPECIAL_TOKENS};
use crate::text::{Pieces, without_mark};

/// Which of a model's tokens are words of the language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a number of tokens, or the path of a list of them")]
pub enum Tokens {
    /// So many of the most frequent ones: of OPT, whose dictionary falls in frequency, the ids from 4 on.
    MostFrequent(u32),
    /// Those that a file lists, relative to the config file: ids separated by blanks, `#` before comments.
    File(PathBuf),
}

impl Tokens {
    /// The file of ids, where there is one.
    pub fn file(&mut self) -> Option<&mut PathBuf> {
        match self {
            Tokens::File(file) => Some(file),
            Tokens::MostFrequent(_) => None,
        }
    }
}

/// The first id of OPT's dictionary behind `<s>`, `<pad>`, `</s>` and `<unk>`; from there on frequency falls.
const FIRST_PIECE: u32 = 4;

/// The words of the language in the order of their ids, R.
#[derive(Clone, Debug)]
pub(super) struct Restriction {
    /// Token ids of the words, rising.
    pub ids: Vec<u32>,
    /// Spelling of each, as the model's files have it; the id itself where they have none.
    pub spelled: Vec<String>,
    /// What stands before a sentence.
    pub prompt: u32,
    /// The token behind its last word.
    pub end: u32,
    numbers: HashMap<String, u32>,
}

impl Restriction {
    /// The words of a model's folder.
    pub fn read(folder: &Path, config: &ModelConfig, tokens: &Tokens) -> Result<Restriction, LanguageError> {
        let at = |file: &Path, message: String| LanguageError { file: file.display().to_string(), line: None, message };
        let path = folder.join("config.json");
        let text = files::text(&path, files::SMALL).map_err(|e| at(&path, format!("cannot be read: {e}")))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| at(&path, e.to_string()))?;
        let [prompt, end] =
            frame(&json, config.kind).map_err(|key| at(&path, format!("has no `{key}`, which a sentence needs")))?;
        if let Some((key, id)) = FRAME.into_iter().zip([prompt, end]).find(|(_, id)| *id >= config.vocab_size) {
            let message = format!(
                "`{key}` = {id} is not in the model's vocabulary of {} (`vocab_size`), and a sentence needs it",
                config.vocab_size
            );
            return Err(at(&path, message));
        }
        let ids = match tokens {
            Tokens::MostFrequent(_) if config.kind != ModelKind::Opt => {
                return Err(at(
                    &path,
                    format!(
                        "the ids of a model of type {} do not fall in frequency; list those of the words in a file",
                        config.kind.name()
                    ),
                ));
            }
            Tokens::MostFrequent(count) => {
                // Before a list is made, which may be of any length.
                let most = config.vocab_size.saturating_sub(FIRST_PIECE);
                if !(1..=most).contains(count) {
                    let message = format!(
                        "{count} is not possible: the words are tokens from {FIRST_PIECE} on, and the model's \
                         vocabulary of {} has {most} of them",
                        config.vocab_size
                    );
                    return Err(LanguageError { file: "language.tokens".into(), line: None, message });
                }
                (FIRST_PIECE..FIRST_PIECE + count).collect()
            }
            Tokens::File(file) => listed(file)?,
        };
        let list = match tokens {
            Tokens::MostFrequent(_) => path.clone(),
            Tokens::File(file) => file.clone(),
        };
        if ids.is_empty() {
            return Err(at(&list, "names no token".into()));
        }
        if let Some(id) = ids.iter().find(|id| **id >= config.vocab_size) {
            let message = format!("token {id} is not in the model's vocabulary of {}", config.vocab_size);
            return Err(at(&list, message));
        }
        if let Some(id) = [end, prompt].into_iter().find(|id| ids.contains(id)) {
            return Err(at(&list, format!("token {id} begins or ends a sentence and can be none of its words")));
        }
        let spelled = spellings(folder, &ids)?;
        let mut numbers = HashMap::with_capacity(ids.len());
        for (number, (id, word)) in (0..).zip(ids.iter().zip(&spelled)) {
            if word.is_empty() || word.contains(char::is_whitespace) || SPECIAL_TOKENS.contains(&word.as_str()) {
                return Err(at(&list, format!("token {id} is spelled `{word}`, which can be no word here")));
            }
            if numbers.insert(word.clone(), number).is_some() {
                return Err(at(&list, format!("token {id} is spelled `{word}` as another one is")));
            }
        }
        Ok(Restriction { ids, spelled, prompt, end, numbers })
    }

    /// Number of a word by its spelling.
    pub fn number(&self, word: &str) -> Option<u32> {
        self.numbers.get(word).copied()
    }

    /// The ids as ranges: `4-2003`.
    pub fn ranges(&self) -> String {
        let mut ranges: Vec<[u32; 2]> = Vec::new();
        for id in &self.ids {
            match ranges.last_mut() {
                Some([_, last]) if *last + 1 == *id => *last = *id,
                _ => ranges.push([*id; 2]),
            }
        }
        let text = |[first, last]: &[u32; 2]| if first == last { first.to_string() } else { format!("{first}-{last}") };
        ranges.iter().map(text).collect::<Vec<_>>().join(",")
    }
}

/// The keys of the ids before and behind a sentence.
const FRAME: [&str; 2] = ["bos_token_id", "eos_token_id"];

/// The ids before and behind a sentence, or the key that is missing. OPT's are 2 and 2 where nothing is said.
fn frame(json: &Value, kind: ModelKind) -> Result<[u32; 2], &'static str> {
    let of = |key: &'static str| {
        let value = if json[key].is_array() { &json[key][0] } else { &json[key] };
        match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(id),
            None if kind == ModelKind::Opt => Ok(2),
            None => Err(key),
        }
    };
    let [prompt, end] = FRAME;
    Ok([of(prompt)?, of(end)?])
}

/// The ids of a file, rising.
fn listed(path: &Path) -> Result<Vec<u32>, LanguageError> {
    let error = |line, message| LanguageError { file: path.display().to_string(), line, message };
    let text = std::fs::read_to_string(path).map_err(|e| error(None, format!("cannot be read: {e}")))?;
    let mut seen = HashSet::new();
    for (i, line) in without_mark(&text).lines().enumerate() {
        for field in line.split('#').next().unwrap_or_default().split_whitespace() {
            let id: u32 = field
                .parse()
                .map_err(|_| error(Some(i + 1), format!("`{field}` is no token id; write ids separated by blanks")))?;
            if !seen.insert(id) {
                return Err(error(Some(i + 1), format!("token {id} is listed twice")));
            }
        }
    }
    let mut ids: Vec<u32> = seen.into_iter().collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Spellings by `tokenizer.json`, else by `vocab.json`; the ids themselves where there is neither.
fn spellings(folder: &Path, ids: &[u32]) -> Result<Vec<String>, LanguageError> {
    let error = |path: &Path, message| LanguageError { file: path.display().to_string(), line: None, message };
    let named = |path: &Path, of: &dyn Fn(u32) -> Option<String>| {
        let one = |id: &u32| of(*id).ok_or_else(|| error(path, format!("has no token with the id {id}")));
        ids.iter().map(one).collect()
    };
    let path = folder.join("tokenizer.json");
    if path.exists() {
        let pieces = Pieces::read(&path).map_err(|e| LanguageError {
            file: path.display().to_string(),
            line: None,
            message: e.to_string(),
        })?;
        return named(&path, &|id| pieces.piece(id));
    }
    let path = folder.join("vocab.json");
    if path.exists() {
        let text = files::text(&path, files::LARGE).map_err(|e| error(&path, format!("cannot be read: {e}")))?;
        let by_piece: HashMap<String, u32> =
            serde_json::from_str(without_mark(&text)).map_err(|e| error(&path, e.to_string()))?;
        let by_id: HashMap<u32, String> = by_piece.into_iter().map(|(piece, id)| (id, piece)).collect();
        return named(&path, &|id| by_id.get(&id).cloned());
    }
    Ok(ids.iter().map(u32::to_string).collect())
}
