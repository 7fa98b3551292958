//! Twin of `shaders/attention.wgsl`, with the weights written out.

use crate::ops::Attention;

/// Factor on the weight of query row i on key row j in a head.
pub type Keep<'a> = &'a dyn Fn(usize, usize, usize) -> f64;

/// Queries, keys and values, or their tangents.
pub(super) struct Heads<'a> {
    pub op: &'a Attention,
    pub qkv: &'a [f64],
}

impl Heads<'_> {
    pub fn wide(&self) -> usize {
        (self.op.heads * self.op.padded()) as usize
    }

    /// Query (0), key (1) or value (2) of a row's head.
    pub fn part(&self, which: usize, row: usize, head: usize) -> &[f64] {
        let size = self.op.padded() as usize;
        let at = row * 3 * self.wide() + which * self.wide() + head * size;
        &self.qkv[at..at + size]
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// (o, stat): stat [rows, 4 heads] holds log Σ exp s in the first of a head's four columns.
pub fn forward(op: &Attention, spans: &[[u32; 4]], qkv: &[f64], keep: Keep<'_>) -> [Vec<f64>; 2] {
    let heads = Heads { op, qkv };
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let mut o = vec![0.0; spans.len() * wide];
    let mut stat = vec![0.0; spans.len() * 4 * op.heads as usize];
    for (i, span) in spans.iter().enumerate() {
        for h in 0..op.heads as usize {
            let others = span[0] as usize..span[1] as usize;
            let s: Vec<f64> =
                others.clone().map(|j| op.scale() * dot(heads.part(0, i, h), heads.part(1, j, h))).collect();
            let top = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mass: f64 = s.iter().map(|s| (s - top).exp()).sum();
            stat[(i * op.heads as usize + h) * 4] = top + mass.ln();
            for (j, s) in others.zip(s) {
                let weight = (s - top).exp() / mass * keep(i, j, h);
                for c in 0..size {
                    o[i * wide + h * size + c] += weight * heads.part(2, j, h)[c];
                }
            }
        }
    }
    [o, stat]
}

/// The adjoint of qkv from that of o.
pub fn vjp(
    op: &Attention,
    spans: &[[u32; 4]],
    qkv: &[f64],
    stat: &[f64],
    o: &[f64],
    o_bar: &[f64],
    keep: Keep<'_>,
) -> Vec<f64> {
    let heads = Heads { op, qkv };
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let mut bar = vec![0.0; qkv.len()];
    for (i, span) in spans.iter().enumerate() {
        for h in 0..op.heads as usize {
            let at = i * wide + h * size;
            let g = &o_bar[at..at + size];
            let delta = dot(g, &o[at..at + size]);
            for j in span[0] as usize..span[1] as usize {
                let (q, k, v) = (heads.part(0, i, h), heads.part(1, j, h), heads.part(2, j, h));
                let weight = (op.scale() * dot(q, k) - stat[(i * op.heads as usize + h) * 4]).exp();
                let kept = keep(i, j, h);
                let t = weight * (kept * dot(g, v) - delta) * op.scale();
                for c in 0..size {
                    bar[i * 3 * wide + h * size + c] += t * k[c];
                    bar[j * 3 * wide + wide + h * size + c] += t * q[c];
                    bar[j * 3 * wide + 2 * wide + h * size + c] += weight * kept * g[c];
                }
            }
        }
    }
    bar
}
