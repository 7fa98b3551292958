//! Second moments of per-example gradients as an [`Operator`]: the empirical Fisher matrix and the noise covariance.
//!
//! With g_i the gradient of example i's summed loss at the labels of the data and s_i = ⟨g_i, v⟩, from one pass along
//! v, the products are weighted sums of gradients, and no gradient of a single example is formed: F v = Σ s_i g_i / n,
//! Σ v = Σ (s_i - s̄) g_i / (n - 1).

use std::cell::OnceCell;

use super::forms::FormPass;
use super::model_operator::made;
use super::weighted::WeightedPass;
use crate::curvature::{Block, CurvatureError, Operator, Probes, Refusal, Subject};

/// Which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Σ g_i g_iᵀ / n.
    EmpiricalFisher,
    /// Σ (g_i - ḡ)(g_i - ḡ)ᵀ / (n - 1).
    NoiseCovariance,
}

/// A moment of a subject's gradients. Plans are made when they are first needed.
pub struct GradientOperator<'s> {
    subject: &'s Subject,
    moment: Moment,
    /// 1 / n: every example's gradient counts the same, however many positions its loss sums up.
    weights: Vec<f64>,
    slopes: OnceCell<FormPass>,
    sums: OnceCell<WeightedPass>,
    gradient_flops: f64,
}

impl<'s> GradientOperator<'s> {
    /// The moment over the parameters that take part.
    ///
    /// # Errors
    /// A covariance of fewer than 2 examples.
    pub fn new(subject: &'s Subject, moment: Moment) -> Result<GradientOperator<'s>, CurvatureError> {
        let n = subject.examples();
        if moment == Moment::NoiseCovariance && n < 2 {
            return Err(Refusal::FewGradients(n).into());
        }
        Ok(GradientOperator {
            subject,
            moment,
            weights: vec![1.0 / n as f64; n],
            slopes: OnceCell::new(),
            sums: OnceCell::new(),
            gradient_flops: subject.gradient_flops(),
        })
    }

    fn slope_pass(&self) -> Result<&FormPass, CurvatureError> {
        made(&self.slopes, || FormPass::new(self.subject, false))
    }

    fn sum_pass(&self) -> Result<&WeightedPass, CurvatureError> {
        made(&self.sums, || WeightedPass::new(self.subject))
    }

    /// vᵀ A_i v of each vector and example.
    fn squares(&self, block: Block<'_>) -> Result<Vec<Vec<f64>>, CurvatureError> {
        let scale = self.subject.examples() as f64 / self.divisor();
        let mut slopes = self.slopes(block)?;
        slopes.iter_mut().flatten().for_each(|s| *s = scale * s.powi(2));
        Ok(slopes)
    }

    /// ⟨g_i, v⟩, or ⟨g_i - ḡ, v⟩, of each vector and example.
    fn slopes(&self, block: Block<'_>) -> Result<Vec<Vec<f64>>, CurvatureError> {
        let forms = self.slope_pass()?.run(self.subject, block)?;
        let mut slopes: Vec<Vec<f64>> = forms.into_iter().map(|f| f.slope).collect();
        if self.moment == Moment::NoiseCovariance {
            for own in &mut slopes {
                let mean = own.iter().sum::<f64>() / own.len() as f64;
                own.iter_mut().for_each(|s| *s -= mean);
            }
        }
        Ok(slopes)
    }

    /// What the sum over examples is divided by.
    fn divisor(&self) -> f64 {
        let n = self.subject.examples() as f64;
        if self.moment == Moment::NoiseCovariance { n - 1.0 } else { n }
    }

    /// Gradients that a pass costs for so many vectors. With one batch its activations stay for the next block.
    fn cost(&self, flops: [f64; 2], vectors: usize, width: usize) -> f64 {
        let blocks = if self.subject.batches.len() == 1 { 1 } else { vectors.div_ceil(width.max(1)) };
        (flops[0] * blocks as f64 + flops[1] * vectors as f64) / self.gradient_flops
    }
}

impl Operator for GradientOperator<'_> {
    fn size(&self) -> usize {
        self.subject.size()
    }

    fn apply(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        let mut slopes = self.slopes(block.into())?;
        let divisor = self.divisor();
        slopes.iter_mut().flatten().for_each(|s| *s /= divisor);
        // The deviations of the slopes sum to 0, so that ḡ need not be taken from the gradients too.
        self.sum_pass()?.run(self.subject, &slopes)
    }

    fn quadratic_forms(&self, block: &[Vec<f32>]) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.squares(block.into())
    }

    fn quadratic_forms_of_probes_so_far(&self, probes: &Probes) -> Result<Vec<Vec<f64>>, CurvatureError> {
        self.squares(Block::Probes(probes.clone()))
    }

    fn weights(&self) -> &[f64] {
        &self.weights
    }

    fn product_cost(&self, vectors: usize) -> f64 {
        let sums = self.sum_pass().map_or(0.0, |p| self.cost(p.flops(), vectors, p.width()));
        self.form_cost(vectors) + sums
    }

    fn form_cost(&self, vectors: usize) -> f64 {
        self.slope_pass().map_or(0.0, |p| self.cost(p.flops(), vectors, vectors))
    }
}
