//! Twin of `shaders/ghost_norm.wgsl`: the gradients of each sentence are formed and their squares added up.

use std::collections::HashMap;

use crate::ops::{Batch, GhostNorm};

/// What the norms are taken from: the adjoint's rows, the other inputs, and the batch.
pub struct Rows<'a> {
    pub b: &'a [f64],
    pub b_cols: usize,
    pub masked: bool,
    pub a: &'a [f64],
    pub a_cols: usize,
    /// Statistics of layer norm, or the head's adjoint.
    pub third: &'a [f64],
    pub third_cols: usize,
}

fn square(gradient: &HashMap<(usize, usize), f64>) -> f64 {
    gradient.values().map(|v| v * v).sum()
}

/// [sentences, 4].
pub fn forward(op: GhostNorm, rows: &Rows<'_>, batch: &Batch) -> Vec<f64> {
    (0..batch.sentences).flat_map(|s| sentence(op, rows, batch, s)).collect()
}

fn sentence(op: GhostNorm, rows: &Rows<'_>, batch: &Batch, sentence: u32) -> [f64; 4] {
    let tokens = || (0..batch.ids.len()).filter(|r| batch.spans[*r][3] == sentence);
    let masked = || (0..batch.index.len()).filter(|m| batch.sentence_of[*m] == sentence);
    let own: Vec<usize> = if rows.masked { masked().collect() } else { tokens().collect() };
    let b = |t: usize| &rows.b[t * rows.b_cols..(t + 1) * rows.b_cols];
    let a = |t: usize| &rows.a[t * rows.a_cols..(t + 1) * rows.a_cols];
    let third = |t: usize| &rows.third[t * rows.third_cols..(t + 1) * rows.third_cols];
    let mut out = [0.0; 4];
    match op {
        GhostNorm::Product { parts } | GhostNorm::Sum { parts } => {
            // Parts are whole vec4; only a single part may have columns that are no multiple of 4.
            let wide = if parts == 1 { rows.b_cols } else { rows.b_cols / parts as usize };
            for (part, norm) in out.iter_mut().enumerate().take(parts as usize) {
                let mut gradient = HashMap::new();
                for t in &own {
                    for (i, bar) in b(*t)[part * wide..(part + 1) * wide].iter().enumerate() {
                        match op {
                            GhostNorm::Sum { .. } => *gradient.entry((i, 0)).or_insert(0.0) += bar,
                            _ => {
                                for (j, x) in a(*t).iter().enumerate() {
                                    *gradient.entry((i, j)).or_insert(0.0) += bar * x;
                                }
                            }
                        }
                    }
                }
                *norm = square(&gradient);
            }
        }
        GhostNorm::Scale => {
            let (mut scale, mut shift) = (HashMap::new(), HashMap::new());
            for t in &own {
                let s = third(*t);
                for (i, (bar, x)) in b(*t).iter().zip(a(*t)).enumerate() {
                    *scale.entry((i, 0)).or_insert(0.0) += bar * (x - s[0]) * s[1];
                    *shift.entry((i, 0)).or_insert(0.0) += bar;
                }
            }
            out[0] = square(&scale);
            out[1] = square(&shift);
        }
        GhostNorm::Tables => {
            for (table, norm) in out.iter_mut().take(3).enumerate() {
                let mut gradient = HashMap::new();
                for t in &own {
                    for (i, bar) in b(*t).iter().enumerate() {
                        *gradient.entry((batch.ids[*t][table] as usize, i)).or_insert(0.0) += bar;
                    }
                }
                *norm = square(&gradient);
            }
        }
        GhostNorm::Tied => {
            // ‖g + g'‖² − ‖g‖² − ‖g'‖² of the embedding's and the head's gradient of the table.
            let (mut embedding, mut head) = (HashMap::new(), HashMap::new());
            for t in tokens() {
                for (i, bar) in b(t).iter().enumerate() {
                    *embedding.entry((batch.ids[t][0] as usize, i)).or_insert(0.0) += bar;
                }
            }
            for m in masked() {
                for (word, bar) in third(m).iter().enumerate() {
                    for (i, h) in a(m).iter().enumerate() {
                        *head.entry((word, i)).or_insert(0.0) += bar * h;
                    }
                }
            }
            let mut both = head.clone();
            for (at, v) in &embedding {
                *both.entry(*at).or_insert(0.0) += v;
            }
            out[0] = square(&both) - square(&embedding) - square(&head);
        }
    }
    out
}
