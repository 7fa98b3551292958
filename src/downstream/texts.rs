//! Texts as a model is fed with them: cut into pieces by its own tokenizer, with the special tokens and the segments
//! that the tokenizer's post-processor gives a text or a pair.
//!
//! A classifier reads the first token, or the last of a model that reads in one direction: the last of the text, since
//! nothing is put behind it but what the post-processor puts there, and no padding is fed (`transformers`' classifiers
//! of decoders read the last token that is no padding).

use super::data::{Losses, TaskData, TaskError};
use super::file::{Encoded, TaskTexts};
use super::rows::Row;
use crate::model::{ModelConfig, Reach};
use crate::ops::batch::Sentence;
use crate::text::{Framing, Pieces, PiecesError};

impl TaskData<Sentence> {
    /// Cuts texts into pieces, of which a model may have up to `max_tokens` with special tokens.
    ///
    /// # Errors
    /// With the row: pieces that the model has no row for; a text without a token.
    pub fn of_texts(
        texts: TaskTexts,
        pieces: &Pieces,
        config: &ModelConfig,
        max_tokens: usize,
    ) -> Result<TaskData<Sentence>, TaskError> {
        let wrong = |e: PiecesError| TaskError::Wrong { place: texts.task.clone(), message: e.to_string() };
        let framing = pieces.framing(max_tokens).map_err(wrong)?;
        let (data, losses) = texts.encode(|row| sentence(&framing, pieces, config, row))?;
        Ok(TaskData { losses: Some(Losses { max_tokens, ..losses }), ..data })
    }
}

fn sentence(framing: &Framing, pieces: &Pieces, config: &ModelConfig, row: &Row) -> Result<Encoded<Sentence>, String> {
    let framed = framing.frame(&row.first, row.second.as_deref()).map_err(|e| e.to_string())?;
    let length = framed.ids.len();
    if length == 0 {
        return Err("a text without a token: the tokenizer puts nothing around it".into());
    }
    if let Some(id) = framed.ids.iter().find(|id| **id >= config.vocab_size) {
        let spelling = pieces.piece(*id).unwrap_or_default();
        let rows = config.vocab_size;
        return Err(format!("`{spelling}` has the id {id} in the tokenizer, the model has rows for {rows} tokens"));
    }
    // A table of one segment tells nothing apart, and decoders have none.
    let segments = match config.kind.is_causal() || config.type_vocab_size < 2 {
        true => vec![],
        false => framed.segments,
    };
    if let Some(segment) = segments.iter().find(|segment| **segment >= config.type_vocab_size) {
        return Err(format!("token type {segment}, the model has {}", config.type_vocab_size));
    }
    let every: Vec<usize> = (0..length).collect();
    let at = match config.reach() {
        Reach::Sentence => 0,
        Reach::Past => length as u32 - 1,
    };
    let positions = config.position_rows(&framed.ids, &every)?;
    let sentence = Sentence { ids: framed.ids, segments, positions, masked: vec![(at, 0)], ..Sentence::default() };
    Ok(Encoded { sentence, length, pieces: framed.pieces, unknown: framed.unknown, truncated: framed.truncated })
}
