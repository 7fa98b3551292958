//! The local learning coefficient λ(nβ) = nβ (E[L(w)] - L(w₀)) over the local posterior (Lau et al. 2023), from chains
//! on the exact loss, and whether it is to be believed.

use super::chain::Chains;
use super::diagnostics::Mixing;
use crate::statistics::Estimate;

/// A coefficient with its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Coefficient {
    /// Inverse temperature.
    pub nbeta: f64,
    /// λ, with the error over chains and within them.
    pub llc: Estimate,
    /// Of nβ (L - L(w₀)) along the chains.
    pub loss: Mixing,
    /// Of the prior's part of the energy.
    pub prior: Mixing,
    /// Mean of z · ∇U over d: 1 for chains that are where the density is.
    pub virial: Estimate,
    /// Share of steps that were taken.
    pub acceptance: f64,
    /// ε.
    pub step_size: f64,
    /// Dimensions that were sampled.
    pub size: usize,
    /// Recorded steps of a chain.
    pub steps: usize,
    /// nβ times how far below L(w₀) the chains came; 0 where they did not.
    pub below: f64,
    /// Standard deviation of what rounding adds to nβ L.
    pub resolution: f64,
    /// Whether the chains were cut short.
    pub interrupted: bool,
    /// Why it is not to be believed; empty where it is.
    pub doubts: Vec<Doubt>,
}

/// Why a coefficient is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Doubt {
    /// Halves of chains that differ in their loss.
    #[error("the chains' halves differ in their loss: split R-hat is {0:.3}, and 1.02 is too much")]
    Loss(f64),
    /// Halves of chains that differ in their distance from the model.
    #[error("the chains' halves differ in their distance from the model: split R-hat is {0:.3}, and 1.02 is too much")]
    Distance(f64),
    /// Chains that move slowly.
    #[error("{0:.0} effective samples, and 400 are wanted")]
    FewSamples(f64),
    /// Steps of a wrong size.
    #[error("{0:.2} of the steps were taken, where 0.4 to 0.75 is right")]
    Acceptance(f64),
    /// A drift.
    #[error("the first halves of the chains and the second differ by {0:.1} standard errors")]
    Halves(f64),
    /// Chains that are not where the density is.
    #[error(
        "the mean of z · ∇U is {mean:.3} times the dimension, {z:.1} standard errors from 1: the chains are not \
        spread as the density is"
    )]
    Virial {
        /// The mean over d.
        mean: f64,
        /// Standard errors from 1.
        z: f64,
    },
    /// Below 0.
    #[error("the coefficient is below 0: the model is no minimum at this nβ; take a smaller one")]
    Negative,
    /// A lower loss than the model's.
    #[error(
        "the chains found a loss lower by {0:.3} nats of nβ L: the model is no minimum at this nβ, and the \
        coefficient too small by as much at least"
    )]
    Lower(f64),
    /// nβ beyond single precision.
    #[error(
        "rounding of the loss in single precision moves nβ L by {0:.3}, which changes what is accepted; take a \
        smaller nβ"
    )]
    Rounding(f64),
}

/// The largest R-hat, the fewest effective samples and the acceptance of chains that are believed.
const R_HAT: f64 = 1.02;
const SAMPLES: f64 = 400.0;
const ACCEPTANCE: [f64; 2] = [0.4, 0.75];
/// Standard errors between the halves, and of the virial.
const HALVES: f64 = 3.0;
const VIRIAL: f64 = 4.0;
/// Share of λ by which a lower loss makes it too small, at most; and nats of U that rounding may move.
const BELOW: f64 = 0.05;
const RESOLUTION: f64 = 0.1;

impl Coefficient {
    /// Of chains whose loss is nβ (L - L(w₀)), rounded to `resolution`.
    pub fn of(chains: &Chains, nbeta: f64, resolution: f64) -> Coefficient {
        let of = |what: fn(&super::chain::Chain) -> &Vec<f64>| {
            Mixing::of(&chains.chains.iter().map(|c| &what(c)[..]).collect::<Vec<_>>())
        };
        let (loss, prior, virial) = (of(|c| &c.loss), of(|c| &c.prior), of(|c| &c.virial));
        let d = chains.size as f64;
        let steps = chains.chains[0].loss.len();
        let taken: usize = chains.chains.iter().map(|c| c.accepted).sum();
        let lowest = chains.chains.iter().flat_map(|c| &c.loss).fold(f64::INFINITY, |a, b| a.min(*b));
        let mut found = Coefficient {
            nbeta,
            llc: loss.mean,
            loss,
            prior,
            virial: Estimate {
                value: virial.mean.value / d,
                standard_error: virial.mean.standard_error / d,
                samples: virial.mean.samples,
            },
            acceptance: taken as f64 / (steps * chains.chains.len()) as f64,
            step_size: chains.step_size,
            size: chains.size,
            steps,
            below: (-lowest).max(0.0),
            resolution,
            interrupted: chains.interrupted,
            doubts: vec![],
        };
        found.doubts = found.judged();
        found
    }

    fn judged(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        let mut doubt = |when: bool, what: Doubt| doubts.extend(when.then_some(what));
        doubt(self.loss.r_hat >= R_HAT, Doubt::Loss(self.loss.r_hat));
        doubt(self.prior.r_hat >= R_HAT, Doubt::Distance(self.prior.r_hat));
        doubt(self.loss.effective_samples < SAMPLES, Doubt::FewSamples(self.loss.effective_samples));
        let right = ACCEPTANCE[0] <= self.acceptance && self.acceptance <= ACCEPTANCE[1];
        doubt(!right, Doubt::Acceptance(self.acceptance));
        doubt(self.loss.halves_z.abs() > HALVES, Doubt::Halves(self.loss.halves_z.abs()));
        let z = (self.virial.value - 1.0) / self.virial.standard_error;
        doubt(z.abs() > VIRIAL, Doubt::Virial { mean: self.virial.value, z: z.abs() });
        doubt(self.llc.value < 0.0, Doubt::Negative);
        let lower = self.below > BELOW * self.llc.value.abs() + 4.0 * self.resolution;
        doubt(lower, Doubt::Lower(self.below));
        doubt(self.resolution > RESOLUTION, Doubt::Rounding(self.resolution));
        doubts
    }

    /// Whether nothing speaks against it.
    pub fn reliable(&self) -> bool {
        self.doubts.is_empty() && !self.interrupted
    }
}
