//! The operations: a file each, named as its shader and as its f64 twin in [`crate::reference`].
//!
//! An operation knows its shapes, its rules (forward, vjp, later jvp and the jvp of the vjp) and how it runs on an
//! adapter. Which variant of a kernel runs is decided in one place, [`Variants::choose`], which fixes the launch
//! geometry too.
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
mod attention_tangent;
pub mod batch;
pub mod column_sum;
pub mod concat;
pub mod cross_entropy;
mod device;
pub mod dropout;
pub mod embedding;
pub mod excess;
pub mod gather;
pub mod ghost_gram;
pub mod ghost_norm;
mod ir;
pub mod layer_norm;
mod layer_norm_scale;
mod layer_norm_tangent;
pub mod linear;
pub mod loss_draw;
mod lowering;
pub mod lstm;
mod lstm_lowering;
mod operation;
pub mod optimizer;
mod own;
pub mod reduce;
mod row_gram;
pub mod sentence_sum;
pub mod statistics;
mod update;
pub mod variant_table;
mod variants;

pub use activation::Activation;
pub use add::Add;
pub use attention::Attention;
pub use column_sum::ColumnSum;
pub use concat::Concat;
pub use cross_entropy::{CrossEntropy, Labels};
pub use device::{Device, DeviceError};
pub use dropout::Dropout;
pub use embedding::{Embedding, Table};
pub use gather::Gather;
pub use ghost_gram::{GhostGram, GramKind};
pub use ghost_norm::GhostNorm;
pub(crate) use ghost_norm::{GhostLoops, instantiates};
pub use layer_norm::LayerNorm;
pub use linear::{Epilogue, Layout, Linear};
pub use loss_draw::LossDraw;
pub use lowering::{Lowering, Scratch};
pub use lstm::Lstm;
pub use operation::{GradientRows, GradientSource, Operation, OutputShape, Sizes};
pub use own::Own;
pub use row_gram::RowGram;
pub use sentence_sum::SentenceSum;
pub use update::{Optimizer, Treatment, UpdateRule};
pub use variant_table::{AttentionVariant, Family, LinearVariant, LstmVariant, Sums};
pub use variants::{Variants, Wishes};

pub use batch::{Batch, BatchBuffers};
pub use ir::{Adjoints, Call, Dims, Emit, Node, Role, Second, Tangents, Tensor, TensorId, call};

/// Which of a function's rules a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// y = f(x)
    Forward,
    /// x̄ = (∂f)ᵀ ȳ of one input, by its number.
    Vjp(u8),
    /// ẏ = ∂f · ẋ
    Jvp,
    /// The tangent of [`Rule::Vjp`], from x, ȳ, ẋ and ȳ̇.
    VjpJvp(u8),
    /// ⟨ȳ, D²f[ẋ, ẋ]⟩ of each row.
    Second,
    /// f'(x), of an activation.
    Slope,
    /// What [`Rule::VjpJvp`] of attention and of LSTMs needs of each row.
    Delta,
}

impl Rule {
    /// What stands behind an operation's name in a title.
    fn suffix(self) -> &'static str {
        match self {
            Rule::Forward => "",
            Rule::Vjp(_) => ", vjp",
            Rule::Jvp => ", jvp",
            Rule::VjpJvp(_) => ", vjp_jvp",
            Rule::Second => ", second",
            Rule::Slope => ", slope",
            Rule::Delta => ", delta",
        }
    }
}

/// The one list of operations: calls a macro with the names of all.
macro_rules! every_operation {
    ($with:ident) => {
        $with! {
            Activation, Add, Attention, ColumnSum, Concat, CrossEntropy, Dropout, Embedding, Gather, GhostGram, GhostNorm,
            LayerNorm, Linear, LossDraw, Lstm, RowGram, SentenceSum,
        }
    };
}
pub(crate) use every_operation;

/// One type for the functions of a list, each of which is an [`Operation`].
macro_rules! function {
    ($($name:ident,)*) => {
        /// An operation of a graph, with what it is set to.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Function {
            $(
                #[doc = concat!("[`", stringify!($name), "`]")]
                $name($name),
            )*
            /// [`Own`]: not of this list.
            Own(Own),
        }

        impl Function {
            /// What it is as an operation.
            pub fn operation(&self) -> &dyn Operation {
                match self {
                    $(Function::$name(operation) => operation,)*
                    Function::Own(own) => own.operation(),
                }
            }
        }

        $(
            impl From<$name> for Function {
                fn from(operation: $name) -> Function {
                    Function::$name(operation)
                }
            }
        )*
    };
}
every_operation!(function);

impl From<Own> for Function {
    fn from(own: Own) -> Function {
        Function::Own(own)
    }
}

impl Function {
    /// Name, as in `shaders/`.
    pub fn name(&self) -> &'static str {
        self.operation().name()
    }
}
