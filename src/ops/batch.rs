//! A batch of sentences as the kernels want it: all tokens one after another without padding, the tables' rows they
//! use and, for gradients, the tokens sorted by table row.

use super::embedding::most_segments;
use super::excess::{largest_binding, most_sentences};
use super::{Dims, Variants};
use crate::gpu::{Buffer, Excess, Gpu, GpuError, Step};

/// One sentence of a batch.
#[derive(Clone, Debug, Default)]
pub struct Sentence {
    /// Token ids, mask token in place, padding left out.
    pub ids: Vec<u32>,
    /// Segment of each token; empty for all 0.
    pub segments: Vec<u32>,
    /// Row of the position table of each token; empty for one after the other from the first position on.
    pub positions: Vec<u32>,
    /// Masked positions and the words that stood there.
    pub masked: Vec<(u32, u32)>,
    /// A distribution over the vocabulary for each masked position; empty for hard labels.
    pub soft: Vec<Vec<f32>>,
    /// Tokens at the end that are padding: they attend to the others, and no token attends to them. Only the `row`
    /// variant of attention's forward pass knows of it, and attention of masked rows.
    pub padding: u32,
    /// What random draws about this sentence are a function of, beside their seed and number.
    pub key: u64,
}

/// What batches of one model have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLayout {
    /// Rows of the word, position and segment table, 0 for a table that the model does not have.
    pub tables: [u32; 3],
    /// Row of the position table for the first token.
    pub first_position: u32,
    /// Longest segment of an embedding's gradient.
    pub segment: u32,
}

/// The rows of a batch sorted by the row of one table that they use.
#[derive(Clone, Debug, Default)]
pub struct TableIndex {
    /// Rows of tokens, each segment filled up to a multiple of 4 with `u32::MAX`.
    pub list: Vec<u32>,
    /// (first, end, 0, 0) of a segment in `list`, in units of 4.
    pub bounds: Vec<[u32; 4]>,
    /// First segment of each table row, and the number of segments.
    pub starts: Vec<u32>,
}

/// Labels and weights in the layout of memory.
#[derive(Clone, Debug, Default)]
struct Ready {
    /// One label per masked position, in the first of four columns.
    hard: Vec<[u32; 4]>,
    /// Soft labels with rows padded to a multiple of 4; empty when they are anyway.
    soft: Vec<f32>,
    /// The same weight for each masked position.
    weights: Vec<[f32; 4]>,
}

/// A batch on the host.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Rows of the three tables and 0, a token.
    pub ids: Vec<[u32; 4]>,
    /// First and end row of the token's sentence, its position and the sentence's number; then, a sentence each, its
    /// first and end row and its first and end masked position; then the same again, the longest sentence first.
    pub spans: Vec<[u32; 4]>,
    /// Row of each masked position.
    pub index: Vec<u32>,
    /// For each row 1 + its number among the masked ones, or 0.
    pub inverse: Vec<u32>,
    /// Label of each masked position.
    pub labels: Vec<u32>,
    /// Soft labels, `vocabulary` numbers each, or empty.
    pub soft: Vec<f32>,
    /// What the adapter's buffers take as it is, made beforehand so that a step allocates nothing.
    ready: Ready,
    /// The sentence's key and the position's number in it, of each masked position.
    pub keys: Vec<[u32; 3]>,
    /// Sentence of each masked position.
    pub sentence_of: Vec<u32>,
    /// Rows by the row of the word, position and segment table that they use.
    pub tables: [TableIndex; 3],
    /// Sentences in it.
    pub sentences: u32,
}

