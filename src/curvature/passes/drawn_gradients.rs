//! Gradients for cotangents that are drawn at the logits, summed over a batch.

use super::pass::Pass;
use super::vectors::{Each, ProbeVectors};
use crate::curvature::{CurvatureError, Subject};
use crate::gpu::Step;
use crate::graph::{Emit, TensorId};
use crate::model::{Given, Recipe};
use crate::ops::{LossDraw, Rule, call};

/// Σ_t J_tᵀ c_t over the predicted positions of a batch, with c_t drawn at each: E c cᵀ = diag(p) - p pᵀ. The mean of
/// its squares over draws is Σ_t of the diagonal of F_t.
pub struct DrawnGradients {
    pass: Pass,
    gradients: ProbeVectors,
}

impl DrawnGradients {
    fn recipe(subject: &Subject, kind: LossDraw) -> (Recipe, Vec<TensorId>) {
        let encoder = &subject.first_order();
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let drawn = graph.push(call(kind, Rule::Forward, &[encoder.logits, loss]), "draw")[0];
        let adjoints = graph.gradient(&[(encoder.logits, drawn)]);
        let gradients: Vec<TensorId> = encoder.tensors.iter().map(|p| adjoints[p]).collect();
        graph.prune(&gradients);
        graph.fuse();
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Fresh("the gradients"), gradients.iter().copied())
            .keep(&gradients)
            .in_phases();
        (recipe, gradients)
    }

    /// Bytes that it takes of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, kind: LossDraw) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &DrawnGradients::recipe(subject, kind).0)
    }

    /// Plans for the subject's batches; `kind` is drawn labels or signs.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject, kind: LossDraw) -> Result<DrawnGradients, CurvatureError> {
        let (recipe, gradients) = DrawnGradients::recipe(subject, kind);
        let pass = Pass::new(subject, recipe)?;
        let gradients = ProbeVectors::of(subject, &pass, &gradients);
        Ok(DrawnGradients { pass, gradients })
    }

    /// Draws at once.
    pub fn width(&self) -> usize {
        self.pass.dims().probes as usize
    }

    /// Draws `first ..` of a seed on a batch, at most [`width`](Self::width); `each` gets the number of a draw among
    /// these, a range of its gradient and the numbers there.
    pub(in crate::curvature) fn run(
        &self,
        subject: &Subject,
        batch: usize,
        (seed, first): (u64, u32),
        draws: usize,
        each: Each<'_>,
    ) -> Result<(), CurvatureError> {
        let seed = [seed as u32, (seed >> 32) as u32];
        let step = Step { probes: draws as u32, seed, counter: [first, 0], ..Step::default() };
        self.pass.run(subject, batch, 1.0, step)?;
        Ok(self.gradients.read(subject, draws, each)?)
    }

    /// (once a batch, once a draw) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }
}
