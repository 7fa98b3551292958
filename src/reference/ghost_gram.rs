//! Twin of `shaders/ghost_gram.wgsl`: the inner products of `ghost_norm` of each kind of parameter, added up.

use super::ghost_norm::{self, Rows};
use super::{Inputs, Twin, plus};
use crate::ops::{GhostGram, GhostNorm, GramKind, Rule};

impl Twin for GhostGram {
    /// Inputs as of [`GhostNorm`].
    fn evaluate(&self, _: Rule, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        let rows = Rows::new(inputs);
        let gram = |kind| ghost_norm::gram(kind, self.mask, self.most as usize, &rows, inputs.frame.batch);
        let mut sums = match self.kind {
            GramKind::Product { parts, .. } => gram(GhostNorm::Product { parts }),
            GramKind::Sum { parts } => gram(GhostNorm::Sum { parts }),
            GramKind::Scale { heads } => gram(GhostNorm::Scale { heads }),
            GramKind::Tables => gram(GhostNorm::Tables),
            GramKind::Tied => gram(GhostNorm::Tied),
        };
        if let GramKind::Product { parts, bias: true } = self.kind {
            sums = plus(sums, &gram(GhostNorm::Sum { parts }));
        }
        vec![sums]
    }
}
