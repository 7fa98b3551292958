//! The forward pass of a decoder with the rows of its head that belong to the words and to the sentence's end: at once
//! over whole sentences, or over new rows that attend to rows in a cache.

use crate::gpu::{Buffer, GpuError};
use crate::graph::{Count, Dims, Emit, Graph, TensorId};
use crate::model::{Bound, Encoder, Given, Model, Recipe};
use crate::ops::batch::{BatchLayout, Sentence};
use crate::ops::counts::ROWS;
use crate::ops::{Batch, CachedAttention, Function, Labels};

/// Rows of the cache that a sentence attends to beside its own: `count` of them from `first` on, `stride` apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    pub first: usize,
    pub count: usize,
    pub stride: usize,
}

/// A sentence, or what follows on rows in the cache, and the rows whose logits are wanted.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub ids: Vec<u32>,
    /// Place of the first id in its sentence, the prompt having place 0.
    pub first: usize,
    pub past: Past,
    /// Rows whose logits are wanted: the last so many.
    pub wanted: usize,
}

/// A graph with the memory that is the caller's.
pub(super) struct Restricted {
    graph: Graph,
    logits: TensorId,
    /// [words and end, width of what the head reads]
    head: TensorId,
    /// Queries, keys and values of each layer, [rows, 3 heads padded].
    qkv: Vec<TensorId>,
    /// The cache of each layer, and the runs that rows attend to there; none where there is no cache.
    cache: Vec<TensorId>,
    runs: Option<TensorId>,
}

impl Restricted {
    /// The graph of a decoder without dropout, with a head of so many rows; every attention goes over a cache of so
    /// many rows too, where there is one.
    pub fn new(encoder: &Encoder, rows: u32, cache: Option<u32>) -> Restricted {
        let mut graph = encoder.graph.clone();
        let read = graph.nodes().iter().find(|node| node.outputs.contains(&encoder.logits)).map(|node| node.inputs[0]);
        let read = read.expect("a product makes the logits");
        let width = graph.tensor(read).cols;
        let head = graph.parameter("the head's rows of the words", rows, width);
        let logits = graph.linear(read, head, None, None);
        graph.prune(&[logits]);
        let attention = |f: &Function| if let Function::Attention(op) = f { Some(*op) } else { None };
        let layers: Vec<usize> =
            (0..graph.nodes().len()).filter(|n| attention(&graph.nodes()[*n].function).is_some()).collect();
        let qkv: Vec<TensorId> = layers.iter().map(|n| graph.nodes()[*n].inputs[0]).collect();
        let (mut made, mut runs) = (Vec::new(), None);
        if let Some(rows) = cache {
            let all = graph.input("runs of the cache", ROWS, 4);
            runs = Some(all);
            for (layer, n) in layers.into_iter().enumerate() {
                let op = attention(&graph.nodes()[n].function).expect("one of the attentions");
                let op = CachedAttention { heads: op.heads, size: op.size };
                let own = graph.input(&format!("cache of layer {layer}"), Count::Fixed(rows), op.columns());
                made.push(own);
                graph.replace(n, op.into(), &[qkv[layer], own, all]);
            }
        }
        graph.gather_early();
        graph.fuse();
        Restricted { graph, logits, head, qkv, cache: made, runs }
    }

    /// Bytes of the cache of each layer.
    pub fn cache_bytes(&self) -> Vec<u64> {
        let dims = Dims { rows: 1, masked: 1, sentences: 1, probes: 1, longest: 0 };
        self.cache.iter().map(|id| dims.bytes(self.graph.tensor(*id))).collect()
    }

    /// Puts the graph on a model's device, for batches of up to so many rows, or of fewer if the adapter does not bind
    /// as many, but not fewer than the first number. With `keep`, queries, keys and values can be copied to the cache
    /// behind a run.
    ///
    /// # Errors
    /// What the adapter has no room for.
    pub fn on(
        self,
        model: &Model,
        rows: std::ops::Range<usize>,
        head: &Buffer,
        cache: &[Buffer],
        keep: bool,
    ) -> Result<Pass, GpuError> {
        let Restricted { graph, logits, head: head_id, qkv, cache: cache_ids, runs } = self;
        let (words, layers) = (graph.tensor(logits).cols as usize, qkv.len());
        let mut recipe = Recipe::new(graph, &model.encoder, Labels::Hard)
            .give(Given::Caller, [head_id])
            .give(Given::Caller, cache_ids.iter().copied())
            .give(Given::Fresh("runs of the cache"), runs)
            .keep(&[logits]);
        if keep {
            recipe = recipe.keep(&qkv);
        }
        let of = |rows: usize| {
            let rows = rows as u32;
            Dims { rows, masked: rows, sentences: rows, probes: 1, longest: 0 }
        };
        let (least, mut rows) = (rows.start, rows.end);
        while rows > least && recipe.check(&model.device, &of(rows)).is_err() {
            rows = rows.div_ceil(2).max(least);
        }
        let caller: Vec<(TensorId, Buffer)> =
            [(head_id, head.clone())].into_iter().chain(cache_ids.into_iter().zip(cache.iter().cloned())).collect();
        let columns = if layers > 0 { recipe.graph().tensor(qkv[0]).cols as usize } else { 0 };
        let bound = recipe.plan(model, of(rows), &caller)?;
        Ok(Pass { bound, logits, qkv, runs, rows, words, columns })
    }
}

