//! Gradients of a subject as vectors: ḡ, their mean over the examples, a batch's, a single example's.

use std::ops::Range;

use super::vectors::{ProbeVectors, add};
use crate::curvature::{CurvatureError, Subject};
use crate::gpu::GpuError;
use crate::model::GradientPass;
use crate::ops::{Batch, Labels};

/// A planned gradient over the parameters that take part.
pub struct Gradients {
    pass: GradientPass,
}

impl Gradients {
    /// Plans for the subject's batches.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject) -> Result<Gradients, GpuError> {
        let dims = crate::ops::Dims { probes: 1, ..subject.dims };
        Ok(Gradients { pass: GradientPass::new(&subject.model, dims, Labels::Hard)? })
    }

    /// Adds ∇ of `weight` times the summed loss of some examples, at most a batch of them, and gives that sum's losses
    /// a row.
    fn add(
        &self,
        subject: &Subject,
        examples: Range<usize>,
        weight: f32,
        sum: &mut [f64],
    ) -> Result<Vec<f64>, CurvatureError> {
        let gpu = subject.gpu();
        let batch = Batch::new(self.pass.layout(), &subject.sentences[examples]);
        let mut encoder = gpu.encoder();
        self.pass.encode(&mut encoder, &batch, weight, &batch.step(1))?;
        let submission = gpu.submit(encoder);
        gpu.wait(submission)?;
        let stat: Vec<[f32; 4]> = gpu.read(self.pass.loss_buffer(), batch.masked() as usize)?;
        let gradient = ProbeVectors::over(subject.encoder(), self.pass.gradient().matrices.clone());
        gradient.read(subject, 1, &mut |_, range, values| add(&mut sum[range], values))?;
        if sum.iter().all(|x| x.is_finite()) {
            Ok(stat.iter().map(|s| f64::from(s[0])).collect())
        } else {
            Err(CurvatureError::NotFinite("a gradient"))
        }
    }

    /// The gradient of the mean loss per masked position over the examples of a batch, and that loss.
    pub fn of_batch(&self, subject: &Subject, batch: usize) -> Result<(Vec<f32>, f64), CurvatureError> {
        let range = subject.batches[batch].clone();
        let masked: usize = subject.sentences[range.clone()].iter().map(|s| s.masked.len()).sum();
        let mut sum = vec![0.0; subject.size()];
        let losses = self.add(subject, range, 1.0 / masked as f32, &mut sum)?;
        Ok((single(&sum), losses.iter().sum::<f64>() / masked as f64))
    }

    /// ḡ, the mean over examples of the gradients g_i of their summed losses: what the covariance of the g_i is about.
    /// [`Subject::loss_gradient`] is of the mean over masked positions.
    pub fn mean_of_examples(&self, subject: &Subject) -> Result<Vec<f32>, CurvatureError> {
        let mut sum = vec![0.0; subject.size()];
        for range in &subject.batches {
            self.add(subject, range.clone(), 1.0, &mut sum)?;
        }
        let n = subject.examples() as f64;
        sum.iter_mut().for_each(|x| *x /= n);
        Ok(single(&sum))
    }

    /// g_i, the gradient of one example's summed loss.
    pub fn of_example(&self, subject: &Subject, example: usize) -> Result<Vec<f32>, CurvatureError> {
        let mut sum = vec![0.0; subject.size()];
        self.add(subject, example..example + 1, 1.0, &mut sum)?;
        Ok(single(&sum))
    }
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|x| *x as f32).collect()
}
