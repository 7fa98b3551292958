//! f(z) = Σᵢ aᵢ relu(wᵢ·z) with its loss, its gradient and the exact trace of its Hessian.
//!
//! f is linear in each wᵢ and in each aᵢ between the kinks, so that its own second derivatives have no diagonal, and
//! Tr ∇²L = E[ l''(f) Σᵢ ( relu(wᵢ·z)² + |z|² aᵢ² 1(wᵢ·z > 0) ) ] exactly, at any loss; |z|² = T - 1.

use schemars::JsonSchema;
use serde::Serialize;

use super::population::Population;
use crate::random::Stream;

/// A network of M neurons over sentences of T places.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// T.
    pub width: usize,
    /// M.
    pub neurons: usize,
    /// T rows of M: coordinate s of every w; then M: a.
    pub(super) values: Vec<f64>,
}

/// What is known of a network over a population.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Measured {
    /// Over the least that is possible.
    pub loss: f64,
    /// Of the Hessian of the loss.
    pub trace: f64,
    /// |cos(wᵢ, (1, .., 1))|, weighted by |wᵢ||aᵢ|: 1 where all features are functions of S.
    pub alignment: f64,
}

impl Network {
    /// From M vectors w of T numbers each and M numbers a.
    ///
    /// # Panics
    /// Where the numbers do not fit.
    pub fn new(weights: &[Vec<f64>], heads: &[f64]) -> Network {
        let (neurons, width) = (weights.len(), weights[0].len());
        assert!(heads.len() == neurons && weights.iter().all(|w| w.len() == width), "one a and T numbers a neuron");
        let transposed = (0..width).flat_map(|s| weights.iter().map(move |w| w[s]));
        Network { width, neurons, values: transposed.chain(heads.iter().copied()).collect() }
    }

    /// Weights w ~ N(0, `weights`² I) and a ~ N(0, `heads`²).
    pub fn random(width: usize, neurons: usize, weights: f64, heads: f64, stream: &mut Stream) -> Network {
        let mut draw = |n: usize, scale: f64| (0..n).map(|_| scale * stream.normal()).collect::<Vec<f64>>();
        let mut values = draw(width * neurons, weights);
        values.extend(draw(neurons, heads));
        Network { width, neurons, values }
    }

    /// Coordinate s of every w.
    fn row(&self, s: usize) -> &[f64] {
        &self.values[s * self.neurons..][..self.neurons]
    }

    /// a.
    pub fn heads(&self) -> &[f64] {
        &self.values[self.width * self.neurons..]
    }

    /// wᵢ of T numbers.
    pub fn weights(&self, neuron: usize) -> Vec<f64> {
        (0..self.width).map(|s| self.row(s)[neuron]).collect()
    }

    /// w·z of every neuron.
    pub(super) fn products(&self, z: &[f64], products: &mut [f64]) {
        products.fill(0.0);
        for (s, sign) in z.iter().enumerate().filter(|(_, sign)| **sign != 0.0) {
            products.iter_mut().zip(self.row(s)).for_each(|(h, w)| *h += sign * w);
        }
    }

    /// f, from the products.
    pub(super) fn output_of(&self, products: &[f64]) -> f64 {
        products.iter().zip(self.heads()).map(|(h, a)| h.max(0.0) * a).sum()
    }

    /// f(z).
    pub fn output(&self, z: &[f64]) -> f64 {
        let mut products = vec![0.0; self.neurons];
        self.products(z, &mut products);
        self.output_of(&products)
    }

    /// Adds `slope` ∇f(z) + `penalty` ∇ Σᵢ ( relu(wᵢ·z)² + |z|² aᵢ² 1(wᵢ·z > 0) ) to a gradient, the steps' own
    /// derivative 0.
    pub(super) fn add_gradient(&self, z: &[f64], products: &mut [f64], slope: f64, penalty: f64, gradient: &mut [f64]) {
        let squared = (self.width - 1) as f64;
        let (rows, heads) = gradient.split_at_mut(self.width * self.neurons);
        for ((h, a), g) in products.iter_mut().zip(self.heads()).zip(heads) {
            let feature = h.max(0.0);
            let on = if *h > 0.0 { 1.0 } else { 0.0 };
            *g += slope * feature + 2.0 * penalty * squared * a * on;
            // From here on what goes into w, along z.
            *h = slope * a * on + 2.0 * penalty * feature;
        }
        for (row, sign) in rows.chunks_exact_mut(self.neurons).zip(z).filter(|(_, sign)| **sign != 0.0) {
            row.iter_mut().zip(products.iter()).for_each(|(g, h)| *g += sign * h);
        }
    }

