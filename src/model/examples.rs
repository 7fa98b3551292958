//! Examples as JSON lines, one tokenised example per line, the mask token already in place, in either of two forms:
//! `{"input_ids": [...], "masked_positions": [t, ...], "labels":
//! [y, ...]}`, or as a collator of `transformers` makes them, `{"input_ids": [...], "labels": [...], "attention_mask":
//! [...]}` with a label for every token, -100 where nothing is predicted. Both may have an `attention_mask` and
//! `token_type_ids`.
//!
//! A token with attention 0 is left out: nothing attends to it, so that it has no influence on any other. What is left
//! keeps the rows of the position table that `transformers` gives them: with BERT the place in the line, with RoBERTa
//! the number of tokens up to there that are not the pad token, which itself has a row of its own. Without an
//! `attention_mask`, pad tokens at either end are padding.
//!
//! A collator may put the pad token, as any other, in the place of a masked word. Its loss is that of `transformers`;
//! in a gradient its rows take part here, while torch leaves them out (`padding_idx`).

use std::path::Path;

use serde::Deserialize;

use super::config::ModelConfig;
use crate::ops::batch::Sentence;
use crate::text::without_mark;

/// What is wrong with a file of examples, and where.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}{}: {message}", .line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct ExampleError {
    /// The file of examples.
    pub file: String,
    /// Counted from 1; `None` where the file as a whole is wrong.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    input_ids: Vec<u32>,
    masked_positions: Option<Vec<u32>>,
    labels: Vec<i64>,
    attention_mask: Option<Vec<u32>>,
    #[serde(default)]
    token_type_ids: Vec<u32>,
}

/// A label where nothing is predicted.
const IGNORED: i64 = -100;

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
    for (i, line) in without_mark(text).lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let error = |message: String| ExampleError { file: file.into(), line: Some(i + 1), message };
        let example: Example = serde_json::from_str(line).map_err(|e| {
            error(format!(
                "{e}; an example is {{\"input_ids\":[...],\"masked_positions\":[t,...],\"labels\":[y,...]}} on one \
                 line, or {{\"input_ids\":[...],\"labels\":[...],\"attention_mask\":[...]}} with a label for each \
                 token, {IGNORED} where nothing is predicted"
            ))
        })?;
        sentences.push(example.sentence(config).map_err(error)?);
    }
    match sentences.is_empty() {
        true => Err(ExampleError { file: file.into(), line: None, message: "holds no example".into() }),
        false => Ok(sentences),
    }
}

impl Example {
    /// The tokens that are attended to, with what is predicted among them.
    fn sentence(&self, config: &ModelConfig) -> Result<Sentence, String> {
        let Example { input_ids, attention_mask, token_type_ids, .. } = self;
        let tokens = input_ids.len();
        let predicted = self.predicted()?;
        let as_long = |name: &str, has: usize| match has == tokens {
            true => Ok(()),
            false => Err(format!("{has} {name} and {tokens} input_ids")),
        };
        if !token_type_ids.is_empty() {
            as_long("token_type_ids", token_type_ids.len())?;
        }
        if let Some(mask) = attention_mask {
            as_long("attention_mask", mask.len())?;
            if let Some(other) = mask.iter().find(|m| **m > 1) {
                return Err(format!("attention_mask {other}; it is 1 or 0"));
            }
        }
        let vocabulary = config.vocab_size;
        if let Some(id) = input_ids.iter().chain(predicted.iter().map(|(_, y)| y)).find(|id| **id >= vocabulary) {
            return Err(format!("token {id} is not in the vocabulary of {vocabulary}"));
        }
        if let Some(segment) = token_type_ids.iter().find(|s| **s >= config.type_vocab_size) {
            return Err(format!("token type {segment}, the model has {}", config.type_vocab_size));
        }
        let kept = self.attended(config.pad_token_id)?;
        let positions = self.positions(config, &kept)?;
        let masked = predicted.into_iter().map(|(position, label)| match kept.binary_search(&position) {
            Ok(at) => Ok((at as u32, label)),
            Err(_) if attention_mask.is_some() => {
                Err(format!("position {position} is predicted, and its attention_mask is 0"))
            }
            Err(_) => Err(format!("position {position} is predicted, and is padding")),
        });
        let of_kept = |values: &[u32]| kept.iter().filter_map(|p| values.get(*p).copied()).collect();
        Ok(Sentence {
            masked: masked.collect::<Result<_, _>>()?,
            ids: of_kept(input_ids),
            segments: of_kept(token_type_ids),
            positions,
            ..Sentence::default()
        })
    }

