//! Single predicted tokens as examples of their own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reach;
use crate::ops::batch::Sentence;

/// Whose gradients the noise is that of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Whole examples: of their losses, summed over the predicted tokens.
    #[default]
    Example,
    /// Single predicted tokens. Those of one example hang together: standard errors are those over examples.
    Token,
}

impl Per {
    /// Whether it is what is not said.
    pub fn is_example(&self) -> bool {
        *self == Per::Example
    }
}

/// What single tokens take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCount {
    /// Examples that they come from.
    pub examples: usize,
    /// Predicted tokens: a gradient each.
    pub gradients: usize,
    /// Tokens of the examples.
    pub before: u64,
    /// Tokens of the examples that have one predicted token each.
    pub tokens: u64,
}

impl TokenCount {
    /// Of examples of a model with some reach.
    pub fn of(sentences: &[Sentence], reach: Reach) -> TokenCount {
        let own = |s: &Sentence| s.masked.iter().map(|(position, _)| seen(s, *position, reach) as u64).sum::<u64>();
        TokenCount {
            examples: sentences.len(),
            gradients: sentences.iter().map(|s| s.masked.len()).sum(),
            before: sentences.iter().map(|s| s.ids.len() as u64).sum(),
            tokens: sentences.iter().map(own).sum(),
        }
    }

    /// How many times the tokens of the examples.
    pub fn times(&self) -> f64 {
        self.tokens as f64 / self.before as f64
    }
}

/// Tokens of a sentence that the prediction at a position sees.
fn seen(sentence: &Sentence, position: u32, reach: Reach) -> usize {
    match (sentence.masked.len(), reach) {
        (2.., Reach::Past) => position as usize + 1,
        _ => sentence.ids.len(),
    }
}

/// An example for each predicted token, in order. Of a model that sees the past it ends with the token that it is
/// predicted from; of one that sees the sentence it is the sentence with one of its labels, the other masks in place.
/// An example with one predicted token stays as it is.
pub fn single_tokens(sentences: &[Sentence], reach: Reach) -> Vec<Sentence> {
    let one = |s: &Sentence, number: usize| {
        let label = s.masked[number];
        let end = seen(s, label.0, reach);
        let prefix = |values: &[u32]| values[..end.min(values.len())].to_vec();
        Sentence {
            ids: prefix(&s.ids),
            segments: prefix(&s.segments),
            positions: prefix(&s.positions),
            masked: vec![label],
            soft: s.soft.get(number).cloned().into_iter().collect(),
            padding: s.padding.saturating_sub((s.ids.len() - end) as u32),
            key: s.key,
        }
    };
    sentences.iter().flat_map(|s| (0..s.masked.len()).map(move |number| one(s, number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence() -> Sentence {
        Sentence {
            ids: vec![0, 5, 6, 7, 2],
            positions: vec![2, 3, 4, 5, 6],
            masked: vec![(0, 5), (2, 7)],
            padding: 1,
            ..Sentence::default()
        }
    }

    #[test]
    fn a_prefix_ends_where_its_token_is_predicted() {
        let made = single_tokens(&[sentence()], Reach::Past);
        assert_eq!(made.iter().map(|s| s.ids.len()).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((&made[1].ids[..], &made[1].positions[..], made[1].padding), (&[0, 5, 6][..], &[2, 3, 4][..], 0));
        assert_eq!(made.iter().map(|s| s.masked[0]).collect::<Vec<_>>(), [(0, 5), (2, 7)]);
        let count = TokenCount::of(&[sentence()], Reach::Past);
        assert_eq!(count, TokenCount { examples: 1, gradients: 2, before: 5, tokens: 4 });
    }

    #[test]
    fn a_mask_keeps_its_sentence_and_one_token_alone_stays_as_it_is() {
        let made = single_tokens(&[sentence()], Reach::Sentence);
        assert!(made.iter().all(|s| s.ids == sentence().ids && s.padding == 1 && s.masked.len() == 1));
        let alone = Sentence { masked: vec![(1, 6)], ..sentence() };
        let made = single_tokens(std::slice::from_ref(&alone), Reach::Past);
        assert_eq!((&made[0].ids, &made[0].masked), (&alone.ids, &alone.masked));
    }
}
