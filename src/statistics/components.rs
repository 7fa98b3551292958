//! Splits a mean's error by its source: the probes (or drawn labels) that measured each example, or the examples
//! themselves.
//!
//! Both designs estimate T = Σ w_i y_i / Σ w_i over examples whose y_i are seen through noise. Weights are numbers of
//! masked positions; an example's deviation enters as n w_i (x - T), the linearisation of a ratio of sums. Searle,
//! Casella, McCulloch 1992, "Variance components", chapters 3 and 4.

use serde::Serialize;

/// The target of a mean over examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The distribution that the examples were drawn from: both parts count.
    Population,
    /// The examples themselves: only probes or drawn labels are random.
    TheseExamples,
}

/// A mean and the two parts of its standard error; standard_error² = probe² + data².
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parts {
    /// The mean over the examples.
    pub value: f64,
    /// For the examples as a sample of a population.
    pub standard_error: f64,
    /// The part of the probes or draws: the error that is left when the examples are given.
    pub standard_error_probe: f64,
    /// The part of the choice of examples.
    pub standard_error_data: f64,
}

impl Parts {
    /// From variances; a negative estimate of a variance is a small one.
    pub(super) fn of(value: f64, probe: f64, data: f64) -> Parts {
        // Not `max`, which would turn the NaN of an unknown part into 0.
        let clip = |v: f64| if v < 0.0 { 0.0 } else { v };
        let (probe, data) = (clip(probe), clip(data));
        Parts {
            value,
            standard_error: (probe + data).sqrt(),
            standard_error_probe: probe.sqrt(),
            standard_error_data: data.sqrt(),
        }
    }
}

fn variance(x: &[f64]) -> f64 {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)
}

/// Draws of their own for each example (labels, signs): `values[example][draw]`, any positive `weights`.
///
/// With two draws or more per example, the probe part is Σ w_i² s_i² / k_i, and the scatter of the examples' means, n /
/// (n - 1) Σ w_i² (ȳ_i - T)², holds both parts. With a single draw for some example they cannot be told apart: for a
/// population the parts are NaN and their sum is known; for these examples the scatter is given, an upper bound.
///
/// ```
/// use lowland::statistics::{Target, nested};
/// let p = nested(&[1.0, 1.0], &[vec![1.0, 3.0], vec![5.0, 7.0]], Target::Population);
/// assert_eq!(p.value, 4.0);
/// assert!((p.standard_error_probe.powi(2) - 0.5).abs() < 1e-12);
/// assert!((p.standard_error - 2.0).abs() < 1e-12);
/// ```
pub fn nested(weights: &[f64], values: &[Vec<f64>], target: Target) -> Parts {
    let total: f64 = weights.iter().sum();
    let n = values.len() as f64;
    let means: Vec<f64> = values.iter().map(|v| v.iter().sum::<f64>() / v.len() as f64).collect();
    let mean = weights.iter().zip(&means).map(|(w, y)| w / total * y).sum::<f64>();
    let scatter =
        weights.iter().zip(&means).map(|(w, y)| (w / total * (y - mean)).powi(2)).sum::<f64>() * n / (n - 1.0);
    let probe: f64 = weights.iter().zip(values).map(|(w, v)| (w / total).powi(2) * variance(v) / v.len() as f64).sum();
    match target {
        Target::TheseExamples => Parts::of(mean, if probe.is_nan() { scatter } else { probe }, 0.0),
        Target::Population if probe.is_nan() => {
            Parts { standard_error: scatter.sqrt(), ..Parts::of(mean, f64::NAN, f64::NAN) }
        }
        Target::Population => Parts::of(mean, probe, scatter - probe),
    }
}

