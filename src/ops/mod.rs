//! The operations: a file each, named as its shader and as its f64 twin in [`crate::reference`].
//!
//! An operation knows its shapes, its rules (forward, vjp, later jvp and the jvp of the vjp) and how it runs on an adapter.
//! Which variant of a kernel runs is decided in one place, [`Variants::choose`], which fixes the launch geometry too.
//!
//! ```
//! use lowland::graph::{Count, Emit, Graph};
//!
//! // An operation says what comes out of it, and its adjoints are nodes of the same graph.
//! let mut graph = Graph::default();
//! let x = graph.input("x", Count::Rows, 6);
//! let w = graph.parameter("w", 10, 6);
//! let y = graph.linear(x, w, None, None);
//! let z = graph.activation(lowland::ops::Activation::Gelu, y);
//! assert_eq!((graph.tensor(z).rows, graph.tensor(z).cols), (Count::Rows, 10));
//! let cotangent = graph.input("cotangent", Count::Rows, 10);
//! let w_bar = graph.gradient(&[(z, cotangent)])[&w];
//! assert_eq!((graph.tensor(w_bar).rows, graph.tensor(w_bar).cols), (Count::Fixed(10), 6));
//! ```

pub mod activation;
pub mod add;
pub mod adversary;
pub mod attention;
pub mod attention_tangent;
pub mod batch;
pub mod column_sum;
pub mod concat;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod excess;
pub mod gather;
pub mod ghost_gram;
pub mod ghost_norm;
mod ir;
pub mod layer_norm;
pub mod layer_norm_scale;
pub mod layer_norm_tangent;
pub mod linear;
pub mod loss_draw;
mod lowering;
pub mod optimizer;
pub mod reduce;
mod row_gram;
pub mod sentence_sum;
pub mod statistics;
pub mod variant_table;
mod variants;

pub use activation::Activation;
pub use attention::Attention;
pub use attention_tangent::AttentionTangent;
pub use cross_entropy::{CrossEntropy, Labels};
pub use dropout::Dropout;
pub use embedding::{Embedding, Table};
pub use ghost_gram::{GhostGram, GramKind};
pub use ghost_norm::GhostNorm;
pub(crate) use ghost_norm::{GhostLoops, instantiates};
pub use layer_norm::LayerNorm;
pub use layer_norm_tangent::LayerNormTangent;
pub use linear::{Epilogue, Layout, Linear};
pub use loss_draw::LossDraw;
pub use lowering::Lowering;
pub use row_gram::RowGram;
pub use sentence_sum::SentenceSum;
pub use variant_table::{AttentionVariant, LinearVariant, Operation, Sums};
pub use variants::{Variants, Wishes};

pub use batch::{Batch, BatchBuffers};
pub use ir::{Adjoints, Dims, Emit, Node, Role, Second, Tangents, Tensor, TensorId};

use crate::gpu::{Count, GpuError};

/// Which of an operation's functions a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// y = f(x)
    Forward,
    /// x̄ = (∂f)ᵀ ȳ
    Vjp,
    /// ẏ = ∂f · ẋ
    Jvp,
    /// The tangent of x̄, from x, ȳ, ẋ and ȳ̇.
    VjpJvp,
    /// ⟨ȳ, D²f[ẋ, ẋ]⟩ of each row.
    Second,
}

/// Suffix of the name, rows, columns and whether there is one a probe.
pub type OutputShape = (&'static str, Count, u32, bool);

/// An operation of the graph.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Activation(Activation, Rule),
    Add,
    Attention(Attention),
    AttentionTangent(AttentionTangent),
    ColumnSum,
    /// The rows of sentences of up to so many tokens side by side.
    Concat {
        tokens: u32,
    },
    /// Back to rows of so many columns; with an addend when true.
    ConcatBack {
        tokens: u32,
        cols: u32,
        addend: bool,
    },
    CrossEntropy(CrossEntropy),
    Dropout(Dropout),
    Embedding(Embedding),
    /// Gradient of one table of [`Op::Embedding`]; with an addend when true.
    EmbeddingScatter {
        table: Table,
        rows: u32,
        addend: bool,
    },
    Gather,
    /// Rows of masked positions back to their places; with an addend when true.
    GatherBack {
        addend: bool,
    },
    GhostGram(GhostGram),
    GhostNorm(GhostNorm),
    LayerNorm(LayerNorm),
    /// Gradients of layer norm's scale and shift.
    LayerNormScale,
    LayerNormTangent(LayerNormTangent),
    Linear(Linear),
    LossDraw(LossDraw),
    RowGram(RowGram),
    SentenceSum(SentenceSum),
    /// f'(x).
    Slope(Activation),
}

