//! Random vectors as functions of (seed, number): regenerated rather than stored, the same for any block size and from
//! any place on.

use std::borrow::Cow;
use std::ops::Range;

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
    piece(kind, seed, number, 0..size)
}

/// Several probes in a row.
pub fn probes(kind: ProbeKind, seed: u64, numbers: Range<usize>, size: usize) -> Vec<Vec<f32>> {
    numbers.map(|n| probe(kind, seed, n as u64, size)).collect()
}

/// Some of the numbers of a probe.
fn piece(kind: ProbeKind, seed: u64, number: u64, range: Range<usize>) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let words =
        |counter: usize| philox([counter as u32, Purpose::Probe as u32, number as u32, (number >> 32) as u32], key);
    let a_counter = match kind {
        ProbeKind::Rademacher => 128,
        ProbeKind::Gaussian => 2,
    };
    let mut v = vec![0.0f32; range.len()];
    by_chunk(&mut v, |start, v| {
        let (mut at, mut rest) = (range.start + start, v);
        while !rest.is_empty() {
            let first = at % a_counter;
            let (now, later) = rest.split_at_mut((a_counter - first).min(rest.len()));
            let words = words(at / a_counter);
            match kind {
                ProbeKind::Rademacher => now
                    .iter_mut()
                    .zip(first..)
                    .for_each(|(x, j)| *x = if words[j / 32] >> (j % 32) & 1 == 0 { 1.0 } else { -1.0 }),
                ProbeKind::Gaussian => now.copy_from_slice(&normals(words)[first..first + now.len()]),
            }
            at += now.len();
            rest = later;
        }
    });
    v
}

/// Two normals of one counter's words, by Box and Muller; 53 bits in (0, 1], then in [0, 1).
fn normals(w: [u32; 4]) -> [f32; 2] {
    let uniform = |a: u32, b: u32| (u64::from(a >> 5) << 26 | u64::from(b >> 6)) as f64 / (1u64 << 53) as f64;
    let radius = (-2.0 * (1.0 - uniform(w[0], w[1])).ln()).sqrt();
    let (sin, cos) = (2.0 * std::f64::consts::PI * uniform(w[2], w[3])).sin_cos();
    [(radius * cos) as f32, (radius * sin) as f32]
}

/// Several probes in a row that are not made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes {
    /// Their distribution.
    pub kind: ProbeKind,
    /// Their seed.
    pub seed: u64,
    /// Which ones of the seed.
    pub numbers: Range<usize>,
    /// Numbers in each.
    pub size: usize,
}

impl Probes {
    /// All their numbers: `[probe][size]`.
    pub fn vectors(&self) -> Vec<Vec<f32>> {
        probes(self.kind, self.seed, self.numbers.clone(), self.size)
    }
}

/// Vectors of one size as passes take them, some of their numbers at a time.
#[derive(Clone, Debug)]
pub enum Block<'a> {
    /// Vectors that are there.
    Vectors(&'a [Vec<f32>]),
    /// Random ones, of which nothing is kept.
    Probes(Probes),
}

impl<'a> Block<'a> {
    /// Vectors in it.
    pub fn len(&self) -> usize {
        match self {
            Block::Vectors(all) => all.len(),
            Block::Probes(probes) => probes.numbers.len(),
        }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all vectors have so many numbers.
    pub fn has_size(&self, size: usize) -> bool {
        match self {
            Block::Vectors(all) => all.iter().all(|v| v.len() == size),
            Block::Probes(probes) => probes.size == size,
        }
    }

    /// Some of the numbers of vector k.
    pub fn numbers(&self, k: usize, range: Range<usize>) -> Cow<'a, [f32]> {
        match self {
            Block::Vectors(all) => Cow::Borrowed(&all[k][range]),
            Block::Probes(Probes { kind, seed, numbers, .. }) => {
                Cow::Owned(piece(*kind, *seed, (numbers.start + k) as u64, range))
            }
        }
    }

    /// So many of its vectors at a time.
    pub fn chunks(&self, width: usize) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let (all, whole) = (self.len(), self.clone());
        (0..all).step_by(width.max(1)).map(move |first| {
            let end = (first + width.max(1)).min(all);
            match &whole {
                Block::Vectors(all) => Block::Vectors(&all[first..end]),
                Block::Probes(probes) => {
                    let start = probes.numbers.start;
                    Block::Probes(Probes { numbers: start + first..start + end, ..probes.clone() })
                }
            }
        })
    }
}

impl<'a, V: AsRef<[Vec<f32>]> + ?Sized> From<&'a V> for Block<'a> {
    fn from(vectors: &'a V) -> Block<'a> {
        Block::Vectors(vectors.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_probe_are_those_of_the_whole() {
        for kind in [ProbeKind::Rademacher, ProbeKind::Gaussian] {
            let probes = Probes { kind, seed: 7, numbers: 2..5, size: 40_001 };
            let whole = probes.vectors();
            let block = Block::Probes(probes);
            for range in [0..1, 1..130, 127..129, 16_383..33_000, 40_000..40_001, 5..5] {
                for (k, v) in whole.iter().enumerate() {
                    assert_eq!(&block.numbers(k, range.clone())[..], &v[range.clone()], "{kind:?} {k} {range:?}");
                }
            }
            let second = block.chunks(2).nth(1).expect("three vectors in chunks of two");
            assert_eq!((second.len(), &second.numbers(0, 0..300)[..]), (1, &whole[2][..300]));
        }
    }
}
