//! Per-example gradient norms as a reading of the gradient graph: where a parameter's gradient would be formed, a node gives
//! each sentence's squared norm instead, and what only led to the gradient is left for `prune` to drop.

use std::collections::HashMap;

use super::{Emit, Graph, Node, TensorId};
use crate::ops::{GhostNorm, Layout, Linear, Op, Table};

/// A summand of a parameter's squared norms: one of the four columns of a tensor [draws][sentences, 4].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormTerm {
    pub parameter: TensorId,
    /// Which of the parameter's parts.
    pub part: usize,
    pub tensor: TensorId,
    pub column: usize,
}

/// One place where a parameter gets its gradient from.
#[derive(Clone, Copy)]
enum Source {
    Product { b: TensorId, a: TensorId },
    Sum { b: TensorId },
    Scale { b: TensorId, x: TensorId, stat: TensorId, column: usize },
    Table { b: TensorId, table: Table },
}

impl Graph {
    /// Appends the norms of every parameter that has an adjoint. `parts` says into how many equal parts of rows (of columns
    /// for a vector) a parameter's matrix falls.
    pub fn ghost_norms(
        &mut self,
        adjoints: &HashMap<TensorId, TensorId>,
        parameters: &[TensorId],
        parts: &dyn Fn(TensorId) -> u32,
    ) -> Vec<NormTerm> {
        let producers: HashMap<TensorId, Node> =
            self.nodes().iter().flat_map(|n| n.outputs.iter().map(|o| (*o, n.clone()))).collect();
        let mut made: HashMap<(GhostNorm, Vec<TensorId>), TensorId> = HashMap::new();
        let mut terms = Vec::new();
        for parameter in parameters.iter().copied() {
            let Some(adjoint) = adjoints.get(&parameter) else { continue };
            let sources = sources(&producers, *adjoint);
            let split = parts(parameter);
            let mut term = |graph: &mut Graph, op: GhostNorm, inputs: Vec<TensorId>, part: usize, column: usize| {
                let tensor = *made
                    .entry((op, inputs))
                    .or_insert_with_key(|(op, inputs)| graph.push(Op::GhostNorm(*op), inputs, "norms")[0]);
                terms.push(NormTerm { parameter, part, tensor, column });
            };
            for source in &sources {
                match *source {
                    Source::Product { b, a } => (0..split as usize)
                        .for_each(|i| term(self, GhostNorm::Product { parts: split }, vec![b, a], i, i)),
                    Source::Sum { b } => {
                        (0..split as usize).for_each(|i| term(self, GhostNorm::Sum { parts: split }, vec![b], i, i));
                    }
                    Source::Scale { b, x, stat, column } => term(self, GhostNorm::Scale, vec![b, x, stat], 0, column),
                    Source::Table { b, table } => term(self, GhostNorm::Tables, vec![b], 0, table as usize),
                }
            }
            // A table that is the head too: the two gradients meet in the words' rows.
            let head = sources.iter().find_map(|s| if let Source::Product { b, a } = *s { Some((b, a)) } else { None });
            let words = sources.iter().find_map(|s| match *s {
                Source::Table { b, table: Table::Words } => Some(b),
                _ => None,
            });
            assert!(sources.len() == 1 || (sources.len() == 2 && head.is_some() && words.is_some()), "tied otherwise");
            if let (Some((e, h)), Some(b)) = (head, words) {
                term(self, GhostNorm::Tied, vec![b, h, e], 0, 0);
            }
        }
        terms
    }
}

/// Goes back from a parameter's adjoint through the sum of its contributions.
fn sources(producers: &HashMap<TensorId, Node>, adjoint: TensorId) -> Vec<Source> {
    let mut found = Vec::new();
    let mut next = vec![adjoint];
    while let Some(id) = next.pop() {
        let node = &producers[&id];
        match &node.op {
            Op::Add => next.extend(&node.inputs),
            Op::Linear(Linear { layout: Layout::TN, addend, .. }) => {
                found.push(Source::Product { b: node.inputs[0], a: node.inputs[1] });
                next.extend(node.inputs.get(2).filter(|_| *addend));
            }
            Op::ColumnSum => found.push(Source::Sum { b: node.inputs[0] }),
            Op::LayerNormScale => {
                let column = usize::from(node.outputs[1] == id);
                found.push(Source::Scale { b: node.inputs[2], x: node.inputs[0], stat: node.inputs[1], column });
            }
            Op::EmbeddingScatter { table, addend, .. } => {
                found.push(Source::Table { b: node.inputs[0], table: *table });
                next.extend(node.inputs.get(1).filter(|_| *addend));
            }
            other => panic!("a gradient that comes from `{}`", other.name()),
        }
    }
    found
}
