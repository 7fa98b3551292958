//! The loop over epochs that probes and fine-tuning share.

use super::forgetting::Forgotten;
use super::outcome::{DownstreamError, Fit, Judged};
use crate::random::{Purpose, Stream};

/// What is fitted, as far as the loop sees it.
pub(super) trait Learner {
    /// Parameters as they are kept.
    type Weights;

    /// Comes before the steps of an epoch, counted from 1.
    fn begin_epoch(&mut self, _epoch: u32) -> Result<(), DownstreamError> {
        Ok(())
    }

    /// Takes a step on these training examples.
    fn step(&mut self, examples: &[u32]) -> Result<(), DownstreamError>;

    /// (accuracy, mean loss) on the validation part, behind the steps of an epoch.
    fn validate(&mut self) -> Result<(f64, f64), DownstreamError>;

    /// Reads the parameters.
    fn weights(&mut self) -> Result<Self::Weights, DownstreamError>;
}

/// The best epoch of a fit.
pub(super) struct Best<W> {
    /// Validation accuracy, and mean loss.
    pub accuracy: f64,
    pub loss: f64,
    /// Counted from 1.
    pub epoch: u32,
    pub weights: W,
}

impl<W> Best<W> {
    /// The fit of this epoch, by what it makes of the test part.
    pub fn judged(&self, test: Judged, forgotten: Option<Forgotten>) -> Fit {
        Fit {
            accuracy: test.accuracy,
            validation_accuracy: self.accuracy,
            validation_loss: self.loss,
            epoch: self.epoch,
            predictions: test.predictions,
            divergences: test.divergences,
            forgotten,
        }
    }
}

/// How long a fit goes on, and over how much.
pub(super) struct Epochs {
    pub seed: u64,
    /// Training examples, and those of a step.
    pub examples: u32,
    pub batch: u32,
    pub epochs: u32,
    /// Whether the epoch with the lowest validation loss is kept, whatever its accuracy.
    pub by_loss: bool,
}

impl Epochs {
    /// Goes over the examples in a new order each epoch, and keeps the parameters of the epoch with the best validation
    /// accuracy, the lower validation loss among equals; or the one with the lowest validation loss.
    pub fn fit<L: Learner>(&self, learner: &mut L) -> Result<Best<L::Weights>, DownstreamError> {
        let mut order: Vec<u32> = (0..self.examples).collect();
        let mut best: Option<Best<L::Weights>> = None;
        for epoch in 1..=self.epochs {
            let mut stream = Stream::new(self.seed, Purpose::Shuffle, u64::from(epoch));
            for i in (1..order.len()).rev() {
                order.swap(i, stream.below(i as u32 + 1) as usize);
            }
            learner.begin_epoch(epoch)?;
            for examples in order.chunks(self.batch as usize) {
                learner.step(examples)?;
            }
            let (accuracy, loss) = learner.validate()?;
            let better = |b: &Best<L::Weights>| match self.by_loss {
                true => loss < b.loss,
                false => accuracy > b.accuracy || (accuracy == b.accuracy && loss < b.loss),
            };
            if best.as_ref().is_none_or(better) {
                best = Some(Best { accuracy, loss, epoch, weights: learner.weights()? });
            }
        }
        Ok(best.expect("at least one epoch"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Epochs, Learner};
    use crate::downstream::DownstreamError;

    /// Answers with losses that are written down, and records what it was asked.
    struct Recorded {
        validations: Vec<(f64, f64)>,
        seen: Vec<Vec<u32>>,
        validated: usize,
    }

    impl Learner for Recorded {
        type Weights = usize;

        fn step(&mut self, examples: &[u32]) -> Result<(), DownstreamError> {
            self.seen.push(examples.to_vec());
            Ok(())
        }

        fn validate(&mut self) -> Result<(f64, f64), DownstreamError> {
            self.validated += 1;
            Ok(self.validations[self.validated - 1])
        }

        fn weights(&mut self) -> Result<usize, DownstreamError> {
            Ok(self.validated)
        }
    }

    #[test]
    fn the_best_epoch_is_kept_and_each_sees_every_example_once() {
        let validations = vec![(0.5, 1.0), (0.7, 2.0), (0.7, 1.5), (0.7, 1.5), (0.6, 0.1)];
        let mut recorded = Recorded { validations, seen: vec![], validated: 0 };
        let mut epochs = Epochs { seed: 3, examples: 10, batch: 4, epochs: 5, by_loss: false };
        let best = epochs.fit(&mut recorded).unwrap();
        assert_eq!((best.epoch, best.weights, best.accuracy, best.loss), (3, 3, 0.7, 1.5));
        let again = Recorded { validations: recorded.validations.clone(), seen: vec![], validated: 0 };
        epochs.by_loss = true;
        assert_eq!(epochs.fit(&mut { again }).unwrap().epoch, 5, "by the loss alone");
        let epochs: Vec<Vec<u32>> = recorded.seen.chunks(3).map(<[Vec<u32>]>::concat).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
        }
        assert_ne!(epochs[0], epochs[1], "each epoch has its own order");
    }
}
