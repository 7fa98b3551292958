//! Texts and pairs of texts as a model is fed with them: cut into pieces, shortened to a number of tokens, and framed
//! by the special tokens that a tokenizer's post-processor puts around them.
//!
//! What is too long loses its end, of a pair first the longer text (`longest_first` of `transformers`).

use std::path::PathBuf;

use tokenizers::{ModelWrapper, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::pieces::{Pieces, PiecesError};

/// A text, or a pair, as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// With the special tokens around.
    pub ids: Vec<u32>,
    /// Segment of each, as the post-processor has it.
    pub segments: Vec<u32>,
    /// Whether pieces were cut off.
    pub truncated: bool,
    /// Those of `ids` that are pieces of the text.
    pub pieces: usize,
    /// Pieces that stand for what the tokenizer does not know.
    pub unknown: usize,
}

/// A tokenizer that makes texts of up to so many tokens.
pub struct Framing {
    path: PathBuf,
    inner: Tokenizer,
    unknown: Option<u32>,
    /// Special tokens around a text and around a pair.
    added: [usize; 2],
}

impl Pieces {
    /// The tokenizer for texts of up to `most` tokens, special ones included.
    ///
    /// # Errors
    /// Where special tokens leave no room for a text.
    pub fn framing(&self, most: usize) -> Result<Framing, PiecesError> {
        let added = [false, true].map(|pair| self.inner.get_post_processor().map_or(0, |p| p.added_tokens(pair)));
        if added[0] >= most {
            return Err(PiecesError::Short { path: self.path().into(), most, added: added[0] });
        }
        let mut inner = self.inner.clone();
        let truncation = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: most,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        let malformed = |message: String| PiecesError::Malformed { path: self.path().into(), message };
        inner.with_truncation(Some(truncation)).map_err(|e| malformed(e.to_string()))?;
        Ok(Framing { path: self.path().into(), inner, unknown: self.unknown(), added })
    }

    /// The id of the piece for what the tokenizer does not know; byte-level ones have none.
    pub fn unknown(&self) -> Option<u32> {
        match self.inner.get_model() {
            ModelWrapper::BPE(model) => self.id(model.unk_token.as_deref()?),
            ModelWrapper::WordPiece(model) => self.id(&model.unk_token),
            ModelWrapper::WordLevel(model) => self.id(&model.unk_token),
            // The number is not public but in what is written of it.
            ModelWrapper::Unigram(model) => {
                serde_json::to_value(model).ok()?["unk_id"].as_u64().and_then(|id| id.try_into().ok())
            }
        }
    }
}

impl Framing {
    /// Whether special tokens tell the texts of a pair apart.
    pub fn parts_pairs(&self) -> bool {
        self.added[1] > self.added[0]
    }

    /// A text, or a pair of them.
    ///
    /// # Errors
    /// A text that the tokenizer cannot cut, and a pair for whose special tokens there is no room.
    pub fn frame(&self, first: &str, second: Option<&str>) -> Result<Framed, PiecesError> {
        let most = self.inner.get_truncation().map_or(usize::MAX, |t| t.max_length);
        let added = self.added[usize::from(second.is_some())];
        if added >= most {
            return Err(PiecesError::Short { path: self.path.clone(), most, added });
        }
        let encoded = match second {
            Some(second) => self.inner.encode_fast((first, second), true),
            None => self.inner.encode_fast(first, true),
        };
        let wrong = |e: tokenizers::Error| PiecesError::Text { path: self.path.clone(), message: e.to_string() };
        let encoding = encoded.map_err(wrong)?;
        let own =
            encoding.get_ids().iter().zip(encoding.get_special_tokens_mask()).filter(|(_, special)| **special == 0);
        let pieces: Vec<u32> = own.map(|(id, _)| *id).collect();
        Ok(Framed {
            ids: encoding.get_ids().to_vec(),
            segments: encoding.get_type_ids().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
            pieces: pieces.len(),
            unknown: pieces.iter().filter(|id| Some(**id) == self.unknown).count(),
        })
    }
}

impl std::fmt::Debug for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framing").field("path", &self.path).finish_non_exhaustive()
    }
}