/// A pass on a device.
pub(super) struct Pass {
    bound: Bound,
    logits: TensorId,
    qkv: Vec<TensorId>,
    runs: Option<TensorId>,
    rows: usize,
    words: usize,
    columns: usize,
}

impl Pass {
    /// Runs queries, as many at a time as fit, and hands the number of each query with its logits to `take`, those of
    /// its wanted rows one after another, each row `words` wide.
    ///
    /// # Errors
    /// What the adapter says.
    ///
    /// # Panics
    /// When one query has more rows than the pass.
    pub fn each(
        &self,
        queries: &[Query],
        mut take: impl FnMut(usize, &[Logits]) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        let mut first = 0;
        while first < queries.len() {
            let mut rows = 0;
            let fits = |query: &&Query| {
                rows += query.ids.len();
                rows <= self.rows
            };
            let count = queries[first..].iter().take_while(fits).count();
            assert!(count > 0, "a sentence of more rows than the pass has");
            let chunk = &queries[first..first + count];
            take(first, &self.run(chunk)?)?;
            first += count;
        }
        Ok(())
    }

    /// Logits of one batch, those of each query.
    fn run(&self, queries: &[Query]) -> Result<Vec<Logits>, GpuError> {
        let Bound { gpu, layout, .. } = &self.bound;
        let place = |query: &Query, row: usize| layout.first_position + (query.first + row) as u32;
        let sentence = |query: &Query| Sentence {
            ids: query.ids.clone(),
            positions: (0..query.ids.len()).map(|row| place(query, row)).collect(),
            masked: (query.ids.len() - query.wanted..query.ids.len()).map(|row| (row as u32, 0)).collect(),
            ..Sentence::default()
        };
        let sentences: Vec<Sentence> = queries.iter().map(sentence).collect();
        // No gradient is taken, so that rows are not sorted by what they use of the tables.
        let batch = Batch::new(&BatchLayout { tables: [0; 3], ..*layout }, &sentences);
        if let Some(runs) = self.runs {
            let run = |q: &Query| [q.past.first as f32, q.past.count as f32, q.past.stride as f32, 0.0];
            let all: Vec<[f32; 4]> = queries.iter().flat_map(|q| vec![run(q); q.ids.len()]).collect();
            gpu.write(self.bound.buffer(runs), &all);
        }
        self.bound.write(&batch, 1.0)?;
        self.bound.plan.run(gpu, &batch.step(1))?;
        let wide = self.words.next_multiple_of(4);
        let numbers: Vec<f32> = gpu.read(self.bound.buffer(self.logits), batch.masked() as usize * wide)?;
        let mut rest = numbers.as_slice();
        let own = |query: &Query| {
            let (own, others) = rest.split_at(query.wanted * wide);
            rest = others;
            Logits { numbers: own.to_vec(), words: self.words }
        };
        Ok(queries.iter().map(own).collect())
    }

    /// Copies queries, keys and values of the rows of the batch that ran last to the cache from a row on.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn remember(&self, cache: &[Buffer], rows: usize, at: usize) -> Result<(), GpuError> {
        let gpu = &self.bound.gpu;
        let bytes = |rows: usize| (rows * self.columns.next_multiple_of(4) * 4) as u64;
        let mut encoder = gpu.encoder();
        for (qkv, cache) in self.qkv.iter().zip(cache) {
            let from = self.bound.buffer(*qkv).window(0..bytes(rows));
            gpu.copy(&mut encoder, &from, &cache.window(bytes(at)..bytes(at + rows)));
        }
        gpu.submit(encoder);
        Ok(())
    }
}

/// Logits of the wanted rows of a query.
#[derive(Clone)]
pub(super) struct Logits {
    numbers: Vec<f32>,
    words: usize,
}

impl Logits {
    /// Those of a wanted row, of the words and last of the end.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.words.next_multiple_of(4)..][..self.words]
    }
}
