//! What cannot be had, as facts.

use crate::statistics::DesignError;

/// Why a measurement was refused before it began; says what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No example at all.
    #[error("no examples: give at least one")]
    NoExamples,
    /// The number of an example, from 1.
    #[error("example {0} has no masked position")]
    NothingMasked(usize),
    /// A batch larger than the one that memory was reserved for.
    #[error("more tokens in a batch than room was reserved for")]
    NoRoom,
    /// A pattern that no parameter's name fits.
    #[error(
        "no parameter is named like `{pattern}`; names are as in the model file, for example `{example}`, and `*` \
        stands for anything"
    )]
    NoSuchParameter {
        /// What was asked for.
        pattern: String,
        /// A name that there is.
        example: String,
    },
    /// A trace of all parameters with some left out.
    #[error("an embedded model's trace needs all parameters, also `{name}`")]
    LeftOut {
        /// One that is left out.
        name: String,
    },
    /// Flatness of all parameters with some left out.
    #[error("flatness is of all parameters, also of `{name}`")]
    PartOfFlatness {
        /// One that is left out.
        name: String,
    },
    /// A prior by blocks that are all of zeros.
    #[error("every block of parameters that takes part is 0 throughout: a prior by their norms leaves nothing free")]
    NoScale,
    /// Too little for two halves of two chains.
    #[error("a learning coefficient needs at least 2 chains and 4 steps of each")]
    FewChains,
    /// Every parameter was left out.
    #[error("no parameter takes part")]
    NoParameter,
    /// Examples of a subject with several batches.
    #[error("inner products of {0} gradients need them in one batch; take fewer examples or a larger batch")]
    SeveralBatches(usize),
    /// A sentence whose norms a software driver would cut short.
    #[error(
        "a sentence of {tokens} tokens with {masked} masked needs loops of {needed} iterations in a kernel at \
        `{kernel}`, and software drivers end loops after 65,535: its norms would be too small. Take shorter sentences \
        or fewer masks, a GPU, or an estimator by products (`quadratic-form`, `hutchinson`)"
    )]
    LongSentence {
        /// Tokens of the sentence.
        tokens: u64,
        /// Its masked positions.
        masked: u64,
        /// Iterations of one invocation.
        needed: u64,
        /// The product at which they are needed.
        kernel: String,
    },
    /// The vectors that an operator was given.
    #[error("an operator answered {0} vectors with other shapes")]
    OtherShapes(usize),
    /// A dense operator that is none.
    #[error("needs a weight and a symmetric {size} x {size} matrix for each example")]
    NotSymmetric {
        /// Rows of the matrices.
        size: usize,
    },
    /// A vector of another size than the operator.
    #[error("a vector of {has} numbers for {wanted} parameters")]
    VectorSize {
        /// Numbers that were given.
        has: usize,
        /// Parameters that take part.
        wanted: usize,
    },
    /// Fewer probes than tell a standard error.
    #[error(
        "a trace needs at least 2 probes (for a standard error), blocks of at least 1 and a relative error above 0"
    )]
    FewProbes,
    /// A sample of one.
    #[error("one example tells nothing of a population; take at least 2")]
    OneExample,
    /// A relative error of 0 or less.
    #[error("a relative error must be above 0")]
    RelativeError,
    /// Too few products for Hutch++.
    #[error("Hutch++ needs at least 6 samples and blocks of at least 1")]
    FewForHutchPlusPlus,
    /// Too few products for XTrace.
    #[error("XTrace needs at least 4 samples and blocks of at least 1")]
    FewForXTrace,
    /// More products than parameters allow.
    #[error("XTrace with {samples} samples needs at least {least} parameters, not {size}")]
    XTraceOfFew {
        /// Products that were asked for.
        samples: usize,
        /// Parameters that so many need.
        least: usize,
        /// Parameters that there are.
        size: usize,
    },
    /// A sketch whose vectors depend on each other.
    #[error("XTrace's sketch is singular; take fewer samples")]
    SingularSketch,
    /// Fewer products than independent runs of XTrace need.
    #[error(
        "XTrace to a relative error needs {runs} runs and a trial of at least 4 samples each: {needed} samples, not \
        {given}"
    )]
    FewRuns {
        /// Runs that give the standard error.
        runs: usize,
        /// Products that they need at least.
        needed: usize,
        /// Products that there are at most.
        given: usize,
    },
    /// No draw at all.
    #[error("a trace needs at least one draw an example")]
    NoDraws,
    /// A partition of the words into too few or too many groups.
    #[error("{count} groups of words: a trace in two parts needs 2 to {most} of them")]
    Groups {
        /// Groups that were given.
        count: u32,
        /// The most.
        most: u32,
    },
    /// Groups of another vocabulary.
    #[error("groups of {has} words for a model of {wanted}")]
    GroupsOfOthers {
        /// Words with a group.
        has: usize,
        /// Words of the model.
        wanted: usize,
    },
    /// A design too small to tell its error.
    #[error("a design needs drawn labels or signs, at least 2 draws a sentence, 2 sentences and a pilot of 16")]
    SmallDesign,
    /// Parts of the Hessian's trace too small to tell their errors.
    #[error("signs and residual need a pilot of at least 16 sentences, 2 sentences and a sign of each")]
    SmallSplit,
    /// Sentences of the pilot.
    #[error("a frame has at least the {0} sentences of the pilot")]
    SmallFrame(usize),
    /// What a sampling design refuses.
    #[error(transparent)]
    Design(#[from] DesignError),
    /// More eigenvalues than so many products can find.
    #[error("cannot find {top} eigenvalues of {size} parameters with {products} products in blocks of {block}")]
    Eigenvalues {
        /// Eigenvalues that were asked for.
        top: usize,
        /// Parameters.
        size: usize,
        /// Products at most.
        products: usize,
        /// Vectors per block.
        block: usize,
    },
    /// A density without probes or steps.
    #[error("a density needs at least one probe, one step and blocks of at least one")]
    SmallDensity,
    /// Fewer gradients than a covariance needs.
    #[error("a noise covariance needs the gradients of at least 2 examples; got {0}")]
    FewGradients(usize),
    /// Fewer gradients than noise needs, or not all pairs of them.
    #[error("gradient noise needs the gradients of at least 2 examples; got {examples} and {products} inner products")]
    FewProducts {
        /// Gradients.
        examples: usize,
        /// Inner products of them that were given.
        products: usize,
    },
    /// More single predicted tokens than are held at once.
    #[error(
        "the gradients of {gradients} single predicted tokens are of {tokens} tokens in all, each with its prefix, and \
        at most {most} are held at once; take fewer or shorter examples, or gradients of whole examples"
    )]
    ManyTokens {
        /// Predicted tokens.
        gradients: usize,
        /// Tokens of all their prefixes.
        tokens: u64,
        /// So many at most.
        most: u64,
    },
    /// Sizes of the noise on the weights.
    #[error("noise needs sizes sigma, each above 0")]
    NoiseSizes,
    /// A direction of length 0.
    #[error("the update is 0 everywhere, or not finite: there is no direction to measure along")]
    NoDirection,
    /// Moments of another optimiser or model.
    #[error("the optimiser's moments are not those of its rule and of this model")]
    OtherMoments,
    /// The length of a step along a gradient.
    #[error("a step of length {0}: it must be positive")]
    StepLength(f64),
}
