//! Text as files hold it, and its pieces as a `tokenizer.json` cuts it: documents of plain files, and their tokens on
//! disk, where any part of them can be had at once.

mod documents;
mod error;
mod framing;
mod pieces;
mod restricted;
mod sound;
mod specials;
mod tokenized;

pub use documents::{Documents, TextFormat};
pub use error::TextError;
pub use framing::{Framed, Framing, longest_first};
pub use pieces::{Pieces, PiecesError};
pub use restricted::{Mapped, OutOfVocabulary, RestrictedPieces};
pub use specials::{Named, SPECIAL_TOKENS_MAP, Specials, TOKENIZER_CONFIG, roles, roles_beside};
pub use tokenized::{Part, Shape, TextFiles, Tokenized, content_hash};

/// A text without the byte-order mark that some editors put in front.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
