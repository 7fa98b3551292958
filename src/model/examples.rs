//! Examples as JSON lines, one tokenised example per line, the mask token already in place, in either of two forms:
//! `{"input_ids": [...], "masked_positions": [t, ...], "labels":
//! [y, ...]}`, or as a collator of `transformers` makes them, `{"input_ids": [...], "labels": [...], "attention_mask":
//! [...]}` with a label for every token, -100 where nothing is predicted. Both may have an `attention_mask` and
//! `token_type_ids`.
//!
//! With `masked_positions` the label y is predicted in the row of token t, whatever the model. A collator's labels
//! belong to the tokens where they stand: a model that sees a whole sentence predicts them there, a causal one
//! ([`Reach::Past`]) from the tokens before, as `transformers` shifts them; they may then be left out, and every
//! token but the first is predicted. The first token that is attended to has none before it: its label counts for
//! nothing. (`transformers` predicts it from padding, where there is padding before it and its label is not -100.)
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
use super::family::Reach;
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
    labels: Option<Vec<i64>>,
    attention_mask: Option<Vec<u32>>,
    #[serde(default)]
    token_type_ids: Vec<u32>,
}

/// A label where nothing is predicted.
const IGNORED: i64 = -100;

/// Labels of the positions that are listed, and those positions.
fn at_positions(positions: &[u32], labels: &[i64], tokens: usize) -> Result<Vec<(usize, u32)>, String> {
    if positions.len() != labels.len() {
        return Err(format!("{} masked positions and {} labels", positions.len(), labels.len()));
    }
    if positions.is_empty() {
        return Err("no masked position: its loss would be empty".into());
    }
    if let Some(p) = positions.iter().find(|p| **p as usize >= tokens) {
        return Err(format!("masked position {p} of {tokens} tokens"));
    }
    let mut sorted = positions.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|w| w[0] == w[1]) {
        return Err("a position is masked twice".into());
    }
    let label = |y: i64| u32::try_from(y).map_err(|_| format!("label {y} is no token"));
    positions.iter().zip(labels).map(|(p, y)| Ok((*p as usize, label(*y)?))).collect()
}

