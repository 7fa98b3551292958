//! Weighted sums of per-example gradients, several sets of weights over one forward pass.

use super::pass::Pass;
use super::vectors::ProbeVectors;
use crate::curvature::{CurvatureError, Subject};
use crate::gpu::Step;
use crate::graph::TensorId;
use crate::model::{Given, Recipe};
use crate::ops::counts::MASKED;

/// Σ_i s_i g_i, with g_i the gradient of example i's summed loss for the labels of the data.
pub struct WeightedPass {
    pass: Pass,
    /// A weight for each masked position in the first of four columns, for each set.
    weights: TensorId,
    sums: ProbeVectors,
}

impl WeightedPass {
    /// Plans for the subject's batches.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject) -> Result<WeightedPass, CurvatureError> {
        let encoder = &subject.first_order();
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weights = graph.probe("weights", MASKED, 4);
        let adjoints = graph.gradient(&[(loss, weights)]);
        let gradients: Vec<TensorId> = encoder.tensors.iter().map(|p| adjoints[p]).collect();
        graph.prune(&gradients);
        graph.fuse();
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Fresh("the weights"), [weights])
            .give(Given::Fresh("the sums"), gradients.iter().copied())
            .keep(&gradients)
            .in_phases();
        let pass = Pass::new(subject, recipe)?;
        let sums = ProbeVectors::of(subject, &pass, &gradients);
        Ok(WeightedPass { pass, weights, sums })
    }

    /// Sets of weights at once.
    pub fn width(&self) -> usize {
        self.pass.dims().probes as usize
    }

    /// The sum for each set, `[set][example]`, shape `[N]` each.
    pub fn run(&self, subject: &Subject, sets: &[Vec<f64>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        let layer = self.pass.dims().size4(MASKED, 4) * 16;
        let mut answers = vec![Vec::with_capacity(subject.size()); sets.len()];
        for (chunk, answers) in sets.chunks(self.width()).zip(answers.chunks_mut(self.width())) {
            let mut run = |batch: usize| {
                let range = &subject.batches[batch];
                for (k, set) in chunk.iter().enumerate() {
                    let examples = subject.sentences[range.clone()].iter().zip(&set[range.clone()]);
                    let rows: Vec<[f32; 4]> = examples
                        .flat_map(|(s, weight)| std::iter::repeat_n([*weight as f32, 0.0, 0.0, 0.0], s.masked.len()))
                        .collect();
                    subject.gpu().write_at(self.pass.bound.buffer(self.weights), layer * k as u64, &rows);
                }
                let step = Step { probes: chunk.len() as u32, ..Step::default() };
                self.pass.run(subject, batch, 1.0, step).map(drop)
            };
            // No negative zeros, as of sums.
            let each = &mut |k: usize, _, values: &[f32]| answers[k].extend(values.iter().map(|x| 0.0 + x));
            self.sums.sums(subject, chunk.len(), &mut run, each)?;
        }
        Ok(answers)
    }

    /// (once a batch, once a set) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }
}
