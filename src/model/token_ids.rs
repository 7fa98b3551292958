//! The ids that a model gives to the words of a language and to the special tokens around them: what turns sentences
//! into token ids, labels into rows of the logits, and distributions over words into distributions over tokens.

use std::ops::Range;

use super::family::Reach;
use super::vocabulary::{BOS, EOS, MASK, PAD, SPECIAL_TOKENS};
use crate::ops::batch::Sentence;
use crate::random::Stream;

/// Ids by word, word number i of a language having the i-th one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    pub(super) words: Vec<u32>,
    /// What is put before and behind a sentence; `None` where sentences hold their special tokens themselves.
    pub(super) frame: Option<[u32; 2]>,
    /// The words that can be masked or drawn, in ascending order, where not all can.
    pub(super) plain: Option<Vec<u32>>,
    /// Where the model has a token for masked words; one that predicts next words alone may have none.
    pub(super) mask: Option<u32>,
    /// Where the model has a padding token; no sentence holds it.
    pub(super) pad: Option<u32>,
    /// Tokens of the model, those that are no words of the language included.
    pub(super) size: u32,
}

impl TokenIds {
    /// The ids of a model that is trained here on a language of `words` words: the special tokens, then the words.
    pub fn new(words: usize) -> TokenIds {
        let first = SPECIAL_TOKENS.len() as u32;
        let words: Vec<u32> = (first..first + words as u32).collect();
        TokenIds {
            size: first + words.len() as u32,
            words,
            frame: Some([BOS, EOS]),
            plain: None,
            mask: Some(MASK),
            pad: Some(PAD),
        }
    }

    /// The ids of a tokenizer, whose tokens are the words: sentences hold their special tokens themselves. `plain` are
    /// the tokens that are none of those, in ascending order.
    pub(super) fn of_tokenizer(size: u32, plain: Vec<u32>, mask: Option<u32>, pad: Option<u32>) -> TokenIds {
        TokenIds { words: (0..size).collect(), frame: None, plain: Some(plain), mask, pad, size }
    }

    /// Tokens of the model.
    pub fn size(&self) -> usize {
        self.size as usize
    }

    /// The same words and special tokens in a model with so many rows, those without a token behind the others.
    pub fn with_rows(&self, rows: u32) -> TokenIds {
        TokenIds { size: self.size.max(rows), ..self.clone() }
    }

    /// The id of each word of the language.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Id of a word.
    pub fn word(&self, number: u32) -> u32 {
        self.words[number as usize]
    }

    /// Whether words can be masked.
    pub fn has_mask(&self) -> bool {
        self.mask.is_some()
    }

    /// A word drawn uniformly; no special token.
    pub fn random_word(&self, stream: &mut Stream) -> u32 {
        let words = self.plain.as_ref().unwrap_or(&self.words);
        words[stream.below(words.len() as u32) as usize]
    }

    /// Places of the words of a sentence that can be masked: all, or all but special tokens where it holds such; all
    /// too where it holds nothing else.
    pub fn maskable(&self, words: &[u32]) -> Vec<usize> {
        let all = 0..words.len();
        let Some(plain) = &self.plain else { return all.collect() };
        let found: Vec<usize> = all.clone().filter(|i| plain.binary_search(&words[*i]).is_ok()).collect();
        if found.is_empty() { all.collect() } else { found }
    }

    /// Tokens before the first word.
    fn before(&self) -> usize {
        usize::from(self.frame.is_some())
    }

    /// Of a sentence of `length` words the positions, as [`next`](Self::next) has them, that a model has something to
    /// predict from and at.
    pub fn predictable(&self, length: usize) -> Range<usize> {
        match self.frame {
            Some(_) => 0..length + 1,
            None => 1..length,
        }
    }

    /// `<s> w1 ... wn </s>` with one word masked.
    ///
    /// # Panics
    /// Where the model has no token for it, as those of [`mask_all`](Self::mask_all).
    pub fn mask(&self, words: &[u32], position: usize) -> Sentence {
        self.mask_all(words, &[position])
    }

