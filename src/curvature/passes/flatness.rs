//! A pass back for draws of labels that gives squared norms of per-example gradients, those on a layer's own scale,
//! and the rows of which norms by row of a table are made.

use std::collections::HashMap;
use std::ops::Range;

use super::loops::Loops;
use super::norms::FEW;
use super::pass::Pass;
use super::summands::Summands;
use crate::curvature::{CurvatureError, Subject};
use crate::gpu::{Buffer, Count};
use crate::graph::{Emit, Graph, NormTerm, Relative, TensorId};
use crate::model::{Encoder, Given, Part, Piece, Recipe};
use crate::ops::counts::{MASKED, ROWS};
use crate::ops::{Batch, GradientRows, LossDraw, Rule, Table, call};

/// Of which piece a summand is, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// ‖G‖².
    Trace(usize),
    /// ‖Wᵀ G‖², or of attention's output ‖G Wᵀ‖².
    Relative(usize),
}

/// What a batch leaves for norms by row, for some draws; a row is padded to a multiple of 4 numbers.
pub struct DrawnRows {
    /// The batch.
    pub batch: Batch,
    /// Adjoints of the logits, `[draw][masked, V]`.
    pub logits: Vec<Vec<f32>>,
    /// Adjoints of the embedding, `[draw][rows, D]`.
    pub embedding: Vec<Vec<f32>>,
    /// What the head's last product reads, [masked, D].
    pub head: Vec<f32>,
}

/// Which tensors those are.
#[derive(Clone, Copy)]
struct RowTensors {
    logits: TensorId,
    embedding: TensorId,
    head: TensorId,
}

/// Squared norms of per-example gradients by piece, and rows for those of tables and of the bias over words.
pub struct FlatnessPass {
    pass: Pass,
    summands: Summands<Term>,
    rows: RowTensors,
    head: Vec<f32>,
}

/// Whether the norms of a piece are taken by row on the host.
pub(in crate::curvature) fn by_row(encoder: &Encoder, piece: Piece) -> bool {
    let bias = encoder.parameters[piece.parameter].role.bias;
    matches!(piece.part, Part::Table(_)) || (piece.part == Part::Decoder && bias)
}

/// Whether a piece is the weight of a layer that has a relative flatness.
pub(in crate::curvature) fn is_layer(encoder: &Encoder, piece: Piece) -> bool {
    !encoder.parameters[piece.parameter].role.bias
        && matches!(
            piece.part,
            Part::Query
                | Part::Key
                | Part::Value
                | Part::AttentionOutput
                | Part::Gate
                | Part::FeedForwardInput
                | Part::FeedForwardOutput
                | Part::HeadDense
        )
}

/// The recipe, its summands, and what is written before the first run: weights that share a matrix, apart.
struct FlatnessRecipe {
    recipe: Recipe,
    terms: Vec<(Term, NormTerm)>,
    rows: RowTensors,
    blocks: Vec<(usize, TensorId)>,
}

