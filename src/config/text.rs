//! `[language]` of the kind "text": its files, its tokenizer, and how examples are cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::language::LanguageSection;
use super::load::ConfigError;
use super::objective::{ObjectiveKind, ObjectiveSection};
use crate::cache::cache_folder;
use crate::language::{Cutting, Text};
use crate::text::{Pieces, TextError, TextFiles};

/// A file, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a path, or a list of paths")]
pub enum Files {
    /// `files = "FILE"`
    One(PathBuf),
    /// `files = ["FILE", "FILE"]`
    Several(Vec<PathBuf>),
}

impl Files {
    /// In order.
    pub fn list(&self) -> &[PathBuf] {
        match self {
            Files::One(path) => std::slice::from_ref(path),
            Files::Several(paths) => paths,
        }
    }

    /// The same, to be changed.
    pub fn list_mut(&mut self) -> &mut [PathBuf] {
        match self {
            Files::One(path) => std::slice::from_mut(path),
            Files::Several(paths) => paths,
        }
    }
}

/// What is told how many bytes of text of how many have been cut into tokens.
pub type Watch<'w> = &'w dyn Fn(u64, u64);

/// What text needs.
pub(super) const ADVICE: &str = "give `files = [\"FILE\"]` and `tokenizer = \"DIR/tokenizer.json\"`";

/// The file of a tokenizer that may be named by its folder.
pub(super) fn tokenizer_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("tokenizer.json") } else { path.into() }
}

/// Tokens of an example where nothing is said.
const LENGTH: usize = 128;
/// The share held out where nothing is said.
const HELD_OUT: f64 = 0.01;

/// Why text cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenTextError {
    /// What is wrong with the config or with what it names.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Tokens that cannot be kept, or an interrupt.
    #[error(transparent)]
    Text(TextError),
}

impl From<TextError> for OpenTextError {
    fn from(error: TextError) -> OpenTextError {
        match error {
            TextError::Cache { .. } | TextError::Interrupted => OpenTextError::Text(error),
            _ => {
                let (place, message) = error.parts();
                OpenTextError::Config(ConfigError { place, message })
            }
        }
    }
}

impl From<OpenTextError> for ConfigError {
    fn from(error: OpenTextError) -> ConfigError {
        match error {
            OpenTextError::Config(error) => error,
            OpenTextError::Text(error) => {
                let (place, message) = error.parts();
                ConfigError { place, message }
            }
        }
    }
}

impl LanguageSection {
    /// How examples are cut for an objective that masks words or does not.
    pub(super) fn cutting(&self, masked: bool) -> Cutting {
        Cutting {
            length: self.length.unwrap_or(LENGTH),
            pack: self.pack.unwrap_or(true),
            held_out: self.held_out.unwrap_or(HELD_OUT),
            masked,
        }
    }

    /// Reads the text; its tokens are made where the cache does not have them.
    ///
    /// # Errors
    /// Files or a tokenizer that cannot be used, with file and line; a cache that cannot be written; an interrupt.
    pub fn text(&self, objective: &ObjectiveSection, watch: Watch<'_>) -> Result<Text, OpenTextError> {
        let missing = |message: String| ConfigError { place: "[language]".into(), message };
        let (Some(files), Some(tokenizer)) = (&self.files, &self.tokenizer) else {
            return Err(missing(format!("no text: {ADVICE}")).into());
        };
        let cache = match (&self.cache, cache_folder()) {
            (Some(cache), _) => cache.clone(),
            (None, Some(folder)) => folder.join("text"),
            (None, None) => {
                let message = "there is no folder for the tokens of text (no HOME); give one as `language.cache`";
                return Err(missing(message.into()).into());
            }
        };
        let masked = objective.kind == ObjectiveKind::Mlm;
        let path = tokenizer_file(tokenizer);
        let pieces = Pieces::read(&path).map_err(TextError::from)?;
        let (files, format) = (files.list().to_vec(), self.format.unwrap_or_default());
        let text = Text::open(&TextFiles { files, format, cache }, Arc::new(pieces), &self.cutting(masked), watch)?;
        if masked && text.specials().mask.is_none() {
            let message = "names no token for masked words, which `objective.kind = \"mlm\"` needs; name one as \
                           `mask_token` in a tokenizer_config.json beside it, or set `objective.kind = \"causal\"`";
            return Err(ConfigError { place: path.display().to_string(), message: message.into() }.into());
        }
        Ok(text)
    }

    /// Names what cannot be of text, with the key it stands at.
    pub(super) fn check_text(&self) -> Result<(), (String, String)> {
        let bad = |key: &str, message: String| Err((format!("language.{key}"), message));
        if self.files.as_ref().is_some_and(|files| files.list().is_empty()) {
            return bad("files", "is empty; name the files of the text".into());
        }
        if let Some(length) = self.length.filter(|length| !(8..=1 << 20).contains(length)) {
            return bad("length", format!("{length} must lie in 8 to {}", 1 << 20));
        }
        if self.max_length != LanguageSection::default().max_length {
            return bad("max_length", "text has `language.length`, in tokens".into());
        }
        match self.held_out {
            Some(share) if !(share > 0.0 && share < 1.0) => {
                bad("held_out", format!("{share} must be above 0 and below 1: the share of documents held out"))
            }
            _ => Ok(()),
        }
    }
}
