//! Effects within strata: y = a_stratum + Σ b_k z_k + b x + e, where a run's rows belong together.
//!
//! The slope b and the partial correlation come from what strata and covariates leave of x and y (Frisch, Waugh,
//! Lovell). Inference is over runs, whose rows are not independent:
//!
//! - standard error: the sandwich of clusters, times G / (G - 1) · (N - 1) / (N - K) (Cameron and Miller 2015, CR1);
//! - interval and equivalence: the wild cluster bootstrap of t with Webb's six weights, each draw with the standard
//!   error of its own (Cameron, Gelbach, Miller 2008; Webb 2023);
//! - test of no effect: permutation of the residuals of the model without x, whole runs within their stratum (Freedman
//!   and Lane 1983; Winkler et al. 2014). Runs with as many rows change places. Where x is the same in all runs that
//!   could (a time in the run), that would change nothing, and whole runs' residuals change their sign instead.
//!
//! ```
//! use lowland::statistics::Within;
//! // Two strata with one slope, 2; the pooled slope has the other sign.
//! let (x, y) = ([0.0, 1.0, 2.0, 5.0, 6.0, 7.0], [10.0, 12.0, 14.0, 0.0, 2.0, 4.0]);
//! let within = Within::new(&y, &x, &[], &[0, 0, 0, 1, 1, 1], &[0, 1, 2, 3, 4, 5]).unwrap();
//! assert!((within.slope() - 2.0).abs() < 1e-12);
//! ```

use rayon::prelude::*;

use super::bootstrap::{Interval, members, quantile};
use super::paired::signs;
use crate::random::{Purpose, Stream};

/// A regression within strata.
#[derive(Clone, Debug)]
pub struct Within {
    /// What strata and covariates leave of the measure.
    x: Vec<f64>,
    /// And of the outcome.
    y: Vec<f64>,
    space: Space,
    /// Rows of each run.
    runs: Vec<Vec<usize>>,
    /// Runs that may change places: of one stratum and as many rows.
    alike: Vec<Vec<usize>>,
    /// Strata and covariates.
    fixed: usize,
}

/// An effect with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Slope b.
    pub slope: f64,
    /// Over runs.
    pub standard_error: f64,
    /// Of the slope, 95 %.
    pub interval: Interval,
    /// Correlation of what strata and covariates leave.
    pub partial: f64,
    /// Of no effect, by permutation, or by changes of sign where x is the same in all runs that may change places;
    /// `None` where no two may.
    pub p: Option<f64>,
    /// Two one-sided tests: that the slope lies within the bounds that were asked for; `None` where none were.
    pub p_equivalent: Option<f64>,
    /// Rows.
    pub rows: usize,
    /// Runs.
    pub runs: usize,
    /// Strata.
    pub strata: usize,
}

