//! What kernel ridge regression on some sentences predicts of others, and how the error changes with the features: on
//! the host, in double precision.
//!
//! With f = u / |u| of each row u, the first n rows F_t to fit and the others F_v to judge by, K = clamp(F_t F_tᵀ),
//! G = clamp(F_v F_tᵀ), A = K + λ I, Y = one-hot - 1 / C: α = A⁻¹ Y_t, and the loss is the mean over judged rows and
//! classes of (G α - Y_v)². Its gradient goes through the fit: with R = 2 (G α - Y_v) / (n_v C) and β = A⁻¹ Gᵀ R,
//!
//! Ḡ = R αᵀ, K̄ = -β αᵀ, F̄_v = Ḡ F_t, F̄_t = Ḡᵀ F_v + (K̄ + K̄ᵀ) F_t, ū = (f̄ - f (f · f̄)) / |u|.
//!
//! `merlin_linear` of the code released with Liu, Xie, Li, Ma 2023 (classes fixed at 2, λ = 0.001). Entries that the
//! clamp holds have no derivative: the diagonal of K, and pairs of equal rows.

use rayon::prelude::*;

/// The largest magnitude of a kernel's entry.
const CLAMP: f64 = 0.9999999;

/// Rows of features with their classes, the first `fit` of which are fitted.
#[derive(Clone, Copy)]
pub(super) struct Rows<'f> {
    /// `[rows, width]`
    pub features: &'f [f32],
    pub width: usize,
    pub labels: &'f [u32],
    pub classes: usize,
    pub fit: usize,
}

