//! Per-example gradient norms as a reading of the gradient graph: where a parameter's gradient would be formed, a node
//! gives each sentence's squared norm instead, and what only led to the gradient is left for `prune` to drop.

use std::collections::HashMap;

use super::{Emit, Graph, Node, TensorId};
use crate::ops::{Function, GhostGram, GhostNorm, GradientRows, GradientSource, GramKind, Parts, Rule, Table, call};

/// Why there are no norms or inner products of per-example gradients.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GhostError {
    /// An operation with a parameter that has no `gradient_source`.
    #[error("per-example norms: `{operation}` gives `{parameter}` its gradient and does not say what it is made of")]
    Unknown {
        /// Name of the parameter.
        parameter: String,
        /// Name of the operation.
        operation: &'static str,
    },
    /// A parameter that is used several times, and not as the word table and the head of one model.
    #[error("per-example norms: `{parameter}` is used several times, and not as a word table and a head")]
    Shared {
        /// Name of the parameter.
        parameter: String,
    },
}

/// A summand of a parameter's squared norms: one of the four columns of a tensor [draws][sentences, 4].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormTerm {
    /// Whose norm it is a summand of.
    pub parameter: TensorId,
    /// Which of the parameter's parts.
    pub part: usize,
    /// Where it is read after the run.
    pub tensor: TensorId,
    /// From 0.
    pub column: usize,
}

impl Graph {
    /// Appends the norms of every parameter that has an adjoint. `parts` says into which parts of rows (of columns for
    /// a vector) a parameter's matrix falls, each with a norm of its own; they are numbered from 0.
    ///
    /// # Errors
    /// A parameter whose gradient is not known to be a sum over rows.
    pub fn ghost_norms(
        &mut self,
        adjoints: &HashMap<TensorId, TensorId>,
        parameters: &[TensorId],
        parts: &dyn Fn(TensorId) -> Vec<Parts>,
    ) -> Result<Vec<NormTerm>, GhostError> {
        let producers: HashMap<TensorId, Node> =
            self.nodes().iter().flat_map(|n| n.outputs.iter().map(|o| (*o, n.clone()))).collect();
        let mut made: HashMap<(GhostNorm, Vec<TensorId>), TensorId> = HashMap::new();
        let mut terms = Vec::new();
        for parameter in parameters.iter().copied() {
            let Some(adjoint) = adjoints.get(&parameter) else { continue };
            let sources = self.sources(&producers, parameter, *adjoint)?;
            let split = parts(parameter);
            let mut term = |graph: &mut Graph, op: GhostNorm, inputs: Vec<TensorId>, part: usize, column: usize| {
                let tensor = *made
                    .entry((op, inputs))
                    .or_insert_with_key(|(op, inputs)| graph.push(call(*op, Rule::Forward, inputs), "norms")[0]);
                terms.push(NormTerm { parameter, part, tensor, column });
            };
            for source in &sources {
                match *source {
                    GradientRows::Product { b, a } => {
                        for (part, parts, column) in numbered(&split) {
                            term(self, GhostNorm::Product { parts }, vec![b, a], part, column);
                        }
                    }
                    GradientRows::Sum { b } => {
                        for (part, parts, column) in numbered(&split) {
                            term(self, GhostNorm::Sum { parts }, vec![b], part, column);
                        }
                    }
                    GradientRows::Normalised { b, x, stat, heads, part } => {
                        term(self, GhostNorm::Scale { heads }, vec![b, x, stat], 0, part as usize)
                    }
                    GradientRows::Table { b, table } => term(self, GhostNorm::Tables, vec![b], 0, table as usize),
                }
            }
            // A table that is the head too: the two gradients meet in the words' rows.
            let head =
                sources.iter().find_map(|s| if let GradientRows::Product { b, a } = *s { Some((b, a)) } else { None });
            let words = sources.iter().find_map(|s| match *s {
                GradientRows::Table { b, table: Table::Words } => Some(b),
                _ => None,
            });
            match (sources.len(), head, words) {
                (1, ..) => {}
                (2, Some((e, h)), Some(b)) => term(self, GhostNorm::Tied, vec![b, h, e], 0, 0),
                _ => return Err(GhostError::Shared { parameter: self.tensor(parameter).name.clone() }),
            }
        }
        Ok(terms)
    }
}