/// What strata and covariates span, as an orthonormal set: strata by their rows, covariates as vectors without them.
#[derive(Clone, Debug)]
struct Space {
    strata: Vec<Vec<usize>>,
    given: Vec<Vec<f64>>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Space {
    fn leave(&self, values: &[f64]) -> Vec<f64> {
        let mut left = values.to_vec();
        for rows in &self.strata {
            let mean = rows.iter().map(|i| left[*i]).sum::<f64>() / rows.len() as f64;
            rows.iter().for_each(|i| left[*i] -= mean);
        }
        for z in &self.given {
            let along = dot(z, &left);
            left.iter_mut().zip(z).for_each(|(l, z)| *l -= along * z);
        }
        left
    }
}

/// What rounding leaves of a variance that is none.
const NOTHING: f64 = 1e-18;

impl Within {
    /// Rows of an outcome, a measure and covariates, with the stratum and the run of each. `None` where nothing is left
    /// of the measure or the outcome, where numbers are not finite, or there are no more rows than parameters.
    ///
    /// # Panics
    /// When columns differ in length.
    pub fn new(
        outcome: &[f64],
        measure: &[f64],
        given: &[Vec<f64>],
        strata: &[usize],
        runs: &[usize],
    ) -> Option<Within> {
        let n = outcome.len();
        assert!([measure.len(), strata.len(), runs.len()].iter().all(|l| *l == n), "columns of one length");
        assert!(given.iter().all(|z| z.len() == n), "columns of one length");
        let columns = || [outcome, measure].into_iter().chain(given.iter().map(Vec::as_slice));
        if columns().flatten().any(|v| !v.is_finite()) {
            return None;
        }
        let mut space = Space { strata: members(strata), given: vec![] };
        for z in given {
            let scale = dot(z, z);
            let left = space.leave(z);
            let norm = dot(&left, &left);
            // A covariate that strata or others tell is none.
            if norm > NOTHING * scale {
                space.given.push(left.iter().map(|l| l / norm.sqrt()).collect());
            }
        }
        let fixed = space.strata.len() + space.given.len();
        let (x, y) = (space.leave(measure), space.leave(outcome));
        let varies = |left: &[f64], whole: &[f64]| dot(left, left) > NOTHING * dot(whole, whole);
        if n <= fixed + 1 || !varies(&x, measure) || !varies(&y, outcome) {
            return None;
        }
        let runs = members(runs);
        let kind = |run: &Vec<usize>| (strata[run[0]], run.len(), run.iter().all(|i| strata[*i] == strata[run[0]]));
        let mut alike: Vec<Vec<usize>> = Vec::new();
        for r in 0..runs.len() {
            match alike.iter_mut().find(|others| kind(&runs[others[0]]) == kind(&runs[r]) && kind(&runs[r]).2) {
                Some(others) => others.push(r),
                None => alike.push(vec![r]),
            }
        }
        Some(Within { x, y, space, runs, alike, fixed })
    }

    /// b.
    pub fn slope(&self) -> f64 {
        dot(&self.x, &self.y) / dot(&self.x, &self.x)
    }

    /// The correlation of what strata and covariates leave of both.
    pub fn partial(&self) -> f64 {
        self.correlation(&self.y)
    }

    /// Runs.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    fn correlation(&self, y: &[f64]) -> f64 {
        let scale = (dot(&self.x, &self.x) * dot(y, y)).sqrt();
        if scale > 0.0 { (dot(&self.x, y) / scale).clamp(-1.0, 1.0) } else { 0.0 }
    }

    /// Slope and its standard error, for an outcome without what strata and covariates tell.
    fn fit(&self, y: &[f64]) -> (f64, f64) {
        let xx = dot(&self.x, &self.x);
        let b = dot(&self.x, y) / xx;
        let score = |i: &usize| self.x[*i] * (y[*i] - b * self.x[*i]);
        let meat: f64 = self.runs.iter().map(|rows| rows.iter().map(score).sum::<f64>().powi(2)).sum();
        let (g, n, k) = (self.runs.len() as f64, y.len() as f64, (self.fixed + 1) as f64);
        let correction = g / (g - 1.0) * (n - 1.0) / (n - k);
        (b, (correction * meat).sqrt() / xx)
    }

    /// The standard error of the slope over runs; NaN for one run.
    pub fn standard_error(&self) -> f64 {
        self.fit(&self.y).1
    }

    /// t of the slope around itself over wild draws, in order.
    fn wild(&self, draws: u64, seed: u64) -> Vec<f64> {
        let (b, error) = self.fit(&self.y);
        if self.runs.len() < 2 || error.is_nan() || error <= 0.0 {
            return vec![];
        }
        let drawn = (0..draws).into_par_iter().map(|draw| {
            let mut stream = Stream::new(seed, Purpose::Bootstrap, draw);
            let mut y: Vec<f64> = self.x.iter().map(|x| b * x).collect();
            for rows in &self.runs {
                let weight = WEBB[stream.below(6) as usize].sqrt() * if stream.below(2) == 0 { 1.0 } else { -1.0 };
                rows.iter().for_each(|i| y[*i] += weight * (self.y[*i] - b * self.x[*i]));
            }
            let (drawn, error) = self.fit(&self.space.leave(&y));
            (drawn - b) / error
        });
        let mut drawn: Vec<f64> = drawn.filter(|t| t.is_finite()).collect();
        drawn.sort_by(f64::total_cmp);
        drawn
    }