    /// Positions in the line and their labels.
    fn predicted(&self) -> Result<Vec<(usize, u32)>, String> {
        let Example { input_ids, masked_positions, labels, .. } = self;
        let tokens = input_ids.len();
        let label = |y: i64| {
            u32::try_from(y).map_err(|_| match masked_positions {
                Some(_) => format!("label {y} is no token"),
                None => format!("label {y} is no token; where nothing is predicted it is {IGNORED}"),
            })
        };
        let Some(positions) = masked_positions else {
            if labels.len() != tokens {
                return Err(format!(
                    "{} labels and {tokens} input_ids; without masked_positions each token has a label, {IGNORED} \
                     where nothing is predicted",
                    labels.len()
                ));
            }
            let found = labels.iter().enumerate().filter(|(_, y)| **y != IGNORED);
            let found: Vec<(usize, u32)> = found.map(|(p, y)| Ok((p, label(*y)?))).collect::<Result<_, String>>()?;
            return match found.is_empty() {
                true => Err(format!("all labels are {IGNORED}: its loss would be empty")),
                false => Ok(found),
            };
        };
        if positions.len() != labels.len() {
            return Err(format!("{} masked positions and {} labels", positions.len(), labels.len()));
        }
        if positions.is_empty() {
            return Err("no masked position: its loss would be empty".into());
        }
        if let Some(p) = positions.iter().find(|p| **p as usize >= tokens) {
            return Err(format!("masked position {p} of {tokens} tokens"));
        }
        let mut sorted = positions.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|w| w[0] == w[1]) {
            return Err("a position is masked twice".into());
        }
        positions.iter().zip(labels).map(|(p, y)| Ok((*p as usize, label(*y)?))).collect()
    }

    /// Positions of the tokens that are attended to, in order.
    fn attended(&self, pad: Option<u32>) -> Result<Vec<usize>, String> {
        let ids = &self.input_ids;
        let kept: Vec<usize> = match &self.attention_mask {
            Some(mask) => (0..ids.len()).filter(|p| mask[*p] == 1).collect(),
            None => {
                let first = ids.iter().position(|id| Some(*id) != pad).unwrap_or(ids.len());
                let end = ids.iter().rposition(|id| Some(*id) != pad).map_or(first, |last| last + 1);
                (first..end).collect()
            }
        };
        if kept.is_empty() {
            return Err("no token but padding".into());
        }
        match (kept.iter().find(|p| Some(ids[**p]) == pad), &self.attention_mask) {
            (Some(p), None) => Err(format!(
                "the pad token {} stands at position {p}, before the end; give an attention_mask that says whether it \
                 is attended to",
                ids[*p]
            )),
            _ => Ok(kept),
        }
    }

    /// Rows of the position table, empty where they are those of a sentence without padding.
    fn positions(&self, config: &ModelConfig, kept: &[usize]) -> Result<Vec<u32>, String> {
        let first = config.first_position() as usize;
        let rows: Vec<usize> = match first {
            0 => kept.to_vec(),
            // Counted over all that is not the pad token, attended to or not.
            _ => {
                let mut next = first;
                let row = |id: &u32| match Some(*id) == config.pad_token_id {
                    true => first - 1,
                    false => {
                        next += 1;
                        next - 1
                    }
                };
                let rows: Vec<usize> = self.input_ids.iter().map(row).collect();
                kept.iter().map(|p| rows[*p]).collect()
            }
        };
        let longest = config.longest() as usize;
        let tokens = (rows.iter().max().copied().unwrap_or(0) + 1).saturating_sub(first);
        if tokens > longest {
            return Err(format!("{tokens} tokens, the model has positions for {longest}"));
        }
        let usual = rows.iter().enumerate().all(|(i, row)| *row == first + i);
        Ok(if usual { vec![] } else { rows.into_iter().map(|row| row as u32).collect() })
    }
}
