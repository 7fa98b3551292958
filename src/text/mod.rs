//! Text as files hold it, and its pieces as a `tokenizer.json` cuts it.

mod framing;
mod pieces;
mod sound;

pub use framing::{Framed, Framing};
pub use pieces::{Pieces, PiecesError};

/// A text without the byte-order mark that some editors put in front.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
