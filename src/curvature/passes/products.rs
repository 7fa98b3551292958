//! A v for blocks of vectors, A the Hessian or the Gauss-Newton matrix (Pearlmutter 1994; Schraudolph 2002).

use super::pass::{Pass, directions};
use super::vectors::{Each, ProbeVectors};
use crate::curvature::{Block, CurvatureError, Subject};
use crate::gpu::{GpuError, Step};
use crate::graph::{Emit, TensorId};
use crate::model::{Given, Recipe};
use crate::ops::counts::MASKED;
use crate::ops::{CrossEntropy, Rule, call};

/// Which matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matrix {
    /// Of the mean loss.
    Hessian,
    /// Gauss-Newton: the Hessian with the model linearised; equal to the Fisher matrix.
    Ggn,
}

/// A v for a block of vectors v: the mean over the masked positions of all examples.
pub struct ProductPass {
    pass: Pass,
    probes: ProbeVectors,
    products: ProbeVectors,
}

/// The recipe of products, and each parameter's probe and product.
struct ProductRecipe {
    recipe: Recipe,
    probes: Vec<TensorId>,
    products: Vec<TensorId>,
}

impl ProductRecipe {
    fn new(subject: &Subject, matrix: Matrix) -> ProductRecipe {
        let encoder = &subject.model.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", MASKED, 4);
        let parameters = &encoder.tensors;
        let (seeds, products): (Vec<_>, Vec<TensorId>) = match matrix {
            Matrix::Hessian => {
                let adjoints = graph.gradient(&[(loss, weight)]);
                let seeds = directions(encoder, &mut graph);
                let tangents = graph.tangent(&seeds);
                (seeds, parameters.iter().map(|p| tangents[&adjoints[p]]).collect())
            }
            Matrix::Ggn => {
                let seeds = directions(encoder, &mut graph);
                let tangents = graph.tangent(&seeds);
                let logits = encoder.logits;
                let inputs = [logits, loss, weight, tangents[&logits]];
                let curved = call(CrossEntropy { labels: subject.labels }, Rule::VjpJvp(0), &inputs);
                let cotangent = graph.push(curved, "curved")[0];
                let adjoints = graph.gradient(&[(logits, cotangent)]);
                (seeds, parameters.iter().map(|p| adjoints[p]).collect())
            }
        };
        graph.prune(&products);
        graph.fuse();
        let probes: Vec<TensorId> = seeds.into_iter().map(|(_, probe)| probe).collect();
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Weight, [weight])
            .give(Given::Fresh("the probes"), probes.iter().copied())
            .give(Given::Fresh("the products"), products.iter().copied())
            .keep(&products)
            .in_phases();
        ProductRecipe { recipe, probes, products }
    }
}

impl ProductPass {
    /// Bytes that products of a matrix take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, matrix: Matrix) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &ProductRecipe::new(subject, matrix).recipe)
    }

    /// Plans the products of a matrix.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject, matrix: Matrix) -> Result<ProductPass, CurvatureError> {
        let ProductRecipe { recipe, probes, products } = ProductRecipe::new(subject, matrix);
        let pass = Pass::new(subject, recipe)?;
        let [probes, products] = [probes, products].map(|ids| ProbeVectors::of(subject, &pass, &ids));
        Ok(ProductPass { pass, probes, products })
    }

    /// Vectors at once.
    pub fn width(&self) -> usize {
        self.pass.dims().probes as usize
    }

    /// A v of each vector, over all batches: the mean over masked positions.
    pub fn run(&self, subject: &Subject, block: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, CurvatureError> {
        let mut products = vec![Vec::with_capacity(subject.size()); block.len()];
        // No negative zeros, as of sums.
        self.stream(subject, &block.into(), &mut |k, _, values| products[k].extend(values.iter().map(|x| 0.0 + x)))?;
        Ok(products)
    }

    /// The same a piece at a time: `each` gets the number of a vector, a range of its product and the numbers there, of
    /// each vector in order.
    pub(super) fn stream(&self, subject: &Subject, block: &Block<'_>, each: Each<'_>) -> Result<(), CurvatureError> {
        let mut first = 0;
        for chunk in block.chunks(self.width()) {
            self.probes.write(subject, &chunk)?;
            let step = Step { probes: chunk.len() as u32, ..Step::default() };
            let weight = subject.row_weight() as f32;
            let mut run = |batch| self.pass.run(subject, batch, weight, step).map(drop);
            self.products.sums(subject, chunk.len(), &mut run, &mut |k, range, v| each(first + k, range, v))?;
            first += chunk.len();
        }
        Ok(())
    }

    /// (once a batch, once a vector) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }

    /// Forgets the activations of the last batch: the next run computes them again.
    pub fn forget(&self) {
        self.pass.resident.set(None);
    }

    /// Seconds of every dispatch for so many probes or draws, from timestamps.
    pub fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        self.pass.time(subject, probes)
    }
}
