//! A restricted model on a device: sentences drawn from it, and what it knows of a sentence. With x₁..xₙ the words, R
//! the vocabulary and END the sentence's end,
//!
//! ```text
//! p(v | x₁..xₖ) = softmax of the logits over R and END; no END at k = 0, nothing else at k = the longest sentence
//! log w(v) = log p(v | x₁..xₜ₋₁) + Σ_{s > t} log p(xₛ | x₁..v..xₛ₋₁) + log p(END | x₁..v..xₙ),
//! p(v | x without t) = w(v) / Σ w,
//! ```
//!
//! where every candidate v is scored anew: what the later words are divided by changes with it. Candidates share the
//! cache of the words before them.

use std::num::NonZero;
use std::ops::Range;

use super::chances::{Row, normalised};
use super::pass::{Logits, Pass, Past, Query, Restricted};
use super::words::Restriction;
use crate::gpu::{Buffer, GpuError};
use crate::language::{Prefixes, Words};
use crate::model::{Loaded, Part, Role};
use crate::ops::{Device, Table};
use crate::random::{Purpose, Stream};

/// How what a row attends to comes to be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Keys and values of what was read before are kept.
    #[default]
    Cached,
    /// Every sentence is read from its beginning: slower, with nothing that can be wrong about a cache.
    Recomputed,
}

/// Sentences that are drawn together. Which sentences they are is a function of their numbers alone, so that a
/// sentence is the same however it is asked for.
pub(super) const BLOCK: usize = 256;

/// Tokens of a batch of candidates at most.
const ROWS: usize = 8192;

/// Logits that one thread adds up at least.
const SHARE: usize = 1 << 15;

pub(super) struct Engine {
    longest: usize,
    /// Sentences whose rows are in the cache together.
    block: usize,
    prompt: u32,
    ids: Vec<u32>,
    reuse: Reuse,
    cache: Vec<Buffer>,
    /// Few rows, whose keys and values are kept.
    extend: Pass,
    /// Many rows, of candidates.
    rescore: Pass,
}

impl Engine {
    /// Puts a model with its head's rows of the words and the end on a device.
    ///
    /// # Errors
    /// What the adapter has no room for.
    pub fn new(
        device: &Device,
        loaded: Loaded,
        words: &Restriction,
        longest: usize,
        reuse: Reuse,
    ) -> Result<Engine, GpuError> {
        let head_rows = head(&loaded, words);
        let model = loaded.moved_to(device)?.without_dropout();
        let gpu = model.gpu().clone();
        let rows = words.ids.len() as u32 + 1;
        // A row for the prompt and each word; of a block drawn together, for all but the last word.
        let tokens = longest + 1;
        let cached = |block: usize| (block * longest).max(tokens) as u32;
        let of =
            |block: usize| Restricted::new(&model.encoder, rows, (reuse == Reuse::Cached).then_some(cached(block)));
        let most = gpu.capabilities().largest_binding;
        let mut block = BLOCK;
        while block > 1 && of(block).cache_bytes().iter().any(|bytes| *bytes > most) {
            block /= 2;
        }
        let graph = || of(block);
        let head = gpu.buffer("the head's rows of the words", head_rows.len() as u64 * 4)?;
        gpu.write(&head, &head_rows);
        let cache = graph().cache_bytes().into_iter().map(|bytes| gpu.buffer("a cache of keys and values", bytes));
        let cache = cache.collect::<Result<Vec<Buffer>, GpuError>>()?;
        let candidates = ROWS.min(words.ids.len() * longest).max(tokens);
        let extend = graph().on(&model, tokens..block.max(tokens), &head, &cache, reuse == Reuse::Cached)?;
        let rescore = graph().on(&model, tokens..candidates, &head, &cache, false)?;
        let (prompt, ids) = (words.prompt, words.ids.clone());
        Ok(Engine { longest, block, prompt, ids, reuse, cache, extend, rescore })
    }

    /// The prompt and words as the model's ids.
    fn framed(&self, words: &[u32]) -> Vec<u32> {
        [self.prompt].into_iter().chain(words.iter().map(|w| self.ids[*w as usize])).collect()
    }

