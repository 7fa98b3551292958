//! The loss of a model on examples whose labels are known and whose conditionals are not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluate::{Evaluator, mean_of_sums, sums_by_sentence};
use crate::gpu::GpuError;
use crate::model::{ForwardPass, Model, dims_for};
use crate::ops::Labels;
use crate::ops::batch::Sentence;

/// What examples say about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleLoss {
    /// Mean cross-entropy of a predicted token, in nats, over all of all examples.
    pub loss: f64,
    /// Of the loss, of examples as a sample; the tokens of one belong together.
    pub loss_standard_error: f64,
    /// Examples looked at.
    pub examples: usize,
    /// Predicted tokens in them.
    pub predicted: usize,
}

impl ExampleLoss {
    /// Of two examples or more, `batch` of them on the adapter at once.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn of(model: &Model, examples: &[Sentence], batch: usize) -> Result<ExampleLoss, GpuError> {
        let dims = dims_for(examples, Evaluator::batch(batch));
        let rows = ForwardPass::new(model, dims, Labels::Hard, false)?.losses(examples)?;
        let losses: Vec<f64> = rows.iter().map(|row| row.loss).collect();
        let predicted: Vec<usize> = examples.iter().map(|example| example.masked.len()).collect();
        let mean = mean_of_sums(&sums_by_sentence(&losses, &predicted), &predicted);
        Ok(ExampleLoss {
            loss: mean.value,
            loss_standard_error: mean.standard_error,
            examples: examples.len(),
            predicted: losses.len(),
        })
    }
}
