//! Files that languages come from: their text, and what is wrong with them by line.

/// Why a grammar or the matrices of a hidden Markov model cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}{}: {message}", .line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct LanguageError {
    /// The file, or the section of a config that describes a random language.
    pub file: String,
    /// Counted from 1; `None` where it is not one line that is wrong.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Tokens that a model adds to the words; a word of the same spelling would be confused with them.
pub(super) const RESERVED: [&str; 4] = ["<s>", "<pad>", "</s>", "<mask>"];

/// The fields of a line, separated by blanks, up to one that begins with `#`: there a comment begins.
pub(super) fn fields(line: &str) -> Vec<&str> {
    line.split_whitespace().take_while(|field| !field.starts_with('#')).collect()
}

/// Behind an error about a line with a `#`.
pub(super) const COMMENT_HINT: &str = "; what begins with `#` is a comment, and no name";

/// Names in one note.
const MOST: usize = 5;

/// `a`, `b` and 3 more
pub(super) fn list(names: &[String]) -> String {
    match names.len() {
        n if n <= MOST => names.join(", "),
        n => format!("{} and {} more", names[..MOST].join(", "), n - MOST),
    }
}

/// The text of a language's file.
pub(super) fn read_text(path: &std::path::Path) -> Result<String, LanguageError> {
    let file = path.display().to_string();
    let error = |line, message: String| LanguageError { file: file.clone(), line, message };
    let bytes = std::fs::read(path).map_err(|e| error(None, format!("cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        error(Some(line), "is not UTF-8 text; save the rule file as UTF-8".into())
    })
}