    /// All of it. `within` are bounds of equivalence, the slope being tested to lie between them; a function of the
    /// seed.
    pub fn effect(&self, within: Option<f64>, draws: u64, seed: u64) -> Effect {
        let (slope, standard_error) = self.fit(&self.y);
        let t = self.wild(draws, seed);
        // Symmetric in t, which covers better for few runs than its two tails apart.
        let mut both: Vec<f64> = t.iter().map(|t| t.abs()).collect();
        both.sort_by(f64::total_cmp);
        let reach = quantile(&both, 0.95).map_or(f64::NAN, |t| t * standard_error);
        let interval = Interval { low: slope - reach, high: slope + reach, draws: t.len() };
        let share = |of: &dyn Fn(&f64) -> bool| (1 + t.iter().filter(|t| of(t)).count()) as f64 / (1 + t.len()) as f64;
        let p_equivalent = within.filter(|_| !t.is_empty()).map(|bound| {
            let (above, below) = ((slope + bound) / standard_error, (slope - bound) / standard_error);
            share(&|t| *t >= above).max(share(&|t| *t <= below))
        });
        Effect {
            slope,
            standard_error,
            interval,
            partial: self.partial(),
            p: self.permuted(draws, seed),
            p_equivalent,
            rows: self.y.len(),
            runs: self.runs.len(),
            strata: self.space.strata.len(),
        }
    }

    /// Whether to change the places of runs changes nothing: those that may have the same x.
    fn is_of_the_course(&self) -> bool {
        let scale = dot(&self.x, &self.x) / self.x.len() as f64;
        let same = |a: usize, b: usize| {
            let apart = self.runs[a].iter().zip(&self.runs[b]).map(|(i, j)| (self.x[*i] - self.x[*j]).powi(2));
            apart.fold(0.0, f64::max) <= 1e-12 * scale
        };
        self.alike.iter().all(|runs| runs.iter().all(|run| same(runs[0], *run)))
    }

    /// The share of permutations whose partial correlation is as large, this one among them; of changes of sign of
    /// whole runs where x is the same in all that may change places.
    pub fn permuted(&self, draws: u64, seed: u64) -> Option<f64> {
        self.alike.iter().any(|runs| runs.len() > 1).then(|| {
            if self.is_of_the_course() {
                // What each run adds to the slope.
                let score = |rows: &Vec<usize>| rows.iter().map(|i| self.x[*i] * self.y[*i]).sum::<f64>();
                return signs(&self.runs.iter().map(score).collect::<Vec<f64>>(), draws, seed);
            }
            let seen = self.partial().abs() * (1.0 - 1e-12);
            let as_large = (0..draws).into_par_iter().filter(|draw| {
                let mut stream = Stream::new(seed, Purpose::Shuffle, *draw);
                self.correlation(&self.space.leave(&self.moved(&mut stream))).abs() >= seen
            });
            (1 + as_large.count()) as f64 / (1 + draws) as f64
        })
    }

    /// The outcome with runs in each other's places.
    fn moved(&self, stream: &mut Stream) -> Vec<f64> {
        let mut y = self.y.clone();
        for runs in &self.alike {
            let mut order: Vec<usize> = runs.clone();
            (1..order.len()).rev().for_each(|i| order.swap(i, stream.below(i as u32 + 1) as usize));
            for (to, from) in runs.iter().zip(order) {
                let places = self.runs[*to].iter().zip(&self.runs[from]);
                places.for_each(|(to, from)| y[*to] = self.y[*from]);
            }
        }
        y
    }
}

/// Squares of Webb's weights.
const WEBB: [f64; 6] = [0.5, 1.0, 1.5, 0.5, 1.0, 1.5];

/// Ranks within strata, from 1; equal values share the mean of theirs.
pub fn ranks_within(values: &[f64], strata: &[usize]) -> Vec<f64> {
    let mut out = vec![0.0; values.len()];
    for rows in members(strata) {
        let own: Vec<f64> = rows.iter().map(|i| values[*i]).collect();
        rows.iter().zip(super::correlation::ranks(&own)).for_each(|(i, rank)| out[*i] = rank);
    }
    out
}