/// Labels as a collator makes them, one a token, with the positions of those that are there.
fn of_tokens(labels: &[i64], tokens: usize) -> Result<Vec<(usize, u32)>, String> {
    if labels.len() != tokens {
        return Err(format!(
            "{} labels and {tokens} input_ids; without masked_positions each token has a label, {IGNORED} where \
             nothing is predicted",
            labels.len()
        ));
    }
    let label = |y: i64| {
        u32::try_from(y).map_err(|_| format!("label {y} is no token; where nothing is predicted it is {IGNORED}"))
    };
    let found = labels.iter().enumerate().filter(|(_, y)| **y != IGNORED);
    let found: Vec<(usize, u32)> = found.map(|(p, y)| Ok((p, label(*y)?))).collect::<Result<_, String>>()?;
    match found.is_empty() {
        true => Err(format!("all labels are {IGNORED}: its loss would be empty")),
        false => Ok(found),
    }
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
    for (i, line) in without_mark(text).lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let error = |message: String| ExampleError { file: file.into(), line: Some(i + 1), message };
        let example: Example = serde_json::from_str(line).map_err(|e| {
            error(format!(
                "{e}; an example is {{\"input_ids\":[...],\"masked_positions\":[t,...],\"labels\":[y,...]}} on one \
                 line, or {{\"input_ids\":[...],\"labels\":[...],\"attention_mask\":[...]}} with a label for each \
                 token, {IGNORED} where nothing is predicted (a causal model needs no labels)"
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
        let Example { input_ids, masked_positions, attention_mask, token_type_ids, .. } = self;
        let tokens = input_ids.len();
        let causal = config.reach() == Reach::Past && masked_positions.is_none();
        let labelled = match (masked_positions, &self.labels) {
            (Some(positions), Some(labels)) => Some(at_positions(positions, labels, tokens)?),
            (Some(_), None) => return Err("masked_positions and no labels".into()),
            (None, Some(labels)) => Some(of_tokens(labels, tokens)?),
            (None, None) if causal => None,
            (None, None) => {
                return Err(
                    "no labels; only a model that reads in one direction predicts every next token without".into()
                );
            }
        };
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
        let labels = labelled.iter().flatten().map(|(_, y)| y);
        if let Some(id) = input_ids.iter().chain(labels).find(|id| **id >= vocabulary) {
            return Err(format!("token {id} is not in the vocabulary of {vocabulary}"));
        }
        if config.kind.is_causal() && !token_type_ids.is_empty() {
            return Err(format!("token_type_ids: a model of type {} has no table of them here", config.kind.name()));
        }
        if let Some(segment) = token_type_ids.iter().find(|s| **s >= config.type_vocab_size) {
            return Err(format!("token type {segment}, the model has {}", config.type_vocab_size));
        }
        let kept = self.attended(config.pad_token_id)?;
        let positions = config.position_rows(input_ids, &kept)?;
        let every_token = || kept.iter().map(|p| (*p, input_ids[*p])).collect();
        let labelled: Vec<(usize, u32)> = labelled.unwrap_or_else(every_token);
        let masked: Vec<(u32, u32)> = match causal {
            true => self.shifted(&labelled, &kept)?,
            false => {
                let place = |(position, y): &(usize, u32)| Ok((self.place(*position, &kept)? as u32, *y));
                labelled.iter().map(place).collect::<Result<_, String>>()?
            }
        };
        let of_kept = |values: &[u32]| kept.iter().filter_map(|p| values.get(*p).copied()).collect();
        Ok(Sentence {
            masked,
            ids: of_kept(input_ids),
            segments: of_kept(token_type_ids),
            positions,
            ..Sentence::default()
        })
    }

    /// Place of a position with a label among those that are attended to.
    fn place(&self, position: usize, kept: &[usize]) -> Result<usize, String> {
        kept.binary_search(&position).map_err(|_| match self.attention_mask {
            Some(_) => format!("position {position} is predicted, and its attention_mask is 0"),
            None => format!("position {position} is predicted, and is padding"),
        })
    }

    /// The rows that predict the tokens with these labels, each the one before its token's.
    fn shifted(&self, labelled: &[(usize, u32)], kept: &[usize]) -> Result<Vec<(u32, u32)>, String> {
        let mut masked = Vec::with_capacity(labelled.len());
        for (position, label) in labelled {
            let place = self.place(*position, kept)?;
            match place.checked_sub(1) {
                None => {}
                Some(before) if kept[before] + 1 == *position => masked.push((before as u32, *label)),
                Some(_) => {
                    let before = position - 1;
                    return Err(format!(
                        "position {position} is predicted from position {before}, whose attention_mask is 0"
                    ));
                }
            }
        }
        match masked.is_empty() {
            true => Err("no token but the first is predicted, from none before it: its loss would be empty".into()),
            false => Ok(masked),
        }
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
}

impl ModelConfig {
    /// Rows of the position table of those tokens of `ids` that are attended to (`kept`), empty where they are those of
    /// a sentence without padding.
    pub(crate) fn position_rows(&self, ids: &[u32], kept: &[usize]) -> Result<Vec<u32>, String> {
        let first = self.first_position() as usize;
        let rows: Vec<usize> = match first {
            0 => kept.to_vec(),
            // OPT counts what is attended to.
            _ if !self.kind.counts_from_pad() => (first..first + kept.len()).collect(),
            // Counted over all that is not the pad token, attended to or not.
            _ => {
                let mut next = first;
                let row = |id: &u32| match Some(*id) == self.pad_token_id {
                    true => first - 1,
                    false => {
                        next += 1;
                        next - 1
                    }
                };
                let rows: Vec<usize> = ids.iter().map(row).collect();
                kept.iter().map(|p| rows[*p]).collect()
            }
        };
        let longest = self.longest() as usize;
        let tokens = (rows.iter().max().copied().unwrap_or(0) + 1).saturating_sub(first);
        if tokens > longest {
            return Err(format!("{tokens} tokens, the model has positions for {longest}"));
        }
        let usual = rows.iter().enumerate().all(|(i, row)| *row == first + i);
        Ok(if usual { vec![] } else { rows.into_iter().map(|row| row as u32).collect() })
    }
}