impl Batch {
    /// Packs sentences.
    pub fn new(layout: &BatchLayout, sentences: &[Sentence]) -> Batch {
        let mut batch = Batch { sentences: sentences.len() as u32, ..Batch::default() };
        let mut ranges = Vec::with_capacity(sentences.len());
        for (number, sentence) in sentences.iter().enumerate() {
            let first = batch.ids.len() as u32;
            let end = first + sentence.ids.len() as u32;
            for (position, id) in sentence.ids.iter().enumerate() {
                let segment = sentence.segments.get(position).copied().unwrap_or(0);
                let row = sentence.positions.get(position).copied();
                let row = row.unwrap_or(layout.first_position + position as u32);
                batch.ids.push([*id, row, segment, 0]);
                batch.spans.push([first, end - sentence.padding, position as u32, number as u32]);
                batch.inverse.push(0);
            }
            let masked = batch.index.len() as u32;
            ranges.push([first, end, masked, masked + sentence.masked.len() as u32]);
            let key = [sentence.key as u32, (sentence.key >> 32) as u32];
            for (i, (position, label)) in sentence.masked.iter().enumerate() {
                batch.keys.push([key[0], key[1], i as u32]);
                batch.index.push(first + position);
                batch.inverse[(first + position) as usize] = batch.index.len() as u32;
                batch.labels.push(*label);
                batch.sentence_of.push(number as u32);
                if let Some(soft) = sentence.soft.get(i) {
                    batch.soft.extend_from_slice(soft);
                }
            }
        }
        batch.spans.extend_from_slice(&ranges);
        // Stable, so that sentences of one length keep their order.
        ranges.sort_by_key(|range| std::cmp::Reverse(range[1] - range[0]));
        batch.spans.extend(ranges);
        batch.ready.hard = batch.labels.iter().zip(&batch.keys).map(|(y, k)| [*y, k[0], k[1], k[2]]).collect();
        let vocabulary = layout.tables[0] as usize;
        let wide = vocabulary.next_multiple_of(4);
        if wide != vocabulary && !batch.soft.is_empty() {
            batch.ready.soft = vec![0.0; batch.labels.len() * wide];
            for (to, of) in batch.ready.soft.chunks_exact_mut(wide).zip(batch.soft.chunks_exact(vocabulary)) {
                to[..vocabulary].copy_from_slice(of);
            }
        }
        for (t, rows) in layout.tables.into_iter().enumerate() {
            batch.tables[t] = sort_rows(&batch.ids, t, rows, layout.segment);
        }
        batch
    }

    /// The same with every masked position's weight at hand: writing it with this weight then allocates nothing.
    pub fn weighing(mut self, weight: f32) -> Batch {
        self.ready.weights = vec![[weight, 0.0, 0.0, 0.0]; self.labels.len()];
        self
    }

    /// Tokens.
    pub fn rows(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Tokens of the longest sentence.
    pub fn longest(&self) -> u32 {
        // Behind the sentences in order they lie by length.
        let first = self.ids.len() + self.sentences as usize;
        self.spans.get(first).map_or(0, |span| span[1] - span[0])
    }

    /// Masked positions.
    pub fn masked(&self) -> u32 {
        self.index.len() as u32
    }

    /// Whether a plan of these sizes has room for it.
    pub fn fits(&self, dims: &Dims) -> bool {
        let short = dims.longest == 0 || self.longest() <= dims.longest;
        short && self.rows() <= dims.rows && self.masked() <= dims.masked && self.sentences <= dims.sentences
    }

    /// The step's counts for this batch.
    pub fn step(&self, probes: u32) -> Step {
        Step { counts: [self.rows(), self.masked(), self.sentences], probes, ..Step::default() }
    }
}

/// Counting sort of tokens by table row, cut into segments.
fn sort_rows(ids: &[[u32; 4]], table: usize, targets: u32, segment: u32) -> TableIndex {
    if targets == 0 {
        return TableIndex { starts: vec![0], ..TableIndex::default() };
    }
    let mut counts = vec![0u32; targets as usize + 1];
    for id in ids {
        counts[id[table] as usize + 1] += 1;
    }
    for i in 1..counts.len() {
        counts[i] += counts[i - 1];
    }
    let mut sorted = vec![0u32; ids.len()];
    let mut next = counts.clone();
    for (row, id) in ids.iter().enumerate() {
        let slot = &mut next[id[table] as usize];
        sorted[*slot as usize] = row as u32;
        *slot += 1;
    }
    let mut index = TableIndex { starts: Vec::with_capacity(targets as usize + 1), ..TableIndex::default() };
    for target in 0..targets as usize {
        index.starts.push(index.bounds.len() as u32);
        for chunk in sorted[counts[target] as usize..counts[target + 1] as usize].chunks(segment as usize) {
            let first = index.list.len() as u32 / 4;
            index.list.extend_from_slice(chunk);
            index.list.resize(index.list.len().next_multiple_of(4), u32::MAX);
            index.bounds.push([first, index.list.len() as u32 / 4, 0, 0]);
        }
    }
    index.starts.push(index.bounds.len() as u32);
    index
}

/// A table's index on the adapter.
#[derive(Clone)]
pub struct TableBuffers {
    /// [`TableIndex::list`], as vec4.
    pub list: Buffer,
    /// [`TableIndex::bounds`].
    pub bounds: Buffer,
    /// [`TableIndex::starts`].
    pub starts: Buffer,
}

/// A batch on the adapter: allocated once for the largest, written every step.
pub struct BatchBuffers {
    /// [`Batch::ids`].
    pub ids: Buffer,
    /// [`Batch::spans`].
    pub spans: Buffer,
    /// [`Batch::index`].
    pub index: Buffer,
    /// [`Batch::inverse`].
    pub inverse: Buffer,
    /// One label per masked position, its sentence's key and its number in the sentence.
    pub hard: Buffer,
    /// [`Batch::soft`], rows padded with zeros to a multiple of 4.
    pub soft: Buffer,
    /// Weight of each masked position's loss, in the first of four columns.
    pub weight: Buffer,
    tables: [TableBuffers; 3],
}

impl BatchBuffers {
    /// Allocates for batches up to `dims`; soft labels only where they are used.
    pub fn new(
        gpu: &Gpu,
        dims: &Dims,
        layout: &BatchLayout,
        variants: &Variants,
        vocabulary: u32,
        soft: bool,
    ) -> Result<BatchBuffers, GpuError> {
        BatchBuffers::check(gpu, dims, vocabulary, soft)?;
        let sizes = BatchBuffers::sizes(dims, layout, variants, vocabulary, soft);
        let mut made = gpu.buffers("the batch", &sizes)?.into_iter();
        let mut next = || made.next().expect("as many as sizes");
        let [ids, spans, index, inverse, hard, soft, weight] = std::array::from_fn(|_| next());
        let tables = std::array::from_fn(|_| TableBuffers { list: next(), bounds: next(), starts: next() });
        Ok(BatchBuffers { ids, spans, index, inverse, hard, soft, weight, tables })
    }

