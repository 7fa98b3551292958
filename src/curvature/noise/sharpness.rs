//! Sharpness as small batches see it: curvature along a batch's own gradient, and how much the loss rises on a step
//! along it.

use crate::curvature::error::unless_interrupted;
use crate::curvature::operator::vector::scale;
use crate::curvature::{
    CurvatureError, Gradients, Matrix, ModelOperator, Observe, Operator, Progress, Refusal, Subject, norm,
};
use crate::model::{ForwardPass, Model};
use crate::ops::{Dims, Labels};
use crate::statistics::Estimate;

/// Values of each batch.
#[derive(Clone, Debug, Default)]
pub struct BatchSharpness {
    /// gᵀ H g / ‖g‖² with the batch's own gradient and Hessian (Andreyev, Beneventano 2024, arXiv 2412.20553).
    pub curvature: Vec<f64>,
    /// Loss of the batch at θ + ρ g / ‖g‖ minus its loss at θ (Foret et al. 2021, eq. 2).
    pub ascent: Vec<f64>,
    /// ‖g‖.
    pub gradient_norm: Vec<f64>,
    /// Cost in gradients over the same examples: the gradient, one quadratic form, a forward pass.
    pub gradient_equivalents: f64,
    /// Whether an interrupt ended it; the values are of the batches until then.
    pub interrupted: bool,
}

impl BatchSharpness {
    /// Goes through the subject's batches, a last smaller one left out. The ascent works on a copy of the weights.
    pub fn measure(subject: &Subject, rho: f64, observe: Observe<'_>) -> Result<BatchSharpness, CurvatureError> {
        if !(rho > 0.0 && rho.is_finite()) {
            return Err(Refusal::StepLength(rho).into());
        }
        let gradients = Gradients::new(subject)?;
        let operator = ModelOperator::new(subject, Matrix::Hessian);
        let weights = subject.read_weights()?;
        let copy = Model::new(&subject.model.device, &subject.model.encoder, &weights)?;
        let dims = Dims { probes: 1, ..subject.dims };
        let moved = ForwardPass::new(&copy, dims, Labels::Hard, false)?;
        let full = subject.batches[0].len();
        let batches: Vec<usize> = (0..subject.batches.len()).filter(|b| subject.batches[*b].len() == full).collect();
        let mut values = BatchSharpness::default();
        for (done, batch) in batches.iter().enumerate() {
            let Some((mut gradient, loss)) = unless_interrupted(gradients.of_batch(subject, *batch))? else {
                values.interrupted = true;
                break;
            };
            let length = norm(&gradient);
            if length == 0.0 {
                return Err(CurvatureError::NotFinite("the direction of a batch's gradient (which is 0)"));
            }
            scale(&mut gradient, 1.0 / length);
            let sentences = &subject.sentences[subject.batches[*batch].clone()];
            let masked: usize = sentences.iter().map(|s| s.masked.len()).sum();
            let measured = operator.forms_of_batch(*batch, std::slice::from_ref(&gradient)).and_then(|forms| {
                copy.write(&subject.vectors.moved(&weights, &gradient, rho));
                Ok((forms, moved.run(sentences)?))
            });
            let Some((forms, risen)) = unless_interrupted(measured)? else {
                values.interrupted = true;
                break;
            };
            values.curvature.push(forms[0].hessian.iter().sum::<f64>() / masked as f64);
            values.ascent.push(risen.iter().map(|r| r.loss).sum::<f64>() / masked as f64 - loss);
            values.gradient_norm.push(length);
            let so_far = Estimate::of_mean(&values.curvature);
            let value = (done > 0).then_some((so_far.value, so_far.standard_error));
            let progress = Progress { done: done + 1, of: batches.len(), value };
            if unless_interrupted(observe(&progress))?.is_none() && done + 1 < batches.len() {
                values.interrupted = true;
                break;
            }
        }
        if values.curvature.is_empty() {
            return Err(CurvatureError::Interrupted);
        }
        values.gradient_equivalents = 1.0 + operator.form_cost(1) + 1.0 / 3.0;
        match values.curvature.iter().chain(&values.ascent).all(|x| x.is_finite()) {
            true => Ok(values),
            false => Err(CurvatureError::NotFinite("the sharpness of a batch")),
        }
    }
}
