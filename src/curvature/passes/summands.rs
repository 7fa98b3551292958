//! Squared norms of per-example gradients as their kernels leave them: summands in columns of the block of results.

use super::loops::Loops;
use super::pass::Pass;
use crate::curvature::{CurvatureError, Subject};
use crate::gpu::Step;
use crate::graph::NormTerm;
use crate::ops::Batch;

/// The summands of squared norms, each a part of what `T` names.
pub(super) struct Summands<T> {
    /// (Of what, column, place in the block in vec4.)
    terms: Vec<(T, usize, u64)>,
    loops: Option<Loops>,
}

impl<T: Copy> Summands<T> {
    /// The places of terms in a planned pass.
    pub(super) fn new<'t>(
        pass: &Pass,
        loops: Option<Loops>,
        terms: impl IntoIterator<Item = (T, &'t NormTerm)>,
    ) -> Summands<T> {
        let start = pass.bound.block().offset();
        let place = |term: &NormTerm| (pass.bound.buffer(term.tensor).offset() - start) / 16;
        Summands { terms: terms.into_iter().map(|(of, term)| (of, term.column, place(term))).collect(), loops }
    }

    /// Runs draws `first ..` of a seed and hands each summand to `take` as (draw, example, of what, the summand).
    ///
    /// # Errors
    /// A sentence that is too long for a software driver; what the adapter says.
    pub(super) fn run(
        &self,
        pass: &Pass,
        subject: &Subject,
        batch: usize,
        (seed, first): (u64, u32),
        draws: usize,
        mut take: impl FnMut(usize, usize, T, f64),
    ) -> Result<Batch, CurvatureError> {
        let step = Step {
            probes: draws as u32,
            seed: [seed as u32, (seed >> 32) as u32],
            counter: [first, 0],
            ..Step::default()
        };
        if let Some(loops) = &self.loops {
            loops.check(&subject.sentences[subject.batches[batch].clone()])?;
        }
        let packed = pass.run(subject, batch, 1.0, step)?;
        let block = pass.bound.block();
        let values: Vec<[f32; 4]> = subject.gpu().read(block, block.bytes() as usize / 16)?;
        let stride = pass.dims().sentences as usize;
        for (of, column, place) in &self.terms {
            for k in 0..draws {
                for example in 0..packed.sentences as usize {
                    let value = values[*place as usize + k * stride + example][*column];
                    take(k, subject.batches[batch].start + example, *of, f64::from(value));
                }
            }
        }
        Ok(packed)
    }
}
