//! Descent on the whole population: the loss with a weight on its flatness, and the loss alone.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::network::{Measured, Network};
use super::population::{Loss, Population};
use crate::interrupt::{self, Interrupted};
use crate::random::{Purpose, Stream};

/// How flatness-regularised training is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Regularised {
    /// Weights μ of the trace, one after another, each from where the last one ended.
    pub weights: Vec<f64>,
    /// Steps of Adam for each weight, the rate falling to 0 by a cosine.
    pub steps: usize,
    /// Learning rate at the beginning of each weight.
    pub rate: f64,
    /// Random starts.
    pub restarts: usize,
    /// Seed of the starts.
    pub seed: u64,
}

/// The end of a restart at one weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Solution {
    /// Loss, trace and alignment.
    #[serde(flatten)]
    pub measured: Measured,
    /// L + μ Tr.
    pub objective: f64,
}

/// Least of L + μ Tr over all networks with the squared loss. Term by term Tr >= 2 √(T-1) E|f|, and (f - x)²/2 + μ k
/// |f| is least at f = x (1 - μ k), k = 2 √(T-1); so it is μ k - (μ k)²/2 where μ k <= 1, with the trace k (1 - μ k)
/// and the loss (μ k)²/2.
pub fn least_objective(length: usize, weight: f64) -> f64 {
    let pull = weight * 2.0 * ((length - 1) as f64).sqrt();
    if pull < 1.0 { pull - 0.5 * pull * pull } else { 0.5 }
}

/// How often a loop looks whether it is to stop.
const LOOK: usize = 50;

/// Trains `restarts` networks from random weights on L + μ Tr (the trace with l'' where f is right): for each weight
/// the ends of all restarts with their networks.
pub fn regularised(
    population: &Population,
    neurons: usize,
    how: &Regularised,
) -> Result<Vec<Vec<(Solution, Network)>>, Interrupted> {
    let width = population.width;
    let one = |restart: usize| -> Result<Vec<(Solution, Network)>, Interrupted> {
        let mut stream = Stream::new(how.seed, Purpose::Initialise, restart as u64);
        let (weights, heads) = (1.0 / (width as f64).sqrt(), 1.0 / (neurons as f64).sqrt());
        let mut network = Network::random(width, neurons, weights, heads, &mut stream);
        let mut ends = Vec::new();
        for weight in &how.weights {
            adam(&mut network, population, *weight, how)?;
            let measured = network.measure(population);
            ends.push((Solution { measured, objective: measured.loss + weight * measured.trace }, network.clone()));
        }
        Ok(ends)
    };
    let restarts: Vec<Vec<_>> = (0..how.restarts).into_par_iter().map(one).collect::<Result<_, _>>()?;
    Ok((0..how.weights.len()).map(|at| restarts.iter().map(|ends| ends[at].clone()).collect()).collect())
}

/// Adam (Kingma and Ba 2015) with β = 0.9, 0.99.
fn adam(network: &mut Network, population: &Population, weight: f64, how: &Regularised) -> Result<(), Interrupted> {
    const BETA: [f64; 2] = [0.9, 0.99];
    let mut moments = [vec![0.0; network.values.len()], vec![0.0; network.values.len()]];
    for step in 0..how.steps {
        if step % LOOK == 0 {
            interrupt::check()?;
        }
        let gradient = network.gradient(population, weight);
        let turn = std::f64::consts::PI * step as f64 / how.steps as f64;
        let rate = how.rate * 0.5 * (1.0 + turn.cos());
        let bias = BETA.map(|beta| 1.0 - beta.powi(step as i32 + 1));
        let [first, second] = &mut moments;
        for (((value, g), m), v) in network.values.iter_mut().zip(&gradient).zip(first).zip(second) {
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
            *value -= rate * (*m / bias[0]) / ((*v / bias[1]).sqrt() + 1e-8);
        }
    }
    Ok(())
}

/// Gradient descent on the loss alone, at a constant rate, until the loss is under `enough` or the steps are over;
/// gives the number of steps.
pub fn descend(
    network: &mut Network,
    population: &Population,
    rate: f64,
    steps: usize,
    enough: f64,
) -> Result<usize, Interrupted> {
    for step in 0..steps {
        if step % LOOK == 0 {
            interrupt::check()?;
            if network.measure(population).loss < enough {
                return Ok(step);
            }
        }
        let gradient = network.gradient(population, 0.0);
        network.values.iter_mut().zip(&gradient).for_each(|(value, g)| *value -= rate * g);
    }
    Ok(steps)
}

/// A rate at which descent is stable: the largest eigenvalue is at most the trace, here or at a solution.
pub(super) fn stable_rate(network: &Network, population: &Population) -> f64 {
    let bound = match population.loss {
        Loss::Squared => 2.0 * ((population.width - 1) as f64).sqrt(),
        Loss::Logistic => 1.0,
    };
    1.0 / network.measure(population).trace.max(bound)
}
