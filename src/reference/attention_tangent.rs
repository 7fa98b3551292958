//! Twin of `shaders/attention_tangent.wgsl`, with weights, scores and their tangents written out.

use super::attention::{Heads, dot};
use crate::ops::Attention;

/// One query row's weights, scores' tangents and values in a head, over the rows of its sentence.
struct Row {
    others: std::ops::Range<usize>,
    p: Vec<f64>,
    s_dot: Vec<f64>,
    /// log Σ exp s and its tangent.
    norm: f64,
    mu: f64,
}

fn row(heads: &Heads<'_>, dots: &Heads<'_>, span: [u32; 4], i: usize, h: usize) -> Row {
    let scale = heads.op.scale();
    let others = span[0] as usize..span[1] as usize;
    let s: Vec<f64> = others.clone().map(|j| scale * dot(heads.part(0, i, h), heads.part(1, j, h))).collect();
    let s_dot: Vec<f64> = others
        .clone()
        .map(|j| scale * (dot(dots.part(0, i, h), heads.part(1, j, h)) + dot(heads.part(0, i, h), dots.part(1, j, h))))
        .collect();
    let top = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let norm = top + s.iter().map(|s| (s - top).exp()).sum::<f64>().ln();
    let p: Vec<f64> = s.iter().map(|s| (s - norm).exp()).collect();
    let mu = dot(&p, &s_dot);
    Row { others, p, s_dot, norm, mu }
}

/// (ȯ, stat_dot) of qkv along its tangent.
pub fn jvp(op: &Attention, spans: &[[u32; 4]], qkv: &[f64], qkv_dot: &[f64]) -> [Vec<f64>; 2] {
    let (heads, dots) = (Heads { op, qkv }, Heads { op, qkv: qkv_dot });
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let mut o_dot = vec![0.0; spans.len() * wide];
    let mut stat = Vec::new();
    for (i, span) in spans.iter().enumerate() {
        for h in 0..op.heads as usize {
            let r = row(&heads, &dots, *span, i, h);
            for (n, j) in r.others.clone().enumerate() {
                let p_dot = r.p[n] * (r.s_dot[n] - r.mu);
                for c in 0..size {
                    o_dot[i * wide + h * size + c] += p_dot * heads.part(2, j, h)[c] + r.p[n] * dots.part(2, j, h)[c];
                }
            }
            stat.extend([r.norm, 0.0, r.mu, 0.0]);
        }
    }
    [o_dot, stat]
}

/// (log Σ exp s, δ, μ, δ̇) of every row and head.
pub fn delta(op: &Attention, stat_dot: &[f64], o: &[f64], o_bar: &[f64], o_dot: &[f64], bar_dot: &[f64]) -> Vec<f64> {
    let size = op.padded() as usize;
    let mut out = Vec::new();
    for (i, s) in stat_dot.chunks_exact(4).enumerate() {
        let at = i * size..(i + 1) * size;
        let of = |a: &[f64], b: &[f64]| dot(&a[at.clone()], &b[at.clone()]);
        out.extend([s[0], of(o, o_bar), s[2], of(o_dot, o_bar) + of(o, bar_dot)]);
    }
    out
}

/// Tangent of the adjoint of qkv.
pub fn vjp_jvp(
    op: &Attention,
    spans: &[[u32; 4]],
    qkv: &[f64],
    delta: &[f64],
    o_bar: &[f64],
    qkv_dot: &[f64],
    bar_dot: &[f64],
) -> Vec<f64> {
    let (heads, dots) = (Heads { op, qkv }, Heads { op, qkv: qkv_dot });
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let mut out = vec![0.0; qkv.len()];
    for (i, span) in spans.iter().enumerate() {
        for h in 0..op.heads as usize {
            let r = row(&heads, &dots, *span, i, h);
            let at = i * wide + h * size;
            let (g, g_dot) = (&o_bar[at..at + size], &bar_dot[at..at + size]);
            let d = &delta[4 * (i * op.heads as usize + h)..][..4];
            for (n, j) in r.others.clone().enumerate() {
                let p_dot = r.p[n] * (r.s_dot[n] - r.mu);
                let e = dot(g, heads.part(2, j, h)) - d[1];
                let e_dot = dot(g_dot, heads.part(2, j, h)) + dot(g, dots.part(2, j, h)) - d[3];
                let t = op.scale() * r.p[n] * e;
                let t_dot = op.scale() * (p_dot * e + r.p[n] * e_dot);
                for c in 0..size {
                    out[i * 3 * wide + h * size + c] += t_dot * heads.part(1, j, h)[c] + t * dots.part(1, j, h)[c];
                    out[j * 3 * wide + wide + h * size + c] +=
                        t_dot * heads.part(0, i, h)[c] + t * dots.part(0, i, h)[c];
                    out[j * 3 * wide + 2 * wide + h * size + c] += p_dot * g[c] + r.p[n] * g_dot[c];
                }
            }
        }
    }
    out
}

/// ⟨ō, D²o⟩ of every row and head, in the first of four columns: the second derivative of p written out.
pub fn second(op: &Attention, spans: &[[u32; 4]], qkv: &[f64], o_bar: &[f64], qkv_dot: &[f64]) -> Vec<f64> {
    let (heads, dots) = (Heads { op, qkv }, Heads { op, qkv: qkv_dot });
    let (wide, size) = (heads.wide(), op.padded() as usize);
    let mut out = Vec::new();
    for (i, span) in spans.iter().enumerate() {
        for h in 0..op.heads as usize {
            let r = row(&heads, &dots, *span, i, h);
            let g = &o_bar[i * wide + h * size..][..size];
            // s̈ − its mean, (ṡ − μ)² − its mean: p̈ = p (both together).
            let bend: Vec<f64> = r
                .others
                .clone()
                .zip(&r.s_dot)
                .map(|(j, s)| 2.0 * op.scale() * dot(dots.part(0, i, h), dots.part(1, j, h)) + (s - r.mu).powi(2))
                .collect();
            let mean = dot(&r.p, &bend);
            let mut term = 0.0;
            for (n, j) in r.others.clone().enumerate() {
                let p_dot = r.p[n] * (r.s_dot[n] - r.mu);
                let p_ddot = r.p[n] * (bend[n] - mean);
                term += p_ddot * dot(g, heads.part(2, j, h)) + 2.0 * p_dot * dot(g, dots.part(2, j, h));
            }
            out.extend([term, 0.0, 0.0, 0.0]);
        }
    }
    out
}