    /// Sentences of consecutive numbers, at most a block.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn draw(&self, seed: u64, numbers: Range<u64>) -> Result<Vec<Words>, GpuError> {
        let mut sentences = Vec::with_capacity((numbers.end - numbers.start) as usize);
        for first in numbers.clone().step_by(self.block) {
            sentences.extend(self.draw_block(seed, first..numbers.end.min(first + self.block as u64))?);
        }
        Ok(sentences)
    }

    /// The same of as many as the cache holds.
    fn draw_block(&self, seed: u64, numbers: Range<u64>) -> Result<Vec<Words>, GpuError> {
        let mut streams: Vec<Stream> = numbers.map(|i| Stream::new(seed, Purpose::Sentence, i)).collect();
        let count = streams.len();
        let mut sentences: Vec<Words> = vec![Vec::new(); count];
        let mut open: Vec<usize> = (0..count).collect();
        for length in 0..self.longest {
            let query = |i: &usize| match self.reuse {
                Reuse::Cached => {
                    let last = sentences[*i].last().map_or(self.prompt, |w| self.ids[*w as usize]);
                    let past = Past { first: *i, count: length, stride: count };
                    Query { ids: vec![last], first: length, past, wanted: 1 }
                }
                Reuse::Recomputed => {
                    Query { ids: self.framed(&sentences[*i]), first: 0, past: Past::default(), wanted: 1 }
                }
            };
            // In the cache a sentence that is over keeps its place among the others.
            let asked: Vec<usize> = if self.reuse == Reuse::Cached { (0..count).collect() } else { open.clone() };
            let queries: Vec<Query> = asked.iter().map(query).collect();
            let mut drawn = vec![self.ids.len(); count];
            self.extend.each(&queries, |first, logits| {
                for (i, logits) in asked[first..].iter().zip(logits).filter(|(i, _)| open.binary_search(i).is_ok()) {
                    drawn[*i] = Row::behind(length, logits.row(0)).at(streams[*i].uniform());
                }
                match self.reuse {
                    Reuse::Cached => self.extend.remember(&self.cache, logits.len(), length * count + first),
                    Reuse::Recomputed => Ok(()),
                }
            })?;
            open.retain(|i| drawn[*i] < self.ids.len());
            open.iter().for_each(|i| sentences[*i].push(drawn[*i] as u32));
            if open.is_empty() {
                break;
            }
        }
        Ok(sentences)
    }

    /// Logits behind 0, 1, .. n words of a sentence, whose rows are in the cache afterwards.
    fn read(&self, words: &[u32]) -> Result<Logits, GpuError> {
        let ids = self.framed(words);
        let rows = ids.len();
        let query = Query { wanted: rows, ids, first: 0, past: Past::default() };
        let mut read = None;
        self.extend.each(&[query], |_, logits| {
            read = Some(logits[0].clone());
            Ok(())
        })?;
        if self.reuse == Reuse::Cached {
            self.extend.remember(&self.cache, rows, 0)?;
        }
        Ok(read.expect("one query has one answer"))
    }

    /// What may follow each prefix of a sentence of 1 to `longest` words.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn prefixes(&self, words: &[u32]) -> Result<Prefixes, GpuError> {
        let logits = self.read(words)?;
        let (n, end) = (words.len(), self.ids.len());
        let mut next: Vec<Vec<f64>> =
            (0..n.min(self.longest - 1) + 1).map(|k| Row::behind(k, logits.row(k)).probabilities()).collect();
        if n == self.longest {
            let mut last = vec![0.0; end + 1];
            last[end] = 1.0;
            next.push(last);
        }
        Ok(Prefixes { log_probability: self.log_probability(words, &logits), next })
    }

    fn log_probability(&self, words: &[u32], logits: &Logits) -> f64 {
        let row = |k: usize| Row::behind(k, logits.row(k));
        let each = words.iter().enumerate().map(|(k, w)| row(k).log_probability(*w as usize));
        let end = if words.len() < self.longest { row(words.len()).log_probability(self.ids.len()) } else { 0.0 };
        each.sum::<f64>() + end
    }

    /// The log-probability of a sentence of 1 to `longest` words, and p(. | the other words) at some of its positions.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn conditionals(&self, words: &[u32], positions: Range<usize>) -> Result<(f64, Vec<Vec<f64>>), GpuError> {
        let logits = self.read(words)?;
        let made = positions.map(|t| self.conditional(words, t, &logits)).collect::<Result<_, _>>()?;
        Ok((self.log_probability(words, &logits), made))
    }

    fn conditional(&self, words: &[u32], t: usize, logits: &Logits) -> Result<Vec<f64>, GpuError> {
        let ids = self.framed(words);
        let end = self.ids.len();
        // What is predicted behind the word: the later words, and the end where it is not certain.
        let mut behind: Vec<usize> = words[t + 1..].iter().map(|w| *w as usize).collect();
        if words.len() < self.longest {
            behind.push(end);
        }
        // What the first factor is divided by is the same for all.
        let mut logs: Vec<f64> = logits.row(t)[..end].iter().map(|l| f64::from(*l)).collect();
        let query = |candidate: &u32| {
            let own = [*candidate].into_iter().chain(ids[t + 2..].iter().copied()).take(behind.len());
            match self.reuse {
                Reuse::Cached => {
                    let past = Past { first: 0, count: t + 1, stride: 1 };
                    Query { ids: own.collect(), first: t + 1, past, wanted: behind.len() }
                }
                Reuse::Recomputed => {
                    let ids = ids[..=t].iter().copied().chain(own).collect();
                    Query { ids, first: 0, past: Past::default(), wanted: behind.len() }
                }
            }
        };
        let queries: Vec<Query> = if behind.is_empty() { vec![] } else { self.ids.iter().map(query).collect() };
        self.rescore.each(&queries, |first, logits| {
            let score = |logits: &Logits| {
                let one = |(k, number): (usize, &usize)| Row::behind(t + 1 + k, logits.row(k)).log_probability(*number);
                behind.iter().enumerate().map(one).sum::<f64>()
            };
            add_scores(&mut logs[first..first + logits.len()], logits, behind.len() * (end + 1), &score);
            Ok(())
        })?;
        Ok(normalised(&logs))
    }
}

