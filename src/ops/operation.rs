//! What every operation says of itself, with defaults for what most have in common: those that are linear in one input
//! write down their shapes and their dispatches, and no rule.

use std::fmt::Debug;

use super::ir::named;
use super::{
    Adjoints, Dims, Emit, Family, Lowering, Node, Rule, Scratch, Second, Table, Tangents, Tensor, TensorId, Variants,
};
use crate::gpu::Count;

/// Suffix of the name, rows, columns and whether there is one per probe.
pub type OutputShape = (&'static str, Count, u32, bool);

/// A function with its rules.
pub trait Operation: Debug + Send + Sync {
    /// Name, as in `shaders/` and in `src/reference/`.
    fn name(&self) -> &'static str;

    /// What timings call a rule.
    fn title(&self, rule: Rule) -> String {
        match rule {
            Rule::Forward => self.name().into(),
            _ => format!("{}, {}", self.name(), rule.name()),
        }
    }

    /// Shapes of what comes out of a rule.
    ///
    /// # Panics
    /// When the inputs do not fit, or there is no such rule: a graph that is wrong does not come into being.
    fn outputs(&self, rule: Rule, inputs: &[&Tensor]) -> Vec<OutputShape>;

    /// Emits the dispatches of a node.
    fn lower(&self, node: &Node, cx: &mut Lowering<'_>);

    /// Multiplications and additions of a node's products, two for each pair of numbers that meet, for one probe where
    /// there are probes; `None` for what is bound by memory.
    fn flops(&self, node: &Node, sizes: &Sizes<'_>) -> Option<f64>;

    /// Whether a rule's kernel adds the node's addend. Otherwise an `add` stands behind it.
    fn adds(&self, _rule: Rule) -> bool {
        false
    }

    /// Whether every row of the forward results hangs on the same row of the inputs alone: where only masked rows are
    /// wanted of it, it is computed for masked rows only.
    fn by_row(&self) -> bool {
        false
    }

    /// Whether a node's kernels take a tensor of it by windows of rows ([`Lowering::windows`]), so that it may be
    /// larger than an adapter binds.
    fn in_windows(&self, _node: &Node, _id: TensorId) -> bool {
        false
    }

    /// Whether a node's kernels take any number of vec4 from one row of a tensor of it to the next
    /// ([`Lowering::stride4`]).
    fn strided(&self, _node: &Node, _id: TensorId) -> bool {
        false
    }

    /// The tensors of a node whose rows its kernels find by the same number, and which therefore are as far apart.
    fn alike(&self, _node: &Node) -> Vec<TensorId> {
        vec![]
    }

    /// Iterations of all loops of one invocation of a rule for a sentence of so many tokens, where they grow with it:
    /// software drivers end an invocation's loops after 65,535 of them, without a word.
    fn iterations(&self, _rule: Rule, _tokens: u64, _variants: &Variants) -> u64 {
        0
    }

    /// Whether it has reverse and tangent rules at all.
    fn differentiable(&self) -> bool {
        true
    }

    /// Whether the forward rule is a product of the first two inputs, linear in each of them, so that its second-order
    /// term joins the tangent of one with that of the other.
    fn bilinear(&self) -> bool {
        false
    }

    /// Emits the reverse rule of the forward node, given the adjoint of its first output.
    fn vjp(&self, node: &Node, g: &mut Adjoints<'_>, y_bar: TensorId) {
        g.transpose(node, y_bar);
    }

    /// Emits the tangents of the outputs from those of the inputs, for the forward and for the reverse rule. Some input
    /// has one.
    fn jvp(&self, node: &Node, g: &mut Tangents<'_>) {
        g.same_on_tangents(node);
    }

    /// Emits the second-order term ⟨ȳ, D²f[ẋ, ẋ]⟩ of the forward node, given the adjoint of its first output.
    fn second(&self, _node: &Node, _g: &mut Second<'_>, _y_bar: TensorId) {}

    /// The pieces of scratch memory of a node, with their bytes, 0 for one that it does without.
    fn scratch(&self, _node: &Node, _sizes: &Sizes<'_>) -> Vec<(Scratch, u64)> {
        vec![]
    }

    /// The part of the variant table that a rule belongs to, if it comes in variants.
    fn family(&self, _rule: Rule) -> Option<Family> {
        None
    }

    /// What output number `output` of a node is made of when it is a parameter's gradient, for norms of per-sentence
    /// gradients; its addend is another gradient. `None` for what gives no parameter its gradient.
    fn gradient_source(&self, _node: &Node, _output: usize) -> Option<GradientSource> {
        None
    }
}

/// What a parameter's gradient is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientSource {
    /// A sum over rows, of what each row gives.
    Rows(GradientRows),
    /// The sum of two gradients.
    Sum([TensorId; 2]),
}

/// A gradient as a sum over rows: what norms of per-sentence gradients are taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientRows {
    /// bᵀ a: the weight of a product.
    Product {
        /// ȳ, [rows, out].
        b: TensorId,
        /// x, [rows, in].
        a: TensorId,
    },
    /// Σ_rows b: a bias.
    Sum {
        /// ȳ, [rows, n].
        b: TensorId,
    },
    /// Σ_rows b ⊙ x̂, the scale of a normalisation, or Σ_rows b, its shift. x̂ = (x − m) r with the (m, r) of each row
    /// in `stat`; where nothing is subtracted m is 0.
    Normalised {
        /// ȳ, [rows, d].
        b: TensorId,
        /// What is normalised, [rows, d].
        x: TensorId,
        /// (m, r, ..) of each row, [rows, 4 heads].
        stat: TensorId,
        /// Equal parts of a row that are normalised each on its own and share the vector; 1: it is the whole row's.
        heads: u32,
        /// Which of the two.
        part: NormPart,
    },
    /// The rows of b by table row.
    Table {
        /// ȳ, [rows, d].
        b: TensorId,
        /// Whose rows.
        table: Table,
    },
}

/// A vector of parameters behind a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPart {
    /// γ, which multiplies x̂.
    Scale,
    /// β, which is added.
    Shift,
}

/// A graph at the sizes of a largest batch, with the variants that will run.
#[derive(Clone, Copy)]
pub struct Sizes<'a> {
    /// Names and shapes of tensors.
    pub graph: &'a dyn Emit,
    /// The largest batch.
    pub dims: &'a Dims,
    /// How kernels run.
    pub variants: &'a Variants,
}

