//! Flatness that can be compared: the Fisher trace by block with |w|² beside it, and what is made of these that does
//! not change with a scale that the function does not know (`docs/flatness.md`).
//!
//! A *block* is a row of a word, position or segment table, an entry of the bias over words, else a tensor, of queries,
//! keys and values each its own. With T_p the trace of block p and |w_p|² its squared norm:
//!
//! - the scale-free trace is Σ |w_p|² T_p;
//! - the balanced trace is the least over the tables' gauge, or over all scalar gauges ([`Gauge`]);
//! - the relative flatness of a layer is E ‖Wᵀ G‖², for attention's output E ‖G Wᵀ‖² (Petzka et al. 2021).

mod balance;
mod pieces;
mod rows;
mod samples;

use super::error::unless_interrupted;
use super::passes::{by_row, is_layer};
use super::{CurvatureError, FlatnessPass, Observe, Progress, Refusal, Subject, Term};
use crate::model::{Encoder, Gauge, GaugeKind, Law, NoGauge, Part, Piece, Rescaling, Shares, Unlawful, Weights};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};
pub use pieces::{LeastGauge, PieceTraces};
use rayon::prelude::*;
use rows::Group;
use samples::Samples;

/// What is drawn, for what the errors are, and which larger architecture the model is seen in.
#[derive(Clone, Debug)]
pub struct FlatnessOptions {
    /// How labels or signs are drawn.
    pub kind: LossDraw,
    /// Of the draws.
    pub seed: u64,
    /// Draws for each example; two or more tell the parts of the error apart.
    pub draws: usize,
    /// Whether the examples are all there is, or a sample.
    pub target: Target,
    /// The law of a larger architecture.
    pub into: Option<Law>,
}

/// The least of an estimated trace over changes of scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastTrace {
    /// The error is the delta method's: the scales are held fixed.
    pub trace: Estimate,
    /// What the least of estimates is off in the mean, to second order; it is not taken off.
    pub bias: f64,
}

/// A block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockFlatness {
    /// Of its tensor, with the row, entry or part behind it.
    pub name: String,
    /// T.
    pub trace: Estimate,
    /// |w|².
    pub squared_norm: f64,
    /// Of a linear layer's weight.
    pub relative_flatness: Option<Estimate>,
}

/// What a gauge multiplies beside what it divides.
#[derive(Clone, Debug, PartialEq)]
pub struct GaugeSides {
    /// [`Gauge::key`]: `tables`, `query_key.0`.
    pub key: String,
    /// |A|² of what is multiplied, |C|² of what is divided; 0 where nothing is.
    pub squared_norms: [f64; 2],
    /// T_A and T_C.
    pub traces: [Estimate; 2],
    /// T_A - T_C, of the same draws. Plain SGD moves |A|² - |C|² by η² / B times that of the labels' noise a step.
    pub apart: Estimate,
}

/// The trace of the model embedded in a larger architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedTraces {
    /// Tables as they are, the norm before a tied head divided by the factor of the width.
    pub duplicate: Estimate,
    /// Tables divided by it.
    pub paper: Estimate,
    /// The least over all scales of the tables, or why there is none.
    pub balanced: Result<LeastTrace, Unlawful>,
}

/// Measures of flatness of one model over examples.
#[derive(Clone, Debug)]
pub struct Flatness {
    /// Tr F.
    pub trace: Estimate,
    /// Σ |w_p|² T_p.
    pub scale_free_trace: Estimate,
    /// Least over the tables' gauge.
    pub balanced_trace: Result<LeastTrace, NoGauge>,
    /// Least over all scalar gauges.
    pub balanced_trace_all: Result<LeastTrace, NoGauge>,
    /// Sum over all linear layers; `None` where layers are none.
    pub relative_flatness: Option<Estimate>,
    /// Mean of |h|² over predicted positions, h being what the head's last product reads.
    pub logit_scale: Estimate,
    /// Blocks in the order of the parameters.
    pub per_block: Vec<BlockFlatness>,
    /// Both sides of every gauge that the type of model has.
    pub per_gauge: Vec<GaugeSides>,
    /// What the trace is in other gauges.
    pub pieces: PieceTraces,
    /// In the larger architecture that was asked for.
    pub embedded: Option<EmbeddedTraces>,
    /// Gauges that are held, since one of their sides has no trace.
    pub held: Vec<String>,
    /// Examples that were measured.
    pub examples: usize,
    /// Whether an interrupt ended it; it is then of the first examples only.
    pub interrupted: bool,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
}

