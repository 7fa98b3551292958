//! Losses of a subject's examples at weights other than its own.

use crate::curvature::{CurvatureError, Subject};
use crate::model::{ForwardPass, Model, Recipe, Weights};
use crate::ops::Dims;

/// A copy of the subject's model that is moved along vectors; the model itself is not written.
pub struct MovedLosses<'s> {
    subject: &'s Subject,
    weights: Weights,
    copy: Model,
    pass: ForwardPass,
}

impl<'s> MovedLosses<'s> {
    /// Bytes that the copy and its passes take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject) -> Result<u64, CurvatureError> {
        let (recipe, _) = Recipe::forward(&subject.model.encoder, subject.labels, &[]);
        let weights: usize = subject.encoder().matrices.iter().map(|m| 4 * m.padded_len()).sum();
        Ok(recipe.bytes(&subject.model, &Dims { probes: 1, ..subject.dims })? + weights as u64)
    }

    /// Copies the weights and plans a forward pass for the subject's batches.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &'s Subject) -> Result<MovedLosses<'s>, CurvatureError> {
        let weights = subject.read_weights()?;
        let copy = Model::new(&subject.model.device, &subject.model.encoder, &weights)?;
        let pass = ForwardPass::new(&copy, Dims { probes: 1, ..subject.dims }, subject.labels, false)?;
        Ok(MovedLosses { subject, weights, copy, pass })
    }

    /// The weights that are moved.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The loss of each example at θ + factor v, the mean over its predicted positions, in nats. Of soft labels it is
    /// the divergence, which is the expected loss less a constant.
    ///
    /// # Errors
    /// An interrupt; a loss that is not finite; what the adapter says.
    pub fn at(&self, v: &[f32], factor: f64) -> Result<Vec<f64>, CurvatureError> {
        self.copy.write(&self.subject.vectors.moved(&self.weights, v, factor));
        let mut all = Vec::with_capacity(self.subject.examples());
        for range in &self.subject.batches {
            let sentences = &self.subject.sentences[range.clone()];
            let rows = self.pass.run(sentences)?;
            let mut rest = &rows[..];
            for sentence in sentences {
                let (own, others) = rest.split_at(sentence.masked.len());
                rest = others;
                all.push(own.iter().map(|row| row.divergence).sum::<f64>() / own.len() as f64);
            }
        }
        match all.iter().all(|loss| loss.is_finite()) {
            true => Ok(all),
            false => Err(CurvatureError::NotFinite("the loss at weights that are moved")),
        }
    }
}
