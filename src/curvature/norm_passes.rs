//! Passes that give squared norms and inner products of per-example gradients without forming them.

use std::collections::HashMap;

use super::loops::Loops;
use super::passes::{Draft, Pass};
use super::{CurvatureError, Gram, Subject};
use crate::gpu::{Buffer, Count, GpuError, Step};
use crate::graph::{Emit, GramPart, Graph, NormTerm, TensorId};
use crate::ops::{Dims, LossDraw, Rule, call};

/// Where the cotangents at the logits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cotangent {
    /// The labels of the examples: p − e_y.
    Data,
    /// Draws from the model.
    Draw(LossDraw),
}

/// Rows of a sentence up to which a layer's inner products are taken anew for every draw: a tile of the kernel that shares
/// them has 32 rows or 64, whatever the sentence.
const FEW: u32 = 32;

/// Squared norms of per-example gradients for the labels of the data, or for a block of draws.
pub struct NormPass {
    pass: Pass,
    /// Summands of each parameter's squared norm: (parameter, column, place in `block`).
    terms: Vec<(usize, usize, u64)>,
    block: Buffer,
    loops: Option<Loops>,
    draws: bool,
}

/// The graph of norms, its weight, the summands and their tensors, and the parameters of each matrix.
struct NormGraph {
    graph: Graph,
    weight: TensorId,
    norms: Vec<NormTerm>,
    members: Vec<Vec<usize>>,
    tensors: Vec<TensorId>,
}

impl NormGraph {
    fn new(subject: &Subject<'_>, cotangent: Cotangent) -> NormGraph {
        let encoder = &subject.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", Count::Masked, 4);
        let adjoints = match cotangent {
            Cotangent::Data => graph.gradient(&[(loss, weight)]),
            Cotangent::Draw(kind) => {
                let drawn = graph.push(call(kind, Rule::Forward, &[encoder.logits, loss]), "draw")[0];
                graph.gradient(&[(encoder.logits, drawn)])
            }
        };
        // Parameters that share a matrix are its parts, in order.
        let members: Vec<Vec<usize>> = (0..encoder.matrices.len())
            .map(|m| (0..encoder.parameters.len()).filter(|p| encoder.parameters[*p].matrix == m).collect())
            .collect();
        let matrix_of = |id: TensorId| encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
        let wanted: Vec<TensorId> = (0..encoder.matrices.len())
            .filter(|m| members[*m].iter().any(|p| subject.vectors.contains(*p)))
            .map(|m| encoder.tensors[m])
            .collect();
        let norms: Vec<NormTerm> = graph.ghost_norms(&adjoints, &wanted, &|id| members[matrix_of(id)].len() as u32);
        let mut tensors: Vec<TensorId> = norms.iter().map(|t| t.tensor).collect();
        tensors.sort_unstable();
        tensors.dedup();
        graph.prune(&tensors);
        graph.fuse();
        if cotangent != Cotangent::Data {
            graph.share_slopes();
            graph.share_row_grams(&subject.dims, |rows| subject.longest(rows), FEW);
        }
        graph.norms_early();
        NormGraph { graph, weight, norms, members, tensors }
    }
}

/// Bytes of one tensor of norms.
fn norm_bytes(dims: &Dims, cotangent: Cotangent) -> u64 {
    let draws = if cotangent == Cotangent::Data { 1 } else { u64::from(dims.probes) };
    u64::from(dims.sentences) * 16 * draws
}

