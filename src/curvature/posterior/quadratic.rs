//! What a quadratic loss has of the posterior, from the spectrum of its curvature h in the coordinates of the prior:
//!
//! - the learning coefficient nβ (E[L] - L(w₀)) = ½ Σ nβ h / (nβ h + γ);
//! - the logarithm of the volume, -ln ∫ exp(-nβ (L - L(w₀))) dN(w₀, D / γ) = ½ Σ ln(1 + nβ h / γ).
//!
//! Both are sums of a function over eigenvalues, which each probe's quadrature gives without a density in between. Of
//! a matrix without negative eigenvalues Gauss's rule is an upper bound of either and Radau's, which has a node at 0, a
//! lower one, since the derivatives of both functions alternate in sign (Golub and Meurant 2010, theorems 6.4, 6.5).
//! The mean of the two is the estimate, and half their distance what the number of steps leaves open.

use nalgebra::{DMatrix, SymmetricEigen};

use crate::curvature::Quadrature;
use crate::statistics::Estimate;

/// One sum over eigenvalues.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpectralSum {
    /// With its error over the probes.
    pub value: Estimate,
    /// Mean over the probes of half the distance of the bounds. `None` where there is no lower one: a matrix with
    /// negative eigenvalues.
    pub truncation: Option<f64>,
}

/// The two sums at one nβ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quadratic {
    /// Inverse temperature.
    pub nbeta: f64,
    /// ½ Σ nβ h / (nβ h + γ).
    pub lambda_q: SpectralSum,
    /// ½ Σ ln(1 + nβ h / γ).
    pub log_volume: SpectralSum,
    /// What eigenvalues that f32 does not tell from 0 add to `lambda_q`, by absolute value.
    pub rounding: f64,
}

/// Eigenvalues below this times the largest are what the rounding of products in f32 leaves.
const FLOOR: f64 = 1e-7;
/// Negative eigenvalues beyond this times the largest are none of rounding.
const NEGATIVE: f64 = 1e-5;

impl Quadrature {
    /// λ_q and the volume of the operator that the quadrature is of. `None` where nβ h + γ is not above 0 at some node:
    /// along its direction the quadratic posterior has no end.
    pub fn quadratic(&self, nbeta: f64, gamma: f64) -> Option<Quadratic> {
        let (low, high) = self.range();
        let largest = low.abs().max(high.abs());
        // Where Radau's rule has its node.
        let end = low.min(0.0) - FLOOR * largest;
        if nbeta * low + gamma <= 0.0 {
            return None;
        }
        let bounded = low >= -NEGATIVE * largest && nbeta * end + gamma > 0.0;
        let radau: Option<Vec<Vec<(f64, f64)>>> =
            bounded.then(|| (0..self.nodes.len()).map(|p| self.radau(p, end)).collect());
        let half = 0.5 * self.size as f64;
        let sum = |f: &dyn Fn(f64) -> f64| {
            let of = |nodes: &[(f64, f64)]| half * nodes.iter().map(|(h, w)| w * f(*h)).sum::<f64>();
            let gauss: Vec<f64> = self.nodes.iter().map(|n| of(n)).collect();
            let Some(radau) = &radau else { return SpectralSum { value: Estimate::of_mean(&gauss), truncation: None } };
            let lower: Vec<f64> = radau.iter().map(|n| of(n)).collect();
            let each: Vec<f64> = gauss.iter().zip(&lower).map(|(a, b)| 0.5 * (a + b)).collect();
            let apart = gauss.iter().zip(&lower).map(|(a, b)| 0.5 * (a - b).abs()).sum::<f64>();
            SpectralSum { value: Estimate::of_mean(&each), truncation: Some(apart / gauss.len() as f64) }
        };
        let share = |h: f64| nbeta * h / (nbeta * h + gamma);
        let rounded = |h: f64| if h.abs() < FLOOR * largest { share(h).abs() } else { 0.0 };
        Some(Quadratic {
            nbeta,
            lambda_q: sum(&share),
            log_volume: sum(&|h| (nbeta * h / gamma).ln_1p()),
            rounding: sum(&rounded).value.value,
        })
    }

