//! What cannot be had, as facts.

use crate::statistics::DesignError;

/// Why a measurement was refused before it began; says what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("no examples: give at least one")]
    NoExamples,
    /// The number of an example, from 1.
    #[error("example {0} has no masked position")]
    NothingMasked(usize),
    #[error("more tokens in a batch than room was reserved for")]
    NoRoom,
    #[error(
        "no parameter is named like `{pattern}`; names are as in the model file, for example `{example}`, and `*` stands for \
         anything"
    )]
    NoSuchParameter { pattern: String, example: String },
    #[error("no parameter takes part")]
    NoParameter,
    /// Examples of a subject with several batches.
    #[error("inner products of {0} gradients need them in one batch; take fewer examples or a larger batch")]
    SeveralBatches(usize),
    #[error(
        "a sentence of {tokens} tokens with {masked} masked needs loops of {needed} iterations in a kernel at `{kernel}`, \
         and software drivers end loops after 65,535: its norms would be too small. Take shorter sentences or fewer masks, a \
         GPU, or an estimator by products (`quadratic-form`, `hutchinson`)"
    )]
    LongSentence { tokens: u64, masked: u64, needed: u64, kernel: String },
    /// The vectors that an operator was given.
    #[error("an operator answered {0} vectors with other shapes")]
    OtherShapes(usize),
    #[error("needs a weight and a symmetric {size} x {size} matrix for each example")]
    NotSymmetric { size: usize },
    #[error("a vector of {has} numbers for {wanted} parameters")]
    VectorSize { has: usize, wanted: usize },
    #[error(
        "a trace needs at least 2 probes (for a standard error), blocks of at least 1 and a relative error above 0"
    )]
    FewProbes,
    #[error("one example tells nothing of a population; take at least 2")]
    OneExample,
    #[error("a relative error must be above 0")]
    RelativeError,
    #[error("Hutch++ needs at least 6 samples and blocks of at least 1")]
    FewForHutchPlusPlus,
    #[error("XTrace needs at least 4 samples and blocks of at least 1")]
    FewForXTrace,
    #[error("XTrace with {samples} samples needs at least {least} parameters, not {size}")]
    XTraceOfFew { samples: usize, least: usize, size: usize },
    #[error("XTrace's sketch is singular; take fewer samples")]
    SingularSketch,
    #[error(
        "XTrace to a relative error needs {runs} runs and a trial of at least 4 samples each: {needed} samples, not {given}"
    )]
    FewRuns { runs: usize, needed: usize, given: usize },
    #[error("a trace needs at least one draw an example")]
    NoDraws,
    #[error("a design needs drawn labels or signs, at least 2 draws a sentence, 2 sentences and a pilot of 16")]
    SmallDesign,
    /// Sentences of the pilot.
    #[error("a frame has at least the {0} sentences of the pilot")]
    SmallFrame(usize),
    #[error(transparent)]
    Design(#[from] DesignError),
    #[error("cannot find {top} eigenvalues of {size} parameters with {products} products in blocks of {block}")]
    Eigenvalues { top: usize, size: usize, products: usize, block: usize },
    #[error("a density needs at least one probe, one step and blocks of at least one")]
    SmallDensity,
    #[error("a noise covariance needs the gradients of at least 2 examples; got {0}")]
    FewGradients(usize),
    #[error("gradient noise needs the gradients of at least 2 examples; got {examples} and {products} inner products")]
    FewProducts { examples: usize, products: usize },
    /// The length of a step along a gradient.
    #[error("a step of length {0}: it must be positive")]
    StepLength(f64),
}