impl NormPass {
    /// Bytes that norms for a kind of cotangent take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject<'_>, cotangent: Cotangent) -> Result<u64, CurvatureError> {
        let NormGraph { graph, tensors, .. } = NormGraph::new(subject, cotangent);
        Pass::bytes(subject, &graph, &tensors, &tensors, |dims| {
            norm_bytes(dims, cotangent).next_multiple_of(subject.gpu.alignment()) * tensors.len() as u64
        })
    }

    /// Plans the norms for a kind of cotangent.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject<'_>, cotangent: Cotangent) -> Result<NormPass, CurvatureError> {
        let NormGraph { graph, weight, norms, members, tensors } = NormGraph::new(subject, cotangent);
        let matrix_of = |id: TensorId| subject.encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
        let memory = std::cell::RefCell::new(None);
        let pass = Pass::new(subject, &graph, |dims| {
            let bytes = norm_bytes(&dims, cotangent);
            let (block, parts) = subject.gpu.arena("the norms", &vec![bytes; tensors.len()])?;
            *memory.borrow_mut() = Some((block, bytes.max(16).next_multiple_of(subject.gpu.alignment())));
            let outside = tensors.iter().copied().zip(parts).collect();
            let weight = (cotangent == Cotangent::Data).then_some(weight);
            Ok(Draft { graph: graph.clone(), weight, outside, keep: tensors.clone() })
        })?;
        let (block, stride) = memory.into_inner().expect("the draft was made");
        let place = |t: &NormTerm| {
            let number = tensors.iter().position(|id| *id == t.tensor).expect("listed");
            (members[matrix_of(t.parameter)][t.part], t.column, number as u64 * stride / 16)
        };
        let terms = norms.iter().map(place).filter(|(p, ..)| subject.vectors.contains(*p)).collect();
        let loops = Loops::of(subject, &graph);
        Ok(NormPass { pass, terms, block, loops, draws: cotangent != Cotangent::Data })
    }

    /// Draws at once.
    pub fn width(&self) -> usize {
        if self.draws { self.pass.dims.probes as usize } else { 1 }
    }

    /// Squared norms for draws `first ..` of a seed, handed to `take` as (draw, example, parameter, a summand of the norm).
    pub fn run(
        &self,
        subject: &Subject<'_>,
        batch: usize,
        seed: u64,
        first: u32,
        draws: usize,
        mut take: impl FnMut(usize, usize, usize, f64),
    ) -> Result<(), CurvatureError> {
        let step = Step {
            probes: draws as u32,
            seed: [seed as u32, (seed >> 32) as u32],
            counter: [first, 0],
            ..Step::default()
        };
        if let Some(loops) = &self.loops {
            loops.check(&subject.sentences[subject.batches[batch].clone()])?;
        }
        let packed = self.pass.run(subject, batch, 1.0, step)?;
        let values: Vec<[f32; 4]> = subject.gpu.read(&self.block, self.block.bytes() as usize / 16)?;
        let stride = self.pass.dims.sentences as usize;
        for (parameter, column, place) in &self.terms {
            for k in 0..draws {
                for example in 0..packed.sentences as usize {
                    let value = values[*place as usize + k * stride + example][*column];
                    take(k, subject.batches[batch].start + example, *parameter, f64::from(value));
                }
            }
        }
        Ok(())
    }

    /// (once a batch, once a draw) in multiplications and additions.
    pub fn flops(&self) -> [f64; 2] {
        self.pass.flops
    }

    /// Forgets the activations of the last batch: the next run computes them again.
    pub fn forget(&self) {
        self.pass.resident.set(None);
    }

    /// Seconds of every dispatch for so many probes or draws, from timestamps.
    pub fn time(&self, subject: &Subject<'_>, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
        self.pass.time(subject, probes)
    }
}

/// Inner products of the gradients of all examples' summed losses, for the labels of the data.
pub struct GramPass {
    pass: Pass,
    gram: TensorId,
    loops: Option<Loops>,
}

impl GramPass {
    /// Plans for the subject's examples, which must be one batch: each meets every other.
    ///
    /// # Errors
    /// Several batches, or what the adapter says.
    pub fn new(subject: &Subject<'_>) -> Result<GramPass, CurvatureError> {
        if subject.batches.len() != 1 {
            return Err(CurvatureError::Request(format!(
                "inner products of {} gradients need them in one batch; take fewer examples or a larger batch",
                subject.examples()
            )));
        }
        let encoder = &subject.encoder;
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", Count::Masked, 4);
        let adjoints = graph.gradient(&[(loss, weight)]);
        let part = |id: TensorId| {
            let matrix = encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
            let members: Vec<usize> =
                (0..encoder.parameters.len()).filter(|p| encoder.parameters[*p].matrix == matrix).collect();
            let bit = |(i, p): (usize, &usize)| u32::from(subject.vectors.contains(*p)) << i;
            GramPart { mask: members.iter().enumerate().map(bit).sum(), parts: members.len() as u32 }
        };
        let gram = graph.ghost_gram(&adjoints, &encoder.tensors, subject.dims.sentences, &part);
        let gram = gram.ok_or_else(|| CurvatureError::Request("no parameter takes part".into()))?;
        graph.prune(&[gram]);
        graph.fuse();
        let pass = Pass::new(subject, &graph, |_| {
            Ok(Draft { graph: graph.clone(), weight: Some(weight), outside: HashMap::new(), keep: vec![gram] })
        })?;
        let loops = Loops::of(subject, &graph);
        Ok(GramPass { pass, gram, loops })
    }

    /// What a run costs, in gradients over the same examples.
    pub fn cost(&self, subject: &Subject<'_>) -> f64 {
        self.pass.flops.iter().sum::<f64>() / subject.gradient_flops()
    }

    /// g_i·g_j, row by row.
    pub fn run(&self, subject: &Subject<'_>) -> Result<Gram, CurvatureError> {
        if let Some(loops) = &self.loops {
            loops.check(&subject.sentences)?;
        }
        self.pass.run(subject, 0, 1.0, Step { probes: 1, ..Step::default() })?;
        let n = subject.examples();
        let stride = n.next_multiple_of(4);
        let buffer = self.pass.plan.buffer(self.gram).expect("kept");
        let lower: Vec<f32> = subject.gpu.read(buffer, n * stride)?;
        let at = |i: usize, j: usize| f64::from(lower[i.max(j) * stride + i.min(j)]);
        Gram::new(n, (0..n * n).map(|k| at(k / n, k % n)).collect())
    }
}
