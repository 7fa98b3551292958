//! Texts and pairs of texts as a model is fed with them: cut into pieces, shortened to a number of tokens, and framed
//! by the special tokens that a tokenizer's post-processor puts around them.
//!
//! What is too long loses its end, of a pair first the longer text (`longest_first` of `transformers`), or its
//! beginning where the tokenizer's files say so. Texts are cut whole and shortened here: `tokenizers` itself stops
//! cutting a text once it has as many pieces as the two may have together, and then knows neither which was longer nor
//! whether anything is missing.

use std::path::{Path, PathBuf};

use tokenizers::{Encoding, ModelWrapper, PostProcessor, PostProcessorWrapper, Tokenizer, TruncationDirection};

use super::pieces::{Pieces, PiecesError};
use super::specials::{TOKENIZER_CONFIG, json};

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
    /// Without a post-processor.
    cutter: Tokenizer,
    processor: Option<PostProcessorWrapper>,
    /// Tokens at most.
    most: usize,
    side: TruncationDirection,
    unknown: Option<u32>,
    /// Special tokens around a text and around a pair.
    added: [usize; 2],
}

impl Pieces {
    /// The tokenizer for texts of up to `most` tokens, special ones included. Which end is cut off is said by
    /// `truncation_side` of the `tokenizer_config.json` beside it, else by its own truncation; else it is the right
    /// one.
    ///
    /// # Errors
    /// Where special tokens leave no room for a text; a side that is none.
    pub fn framing(&self, most: usize) -> Result<Framing, PiecesError> {
        let added = [false, true].map(|pair| self.inner.get_post_processor().map_or(0, |p| p.added_tokens(pair)));
        if added[0] >= most {
            return Err(PiecesError::Short { path: self.path().into(), most, added: added[0] });
        }
        let mut cutter = self.inner.clone();
        let processor = cutter.get_post_processor().cloned();
        cutter.with_post_processor(None::<PostProcessorWrapper>);
        let (path, unknown) = (self.path().to_path_buf(), self.unknown());
        Ok(Framing { path, cutter, processor, most, side: self.side()?, unknown, added })
    }

    /// The end of a text that is cut off, as `transformers` decides it.
    fn side(&self) -> Result<TruncationDirection, PiecesError> {
        let path = self.path().parent().unwrap_or(Path::new("")).join(TOKENIZER_CONFIG);
        let said = json(&path)?.map(|config| config["truncation_side"].clone()).filter(|side| !side.is_null());
        match said.as_ref().map(|side| side.as_str().unwrap_or_default()) {
            None => Ok(self.side),
            Some("right") => Ok(TruncationDirection::Right),
            Some("left") => Ok(TruncationDirection::Left),
            Some(_) => {
                let message = format!("`truncation_side` is {}; write \"right\" or \"left\"", said.unwrap_or_default());
                Err(PiecesError::Malformed { path, message })
            }
        }
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
        let added = self.added[usize::from(second.is_some())];
        if added >= self.most {
            return Err(PiecesError::Short { path: self.path.clone(), most: self.most, added });
        }
        let wrong = |e: tokenizers::Error| PiecesError::Text { path: self.path.clone(), message: e.to_string() };
        let cut = |text: &str| self.cutter.encode_fast(text, false).map_err(wrong);
        let (mut first, mut second) = (cut(first)?, second.map(cut).transpose()?);
        let lengths = [first.len(), second.as_ref().map_or(0, Encoding::len)];
        let kept = longest_first(lengths, self.most - added);
        self.shorten(&mut first, kept[0]);
        if let Some(second) = &mut second {
            self.shorten(second, kept[1]);
            // Of its own without a post-processor, which gives types itself.
            second.set_type_ids(vec![1; second.len()]);
        }
        let encoding = match &self.processor {
            Some(processor) => processor.process(first, second, true).map_err(wrong)?,
            None => Encoding::merge(std::iter::once(first).chain(second), false),
        };
        let own =
            encoding.get_ids().iter().zip(encoding.get_special_tokens_mask()).filter(|(_, special)| **special == 0);
        let pieces: Vec<u32> = own.map(|(id, _)| *id).collect();
        Ok(Framed {
            ids: encoding.get_ids().to_vec(),
            segments: encoding.get_type_ids().to_vec(),
            truncated: kept != lengths,
            pieces: pieces.len(),
            unknown: pieces.iter().filter(|id| Some(**id) == self.unknown).count(),
        })
    }
}

impl Framing {
    /// Keeps so many pieces of a text; nothing of the others, which a post-processor would frame too.
    fn shorten(&self, text: &mut Encoding, kept: usize) {
        text.truncate(kept, 0, self.side);
        text.take_overflowing();
    }
}

/// How many pieces of two texts are left when both may have `room`: the longer one is shortened to the length of the
/// other, then both alike, and of an odd number one more is left of the longer, of equal ones of the second. As
/// `longest_first` of `tokenizers` and so of `transformers` has it; a single text has a second one of none.
pub fn longest_first([first, second]: [usize; 2], room: usize) -> [usize; 2] {
    if first + second <= room {
        return [first, second];
    }
    let shorter = first.min(second).min(room / 2);
    match first > second {
        true => [room - shorter, shorter],
        false => [shorter, room - shorter],
    }
}

impl std::fmt::Debug for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framing").field("path", &self.path).finish_non_exhaustive()
    }
}