/// The parts of a matrix in their order: (number, what it is a part of, its column there).
fn numbered(split: &[Parts]) -> impl Iterator<Item = (usize, Parts, usize)> {
    let columns = split.iter().flat_map(|parts| (0..parts.count() as usize).map(|column| (*parts, column)));
    columns.enumerate().map(|(i, (parts, column))| (i, parts, column))
}

impl Graph {
    /// Takes every norm as soon as its rows are there, so that an adjoint's memory is free again when the pass back has
    /// left it behind: as many more draws have room at once. With them what is `made` for norms alone.
    pub fn norms_early(&mut self, made: &[TensorId]) {
        let (norms, others): (Vec<Node>, Vec<Node>) = std::mem::take(self.nodes_mut()).into_iter().partition(|n| {
            let norm = matches!(n.function, Function::GhostNorm(_) | Function::RowGram(_));
            norm || n.outputs.iter().any(|o| made.contains(o))
        });
        let mut place: HashMap<TensorId, usize> =
            others.iter().enumerate().flat_map(|(i, n)| n.outputs.iter().map(move |o| (*o, i))).collect();
        // Behind the last node that makes one of its inputs; those of parameters and inputs are there from the
        // beginning.
        let mut behind: Vec<Vec<Node>> = vec![vec![]; others.len()];
        for norm in norms {
            let last = norm.reads().filter_map(|i| place.get(i)).max().copied().unwrap_or(0);
            place.extend(norm.outputs.iter().map(|o| (*o, last)));
            behind[last].push(norm);
        }
        for (node, norms) in others.into_iter().zip(behind) {
            self.nodes_mut().push(node);
            self.nodes_mut().extend(norms);
        }
    }
}

/// What `ghost_gram` is to sum up of a parameter's matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GramPart {
    /// Bit i is set when part i of `parts` takes part.
    pub mask: u32,
    /// Into which parts the matrix's rows fall.
    pub parts: Parts,
}

impl GramPart {
    /// Those of some parts, numbered from 0, that are `taken`; a matrix of which none is does not take part.
    pub fn of(split: &[Parts], taken: impl Fn(usize) -> bool) -> Vec<GramPart> {
        let mut all: Vec<GramPart> = Vec::new();
        for (_, parts, column) in numbered(split).filter(|(part, ..)| taken(*part)) {
            match all.last_mut() {
                Some(last) if last.parts == parts => last.mask |= 1 << column,
                _ => all.push(GramPart { mask: 1 << column, parts }),
            }
        }
        all
    }
}

