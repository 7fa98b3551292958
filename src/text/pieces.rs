//! The tokenizer of a `tokenizer.json`, of any kind that Hugging Face's `tokenizers` knows: byte-level BPE, WordPiece,
//! Unigram, with their normalizers and post-processors.

use std::path::{Path, PathBuf};

use tokenizers::{Tokenizer, TruncationDirection};

use super::sound;
use crate::files;

/// Rows of the largest table of words that a model may have.
const MOST_IDS: u32 = 1 << 24;

/// Why a `tokenizer.json` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PiecesError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {message}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// It is no tokenizer that is known here.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A length that the special tokens fill alone.
    #[error(
        "{}: {most} tokens leave no room for a text: {added} special tokens stand around it", path.display()
    )]
    Short {
        /// The file of the tokenizer.
        path: PathBuf,
        /// Tokens at most.
        most: usize,
        /// Special tokens among them.
        added: usize,
    },
    /// A text that it cannot cut.
    #[error("{}: a text cannot be cut into pieces: {message}", path.display())]
    Text {
        /// The file of the tokenizer.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl PiecesError {
    /// The file, and what is wrong with it.
    pub fn parts(&self) -> (String, String) {
        let (path, message) = match self {
            PiecesError::Unreadable { path, message } => (path, format!("cannot be read: {message}")),
            PiecesError::Malformed { path, message } => (path, message.clone()),
            PiecesError::Short { path, most, added } => {
                (path, format!("{most} tokens leave no room for a text: {added} special tokens stand around it"))
            }
            PiecesError::Text { path, message } => (path, format!("a text cannot be cut into pieces: {message}")),
        };
        (path.display().to_string(), message)
    }
}

/// A tokenizer: what turns text into token ids.
#[derive(Clone)]
pub struct Pieces {
    path: PathBuf,
    pub(super) inner: Tokenizer,
    /// The end that its own truncation, which is left out, takes off.
    pub(super) side: TruncationDirection,
    size: u32,
}

impl Pieces {
    /// Reads a `tokenizer.json`. What it says of truncation and padding is left out: lengths are the caller's.
    ///
    /// # Errors
    /// A file that cannot be read or that is no tokenizer; one whose post-processor puts an id around texts that no
    /// token has.
    pub fn read(path: &Path) -> Result<Pieces, PiecesError> {
        let bytes = files::read(path, files::LARGE)
            .map_err(|e| PiecesError::Unreadable { path: path.into(), message: e.to_string() })?;
        let malformed = |message: String| PiecesError::Malformed { path: path.into(), message };
        sound::check(&bytes).map_err(malformed)?;
        let mut inner = Tokenizer::from_bytes(&bytes).map_err(|e| malformed(e.to_string()))?;
        let side = inner.get_truncation().map_or(TruncationDirection::Right, |truncation| truncation.direction);
        // Ids are counted up to the largest, which a line of the file could set to anything.
        let last = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        if let Some((token, id)) = last.as_ref().filter(|(_, id)| *id >= MOST_IDS) {
            return Err(malformed(format!("gives `{token}` the id {id}; ids below {MOST_IDS} are read")));
        }
        let size = last.map_or(0, |(_, id)| id + 1);
        inner.with_truncation(None).map_err(|e| malformed(e.to_string()))?;
        inner.with_padding(None);
        if let Some((token, id)) = sound::around(&bytes).into_iter().find(|(_, id)| inner.id_to_token(*id).is_none()) {
            return Err(malformed(format!(
                "its post-processor puts `{token}` around texts with the id {id}, which no token has; the largest id \
                 is {}",
                size.saturating_sub(1)
            )));
        }
        Ok(Pieces { path: path.into(), inner, side, size })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Token ids, added tokens included: one more than the largest id.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The id of a token by its spelling in the file.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.inner.token_to_id(piece)
    }

    /// The spelling of a token in the file.
    pub fn piece(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The special tokens of the file, in ascending order.
    pub fn special_ids(&self) -> Vec<u32> {
        let added = self.inner.get_added_tokens_decoder();
        let mut ids: Vec<u32> = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// What the file's post-processor puts before a text and behind it.
    ///
    /// # Errors
    /// One that does something else with a text.
    pub fn frame(&self) -> Result<(Vec<u32>, Vec<u32>), PiecesError> {
        // Any text with a token will do; the first that has one.
        for text in ["a", "0", "."] {
            let (plain, framed) = (self.ids(text)?, self.framed_ids(text)?);
            if plain.is_empty() {
                continue;
            }
            let found = framed.windows(plain.len()).position(|part| part == plain.as_slice());
            return match found {
                Some(at) => Ok((framed[..at].to_vec(), framed[at + plain.len()..].to_vec())),
                None => {
                    let message = "its post-processor does more than put tokens before and behind a text".into();
                    Err(PiecesError::Malformed { path: self.path.clone(), message })
                }
            };
        }
        let message =
            "it cuts `a`, `0` and `.` into nothing: its vocabulary lacks them, or its post-processor drops the text"
                .into();
        Err(PiecesError::Malformed { path: self.path.clone(), message })
    }

    /// The text of ids, special tokens included.
    ///
    /// # Errors
    /// Ids that the tokenizer does not have.
    pub fn text(&self, ids: &[u32]) -> Result<String, PiecesError> {
        let wrong = |e: tokenizers::Error| PiecesError::Malformed { path: self.path.clone(), message: e.to_string() };
        self.inner.decode(ids, false).map_err(wrong)
    }

    /// The ids of a text, without special tokens around it.
    ///
    /// # Errors
    /// A text that the tokenizer cannot cut.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, PiecesError> {
        self.encode(text, false).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The ids of a text with the special tokens that the file's post-processor puts around it.
    ///
    /// # Errors
    /// A text that the tokenizer cannot cut.
    pub fn framed_ids(&self, text: &str) -> Result<Vec<u32>, PiecesError> {
        self.encode(text, true).map(|encoding| encoding.get_ids().to_vec())
    }

    /// Ids and segments of a pair of texts with the special tokens that the file's post-processor puts around them.
    ///
    /// # Errors
    /// A text that the tokenizer cannot cut.
    pub fn framed_pair(&self, first: &str, second: &str) -> Result<(Vec<u32>, Vec<u32>), PiecesError> {
        let encoding = self.encode((first, second), true)?;
        Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()))
    }

    fn encode<'s>(
        &self,
        text: impl Into<tokenizers::EncodeInput<'s>> + Send,
        framed: bool,
    ) -> Result<tokenizers::Encoding, PiecesError> {
        let wrong = |e: tokenizers::Error| PiecesError::Text { path: self.path.clone(), message: e.to_string() };
        self.inner.encode_fast(text, framed).map_err(wrong)
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces").field("path", &self.path).finish_non_exhaustive()
    }
}
