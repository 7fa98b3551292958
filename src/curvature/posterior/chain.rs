//! Chains of the Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996): z' = z - ε/2 ∇U(z) + √ε ξ, taken
//! with probability min(1, e^(U - U') q(z | z') / q(z' | z)), so that the density exp(-U) is met exactly, whatever ε.
//!
//! All chains take a step at a time together. While they burn in ε is moved until 0.57 of the steps are taken, the best
//! share of a Langevin step (Roberts and Rosenthal 1998); then it is held, and only then anything is recorded.

use crate::curvature::error::unless_interrupted;
use crate::curvature::{CurvatureError, Observe, Progress, Refusal};
use crate::random::{Purpose, Stream};

/// A density exp(-U) in d dimensions, up to a factor.
pub trait Target {
    /// d.
    fn size(&self) -> usize;

    /// U and its gradient. What is not finite is never stepped to.
    ///
    /// # Errors
    /// What the computation says; an interrupt.
    fn at(&self, z: &[f64]) -> Result<Point, CurvatureError>;
}

/// A place of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// nβ (L - L(w₀)), the part of U that the learning coefficient is the mean of.
    pub loss: f64,
    /// The rest of U, the prior's.
    pub prior: f64,
    /// ∇U, shape `[d]`.
    pub gradient: Vec<f64>,
}

impl Point {
    fn energy(&self) -> f64 {
        self.loss + self.prior
    }
}

/// How chains run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChainOptions {
    /// Chains, 2 at least.
    pub chains: usize,
    /// Steps of a chain before anything is recorded.
    pub burn_in: usize,
    /// Steps that are recorded.
    pub steps: usize,
    /// Of starts, steps and their acceptance.
    pub seed: u64,
}

/// What one chain recorded, a number a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// nβ (L - L(w₀)).
    pub loss: Vec<f64>,
    /// The prior's part of U.
    pub prior: Vec<f64>,
    /// z · ∇U, whose mean is d.
    pub virial: Vec<f64>,
    /// Steps that were taken.
    pub accepted: usize,
}

/// All chains.
#[derive(Clone, Debug, PartialEq)]
pub struct Chains {
    /// Dimensions.
    pub size: usize,
    /// The chains, of one length.
    pub chains: Vec<Chain>,
    /// ε.
    pub step_size: f64,
    /// Evaluations of U and its gradient.
    pub evaluations: usize,
    /// Whether an interrupt ended it; the chains are then shorter.
    pub interrupted: bool,
}

/// The share of steps that is aimed at.
pub const ACCEPTANCE: f64 = 0.57;
/// Recorded steps that tell anything.
const LEAST: usize = 4;
/// Spread of the starts, in standard deviations of a target of unit covariance: some chains begin inside it, some
/// outside.
const SPREAD: [f64; 2] = [0.7, 1.5];

/// A chain on its way.
struct State {
    z: Vec<f64>,
    point: Point,
    random: Stream,
}