impl FlatnessRecipe {
    fn new(subject: &Subject, kind: LossDraw) -> Result<FlatnessRecipe, CurvatureError> {
        let encoder = &subject.first_order();
        let pieces = encoder.pieces();
        // Parameters that share a matrix are its parts, in order; so are queries, keys and values of one parameter.
        let of_matrix = |m: usize| -> Vec<usize> {
            (0..pieces.len()).filter(|i| encoder.parameters[pieces[*i].parameter].matrix == m).collect()
        };
        let matrix_of = |id: TensorId| encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
        let chosen = |keep: &dyn Fn(Piece) -> bool| -> Vec<usize> {
            (0..encoder.matrices.len()).filter(|m| of_matrix(*m).iter().all(|i| keep(pieces[*i]))).collect()
        };
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", MASKED, 4);
        let drawn = graph.push(call(kind, Rule::Forward, &[encoder.logits, loss]), "draw")[0];
        let adjoints = graph.gradient(&[(encoder.logits, drawn)]);

        let wanted: Vec<TensorId> =
            chosen(&|piece| !by_row(encoder, piece)).into_iter().map(|m| encoder.tensors[m]).collect();
        let parts = |id| encoder.parts(matrix_of(id), of_matrix(matrix_of(id)).len());
        let traces = graph.ghost_norms(&adjoints, &wanted, &parts)?;
        let mut blocks = Vec::new();
        let mut layers = Vec::new();
        for m in chosen(&|piece| is_layer(encoder, piece)) {
            let (own, parts) = (of_matrix(m), of_matrix(m).len() as u32);
            let relative = match parts {
                1 if pieces[own[0]].part == Part::AttentionOutput => Relative::Right,
                1 => Relative::Left,
                _ => {
                    let matrix = &encoder.matrices[m];
                    let wide = parts * matrix.cols.next_multiple_of(4);
                    let apart = graph.input(&format!("{}, apart", matrix.name), Count::Fixed(matrix.rows), wide);
                    blocks.push((m, apart));
                    Relative::LeftBlocks { blocks: apart, parts }
                }
            };
            layers.push((encoder.tensors[m], relative));
        }
        let (relative, made) = graph.relative_norms(&adjoints, &layers)?;
        let rows = row_tensors(encoder, &graph, &adjoints, drawn)?;

        let norms: Vec<TensorId> = distinct(traces.iter().chain(&relative).map(|t| t.tensor));
        let kept: Vec<TensorId> = norms.iter().copied().chain([rows.logits, rows.embedding, rows.head]).collect();
        graph.prune(&kept);
        graph.fuse();
        graph.share_slopes();
        graph.share_row_grams(&subject.dims, |rows| subject.longest(rows), FEW);
        graph.norms_early(&made);
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Weight, [weight])
            .give(Given::Fresh("projections apart"), blocks.iter().map(|(_, id)| *id))
            .give(Given::Block("the norms"), norms.iter().copied())
            .keep(&kept)
            .in_phases();
        let piece = |t: &NormTerm| of_matrix(matrix_of(t.parameter))[t.part];
        let terms = traces
            .iter()
            .map(|t| (Term::Trace(piece(t)), *t))
            .chain(relative.iter().map(|t| (Term::Relative(piece(t)), *t)))
            .collect();
        Ok(FlatnessRecipe { recipe, terms, rows, blocks })
    }
}