impl Graph {
    /// Appends the inner products of all pairs of sentences' gradients over the parameters for which `wanted` says so,
    /// for batches of `most` sentences at most: [sentences, most], column ≤ row. `None` when no parameter is wanted.
    ///
    /// # Errors
    /// As [`ghost_norms`](Self::ghost_norms).
    pub fn ghost_gram(
        &mut self,
        adjoints: &HashMap<TensorId, TensorId>,
        parameters: &[TensorId],
        most: u32,
        wanted: &dyn Fn(TensorId) -> Vec<GramPart>,
    ) -> Result<Option<TensorId>, GhostError> {
        let producers: HashMap<TensorId, Node> =
            self.nodes().iter().flat_map(|n| n.outputs.iter().map(|o| (*o, n.clone()))).collect();
        // Parameters that share their rows (weight and bias, scale and shift, the three tables) are summed up together.
        let mut sums: Vec<(GramKind, Vec<TensorId>, u32)> = Vec::new();
        // One matrix of rows can be the gradient of several biases: an LSTM has two.
        let mut biases: Vec<(TensorId, GramPart)> = Vec::new();
        let mut join = |kind: GramKind, inputs: Vec<TensorId>, mask: u32| match sums
            .iter_mut()
            .find(|(k, i, _)| *k == kind && *i == inputs)
        {
            Some((_, _, bits)) => *bits |= mask,
            None => sums.push((kind, inputs, mask)),
        };
        for parameter in parameters.iter().copied() {
            let (Some(adjoint), parts) = (adjoints.get(&parameter), wanted(parameter)) else { continue };
            if parts.is_empty() {
                continue;
            }
            let found = self.sources(&producers, parameter, *adjoint)?;
            for source in &found {
                match *source {
                    GradientRows::Product { b, a } => {
                        for GramPart { mask, parts } in parts.iter().copied() {
                            join(GramKind::Product { parts, bias: false }, vec![b, a], mask);
                        }
                    }
                    GradientRows::Sum { b } => biases.extend(parts.iter().map(|part| (b, *part))),
                    GradientRows::Normalised { b, x, stat, heads, part } => {
                        join(GramKind::Scale { heads }, vec![b, x, stat], 1 << part as u32);
                    }
                    GradientRows::Table { b, table } => join(GramKind::Tables, vec![b], 1 << table as u32),
                }
            }
            match found[..] {
                [_] => {}
                [GradientRows::Product { b: e, a: h }, GradientRows::Table { b, table: Table::Words }]
                | [GradientRows::Table { b, table: Table::Words }, GradientRows::Product { b: e, a: h }] => {
                    join(GramKind::Tied, vec![b, h, e], 1);
                }
                _ => return Err(GhostError::Shared { parameter: self.tensor(parameter).name.clone() }),
            }
        }
        for (kind, inputs, mask) in &mut sums {
            if let GramKind::Product { parts, .. } = *kind
                && let Some(i) =
                    biases.iter().position(|(b, part)| *b == inputs[0] && part.mask == *mask && part.parts == parts)
            {
                biases.remove(i);
                *kind = GramKind::Product { parts, bias: true };
            }
        }
        biases.sort_by_key(|(b, _)| *b);
        sums.extend(biases.into_iter().map(|(b, part)| (GramKind::Sum { parts: part.parts }, vec![b], part.mask)));
        Ok(sums.into_iter().fold(None, |before, (kind, inputs, mask)| {
            let gram = call(GhostGram { kind, mask, most }, Rule::Forward, &inputs).plus(before);
            Some(self.push(gram, "gram")[0])
        }))
    }

    /// What the rows are that a parameter's gradient is the sum of, one for each use of it.
    ///
    /// # Errors
    /// A parameter whose gradient is not known to be a sum over rows.
    pub fn gradient_rows(
        &self,
        adjoints: &HashMap<TensorId, TensorId>,
        parameter: TensorId,
    ) -> Result<Vec<GradientRows>, GhostError> {
        let producers: HashMap<TensorId, Node> =
            self.nodes().iter().flat_map(|n| n.outputs.iter().map(|o| (*o, n.clone()))).collect();
        adjoints.get(&parameter).map_or(Ok(vec![]), |adjoint| self.sources(&producers, parameter, *adjoint))
    }

    /// Goes back from a parameter's adjoint through the sum of its contributions.
    pub(super) fn sources(
        &self,
        producers: &HashMap<TensorId, Node>,
        parameter: TensorId,
        adjoint: TensorId,
    ) -> Result<Vec<GradientRows>, GhostError> {
        let mut found = Vec::new();
        let mut next = vec![adjoint];
        while let Some(id) = next.pop() {
            let node = producers.get(&id);
            let source = node.and_then(|node| {
                let output = node.outputs.iter().position(|o| *o == id)?;
                node.operation().gradient_source(node, output)
            });
            match source {
                Some(GradientSource::Sum(both)) => next.extend(both),
                Some(GradientSource::Rows(rows)) => found.push(rows),
                None => {
                    let operation = node.map_or("an input", |node| node.function.name());
                    return Err(GhostError::Unknown { parameter: self.tensor(parameter).name.clone(), operation });
                }
            }
            next.extend(node.and_then(|node| node.addend));
        }
        Ok(found)
    }
}