impl Flatness {
    /// Measures a model of all whose parameters take part.
    ///
    /// # Errors
    /// Parameters that are held still; no draws; what is not finite; an interrupt before a batch was measured; what the
    /// adapter says.
    pub fn measure(
        subject: &Subject,
        what: &FlatnessOptions,
        observe: Observe<'_>,
    ) -> Result<Flatness, CurvatureError> {
        if let Some(name) = subject.vectors().left_out().first() {
            return Err(Refusal::PartOfFlatness { name: name.to_string() }.into());
        }
        if what.draws == 0 {
            return Err(Refusal::NoDraws.into());
        }
        let mut collector = Collector::new(subject, what)?;
        for batch in 0..subject.batches.len() {
            if unless_interrupted(collector.batch(subject, batch, observe))?.is_none() {
                break;
            }
            let progress = Progress { done: collector.samples.examples(), of: subject.examples(), value: None };
            if unless_interrupted(observe(&progress))?.is_none() {
                break;
            }
        }
        match collector.samples.examples() {
            0 => Err(CurvatureError::Interrupted),
            _ => collector.finish(subject),
        }
    }
}

/// Squared norms as they come in.
struct Collector<'w> {
    what: &'w FlatnessOptions,
    pass: FlatnessPass,
    pieces: Vec<Piece>,
    groups: Vec<Group>,
    /// |w|² of each piece, and of each row of the groups.
    squared_norms: Vec<f64>,
    row_norms: Vec<f64>,
    /// Columns: the trace of each piece, its relative flatness, then Σ |w|² T over the rows of each group.
    samples: Samples,
    head_scales: Vec<f64>,
    cost: f64,
    gradient_flops: f64,
}

/// What is summed up of one example.
struct Sums {
    /// `[column][draw]`.
    columns: Vec<Vec<f64>>,
    /// Of each row over the draws: of its squared norms, and of their squares.
    rows: Vec<[f64; 2]>,
    head_scale: f64,
}

impl Sums {
    fn new(columns: usize, draws: usize, rows: usize) -> Sums {
        Sums { columns: vec![vec![0.0; draws]; columns], rows: vec![[0.0; 2]; rows], head_scale: 0.0 }
    }

    fn is_finite(&self) -> bool {
        self.columns.iter().flatten().chain([&self.head_scale]).all(|v| v.is_finite())
    }
}

