//! Spectral density by stochastic Lanczos quadrature: each probe's Lanczos run is a Gauss quadrature of the spectral
//! measure seen from that probe, and their mean that of all directions. Golub and Welsch 1969; Ghorbani, Krishnan, Xiao
//! 2019.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::Serialize;

use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::vector::{orthogonalise, scale};
use crate::curvature::operator::{Observe, apply};
use crate::curvature::{CurvatureError, Operator, ProbeKind, Progress, Refusal, norm, probe};
use crate::statistics::Estimate;

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct QuadratureOptions {
    /// Distribution of the probes.
    pub kind: ProbeKind,
    /// Of the probes.
    pub seed: u64,
    /// Number of probes.
    pub probes: usize,
    /// Lanczos steps a probe: nodes of its quadrature.
    pub steps: usize,
    /// Probes at once; each keeps `steps` vectors. Any number gives the same answer.
    pub block: usize,
}

impl Default for QuadratureOptions {
    fn default() -> Self {
        QuadratureOptions { kind: ProbeKind::Gaussian, seed: 0, probes: 8, steps: 60, block: 4 }
    }
}

/// Nodes and weights of every probe.
#[derive(Clone, Debug, Serialize)]
pub struct Quadrature {
    /// Numbers in a vector.
    pub size: usize,
    /// `[probe][node]`: eigenvalue, and its share; a probe's shares sum to 1.
    pub nodes: Vec<Vec<(f64, f64)>>,
    /// `[probe][node]`: ‖A v - λ v‖ of the node's vector, by the recurrence: an eigenvalue lies so near.
    pub residuals: Vec<Vec<f64>>,
    /// Of each probe, whether its Krylov space is exhausted: its nodes are then eigenvalues, within rounding.
    pub exhausted: Vec<bool>,
    /// Products with a vector.
    pub products: usize,
    /// What the products cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
    /// Whether an interrupt ended it: the probes are those that were begun, with the nodes that they had.
    pub interrupted: bool,
}

/// One probe's run.
struct Run {
    basis: Vec<Vec<f32>>,
    diagonal: Vec<f64>,
    off: Vec<f64>,
    /// What the last image has outside the basis.
    left: f64,
    scale: f64,
    over: bool,
    exhausted: bool,
}

impl Run {
    fn new(mut start: Vec<f32>) -> Run {
        let length = norm(&start);
        scale(&mut start, 1.0 / length);
        Run { basis: vec![start], diagonal: vec![], off: vec![], left: 0.0, scale: 0.0, over: false, exhausted: false }
    }

    fn advance(&mut self, mut image: Vec<f32>, steps: usize) {
        self.scale = self.scale.max(norm(&image));
        let factors = orthogonalise(&mut image, &self.basis);
        self.diagonal.push(factors[factors.len() - 1]);
        let left = norm(&image);
        self.left = left;
        // Only rounding is left: the probe's own space is exhausted and its quadrature exact.
        self.exhausted = self.diagonal.len() == image.len() || left <= 3e-6 * self.scale;
        self.over = self.exhausted || self.diagonal.len() == steps;
        if !self.over {
            scale(&mut image, 1.0 / left);
            orthogonalise(&mut image, &self.basis);
            let length = norm(&image);
            scale(&mut image, 1.0 / length);
            self.basis.push(image);
            self.off.push(left);
        }
    }

    /// Nodes with their weights, smallest first, and the residual of each.
    fn nodes(&self) -> (Vec<(f64, f64)>, Vec<f64>) {
        let m = self.diagonal.len();
        let t = DMatrix::from_fn(m, m, |i, j| match i.abs_diff(j) {
            0 => self.diagonal[i],
            1 => self.off[i.min(j)],
            _ => 0.0,
        });
        let eigen = SymmetricEigen::new(t);
        let mut order: Vec<usize> = (0..m).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*a].total_cmp(&eigen.eigenvalues[*b]));
        let residual = |j: &usize| self.left * eigen.eigenvectors[(m - 1, *j)].abs();
        let node = |j: &usize| (eigen.eigenvalues[*j], eigen.eigenvectors[(0, *j)].powi(2));
        (order.iter().map(node).collect(), order.iter().map(residual).collect())
    }
}