    /// `<s> w1 ... wn </s>` with some words masked.
    ///
    /// # Panics
    /// Where words are masked and the model has no token for it ([`has_mask`](Self::has_mask)).
    pub fn mask_all(&self, words: &[u32], positions: &[usize]) -> Sentence {
        let mut ids = self.framed(words);
        let before = self.before();
        let masked = positions.iter().map(|p| ((p + before) as u32, self.word(words[*p]))).collect();
        for p in positions {
            ids[p + before] = self.mask.expect("a model whose words can be masked");
        }
        Sentence { ids, masked, ..Sentence::default() }
    }

    /// `<s> w1 ... wn </s>` with the tokens that follow on k words predicted, k in `positions`: w1 behind none of them,
    /// the end behind all n. Of a sentence that holds its special tokens itself, k is in 1..n.
    pub fn next(&self, words: &[u32], positions: Range<usize>) -> Sentence {
        let (ids, before) = (self.framed(words), self.before());
        let masked = positions.map(|k| ((k + before - 1) as u32, ids[k + before])).collect();
        Sentence { ids, masked, ..Sentence::default() }
    }

    fn framed(&self, words: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(words.len() + 2);
        ids.extend(self.frame.map(|[bos, _]| bos));
        ids.extend(words.iter().map(|w| self.word(*w)));
        ids.extend(self.frame.map(|[_, eos]| eos));
        ids
    }

    /// `<s> w1 ... wn </s>` with nothing masked and a class marked at the token where a classifier reads: the first, or
    /// the last of a model that has seen the sentence only there.
    pub fn classified(&self, words: &[u32], class: u32, reach: Reach) -> Sentence {
        let sentence = self.mask_all(words, &[]);
        let at = match reach {
            Reach::Sentence => 0,
            Reach::Past => sentence.ids.len() as u32 - 1,
        };
        Sentence { masked: vec![(at, class)], ..sentence }
    }

    /// `<s> w1 ... wn </s>` and padding up to `length` tokens.
    ///
    /// # Errors
    /// In words: the model has no padding token.
    pub fn padded(&self, words: &[u32], length: usize) -> Result<Sentence, String> {
        let pad = self.pad.ok_or("the model has no padding token")?;
        let mut sentence = self.mask_all(words, &[]);
        sentence.padding = (length - sentence.ids.len()) as u32;
        sentence.ids.resize(length, pad);
        Ok(sentence)
    }

    /// A distribution over the language's words, or over those and, last, the sentence's end, as one over the model's
    /// tokens.
    pub fn soft_label(&self, p: &[f64]) -> Vec<f32> {
        let mut label = vec![0.0; self.size()];
        for (id, p) in self.words.iter().copied().chain(self.frame.map(|[_, eos]| eos)).zip(p) {
            label[id as usize] = *p as f32;
        }
        label
    }

    /// The group of each of the model's tokens, by so many groups: that of word number v is v modulo the groups, of the
    /// sentence's end behind the last word likewise. All other tokens are in one more group, the last; a language
    /// predicts none of them.
    pub fn groups(&self, groups: u32) -> Vec<u32> {
        let mut of = vec![groups; self.size()];
        for (v, id) in self.words.iter().copied().chain(self.frame.map(|[_, eos]| eos)).enumerate() {
            of[id as usize] = v as u32 % groups;
        }
        of
    }

    /// Every id that a sentence may hold.
    pub(super) fn fed(&self) -> std::collections::HashSet<u32> {
        self.words.iter().copied().chain(self.frame.into_iter().flatten()).chain(self.mask).collect()
    }

    /// For each token of a model that is trained here the id that has the same meaning under these ids.
    ///
    /// # Errors
    /// Where these ids have no token for padding or for masked words.
    pub(super) fn own_order(&self) -> Result<Vec<u32>, String> {
        // A model that is trained on a tokenizer's tokens keeps its ids.
        let Some([bos, eos]) = self.frame else { return Ok(self.words.clone()) };
        let pad = self.pad.ok_or("has no padding token, for which a model trained here keeps a row")?;
        let mask = self.mask.ok_or("has no token for masked words, for which a model trained here keeps a row")?;
        let mut order = vec![0; SPECIAL_TOKENS.len()];
        for (own, id) in [(BOS, bos), (PAD, pad), (EOS, eos), (MASK, mask)] {
            order[own as usize] = id;
        }
        order.extend(&self.words);
        Ok(order)
    }
}
