//! The two kinds of solutions that the paper draws: two neurons along (1, .., 1), and random features under a head that
//! is fitted.

use nalgebra::{DMatrix, DVector};

use super::network::Network;
use super::population::Population;
use crate::random::Stream;

impl Network {
    /// The flattest solution of the Dyck-like language, w = ±(T-1)^(1/4) (1, .., 1), a = ∓(T-1)^(-1/4): its trace is
    /// the bound 2 √(T-1).
    pub fn flattest(length: usize) -> Network {
        let root = ((length - 1) as f64).powf(0.25);
        Network::new(&[vec![root; length], vec![-root; length]], &[-1.0 / root, 1.0 / root])
    }

    /// The flattest of the two-neuron solutions of soft brackets, w = ±c (1, .., 1), a = ∓4κ/c with the c that makes
    /// both halves of the trace equal.
    pub fn flattest_brackets(population: &Population, kappa: f64) -> Network {
        let length = population.width;
        let start = Network::new(&[vec![1.0; length], vec![-1.0; length]], &[-4.0 * kappa, 4.0 * kappa]);
        start.balanced_together(population)
    }

    /// Random features w ~ N(0, I) of the Dyck-like language, with the shortest a that has no loss. `None` with fewer
    /// neurons than [`rank`].
    ///
    /// z and -z are both masked sentences, so that f(z) = S(z) sign for all z says: the even part Σ aᵢ |wᵢ·z| is 0 on
    /// one of each pair, and the odd part is Σ aᵢ wᵢ = -2 (1, .., 1), since the z span ℝᵀ.
    pub fn random_features(population: &Population, neurons: usize, stream: &mut Stream) -> Option<Network> {
        let width = population.width;
        if neurons < rank(population) {
            return None;
        }
        let drawn = Network::random(width, neurons, 1.0, 0.0, stream);
        let half: Vec<usize> = (0..population.count()).filter(|i| population.sum(*i) > 0.0).collect();
        let mut constraints = DMatrix::<f64>::zeros(neurons, half.len() + width);
        let mut products = vec![0.0; neurons];
        for (column, i) in half.iter().enumerate() {
            drawn.products(population.sentence(*i), &mut products);
            products.iter().enumerate().for_each(|(neuron, h)| constraints[(neuron, column)] = h.abs());
        }
        for neuron in 0..neurons {
            let w = drawn.weights(neuron);
            w.iter().enumerate().for_each(|(s, w)| constraints[(neuron, half.len() + s)] = *w);
        }
        let mut wanted = DVector::zeros(constraints.ncols());
        wanted.rows_mut(half.len(), width).fill(-2.0);
        // Cᵀ = QR, so that a = Q R⁻ᵀ d is the shortest solution of C a = d.
        let qr = constraints.qr();
        let inner = qr.r().transpose().solve_lower_triangular(&wanted)?;
        let heads = qr.q() * inner;
        let weights: Vec<Vec<f64>> = (0..neurons).map(|i| drawn.weights(i)).collect();
        Some(Network::new(&weights, heads.as_slice()))
    }
}

/// Rank of random features over the masked sentences of the Dyck-like language, T C(T, T/2) / 2 + T: with fewer neurons
/// there is a loss, as a rule.
pub fn rank(population: &Population) -> usize {
    population.count() / 2 + population.width
}
