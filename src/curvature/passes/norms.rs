//! Passes that give squared norms and inner products of per-example gradients without forming them.

use super::axes::{self, AXES};
use super::loops::Loops;
use super::pass::Pass;
use super::summands::Summands;
use crate::curvature::{CurvatureError, Gram, Refusal, Subject, WordGroups};
use crate::gpu::{Count, GpuError, Step};
use crate::graph::{Emit, GramPart, NormTerm, TensorId};
use crate::model::{Given, Recipe};
use crate::ops::counts::MASKED;
use crate::ops::{AlongAxes, GroupDraw, LossDraw, Rule, call};

/// Where the cotangents at the logits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cotangent {
    /// The labels of the examples: p − e_y.
    Data,
    /// Draws from the model.
    Draw(LossDraw),
    /// Random signs put along the principal axes of the words ([`AlongAxes`]): the same mean, less scatter.
    SignsAlongAxes,
}

/// The same with one part of a draw.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Of(Cotangent),
    Part(GroupDraw),
}

/// Rows of a sentence up to which a layer's inner products are taken anew for every draw: a tile of the kernel that
/// shares them has 32 rows or 64, whatever the sentence.
pub(super) const FEW: u32 = 32;

/// Squared norms of per-example gradients for the labels of the data, or for a block of draws.
pub struct NormPass {
    pass: Pass,
    /// Of each parameter's squared norm.
    summands: Summands<usize>,
    draws: bool,
}

/// The recipe of norms, the summands, and the parameters of each matrix.
struct NormRecipe {
    recipe: Recipe,
    /// Coordinates of the words.
    axes: Option<TensorId>,
    norms: Vec<NormTerm>,
    /// The number of each word's group, of a part.
    groups: Option<TensorId>,
    members: Vec<Vec<usize>>,
}

