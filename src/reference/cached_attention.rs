//! Twin of `shaders/cached_attention.wgsl`, with the weights written out.

use super::{Inputs, Twin, no_twin};
use crate::ops::{CachedAttention, Rule};

impl Twin for CachedAttention {
    /// (qkv, cache, runs) to o: softmax over the keys of the run and of the sentence up to the row.
    fn evaluate(&self, rule: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        if rule != Rule::Forward {
            no_twin(inputs);
        }
        let (qkv, cache, runs) = (inputs.of(0), inputs.of(1), inputs.of(2));
        let (columns, size) = (self.columns() as usize, self.padded() as usize);
        let wide = columns / 3;
        let mut out = Vec::with_capacity(qkv.len() / 3);
        for (i, (span, run)) in inputs.spans().iter().zip(runs.chunks_exact(4)).enumerate() {
            let [first, count, stride] = [run[0], run[1], run[2]].map(|n| n as usize);
            let row = |of: &'_ [f64], r: usize| of[r * columns..(r + 1) * columns].to_vec();
            let before = (0..count).map(|n| row(cache, first + n * stride));
            let others: Vec<Vec<f64>> = before.chain((span[0] as usize..=i).map(|j| row(qkv, j))).collect();
            let own = row(qkv, i);
            for head in 0..self.heads as usize {
                let part = |row: &[f64], which: usize| row[which * wide + head * size..][..size].to_vec();
                let q = part(&own, 0);
                let dot = |k: Vec<f64>| self.scale() * q.iter().zip(&k).map(|(q, k)| q * k).sum::<f64>();
                let s: Vec<f64> = others.iter().map(|other| dot(part(other, 1))).collect();
                let top = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let mass: f64 = s.iter().map(|s| (s - top).exp()).sum();
                let mut o = vec![0.0; size];
                for (other, s) in others.iter().zip(&s) {
                    let weight = (s - top).exp() / mass;
                    o.iter_mut().zip(part(other, 2)).for_each(|(o, v)| *o += weight * v);
                }
                out.extend(o);
            }
        }
        vec![out]
    }
}
