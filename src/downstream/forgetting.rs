//! What a fine-tuned encoder forgot of its language: its exact excess loss, with the head of the language model as it
//! was, less that of the model before, on the same held-out sentences.
//!
//! Both excesses are KL(p(. | the other words) || model) against exact conditionals, so that their difference has
//! neither a label's noise nor, but for the choice of sentences, an error. A tied head goes with the table of words
//! that was tuned.

use super::outcome::DownstreamError;
use crate::config::EvaluateSection;
use crate::gpu::GpuError;
use crate::model::{Encoder, Head, Loaded, Model, Weights};
use crate::ops::Device;
use crate::statistics::Estimate;
use crate::train::{Corpus, Evaluator, mean_of_sums};

/// What a model knows before it is tuned.
pub struct Memory {
    device: Device,
    encoder: Encoder,
    weights: Weights,
    evaluator: Evaluator,
    /// Sums over each sentence's positions.
    before: Vec<f64>,
    positions: Vec<usize>,
}

/// What one fit forgot, sentence by sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Forgotten {
    /// Excess loss after less before, summed over each sentence's positions, in nats.
    pub sums: Vec<f64>,
    /// Positions asked about of each sentence.
    pub positions: Vec<usize>,
    /// Mean excess loss before, per position.
    pub before: f64,
}

/// Why there is no [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoMemory {
    /// Nothing to compare with.
    #[error("the language knows no exact conditionals, against which an excess loss is taken")]
    NoTruth,
    /// Features alone.
    #[error("the model has no language model's head")]
    NoHead,
}

impl Memory {
    /// Asks a model what it knows of the first held-out sentences of its language, as many as `asked` says, in batches
    /// of up to `batch`.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn of(
        device: &Device,
        model: &Loaded,
        corpus: &Corpus,
        asked: &EvaluateSection,
        batch: usize,
    ) -> Result<Result<Memory, NoMemory>, GpuError> {
        if model.encoder.head != Head::Words {
            return Ok(Err(NoMemory::NoHead));
        }
        let evaluator = Evaluator::new(&model.on(device)?, corpus, asked, batch)?;
        let Some((before, positions)) = evaluator.excesses()? else { return Ok(Err(NoMemory::NoTruth)) };
        let (encoder, weights) = (model.encoder.clone(), model.weights.clone());
        Ok(Ok(Memory { device: device.clone(), encoder, weights, evaluator, before, positions }))
    }

    /// Asks the same of the encoder after tuning, whose parameters go by their names.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn after(&self, tuned: &Encoder, weights: &Weights) -> Result<Forgotten, DownstreamError> {
        let mut own = self.weights.clone();
        for (parameter, values) in self.encoder.parameters.iter().zip(&mut own.0) {
            if let Some(i) = tuned.find(&parameter.name) {
                values.clone_from(&weights.0[i]);
            }
        }
        let model = Model::new(&self.device, &self.encoder, &own)?;
        let (after, _) = self.evaluator.of(&model)?.excesses()?.expect("the same language");
        let sums = after.iter().zip(&self.before).map(|(after, before)| after - before).collect();
        let before = mean_of_sums(&self.before, &self.positions).value;
        Ok(Forgotten { sums, positions: self.positions.clone(), before })
    }
}

impl Forgotten {
    /// Mean over the positions, with the standard error over sentences.
    pub fn mean(&self) -> Estimate {
        mean_of_sums(&self.sums, &self.positions)
    }

    /// What several fits forgot in the mean, sentence by sentence; `None` of none.
    pub fn together<'f>(all: impl Iterator<Item = &'f Forgotten>) -> Option<Forgotten> {
        let all: Vec<&Forgotten> = all.collect();
        let first = *all.first()?;
        let mean = |i: usize| all.iter().map(|one| one.sums[i]).sum::<f64>() / all.len() as f64;
        Some(Forgotten { sums: (0..first.sums.len()).map(mean).collect(), ..first.clone() })
    }
}
