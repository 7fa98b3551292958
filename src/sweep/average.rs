//! What SGD's noise adds to the excess loss of a run with an average of its weights (`train.ema`): the excess loss of
//! its last model less that of the average, in which most of the noise is gone, on the same sentences.
//!
//! At stationarity and with labels from the language Theorem 4.3's quadratic picture says (η / 4 B) Σ λ / (1 - η λ / 2)
//! over the eigenvalues λ of the Hessian, with no fitted constant; momentum μ makes η as large as η / (1 - μ).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::RunFailure;
use super::examine::{Examiner, Subject};
use super::folder::ModelAt;
use super::plan::{PlannedRun, SweepPlan};
use crate::config::EvaluateSection;
use crate::model;
use crate::train::{Evaluator, mean_of_sums};

/// A run's last model beside the average of its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Averaging {
    /// Excess loss of the average, in nats.
    pub average_excess_loss: f64,
    /// Over sentences.
    pub average_excess_loss_standard_error: f64,
    /// Excess loss of the last model less that.
    pub noise_excess: f64,
    /// Over the same sentences, of the paired difference.
    pub noise_excess_standard_error: f64,
}

impl SweepPlan {
    /// Whether the average of a run's weights is asked for at one of its models.
    pub(super) fn has_average(&self, run: &PlannedRun, at: &ModelAt) -> bool {
        run.given.is_none() && at.last && at.gauge.is_none() && run.resolved.config.train.ema.is_some()
    }
}

impl Examiner<'_> {
    /// The last model of a run beside its average, `model-ema` in the run's folder.
    pub(super) fn average(&self, subject: &Subject<'_>) -> Result<Averaging, RunFailure> {
        let folder = subject.loaded.folder.with_file_name("model-ema");
        let average = model::load(&folder)?;
        let examine = &self.plan.examine;
        let asked = EvaluateSection { sentences: examine.sentences, positions: examine.positions };
        let own = Evaluator::new(&subject.model, subject.corpus(), &asked, subject.micro_batch)?;
        let other = own.of(&average.on(&subject.model.device)?)?;
        let (Some((own, positions)), Some((other, _))) = (own.excesses()?, other.excesses()?) else {
            return Ok(Averaging::default());
        };
        let apart: Vec<f64> = own.iter().zip(&other).map(|(own, other)| own - other).collect();
        let [average, noise] = [&other, &apart].map(|sums| mean_of_sums(sums, &positions));
        Ok(Averaging {
            average_excess_loss: average.value,
            average_excess_loss_standard_error: average.standard_error,
            noise_excess: noise.value,
            noise_excess_standard_error: noise.standard_error,
        })
    }
}
