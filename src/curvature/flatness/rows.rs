//! Squared norms of per-example gradients by row of a table and by entry of the bias over words, from the adjoints of
//! the embedding and of the logits.
//!
//! A row v of a table that tokens t look up has the gradient s_v = Σ b_t over those of them that are v. As the head's
//! matrix it has Σ_m e_m[v] h_m besides, over predicted positions m, and the square of the sum is ‖s_v‖² + 2 Σ_m
//! e_m[v] s_v·h_m + Σ_mn e_m[v] e_n[v] h_m·h_n. An entry of the bias has Σ_m e_m[v].

use std::collections::BTreeMap;
use std::ops::Range;

use crate::curvature::DrawnRows;
use crate::model::{Encoder, Part, Piece};
use crate::ops::batch::BatchLayout;

/// Rows that are blocks of their own: of a table, or the entries of the bias over words.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Its piece.
    pub piece: usize,
    /// Which table; `None` for the bias.
    table: Option<usize>,
    /// Whether it is the head's matrix too.
    tied: bool,
    /// Its rows among those of all groups.
    pub rows: Range<usize>,
}

/// All groups of a model.
pub(super) fn groups(encoder: &Encoder, pieces: &[Piece], layout: &BatchLayout) -> Vec<Group> {
    let mut end = 0;
    let mut group = |(piece, of): (usize, &Piece)| {
        let bias = encoder.parameters[of.parameter].role.bias;
        let (table, rows) = match of.part {
            Part::Table(table) => (Some(table as usize), layout.tables[table as usize] as usize),
            Part::Decoder if bias => (None, encoder.classes() as usize),
            _ => return None,
        };
        let tied = table == Some(0) && encoder.config.tie_word_embeddings;
        let start = end;
        end += rows;
        Some(Group { piece, table, tied, rows: start..end })
    };
    pieces.iter().enumerate().filter_map(&mut group).collect()
}

/// The squared norms of all groups' rows, of the gradient of sentence number `sentence` of a batch for one draw.
pub(super) fn squared_norms(groups: &[Group], drawn: &DrawnRows, draw: usize, sentence: usize) -> Vec<f64> {
    let all = groups.last().map_or(0, |g| g.rows.end);
    let mut norms = vec![0.0; all];
    let batch = &drawn.batch;
    let span = batch.spans[batch.ids.len() + sentence];
    let [tokens, masked] = [span[0] as usize..span[1] as usize, span[2] as usize..span[3] as usize];
    let [words, wide] = [drawn.logits[draw].len() / batch.labels.len(), drawn.embedding[draw].len() / batch.ids.len()];
    let logits = |m: usize| &drawn.logits[draw][m * words..(m + 1) * words];
    let head = |m: usize| &drawn.head[m * wide..(m + 1) * wide];
    // Of labels that are enumerated one position at a time has a cotangent.
    let masked: Vec<usize> = masked.filter(|m| logits(*m).iter().any(|e| *e != 0.0)).collect();
    for group in groups {
        let norms = &mut norms[group.rows.clone()];
        let Some(table) = group.table else {
            for (v, norm) in norms.iter_mut().enumerate() {
                *norm = masked.iter().map(|m| f64::from(logits(*m)[v])).sum::<f64>().powi(2);
            }
            continue;
        };
        if group.tied {
            for (i, m) in masked.iter().enumerate() {
                for n in &masked[..=i] {
                    let shared = dot(head(*m), head(*n)) * if m == n { 1.0 } else { 2.0 };
                    let both = logits(*m).iter().zip(logits(*n));
                    norms
                        .iter_mut()
                        .zip(both)
                        .for_each(|(norm, (e, f))| *norm += shared * f64::from(*e) * f64::from(*f));
                }
            }
        }
        let mut looked_up: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for t in tokens.clone() {
            let sum = looked_up.entry(batch.ids[t][table]).or_insert_with(|| vec![0.0; wide]);
            let row = &drawn.embedding[draw][t * wide..(t + 1) * wide];
            sum.iter_mut().zip(row).for_each(|(sum, b)| *sum += f64::from(*b));
        }
        for (v, sum) in looked_up {
            let own: f64 = sum.iter().map(|s| s * s).sum();
            let met = |m: &usize| {
                let along: f64 = sum.iter().zip(head(*m)).map(|(s, h)| s * f64::from(*h)).sum();
                2.0 * f64::from(logits(*m)[v as usize]) * along
            };
            let cross: f64 = if group.tied { masked.iter().map(met).sum() } else { 0.0 };
            norms[v as usize] += own + cross;
        }
    }
    // A sum of squares, written out: rounding may leave a little below 0.
    norms.iter_mut().for_each(|norm| *norm = norm.max(0.0));
    norms
}

/// Mean of ‖h‖² over the predicted positions of a sentence.
pub(super) fn head_scale(drawn: &DrawnRows, sentence: usize) -> f64 {
    let batch = &drawn.batch;
    let span = batch.spans[batch.ids.len() + sentence];
    let wide = drawn.head.len() / batch.labels.len();
    let of = |m: u32| {
        let row = &drawn.head[m as usize * wide..(m as usize + 1) * wide];
        dot(row, row)
    };
    (span[2]..span[3]).map(of).sum::<f64>() / f64::from(span[3] - span[2])
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
