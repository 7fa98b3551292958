//! Text as a language: examples of a corpus by number, each pass over it in another order, held-out documents apart.
//!
//! Which documents are held out follows from their numbers alone, one at a random place of every 1 / share of them, so
//! that it is the same for every seed and no run trains on what another is evaluated on.

use std::sync::Arc;

use super::{Language, NoTruth, Truth, Words};
use crate::random::{permuted, philox};
use crate::text::{Pieces, Shape, Specials, TextError, TextFiles, Tokenized};

/// A corpus of text under a tokenizer: its words are the tokens.
pub struct Text {
    pieces: Pieces,
    specials: Specials,
    spellings: Vec<String>,
    examples: Tokenized,
    /// What stands around each example.
    around: Around,
    length: usize,
    notes: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Around {
    before: Vec<u32>,
    behind: Vec<u32>,
}

/// How a corpus is cut into examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cutting {
    /// Tokens that a model is fed at most, special ones included.
    pub length: usize,
    /// Whether examples are cut out of one stream of all documents.
    pub pack: bool,
    /// The share of documents that is held out.
    pub held_out: f64,
    /// Whether words are masked, so that special tokens stand around each example as around a text; else around each
    /// document.
    pub masked: bool,
}

/// Why nothing is known of a text's probabilities.
const NO_TRUTH: NoTruth = NoTruth("text has no known truth: what could have stood there is not known, only what did");

impl Text {
    /// Reads a corpus; its tokens are made where the cache does not have them, `watch` being told how many bytes of how
    /// many are done.
    ///
    /// # Errors
    /// Files or a tokenizer that cannot be used, a cache that cannot be written, an interrupt.
    pub fn open(
        files: &TextFiles,
        pieces: Arc<Pieces>,
        cutting: &Cutting,
        watch: &dyn Fn(u64, u64),
    ) -> Result<Text, TextError> {
        let specials = Specials::of(&pieces)?;
        let mut notes = Vec::new();
        let end: Vec<u32> = specials.end().into_iter().collect();
        if end.is_empty() {
            notes.push(format!(
                "{}: names no token for the end of a document; documents follow on one another without one",
                pieces.path().display()
            ));
        }
        let around = match cutting.masked {
            true => Around { before: specials.before.clone(), behind: specials.behind.clone() },
            false => Around::default(),
        };
        let own = around.before.len() + around.behind.len();
        let room = cutting.length.saturating_sub(own).max(1);
        let shape = Shape {
            before: if cutting.masked { vec![] } else { specials.before.clone() },
            behind: if cutting.masked && !cutting.pack { vec![] } else { end },
            length: room,
            // A next token needs one before it; and a masked one is to be none that ends a document.
            least: if cutting.masked && !cutting.pack { 1 } else { 2 },
            pack: cutting.pack,
            held_out: cutting.held_out,
        };
        let chosen = |document| held_out(document, cutting.held_out);
        let examples = files.tokens(&pieces, &shape, &chosen, watch)?;
        let spellings = (0..pieces.size()).map(|id| pieces.piece(id).unwrap_or_default()).collect();
        let pieces = Arc::unwrap_or_clone(pieces);
        Ok(Text { pieces, specials, spellings, examples, around, length: cutting.length, notes })
    }

    /// The tokenizer.
    pub fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// Its special tokens.
    pub fn specials(&self) -> &Specials {
        &self.specials
    }

    /// The tokens.
    pub fn examples(&self) -> &Tokenized {
        &self.examples
    }

    fn example(&self, part: &crate::text::Part, seed: u64, index: u64) -> Words {
        let n = part.examples();
        let words = part.example(permuted(seed, index / n, index % n, n));
        // Nobody else writes there, and the file was whole when the corpus was opened.
        let words = words.unwrap_or_else(|error| panic!("tokens that were there cannot be read: {error}"));
        [self.around.before.as_slice(), &words, &self.around.behind].concat()
    }
}

/// Whether a document is held out: one at a random place of every 1 / share.
fn held_out(document: u64, share: f64) -> bool {
    let block = (document as f64 * share).floor();
    let [first, next] = [block, block + 1.0].map(|block| (block / share).ceil() as u64);
    let word = philox([block as u64 as u32, (block as u64 >> 32) as u32, 0, 0], HELD_OUT)[0];
    first + ((u64::from(word) * (next - first)) >> 32) == document
}

/// Keeps these numbers apart from those of streams and orders.
const HELD_OUT: [u32; 2] = [0, 0x5EED_D0C5];

impl Language for Text {
    /// The tokens' spellings by id.
    fn vocabulary(&self) -> &[String] {
        &self.spellings
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn max_length(&self) -> usize {
        self.length
    }

    /// Examples hold their special tokens.
    fn longest(&self) -> usize {
        self.length
    }

    fn sample(&self, seed: u64, index: u64) -> Words {
        self.example(&self.examples.train, seed, index)
    }

    fn held_out(&self, seed: u64, index: u64) -> Words {
        self.example(&self.examples.held_out, seed, index)
    }

    fn held_out_sentences(&self) -> Option<u64> {
        Some(self.examples.held_out.examples())
    }

    fn truth(&self) -> Result<&dyn Truth, NoTruth> {
        Err(NO_TRUTH)
    }

    fn encode<'w>(&self, words: &[&'w str]) -> Result<Words, &'w str> {
        words.iter().map(|word| self.pieces.id(word).ok_or(*word)).collect()
    }

    fn shown(&self, words: &[u32]) -> String {
        let text = self.pieces.text(words).unwrap_or_else(|_| self.decode(words).join(" "));
        // A sentence is a line.
        text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
    }
}

#[cfg(test)]
mod tests {
    use super::held_out;

    #[test]
    fn one_document_of_every_block_is_held_out() {
        for share in [0.5, 0.1, 0.01, 0.3, 0.07] {
            let chosen: Vec<u64> = (0..10_000).filter(|n| held_out(*n, share)).collect();
            let want = 10_000.0 * share;
            assert!((chosen.len() as f64 - want).abs() <= 1.0, "{share}: {}", chosen.len());
            let gaps = chosen.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(gaps.max().unwrap() as f64 <= 2.0 / share + 1.0);
        }
        let places: std::collections::HashSet<u64> =
            (0..10_000).filter(|n| held_out(*n, 0.1)).map(|n| n % 10).collect();
        assert_eq!(places.len(), 10, "every place of a block comes");
    }
}
