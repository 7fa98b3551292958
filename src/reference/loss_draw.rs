//! Twin of `shaders/loss_draw.wgsl`, with the generator of `src/random.rs`.

use super::{Inputs, Twin};
use crate::ops::{LossDraw, Rule};
use crate::random::philox;

/// The cotangents of one draw: `keys` has the example's key and the position's number of each masked row.
pub fn forward(
    kind: LossDraw,
    z: &[f64],
    width: usize,
    stat: &[f64],
    keys: &[[u32; 3]],
    seed: [u32; 2],
    draw: u32,
) -> Vec<f64> {
    let mut out = Vec::new();
    for ((z, s), key) in z.chunks_exact(width).zip(stat.chunks_exact(4)).zip(keys) {
        let p: Vec<f64> = z.iter().map(|z| (z - s[3] - s[2]).exp()).collect();
        let bits =
            |block: u32| philox([key[0], key[1], draw, block], [seed[0], seed[1] ^ key[2].wrapping_mul(0x9E37_79B9)]);
        let one_hot =
            |y: usize| -> Vec<f64> { p.iter().enumerate().map(|(v, p)| p - f64::from(u8::from(v == y))).collect() };
        out.extend(match kind {
            LossDraw::Label => {
                let u = (f64::from(bits(0)[0] >> 8) + 0.5) / 16_777_216.0;
                let mut sum = 0.0;
                let passed = p.iter().filter(|p| {
                    sum += **p;
                    sum <= u
                });
                one_hot(passed.count().min(width - 1))
            }
            LossDraw::Signs => {
                let sign = |v: usize| {
                    let word = bits(v as u32 / 128)[v % 128 / 32];
                    if word >> (v % 32) & 1 == 0 { 1.0 } else { -1.0 }
                };
                let along: f64 = p.iter().enumerate().map(|(v, p)| p.sqrt() * sign(v)).sum();
                p.iter().enumerate().map(|(v, p)| p.sqrt() * sign(v) - p * along).collect()
            }
            LossDraw::Exact => {
                let y = draw as usize % (width - 1);
                let behind: f64 = p[y + 1..].iter().sum();
                let here = draw as usize / (width - 1) == key[2] as usize && behind > 0.0 && p[y] > 0.0;
                let top = if here { (p[y] * behind / (p[y] + behind)).sqrt() } else { 0.0 };
                let entry = |(v, p): (usize, &f64)| match v.cmp(&y) {
                    std::cmp::Ordering::Less => 0.0,
                    std::cmp::Ordering::Equal => top,
                    std::cmp::Ordering::Greater => -p / behind.max(f64::MIN_POSITIVE) * top,
                };
                p.iter().enumerate().map(entry).collect()
            }
        });
    }
    out
}

impl Twin for LossDraw {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (step, keys) = (&inputs.frame.step, &inputs.frame.batch.keys);
        let draw = step.counter[0] + inputs.probe as u32;
        vec![forward(*self, inputs.of(0), inputs.cols(0), inputs.of(1), keys, step.seed, draw)]
    }
}
