//! ḡ, and each example's gradient along it: what is needed beside the norms to know the covariance of the gradients.

use super::Noise;
use crate::curvature::{CurvatureError, Gradients, Matrix, ModelOperator, Operator, Subject};

/// The mean ḡ of per-example gradients of summed losses, with ⟨g_i, ḡ⟩ of each example.
#[derive(Clone, Debug)]
pub struct MeanGradient {
    /// ḡ, shape `[N]`.
    pub gradient: Vec<f32>,
    /// ⟨g_i, ḡ⟩.
    pub slopes: Vec<f64>,
    /// What the slopes cost, in gradients over the same examples; ḡ itself is one gradient.
    pub form_cost: f64,
}

impl MeanGradient {
    /// Of a subject's examples: a gradient, and one pass along it, that of `matrix`'s quadratic forms.
    ///
    /// # Errors
    /// What is not finite; what the adapter says.
    pub fn measure(subject: &Subject, matrix: Matrix) -> Result<MeanGradient, CurvatureError> {
        MeanGradient::of(subject, Gradients::new(subject)?.mean_of_examples(subject)?, matrix)
    }

    /// The same where ḡ is known.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn of(subject: &Subject, gradient: Vec<f32>, matrix: Matrix) -> Result<MeanGradient, CurvatureError> {
        let operator = ModelOperator::new(subject, matrix);
        let slopes = operator.forms(std::slice::from_ref(&gradient))?.swap_remove(0).slope;
        Ok(MeanGradient { gradient, slopes, form_cost: operator.form_cost(1) })
    }

    /// Tr Σ, the noise scale and their errors, from ‖g_i‖² of each example.
    pub fn noise(&self, squared_norms: &[f64]) -> Noise {
        Noise::of(squared_norms, &self.slopes)
    }
}
