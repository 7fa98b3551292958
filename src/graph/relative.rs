//! Norms of per-example gradients on a layer's own scale, without forming them: of Wᵀ G, what a relative change of a
//! layer's input meets, or of G Wᵀ, what one of its output does (relative flatness, Petzka et al. 2021, arXiv
//! 2001.00939).
//!
//! For y_t = W x_t and the adjoints b_t of y_t a sentence's gradient is G = Σ_t b_t x_tᵀ, so that Wᵀ G = Σ_t (Wᵀ b_t)
//! x_tᵀ and G Wᵀ = Σ_t b_t (W x_t)ᵀ: products of rows like G itself, with the same kernels.

use std::collections::HashMap;

use super::{Emit, GhostError, Graph, Node, NormTerm, TensorId};
use crate::ops::{GhostNorm, GradientRows, Layout, Parts, Rule, call};

/// Which side of a layer's gradient its weight stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relative {
    /// Wᵀ G.
    Left,
    /// Wᵀ G of several weights that share a matrix, each apart: their blocks along the diagonal of a matrix with as
    /// many equal blocks of columns, [rows of W, parts · columns of W padded to 4].
    LeftBlocks {
        /// The matrix of blocks.
        blocks: TensorId,
        /// How many there are.
        parts: u32,
    },
    /// G Wᵀ.
    Right,
}

impl Graph {
    /// Appends the squared norm of Wᵀ G, or of G Wᵀ, of each of some layers: (its matrix, which of the two). What is
    /// made for a norm alone is named too, for [`norms_early`](Graph::norms_early).
    ///
    /// # Errors
    /// A matrix that is not that of a single product.
    pub fn relative_norms(
        &mut self,
        adjoints: &HashMap<TensorId, TensorId>,
        layers: &[(TensorId, Relative)],
    ) -> Result<(Vec<NormTerm>, Vec<TensorId>), GhostError> {
        let producers: HashMap<TensorId, Node> =
            self.nodes().iter().flat_map(|n| n.outputs.iter().map(|o| (*o, n.clone()))).collect();
        let (mut terms, mut made) = (Vec::new(), Vec::new());
        for (parameter, relative) in layers.iter().copied() {
            let Some(adjoint) = adjoints.get(&parameter) else { continue };
            let found = self.sources(&producers, parameter, *adjoint)?;
            let [GradientRows::Product { b, a }] = found[..] else {
                return Err(GhostError::Shared { parameter: self.tensor(parameter).name.clone() });
            };
            let (product, inputs, parts) = match relative {
                Relative::Left => {
                    let d = self.product(Layout::NN, b, parameter, None, None);
                    (d, [d, a], 1)
                }
                Relative::LeftBlocks { blocks, parts } => {
                    let d = self.product(Layout::NN, b, blocks, None, None);
                    (d, [d, a], parts)
                }
                Relative::Right => {
                    let y = self.product(Layout::NT, a, parameter, None, None);
                    (y, [b, y], 1)
                }
            };
            made.push(product);
            let norm = GhostNorm::Product { parts: Parts::Equal(parts) };
            let tensor = self.push(call(norm, Rule::Forward, &inputs), "relative norms")[0];
            let part = |part| NormTerm { parameter, part, tensor, column: part };
            terms.extend((0..parts as usize).map(part));
        }
        Ok((terms, made))
    }
}