    /// Refuses soft labels that an adapter cannot bind; the other buffers are small beside the activations.
    ///
    /// # Errors
    /// [`GpuError::Limit`] with their size and the limit.
    pub fn check(gpu: &Gpu, dims: &Dims, vocabulary: u32, soft: bool) -> Result<(), GpuError> {
        let limit = largest_binding(gpu);
        let bytes = |masked: u64| masked * u64::from(vocabulary.next_multiple_of(4)) * 4;
        if !soft || bytes(dims.masked.into()) <= limit {
            return Ok(());
        }
        let masked =
            |sentences: u32| (u64::from(dims.masked) * u64::from(sentences)).div_ceil(u64::from(dims.sentences.max(1)));
        let excess = Excess {
            what: format!("the labels' distributions ({} x {vocabulary})", dims.masked),
            bytes: bytes(dims.masked.into()),
            limit,
            bound: true,
            sentences: dims.sentences,
            most: most_sentences(dims.sentences, |n| bytes(masked(n)) <= limit),
            fixed: None,
        };
        Err(excess.into())
    }

    /// Index of a table: 0 words, 1 positions, 2 segments.
    pub fn table(&self, table: usize) -> &TableBuffers {
        &self.tables[table]
    }

    fn sizes(dims: &Dims, layout: &BatchLayout, variants: &Variants, vocabulary: u32, soft: bool) -> Vec<u64> {
        let (rows, masked) = (u64::from(dims.rows), u64::from(dims.masked));
        let mut sizes = vec![rows * 16, (rows + 2 * u64::from(dims.sentences)) * 16, masked * 4, rows * 4, masked * 16];
        // Read as vec4 too.
        sizes.iter_mut().for_each(|bytes| *bytes = bytes.next_multiple_of(16));
        sizes.push(if soft { masked * u64::from(vocabulary.next_multiple_of(4)) * 4 } else { 16 });
        sizes.push(masked * 16);
        for targets in layout.tables {
            let segments = u64::from(most_segments(dims.rows, targets, variants.sums().segment));
            sizes.extend([rows * 4 + segments * 16, segments * 16, (u64::from(targets) + 1) * 4]);
        }
        sizes
    }

    /// Bytes of all buffers of a batch, for the memory plan.
    pub fn bytes(dims: &Dims, layout: &BatchLayout, variants: &Variants, vocabulary: u32, soft: bool) -> u64 {
        BatchBuffers::sizes(dims, layout, variants, vocabulary, soft).into_iter().map(|s| s.next_multiple_of(256)).sum()
    }

    /// Writes a batch before the next submission; every masked position weighs `weight`.
    pub fn write(&self, gpu: &Gpu, batch: &Batch, weight: f32) {
        gpu.write(&self.ids, &batch.ids);
        gpu.write(&self.spans, &batch.spans);
        gpu.write(&self.index, &batch.index);
        gpu.write(&self.inverse, &batch.inverse);
        gpu.write(&self.hard, &batch.ready.hard);
        match batch.ready.weights.first() {
            Some(ready) if ready[0].to_bits() == weight.to_bits() => gpu.write(&self.weight, &batch.ready.weights),
            _ => gpu.write(&self.weight, &vec![[weight, 0.0, 0.0, 0.0]; batch.labels.len()]),
        }
        gpu.write(&self.soft, if batch.ready.soft.is_empty() { &batch.soft } else { &batch.ready.soft });
        for (buffers, index) in self.tables.iter().zip(&batch.tables) {
            gpu.write(&buffers.list, &index.list);
            gpu.write(&buffers.bounds, &index.bounds);
            gpu.write(&buffers.starts, &index.starts);
        }
    }
}