/// Runs the probes, some at a time in step, so that their products come in blocks.
pub fn quadrature(
    operator: &dyn Operator,
    what: &QuadratureOptions,
    observe: Observe<'_>,
) -> Result<Quadrature, CurvatureError> {
    let size = operator.size();
    if what.probes == 0 || what.steps == 0 || what.block == 0 {
        return Err(Refusal::SmallDensity.into());
    }
    let steps = what.steps.min(size);
    let mut answer = Quadrature {
        size,
        nodes: vec![],
        residuals: vec![],
        exhausted: vec![],
        products: 0,
        gradient_equivalents: 0.0,
        interrupted: false,
    };
    while answer.nodes.len() < what.probes && !answer.interrupted {
        let first = answer.nodes.len();
        let numbers = first..(first + what.block).min(what.probes);
        let mut runs: Vec<Run> = numbers.map(|p| Run::new(probe(what.kind, what.seed, p as u64, size))).collect();
        while runs.iter().any(|r| !r.over) && !answer.interrupted {
            let block: Vec<Vec<f32>> =
                runs.iter().filter(|r| !r.over).map(|r| r.basis[r.basis.len() - 1].clone()).collect();
            let Some(images) = unless_interrupted(apply(operator, &block))? else {
                answer.interrupted = true;
                break;
            };
            answer.gradient_equivalents += operator.product_cost(block.len());
            answer.products += block.len();
            runs.iter_mut().filter(|r| !r.over).zip(images).for_each(|(run, image)| run.advance(image, steps));
            let progress = Progress { done: answer.products, of: what.probes * steps, value: None };
            answer.interrupted = unless_interrupted(observe(&progress))?.is_none();
        }
        // A run that was cut short is a quadrature with fewer nodes.
        for run in runs.iter().filter(|r| !r.diagonal.is_empty()) {
            let (nodes, residuals) = run.nodes();
            answer.nodes.push(nodes);
            answer.residuals.push(residuals);
            answer.exhausted.push(run.exhausted);
        }
        answer.interrupted &= answer.nodes.len() < what.probes || runs.iter().any(|r| !r.over);
    }
    if answer.nodes.is_empty() { Err(CurvatureError::Interrupted) } else { Ok(answer) }
}

/// A density with its band.
#[derive(Clone, Debug, Serialize)]
pub struct Density {
    /// Points of the axis, rising.
    pub grid: Vec<f64>,
    /// Share of the eigenvalues per unit of the axis, broadened by a Gaussian of `width`.
    pub density: Vec<f64>,
    /// Its standard error over the probes; NaN for one probe.
    pub standard_error: Vec<f64>,
    /// Standard deviation of the Gaussian, in units of the axis.
    pub width: f64,
}

/// Densities over log10 |λ| for each sign. They and what lies below the floor integrate to 1.
#[derive(Clone, Debug, Serialize)]
pub struct LogDensity {
    /// Over log10 λ of the positive eigenvalues.
    pub positive: Density,
    /// Over log10 -λ of the negative eigenvalues.
    pub negative: Density,
    /// Share with |λ| below `floor`. `None` unless for every probe the Krylov space is exhausted, or there are nodes
    /// below the floor and each has an eigenvalue within it: other nodes are no eigenvalues, and that none of them is
    /// so near 0, or one with much weight, tells nothing of how many eigenvalues are.
    pub near_zero: Option<Estimate>,
    /// What that share can be at most, by the inequalities of Chebyshev, Markov and Stieltjes (Szegő, Orthogonal
    /// Polynomials, 3.41): the weight of the nodes below the floor and of the next one on either side.
    pub near_zero_at_most: Estimate,
    /// Largest distance, over the probes, of the nodes on either side of the floor's interval, or of one from the floor
    /// where there is none on the other side.
    pub gap: f64,
    /// The smallest |λ| on the axis.
    pub floor: f64,
}

/// Every probe's broadened nodes on a grid, their mean and its standard error.
fn broaden(nodes: &[Vec<(f64, f64)>], low: f64, high: f64, width: f64, points: usize) -> Density {
    let step = if points > 1 { (high - low) / (points - 1) as f64 } else { 0.0 };
    let grid: Vec<f64> = (0..points).map(|i| low + step * i as f64).collect();
    let height = 1.0 / (width * (2.0 * std::f64::consts::PI).sqrt());
    let bell = |x: f64| height * (-0.5 * (x / width).powi(2)).exp();
    let at = |x: f64| {
        let each: Vec<f64> = nodes.iter().map(|n| n.iter().map(|(y, w)| w * bell(x - y)).sum()).collect();
        Estimate::of_mean(&each)
    };
    let values: Vec<Estimate> = grid.iter().map(|x| at(*x)).collect();
    Density {
        density: values.iter().map(|v| v.value).collect(),
        standard_error: values.iter().map(|v| v.standard_error).collect(),
        grid,
        width,
    }
}

