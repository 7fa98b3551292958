//! What the experiment on Theorem 6.1 is asked and what it answers.

use schemars::JsonSchema;
use serde::Serialize;

use super::descent::Solution;
use super::gradient_noise::{Passed, Sgd};
use super::network::Measured;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DyckOptions {
    /// T: even, 4 to [`LONGEST`](super::LONGEST).
    pub length: usize,
    /// M: 2 to 4096.
    pub neurons: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Starts of flatness-regularised training.
    pub restarts: usize,
    /// Heads fitted for each number of examples.
    pub draws: usize,
    /// Steps of SGD with label noise; 0 leaves it out.
    pub noise_steps: u64,
}

/// Random features with the shortest head that has no loss; one draw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RandomFeatures {
    /// Loss, trace and alignment.
    #[serde(flatten)]
    pub measured: Measured,
    /// The trace at the flattest common scale of all w against all a.
    pub trace_together: f64,
    /// The trace with each neuron at its flattest scale.
    pub trace_balanced: f64,
}

/// Flatness-regularised training at one weight.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RegularisedAt {
    /// μ.
    pub weight: f64,
    /// The restart with the least L + μ Tr.
    pub best: Solution,
    /// The least L + μ Tr that any network can have.
    pub least_objective: f64,
    /// The ends of all restarts.
    pub restarts: Vec<Solution>,
}

/// Gradient descent on the loss alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct GradientDescent {
    /// Standard deviation of w at the start; that of a is as much over √M.
    pub start: f64,
    /// Steps taken.
    pub steps: usize,
    /// Loss, trace and alignment.
    #[serde(flatten)]
    pub measured: Measured,
}

/// SGD from a solution of gradient descent, with noise on the labels or without.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LabelNoise {
    /// The settings.
    #[serde(flatten)]
    pub sgd: Sgd,
    /// Mean of the loss over the second half of the run.
    pub late_loss: f64,
    /// η δ² Tr / (4 B), the loss at which SGD hovers, over the same half.
    pub expected_late_loss: f64,
    /// Points along the run, at equal distances.
    pub course: Vec<Passed>,
}

/// How often the head on so many examples has no loss on the whole task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HeadSuccess {
    /// n.
    pub examples: u64,
    /// Share of the draws.
    pub probability: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// 1 - 2^-n.
    pub expected: f64,
    /// Heads fitted.
    pub draws: u64,
}

/// Mean squared error of the head on the task, in shares of the label's variance; means over draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DownstreamLoss {
    /// n.
    pub examples: usize,
    /// On the features of the flattest solution.
    pub flattest: f64,
    /// Over the draws.
    pub flattest_standard_error: f64,
    /// On those of the trained network.
    pub regularised: Option<f64>,
    /// Over the draws.
    pub regularised_standard_error: Option<f64>,
    /// On random features.
    pub random: Option<f64>,
    /// Over the draws.
    pub random_standard_error: Option<f64>,
}

/// What came out; parts that an interrupt kept from being made are empty or null.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct DyckReport {
    /// T.
    pub length: usize,
    /// M.
    pub neurons: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// Masked sentences, all equally likely.
    pub sentences: usize,
    /// Rank of random features over them.
    pub rank: usize,
    /// 2 √(T-1): no network without loss is flatter.
    pub bound: f64,
    /// Of the two-neuron solution.
    pub flattest_trace: f64,
    /// Of the same; 0 but for rounding.
    pub flattest_loss: f64,
    /// Median over the draws; null where there are fewer neurons than `rank`.
    pub random_trace: Option<f64>,
    /// Median of [`RandomFeatures::trace_together`].
    pub random_trace_together: Option<f64>,
    /// Median of [`RandomFeatures::trace_balanced`].
    pub random_trace_balanced: Option<f64>,
    /// 2 T √(2 (T-1) / π), what `random_trace_balanced` tends to with many neurons.
    pub random_trace_balanced_limit: f64,
    /// The draws.
    pub random: Vec<RandomFeatures>,
    /// Of the best restart at the smallest weight, with its loss: where that is not 0 the trace may lie a little below
    /// the bound.
    pub regularised_trace: Option<f64>,
    /// Of the same network.
    pub regularised_loss: Option<f64>,
    /// Of the same network.
    pub regularised_alignment: Option<f64>,
    /// Each weight in turn.
    pub regularised: Vec<RegularisedAt>,
    /// From small and from large weights.
    pub gradient_descent: Vec<GradientDescent>,
    /// With noise on the targets and without.
    pub label_noise: Vec<LabelNoise>,
    /// On masked sentences with the label 1(S > 0), features of the flattest solution.
    pub head_success: Vec<HeadSuccess>,
    /// On free brackets with the label max(S, 0).
    pub head_success_free: Vec<HeadSuccess>,
    /// Name and level of the intervals of both.
    pub head_interval: String,
    /// On free brackets with the label max(S, 0).
    pub downstream_loss: Vec<DownstreamLoss>,
    /// What is null, and why.
    pub notes: Vec<String>,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// Whether everything is there.
    pub reached: bool,
}
