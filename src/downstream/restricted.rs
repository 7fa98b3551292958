//! Texts in the words of a language that a model generated: cut into pieces by the generating model's tokenizer, of
//! which the language has some. A pair is `<s> first </s> second </s>`, all of one token type, since a model of single
//! sentences has learned no other.

use super::data::{Losses, TaskData, TaskError};
use super::file::{Encoded, TaskTexts};
use super::rows::Row;
use crate::model::{Reach, TokenIds};
use crate::ops::batch::Sentence;
use crate::text::{RestrictedPieces, longest_first};

/// How a model is fed with texts in a language's words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'p> {
    /// What cuts a text into words.
    pub pieces: &'p RestrictedPieces,
    /// The model's ids of the words and of what stands around a sentence.
    pub tokens: &'p TokenIds,
    /// The model's row for a piece that is no word.
    pub unknown: u32,
    /// What the model has seen at a token.
    pub reach: Reach,
    /// Tokens that a text or a pair may have, special ones included.
    pub max_tokens: usize,
}

impl TaskData<Sentence> {
    /// Cuts texts into words. Its `unknown_share` is that of the pieces that are no words, whatever stands for them.
    ///
    /// # Errors
    /// With the row: a text that the tokenizer cannot cut. A length without room for a word.
    pub fn of_restricted(texts: TaskTexts, words: Words<'_>) -> Result<TaskData<Sentence>, TaskError> {
        let special = if texts.has_pairs() { 3 } else { 2 };
        if words.max_tokens <= special {
            let message = format!("{} tokens leave no room for words beside {special} special ones", words.max_tokens);
            return Err(TaskError::Wrong { place: texts.task.clone(), message });
        }
        let (data, losses) = texts.encode(|row| words.sentence(row))?;
        Ok(TaskData { losses: Some(Losses { max_tokens: words.max_tokens, ..losses }), ..data })
    }
}

impl Words<'_> {
    fn sentence(&self, row: &Row) -> Result<Encoded<Sentence>, String> {
        let (mut pieces, mut unknown) = (0, 0);
        let mut texts: Vec<Vec<u32>> = Vec::with_capacity(2);
        for text in std::iter::once(&row.first).chain(&row.second) {
            let mapped = self.pieces.map(text).map_err(|e| e.to_string())?;
            pieces += mapped.pieces;
            unknown += mapped.outside;
            texts.push(mapped.words.iter().map(|w| w.map_or(self.unknown, |w| self.tokens.word(w))).collect());
        }
        let room = self.max_tokens - texts.len() - 1;
        let truncated = shorten(&mut texts, room);
        let around = self.tokens.classified(&[], 0, self.reach).ids;
        let [bos, eos] = around[..] else { return Err("the language's sentences have no frame".into()) };
        let mut ids = vec![bos];
        for text in texts {
            ids.extend(text);
            ids.push(eos);
        }
        let length = ids.len();
        let at = match self.reach {
            Reach::Sentence => 0,
            Reach::Past => length as u32 - 1,
        };
        let sentence = Sentence { ids, masked: vec![(at, 0)], ..Sentence::default() };
        Ok(Encoded { sentence, length, pieces, unknown, truncated })
    }
}

/// Takes words off the ends of a text or a pair, as [`longest_first`] says, until no more than `room` are left; whether
/// any were.
fn shorten(texts: &mut [Vec<u32>], room: usize) -> bool {
    let length = |i: usize| texts.get(i).map_or(0, Vec::len);
    let lengths = [length(0), length(1)];
    let kept = longest_first(lengths, room);
    texts.iter_mut().zip(kept).for_each(|(text, kept)| text.truncate(kept));
    kept != lengths
}

#[cfg(test)]
mod tests {
    use super::shorten;

    #[test]
    fn the_longer_text_gives_way_first() {
        let mut pair = vec![vec![1, 2, 3, 4, 5], vec![6, 7, 8]];
        assert!(!shorten(&mut pair.clone(), 8));
        assert!(shorten(&mut pair, 5));
        assert_eq!(pair, [vec![1, 2, 3], vec![6, 7]]);
    }
}
