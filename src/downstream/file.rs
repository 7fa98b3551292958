//! Tasks from files: JSON lines with the fields `text` and `label`, or CSV with columns of these names (quotes as in
//! RFC 4180). Blanks around a label are no part of it, and a row without one is an error. One file is shuffled and cut
//! into the three parts; a folder has `train`, `validation` and `test` files.

use std::path::{Path, PathBuf};

use super::data::{Named, Sizes, TaskData, TaskError};
use crate::model::Vocabulary;
use crate::random::{Purpose, Stream};
use crate::text::without_mark;

/// The limits that sentences of a file must keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'v> {
    /// The words that the model knows.
    pub vocabulary: &'v Vocabulary,
    /// Words that the model has positions for.
    pub longest: usize,
}

/// Endings of files that can be read.
const ENDINGS: [&str; 3] = ["csv", "jsonl", "json"];

fn error(place: impl std::fmt::Display, message: impl Into<String>) -> TaskError {
    TaskError::Wrong { place: place.to_string(), message: message.into() }
}

impl TaskData {
    /// Reads a file or a folder of three files.
    ///
    /// # Errors
    /// With file and line: what cannot be read, words that the model does not know, sentences that are too long, labels
    /// that are empty; too few rows.
    pub fn of_file(path: &Path, limits: Limits<'_>, seed: u64, sizes: Sizes) -> Result<TaskData, TaskError> {
        let task = path.display().to_string();
        let wanted = [sizes.train, sizes.validation, sizes.test];
        let parts: Vec<Named> = if path.is_dir() {
            let parts = ["train", "validation", "test"].into_iter().zip(wanted).enumerate();
            parts
                .map(|(i, (name, wanted))| {
                    let mut rows = read(&find(path, name)?, limits)?;
                    shuffle(&mut rows, seed, i as u64);
                    rows.truncate(wanted);
                    Ok(rows)
                })
                .collect::<Result<_, TaskError>>()?
        } else {
            let mut rows = read(path, limits)?;
            let total: usize = wanted.iter().sum();
            if rows.len() < total {
                return Err(TaskError::FewRows { file: task, rows: rows.len(), asked: wanted });
            }
            shuffle(&mut rows, seed, 0);
            let mut rest = rows.into_iter();
            wanted.into_iter().map(|n| rest.by_ref().take(n).collect()).collect()
        };
        let longest = parts.iter().flatten().map(|(words, _)| words.len()).max().unwrap_or(0);
        TaskData::numbered(task, parts, longest)
    }
}

fn shuffle(rows: &mut Named, seed: u64, part: u64) {
    let mut stream = Stream::new(seed, Purpose::Downstream, part);
    for i in (1..rows.len()).rev() {
        rows.swap(i, stream.below(i as u32 + 1) as usize);
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, TaskError> {
    let candidates = ENDINGS.map(|ending| folder.join(format!("{name}.{ending}")));
    let found = candidates.into_iter().find(|path| path.exists());
    found.ok_or_else(|| error(folder.display(), format!("has no {name}.csv or {name}.jsonl")))
}

fn read(path: &Path, limits: Limits<'_>) -> Result<Named, TaskError> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| error(&file, format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| error(&file, "is not UTF-8 text"))?;
    let text = without_mark(&text);
    let rows = match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => csv_rows(text, &file)?,
        Some("jsonl" | "json") => json_rows(text, &file)?,
        _ => return Err(error(file, "a task is a file that ends in .csv or .jsonl, or a folder of such files")),
    };
    if rows.is_empty() {
        return Err(error(file, "holds no row"));
    }
    rows.into_iter()
        .map(|(line, text, label)| {
            let place = format!("{file}:{line}");
            let label = label.trim();
            if label.is_empty() {
                return Err(error(place, "`label` is empty; give the row a label, or leave it out"));
            }
            let words = encode(&text, limits).map_err(|message| error(&place, message))?;
            Ok((words, label.to_string()))
        })
        .collect()
}

fn encode(text: &str, limits: Limits<'_>) -> Result<Vec<u32>, String> {
    let number = |word: &str| {
        let unknown = || format!("`{}` is not in the model's vocabulary", word.chars().take(40).collect::<String>());
        limits.vocabulary.number(word).ok_or_else(unknown)
    };
    let words: Vec<u32> = text.split_whitespace().map(number).collect::<Result<_, _>>()?;
    match words.len() {
        0 => Err("a sentence without words".into()),
        n if n > limits.longest => Err(format!("{n} words, the model has positions for {}", limits.longest)),
        _ => Ok(words),
    }
}

/// Line, text and label of each row.
type Rows = Vec<(u64, String, String)>;

fn csv_rows(text: &str, file: &str) -> Result<Rows, TaskError> {
    let wrong = |e: csv::Error| {
        let line = e.position().map_or(String::new(), |p| format!(":{}", p.line()));
        error(format!("{file}{line}"), e.to_string())
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().map_err(wrong)?.clone();
    let column = |name: &str| {
        let found = head.iter().position(|h| h.trim() == name);
        let has = head.iter().collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| error(format!("{file}:1"), format!("no column `{name}`; the first line has: {has}")))
    };
    let (text_at, label_at) = (column("text")?, column("label")?);
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(wrong)?;
        let line = record.position().map_or(0, csv::Position::line);
        let field = |i: usize| record.get(i).unwrap_or("").to_string();
        Ok((line, field(text_at), field(label_at)))
    };
    reader.records().map(row).collect()
}

fn json_rows(text: &str, file: &str) -> Result<Rows, TaskError> {
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    let row = |(i, line): (usize, &str)| {
        let wrong = |message: String| {
            error(
                format!("{file}:{}", i + 1),
                format!("{message}; write {{\"text\": \"...\", \"label\": ...}} on one line"),
            )
        };
        let value: serde_json::Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let text = value["text"].as_str().ok_or_else(|| wrong("no string `text`".into()))?;
        let label = match &value["label"] {
            serde_json::Value::String(label) => label.clone(),
            label @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => label.to_string(),
            _ => return Err(wrong("no `label` that is a string, a number or a truth value".into())),
        };
        Ok((i as u64 + 1, text.to_string(), label))
    };
    lines.map(row).collect()
}
