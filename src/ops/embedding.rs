//! The sum of a word's, a position's and a segment's vector, and its gradient without atomics: rows are sorted by the
//! host and summed in segments of bounded length. Shader: `shaders/embedding.wgsl`.

use std::iter::once;

use super::counts::ROWS;
use super::operation::{self, no_rule};
use super::{
    Adjoints, Dims, Family, GradientRows, GradientSource, Lowering, Node, Operation, OutputShape, Rule, Scratch, Sizes,
    Tangents, Tensor, TensorId, Variants, call, column_sum, reduce,
};
use crate::gpu::{Count, Grid};
use crate::kernels::embedding as kernel;

/// One of the three tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// By token id.
    Words,
    /// By place in the sentence.
    Positions,
    /// By token type.
    Segments,
}

impl Table {
    /// All, in the order of the embedding's inputs.
    pub const ALL: [Table; 3] = [Table::Words, Table::Positions, Table::Segments];
}

/// A sum of rows of up to three tables: words, positions, segments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    /// Rows of each table, 0 for one that takes no part.
    pub rows: [u32; 3],
}

/// Segments that a gradient may need at most: one a table row that is used, and one more each time a segment is full.
pub fn most_segments(rows: u32, targets: u32, segment: u32) -> u32 {
    rows / segment + targets.min(rows)
}

/// Bits of the kernel's `uses`: the words' table takes part; what comes out is added to what is there.
const WORDS: u32 = 1;
const ONTO: u32 = 8;

/// Segments that one invocation adds up alone at most: a dispatch less, where a batch is small.
const MOST_SEGMENTS: u32 = 16;

/// How the gradient of a table is made.
enum Way {
    /// Its only row is the sum of all.
    Sum,
    /// An invocation goes over all that is a table row's.
    Whole,
    /// Segments first, then their sums.
    Segments,
}

/// The sums of a table row's segments.
const SEGMENTS: Scratch = Scratch("segments");

impl Operation for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    /// Forward: the tables [n, d] that take part to [rows, d]. Vjp of table t: ȳ to [n, d].
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape> {
        match rule {
            Rule::Forward => {
                let used = self.rows.iter().filter(|rows| **rows > 0);
                assert!(
                    used.map(|rows| Count::Fixed(*rows)).eq(inputs.iter().map(|t| t.rows)),
                    "embedding: a table for each number of rows"
                );
                assert!(inputs.iter().all(|t| t.cols == inputs[0].cols), "embedding: tables of one width");
                vec![("", ROWS, inputs[0].cols, inputs.iter().any(|t| t.probes))]
            }
            Rule::Vjp(table @ 0..3) => {
                let [y_bar] = operation::inputs(self, inputs);
                vec![("", Count::Fixed(self.rows[usize::from(table)]), y_bar.cols, y_bar.probes)]
            }
            _ => no_rule(self, rule),
        }
    }

    fn flops(&self, _: &Node, _: &Sizes<'_>) -> Option<f64> {
        None
    }

    fn adds(&self, rule: Rule) -> bool {
        rule != Rule::Forward
    }

    /// The table of words, and the gradient of any table.
    fn in_windows(&self, node: &Node, id: TensorId) -> bool {
        match node.rule {
            Rule::Forward => self.rows[0] > 0 && node.inputs[0] == id,
            _ => node.outputs[0] == id || node.addend == Some(id),
        }
    }

    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        let tables = (0..3).filter(|table| self.rows[usize::from(*table)] > 0);
        for (table, input) in tables.zip(&node.inputs) {
            g.contribute(*input, call(*self, Rule::Vjp(table), &[y_bar]));
        }
    }

    /// The embedding of the tables' tangents, or the gradient from ȳ's.
    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        if node.rule != Rule::Forward {
            return g.same_on_tangents(node);
        }
        let mut inputs = node.inputs.iter();
        let mut tangents = Vec::new();
        let rows = self.rows.map(|rows| {
            let tangent = if rows > 0 { inputs.next().and_then(|id| g.of(*id)) } else { None };
            tangents.extend(tangent);
            if tangent.is_some() { rows } else { 0 }
        });
        let [out] = node.outputs();
        let tangent = g.push(call(Embedding { rows }, Rule::Forward, &tangents), &g.dot(out))[0];
        g.set(out, tangent);
    }

    fn scratch(&self, node: &Node, sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        let Rule::Vjp(table) = node.rule else { return vec![] };
        let ([y_bar], [out]) = (node.inputs(), node.outputs());
        match self.way(usize::from(table), node, sizes.dims, sizes.variants) {
            Way::Sum => return vec![(column_sum::SUMS, reduce::column_workspace(sizes, y_bar, out))],
            Way::Whole => return vec![],
            Way::Segments => {}
        }
        let segments = most_segments(sizes.dims.rows, self.rows[usize::from(table)], sizes.variants.sums().segment);
        let size4 = u64::from(segments) * u64::from(sizes.tensor(y_bar).cols4());
        vec![(SEGMENTS, size4 * 16 * u64::from(sizes.layers(y_bar)))]
    }

    fn family(&self, rule: Rule) -> Option<Family> {
        (rule != Rule::Forward).then_some(Family::Sums)
    }

    fn gradient_source(&self, node: &Node, _: usize) -> Option<GradientSource> {
        let Rule::Vjp(table) = node.rule else { return None };
        let [b] = node.inputs();
        Some(GradientSource::Rows(GradientRows::Table { b, table: Table::ALL[usize::from(table)] }))
    }

    fn lower(&self, node: &Node, cx: &mut Lowering<'_>) {
        match node.rule {
            Rule::Vjp(table) => {
                let table = usize::from(table);
                match self.way(table, node, cx.dims, cx.variants) {
                    Way::Sum => column_sum::lower_sum(cx, node.inputs[0], node.outputs[0]),
                    Way::Whole => self.lower_whole(table, node, cx),
                    Way::Segments => self.lower_scatter(table, node, cx),
                }
            }
            _ => self.lower_sum(node, cx),
        }
    }
}

