//! The gradients of single predicted tokens, by examples that have one each.

use crate::curvature::{CurvatureError, Named, Refusal};
use crate::model::{Per, Reach, TokenCount, single_tokens};
use crate::ops::batch::Sentence;

impl Named for Per {
    const ALL: &'static [Per] = &[Per::Example, Per::Token];

    fn name(self) -> &'static str {
        match self {
            Per::Example => "example",
            Per::Token => "token",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Per::Example => "Gradients of examples' losses, summed over their predicted tokens",
            Per::Token => {
                "Gradients of single predicted tokens, each on its prefix (a mask: on its sentence), so that a \
                sentence of T next words costs about (T + 1) / 2 norms of its own; errors are those over sentences"
            }
        }
    }
}

/// Tokens of all single examples together at most: all stay in the host's memory.
const MOST: u64 = 1 << 27;

/// The examples with one predicted token each, and how much they are; `None` where they are so already.
///
/// # Errors
/// More tokens than fit.
pub fn split_tokens(
    sentences: &[Sentence],
    reach: Reach,
) -> Result<Option<(TokenCount, Vec<Sentence>)>, CurvatureError> {
    if sentences.iter().all(|s| s.masked.len() == 1) {
        return Ok(None);
    }
    let count = TokenCount::of(sentences, reach);
    match count.tokens > MOST {
        true => Err(Refusal::ManyTokens { gradients: count.gradients, tokens: count.tokens, most: MOST }.into()),
        false => Ok(Some((count, single_tokens(sentences, reach)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_memory_holds_is_refused_with_its_size() {
        let masked = (0..20_000).map(|t| (t, 4)).collect();
        let long = Sentence { ids: vec![4; 20_000], masked, ..Sentence::default() };
        let error = split_tokens(&[long], Reach::Past).unwrap_err().to_string();
        assert!(error.contains("200010000 tokens") && error.contains("134217728"), "{error}");
    }
}
