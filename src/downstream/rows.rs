//! Rows of files: a text, or a pair of texts, with a label.
//!
//! - `.csv`: RFC 4180, columns by name.
//! - `.jsonl`: an object a line.
//! - `.tsv`: as GLUE has it and `csv.DictReader` with `QUOTE_NONE` reads it: a tab between columns, no quoting (a quote
//!   is a letter), lines that end in LF, CR LF or CR, empty ones left out. A row that has too few columns for its
//!   texts and its label, or an empty label, is skipped and counted, as Hugging Face's `datasets` drops it.
//!
//! In CSV and JSON lines a row without a label is an error. Blanks around a label are no part of it; texts are taken as
//! they are.

use std::path::Path;
use std::sync::Arc;

use super::data::TaskError;
use crate::text::without_mark;

/// A row of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The file.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u64,
    /// The text, or the first of a pair.
    pub first: String,
    /// The second of a pair.
    pub second: Option<String>,
    /// Without blanks around it, not empty.
    pub label: String,
}

impl Row {
    /// An error about this row.
    pub fn wrong(&self, message: impl Into<String>) -> TaskError {
        error(format!("{}:{}", self.file, self.line), message)
    }
}

/// Which columns, or keys of JSON, hold what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// One, or the two of a pair; none for the first of [`TEXTS`](Columns::TEXTS) that is there.
    pub texts: Vec<String>,
    /// `None` for the first of [`LABELS`](Columns::LABELS) that is there.
    pub label: Option<String>,
}

impl Columns {
    /// Names that are known: those of GLUE's QNLI, RTE and WNLI, QQP, of natural-language inference, of SST-2.
    pub const TEXTS: [&[&str]; 6] = [
        &["text"],
        &["question", "sentence"],
        &["sentence1", "sentence2"],
        &["question1", "question2"],
        &["premise", "hypothesis"],
        &["sentence"],
    ];
    /// Names of labels that are known; the second is QQP's.
    pub const LABELS: [&str; 2] = ["label", "is_duplicate"];

    /// The names to take from a file that has these.
    fn among(&self, has: &[&str]) -> Result<(Vec<String>, String), String> {
        let there = |name: &&str| has.contains(name);
        let texts = match self.texts.is_empty() {
            false => self.texts.clone(),
            true => {
                let known = Columns::TEXTS.iter().find(|names| names.iter().all(there));
                let others: Vec<String> =
                    Columns::TEXTS[1..].iter().map(|n| format!("`{}`", n.join("` and `"))).collect();
                let missing = || format!("no column `text`, nor {}", others.join(", nor "));
                known.ok_or_else(missing)?.iter().map(|name| name.to_string()).collect()
            }
        };
        let label = match &self.label {
            Some(label) => label.clone(),
            None => {
                let known = Columns::LABELS.iter().find(|name| there(name));
                known.ok_or_else(|| format!("no column `{}`", Columns::LABELS.join("`, nor `")))?.to_string()
            }
        };
        let missing = texts.iter().chain([&label]).find(|name| !has.contains(&name.as_str()));
        match missing {
            Some(name) => Err(format!("no column `{name}`")),
            None => Ok((texts, label)),
        }
    }
}

/// The rows of a file.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub rows: Vec<Row>,
    /// The columns of the texts, then that of the label.
    pub columns: Vec<String>,
    /// Rows that were left out.
    pub skipped: u64,
}

/// Endings of files that can be read.
pub(super) const ENDINGS: [&str; 4] = ["csv", "jsonl", "json", "tsv"];

pub(super) fn error(place: impl std::fmt::Display, message: impl Into<String>) -> TaskError {
    TaskError::Wrong { place: place.to_string(), message: message.into() }
}

impl Rows {
    /// Reads a file.
    pub fn read(path: &Path, columns: &Columns) -> Result<Rows, TaskError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| error(&name, format!("cannot be read: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            error(format!("{name}:{line}"), "is not UTF-8 text; save the file as UTF-8")
        })?;
        let text = without_mark(&text);
        let file = File { name: name.as_str().into(), columns };
        let read = match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => file.csv(text)?,
            Some("jsonl" | "json") => file.json(text)?,
            Some("tsv") => file.tsv(text)?,
            _ => {
                let endings = "a task is a file that ends in .csv, .jsonl or .tsv, or a folder of such files";
                return Err(error(name, endings));
            }
        };
        match read.rows.is_empty() {
            true => Err(error(name, "holds no row with a label")),
            false => Ok(read),
        }
    }
}

/// A file that is read.
struct File<'c> {
    name: Arc<str>,
    columns: &'c Columns,
}

/// Where the texts and the label stand in a row.
struct Places {
    texts: Vec<usize>,
    label: usize,
    /// Their names.
    columns: Vec<String>,
}