    /// The gradient of L + `penalty` · (the trace with l'' where f is right); the loss alone with 0.
    pub fn gradient(&self, population: &Population, penalty: f64) -> Vec<f64> {
        let mut gradient = vec![0.0; self.values.len()];
        let mut products = vec![0.0; self.neurons];
        for i in 0..population.count() {
            let (z, y, p) = (population.sentence(i), population.targets[i], population.probability[i]);
            self.products(z, &mut products);
            let slope = p * population.loss.slope(self.output_of(&products), y);
            let penalty = penalty * p * population.loss.least_bend(y);
            self.add_gradient(z, &mut products, slope, penalty, &mut gradient);
        }
        gradient
    }

    /// The loss and, for each neuron, what the trace has of its w and of its a.
    fn parts(&self, population: &Population) -> (f64, Vec<f64>, Vec<f64>) {
        let squared = (self.width - 1) as f64;
        let (mut of_a, mut of_w, mut loss) = (vec![0.0; self.neurons], vec![0.0; self.neurons], 0.0);
        let mut products = vec![0.0; self.neurons];
        for i in 0..population.count() {
            let p = population.probability[i];
            self.products(population.sentence(i), &mut products);
            let f = self.output_of(&products);
            loss += p * population.loss.value(f, population.targets[i]);
            let weight = p * population.loss.bend(f);
            for (j, h) in products.iter().enumerate().filter(|(_, h)| **h > 0.0) {
                of_a[j] += weight * h * h;
                of_w[j] += weight * squared * self.heads()[j] * self.heads()[j];
            }
        }
        (loss, of_w, of_a)
    }

    /// Loss, trace and alignment.
    pub fn measure(&self, population: &Population) -> Measured {
        let (loss, of_w, of_a) = self.parts(population);
        Measured { loss, trace: of_w.iter().chain(&of_a).sum(), alignment: self.alignment() }
    }

    /// See [`Measured::alignment`]; NaN where every neuron is 0.
    pub fn alignment(&self) -> f64 {
        let (mut along, mut all) = (0.0, 0.0);
        for (neuron, a) in self.heads().iter().enumerate() {
            let w = self.weights(neuron);
            along += a.abs() * w.iter().sum::<f64>().abs() / (self.width as f64).sqrt();
            all += a.abs() * w.iter().map(|w| w * w).sum::<f64>().sqrt();
        }
        along / all
    }

    /// Every neuron's w times its factor and a divided by it: the same function.
    fn scaled(&self, factor: impl Fn(usize) -> f64) -> Network {
        let mut scaled = self.clone();
        let (rows, heads) = scaled.values.split_at_mut(self.width * self.neurons);
        for row in rows.chunks_exact_mut(self.neurons) {
            row.iter_mut().enumerate().for_each(|(i, w)| *w *= factor(i));
        }
        heads.iter_mut().enumerate().for_each(|(i, a)| *a /= factor(i));
        scaled
    }

    /// The same function at the one scale of all w against all a that is flattest.
    pub fn balanced_together(&self, population: &Population) -> Network {
        let (_, of_w, of_a) = self.parts(population);
        // s² times the part of a, the part of w by s².
        let factor = (of_w.iter().sum::<f64>() / of_a.iter().sum::<f64>()).powf(0.25);
        self.scaled(|_| factor)
    }

    /// The same function with each neuron at its flattest scale. A neuron that does nothing stays as it is.
    pub fn balanced(&self, population: &Population) -> Network {
        let (_, of_w, of_a) = self.parts(population);
        self.scaled(|i| if of_w[i] > 0.0 && of_a[i] > 0.0 { (of_w[i] / of_a[i]).powf(0.25) } else { 1.0 })
    }

    /// Share of the features' variance over a population that is variance of their means given S (the correlation
    /// ratio, all neurons together): 1 where every feature is a function of S, whatever its a.
    pub fn share_of_sum(&self, population: &Population) -> f64 {
        let sums = 2 * self.width;
        let (mut weight, mut means) = (vec![0.0; sums], vec![vec![0.0; self.neurons]; sums]);
        let (mut overall, mut square) = (vec![0.0; self.neurons], 0.0);
        for i in 0..population.count() {
            let (p, group) = (population.probability[i], (population.sum(i) + self.width as f64) as usize);
            let features = self.features(population.sentence(i));
            weight[group] += p;
            means[group].iter_mut().zip(&features).for_each(|(m, x)| *m += p * x);
            overall.iter_mut().zip(&features).for_each(|(m, x)| *m += p * x);
            square += p * features.iter().map(|x| x * x).sum::<f64>();
        }
        let squared = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
        let of_means: f64 = means.iter().zip(&weight).filter(|(_, w)| **w > 0.0).map(|(m, w)| squared(m) / w).sum();
        (of_means - squared(&overall)) / (square - squared(&overall))
    }

    /// relu(w·z), the features that a head reads.
    pub fn features(&self, z: &[f64]) -> Vec<f64> {
        let mut features = vec![0.0; self.neurons];
        self.products(z, &mut features);
        features.iter_mut().for_each(|h| *h = h.max(0.0));
        features
    }
}
