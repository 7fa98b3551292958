//! A downstream task and the shortest linear head on a few examples of it, on the features of a network.

use nalgebra::{DMatrix, DVector};

use super::network::Network;
use super::population::{Population, cumulated};
use crate::random::Stream;

/// All sentences of a task with labels and probabilities.
#[derive(Clone, Debug)]
pub struct Downstream {
    /// Masked sentences.
    sentences: Vec<Vec<f64>>,
    labels: Vec<f64>,
    probability: Vec<f64>,
    cumulative: Vec<f64>,
    /// Between the least and the largest label.
    middle: f64,
}

/// What a head reaches on the whole task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Mean squared error in shares of the label's variance.
    pub loss: f64,
    /// Share of the sentences on which the answer lies on the label's side of the middle between the labels' ends.
    pub accuracy: f64,
}

/// A loss that counts as zero, in shares of the label's variance: rounding leaves about 1e-30.
const ZERO: f64 = 1e-12;

impl Transfer {
    /// Whether nothing is left to learn.
    pub fn is_perfect(self) -> bool {
        self.loss < ZERO
    }
}

impl Downstream {
    /// The masked sentences of a population with the label 1(S > 0).
    pub fn of_population(population: &Population) -> Downstream {
        Downstream::labelled(population, [0.0, 1.0])
    }

    /// The masked sentences of a population with the sign of S.
    pub fn signs(population: &Population) -> Downstream {
        Downstream::labelled(population, [-1.0, 1.0])
    }

    /// With one label where S <= 0 and another where S > 0.
    fn labelled(population: &Population, labels: [f64; 2]) -> Downstream {
        let all = || 0..population.count();
        let sentences = all().map(|i| population.sentence(i).to_vec()).collect();
        let label = |i| labels[usize::from(population.sum(i) > 0.0)];
        Downstream::new(sentences, all().map(label).collect(), population.probability.clone())
    }

    /// Sentences whose T - 1 brackets are free, one masked, with the label max(S, 0): another distribution than that of
    /// pre-training.
    pub fn free(length: usize) -> Downstream {
        let (mut sentences, mut labels) = (Vec::new(), Vec::new());
        for masked in 0..length {
            for others in 0u32..1 << (length - 1) {
                let sign = |s: usize| if others >> s & 1 == 1 { 1.0 } else { -1.0 };
                let place = |s: usize| if s < masked { sign(s) } else { sign(s - 1) };
                let z: Vec<f64> = (0..length).map(|s| if s == masked { 0.0 } else { place(s) }).collect();
                labels.push(z.iter().sum::<f64>().max(0.0));
                sentences.push(z);
            }
        }
        let probability = vec![1.0 / labels.len() as f64; labels.len()];
        Downstream::new(sentences, labels, probability)
    }

    fn new(sentences: Vec<Vec<f64>>, labels: Vec<f64>, probability: Vec<f64>) -> Downstream {
        let cumulative = cumulated(&probability);
        let low = labels.iter().copied().fold(f64::INFINITY, f64::min);
        let high = labels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Downstream { sentences, labels, probability, cumulative, middle: 0.5 * (low + high) }
    }

    /// Draws `examples` sentences, fits the shortest head without a bias to their labels, and looks at all sentences.
    /// Where the labels cannot be met it is the shortest of the heads with the least squares.
    pub fn transfer(&self, network: &Network, examples: usize, stream: &mut Stream) -> Transfer {
        let drawn: Vec<usize> = (0..examples).map(|_| draw(&self.cumulative, stream)).collect();
        let head = shortest_head(network, &drawn, self);
        let (mut mean, mut square, mut error, mut right) = (0.0, 0.0, 0.0, 0.0);
        for ((z, y), p) in self.sentences.iter().zip(&self.labels).zip(&self.probability) {
            let answer: f64 = network.features(z).iter().zip(&head).map(|(x, b)| x * b).sum();
            mean += p * y;
            square += p * y * y;
            error += p * (answer - y) * (answer - y);
            right += if (answer > self.middle) == (*y > self.middle) { *p } else { 0.0 };
        }
        Transfer { loss: error / (square - mean * mean), accuracy: right }
    }
}

/// A number drawn by cumulated probabilities.
pub(super) fn draw(cumulative: &[f64], stream: &mut Stream) -> usize {
    let u = stream.uniform();
    cumulative.partition_point(|upto| *upto <= u).min(cumulative.len() - 1)
}

/// b = Φᵀ (Φ Φᵀ)⁺ y over the drawn examples, from the eigenvectors of their Gram matrix.
fn shortest_head(network: &Network, drawn: &[usize], task: &Downstream) -> Vec<f64> {
    let (n, m) = (drawn.len(), network.neurons);
    let features: Vec<f64> = drawn.iter().flat_map(|i| network.features(&task.sentences[*i])).collect();
    let features = DMatrix::from_row_slice(n, m, &features);
    let labels = DVector::from_iterator(n, drawn.iter().map(|i| task.labels[*i]));
    let gram = (&features * features.transpose()).symmetric_eigen();
    let largest = gram.eigenvalues.iter().copied().fold(0.0, f64::max);
    let mut along = gram.eigenvectors.transpose() * labels;
    // Examples that repeat each other leave eigenvalues that are rounding, n times 1e-16 of the largest at most.
    along.iter_mut().zip(&gram.eigenvalues).for_each(|(y, l)| *y = if *l > 1e-11 * largest { *y / l } else { 0.0 });
    (features.transpose() * (gram.eigenvectors * along)).as_slice().to_vec()
}
