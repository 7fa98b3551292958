//! SGD on fresh sentences, with the noise of their labels: Theorem 4.3 says where it drifts along the solutions, by
//! d θ/dt = -(1/4) ∇ Tr Σ with t = η² k / B and Σ the covariance of one sentence's gradient.

use schemars::JsonSchema;
use serde::Serialize;

use super::head::draw;
use super::network::{Measured, Network};
use super::population::{Loss, Population};
use crate::interrupt::{self, Interrupted};
use crate::random::Stream;

/// Steps between looks at the flag of an interrupt.
const LOOK: u64 = 4096;

/// A run of plain SGD.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Sgd {
    /// η.
    pub rate: f64,
    /// B.
    pub batch: usize,
    /// k.
    pub steps: u64,
    /// δ: standard deviation of what is added to a target under the squared loss. Under cross-entropy a label is drawn
    /// with its exact probability, and δ is not used.
    pub label_noise: f64,
}

/// A network at a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Passed {
    /// Steps taken.
    pub step: u64,
    /// t = η² k / B.
    pub time: f64,
    /// Loss, trace and alignment.
    #[serde(flatten)]
    pub measured: Measured,
}

impl Sgd {
    /// t after so many steps.
    pub fn time(&self, step: u64) -> f64 {
        self.rate * self.rate * step as f64 / self.batch as f64
    }
}

/// Goes on from a network and calls `seen` with the step and the network at `marks` equal distances, the start
/// included. Stops early where a value is no longer finite.
pub fn sgd(
    start: &Network,
    population: &Population,
    how: &Sgd,
    marks: u64,
    stream: &mut Stream,
    mut seen: impl FnMut(u64, &Network),
) -> Result<(), Interrupted> {
    let mut network = start.clone();
    let cumulative = population.cumulative();
    let (mut gradient, mut products) = (vec![0.0; network.values.len()], vec![0.0; network.neurons]);
    let every = (how.steps / marks).max(1);
    seen(0, &network);
    for step in 1..=how.steps {
        gradient.fill(0.0);
        for _ in 0..how.batch {
            let i = draw(&cumulative, stream);
            let (z, target) = (population.sentence(i), population.targets[i]);
            let label = match population.loss {
                Loss::Squared if how.label_noise > 0.0 => target + how.label_noise * stream.normal(),
                Loss::Squared => target,
                Loss::Logistic => f64::from(stream.uniform() < target),
            };
            network.products(z, &mut products);
            let slope = population.loss.slope(network.output_of(&products), label);
            network.add_gradient(z, &mut products, slope, 0.0, &mut gradient);
        }
        let rate = how.rate / how.batch as f64;
        network.values.iter_mut().zip(&gradient).for_each(|(value, g)| *value -= rate * g);
        if step % LOOK == 0 {
            interrupt::check()?;
        }
        if step % every == 0 || step == how.steps {
            if network.values.iter().any(|v| !v.is_finite()) {
                return Ok(());
            }
            seen(step, &network);
        }
    }
    Ok(())
}