/// Runs chains on a target whose covariance is about the identity.
///
/// # Errors
/// Fewer than 2 chains, no step; a start at which U is not finite; what the target says. Interrupted before a step was
/// recorded there is nothing to give.
pub fn sample(target: &dyn Target, what: &ChainOptions, observe: Observe<'_>) -> Result<Chains, CurvatureError> {
    if what.chains < 2 || what.steps < LEAST {
        return Err(Refusal::FewChains.into());
    }
    let d = target.size();
    let mut evaluations = 0;
    let mut states = Vec::new();
    for chain in 0..what.chains {
        let spread = SPREAD[0] + (SPREAD[1] - SPREAD[0]) * chain as f64 / (what.chains - 1) as f64;
        states.push(start(target, what.seed, chain, spread, &mut evaluations)?);
    }
    let mut chains = vec![Chain::default(); what.chains];
    let mut log_step = (1.0 / (d as f64).cbrt()).ln();
    let (mut kept, mut number_kept) = (0.0, 0);
    let mut interrupted = false;
    for step in 0..what.burn_in + what.steps {
        if step == what.burn_in && number_kept > 0 {
            log_step = kept / f64::from(number_kept);
        }
        let record = step >= what.burn_in;
        let Some(taken) = unless_interrupted(advance(target, &mut states, log_step.exp()))? else {
            interrupted = true;
            break;
        };
        evaluations += what.chains;
        if record {
            for ((chain, state), (accepted, _)) in chains.iter_mut().zip(&states).zip(&taken) {
                chain.loss.push(state.point.loss);
                chain.prior.push(state.point.prior);
                chain.virial.push(state.z.iter().zip(&state.point.gradient).map(|(z, g)| z * g).sum());
                chain.accepted += usize::from(*accepted);
            }
        } else {
            let rate = taken.iter().map(|(_, p)| p).sum::<f64>() / taken.len() as f64;
            log_step += (1.0 + step as f64 / 30.0).powf(-0.6) * (rate - ACCEPTANCE);
            if 2 * step >= what.burn_in {
                kept += log_step;
                number_kept += 1;
            }
        }
        let seen: usize = chains.iter().map(|c| c.loss.len()).sum();
        let mean = chains.iter().flat_map(|c| &c.loss).sum::<f64>() / seen as f64;
        let value = (seen > 0).then_some((mean, f64::NAN));
        if unless_interrupted(observe(&Progress { done: step + 1, of: what.burn_in + what.steps, value }))?.is_none() {
            interrupted = true;
            break;
        }
    }
    // Two halves of two steps, for a variance of each.
    if chains[0].loss.len() < LEAST {
        return Err(CurvatureError::Interrupted);
    }
    Ok(Chains { size: d, chains, step_size: log_step.exp(), evaluations, interrupted })
}

/// A normal start, drawn in until U is no more than what a target of unit covariance has four times over: where U is no
/// quadratic far from its middle, a start out there would take the whole burn-in to come back.
fn start(
    target: &dyn Target,
    seed: u64,
    chain: usize,
    spread: f64,
    evaluations: &mut usize,
) -> Result<State, CurvatureError> {
    let mut random = Stream::new(seed, Purpose::Chain, chain as u64);
    let mut z: Vec<f64> = (0..target.size()).map(|_| spread * random.normal()).collect();
    let most = 2.0 * target.size() as f64;
    for _ in 0..40 {
        *evaluations += 1;
        let point = target.at(&z)?;
        if point.energy() <= most && usable(&point) {
            return Ok(State { z, point, random });
        }
        z.iter_mut().for_each(|z| *z *= 0.7);
    }
    Err(CurvatureError::NotFinite("the loss beside the model, or its gradient,"))
}

fn usable(point: &Point) -> bool {
    point.energy().is_finite() && point.gradient.iter().all(|g| g.is_finite())
}

/// One step of every chain: whether it was taken, and with which probability. All or, at an error, none.
fn advance(target: &dyn Target, states: &mut [State], step: f64) -> Result<Vec<(bool, f64)>, CurvatureError> {
    let mut next = Vec::with_capacity(states.len());
    for state in states.iter() {
        let mut random = state.random.clone();
        let noise: Vec<f64> = state.z.iter().map(|_| random.normal()).collect();
        let forward = |i: usize| state.z[i] - 0.5 * step * state.point.gradient[i] + step.sqrt() * noise[i];
        let z: Vec<f64> = (0..noise.len()).map(forward).collect();
        let point = target.at(&z)?;
        let uniform = random.uniform();
        let probability = match usable(&point) {
            false => 0.0,
            true => {
                let back = |i: usize| state.z[i] - z[i] + 0.5 * step * point.gradient[i];
                let there: f64 = noise.iter().map(|x| x * x).sum();
                let here: f64 = (0..z.len()).map(|i| back(i).powi(2)).sum::<f64>() / step;
                // Energies first: their difference is what is exact.
                ((state.point.energy() - point.energy()) + 0.5 * (there - here)).exp().min(1.0)
            }
        };
        next.push((z, point, random, uniform < probability, probability));
    }
    let mut taken = Vec::with_capacity(states.len());
    for (state, (z, point, random, accepted, probability)) in states.iter_mut().zip(next) {
        state.random = random;
        if accepted {
            (state.z, state.point) = (z, point);
        }
        taken.push((accepted, probability));
    }
    Ok(taken)
}
