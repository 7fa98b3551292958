//! Documents of plain files, one after another, in memory that does not grow with the files.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TextError, without_mark};

/// How files hold documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextFormat {
    /// A document a line; blank lines are none.
    #[default]
    Lines,
    /// A document a file.
    Documents,
    /// A JSON object a line, with the document in its field `text`.
    Jsonl,
}

/// Bytes of the longest document: it is cut into tokens as a whole, which takes some 150 bytes of memory for each.
const LONGEST: u64 = 8 << 20;

/// The documents of some files in order.
pub struct Documents<'f> {
    files: &'f [PathBuf],
    format: TextFormat,
    reader: Option<BufReader<File>>,
    /// Files that were opened.
    opened: usize,
    /// Lines of the last of them that were read.
    line: u64,
    /// Documents of it.
    found: u64,
    /// A document that was too much for the batch before.
    next: Option<String>,
    /// Bytes of all files that were read.
    pub read: u64,
}

impl<'f> Documents<'f> {
    /// Those of files that are UTF-8 text.
    pub fn new(files: &'f [PathBuf], format: TextFormat) -> Documents<'f> {
        Documents { files, format, reader: None, opened: 0, line: 0, found: 0, next: None, read: 0 }
    }

    /// The next documents, of `bytes` bytes at most or one that has more; none at the end.
    ///
    /// # Errors
    /// A file that cannot be read, that is no text or holds no document, with its line; a document that is too long.
    pub fn batch(&mut self, bytes: usize) -> Result<Vec<String>, TextError> {
        let mut batch = Vec::new();
        let mut size = 0;
        while size < bytes {
            let Some(document) = self.next.take().map_or_else(|| self.next_document(), |next| Ok(Some(next)))? else {
                break;
            };
            size += document.len();
            if size > bytes && !batch.is_empty() {
                self.next = Some(document);
                break;
            }
            batch.push(document);
        }
        Ok(batch)
    }

    fn next_document(&mut self) -> Result<Option<String>, TextError> {
        loop {
            if self.reader.is_none() {
                let Some(path) = self.files.get(self.opened) else { return Ok(None) };
                let file = File::open(path).map_err(|e| unreadable(path, &e))?;
                self.reader = Some(BufReader::with_capacity(1 << 20, file));
                (self.opened, self.line, self.found) = (self.opened + 1, 0, 0);
            }
            let path = &self.files[self.opened - 1];
            let Some(bytes) = self.next_bytes(path)? else {
                if self.found == 0 {
                    return Err(TextError::wrong(path, None, "holds no text; leave it out"));
                }
                self.reader = None;
                continue;
            };
            if let Some(text) = self.text_of(path, bytes)? {
                self.found += 1;
                return Ok(Some(text));
            }
        }
    }

    /// The bytes of a line, or of the whole file; `None` at its end.
    fn next_bytes(&mut self, path: &Path) -> Result<Option<Vec<u8>>, TextError> {
        let reader = self.reader.as_mut().expect("a file is open");
        let mut bytes = Vec::new();
        let whole = self.format == TextFormat::Documents;
        let mut limited = reader.by_ref().take(LONGEST + 1);
        let read = match whole {
            true => limited.read_to_end(&mut bytes),
            false => limited.read_until(b'\n', &mut bytes),
        };
        let read = read.map_err(|e| unreadable(path, &e))?;
        self.read += read as u64;
        self.line += 1;
        let line = (!whole).then_some(self.line);
        if read as u64 > LONGEST {
            let instead = if whole { "take `format = \"lines\"`, or cut it into several files" } else { "cut it" };
            let message = format!("a document of more than {} MiB; {instead}", LONGEST >> 20);
            return Err(TextError::wrong(path, line, message));
        }
        Ok((read > 0).then_some(bytes))
    }

    /// The document of a line or file; `None` where it is blank.
    fn text_of(&self, path: &Path, bytes: Vec<u8>) -> Result<Option<String>, TextError> {
        let whole = self.format == TextFormat::Documents;
        let text = String::from_utf8(bytes).map_err(|e| {
            let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = self.line + before.iter().filter(|b| **b == b'\n').count() as u64;
            TextError::wrong(path, Some(line), "is not UTF-8 text; save the file as UTF-8")
        })?;
        let text = if self.line == 1 { without_mark(&text) } else { &text };
        let text = if whole { text } else { text.trim_end_matches(['\n', '\r']) };
        if text.trim().is_empty() {
            return Ok(None);
        }
        if self.format != TextFormat::Jsonl {
            return Ok(Some(text.to_string()));
        }
        let wrong = |message: String| TextError::wrong(path, Some(self.line), message);
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| wrong(format!("is no JSON object ({e}); one a line is read")))?;
        let field = value.get("text");
        let text = field.and_then(serde_json::Value::as_str).ok_or_else(|| {
            if let Some(other) = field {
                return wrong(format!("the field `text` is {other}; a string is read"));
            }
            let there: Vec<&str> = value.as_object().into_iter().flat_map(|o| o.keys().map(String::as_str)).collect();
            let there =
                if there.is_empty() { "it is no object".into() } else { format!("it has {}", there.join(", ")) };
            wrong(format!("has no text in a field `text`; {there}"))
        })?;
        Ok((!text.trim().is_empty()).then(|| text.to_string()))
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> TextError {
    TextError::wrong(path, None, format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], format: TextFormat) -> Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let files = [file.path().to_path_buf()];
        let mut documents = Documents::new(&files, format);
        let mut all = Vec::new();
        loop {
            match documents.batch(1) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => all.extend(batch),
                Err(error) => return Err(error.to_string().replace(&file.path().display().to_string(), "FILE")),
            }
        }
        assert_eq!(documents.read, bytes.len() as u64);
        Ok(all)
    }

    #[test]
    fn documents_are_lines_files_or_fields() {
        let text = "\u{feff}one  two\r\n\n   \nthree\n four".as_bytes();
        assert_eq!(read(text, TextFormat::Lines).unwrap(), ["one  two", "three", " four"]);
        assert_eq!(read(b"a\n\nb\n", TextFormat::Documents).unwrap(), ["a\n\nb\n"]);
        let json = "{\"text\": \"a\\nb\", \"id\": 1}\n\n{\"text\": \"\"}\n{\"text\": \"\u{e9}\"}".as_bytes();
        assert_eq!(read(json, TextFormat::Jsonl).unwrap(), ["a\nb", "\u{e9}"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let said = |bytes: &[u8], format| read(bytes, format).unwrap_err();
        assert_eq!(said(b"", TextFormat::Lines), "FILE: holds no text; leave it out");
        assert!(said(b"\n \n", TextFormat::Documents).contains("holds no text"));
        assert_eq!(said(b"a\nb\xff\n", TextFormat::Lines), "FILE:2: is not UTF-8 text; save the file as UTF-8");
        assert!(said(b"a\nb\n\xff", TextFormat::Documents).starts_with("FILE:3: "));
        assert!(said(b"{\"text\": \"a\"}\n{\n", TextFormat::Jsonl).starts_with("FILE:2: is no JSON object"));
        let lacking = said(b"{\"content\": \"a\", \"id\": 3}", TextFormat::Jsonl);
        assert_eq!(lacking, "FILE:1: has no text in a field `text`; it has content, id");
        assert_eq!(said(b"{\"text\": 5}", TextFormat::Jsonl), "FILE:1: the field `text` is 5; a string is read");
    }
}
