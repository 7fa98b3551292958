//! The Fisher trace in two parts by a partition of the words into groups: of the noise in which group a label is in,
//! and of that in which word of its group it is. With labels from the model the two are uncorrelated, so that
//! Tr F = T_between + T_within; the label dial (`objective.labels = { mix = .. }`) turns up either noise alone.
//!
//! Each is the mean squared norm of gradients for cotangents of that part ([`GroupDraw`]), by random signs or column by
//! column of its triangular factor, which draws nothing.

use super::{Drawing, Stopping};
use crate::curvature::{CurvatureError, Observe, Refusal, Subject};
use crate::ops::{GroupDraw, GroupPart, LossDraw};
use crate::statistics::{Estimate, Target};

/// The group of each word of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordGroups {
    of: Vec<u32>,
    count: u32,
}

impl WordGroups {
    /// From the number of each word's group, counted from 0.
    ///
    /// # Errors
    /// Fewer than two groups, or more than [`GroupDraw::MOST`].
    pub fn new(of: Vec<u32>) -> Result<WordGroups, CurvatureError> {
        let count = of.iter().max().map_or(0, |g| g.saturating_add(1));
        match (2..=GroupDraw::MOST).contains(&count) {
            true => Ok(WordGroups { of, count }),
            false => Err(Refusal::Groups { count, most: GroupDraw::MOST }.into()),
        }
    }

    /// The same of a model with so many words, those behind the ones that have a group in the last group.
    pub fn of_model(mut self, words: usize) -> WordGroups {
        self.of.resize(self.of.len().max(words), self.count - 1);
        self
    }

    /// Groups.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The group of each word, `[V]`.
    pub fn of_words(&self) -> &[u32] {
        &self.of
    }
}

/// How the two parts are estimated.
#[derive(Clone, Debug)]
pub struct LabelSplitOptions {
    /// [`LossDraw::Exact`] enumerates; of the others random signs are drawn.
    pub kind: LossDraw,
    /// Of the draws.
    pub seed: u64,
    /// Draws for each example.
    pub draws: usize,
    /// Whether the examples are all there is, or a sample.
    pub target: Target,
}

/// The two parts of the trace of the mean loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSplit {
    /// Of which group a label is in.
    pub between: Estimate,
    /// Of which word of its group it is.
    pub within: Estimate,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
}

/// So that the parts' draws are not those of the trace itself, nor each other's.
const SEEDS: [u64; 2] = [0xB37E_E2B3_7EE2_B37E, 0x3174_1213_1741_2131];

impl LabelSplit {
    /// Measures both parts over all of a subject's examples.
    ///
    /// # Errors
    /// Groups of another number of words than the model has; no draws; what is not finite; an interrupt, which leaves
    /// nothing; what the adapter says.
    pub fn measure(
        subject: &Subject,
        groups: &WordGroups,
        what: &LabelSplitOptions,
        observe: Observe<'_>,
    ) -> Result<LabelSplit, CurvatureError> {
        let mut cost = 0.0;
        let mut part = |part: GroupPart, seed: u64| {
            let exact = what.kind == LossDraw::Exact;
            let draw = GroupDraw { part, exact, groups: groups.count };
            let mut drawing = Drawing::grouped(subject, draw, groups, what.seed ^ seed, what.draws)?;
            let trace = drawing.run(subject, what.target, &Stopping::after(usize::MAX), &mut *observe)?.trace;
            if trace.interrupted {
                return Err(CurvatureError::Interrupted);
            }
            cost += trace.gradient_equivalents;
            Ok(Estimate { value: trace.estimate, standard_error: trace.standard_error, samples: trace.samples })
        };
        let (between, within) = (part(GroupPart::Between, SEEDS[0])?, part(GroupPart::Within, SEEDS[1])?);
        Ok(LabelSplit { between, within, gradient_equivalents: cost })
    }
}
