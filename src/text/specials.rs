//! The special tokens of a tokenizer: what its post-processor puts around a text, and what the files beside it call the
//! beginning, the end, a masked token and padding.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::{Pieces, PiecesError, without_mark};

/// Ids by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Specials {
    /// What the tokenizer puts before a text.
    pub before: Vec<u32>,
    /// What it puts behind a text.
    pub behind: Vec<u32>,
    /// Beginning of a text.
    pub bos: Option<u32>,
    /// End of a text.
    pub eos: Option<u32>,
    /// A masked token.
    pub mask: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
}

/// Files beside a tokenizer that say which token has which role.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The older one.
pub const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// A spelling, and the file that names it.
pub type Named = (String, &'static str);

/// Spellings by role (`mask_token`, ...): those of `tokenizer_config.json`, over which `special_tokens_map.json` goes
/// unless the first lists its tokens, as in `transformers`.
pub fn roles(config: &Value, map: Option<&Value>) -> HashMap<String, Named> {
    let map = if config["added_tokens_decoder"].is_object() { None } else { map };
    let mut named = HashMap::new();
    for (values, file) in [(Some(config), TOKENIZER_CONFIG), (map, SPECIAL_TOKENS_MAP)] {
        for (role, token) in values.and_then(Value::as_object).into_iter().flatten() {
            let spelling = token.as_str().or_else(|| token["content"].as_str());
            if let (true, Some(spelling)) = (role.ends_with("_token"), spelling) {
                named.insert(role.clone(), (spelling.to_string(), file));
            }
        }
    }
    named
}

impl Specials {
    /// Those of a tokenizer, by the files beside it; where they say nothing, by the usual spellings.
    ///
    /// # Errors
    /// A file beside it that is no JSON, or that names a token that is not there.
    pub fn of(pieces: &Pieces) -> Result<Specials, PiecesError> {
        let folder = pieces.path().parent().unwrap_or(Path::new("")).to_path_buf();
        let config = json(&folder.join(TOKENIZER_CONFIG))?.unwrap_or_default();
        let named = roles(&config, json(&folder.join(SPECIAL_TOKENS_MAP))?.as_ref());
        let find = |names: &[&str], usual: &[&str]| {
            for role in names {
                if let Some((spelling, file)) = named.get(*role) {
                    let message = format!("has no token `{spelling}`, the `{role}` of {file}");
                    let lacking = || PiecesError::Malformed { path: pieces.path().into(), message };
                    return pieces.id(spelling).map(Some).ok_or_else(lacking);
                }
            }
            Ok(usual.iter().find_map(|spelling| pieces.id(spelling)))
        };
        let (before, behind) = pieces.frame()?;
        Ok(Specials {
            before,
            behind,
            bos: find(&["bos_token", "cls_token"], &["<s>", "[CLS]", "<|endoftext|>"])?,
            eos: find(&["eos_token", "sep_token"], &["</s>", "[SEP]", "<|endoftext|>"])?,
            mask: find(&["mask_token"], &["<mask>", "[MASK]"])?,
            pad: find(&["pad_token"], &["<pad>", "[PAD]"])?,
        })
    }

    /// The token behind a document: what the tokenizer puts there, else the end, else the beginning of the next one.
    pub fn end(&self) -> Option<u32> {
        self.behind.last().copied().or(self.eos).or(self.bos)
    }
}

/// What the files beside a tokenizer say of its tokens' roles, for a hash; empty where they say nothing or cannot be
/// read.
pub fn roles_beside(tokenizer: &Path) -> Vec<u8> {
    let folder = tokenizer.parent().unwrap_or(Path::new(""));
    let read = |name: &str| json(&folder.join(name)).ok().flatten();
    let config = read(TOKENIZER_CONFIG).unwrap_or_default();
    let named = roles(&config, read(SPECIAL_TOKENS_MAP).as_ref());
    let mut named: Vec<String> = named.iter().map(|(role, (spelling, _))| format!("{role} {spelling}\n")).collect();
    named.sort_unstable();
    named.concat().into_bytes()
}

pub(super) fn json(path: &Path) -> Result<Option<Value>, PiecesError> {
    let unreadable = |message: String| PiecesError::Unreadable { path: path.into(), message };
    match crate::files::text(path, crate::files::SMALL) {
        Ok(text) => serde_json::from_str(without_mark(&text))
            .map(Some)
            .map_err(|e| PiecesError::Malformed { path: path.into(), message: e.to_string() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(e.to_string())),
    }
}
