//! Long vectors of f32 with sums in f64, in fixed chunks: the same bits on any number of threads.

use rayon::prelude::*;

/// Numbers summed by one thread. Part of the definition of a sum: changing it changes last bits.
const CHUNK: usize = 1 << 14;

fn chunk_dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums, so that the compiler can use vector registers.
    let mut sums = [0.0f64; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// Σ a b in f64.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    if a.len() <= CHUNK {
        return chunk_dot(a, b);
    }
    let parts: Vec<f64> = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)).map(|(a, b)| chunk_dot(a, b)).collect();
    parts.iter().sum()
}

/// √ Σ a² in f64.
pub fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

/// Does something to each chunk of a vector, given the chunk's place; a short one stays on this thread, since waking
/// another takes longer.
pub(in crate::curvature) fn by_chunk(a: &mut [f32], each: impl Fn(usize, &mut [f32]) + Sync) {
    if a.len() <= CHUNK {
        return each(0, a);
    }
    a.par_chunks_mut(CHUNK).enumerate().for_each(|(i, a)| each(i * CHUNK, a));
}

/// a times a number.
pub(in crate::curvature) fn scale(a: &mut [f32], factor: f64) {
    by_chunk(a, |_, a| a.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32));
}

/// Inner products with all of a basis.
pub(in crate::curvature) fn dots(basis: &[Vec<f32>], a: &[f32]) -> Vec<f64> {
    basis.iter().map(|q| dot(q, a)).collect()
}

/// a + Σ c_j q_j, rounded once.
pub(in crate::curvature) fn add_combination(a: &mut [f32], basis: &[Vec<f32>], factors: &[f64]) {
    by_chunk(a, |start, a| {
        let mut sum: Vec<f64> = a.iter().map(|x| f64::from(*x)).collect();
        for (q, c) in basis.iter().zip(factors) {
            sum.iter_mut().zip(&q[start..]).for_each(|(s, x)| *s += c * f64::from(*x));
        }
        a.iter_mut().zip(&sum).for_each(|(x, s)| *x = *s as f32);
    });
}

/// Σ c_j q_j.
pub(in crate::curvature) fn combination(basis: &[Vec<f32>], factors: &[f64]) -> Vec<f32> {
    let mut a = vec![0.0; basis.first().map_or(0, Vec::len)];
    add_combination(&mut a, basis, factors);
    a
}

/// Takes the orthonormal basis' part out of a, twice (Daniel, Gragg, Kaufman, Stewart 1976), and gives the
/// coefficients.
pub(in crate::curvature) fn orthogonalise(a: &mut [f32], basis: &[Vec<f32>]) -> Vec<f64> {
    let mut whole = vec![0.0; basis.len()];
    for _ in 0..2 {
        let c = dots(basis, a);
        let minus: Vec<f64> = c.iter().map(|c| -c).collect();
        add_combination(a, basis, &minus);
        whole.iter_mut().zip(&c).for_each(|(w, c)| *w += c);
    }
    whole
}
