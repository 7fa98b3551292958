//! Random vectors as functions of (seed, number): regenerated rather than stored, the same for any block size.

use super::vector::by_chunk;
use crate::random::{Purpose, philox};

/// How a probe's numbers are distributed; both have mean 0 and variance 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeKind {
    /// +1 or -1: least variance of vᵀ A v, 2 (‖A‖_F² - Σ a_ii²).
    #[default]
    Rademacher,
    /// Standard normal: variance 2 ‖A‖_F², so that the scatter tells ‖A‖_F.
    Gaussian,
}

/// Probe `number` of a seed, `size` numbers. Counter 0 upwards; 128 signs or 2 normals a counter.
pub fn probe(kind: ProbeKind, seed: u64, number: u64, size: usize) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let words =
        |counter: usize| philox([counter as u32, Purpose::Probe as u32, number as u32, (number >> 32) as u32], key);
    let mut v = vec![0.0f32; size];
    // Chunks hold whole counters of either kind.
    by_chunk(&mut v, |start, v| match kind {
        ProbeKind::Rademacher => {
            for (i, v) in v.chunks_mut(128).enumerate() {
                let words = words(start / 128 + i);
                v.iter_mut()
                    .enumerate()
                    .for_each(|(j, x)| *x = if words[j / 32] >> (j % 32) & 1 == 0 { 1.0 } else { -1.0 });
            }
        }
        ProbeKind::Gaussian => {
            for (i, v) in v.chunks_mut(2).enumerate() {
                let w = words(start / 2 + i);
                // Box and Muller; 53 bits in (0, 1], then in [0, 1).
                let uniform =
                    |a: u32, b: u32| (u64::from(a >> 5) << 26 | u64::from(b >> 6)) as f64 / (1u64 << 53) as f64;
                let radius = (-2.0 * (1.0 - uniform(w[0], w[1])).ln()).sqrt();
                let (sin, cos) = (2.0 * std::f64::consts::PI * uniform(w[2], w[3])).sin_cos();
                v.iter_mut().zip([radius * cos, radius * sin]).for_each(|(x, normal)| *x = normal as f32);
            }
        }
    });
    v
}

/// Several probes in a row.
pub fn probes(kind: ProbeKind, seed: u64, numbers: std::ops::Range<usize>, size: usize) -> Vec<Vec<f32>> {
    numbers.map(|n| probe(kind, seed, n as u64, size)).collect()
}
