//! The local posterior of a model as a [`Target`]: the exact mean loss of a fixed set of contexts, in single precision
//! a context and summed in double, with its gradient; and the prior. w = w₀ + D^½ x over the parameters that can move
//! the loss.

use super::chain::{Point, Target};
use crate::curvature::passes::{ProbeVectors, add};
use crate::curvature::{CurvatureError, Subject};
use crate::interrupt;
use crate::model::{GradientPass, Model, Weights};
use crate::ops::{Batch, Dims, Labels};
use crate::random::{Purpose, Stream};

/// A model's posterior at one nβ. It writes weights of its own, beside the subject's.
pub struct ModelTarget<'s> {
    subject: &'s Subject,
    model: Model,
    pass: GradientPass,
    batches: Vec<Batch>,
    start: Weights,
    /// Places in a vector of what is sampled, and √D there.
    places: Vec<usize>,
    scales: Vec<f64>,
    nbeta: f64,
    gamma: f64,
    /// L(w₀) beside the truth where that is known, and the gradient along x there.
    loss: f64,
    gradient: Vec<f64>,
}

impl<'s> ModelTarget<'s> {
    /// The posterior with a prior of covariance D / γ, √D as [`Prior::scales`](crate::curvature::Prior::scales) gives
    /// it. Not sampled are parameters on which the loss depends at no weights ([`Subject::untouched`]) and those that
    /// are held still.
    ///
    /// # Errors
    /// As [`Subject::loss_gradient`].
    pub fn new(
        subject: &'s Subject,
        scales: &[f64],
        nbeta: f64,
        gamma: f64,
    ) -> Result<ModelTarget<'s>, CurvatureError> {
        let mut free: Vec<bool> = scales.iter().map(|s| *s > 0.0).collect();
        subject.untouched().into_iter().for_each(|range| free[range].fill(false));
        let places: Vec<usize> = (0..free.len()).filter(|i| free[*i]).collect();
        let start = subject.read_weights()?;
        let model = Model::new(&subject.model.device, &subject.model.encoder, &start)?;
        let dims = Dims { probes: 1, ..subject.dims };
        let pass = GradientPass::new(&model, dims, subject.labels)?;
        let batches =
            subject.batches.iter().map(|r| Batch::new(pass.layout(), &subject.sentences[r.clone()])).collect();
        let scales = places.iter().map(|i| scales[*i]).collect();
        let (loss, gradient) = (0.0, vec![]);
        let mut target =
            ModelTarget { subject, model, pass, batches, start, places, scales, nbeta, gamma, loss, gradient };
        (target.loss, target.gradient) = target.loss_at(&vec![0.0; target.places.len()])?;
        Ok(target)
    }

    /// Mean loss of the model itself: the excess over the truth's where every context brings its distribution, in nats.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Places in the subject's vectors of what is sampled.
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// Mean loss and its gradient along x.
    fn loss_at(&self, x: &[f64]) -> Result<(f64, Vec<f64>), CurvatureError> {
        let mut step = vec![0.0f32; self.subject.size()];
        for ((place, scale), x) in self.places.iter().zip(&self.scales).zip(x) {
            step[*place] = (scale * x) as f32;
        }
        self.model.write(&self.subject.vectors().moved(&self.start, &step, 1.0));
        let soft = self.subject.labels == Labels::Soft;
        let mut gradient = vec![0.0f64; self.subject.size()];
        let mut total = 0.0;
        let mut rows = 0;
        for batch in &self.batches {
            interrupt::check()?;
            let gpu = self.model.gpu();
            let mut encoder = gpu.encoder();
            self.pass.encode(&mut encoder, batch, self.subject.row_weight() as f32, &batch.step(1))?;
            let submission = gpu.submit(encoder);
            gpu.wait(submission)?;
            let losses: Vec<[f32; 4]> = gpu.read(self.pass.loss_buffer(), batch.masked() as usize)?;
            total += losses.iter().map(|row| f64::from(row[usize::from(soft)])).sum::<f64>();
            rows += losses.len();
            let own = ProbeVectors::over(self.subject.encoder(), self.pass.gradient().matrices.clone());
            own.read(self.subject, 1, &mut |_, range, values| add(&mut gradient[range], values))?;
        }
        let along = self.places.iter().zip(&self.scales).map(|(place, scale)| gradient[*place] * scale).collect();
        Ok((total / rows as f64, along))
    }

    /// Standard deviation of what rounding adds to nβ L: of the loss where every weight is moved by about a millionth
    /// of itself, less what the gradient says of that.
    ///
    /// # Errors
    /// As [`at`](Target::at).
    pub fn resolution(&self, seed: u64) -> Result<f64, CurvatureError> {
        let weights = self.subject.vectors().gather(&self.start);
        let mut squares = 0.0;
        for draw in 0..RESOLUTION_DRAWS {
            let mut random = Stream::new(seed, Purpose::Chain, (1 << 32) + draw);
            let near = |(place, scale): (&usize, &f64)| NEAR * random.normal() * f64::from(weights[*place]) / scale;
            let x: Vec<f64> = self.places.iter().zip(&self.scales).map(near).collect();
            let (loss, _) = self.loss_at(&x)?;
            let slope: f64 = self.gradient.iter().zip(&x).map(|(g, x)| g * x).sum();
            squares += (loss - self.loss - slope).powi(2);
        }
        // The loss at the model is rounded too: a half each.
        Ok(self.nbeta * (squares / RESOLUTION_DRAWS as f64 / 2.0).sqrt())
    }
}

/// Relative moves of weights that show the rounding and nothing else: the loss's own change is of their square.
const NEAR: f64 = 1e-6;
const RESOLUTION_DRAWS: u64 = 16;

impl Target for ModelTarget<'_> {
    fn size(&self) -> usize {
        self.places.len()
    }

    fn at(&self, x: &[f64]) -> Result<Point, CurvatureError> {
        let (loss, gradient) = self.loss_at(x)?;
        let squares: f64 = x.iter().map(|x| x * x).sum();
        Ok(Point {
            loss: self.nbeta * (loss - self.loss),
            prior: 0.5 * self.gamma * squares,
            gradient: gradient.iter().zip(x).map(|(g, x)| self.nbeta * g + self.gamma * x).collect(),
        })
    }
}