impl Embedding {
    /// y = Σ over tables of their rows. Behind the first window of words each adds the rows that it has.
    fn lower_sum(&self, node: &Node, cx: &mut Lowering<'_>) {
        let [out] = node.outputs();
        let mut inputs = node.inputs.iter();
        let tables = self.rows.map(|rows| if rows > 0 { inputs.next().copied() } else { None });
        let uses: u32 = tables.iter().enumerate().map(|(i, table)| u32::from(table.is_some()) << i).sum();
        let [_, positions, segments] = tables.map(|table| table.map(|id| cx.buffer(id)));
        let [word_layer, position_layer, segment_layer] = tables.map(|table| table.map_or(0, |id| cx.layer(id)));
        let windows = tables[0].map_or_else(|| once(0..0).collect(), |words| cx.windows(words));
        let plain = kernel::Constants { cols4: cx.cols4(out), ..Default::default() };
        let constants = match cx.apart(out).filter(|_| windows.len() == 1) {
            Some(lanes) => kernel::Constants { uniform: true, lanes, blocks: 64 / lanes, ..plain },
            None => plain,
        };
        for (i, rows) in windows.into_iter().enumerate() {
            let first = i == 0;
            let sum = kernel::Forward {
                words: tables[0].map(|id| cx.rows_of(id, &rows)),
                positions: positions.clone().filter(|_| first),
                segments: segments.clone().filter(|_| first),
                ids: cx.batch.ids.clone(),
                out: cx.buffer(out),
                params: kernel::Params {
                    word_layer,
                    position_layer,
                    segment_layer,
                    out_layer: cx.layer(out),
                    first: rows.start,
                    targets: rows.end - rows.start,
                    ..Default::default()
                },
                constants: kernel::Constants { uses: if first { uses } else { WORDS | ONTO }, ..constants },
            };
            cx.push(sum, cx.name(out), cx.elementwise(out));
        }
    }

    /// How the gradient of a table is made.
    fn way(&self, table: usize, node: &Node, dims: &Dims, variants: &Variants) -> Way {
        match self.rows[table] {
            1 if node.addend.is_none() => Way::Sum,
            _ if dims.rows <= MOST_SEGMENTS * variants.sums().segment => Way::Whole,
            _ => Way::Segments,
        }
    }

    /// The gradient of a table whose rows are summed at once.
    fn lower_whole(&self, table: usize, node: &Node, cx: &mut Lowering<'_>) {
        let ([y_bar], [out]) = (node.inputs(), node.outputs());
        let (index, rows, cols4) = (cx.batch.table(table).clone(), self.rows[table], cx.cols4(y_bar));
        for window in cx.windows(out) {
            let targets = window.end.min(rows) - window.start;
            let whole = kernel::Whole {
                y_bar: cx.buffer(y_bar),
                list: index.list.clone(),
                bounds: index.bounds.clone(),
                starts: index.starts.clone(),
                out: cx.rows_of(out, &window),
                onto: node.addend.map(|id| cx.rows_of(id, &window)),
                params: kernel::Params {
                    targets,
                    first: window.start,
                    in_layer: cx.layer(y_bar),
                    out_layer: cx.layer(out),
                    ..Default::default()
                },
                constants: kernel::Constants { addend: node.addend.is_some(), cols4, ..Default::default() },
            };
            let size = Count::Fixed(targets * cols4);
            cx.push(whole, cx.name(out), Grid { count: size, unit: 64, columns: 1, layers: cx.layers(y_bar) });
        }
    }

    /// The gradient of a table whose rows are summed in segments.
    fn lower_scatter(&self, table: usize, node: &Node, cx: &mut Lowering<'_>) {
        let ([y_bar], [out]) = (node.inputs(), node.outputs());
        let (index, rows) = (cx.batch.table(table).clone(), self.rows[table]);
        let cols4 = cx.cols4(y_bar);
        let segments = most_segments(cx.dims.rows, rows, cx.variants.sums().segment);
        let part = cx.scratch(SEGMENTS);
        let part_layer = if cx.graph.tensor(y_bar).probes { segments * cols4 } else { 0 };
        let layers = cx.layers(y_bar);
        let grid = |size: u32| Grid { count: Count::Fixed(size), unit: 64, columns: 1, layers };
        let params = kernel::Params { targets: rows, ..Default::default() };
        let constants = kernel::Constants { cols4, ..Default::default() };
        let partial = kernel::Partial {
            y_bar: cx.buffer(y_bar),
            list: index.list,
            bounds: index.bounds,
            starts: index.starts.clone(),
            out: part.clone(),
            params: kernel::Params { in_layer: cx.layer(y_bar), out_layer: part_layer, ..params },
            constants,
        };
        cx.push(partial, format!("{}.partial", cx.name(out)), grid(segments * cols4));
        for window in cx.windows(out) {
            let targets = window.end.min(rows) - window.start;
            let combine = kernel::Combine {
                part: part.clone(),
                addend: node.addend.map(|id| cx.rows_of(id, &window)),
                starts: index.starts.clone(),
                out: cx.rows_of(out, &window),
                params: kernel::Params {
                    in_layer: part_layer,
                    out_layer: cx.layer(out),
                    first: window.start,
                    targets,
                    ..params
                },
                constants: kernel::Constants { addend: node.addend.is_some(), ..constants },
            };
            cx.push(combine, cx.name(out), grid(targets * cols4));
        }
    }
}
