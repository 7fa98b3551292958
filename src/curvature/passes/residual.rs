//! vᵀ(H_i - G_i) v of each example without what has no mean: the residual that the Hessian has beside the Gauss-Newton
//! matrix, Σ_v (p_v - y_v) ∇²z_v, for its trace alone.

use super::along::Along;
use super::forms::read_sums;
use super::pass::Pass;
use super::vectors::ProbeVectors;
use crate::curvature::{Block, CurvatureError, Subject};
use crate::gpu::Step;
use crate::graph::{TensorId, Terms};
use crate::model::Recipe;

/// Quadratic forms of the residual for blocks of vectors, an example each, of the sum of its losses.
///
/// Left out are the terms that join a weight's part of the vector with parts of other tensors ([`Terms::Mean`]). For a
/// vector along a single number, and in the mean over vectors of independent numbers with mean 0, they are 0: the means
/// are traces, with less scatter than quadratic forms have.
pub struct ResidualPass {
    pass: Pass,
    probes: ProbeVectors,
    sums: Option<TensorId>,
}

struct ResidualRecipe {
    recipe: Recipe,
    probes: Vec<TensorId>,
    sums: Option<TensorId>,
}

impl ResidualRecipe {
    fn new(subject: &Subject) -> ResidualRecipe {
        let mut along = Along::new(subject, true);
        let Along { graph, forward, adjoints, tangents, .. } = &mut along;
        let sums = graph.second_order_of(Terms::Mean, *forward, None, adjoints.as_ref(), tangents);
        let keep: Vec<TensorId> = sums.into_iter().collect();
        let (recipe, probes) = along.recipe(subject, &keep);
        ResidualRecipe { recipe, probes, sums }
    }
}

impl ResidualPass {
    /// Bytes that it takes of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &ResidualRecipe::new(subject).recipe)
    }

    /// Plans for the subject's examples, with their soft labels where they all bring some.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject) -> Result<ResidualPass, CurvatureError> {
        let ResidualRecipe { recipe, probes, sums } = ResidualRecipe::new(subject);
        let pass = Pass::new(subject, recipe)?;
        let probes = ProbeVectors::of(subject, &pass, &probes);
        Ok(ResidualPass { pass, probes, sums })
    }

    /// Vectors at once.
    pub fn width(&self) -> usize {
        self.pass.dims().probes as usize
    }

    /// Forms of each vector over the examples of a batch, `[vector][example]`.
    ///
    /// # Errors
    /// An interrupt; what is not finite; what the adapter says.
    pub fn run<'b>(
        &self,
        subject: &Subject,
        batch: usize,
        block: impl Into<Block<'b>>,
    ) -> Result<Vec<Vec<f64>>, CurvatureError> {
        let (block, examples) = (block.into(), subject.batches[batch].len());
        let Some(sums) = self.sums else { return Ok(vec![vec![0.0; examples]; block.len()]) };
        let mut all = Vec::with_capacity(block.len());
        for chunk in block.chunks(self.width()) {
            self.probes.write(subject, &chunk)?;
            self.pass.run(subject, batch, 1.0, Step { probes: chunk.len() as u32, ..Step::default() })?;
            all.extend(read_sums(subject, &self.pass, sums, chunk.len(), examples)?);
        }
        match all.iter().flatten().all(|x| x.is_finite()) {
            true => Ok(all),
            false => Err(CurvatureError::NotFinite("a quadratic form")),
        }
    }

    /// (once a batch, once a vector) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }

    /// Forgets the activations of the last batch: the next run computes them again.
    pub fn forget(&self) {
        self.pass.resident.set(None);
    }
}
