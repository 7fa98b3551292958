//! Examples as JSON lines: `{"input_ids": [...], "masked_positions": [t, ...], "labels": [y, ...]}`, the mask token already
//! in place, optionally with `"token_type_ids"`.

use std::path::Path;

use serde::Deserialize;

use super::config::ModelConfig;
use crate::ops::batch::Sentence;

/// What is wrong with a file of examples, and where.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}{}: {message}", .line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct ExampleError {
    pub file: String,
    pub line: Option<usize>,
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    input_ids: Vec<u32>,
    masked_positions: Vec<u32>,
    labels: Vec<u32>,
    #[serde(default)]
    token_type_ids: Vec<u32>,
}

/// Reads a file of examples for a model.
pub fn read_examples(path: &Path, config: &ModelConfig) -> Result<Vec<Sentence>, ExampleError> {
    let file = path.display().to_string();
    let error = |message: String| ExampleError { file: file.clone(), line: None, message };
    let bytes = std::fs::read(path).map_err(|e| error(format!("cannot be read: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|_| error("is not UTF-8 text".into()))?;
    parse_examples(&text, &file, config)
}

/// Parses examples; `file` is named in errors.
pub fn parse_examples(text: &str, file: &str, config: &ModelConfig) -> Result<Vec<Sentence>, ExampleError> {
    let mut sentences = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let error = |message: String| ExampleError { file: file.into(), line: Some(i + 1), message };
        let example: Example = serde_json::from_str(line).map_err(|e| {
            error(format!(
                "{e}; an example is {{\"input_ids\":[...],\"masked_positions\":[t,...],\"labels\":[y,...]}} on one line"
            ))
        })?;
        sentences.push(check(example, config).map_err(error)?);
    }
    match sentences.is_empty() {
        true => Err(ExampleError { file: file.into(), line: None, message: "holds no example".into() }),
        false => Ok(sentences),
    }
}

fn check(example: Example, config: &ModelConfig) -> Result<Sentence, String> {
    let Example { mut input_ids, masked_positions, labels, mut token_type_ids } = example;
    if masked_positions.len() != labels.len() {
        return Err(format!("{} masked positions and {} labels", masked_positions.len(), labels.len()));
    }
    if masked_positions.is_empty() {
        return Err("no masked position: its loss would be empty".into());
    }
    if !token_type_ids.is_empty() && token_type_ids.len() != input_ids.len() {
        return Err(format!("{} token_type_ids and {} input_ids", token_type_ids.len(), input_ids.len()));
    }
    // Padding at the end is cut off, as an attention mask would.
    while input_ids.last() == Some(&config.pad_token_id) {
        input_ids.pop();
    }
    token_type_ids.truncate(input_ids.len());
    let tokens = input_ids.len();
    if tokens > config.longest() as usize {
        return Err(format!("{tokens} tokens, the model has positions for {}", config.longest()));
    }
    if let Some(p) = input_ids.iter().position(|id| *id == config.pad_token_id) {
        return Err(format!("the pad token {} stands at position {p}, before the end", config.pad_token_id));
    }
    let vocabulary = config.vocab_size;
    if let Some(id) = input_ids.iter().chain(&labels).find(|id| **id >= vocabulary) {
        return Err(format!("token {id} is not in the vocabulary of {vocabulary}"));
    }
    if let Some(segment) = token_type_ids.iter().find(|s| **s >= config.type_vocab_size) {
        return Err(format!("token type {segment}, the model has {}", config.type_vocab_size));
    }
    if let Some(p) = masked_positions.iter().find(|p| **p as usize >= tokens) {
        return Err(format!("masked position {p} of {tokens} tokens"));
    }
    let mut sorted = masked_positions.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|w| w[0] == w[1]) {
        return Err("a position is masked twice".into());
    }
    let masked = masked_positions.into_iter().zip(labels).collect();
    Ok(Sentence { ids: input_ids, segments: token_type_ids, masked, ..Sentence::default() })
}