impl NormRecipe {
    fn new(subject: &Subject, source: Source) -> Result<NormRecipe, CurvatureError> {
        let encoder = &subject.first_order();
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", MASKED, 4);
        let (mut groups, mut given) = (None, None);
        let adjoints = match source {
            Source::Of(Cotangent::Data) => graph.gradient(&[(loss, weight)]),
            Source::Part(draw) => {
                let of_words = graph.input("groups", Count::Fixed(1), encoder.classes());
                groups = Some(of_words);
                let drawn = graph.push(call(draw, Rule::Forward, &[encoder.logits, loss, of_words]), "draw")[0];
                graph.gradient(&[(encoder.logits, drawn)])
            }
            Source::Of(Cotangent::Draw(kind)) => {
                let drawn = graph.push(call(kind, Rule::Forward, &[encoder.logits, loss]), "draw")[0];
                graph.gradient(&[(encoder.logits, drawn)])
            }
            Source::Of(Cotangent::SignsAlongAxes) => {
                let drawn = graph.push(call(LossDraw::Signs, Rule::Forward, &[encoder.logits, loss]), "draw")[0];
                let axes = graph.input("axes", Count::Fixed(encoder.classes()), AXES as u32);
                given = Some(axes);
                let along = call(AlongAxes, Rule::Forward, &[encoder.logits, loss, axes, drawn]);
                let along = graph.push(along, "along")[0];
                graph.gradient(&[(encoder.logits, along)])
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
        let parts = |id| encoder.parts(matrix_of(id), members[matrix_of(id)].len());
        let taken = |t: &NormTerm| subject.vectors.contains(members[matrix_of(t.parameter)][t.part]);
        let norms: Vec<NormTerm> = graph.ghost_norms(&adjoints, &wanted, &parts)?.into_iter().filter(taken).collect();
        let mut tensors: Vec<TensorId> = norms.iter().map(|t| t.tensor).collect();
        tensors.sort_unstable();
        tensors.dedup();
        graph.prune(&tensors);
        graph.fuse();
        if source != Source::Of(Cotangent::Data) {
            graph.share_slopes();
            graph.share_row_grams(&subject.dims, |rows| subject.longest(rows), FEW);
        }
        graph.norms_early(&[]);
        let recipe = Recipe::new(graph, encoder, subject.labels)
            .give(Given::Weight, [weight])
            .give(Given::Fresh("groups of words"), groups)
            .give(Given::Fresh("the axes"), given)
            .give(Given::Block("the norms"), tensors.iter().copied())
            .keep(&tensors)
            .in_phases();
        Ok(NormRecipe { recipe, axes: given, norms, groups, members })
    }
}

impl NormPass {
    /// Bytes that norms for a kind of cotangent take of the adapter.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn bytes(subject: &Subject, cotangent: Cotangent) -> Result<u64, CurvatureError> {
        Pass::bytes(subject, &NormRecipe::new(subject, Source::Of(cotangent))?.recipe)
    }

    /// Plans the norms for a kind of cotangent.
    ///
    /// # Errors
    /// What the adapter says.
    pub fn new(subject: &Subject, cotangent: Cotangent) -> Result<NormPass, CurvatureError> {
        NormPass::planned(subject, Source::Of(cotangent), &[])
    }

    /// Plans the norms for draws of one part of the loss's own Hessian by groups of words.
    ///
    /// # Errors
    /// Groups of another number of words; what the adapter says.
    pub fn grouped(subject: &Subject, draw: GroupDraw, groups: &WordGroups) -> Result<NormPass, CurvatureError> {
        let (has, wanted) = (groups.of_words().len(), subject.model.encoder.classes() as usize);
        if has != wanted {
            return Err(Refusal::GroupsOfOthers { has, wanted }.into());
        }
        NormPass::planned(subject, Source::Part(draw), groups.of_words())
    }

    fn planned(subject: &Subject, source: Source, of_words: &[u32]) -> Result<NormPass, CurvatureError> {
        let NormRecipe { recipe, axes: given_axes, norms, groups, members } = NormRecipe::new(subject, source)?;
        let model = &subject.model;
        let loops = Loops::of(subject, recipe.graph());
        let pass = Pass::new(subject, recipe)?;
        if let Some(groups) = groups {
            let mut row: Vec<f32> = of_words.iter().map(|g| *g as f32).collect();
            row.resize(row.len().next_multiple_of(4), 0.0);
            subject.gpu().write_at(pass.bound.buffer(groups), 0, &row);
        }
        if let Some(tensor) = given_axes {
            subject.gpu().write(pass.bound.buffer(tensor), &axes::of_words(subject)?);
        }
        let matrix_of = |id: TensorId| model.encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
        let of = |t: &NormTerm| members[matrix_of(t.parameter)][t.part];
        let summands = Summands::new(&pass, loops, norms.iter().map(|t| (of(t), t)));
        Ok(NormPass { pass, summands, draws: source != Source::Of(Cotangent::Data) })
    }

    /// Draws at once.
    pub fn width(&self) -> usize {
        if self.draws { self.pass.dims().probes as usize } else { 1 }
    }

    /// Squared norms for draws `first ..` of a seed, handed to `take` as (draw, example, parameter, a summand of the
    /// norm).
    pub fn run(
        &self,
        subject: &Subject,
        batch: usize,
        seed: u64,
        first: u32,
        draws: usize,
        take: impl FnMut(usize, usize, usize, f64),
    ) -> Result<(), CurvatureError> {
        self.summands.run(&self.pass, subject, batch, (seed, first), draws, take).map(drop)
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
    pub fn time(&self, subject: &Subject, probes: u32) -> Result<Vec<(String, f64)>, GpuError> {
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
    pub fn new(subject: &Subject) -> Result<GramPass, CurvatureError> {
        if subject.batches.len() != 1 {
            return Err(Refusal::SeveralBatches(subject.examples()).into());
        }
        let encoder = &subject.first_order();
        let (mut graph, loss) = encoder.with_loss(subject.labels);
        let weight = graph.input("weight", MASKED, 4);
        let adjoints = graph.gradient(&[(loss, weight)]);
        let part = |id: TensorId| {
            let matrix = encoder.tensors.iter().position(|t| *t == id).expect("a parameter");
            let members: Vec<usize> =
                (0..encoder.parameters.len()).filter(|p| encoder.parameters[*p].matrix == matrix).collect();
            let parts = encoder.parts(matrix, members.len());
            GramPart::of(&parts, |i| subject.vectors.contains(members[i]))
        };
        let gram = graph.ghost_gram(&adjoints, &encoder.tensors, subject.dims.sentences, &part)?;
        let gram = gram.ok_or(Refusal::NoParameter)?;
        graph.prune(&[gram]);
        graph.fuse();
        let loops = Loops::of(subject, &graph);
        let recipe =
            Recipe::new(graph, encoder, subject.labels).give(Given::Weight, [weight]).keep(&[gram]).in_phases();
        Ok(GramPass { pass: Pass::new(subject, recipe)?, gram, loops })
    }

    /// What a run costs, in gradients over the same examples.
    pub fn cost(&self, subject: &Subject) -> f64 {
        self.pass.flops.iter().sum::<f64>() / subject.gradient_flops()
    }

    /// g_i·g_j, row by row.
    pub fn run(&self, subject: &Subject) -> Result<Gram, CurvatureError> {
        if let Some(loops) = &self.loops {
            loops.check(&subject.sentences)?;
        }
        self.pass.run(subject, 0, 1.0, Step { probes: 1, ..Step::default() })?;
        let n = subject.examples();
        let stride = n.next_multiple_of(4);
        let lower: Vec<f32> = subject.gpu().read(self.pass.bound.buffer(self.gram), n * stride)?;
        let at = |i: usize, j: usize| f64::from(lower[i.max(j) * stride + i.min(j)]);
        Gram::new(n, (0..n * n).map(|k| at(k / n, k % n)).collect())
    }
}