    /// Nodes of the rule with one node more, at `end` below all others (Golub 1973). In the basis of the probe's Ritz
    /// vectors the next row of the tridiagonal matrix has the residuals, whose signs alternate from node to node.
    fn radau(&self, probe: usize, end: f64) -> Vec<(f64, f64)> {
        let (nodes, residuals) = (&self.nodes[probe], &self.residuals[probe]);
        let m = nodes.len();
        if self.exhausted[probe] {
            return nodes.clone();
        }
        let corner = end + nodes.iter().zip(residuals).map(|((x, _), r)| r * r / (x - end)).sum::<f64>();
        let arrow = DMatrix::from_fn(m + 1, m + 1, |i, j| match (i, j) {
            (i, j) if i == j && i < m => nodes[i].0,
            (i, j) if i == j => corner,
            (i, j) if i.max(j) == m => residuals[i.min(j)] * if (i + j) % 2 == 0 { 1.0 } else { -1.0 },
            _ => 0.0,
        });
        let eigen = SymmetricEigen::new(arrow);
        let weight = |j: usize| (0..m).map(|i| nodes[i].1.sqrt() * eigen.eigenvectors[(i, j)]).sum::<f64>().powi(2);
        (0..=m).map(|j| (eigen.eigenvalues[j], weight(j))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curvature::{Dense, ProbeKind, QuadratureOptions, probe, quadrature};

    /// A diagonal matrix, and ½ N uᵀ f(A) u of each of its probes.
    fn known(values: &[f64], f: &dyn Fn(f64) -> f64, probes: usize) -> (Dense, Vec<f64>) {
        let n = values.len();
        let mut numbers = vec![0.0; n * n];
        values.iter().enumerate().for_each(|(i, h)| numbers[i * n + i] = *h);
        let of = |p: usize| {
            let u = probe(ProbeKind::Gaussian, 0, p as u64, n);
            let length: f64 = u.iter().map(|x| f64::from(*x).powi(2)).sum();
            let sum: f64 = u.iter().zip(values).map(|(x, h)| f64::from(*x).powi(2) * f(*h)).sum();
            0.5 * n as f64 * sum / length
        };
        (Dense::new(n, numbers).unwrap(), (0..probes).map(of).collect())
    }

    fn run(matrix: &Dense, steps: usize) -> Quadrature {
        let what = QuadratureOptions { steps, probes: 4, ..Default::default() };
        quadrature(matrix, &what, &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn exhausted_probes_are_exact_one_by_one() {
        let values: Vec<f64> = (0..40).map(|i| if i < 25 { 0.0 } else { 0.3 * f64::from(i - 24) }).collect();
        for (nbeta, gamma) in [(1.0, 1.0), (100.0, 1.0), (10.0, 50.0)] {
            let (matrix, shares) = known(&values, &|h| nbeta * h / (nbeta * h + gamma), 4);
            let (_, volumes) = known(&values, &|h| (nbeta * h / gamma).ln_1p(), 4);
            let got = run(&matrix, 40).quadratic(nbeta, gamma).unwrap();
            for (sum, want) in [(got.lambda_q, &shares), (got.log_volume, &volumes)] {
                let want = Estimate::of_mean(want);
                assert!((sum.value.value / want.value - 1.0).abs() < 1e-5, "{sum:?} against {want:?}");
                assert!((sum.value.standard_error / want.standard_error - 1.0).abs() < 1e-4);
                assert!(sum.truncation.unwrap() < 1e-5 * want.value, "{sum:?}");
            }
        }
    }

    #[test]
    fn few_steps_leave_bounds_on_either_side() {
        // Over five decades: few steps do not do.
        let values: Vec<f64> = (0..120).map(|i| 10f64.powf(f64::from(i) / 24.0 - 4.0)).collect();
        let (nbeta, gamma) = (300.0, 1.0);
        let (matrix, shares) = known(&values, &|h| nbeta * h / (nbeta * h + gamma), 4);
        let want = Estimate::of_mean(&shares).value;
        let mut last = f64::INFINITY;
        for steps in [5, 10, 20, 40] {
            let got = run(&matrix, steps).quadratic(nbeta, gamma).unwrap().lambda_q;
            let (off, truncation) = ((got.value.value - want).abs(), got.truncation.unwrap());
            assert!(off <= truncation * 1.0001, "{steps} steps: off by {off}, bounds {truncation}");
            assert!(truncation < 0.8 * last, "{steps} steps: {truncation} after {last}");
            last = truncation;
        }
        // Over five decades 40 steps leave a few thousandths open.
        assert!(last < 5e-3 * want, "{last}");
    }

    #[test]
    fn negative_curvature_beyond_the_prior_has_no_posterior() {
        let (matrix, _) = known(&[-0.5, 1.0, 2.0], &|h| h, 1);
        let found = run(&matrix, 3);
        assert!(found.quadratic(3.0, 1.0).is_none());
        let inside = found.quadratic(1.0, 1.0).unwrap();
        assert!(inside.lambda_q.truncation.is_none(), "no bound from below");
    }
}