impl<'w> Collector<'w> {
    fn new(subject: &Subject, what: &'w FlatnessOptions) -> Result<Collector<'w>, CurvatureError> {
        let encoder = subject.encoder();
        let pieces = encoder.pieces();
        let layout = encoder.batch_layout(subject.model.variants());
        let groups = rows::groups(encoder, &pieces, &layout);
        let weights = subject.read_weights()?;
        let squared_norms = norms_of_pieces(encoder, &pieces, &weights);
        let row_norms: Vec<f64> = groups.iter().flat_map(|g| norms_of_rows(g, &pieces, &weights)).collect();
        let columns = 2 * pieces.len() + groups.len();
        Ok(Collector {
            what,
            pass: FlatnessPass::new(subject, what.kind)?,
            samples: Samples::new(columns, row_norms.len(), what.kind, what.target),
            pieces,
            groups,
            squared_norms,
            row_norms,
            head_scales: vec![],
            cost: 0.0,
            gradient_flops: subject.gradient_flops(),
        })
    }

    /// One more batch; interrupted, it counts for nothing.
    fn batch(&mut self, subject: &Subject, batch: usize, observe: Observe<'_>) -> Result<(), CurvatureError> {
        let range = subject.batches[batch].clone();
        let positions: Vec<usize> = subject.sentences[range.clone()].iter().map(|s| s.masked.len()).collect();
        let draws = match self.what.kind {
            // The loss's own Hessian has one rank less than there are words.
            LossDraw::Exact => {
                positions.iter().max().copied().unwrap_or(0) * (subject.encoder().classes() as usize - 1)
            }
            _ => self.what.draws,
        };
        let pieces = self.pieces.len();
        let columns = 2 * pieces + self.groups.len();
        // Of labels that are enumerated only the sum is asked for.
        let exact = self.what.kind == LossDraw::Exact;
        let place = |draw: usize| if exact { 0 } else { draw };
        let slots = if exact { 1 } else { draws };
        let mut examples: Vec<Sums> = range.clone().map(|_| Sums::new(columns, slots, self.row_norms.len())).collect();
        for first in (0..draws).step_by(self.pass.width()) {
            let block = self.pass.width().min(draws - first);
            let take = |k: usize, example: usize, term: Term, value: f64| {
                let column = match term {
                    Term::Trace(piece) => piece,
                    Term::Relative(piece) => pieces + piece,
                };
                examples[example - range.start].columns[column][place(first + k)] += value;
            };
            let drawn = self.pass.run(subject, batch, (self.what.seed, first as u32), block, take)?;
            let (groups, norms) = (&self.groups, &self.row_norms);
            examples.par_iter_mut().enumerate().for_each(|(sentence, sums)| {
                for k in 0..block {
                    let squared = rows::squared_norms(groups, &drawn, k, sentence);
                    for (i, group) in groups.iter().enumerate() {
                        let own = &squared[group.rows.clone()];
                        let weighted = own.iter().zip(&norms[group.rows.clone()]).map(|(t, n)| t * n);
                        sums.columns[group.piece][place(first + k)] += own.iter().sum::<f64>();
                        sums.columns[2 * pieces + i][place(first + k)] += weighted.sum::<f64>();
                    }
                    sums.rows.iter_mut().zip(&squared).for_each(|([sum, square], x)| {
                        *sum += x;
                        *square += x * x;
                    });
                }
                sums.head_scale = rows::head_scale(&drawn, sentence);
            });
            if draws > self.pass.width() {
                observe(&Progress { done: first + block, of: draws, value: None })?;
            }
        }
        if !examples.iter().all(Sums::is_finite) {
            return Err(CurvatureError::NotFinite("a gradient's norm"));
        }
        for (sums, positions) in examples.into_iter().zip(positions) {
            self.head_scales.push(sums.head_scale);
            self.samples.push(positions, sums.columns, &sums.rows);
        }
        let flops = self.pass.flops();
        self.cost += (flops[0] + flops[1] * draws as f64) / self.gradient_flops * range.len() as f64;
        Ok(())
    }

    fn finish(self, subject: &Subject) -> Result<Flatness, CurvatureError> {
        let encoder = subject.encoder();
        let (pieces, samples) = (&self.pieces, &self.samples);
        let by_piece = PieceTraces::new(samples.clone(), pieces.len());
        let whole = |i: usize| !by_row(encoder, pieces[i]);
        let scale_free: Vec<(usize, f64)> = (0..pieces.len())
            .filter(|i| whole(*i))
            .map(|i| (i, self.squared_norms[i]))
            .chain((0..self.groups.len()).map(|g| (2 * pieces.len() + g, 1.0)))
            .collect();
        let layers: Vec<usize> = (0..pieces.len()).filter(|i| is_layer(encoder, pieces[*i])).collect();
        let relative: Vec<(usize, f64)> = layers.iter().map(|i| (pieces.len() + i, 1.0)).collect();
        let gates = |p: &Piece| matches!(p.part, Part::GatesOfInput(_) | Part::GatesOfState(_));
        let own_gauge = Rescaling::none(pieces.len());
        let mut held: Vec<String> = Vec::new();
        let mut least = |gauges: &[Gauge]| {
            let found = by_piece.least(&own_gauge, gauges);
            held.extend(found.held.into_iter().filter(|name| !held.contains(name)).collect::<Vec<_>>());
            found.least
        };
        let balanced_trace = encoder.gauges(GaugeKind::Tables, pieces).map(|tables| least(&tables));
        let balanced_trace_all = encoder.layer_gauges(pieces).map(|_| least(&encoder.balanced_gauges(pieces)));
        Ok(Flatness {
            trace: by_piece.under(&own_gauge),
            scale_free_trace: samples.combined(&scale_free),
            balanced_trace,
            balanced_trace_all,
            relative_flatness: (!pieces.iter().any(gates)).then(|| samples.combined(&relative)),
            logit_scale: samples.undrawn(&self.head_scales),
            per_block: self.blocks(encoder),
            per_gauge: self.sides(encoder),
            embedded: self.what.into.as_ref().map(|law| self.embedded(law, by_piece.values())),
            held,
            examples: samples.examples(),
            interrupted: samples.examples() < subject.examples(),
            gradient_equivalents: self.cost / samples.examples() as f64,
            pieces: by_piece,
        })
    }

    fn sides(&self, encoder: &Encoder) -> Vec<GaugeSides> {
        let gauges = GaugeKind::ALL.iter().flat_map(|kind| encoder.gauges(*kind, &self.pieces).unwrap_or_default());
        let of = |gauge: Gauge| {
            let side =
                |power: i32| -> Vec<usize> { (0..self.pieces.len()).filter(|i| gauge.powers[*i] == power).collect() };
            let sides = [side(1), side(-1)];
            let norm = |side: &Vec<usize>| side.iter().map(|i| self.squared_norms[*i]).sum();
            let trace = |side: &Vec<usize>| self.samples.combined(&side.iter().map(|i| (*i, 1.0)).collect::<Vec<_>>());
            let apart: Vec<(usize, f64)> = gauge.powers.iter().enumerate().map(|(i, p)| (i, f64::from(*p))).collect();
            GaugeSides {
                key: gauge.key(),
                squared_norms: [norm(&sides[0]), norm(&sides[1])],
                traces: [trace(&sides[0]), trace(&sides[1])],
                apart: self.samples.combined(&apart),
            }
        };
        gauges.map(of).collect()
    }

    fn blocks(&self, encoder: &Encoder) -> Vec<BlockFlatness> {
        let mut blocks = Vec::new();
        for (i, piece) in self.pieces.iter().enumerate() {
            let parameter = &encoder.parameters[piece.parameter];
            if let Some(group) = self.groups.iter().find(|g| g.piece == i) {
                blocks.extend(group.rows.clone().enumerate().map(|(row, at)| BlockFlatness {
                    name: format!("{}[{row}]", parameter.name),
                    trace: self.samples.row(at),
                    squared_norm: self.row_norms[at],
                    relative_flatness: None,
                }));
                continue;
            }
            let part = match (parameter.role.part, piece.part) {
                (Part::QueryKeyValue, Part::Query) => "[query]",
                (Part::QueryKeyValue, Part::Key) => "[key]",
                (Part::QueryKeyValue, _) => "[value]",
                _ => "",
            };
            let relative = || self.samples.combined(&[(self.pieces.len() + i, 1.0)]);
            blocks.push(BlockFlatness {
                name: format!("{}{part}", parameter.name),
                trace: self.samples.combined(&[(i, 1.0)]),
                squared_norm: self.squared_norms[i],
                relative_flatness: is_layer(encoder, *piece).then(relative),
            });
        }
        blocks
    }

    /// The traces of the model in a larger architecture, by its law.
    fn embedded(&self, law: &Law, traces: &[f64]) -> EmbeddedTraces {
        let by_piece = law.factors().map(|own| self.pieces.iter().map(|p| own[p.parameter]).collect::<Vec<f64>>());
        let at = |s: f64| {
            let scales = [1.0 / (s * s), s * s, 1.0];
            let of = |i: usize| (i, (0..3).map(|k| scales[k] * by_piece[k][i]).sum::<f64>());
            self.samples.combined(&(0..traces.len()).map(of).collect::<Vec<_>>())
        };
        let share = |k: usize| by_piece[k].iter().zip(traces).map(|(c, t)| c * t).sum::<f64>();
        let shares = Shares { tables: share(0), norm: share(1), rest: share(2) };
        let balanced = law.flattest(&shares).map(|scale| {
            let between = |i: usize| (i, by_piece[0][i] / shares.tables - by_piece[1][i] / shares.norm);
            let apart = self.samples.combined(&(0..traces.len()).map(between).collect::<Vec<_>>()).standard_error;
            let off = (shares.tables * shares.norm).sqrt() / 4.0 * apart * apart;
            LeastTrace { trace: at(scale), bias: 0.0 - off }
        });
        EmbeddedTraces { duplicate: at(1.0), paper: at(1.0 / law.width()), balanced }
    }
}

/// |w|² of each piece.
fn norms_of_pieces(encoder: &Encoder, pieces: &[Piece], weights: &Weights) -> Vec<f64> {
    let mut norms = vec![0.0; pieces.len()];
    for (parameter, values) in weights.0.iter().enumerate() {
        let first = pieces.iter().position(|p| p.parameter == parameter).expect("every parameter has a piece");
        for (i, w) in values.iter().enumerate() {
            norms[first + encoder.piece_of(parameter, i)] += f64::from(*w).powi(2);
        }
    }
    norms
}

/// |w|² of each row of a group.
fn norms_of_rows<'a>(group: &Group, pieces: &[Piece], weights: &'a Weights) -> impl Iterator<Item = f64> + use<'a> {
    let values = &weights.0[pieces[group.piece].parameter];
    let wide = values.len() / group.rows.len();
    values.chunks_exact(wide).map(|row| row.iter().map(|w| f64::from(*w).powi(2)).sum())
}
