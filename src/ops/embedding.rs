//! The sum of a word's, a position's and a segment's vector, and its gradient without atomics: rows are sorted by the
//! host and summed in segments of bounded length. Shader: `shaders/embedding.wgsl`.

use super::lowering::Scratch;
use super::{Adjoints, Dims, Lowering, Node, Op, OutputShape, Tangents, Tensor, TensorId, Variants};
use crate::gpu::{Count, Grid};
use crate::kernels::embedding as kernel;

/// One of the three tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    Words,
    Positions,
    Segments,
}

impl Table {
    /// All, in the order of the embedding's inputs.
    pub const ALL: [Table; 3] = [Table::Words, Table::Positions, Table::Segments];
}

/// Which tables take part; the others count as zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embedding {
    pub uses: [bool; 3],
}

/// Segments that a gradient may need at most: one a table row, and one more each time a segment is full.
pub fn most_segments(rows: u32, targets: u32, segment: u32) -> u32 {
    rows / segment + targets
}

impl Embedding {
    /// Tables [n, d] in use to [rows, d].
    pub(super) fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        assert_eq!(inputs.len(), self.uses.iter().filter(|u| **u).count(), "embedding: a table for each use");
        assert!(inputs.iter().all(|t| t.cols == inputs[0].cols), "embedding: tables of one width");
        vec![("", Count::Rows, inputs[0].cols, inputs.iter().any(|t| t.probes))]
    }

    pub(super) fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
        let used = Table::ALL.into_iter().zip(self.uses).filter(|(_, used)| *used);
        for ((table, _), input) in used.zip(&node.inputs) {
            g.contribute(*input, |g, before| {
                let Count::Fixed(rows) = g.tensor(*input).rows else {
                    unreachable!("a table has a fixed number of rows")
                };
                let inputs: Vec<TensorId> = [y_bar].into_iter().chain(before).collect();
                let name = g.bar(*input);
                g.push(Op::EmbeddingScatter { table, rows, addend: before.is_some() }, &inputs, &name)[0]
            });
        }
    }

    /// The embedding of the tables' tangents.
    pub(super) fn jvp(&self, g: &mut Tangents<'_>, node: &Node) {
        let mut inputs = node.inputs.iter();
        let mut uses = [false; 3];
        let mut tangents = Vec::new();
        for (used, moved) in self.uses.into_iter().zip(&mut uses) {
            let tangent = if used { inputs.next().and_then(|id| g.of(*id)) } else { None };
            *moved = tangent.is_some();
            tangents.extend(tangent);
        }
        let name = g.dot(node.outputs[0]);
        let tangent = g.push(Op::Embedding(Embedding { uses }), &tangents, &name)[0];
        g.set(node.outputs[0], tangent);
    }

    pub(super) fn lower(&self, cx: &mut Lowering<'_>, node: &Node) {
        let out = node.outputs[0];
        let mut inputs = node.inputs.iter();
        let tables = self.uses.map(|used| if used { inputs.next().copied() } else { None });
        let uses = tables.iter().enumerate().map(|(i, table)| u32::from(table.is_some()) << i).sum();
        let [words, positions, segments] = tables.map(|table| table.map(|id| cx.buffer(id)));
        let [word_layer, position_layer, segment_layer] = tables.map(|table| table.map_or(0, |id| cx.layer(id)));
        let sum = kernel::Forward {
            words,
            positions,
            segments,
            ids: cx.batch.ids.clone(),
            out: cx.buffer(out),
            params: kernel::Params {
                cols4: cx.cols4(out),
                uses,
                word_layer,
                position_layer,
                segment_layer,
                out_layer: cx.layer(out),
                ..Default::default()
            },
        };
        cx.push(sum, cx.name(out), cx.elementwise(out));
    }
}

/// The sums of a table row's segments.
pub(super) const SEGMENTS: Scratch = Scratch("segments");

pub(super) fn scatter_outputs(rows: u32, inputs: &[&Tensor]) -> Vec<OutputShape> {
    vec![("", Count::Fixed(rows), inputs[0].cols, inputs.iter().any(|t| t.probes))]
}

/// Bytes of workspace for the segments' sums.
pub(super) fn scatter_workspace(dims: &Dims, variants: &Variants, rows: u32, y_bar: &Tensor) -> u64 {
    let layers = if y_bar.probes { dims.probes } else { 1 };
    u64::from(most_segments(dims.rows, rows, variants.sums().segment))
        * u64::from(y_bar.cols4())
        * 16
        * u64::from(layers)
}

pub(super) fn lower_scatter(table: Table, rows: u32, addend: bool, cx: &mut Lowering<'_>, node: &Node) {
    let (y_bar, out) = (node.inputs[0], node.outputs[0]);
    let index = cx.batch.table(table).clone();
    let cols4 = cx.cols4(y_bar);
    let segments = most_segments(cx.dims.rows, rows, cx.variants.sums().segment);
    let part = cx.scratch(SEGMENTS);
    let part_layer = if cx.graph.tensor(y_bar).probes { segments * cols4 } else { 0 };
    let layers = cx.layers(y_bar);
    let grid = |size: u32| Grid { count: Count::Fixed(size), unit: 64, columns: 1, layers };
    let params = kernel::Params { cols4, targets: rows, ..Default::default() };
    let partial = kernel::Partial {
        y_bar: cx.buffer(y_bar),
        list: index.list,
        bounds: index.bounds,
        starts: index.starts.clone(),
        out: part.clone(),
        params: kernel::Params { in_layer: cx.layer(y_bar), out_layer: part_layer, ..params },
    };
    cx.push(partial, format!("{}.partial", cx.name(out)), grid(segments * cols4));
    let combine = kernel::Combine {
        part,
        addend: addend.then(|| cx.buffer(node.inputs[1])),
        starts: index.starts,
        out: cx.buffer(out),
        params: kernel::Params { in_layer: part_layer, out_layer: cx.layer(out), add: u32::from(addend), ..params },
    };
    cx.push(combine, cx.name(out), grid(rows * cols4));
}
