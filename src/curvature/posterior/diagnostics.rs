//! What tells of chains whether their mean can be believed: its error, split R-hat and effective samples (Gelman et al.
//! 2013, chapter 11; Geyer 1992), agreement of the halves, and the mean of z · ∇U, which is d for every density that
//! falls off.

use crate::statistics::Estimate;

/// Batches of a chain whose means are taken for independent.
const BATCHES: usize = 20;

/// Diagnostics of one quantity along chains of one length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixing {
    /// Over all chains; the error is the larger of the two below.
    pub mean: Estimate,
    /// Of the means of batches along all chains, about the mean of all.
    pub batch_error: f64,
    /// Of the chains' means.
    pub chain_error: f64,
    /// Potential scale reduction of the halves of all chains; 1 where they agree.
    pub r_hat: f64,
    /// Independent draws that are worth as much.
    pub effective_samples: f64,
    /// Means of the first and the second halves.
    pub halves: [f64; 2],
    /// Their difference in standard errors.
    pub halves_z: f64,
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

fn variance(x: &[f64]) -> f64 {
    let m = mean(x);
    x.iter().map(|x| (x - m).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0)
}

/// Means of batches along a chain, the last ones as long as the first.
fn batches(chain: &[f64], count: usize) -> Vec<f64> {
    let long = (chain.len() / count).max(1);
    // What is left over is left at the beginning.
    chain[chain.len() % long..].chunks_exact(long).map(mean).collect()
}

impl Mixing {
    /// Of chains with one number a step, 4 steps at least.
    pub fn of(chains: &[&[f64]]) -> Mixing {
        let means: Vec<f64> = chains.iter().map(|c| mean(c)).collect();
        let all = mean(&means);
        let pooled: Vec<f64> = chains.iter().flat_map(|c| batches(c, BATCHES)).collect();
        let [batch_error, chain_error] = [&pooled, &means].map(|x| Estimate::of_mean(x).standard_error);
        let halves: Vec<&[f64]> =
            chains.iter().flat_map(|c| [&c[..c.len() / 2], &c[c.len() - c.len() / 2..]]).collect();
        let of_half = |which: usize| {
            let own: Vec<f64> = halves.iter().skip(which).step_by(2).flat_map(|c| batches(c, BATCHES / 2)).collect();
            Estimate::of_mean(&own)
        };
        let both = [of_half(0), of_half(1)];
        let apart = both[0].standard_error.hypot(both[1].standard_error);
        let samples: usize = chains.iter().map(|c| c.len()).sum();
        let effective_samples = effective(&halves);
        Mixing {
            mean: Estimate { value: all, standard_error: batch_error.max(chain_error), samples },
            batch_error,
            chain_error,
            r_hat: r_hat(&halves),
            effective_samples,
            halves: both.map(|e| e.value),
            halves_z: if apart > 0.0 { (both[0].value - both[1].value) / apart } else { 0.0 },
        }
    }
}

/// Variance within chains, and that of all of them together.
fn variances(chains: &[&[f64]]) -> (f64, f64) {
    let n = chains[0].len() as f64;
    let within = mean(&chains.iter().map(|c| variance(c)).collect::<Vec<_>>());
    let between = variance(&chains.iter().map(|c| mean(c)).collect::<Vec<_>>());
    (within, within * (n - 1.0) / n + between)
}

fn r_hat(chains: &[&[f64]]) -> f64 {
    let (within, whole) = variances(chains);
    match (within > 0.0, whole > 0.0) {
        (true, _) => (whole / within).sqrt(),
        (false, true) => f64::INFINITY,
        (false, false) => 1.0,
    }
}

/// Samples over 1 + 2 Σ ρ_t, the sum ending where a pair of neighbours is not above 0, pairs never growing.
fn effective(chains: &[&[f64]]) -> f64 {
    let n = chains[0].len();
    let (within, whole) = variances(chains);
    let total = (n * chains.len()) as f64;
    if whole <= 0.0 || within <= 0.0 {
        // Chains that never moved.
        return chains.len() as f64;
    }
    let centred: Vec<Vec<f64>> = chains.iter().map(|c| c.iter().map(|x| x - mean(c)).collect()).collect();
    let correlation = |lag: usize| {
        let of = |c: &Vec<f64>| (lag..n).map(|i| c[i] * c[i - lag]).sum::<f64>() / n as f64;
        1.0 - (within - mean(&centred.iter().map(of).collect::<Vec<_>>())) / whole
    };
    let (mut sum, mut last) = (0.0, f64::INFINITY);
    for pair in 0..n / 2 {
        let own = correlation(2 * pair) + correlation(2 * pair + 1);
        if own <= 0.0 {
            break;
        }
        last = own.min(last);
        sum += last;
    }
    (total / (2.0 * sum - 1.0).max(1e-3)).min(total * total.log10().max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Autoregressive chains of unit variance about `centre(chain)`.
    fn chains(count: usize, length: usize, rho: f64, seed: u64, centre: &dyn Fn(usize) -> f64) -> Vec<Vec<f64>> {
        let one = |chain: usize| {
            let mut random = Stream::new(seed, Purpose::Test, chain as u64);
            let mut x = random.normal();
            let mut next = || {
                x = rho * x + (1.0 - rho * rho).sqrt() * random.normal();
                x + centre(chain)
            };
            (0..length).map(|_| next()).collect()
        };
        (0..count).map(one).collect()
    }

    fn of(chains: &[Vec<f64>]) -> Mixing {
        Mixing::of(&chains.iter().map(|c| &c[..]).collect::<Vec<_>>())
    }

    #[test]
    fn effective_samples_are_those_of_an_autoregression() {
        for rho in [0.0, 0.5, 0.9] {
            let found = of(&chains(4, 20_000, rho, 1, &|_| 0.0));
            let want = 80_000.0 * (1.0 - rho) / (1.0 + rho);
            assert!((found.effective_samples / want - 1.0).abs() < 0.1, "{rho}: {}", found.effective_samples);
            assert!((found.r_hat - 1.0).abs() < 0.005, "{found:?}");
            // s / √n of so many independent numbers; from 80 batches by 8 %, and the larger of two.
            let error = found.batch_error * want.sqrt();
            assert!((0.75..1.3).contains(&error), "{rho}: {error}");
        }
    }

    #[test]
    fn the_stated_error_is_that_of_repeats() {
        let z: Vec<f64> = (0..200)
            .map(|seed| {
                let found = of(&chains(4, 1000, 0.8, seed, &|_| 0.0));
                found.mean.value / found.mean.standard_error
            })
            .collect();
        let covered = z.iter().filter(|z| z.abs() < 1.96).count();
        assert!((180..=199).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn chains_apart_and_drifting_chains_are_told() {
        let apart = of(&chains(4, 2000, 0.5, 2, &|chain| if chain == 0 { 1.5 } else { 0.0 }));
        assert!(apart.r_hat > 1.1 && apart.effective_samples < 100.0, "{apart:?}");
        let mut drifting = chains(4, 2000, 0.5, 3, &|_| 0.0);
        drifting.iter_mut().for_each(|c| c.iter_mut().enumerate().for_each(|(i, x)| *x += i as f64 / 1000.0));
        let drifting = of(&drifting);
        assert!(drifting.halves_z.abs() > 5.0 && drifting.r_hat > 1.1, "{drifting:?}");
        let still = of(&[vec![1.0; 100], vec![2.0; 100]]);
        assert_eq!((still.r_hat, still.effective_samples), (f64::INFINITY, 4.0), "{still:?}");
    }
}
