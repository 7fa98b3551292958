//! Twin of `shaders/along_axes.wgsl`, with the generator of `src/random.rs`.

use super::{Inputs, Twin};
use crate::ops::{AlongAxes, Rule};
use crate::random::philox;

/// Directions.
const AXES: usize = 4;
/// Share of a direction's scatter that must be left beside those before it.
const LEAST: f64 = 1e-4;

/// u₀ of one row with its part along the words' coordinates `f` (`[V][4]`) drawn anew by `signs`.
pub fn forward(p: &[f64], f: &[[f64; AXES]], drawn: &[f64], signs: [f64; AXES]) -> Vec<f64> {
    let mean: [f64; AXES] = std::array::from_fn(|k| p.iter().zip(f).map(|(p, f)| p * f[k]).sum());
    let centred: Vec<[f64; AXES]> = f.iter().map(|f| std::array::from_fn(|k| f[k] - mean[k])).collect();
    let of = |weights: &[f64], k: usize, l: Option<usize>| -> f64 {
        weights.iter().zip(&centred).map(|(w, f)| w * f[k] * l.map_or(1.0, |l| f[l])).sum()
    };
    // p-orthonormal functions by Gram and Schmidt, each of the coordinates: g = coordinates · row.
    let mut rows: Vec<[f64; AXES]> = vec![];
    let covariance: [[f64; AXES]; AXES] = std::array::from_fn(|k| std::array::from_fn(|l| of(p, k, Some(l))));
    let inner = |a: &[f64; AXES], b: &[f64; AXES]| -> f64 {
        (0..AXES).map(|k| (0..AXES).map(|l| a[k] * covariance[k][l] * b[l]).sum::<f64>()).sum()
    };
    let mut out = drawn.to_vec();
    for (k, sign) in signs.iter().enumerate() {
        let mut row: [f64; AXES] = std::array::from_fn(|l| if l == k { 1.0 } else { 0.0 });
        for before in &rows {
            let share = inner(&row, before);
            row.iter_mut().zip(before).for_each(|(x, b)| *x -= share * b);
        }
        let left = inner(&row, &row);
        if left <= LEAST * covariance[k][k] || left <= 1e-30 {
            continue;
        }
        row.iter_mut().for_each(|x| *x /= left.sqrt());
        let value = |f: &[f64; AXES]| f.iter().zip(&row).map(|(f, x)| f * x).sum::<f64>();
        let had: f64 = drawn.iter().zip(&centred).map(|(u, f)| u * value(f)).sum();
        out.iter_mut().zip(p).zip(&centred).for_each(|((u, p), f)| *u += (sign - had) * p * value(f));
        rows.push(row);
    }
    out
}

impl Twin for AlongAxes {
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let (step, keys) = (&inputs.frame.step, &inputs.frame.batch.keys);
        let (draw, width) = (step.counter[0] + inputs.probe as u32, inputs.cols(0));
        let f: Vec<[f64; AXES]> = inputs.of(2).chunks_exact(AXES).map(|f| std::array::from_fn(|k| f[k])).collect();
        let rows = inputs.of(0).chunks_exact(width).zip(inputs.of(1).chunks_exact(4));
        let drawn = inputs.of(3).chunks_exact(width);
        let each = rows.zip(drawn).zip(keys).flat_map(|(((z, s), drawn), key)| {
            let p: Vec<f64> = z.iter().map(|z| (z - s[3] - s[2]).exp()).collect();
            let mixed = [step.seed[0], step.seed[1] ^ key[2].wrapping_mul(0x9E37_79B9)];
            let bits = philox([key[0], key[1], draw, u32::MAX], mixed)[0];
            forward(&p, &f, drawn, std::array::from_fn(|k| if bits >> k & 1 == 0 { 1.0 } else { -1.0 }))
        });
        vec![each.collect()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Over all signs of u₀ and of the directions the second moment is diag(p) - p pᵀ, with directions that depend on
    /// one another too.
    #[test]
    fn the_second_moment_is_that_of_the_loss() {
        const WORDS: usize = 5;
        let mut random = Stream::new(4, Purpose::Test, 0);
        for rank in [4, 3, 2, 0] {
            let weights: Vec<f64> = (0..WORDS).map(|_| random.exponential()).collect();
            let p: Vec<f64> = weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect();
            let mut f: Vec<[f64; 4]> = (0..WORDS).map(|_| std::array::from_fn(|_| random.normal())).collect();
            f.iter_mut().for_each(|f| (rank..4).for_each(|k| f[k] = if rank == 0 { 0.0 } else { 2.0 * f[k - rank] }));
            let sign = |bits: usize, k: usize| if bits >> k & 1 == 0 { 1.0 } else { -1.0 };
            let mut moment = [[0.0; WORDS]; WORDS];
            let all = 1 << (WORDS + 4);
            for bits in 0..all {
                let along: f64 = (0..WORDS).map(|v| p[v].sqrt() * sign(bits, v)).sum();
                let drawn: Vec<f64> = (0..WORDS).map(|v| p[v].sqrt() * sign(bits, v) - p[v] * along).collect();
                let u = forward(&p, &f, &drawn, std::array::from_fn(|k| sign(bits, WORDS + k)));
                (0..WORDS).for_each(|i| (0..WORDS).for_each(|j| moment[i][j] += u[i] * u[j] / all as f64));
            }
            for i in 0..WORDS {
                for j in 0..WORDS {
                    let want = if i == j { p[i] } else { 0.0 } - p[i] * p[j];
                    assert!((moment[i][j] - want).abs() < 1e-12, "rank {rank}, {i}, {j}: {} {want}", moment[i][j]);
                }
            }
        }
    }
}