/// The same probes for all examples, one probe at a time: two-way random effects with interaction.
///
/// Var = s_p² / K + s_d² / n + s_pd² / (n K). The mean squares estimate each without bias; the probe part is the first
/// and the last, the data part the middle one.
///
/// ```
/// use lowland::statistics::{Crossed, Target};
/// let mut c = Crossed::new(&[2.0, 2.0]);
/// c.push(&[1.0, 3.0]);
/// c.push(&[3.0, 5.0]);
/// let p = c.parts(Target::Population);
/// assert_eq!(p.value, 3.0);
/// assert!((p.standard_error_probe - 1.0).abs() < 1e-12 && (p.standard_error_data - 1.0).abs() < 1e-12);
/// ```
#[derive(Clone, Debug)]
pub struct Crossed {
    /// Sum to 1.
    weights: Vec<f64>,
    /// Mean over examples for each probe.
    rows: Vec<f64>,
    /// Sums over probes, of differences from `shift`, which keeps the squares from cancelling.
    sums: Vec<f64>,
    squares: Vec<f64>,
    shift: f64,
}

impl Crossed {
    /// Nothing yet; weights are positive, in any unit.
    pub fn new(weights: &[f64]) -> Crossed {
        let total: f64 = weights.iter().sum();
        Crossed {
            weights: weights.iter().map(|w| w / total).collect(),
            rows: vec![],
            sums: vec![0.0; weights.len()],
            squares: vec![0.0; weights.len()],
            shift: 0.0,
        }
    }

    /// The values of all examples for one more probe.
    pub fn push(&mut self, values: &[f64]) {
        let mean = self.weights.iter().zip(values).map(|(w, x)| w * x).sum();
        if self.rows.is_empty() {
            self.shift = mean;
        }
        self.rows.push(mean);
        for ((sum, square), x) in self.sums.iter_mut().zip(&mut self.squares).zip(values) {
            *sum += x - self.shift;
            *square += (x - self.shift).powi(2);
        }
    }

    /// Weighted mean over the examples for each probe.
    pub fn rows(&self) -> &[f64] {
        &self.rows
    }

    /// Mean over the probes for each example.
    pub fn examples(&self) -> Vec<f64> {
        self.sums.iter().map(|s| self.shift + s / self.rows.len() as f64).collect()
    }

    /// [s_p², s_d², s_pd²] of single values without bias, so that a negative one is not cut off: means of several
    /// tables keep none. NaN with a single probe or example.
    pub fn components(&self) -> [f64; 3] {
        let (n, k) = (self.weights.len() as f64, self.rows.len() as f64);
        let mean = self.rows.iter().sum::<f64>() / k;
        let [interaction, examples] = self.mean_squares(mean);
        [variance(&self.rows) - interaction / n, (examples - interaction) / k, interaction]
    }

    /// Mean squares of the interaction and of the examples.
    fn mean_squares(&self, mean: f64) -> [f64; 2] {
        let (n, k) = (self.weights.len() as f64, self.rows.len() as f64);
        let centre = mean - self.shift;
        let each = self.weights.iter().zip(&self.sums).zip(&self.squares);
        let (mut between, mut whole) = (0.0, 0.0);
        for ((w, sum), square) in each {
            between += (n * w * (sum / k - centre)).powi(2);
            whole += (n * w).powi(2) * (square - 2.0 * centre * sum + k * centre * centre);
        }
        let of_probes = n * self.rows.iter().map(|q| (q - mean).powi(2)).sum::<f64>();
        [(whole - of_probes - k * between) / ((n - 1.0) * (k - 1.0)), k * between / (n - 1.0)]
    }

    /// The mean and its error. One probe has no standard error (NaN), nor has one example of a population.
    pub fn parts(&self, target: Target) -> Parts {
        let (n, k) = (self.weights.len() as f64, self.rows.len() as f64);
        let mean = self.rows.iter().sum::<f64>() / k;
        let probe = variance(&self.rows) / k;
        if target == Target::TheseExamples {
            return Parts::of(mean, probe, 0.0);
        }
        let [interaction, examples] = self.mean_squares(mean);
        Parts::of(mean, probe, (examples - interaction) / (n * k))
    }
}

/// The number of draws per example with the least variance at a given cost: √(c₁ s_w² / (c₂ s_b²)), at least 1, where
/// the first draw costs `first` and each further one `further`, and the variances are within and between examples.
pub fn draws_for(first: f64, further: f64, within: f64, between: f64) -> usize {
    if between <= 0.0 {
        return 64;
    }
    // Cost c₁ + c₂ D with the part that does not grow with D in c₁.
    (((first - further).max(0.0) * within / (further * between)).sqrt().round() as usize).clamp(1, 64)
}