impl Rows<'_> {
    /// The loss, and its derivative by every feature, `[rows, width]`.
    pub fn judge(&self, ridge: f64) -> (f64, Vec<f64>) {
        let (rows, n, c, d) = (self.labels.len(), self.fit, self.classes, self.width);
        let judged = rows - n;
        let norms: Vec<f64> = self
            .features
            .par_chunks(d)
            .map(|row| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt())
            .collect();
        let unit = |i: usize| {
            let scale = if norms[i] > 0.0 { 1.0 / norms[i] } else { 0.0 };
            self.features[i * d..(i + 1) * d].iter().map(move |x| f64::from(*x) * scale)
        };
        let f: Vec<f64> = (0..rows).into_par_iter().flat_map_iter(unit).collect();
        let row = |i: usize| &f[i * d..(i + 1) * d];
        // All rows against the fitted ones, K above G.
        let kernel: Vec<f64> =
            (0..rows).into_par_iter().flat_map_iter(|i| (0..n).map(move |j| dot(row(i), row(j)))).collect();
        let clamped: Vec<f64> = kernel.iter().map(|k| k.clamp(-CLAMP, CLAMP)).collect();
        let target = |i: usize, y: usize| f64::from(u8::from(self.labels[i] as usize == y)) - 1.0 / c as f64;
        let targets: Vec<f64> = (0..rows).flat_map(|i| (0..c).map(move |y| target(i, y))).collect();
        let mut a = clamped[..n * n].to_vec();
        (0..n).for_each(|i| a[i * n + i] += ridge);
        let cholesky = Cholesky::new(a, n);
        let alpha = cholesky.solve(&targets[..n * c], c);
        let g = &clamped[n * n..];
        let wrong: Vec<f64> = (0..judged * c)
            .map(|k| (0..n).map(|j| g[k / c * n + j] * alpha[j * c + k % c]).sum::<f64>() - targets[n * c + k])
            .collect();
        let count = (judged * c) as f64;
        let loss = wrong.iter().map(|e| e * e).sum::<f64>() / count;
        let r: Vec<f64> = wrong.iter().map(|e| 2.0 * e / count).collect();
        let gr: Vec<f64> = (0..n * c).map(|k| (0..judged).map(|v| g[v * n + k / c] * r[v * c + k % c]).sum()).collect();
        let beta = cholesky.solve(&gr, c);
        // The adjoint of every entry that is not clamped, K's above G's.
        let of_entry = |k: usize| {
            let (i, j) = (k / n, k % n);
            let left = if i < n { &beta[i * c..][..c] } else { &r[(i - n) * c..][..c] };
            let sign = if i < n { -1.0 } else { 1.0 };
            let free = f64::from(u8::from(kernel[k].abs() < CLAMP));
            sign * free * dot(left, &alpha[j * c..][..c])
        };
        let bar: Vec<f64> = (0..rows * n).map(of_entry).collect();
        let adjoint = |i: usize| {
            let mut out = vec![0.0; d];
            let mut add = |share: f64, other: usize| {
                if share != 0.0 {
                    out.iter_mut().zip(row(other)).for_each(|(o, x)| *o += share * x);
                }
            };
            for j in 0..n {
                add(bar[i * n + j], j);
            }
            if i < n {
                (0..rows).for_each(|k| add(bar[k * n + i], k));
            }
            let along = dot(row(i), &out);
            let scale = if norms[i] > 0.0 { 1.0 / norms[i] } else { 0.0 };
            out.iter_mut().zip(row(i)).for_each(|(o, x)| *o = (*o - along * x) * scale);
            out
        };
        (loss, (0..rows).into_par_iter().flat_map_iter(adjoint).collect())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A = L Lᵀ, L below the diagonal.
struct Cholesky {
    l: Vec<f64>,
    n: usize,
}

impl Cholesky {
    /// Of a symmetric positive definite matrix; of another the numbers are not finite.
    fn new(mut a: Vec<f64>, n: usize) -> Cholesky {
        for j in 0..n {
            let own = a[j * n + j] - dot(&a[j * n..j * n + j], &a[j * n..j * n + j]);
            let root = own.sqrt();
            a[j * n + j] = root;
            for i in j + 1..n {
                a[i * n + j] = (a[i * n + j] - dot(&a[i * n..i * n + j], &a[j * n..j * n + j])) / root;
            }
        }
        Cholesky { l: a, n }
    }

    /// A⁻¹ B for B `[n, columns]`.
    fn solve(&self, b: &[f64], columns: usize) -> Vec<f64> {
        let (n, l) = (self.n, &self.l);
        let mut x = b.to_vec();
        for c in 0..columns {
            for i in 0..n {
                let before: f64 = (0..i).map(|k| l[i * n + k] * x[k * columns + c]).sum();
                x[i * columns + c] = (x[i * columns + c] - before) / l[i * n + i];
            }
            for i in (0..n).rev() {
                let behind: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k * columns + c]).sum();
                x[i * columns + c] = (x[i * columns + c] - behind) / l[i * n + i];
            }
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    const WIDTH: usize = 5;

    fn features(rows: usize, seed: u64) -> Vec<f32> {
        let mut stream = Stream::new(seed, Purpose::Test, 0);
        // Multiples of 2⁻¹⁰, so that a step of the differences is exact in f32.
        (0..rows * WIDTH).map(|_| (stream.normal() * 1024.0).round() as f32 / 1024.0).collect()
    }

    fn rows<'f>(features: &'f [f32], labels: &'f [u32], classes: usize, fit: usize) -> Rows<'f> {
        Rows { features, width: WIDTH, labels, classes, fit }
    }

    #[test]
    fn the_gradient_goes_through_the_fit() {
        for (seed, classes, total, fit) in [(1, 2, 16, 14), (2, 3, 9, 7), (3, 4, 24, 21), (4, 2, 8, 1)] {
            let labels: Vec<u32> = (0..total as u32).map(|i| i % classes as u32).collect();
            let u = features(total, seed);
            for ridge in [1e-3, 0.5] {
                let (_, gradient) = rows(&u, &labels, classes, fit).judge(ridge);
                let scale = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
                assert!(scale > 1e-3, "the loss depends on the features");
                let h = 2.0f32.powi(-11);
                for k in 0..u.len() {
                    let at = |by: f32| {
                        let mut moved = u.clone();
                        moved[k] += by * h;
                        rows(&moved, &labels, classes, fit).judge(ridge).0
                    };
                    // Of fourth order.
                    let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * f64::from(h));
                    let off = (slope - gradient[k]).abs() / scale;
                    assert!(off < 1e-4, "seed {seed}, ridge {ridge}, feature {k}: {slope} against {}", gradient[k]);
                }
            }
        }
    }

    /// By PyTorch's automatic differentiation of the released function (`scripts/ridge_head.py`).
    #[test]
    fn loss_and_gradient_are_those_of_the_released_function() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            features: Vec<f32>,
            labels: Vec<u32>,
            fit: usize,
            loss: f64,
            gradient: Vec<f64>,
        }
        let recorded: Vec<Recorded> =
            serde_json::from_str(include_str!("../../../tests/fixtures/ridge_head.json")).unwrap();
        for case in recorded {
            let width = case.features.len() / case.labels.len();
            let rows = Rows { features: &case.features, width, labels: &case.labels, classes: 2, fit: case.fit };
            let (loss, gradient) = rows.judge(1e-3);
            assert!((loss - case.loss).abs() < 1e-10 * case.loss, "{loss} against {}", case.loss);
            let scale = case.gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            for (own, theirs) in gradient.iter().zip(&case.gradient) {
                assert!((own - theirs).abs() < 1e-8 * scale, "{own} against {theirs}");
            }
        }
    }

    #[test]
    fn the_loss_is_bounded_where_nothing_can_be_told() {
        // Features without anything of the label, and rows of zeros.
        let labels: Vec<u32> = (0..64).map(|i| i % 2).collect();
        let zeros = vec![0.0; 64 * WIDTH];
        let (loss, gradient) = rows(&zeros, &labels, 2, 56).judge(1e-3);
        assert_eq!(loss, 0.25, "the targets' own variance");
        assert!(gradient.iter().all(|g| *g == 0.0));
        let (loss, _) = rows(&features(64, 9), &labels, 2, 56).judge(1.0);
        assert!(loss > 0.1 && loss < 0.6, "{loss}");
    }
}