/// Tangent of an operation that is linear in its first input, plus an addend.
fn linear_jvp(g: &mut Tangents<'_>, node: &Node, op: impl Fn(bool) -> Op) {
    let addend = node.inputs.get(1).and_then(|id| g.of(*id));
    let name = g.dot(node.outputs[0]);
    let tangent = match g.of(node.inputs[0]) {
        Some(x_dot) => {
            let inputs: Vec<TensorId> = [x_dot].into_iter().chain(addend).collect();
            g.push(op(addend.is_some()), &inputs, &name)[0]
        }
        None => addend.expect("some input has a tangent"),
    };
    g.set(node.outputs[0], tangent);
}

impl Op {
    /// Name as in `shaders/`.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Activation(..) | Op::Slope(_) => "activation",
            Op::Add => "add",
            Op::Attention(_) => "attention",
            Op::AttentionTangent(_) => "attention_tangent",
            Op::ColumnSum => "column_sum",
            Op::Concat { .. } | Op::ConcatBack { .. } => "concat",
            Op::CrossEntropy(_) => "cross_entropy",
            Op::Dropout(_) => "dropout",
            Op::Embedding(_) | Op::EmbeddingScatter { .. } => "embedding",
            Op::Gather | Op::GatherBack { .. } => "gather",
            Op::GhostGram(_) => "ghost_gram",
            Op::GhostNorm(_) => "ghost_norm",
            Op::LayerNorm(_) => "layer_norm",
            Op::LayerNormScale => "layer_norm_scale",
            Op::LayerNormTangent(_) => "layer_norm_tangent",
            Op::Linear(_) => "linear",
            Op::LossDraw(_) => "loss_draw",
            Op::RowGram(_) => "row_gram",
            Op::SentenceSum(_) => "sentence_sum",
        }
    }

    /// The part of the variant table that it belongs to, if it has variants.
    pub fn operation(&self) -> Option<Operation> {
        match self {
            Op::Linear(op) => Some(op.operation()),
            Op::Attention(op) => Some(op.operation()),
            Op::LayerNorm(_) => Some(Operation::LayerNorm),
            Op::CrossEntropy(_) => Some(Operation::CrossEntropy),
            Op::ColumnSum | Op::LayerNormScale | Op::EmbeddingScatter { .. } => Some(Operation::Sums),
            _ => None,
        }
    }

    /// Shapes of what comes out.
    ///
    /// # Panics
    /// When the inputs do not fit: a graph that is wrong does not come into being.
    pub fn outputs(&self, inputs: &[&Tensor]) -> Vec<OutputShape> {
        match self {
            Op::Activation(_, rule) => activation::outputs(*rule, inputs),
            Op::Slope(_) => activation::outputs(Rule::Forward, inputs),
            Op::Add => add::outputs(inputs),
            Op::Attention(op) => op.outputs(inputs),
            Op::AttentionTangent(op) => op.outputs(inputs),
            Op::ColumnSum => column_sum::outputs(inputs),
            Op::Concat { tokens } => concat::outputs(*tokens, inputs),
            Op::ConcatBack { cols, .. } => concat::back_outputs(*cols, inputs),
            Op::CrossEntropy(op) => op.outputs(inputs),
            Op::Dropout(op) => op.outputs(inputs),
            Op::Embedding(op) => op.outputs(inputs),
            Op::EmbeddingScatter { rows, .. } => embedding::scatter_outputs(*rows, inputs),
            Op::Gather => gather::outputs(inputs),
            Op::GatherBack { .. } => gather::back_outputs(inputs),
            Op::GhostGram(op) => op.outputs(inputs),
            Op::GhostNorm(op) => op.outputs(inputs),
            Op::LayerNorm(op) => op.outputs(inputs),
            Op::LayerNormScale => layer_norm_scale::outputs(inputs),
            Op::LayerNormTangent(op) => op.outputs(inputs),
            Op::Linear(op) => op.outputs(inputs),
            Op::LossDraw(op) => op.outputs(inputs),
            Op::RowGram(op) => op.outputs(inputs),
            Op::SentenceSum(op) => op.outputs(inputs),
        }
    }

    /// Emits the reverse rule, given the adjoint of the first output.
    pub fn vjp(&self, g: &mut Adjoints<'_>, node: &Node, y_bar: TensorId) {
        match self {
            Op::Activation(f, _) => activation::vjp(*f, g, node, y_bar),
            Op::Add => add::vjp(g, node, y_bar),
            Op::Attention(op) => op.vjp(g, node, y_bar),
            Op::Concat { tokens } => concat::vjp(*tokens, g, node, y_bar),
            Op::CrossEntropy(op) => op.vjp(g, node, y_bar),
            Op::Dropout(op) => op.vjp(g, node, y_bar),
            Op::Embedding(op) => op.vjp(g, node, y_bar),
            Op::Gather => gather::vjp(g, node, y_bar),
            Op::LayerNorm(op) => op.vjp(g, node, y_bar),
            Op::Linear(op) => op.vjp(g, node, y_bar),
            Op::AttentionTangent(_)
            | Op::ColumnSum
            | Op::ConcatBack { .. }
            | Op::EmbeddingScatter { .. }
            | Op::GatherBack { .. }
            | Op::GhostGram(_)
            | Op::Slope(_)
            | Op::GhostNorm(_)
            | Op::LayerNormScale
            | Op::LayerNormTangent(_)
            | Op::LossDraw(_)
            | Op::RowGram(_)
            | Op::SentenceSum(_) => {
                unreachable!("second derivatives are tangents of the gradient, never its reverse pass")
            }
        }
    }

    /// Emits the rule along a direction: the tangents of the outputs from those of the inputs.
    pub fn jvp(&self, g: &mut Tangents<'_>, node: &Node) {
        if node.inputs.iter().all(|id| g.of(*id).is_none()) {
            return;
        }
        match self {
            Op::Activation(f, rule) => activation::jvp(*f, *rule, g, node),
            Op::Attention(op) => op.jvp(g, node),
            Op::CrossEntropy(op) => op.jvp(g, node),
            Op::LayerNorm(op) => op.jvp(g, node),
            Op::LayerNormScale => layer_norm_tangent::scale_jvp(g, node),
            Op::Linear(op) => op.jvp(g, node),
            Op::EmbeddingScatter { table, rows, .. } => {
                let (table, rows) = (*table, *rows);
                linear_jvp(g, node, |addend| Op::EmbeddingScatter { table, rows, addend });
            }
            Op::ConcatBack { tokens, cols, .. } => {
                let (tokens, cols) = (*tokens, *cols);
                linear_jvp(g, node, |addend| Op::ConcatBack { tokens, cols, addend });
            }
            Op::GatherBack { .. } => linear_jvp(g, node, |addend| Op::GatherBack { addend }),
            Op::Add => {
                let sum = match (g.of(node.inputs[0]), g.of(node.inputs[1])) {
                    (Some(a), Some(b)) => g.add(a, b),
                    (Some(one), None) | (None, Some(one)) => one,
                    (None, None) => unreachable!("some input has a tangent"),
                };
                g.set(node.outputs[0], sum);
            }
            Op::ColumnSum | Op::Concat { .. } | Op::Dropout(_) | Op::Gather => {
                let name = g.dot(node.outputs[0]);
                let tangent = g.push(self.clone(), &[g.wanted(node.inputs[0])], &name)[0];
                g.set(node.outputs[0], tangent);
            }
            Op::Embedding(op) => op.jvp(g, node),
            Op::AttentionTangent(_)
            | Op::GhostGram(_)
            | Op::Slope(_)
            | Op::GhostNorm(_)
            | Op::LayerNormTangent(_)
            | Op::LossDraw(_)
            | Op::RowGram(_)
            | Op::SentenceSum(_) => {
                unreachable!("third derivatives are not taken")
            }
        }
    }

    /// Emits the second-order term of a forward node, given the adjoint of its first output.
    pub fn second(&self, g: &mut Second<'_>, node: &Node, y_bar: TensorId) {
        match self {
            Op::Activation(f, _) => activation::second(*f, g, node, y_bar),
            Op::Attention(op) => op.second(g, node, y_bar),
            Op::LayerNorm(op) => op.second(g, node, y_bar),
            Op::Linear(op) => op.second(g, node, y_bar),
            // Linear ones have none; the loss's own is `Rule::Jvp` of the cross-entropy.
            _ => {}
        }
    }

    /// Bytes of each piece of scratch memory that a node needs while it runs.
    pub fn workspace(
        &self,
        dims: &Dims,
        variants: &Variants,
        node: &Node,
        tensor: &dyn Fn(TensorId) -> Tensor,
    ) -> Vec<u64> {
        let sums = |input: usize| {
            let (x, out) = (tensor(node.inputs[input]), tensor(node.outputs[0]));
            let layers = if out.probes { dims.probes } else { 1 };
            reduce::workspace(dims, x.rows, variants.sums().block, u64::from(x.cols4()), layers, false)
        };
        let wanted = match self {
            Op::ColumnSum => vec![sums(0)],
            Op::LayerNormScale | Op::LayerNormTangent(LayerNormTangent::Scale) => vec![sums(0); 2],
            Op::EmbeddingScatter { rows, .. } => {
                vec![embedding::scatter_workspace(dims, variants, *rows, &tensor(node.inputs[0]))]
            }
            Op::LayerNorm(op) => op.workspace(dims, variants, node, tensor),
            Op::Linear(op) => op.workspace(dims, variants, node, tensor),
            _ => vec![],
        };
        wanted.into_iter().filter(|bytes| *bytes > 0).collect()
    }

    /// Emits the dispatches of a node.
    pub fn lower(&self, cx: &mut Lowering<'_>, node: &Node) -> Result<(), GpuError> {
        match self {
            Op::Activation(f, rule) => activation::lower(*f, *rule, cx, node),
            Op::Slope(f) => activation::lower_slope(*f, cx, node),
            Op::Add => add::lower(cx, node),
            Op::Attention(op) => op.lower(cx, node),
            Op::AttentionTangent(op) => op.lower(cx, node),
            Op::ColumnSum => column_sum::lower(cx, node),
            Op::Concat { tokens } => concat::lower(*tokens, cx, node),
            Op::ConcatBack { tokens, addend, .. } => concat::lower_back(*tokens, *addend, cx, node),
            Op::CrossEntropy(op) => op.lower(cx, node),
            Op::Dropout(op) => op.lower(cx, node),
            Op::Embedding(op) => op.lower(cx, node),
            Op::EmbeddingScatter { table, rows, addend } => embedding::lower_scatter(*table, *rows, *addend, cx, node),
            Op::Gather => gather::lower(cx, node),
            Op::GatherBack { addend } => gather::lower_back(*addend, cx, node),
            Op::GhostGram(op) => op.lower(cx, node),
            Op::GhostNorm(op) => op.lower(cx, node),
            Op::LayerNorm(op) => op.lower(cx, node),
            Op::LayerNormScale => layer_norm_scale::lower(cx, node),
            Op::LayerNormTangent(op) => op.lower(cx, node),
            Op::Linear(op) => op.lower(cx, node),
            Op::LossDraw(op) => op.lower(cx, node),
            Op::RowGram(op) => op.lower(cx, node),
            Op::SentenceSum(op) => op.lower(cx, node),
        }
        Ok(())
    }
}
