//! Twin of `shaders/ghost_gram.wgsl`: the inner products of `ghost_norm` of each kind of parameter, added up.

use super::ghost_norm::{self, Rows};
use super::{Inputs, plus};
use crate::ops::{GhostGram, GhostNorm, GramKind};

/// Inputs as of [`ghost_norm::evaluate`], then an addend.
pub(super) fn evaluate(op: &GhostGram, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
    let rows = Rows::new(inputs);
    let gram = |kind| ghost_norm::gram(kind, op.mask, op.most as usize, &rows, inputs.frame.batch);
    let mut sums = match op.kind {
        GramKind::Product { parts, .. } => gram(GhostNorm::Product { parts }),
        GramKind::Sum { parts } => gram(GhostNorm::Sum { parts }),
        GramKind::Scale => gram(GhostNorm::Scale),
        GramKind::Tables => gram(GhostNorm::Tables),
        GramKind::Tied => gram(GhostNorm::Tied),
    };
    if let GramKind::Product { parts, bias: true } = op.kind {
        sums = plus(sums, Some(&gram(GhostNorm::Sum { parts })));
    }
    vec![plus(sums, op.addend.then(|| inputs.of(inputs.node.inputs.len() - 1)))]
}