impl File<'_> {
    fn at(&self, line: u64, message: impl Into<String>) -> TaskError {
        error(format!("{}:{line}", self.name), message)
    }

    /// Finds columns in the first line.
    fn places(&self, head: &[&str]) -> Result<Places, TaskError> {
        let head: Vec<&str> = head.iter().map(|name| name.trim()).collect();
        let wrong = |message: String| self.at(1, format!("{message}; the first line has: {}", head.join(", ")));
        let (texts, label) = self.columns.among(&head).map_err(wrong)?;
        let place = |name: &String| {
            let mut found = head.iter().enumerate().filter(|(_, has)| *has == name).map(|(i, _)| i);
            match (found.next(), found.next()) {
                (Some(at), None) => Ok(at),
                _ => Err(wrong(format!("two columns `{name}`"))),
            }
        };
        let columns = [texts.clone(), vec![label.clone()]].concat();
        Ok(Places { texts: texts.iter().map(place).collect::<Result<_, _>>()?, label: place(&label)?, columns })
    }

    fn row(&self, line: u64, mut texts: Vec<String>, label: &str) -> Result<Row, TaskError> {
        let label = whole_number(label.trim());
        if label.is_empty() {
            return Err(self.at(line, "`label` is empty; give the row a label, or leave it out"));
        }
        let second = if texts.len() == 2 { texts.pop() } else { None };
        let first = texts.pop().expect("a column of texts");
        Ok(Row { file: self.name.clone(), line, first, second, label: label.into() })
    }

    fn csv(&self, text: &str) -> Result<Rows, TaskError> {
        let wrong = |e: csv::Error| match e.position() {
            Some(position) => self.at(position.line(), e.to_string()),
            None => error(&self.name, e.to_string()),
        };
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().map_err(wrong)?.clone();
        let places = self.places(&head.iter().collect::<Vec<_>>())?;
        let row = |record: Result<csv::StringRecord, csv::Error>| {
            let record = record.map_err(wrong)?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: &usize| record.get(*at).unwrap_or("").to_string();
            self.row(line, places.texts.iter().map(field).collect(), &field(&places.label))
        };
        let rows = reader.records().map(row).collect::<Result<_, _>>()?;
        Ok(Rows { rows, columns: places.columns.clone(), skipped: 0 })
    }

    fn tsv(&self, text: &str) -> Result<Rows, TaskError> {
        let mut lines = text_lines(text);
        let (_, head) = lines.next().unwrap_or_default();
        let places = self.places(&head.split('\t').collect::<Vec<_>>())?;
        let (mut rows, mut skipped) = (vec![], 0);
        for (line, text) in lines.filter(|(_, text)| !text.is_empty()) {
            let fields: Vec<&str> = text.split('\t').collect();
            let texts: Option<Vec<String>> = places.texts.iter().map(|at| Some(fields.get(*at)?.to_string())).collect();
            match (texts, fields.get(places.label).filter(|label| !label.trim().is_empty())) {
                (Some(texts), Some(label)) => rows.push(self.row(line, texts, label)?),
                _ => skipped += 1,
            }
        }
        Ok(Rows { rows, columns: places.columns, skipped })
    }

    fn json(&self, text: &str) -> Result<Rows, TaskError> {
        let mut names: Option<(Vec<String>, String)> = None;
        let mut rows = vec![];
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            let number = i as u64 + 1;
            let wrong = |message: String| {
                self.at(number, format!("{message}; write {{\"text\": \"...\", \"label\": ...}} on one line"))
            };
            let value: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
            let (texts, label) = match &names {
                Some(names) => names,
                None => {
                    let object = value.as_object().ok_or_else(|| wrong("no object".into()))?;
                    let has: Vec<&str> = object.keys().map(String::as_str).collect();
                    names.insert(self.columns.among(&has).map_err(|m| wrong(m.replace("column", "key")))?)
                }
            };
            let string = |name: &String| {
                let text = value[name].as_str().map(str::to_string);
                text.ok_or_else(|| wrong(format!("no string `{name}`")))
            };
            let texts = texts.iter().map(string).collect::<Result<_, _>>()?;
            let label = match &value[label] {
                serde_json::Value::String(label) => label.clone(),
                label @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => label.to_string(),
                _ => return Err(wrong(format!("no `{label}` that is a string, a number or a truth value"))),
            };
            rows.push(self.row(number, texts, &label)?);
        }
        let columns = names.map(|(texts, label)| [texts, vec![label]].concat()).unwrap_or_default();
        Ok(Rows { rows, columns, skipped: 0 })
    }
}

/// A label without the zeros behind a whole number's point: some programs write 1 as 1.0, and both are one class.
fn whole_number(label: &str) -> &str {
    let Some((whole, rest)) = label.split_once('.') else { return label };
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match is_whole && !rest.is_empty() && rest.bytes().all(|b| b == b'0') {
        true if digits == "0" => "0",
        true => whole,
        false => label,
    }
}

/// Lines with their numbers, ended by LF, CR LF or CR, as Python reads a text.
fn text_lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut rest = Some(text);
    let mut number = 0;
    std::iter::from_fn(move || {
        let text = rest.take().filter(|text| !text.is_empty())?;
        let (line, behind) = match text.find(['\n', '\r']) {
            None => (text, None),
            Some(at) => {
                let width = if text[at..].starts_with("\r\n") { 2 } else { 1 };
                (&text[..at], Some(&text[at + width..]))
            }
        };
        rest = behind;
        number += 1;
        Some((number, line))
    })
}
