//! What is wrong with files of text.

use std::path::{Path, PathBuf};

use super::PiecesError;
use crate::interrupt::Interrupted;

/// Why text cannot be read, or its tokens not be kept.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file that cannot be read, or what it holds.
    #[error("{}{}: {message}", path.display(), .line.map(|l| format!(":{l}")).unwrap_or_default())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Counted from 1; `None` where it is not one line that is wrong.
        line: Option<u64>,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The tokenizer, or a text that it cannot cut.
    #[error(transparent)]
    Pieces(#[from] PiecesError),
    /// Tokens that cannot be kept on disk, or not be read from there.
    #[error("{}: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The process is to stop.
    #[error("interrupted")]
    Interrupted,
}

impl TextError {
    pub(super) fn wrong(path: &Path, line: Option<u64>, message: impl Into<String>) -> TextError {
        TextError::Wrong { path: path.into(), line, message: message.into() }
    }

    pub(super) fn cache(path: &Path) -> impl Fn(std::io::Error) -> TextError + use<> {
        let path = path.to_path_buf();
        move |source| TextError::Cache { path: path.clone(), source }
    }

    /// The file, with the line where there is one, and what is wrong there.
    pub fn parts(&self) -> (String, String) {
        match self {
            TextError::Wrong { path, line, message } => {
                let line = line.map_or(String::new(), |line| format!(":{line}"));
                (format!("{}{line}", path.display()), message.clone())
            }
            TextError::Pieces(error) => error.parts(),
            TextError::Cache { path, source } => (path.display().to_string(), source.to_string()),
            TextError::Interrupted => ("text".into(), "interrupted".into()),
        }
    }
}

impl From<Interrupted> for TextError {
    fn from(_: Interrupted) -> TextError {
        TextError::Interrupted
    }
}
