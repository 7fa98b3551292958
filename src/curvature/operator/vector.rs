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

/// Σ a b of vectors that come a piece at a time, with the bits of [`dot`] of the whole ones.
#[derive(Clone, Default)]
pub(in crate::curvature) struct DotOfPieces {
    /// Of the chunks that are complete.
    chunks: Vec<f64>,
    /// What there is of the next one.
    begun: [Vec<f32>; 2],
}

impl DotOfPieces {
    /// The next numbers of both.
    pub fn add(&mut self, mut a: &[f32], mut b: &[f32]) {
        if !self.begun[0].is_empty() {
            let (more, rest) = a.split_at((CHUNK - self.begun[0].len()).min(a.len()));
            self.begun[0].extend(more);
            a = rest;
            let (more, rest) = b.split_at(more.len());
            self.begun[1].extend(more);
            b = rest;
            if self.begun[0].len() == CHUNK {
                self.chunks.push(chunk_dot(&self.begun[0], &self.begun[1]));
                self.begun.iter_mut().for_each(Vec::clear);
            }
        }
        let whole = a.len() / CHUNK * CHUNK;
        let chunks = a[..whole].par_chunks(CHUNK).zip(b[..whole].par_chunks(CHUNK));
        self.chunks.par_extend(chunks.map(|(a, b)| chunk_dot(a, b)));
        self.begun[0].extend(&a[whole..]);
        self.begun[1].extend(&b[whole..]);
    }

    /// The sum.
    pub fn value(&self) -> f64 {
        let last = || chunk_dot(&self.begun[0], &self.begun[1]);
        match self.chunks.is_empty() {
            true => last(),
            false => self.chunks.iter().copied().chain((!self.begun[0].is_empty()).then(last)).sum(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_of_pieces_has_the_bits_of_the_whole() {
        for size in [0, 5, CHUNK, CHUNK + 1, 3 * CHUNK + 77] {
            let a: Vec<f32> = (0..size).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..size).map(|i| (i as f32 * 0.3).cos() + 0.1).collect();
            for step in [1000, CHUNK - 1, CHUNK, 2 * CHUNK + 5] {
                let mut pieces = DotOfPieces::default();
                a.chunks(step).zip(b.chunks(step)).for_each(|(a, b)| pieces.add(a, b));
                assert_eq!(pieces.value().to_bits(), dot(&a, &b).to_bits(), "{size} by {step}");
            }
        }
    }
}
