//! Spectral density by stochastic Lanczos quadrature: each probe's Lanczos run is a Gauss quadrature of the spectral measure
//! seen from that probe, and their mean that of all directions. Golub and Welsch 1969; Ghorbani, Krishnan, Xiao 2019.

use nalgebra::{DMatrix, SymmetricEigen};
use serde::Serialize;

use super::error::unless_interrupted;
use super::operator::{Observe, apply};
use super::vector::{orthogonalise, scale};
use super::{CurvatureError, Operator, ProbeKind, Progress, norm, probe};
use crate::statistics::Estimate;

/// What to run.
#[derive(Clone, Debug, PartialEq)]
pub struct QuadratureOptions {
    pub kind: ProbeKind,
    pub seed: u64,
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
    pub products: usize,
    pub gradient_equivalents: f64,
    /// Whether an interrupt ended it: the probes are those that were begun, with the nodes that they had.
    pub interrupted: bool,
}

/// One probe's run.
struct Run {
    basis: Vec<Vec<f32>>,
    diagonal: Vec<f64>,
    off: Vec<f64>,
    scale: f64,
    over: bool,
}

impl Run {
    fn new(mut start: Vec<f32>) -> Run {
        let length = norm(&start);
        scale(&mut start, 1.0 / length);
        Run { basis: vec![start], diagonal: vec![], off: vec![], scale: 0.0, over: false }
    }

    fn advance(&mut self, mut image: Vec<f32>, steps: usize) {
        self.scale = self.scale.max(norm(&image));
        let factors = orthogonalise(&mut image, &self.basis);
        self.diagonal.push(factors[factors.len() - 1]);
        let left = norm(&image);
        // Only rounding is left: the probe's own space is exhausted and its quadrature exact.
        self.over = self.diagonal.len() == steps || left <= 3e-6 * self.scale;
        if !self.over {
            scale(&mut image, 1.0 / left);
            orthogonalise(&mut image, &self.basis);
            let length = norm(&image);
            scale(&mut image, 1.0 / length);
            self.basis.push(image);
            self.off.push(left);
        }
    }

    fn nodes(&self) -> Vec<(f64, f64)> {
        let m = self.diagonal.len();
        let t = DMatrix::from_fn(m, m, |i, j| match i.abs_diff(j) {
            0 => self.diagonal[i],
            1 => self.off[i.min(j)],
            _ => 0.0,
        });
        let eigen = SymmetricEigen::new(t);
        let mut nodes: Vec<(f64, f64)> =
            (0..m).map(|j| (eigen.eigenvalues[j], eigen.eigenvectors[(0, j)].powi(2))).collect();
        nodes.sort_by(|a, b| a.0.total_cmp(&b.0));
        nodes
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
        return Err(CurvatureError::Request(
            "a density needs at least one probe, one step and blocks of at least one".into(),
        ));
    }
    let steps = what.steps.min(size);
    let mut answer = Quadrature { size, nodes: vec![], products: 0, gradient_equivalents: 0.0, interrupted: false };
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
        answer.nodes.extend(runs.iter().filter(|r| !r.diagonal.is_empty()).map(Run::nodes));
        answer.interrupted &= answer.nodes.len() < what.probes || runs.iter().any(|r| !r.over);
    }
    if answer.nodes.is_empty() { Err(CurvatureError::Interrupted) } else { Ok(answer) }
}

/// A density with its band.
#[derive(Clone, Debug, Serialize)]
pub struct Density {
    pub grid: Vec<f64>,
    /// Share of the eigenvalues per unit of the axis, broadened by a Gaussian of `width`.
    pub density: Vec<f64>,
    /// Its standard error over the probes; NaN for one probe.
    pub standard_error: Vec<f64>,
    /// Standard deviation of the Gaussian, in units of the axis.
    pub width: f64,
}

/// Densities over log10 |λ| for each sign. They and the middle integrate to 1.
#[derive(Clone, Debug, Serialize)]
pub struct LogDensity {
    pub positive: Density,
    pub negative: Density,
    /// Share with |λ| below `floor`.
    pub near_zero: Estimate,
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

    /// On an axis of log10 |λ|; `width` in decades. Nodes below `relative_floor` times the largest |λ| count as near zero:
    /// products in f32 tell nothing below 1e-7 of it.
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
        let (from, to) = (floor.log10() - 4.0 * width, largest.log10() + 4.0 * width);
        LogDensity {
            positive: broaden(&side(1.0), from, to, width, points),
            negative: broaden(&side(-1.0), from, to, width, points),
            near_zero: Estimate::of_mean(&near),
            floor,
        }
    }
}