/// Adds each candidate's score to its logarithm, on as many threads as the numbers are worth. Not on rayon's: whoever
/// holds an engine may be one of those, and would take up other work that waits for the engine.
fn add_scores(logs: &mut [f64], logits: &[Logits], each: usize, score: &(dyn Fn(&Logits) -> f64 + Sync)) {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let share = (SHARE / each.max(1)).max(logs.len().div_ceil(threads)).max(1);
    let add = |logs: &mut [f64], logits: &[Logits]| logs.iter_mut().zip(logits).for_each(|(l, of)| *l += score(of));
    if share >= logs.len() {
        return add(logs, logits);
    }
    std::thread::scope(|scope| {
        for (logs, logits) in logs.chunks_mut(share).zip(logits.chunks(share)) {
            scope.spawn(move || add(logs, logits));
        }
    });
}

/// The head's rows of the words and of the end, in the layout of memory.
fn head(loaded: &Loaded, words: &Restriction) -> Vec<f32> {
    let encoder = &loaded.encoder;
    let role = |part| Role { part, bias: false, layer: None };
    let decoder = encoder.with_role(role(Part::Decoder)).or_else(|| encoder.with_role(role(Part::Table(Table::Words))));
    let decoder = decoder.expect("a decoder has a table of words");
    let (values, width) = (&loaded.weights.0[decoder], encoder.parameters[decoder].shape[1]);
    let wide = width.next_multiple_of(4);
    let rows = (words.ids.len() + 1).next_multiple_of(4);
    let mut head = vec![0.0; rows * wide];
    for (to, id) in head.chunks_exact_mut(wide).zip(words.ids.iter().chain([&words.end])) {
        to[..width].copy_from_slice(&values[*id as usize * width..][..width]);
    }
    head
}
