//! How long the loops of norms and inner products are: Mesa's software driver ends the loops of an invocation after
//! 65,535 iterations of all of them together, without a word, and what they sum up is then too small. So a sentence
//! that needs more is refused.

use crate::curvature::{CurvatureError, Refusal, Subject};
use crate::gpu::MOST_ITERATIONS;
use crate::graph::{Emit, Graph};
use crate::ops::batch::Sentence;
use crate::ops::{AttentionVariant, Family, Function, GhostLoops};

/// The loops of a pass's norms, or inner products.
pub(super) struct Loops {
    kernels: Vec<(String, GhostLoops)>,
    /// Of inner products of inputs, which do not depend on a sentence.
    rows: Option<(u64, String)>,
    lanes: Option<u32>,
}

impl Loops {
    /// Of the nodes of a graph, where the adapter is one that bounds them.
    pub fn of(subject: &Subject, graph: &Graph) -> Option<Loops> {
        if !subject.gpu().capabilities().software {
            return None;
        }
        let lanes = match subject.model.variants().attention(Family::GhostNorm) {
            AttentionVariant::Subgroup(lanes) => Some(lanes),
            _ => None,
        };
        let rows = |node: &crate::graph::Node| {
            let Function::RowGram(op) = &node.function else { return None };
            let a = graph.tensor(node.inputs[0]);
            Some((op.iterations(a, lanes), a.name.clone()))
        };
        let of = |node: &crate::graph::Node| {
            let tensors: Vec<_> = node.inputs.iter().map(|i| graph.tensor(*i)).collect();
            let loops = match &node.function {
                Function::GhostNorm(op) => op.loops(&tensors, &subject.dims),
                Function::GhostGram(op) => op.loops(&tensors),
                _ => return None,
            };
            Some((tensors[0].name.clone(), loops))
        };
        let rows = graph.nodes().iter().filter_map(rows).max();
        Some(Loops { kernels: graph.nodes().iter().filter_map(of).collect(), rows, lanes })
    }

    /// # Errors
    /// A sentence that is too long, with what would do.
    pub fn check(&self, sentences: &[Sentence]) -> Result<(), CurvatureError> {
        let most = |f: fn(&Sentence) -> usize| sentences.iter().map(f).max().unwrap_or(0) as u64;
        let (tokens, masked) = (most(|s| s.ids.len()), most(|s| s.masked.len()));
        let needs = self.kernels.iter().map(|(name, loops)| (loops.iterations(tokens, masked, self.lanes), name));
        match needs.chain(self.rows.iter().map(|(needed, name)| (*needed, name))).max() {
            Some((needed, name)) if needed > MOST_ITERATIONS => {
                Err(Refusal::LongSentence { tokens, masked, needed, kernel: name.clone() }.into())
            }
            _ => Ok(()),
        }
    }
}