/// Weight of the nodes with |x| below a floor and of the next one on either side, and how far those are apart.
fn around(nodes: &[(f64, f64)], floor: f64) -> (f64, f64) {
    let below = nodes.iter().rev().find(|(x, _)| *x <= -floor);
    let above = nodes.iter().find(|(x, _)| *x >= floor);
    let inside: f64 = nodes.iter().filter(|(x, _)| x.abs() < floor).map(|(_, w)| w).sum();
    let beside: f64 = below.iter().chain(&above).map(|(_, w)| w).sum();
    let gap = above.map_or(floor, |(x, _)| *x) - below.map_or(-floor, |(x, _)| *x);
    ((inside + beside).min(1.0), gap)
}

impl Quadrature {
    /// Mean of λ^power over all eigenvalues, with its error over the probes: Tr A / n for 1, ‖A‖_F² / n for 2.
    pub fn moment(&self, power: i32) -> Estimate {
        let each: Vec<f64> = self.nodes.iter().map(|n| n.iter().map(|(x, w)| w * x.powi(power)).sum()).collect();
        Estimate::of_mean(&each)
    }

    /// Smallest and largest node.
    pub fn range(&self) -> (f64, f64) {
        let all = || self.nodes.iter().flatten().map(|(x, _)| *x);
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max))
    }

    /// On a linear axis, over all nodes and four widths on either side; `relative_width` times the range is the width
    /// (0.01 is common).
    pub fn density(&self, relative_width: f64, points: usize) -> Density {
        let (low, high) = self.range();
        let span = (high - low).max(1e-6 * low.abs().max(high.abs()));
        // A matrix of zeros has no size of its own.
        let width = relative_width * if span > 0.0 { span } else { 1.0 };
        broaden(&self.nodes, low - 4.0 * width, high + 4.0 * width, width, points)
    }

    /// Whether a probe's nodes below a floor are eigenvalues, or that there are none says that there is none.
    pub fn tells(&self, probe: usize, floor: f64) -> bool {
        let below = self.nodes[probe].iter().zip(&self.residuals[probe]).filter(|((x, _), _)| x.abs() < floor);
        let mut residuals = below.map(|(_, residual)| *residual).peekable();
        self.exhausted[probe] || (residuals.peek().is_some() && residuals.all(|r| r <= floor))
    }

    /// On an axis of log10 |λ|; `width` in decades. Nodes below `relative_floor` times the largest |λ| count as near
    /// zero: products in f32 tell nothing below 1e-7 of it.
    pub fn log_density(&self, relative_floor: f64, width: f64, points: usize) -> LogDensity {
        let (low, high) = self.range();
        let largest = low.abs().max(high.abs()).max(f64::MIN_POSITIVE);
        let floor = relative_floor * largest;
        let side = |sign: f64| -> Vec<Vec<(f64, f64)>> {
            let keep = |(x, w): &(f64, f64)| (x * sign >= floor).then(|| ((x * sign).log10(), *w));
            self.nodes.iter().map(|n| n.iter().filter_map(keep).collect()).collect()
        };
        let near: Vec<f64> =
            self.nodes.iter().map(|n| n.iter().filter(|(x, _)| x.abs() < floor).map(|(_, w)| w).sum()).collect();
        let most: Vec<f64> = self.nodes.iter().map(|n| around(n, floor).0).collect();
        let (from, to) = (floor.log10() - 4.0 * width, largest.log10() + 4.0 * width);
        LogDensity {
            positive: broaden(&side(1.0), from, to, width, points),
            negative: broaden(&side(-1.0), from, to, width, points),
            near_zero: (0..self.nodes.len()).all(|p| self.tells(p, floor)).then(|| Estimate::of_mean(&near)),
            near_zero_at_most: Estimate::of_mean(&most),
            gap: self.nodes.iter().map(|n| around(n, floor).1).fold(0.0, f64::max),
            floor,
        }
    }
}
