//! The operations: one file each, named as its shader and as its f64 twin in [`crate::reference`].
//!
//! An operation knows its shapes, its rules (forward, vjp, later jvp and the jvp of the vjp) and how it runs on an
//! adapter. Which variant of a kernel runs is decided in one place, [`Variants::choose`] and for runs of many steps
//! [`Variants::for_long`], which fixes the launch geometry too.
//!
//! ```
//! use lowland::graph::{Count, Emit, Graph};
//! use lowland::ops::counts::ROWS;
//!
//! // An operation says what comes out of it, and its adjoints are nodes of the same graph.
//! let mut graph = Graph::default();
//! let x = graph.input("x", ROWS, 6);
//! let w = graph.parameter("w", 10, 6);
//! let y = graph.linear(x, w, None, None);
//! let z = graph.activation(lowland::ops::Activation::Gelu, y);
//! assert_eq!((graph.tensor(z).rows, graph.tensor(z).cols), (ROWS, 10));
//! let cotangent = graph.input("cotangent", ROWS, 10);
//! let w_bar = graph.gradient(&[(z, cotangent)])[&w];
//! assert_eq!((graph.tensor(w_bar).rows, graph.tensor(w_bar).cols), (Count::Fixed(10), 6));
//! ```

pub(crate) mod activation;
mod adamw;
pub(crate) mod add;
pub(crate) mod adversary;
pub(crate) mod along_axes;
pub(crate) mod attention;
mod attention_masked;
mod attention_tangent;
pub mod batch;
pub(crate) mod block_ascent;
pub(crate) mod cached_attention;
pub(crate) mod column_sum;
pub(crate) mod concat;
pub mod counts;
pub(crate) mod cross_entropy;
mod device;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod excess;
pub(crate) mod gather;
pub(crate) mod ghost_gram;
pub(crate) mod ghost_norm;
mod group_draw;
mod ir;
pub(crate) mod late_sums;
pub(crate) mod layer_norm;
mod layer_norm_scale;
mod layer_norm_tangent;
pub(crate) mod linear;
mod linear_lowering;
pub(crate) mod loss_draw;
mod lowering;
pub(crate) mod lstm;
mod lstm_lowering;
mod lstm_tangent;
mod multiply;
mod operation;
pub(crate) mod optimizer;
mod own;
mod place_heads;
pub(crate) mod reduce;
mod repeat_heads;
mod rotary;
mod row_gram;
pub(crate) mod sentence_sum;
pub(crate) mod statistics;
mod update;
pub(crate) mod variant_table;
mod variants;
pub(crate) mod windows;

pub use cross_entropy::Labels;
pub use device::{Device, DeviceError};
pub use embedding::Table;
pub use ghost_gram::GramKind;
pub use ghost_norm::Parts;
pub(crate) use ghost_norm::{GhostLoops, instantiates};
pub use group_draw::GroupPart;
pub use layer_norm::Affine;
pub use linear::{Epilogue, Layout};
pub use lowering::{Lowering, Scratch};
pub use operation::{GradientRows, GradientSource, NormPart, Operation, OutputShape, Sizes};
pub use own::Own;
pub use update::{Optimizer, Treatment, UpdateRule};
pub use variant_table::{AttentionVariant, Family, Kind, Lack, LinearVariant, LstmVariant, Need, Row, Sums};
pub use variants::{KernelChoice, VariantError, Variants};

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
    /// Name, as entry points of `shaders/` have it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Forward => "forward",
            Rule::Vjp(_) => "vjp",
            Rule::Jvp => "jvp",
            Rule::VjpJvp(_) => "vjp_jvp",
            Rule::Second => "second",
            Rule::Slope => "slope",
            Rule::Delta => "delta",
        }
    }
}

/// The one list of operations, each in the file of its `mod`: calls a macro with all of them.
macro_rules! every_operation {
    ($with:ident) => {
        $with! {
            activation::Activation,
            add::Add,
            along_axes::AlongAxes,
            attention::Attention,
            cached_attention::CachedAttention,
            column_sum::ColumnSum,
            concat::Concat,
            cross_entropy::CrossEntropy,
            dropout::Dropout,
            embedding::Embedding,
            gather::Gather,
            ghost_gram::GhostGram,
            ghost_norm::GhostNorm,
            group_draw::GroupDraw,
            layer_norm::LayerNorm,
            linear::Linear,
            loss_draw::LossDraw,
            lstm::Lstm,
            multiply::Multiply,
            place_heads::PlaceHeads,
            repeat_heads::RepeatHeads,
            rotary::Rotary,
            row_gram::RowGram,
            sentence_sum::SentenceSum,
        }
    };
}
pub(crate) use every_operation;

/// One type for the functions of a list, each of which is an [`Operation`].
macro_rules! function {
    ($($file:ident::$name:ident,)*) => {
        $(pub use $file::$name;)*

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