impl<'a> Sizes<'a> {
    /// A tensor of the graph.
    pub fn tensor(&self, id: TensorId) -> &'a Tensor {
        self.graph.tensor(id)
    }

    /// Probes of a tensor, 1 when it has none.
    pub fn layers(&self, id: TensorId) -> u32 {
        if self.tensor(id).probes { self.dims.probes } else { 1 }
    }

    /// Rows of a tensor at most; those of a fixed number as they are, without padding.
    pub fn rows(&self, id: TensorId) -> f64 {
        match self.tensor(id).rows {
            Count::Fixed(n) => f64::from(n),
            count => f64::from(self.dims.capacity(count)),
        }
    }

    /// Columns of a tensor.
    pub fn cols(&self, id: TensorId) -> f64 {
        f64::from(self.tensor(id).cols)
    }

    /// Rows of a tensor that a sentence has on average.
    pub fn rows_per_sentence(&self, id: TensorId) -> f64 {
        self.rows(id) / f64::from(self.dims.sentences.max(1))
    }

    /// Pairs of rows of the same sentence, with sentences of average length.
    pub fn pairs(&self, id: TensorId) -> f64 {
        self.rows(id) * self.rows(id) / f64::from(self.dims.sentences.max(1))
    }
}

/// The inputs of an operation's rule, to be given names in `outputs`.
///
/// # Panics
/// When there are more or fewer.
pub(super) fn inputs<'t, const N: usize>(of: &dyn Operation, all: &[&'t Tensor]) -> [&'t Tensor; N] {
    named(of.name(), all)
}

/// Says that an operation does not have a rule.
pub(super) fn no_rule(of: &dyn Operation, rule: Rule) -> ! {
    panic!("{} has no rule {rule:?}", of.name())
}