fn distinct(ids: impl Iterator<Item = TensorId>) -> Vec<TensorId> {
    let mut all: Vec<TensorId> = ids.collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The adjoints of the embedding and the logits, and what the head's last product reads.
fn row_tensors(
    encoder: &Encoder,
    graph: &Graph,
    adjoints: &HashMap<TensorId, TensorId>,
    logits: TensorId,
) -> Result<RowTensors, CurvatureError> {
    let matrix = |keep: &dyn Fn(Part) -> bool| {
        let found = encoder.parameters.iter().find(|p| keep(p.role.part) && !p.role.bias);
        encoder.tensors[found.expect("a language model has it").matrix]
    };
    let words = matrix(&|part| part == Part::Table(Table::Words));
    let decoder = match encoder.config.tie_word_embeddings {
        true => words,
        false => matrix(&|part| part == Part::Decoder),
    };
    let embedding = graph.gradient_rows(adjoints, words)?.into_iter().find_map(|rows| match rows {
        GradientRows::Table { b, .. } => Some(b),
        _ => None,
    });
    let head = graph.gradient_rows(adjoints, decoder)?.into_iter().find_map(|rows| match rows {
        GradientRows::Product { a, .. } => Some(a),
        _ => None,
    });
    let (embedding, head) = (embedding.expect("words are looked up"), head.expect("logits are a product"));
    Ok(RowTensors { logits, embedding, head })
}

impl FlatnessPass {
    /// Bytes that it takes of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, kind: LossDraw) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &FlatnessRecipe::new(subject, kind)?.recipe)
    }

    /// Plans for draws of a kind.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject, kind: LossDraw) -> Result<FlatnessPass, CurvatureError> {
        let FlatnessRecipe { recipe, terms, rows, blocks } = FlatnessRecipe::new(subject, kind)?;
        let loops = Loops::of(subject, recipe.graph());
        let pass = Pass::new(subject, recipe)?;
        if !blocks.is_empty() {
            let encoder = subject.encoder();
            let weights = subject.read_weights()?;
            for (m, apart) in blocks {
                let packed = weights.packed(&encoder.parameters, &encoder.matrices, m);
                let matrix = &encoder.matrices[m];
                let (rows, cols) = (matrix.rows as usize, matrix.cols.next_multiple_of(4) as usize);
                let pieces = encoder.pieces().iter().filter(|p| encoder.parameters[p.parameter].matrix == m).count();
                let parts: Vec<Range<u32>> =
                    encoder.parts(m, pieces).into_iter().flat_map(|parts| parts.columns(matrix.rows)).collect();
                subject.gpu().write_at(pass.bound.buffer(apart), 0, &diagonal(&packed, rows, cols, &parts));
            }
        }
        let summands = Summands::new(&pass, loops, terms.iter().map(|(term, t)| (*term, t)));
        Ok(FlatnessPass { pass, summands, rows, head: vec![] })
    }

    /// Draws at once.
    pub fn width(&self) -> usize {
        self.pass.dims().probes as usize
    }

    /// Squared norms for draws of (seed, first), handed to `take` as (draw, example, of what, a summand), and the
    /// rows of the same draws.
    ///
    /// # Errors
    /// A sentence that is too long for a software driver; what the adapter says.
    pub fn run(
        &mut self,
        subject: &Subject,
        batch: usize,
        drawn: (u64, u32),
        draws: usize,
        take: impl FnMut(usize, usize, Term, f64),
    ) -> Result<DrawnRows, CurvatureError> {
        let fresh = self.pass.resident.get() != Some(batch);
        let packed = self.summands.run(&self.pass, subject, batch, drawn, draws, take)?;
        let encoder = subject.encoder();
        let (words, wide) = (encoder.classes(), encoder.config.hidden_size);
        if fresh {
            self.head = self.read(subject, self.rows.head, (MASKED, packed.masked(), wide), 1)?.remove(0);
        }
        Ok(DrawnRows {
            logits: self.read(subject, self.rows.logits, (MASKED, packed.masked(), words), draws)?,
            embedding: self.read(subject, self.rows.embedding, (ROWS, packed.rows(), wide), draws)?,
            head: self.head.clone(),
            batch: packed,
        })
    }

    /// The rows that are there, of some draws of a tensor [rows, cols].
    fn read(
        &self,
        subject: &Subject,
        id: TensorId,
        (count, rows, cols): (Count, u32, u32),
        draws: usize,
    ) -> Result<Vec<Vec<f32>>, CurvatureError> {
        let layer = self.pass.dims().size4(count, cols) * 16;
        let bytes = u64::from(rows) * u64::from(cols.next_multiple_of(4)) * 4;
        let buffer = self.pass.bound.buffer(id);
        let windows: Vec<Buffer> = (0..draws as u64).map(|k| buffer.window(k * layer..k * layer + bytes)).collect();
        let parts: Vec<(&Buffer, usize)> = windows.iter().map(|w| (w, bytes as usize)).collect();
        let read = subject.gpu().read_many(&parts)?;
        Ok(read.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }

    /// (once a batch, once a draw) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }
}

/// Parts of a matrix's rows as blocks along a diagonal, [rows, parts · cols].
fn diagonal(matrix: &[f32], rows: usize, cols: usize, parts: &[Range<u32>]) -> Vec<f32> {
    let mut apart = vec![0.0; rows * parts.len() * cols];
    for (part, own) in parts.iter().enumerate() {
        for r in own.start as usize..own.end as usize {
            let at = (r * parts.len() + part) * cols;
            apart[at..at + cols].copy_from_slice(&matrix[r * cols..(r + 1) * cols]);
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_matrix_stand_apart() {
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let apart = diagonal(&matrix, 3, 2, &[0..2, 2..3]);
        assert_eq!(apart, [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0, 6.0]);
    }
}
