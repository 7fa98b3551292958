//! Files of sentences: a first line that says what they were drawn from, then one sentence a line, words separated by
//! blanks.
//!
//! ```text
//! # {"model":"9c5f0e..","tokens":"4-2003","max_length":24,"seed":0}
//! Ġthe Ġcat Ġsat .
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::words::Restriction;
use crate::language::{LanguageError, Words};
use crate::text::without_mark;

/// What a file's sentences were drawn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Hash of the model's config and weights, 16 hexadecimal digits.
    pub model: String,
    /// Ids of the tokens that are words, as ranges: `4-2003`.
    pub tokens: String,
    /// Words of the longest sentence.
    pub max_length: usize,
    /// Seed of the sentences, whose numbers are 0, 1, ...
    pub seed: u64,
}

impl Origin {
    /// The first line of a file.
    pub fn line(&self) -> String {
        format!("# {}", serde_json::to_string(self).expect("plain values"))
    }
}

/// The sentences of a file, one behind another.
#[derive(Debug)]
pub(super) struct Sentences {
    words: Vec<u32>,
    /// Where each begins, and the end of the last.
    starts: Vec<usize>,
    /// What the first line says.
    pub origin: Option<Origin>,
}

impl Sentences {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the line with a word that is none of the language, or with too many; a file without a sentence.
    pub fn read(path: &Path, words: &Restriction, longest: usize) -> Result<Sentences, LanguageError> {
        let error = |line, message: String| LanguageError { file: path.display().to_string(), line, message };
        let file = File::open(path).map_err(|e| error(None, format!("cannot be read: {e}")))?;
        let mut made = Sentences { words: Vec::new(), starts: vec![0], origin: None };
        for (i, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|e| error(Some(i + 1), format!("cannot be read: {e}")))?;
            let line = if i == 0 { without_mark(&line) } else { &line };
            if let (0, Some(said)) = (i, line.strip_prefix("# {").map(|_| &line[2..])) {
                let origin = serde_json::from_str(said)
                    .map_err(|e| error(Some(1), format!("does not say what the sentences were drawn from: {e}")))?;
                made.origin = Some(origin);
                continue;
            }
            for word in line.split_whitespace() {
                let number = words
                    .number(word)
                    .ok_or_else(|| error(Some(i + 1), format!("`{word}` is no word of this language")))?;
                made.words.push(number);
            }
            let (first, end) = (made.starts[made.starts.len() - 1], made.words.len());
            if end - first > longest {
                return Err(error(Some(i + 1), format!("{} words, sentences have at most {longest}", end - first)));
            }
            if end > first {
                made.starts.push(end);
            }
        }
        match made.len() {
            0 => Err(error(None, "holds no sentence".into())),
            _ => Ok(made),
        }
    }

    /// Sentences.
    pub fn len(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    /// One of them, and behind the last the first again.
    pub fn get(&self, index: u64) -> Words {
        let i = (index % self.len()) as usize;
        self.words[self.starts[i]..self.starts[i + 1]].to_vec()
    }
}
