//! ḡ, and each example's gradient along it: what is needed beside the norms to know the covariance of the gradients.

use super::{Cluster, Noise};
use crate::curvature::{CurvatureError, Gradients, Matrix, ModelOperator, Operator, Subject};

/// The mean ḡ of per-example gradients of summed losses, with ⟨g_i, ḡ⟩ of each example.
#[derive(Clone, Debug)]
pub struct MeanGradient {
    /// ḡ, shape `[N]`.
    pub gradient: Vec<f32>,
    /// ⟨g_i, ḡ⟩ of each example's summed loss.
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

    /// The same of the gradients of single predicted tokens: ḡ is their mean, the slopes those of each example's sum.
    ///
    /// # Errors
    /// As [`measure`](Self::measure).
    pub fn of_tokens(subject: &Subject, matrix: Matrix) -> Result<MeanGradient, CurvatureError> {
        let mut gradient = Gradients::new(subject)?.mean_of_examples(subject)?;
        let tokens = subject.masked().iter().sum::<usize>() as f64 / subject.examples() as f64;
        gradient.iter_mut().for_each(|g| *g = (f64::from(*g) / tokens) as f32);
        MeanGradient::of(subject, gradient, matrix)
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

    /// Each example with the gradients of its predicted tokens, from ‖g‖² of every token, in order, and ‖g_i‖² of the
    /// examples' sums.
    pub fn clusters(&self, subject: &Subject, tokens: &[f64], sums: &[f64]) -> Vec<Cluster> {
        let mut rest = tokens;
        let one = |((gradients, square_of_sum), slope): ((usize, &f64), &f64)| {
            let (own, others) = rest.split_at(gradients);
            rest = others;
            Cluster { gradients, squares: own.iter().sum(), square_of_sum: *square_of_sum, slope: *slope }
        };
        subject.masked().into_iter().zip(sums).zip(&self.slopes).map(one).collect()
    }

    /// Tr Σ, the noise scale and their errors, from ‖g_i‖² of each example.
    pub fn noise(&self, squared_norms: &[f64]) -> Noise {
        Noise::of(squared_norms, &self.slopes)
    }
}
