//! Text in the words of a restricted vocabulary: the pieces that a tokenizer cuts it into, as numbers of the words that
//! are left, and what becomes of the pieces that are not.

use std::collections::HashMap;

use super::pieces::{Pieces, PiecesError};

/// What becomes of a piece outside of the vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutOfVocabulary {
    /// One unknown word in its place.
    #[default]
    Unk,
    /// It is left out.
    Drop,
    /// It is cut again, from its beginning on always into the longest word that fits; an unknown word stands for each
    /// stretch in which none does.
    Split,
}

/// A tokenizer whose pieces become numbers of words.
#[derive(Clone, Debug)]
pub struct RestrictedPieces {
    pieces: Pieces,
    /// Number of each word by its id.
    by_id: HashMap<u32, u32>,
    /// And by its spelling, for what is cut again.
    by_spelling: HashMap<String, u32>,
    /// Characters of the longest word.
    longest: usize,
    policy: OutOfVocabulary,
}

/// A text in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Numbers of words; `None` is an unknown one.
    pub words: Vec<Option<u32>>,
    /// Pieces that the tokenizer cut it into.
    pub pieces: usize,
    /// Those of them that are no words.
    pub outside: usize,
}

impl Mapped {
    /// The share of pieces that are no words; 0 of a text without pieces.
    pub fn share_outside(&self) -> f64 {
        self.outside as f64 / self.pieces.max(1) as f64
    }
}

impl RestrictedPieces {
    /// Words are the tokens with these ids, in their order. Ids that the tokenizer does not have are words that no text
    /// holds.
    pub fn new(pieces: Pieces, ids: &[u32], policy: OutOfVocabulary) -> RestrictedPieces {
        let by_id: HashMap<u32, u32> = ids.iter().copied().zip(0..).collect();
        let spelled = by_id.iter().filter_map(|(id, number)| Some((pieces.piece(*id)?, *number)));
        let by_spelling: HashMap<String, u32> = spelled.collect();
        let longest = by_spelling.keys().map(|word| word.chars().count()).max().unwrap_or(0);
        RestrictedPieces { pieces, by_id, by_spelling, longest, policy }
    }

    /// A text in words.
    ///
    /// # Errors
    /// A text that the tokenizer cannot cut.
    pub fn map(&self, text: &str) -> Result<Mapped, PiecesError> {
        Ok(self.map_ids(&self.pieces.ids(text)?))
    }

    /// Pieces by their ids in words.
    pub fn map_ids(&self, ids: &[u32]) -> Mapped {
        let mut mapped = Mapped { pieces: ids.len(), ..Mapped::default() };
        for id in ids {
            match self.by_id.get(id) {
                Some(number) => mapped.words.push(Some(*number)),
                None => {
                    mapped.outside += 1;
                    self.replace(*id, &mut mapped.words);
                }
            }
        }
        mapped
    }

    fn replace(&self, id: u32, words: &mut Vec<Option<u32>>) {
        match (self.policy, self.pieces.piece(id)) {
            (OutOfVocabulary::Drop, _) => {}
            (OutOfVocabulary::Split, Some(piece)) => words.extend(self.split(&piece)),
            _ => words.push(None),
        }
    }

    fn split(&self, piece: &str) -> Vec<Option<u32>> {
        let characters: Vec<char> = piece.chars().collect();
        let mut made: Vec<Option<u32>> = Vec::new();
        let mut first = 0;
        while first < characters.len() {
            let longest = self.longest.min(characters.len() - first);
            let fitting = (1..=longest).rev().find_map(|length| {
                let word: String = characters[first..first + length].iter().collect();
                self.by_spelling.get(&word).map(|number| (length, *number))
            });
            match fitting {
                Some((length, number)) => {
                    made.push(Some(number));
                    first += length;
                }
                None => {
                    if made.last() != Some(&None) {
                        made.push(None);
                    }
                    first += 1;
                }
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer of whole words, with ids in the order that they are given in.
    fn pieces(folder: &std::path::Path, words: &[&str]) -> Pieces {
        let vocab: serde_json::Map<String, serde_json::Value> =
            words.iter().enumerate().map(|(id, word)| (word.to_string(), id.into())).collect();
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": words[0] },
        });
        let path = folder.join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Pieces::read(&path).unwrap()
    }

    #[test]
    fn pieces_outside_become_what_the_policy_says() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["<unk>", "un", "do", "undo", "undoing", "s", "été", "é"];
        let all = pieces(folder.path(), &words);
        // Words: un, do, undo, s, é.
        let of = |policy| RestrictedPieces::new(all.clone(), &[1, 2, 3, 5, 7], policy);
        let text = "undo undoing s été";
        let map = |policy| of(policy).map(text).unwrap();
        let unk = map(OutOfVocabulary::Unk);
        assert_eq!(unk.words, [Some(2), None, Some(3), None]);
        assert_eq!((unk.pieces, unk.outside, unk.share_outside()), (4, 2, 0.5));
        assert_eq!(map(OutOfVocabulary::Drop).words, [Some(2), Some(3)]);
        // undoing = undo + one unknown stretch; été = é, a stretch, é.
        let split = map(OutOfVocabulary::Split);
        assert_eq!(split.words, [Some(2), Some(2), None, Some(3), Some(4), None, Some(4)]);
        assert_eq!((split.pieces, split.outside), (4, 2));
        assert_eq!(of(OutOfVocabulary::Split).map("").unwrap(), Mapped::default());
        assert_eq!(Mapped::default().share_outside(), 0.0);
        assert_eq!(serde_json::to_string(&OutOfVocabulary::Split).unwrap(), "\"split\"");
    }
}
