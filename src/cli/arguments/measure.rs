//! Flags of `lowland measure`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::{Json, ModelAndExamples};
use crate::config::MOST_LABEL_GROUPS;
use crate::curvature::{CurvatureMatrix, Estimator, LabelSource, Named, NoiseScale, Prior, ProbeKind, Sampling};
use crate::model::Per;
use crate::ops::LossDraw;

#[derive(Args, Debug)]
pub struct Measure {
    #[command(subcommand)]
    pub command: MeasureCommand,
}

#[derive(Subcommand, Debug)]
pub enum MeasureCommand {
    /// Trace of the Hessian, Gauss-Newton (= Fisher), empirical Fisher or noise covariance matrix
    Trace(MeasureTrace),
    /// Products of one of these matrices with given vectors
    Hvp(MeasureHvp),
    /// The eigenvalues of largest absolute value; with --density the spectral density
    Spectrum(MeasureSpectrum),
    /// Gradient noise: norms an example or a predicted token, the noise covariance and the noise scale
    Noise(MeasureNoise),
    /// Largest eigenvalue, batch sharpness, and sharpness along and in the units of the optimiser's update
    Sharpness(MeasureSharpness),
    /// The Fisher trace with what does not change with scales that the function does not know
    Flatness(MeasureFlatness),
    /// The rise of the loss under noise on the weights, beside the trace that it begins with
    Perturb(MeasurePerturb),
    /// The local learning coefficient at an inverse temperature: exact Langevin chains around the model
    Llc(MeasureLlc),
}

/// What every measurement is asked.
#[derive(Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    pub on: ModelAndExamples,
    /// Only parameters with such a name, as `*.layer.0.*`; the others are held still. Repeatable
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// Probes or draws at once, at most; fewer where memory is short. Changes no number
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub probes: u32,
    /// Seed of probes and draws; default: --seed, or 0
    #[arg(long)]
    pub probe_seed: Option<u64>,
    #[command(flatten)]
    pub json: Json,
}

impl Common {
    /// Seed of probes and draws.
    pub fn seed(&self) -> u64 {
        self.probe_seed.or(self.on.seed).unwrap_or(0)
    }
}

#[derive(Args, Debug)]
pub struct MeasureTrace {
    #[command(flatten)]
    pub common: Common,
    /// Default: random-signs for `fisher`, data-labels for `empirical_fisher` and `noise_covariance`, else
    /// quadratic-form
    #[arg(long, value_parser = choice::<Estimator>())]
    pub estimator: Option<Estimator>,
    /// Default: `fisher` for estimators that draw or enumerate labels, else `hessian`
    #[arg(long, value_parser = choice::<CurvatureMatrix>())]
    pub matrix: Option<CurvatureMatrix>,
    /// At most so many pairs of example and draw (sampled-labels, random-signs, signs-and-residual) or probe vectors
    /// (the others); default: 4096 pairs, 64 probes, 96 for hutch++; with --rel-error 1048576 pairs or 8192 probes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub samples: Option<u64>,
    /// Stop when the standard error is at most this share of the estimate
    #[arg(long, value_name = "SHARE")]
    pub rel_error: Option<f64>,
    /// Do not stop before so many examples (drawn labels or signs; default 256) or probes (default 16, hutch++ 96). The
    /// range of hutch++ is a third of these; for xtrace they are the smallest of its independent runs (default 32), for
    /// signs-and-residual the sentences of its pilot (default 256)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub minimum: Option<u64>,
    /// Draws of labels or signs an example; default: 2 on a language, on a file as many as --samples allows. A single
    /// draw does not tell the two parts of the standard error apart
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub draws: Option<u64>,
    /// How a language's sentences are chosen for sampled-labels and random-signs: one like the other, or from a frame
    /// of which a forward pass tells where much of the trace is to be expected (--count: sentences of the frame)
    #[arg(long, value_parser = choice::<Sampling>(), default_value = "uniform")]
    pub sentences: Sampling,
    /// Distribution of probe vectors; default: rademacher, for xtrace gaussian
    #[arg(long, value_parser = choice::<ProbeKind>())]
    pub probe: Option<ProbeKind>,
    /// Write a figure of the running estimate (SVG)
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct MeasureHvp {
    #[command(flatten)]
    pub common: Common,
    /// Vectors: tensors named as in the model file, a tied tensor once; several vectors as a leading axis (safetensors)
    #[arg(long, value_name = "FILE.safetensors")]
    pub vector: PathBuf,
    /// Where to write the products, in the same form
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
    #[arg(long, value_parser = choice::<CurvatureMatrix>(), default_value = "hessian")]
    pub matrix: CurvatureMatrix,
}

#[derive(Args, Debug)]
pub struct MeasureSpectrum {
    #[command(flatten)]
    pub common: Common,
    #[arg(long, value_parser = choice::<CurvatureMatrix>(), default_value = "hessian")]
    pub matrix: CurvatureMatrix,
    /// Eigenvalues of largest absolute value
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub top: u32,
    /// Residuals ‖Av - λv‖ at most this times |λ|
    #[arg(long, default_value_t = 1e-3)]
    pub tolerance: f64,
    /// At most so many products for the eigenvalues; as many vectors are kept
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..))]
    pub products: u32,
    /// Also the spectral density, on a linear and a logarithmic axis
    #[arg(long)]
    pub density: bool,
    /// Probe vectors of the density, whose scatter gives its band
    #[arg(long, default_value_t = 8, requires = "density", value_parser = clap::value_parser!(u32).range(1..))]
    pub density_probes: u32,
    /// Lanczos steps of each of them
    #[arg(long, default_value_t = 60, requires = "density", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Points of the grids
    #[arg(long, default_value_t = 256, requires = "density", value_parser = clap::value_parser!(u32).range(2..=65536))]
    pub points: u32,
    /// Inverse temperatures, as `100,1000`: also the quadratic learning coefficient and the logarithm of the volume, of
    /// the density in the coordinates of the prior
    #[arg(long, value_name = "B,..", requires = "density", value_delimiter = ',', value_parser = positive)]
    pub nbeta: Vec<f64>,
    #[command(flatten)]
    pub prior: PriorArguments,
    /// Write a figure (SVG): the density, or else the eigenvalues
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
}

/// The local prior, normal around the model's weights with the covariance D / γ.
#[derive(Args, Debug)]
pub struct PriorArguments {
    /// D: `block` has each number on the scale of its block's norm
    #[arg(long, value_parser = choice::<Prior>(), default_value = "block")]
    pub prior: Prior,
    /// γ, how narrow it is
    #[arg(long, value_name = "G", default_value_t = 1e4, value_parser = positive)]
    pub gamma: f64,
}

#[derive(Args, Debug)]
pub struct MeasureNoise {
    #[command(flatten)]
    pub common: Common,
    /// Labels of the gradients: the data's, or drawn from the model
    #[arg(long, value_parser = choice::<LabelSource>(), default_value = "data")]
    pub labels: LabelSource,
    /// Of what each gradient is
    #[arg(long, value_parser = choice::<Per>(), default_value = "example")]
    pub per: Per,
    /// Largest number of gradients whose covariance's eigenvalues are computed
    #[arg(long, default_value_t = 512)]
    pub eigenvalues_up_to: u32,
    /// Also Tr Σ : Tr F : Tr H over the same examples and the alignment of Σ with the Hessian
    #[arg(long)]
    pub bartlett: bool,
    /// Probe vectors for Tr H of --bartlett
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    pub samples: u32,
    /// Write a figure of the covariance's eigenvalues (SVG)
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct MeasureSharpness {
    #[command(flatten)]
    pub common: Common,
    /// Examples in a batch B of the batch sharpness and the ascent; examples that fill no batch are left out
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub sharpness_batch: u32,
    /// Length of the step along the gradient
    #[arg(long, default_value_t = 0.05)]
    pub rho: f64,
    /// Residual of the largest eigenvalue, at most this times it
    #[arg(long, default_value_t = 1e-3)]
    pub tolerance: f64,
    /// At most so many products for each eigenvalue
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(4..))]
    pub products: u32,
    /// Probe vectors for the preconditioned trace
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..))]
    pub samples: u32,
    /// Other examples (a run config or a file), as of a task to be fine-tuned on: also the critical sharpness along the
    /// update that their gradient makes
    #[arg(long, value_name = "EXAMPLES")]
    pub update: Option<PathBuf>,
    /// Write a figure of the batches' values (SVG)
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct MeasureFlatness {
    #[command(flatten)]
    pub common: Common,
    #[arg(long, value_parser = choice::<LossDraw>(), default_value = "random-signs")]
    pub estimator: LossDraw,
    /// Draws of labels or signs an example; default: 2 of a sample or a language, of a file 4096 over all its examples.
    /// A single draw tells no error of given examples
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub draws: Option<u64>,
    /// Also the trace in a larger architecture that holds the model, as `hidden=64,layers=4` or a run config
    #[arg(long, value_name = "SIZE")]
    pub into: Option<String>,
    /// Also the trace in two parts, of the noise between and within so many groups of words: word v of the language, or
    /// token v of a file, is in group v modulo this
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=i64::from(MOST_LABEL_GROUPS)))]
    pub label_groups: Option<u32>,
}

#[derive(Args, Debug)]
pub struct MeasurePerturb {
    #[command(flatten)]
    pub common: Common,
    /// Sizes of the noise, as `0.003,0.01,0.03`; of the least one the limit is taken
    #[arg(long, value_name = "SIZE", value_delimiter = ',', required = true)]
    pub sigma: Vec<f64>,
    /// What the noise on a parameter is multiplied by
    #[arg(long, value_parser = choice::<NoiseScale>(), default_value = "tensor")]
    pub scale: NoiseScale,
    /// Pairs of opposite noise, the same for every size
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub draws: u32,
    /// Probe vectors for the trace
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..))]
    pub samples: u32,
}

#[derive(Args, Debug)]
pub struct MeasureLlc {
    #[command(flatten)]
    pub common: Common,
    /// Inverse temperature: the chains see a mean rise of the loss of llc / nβ nats
    #[arg(long, value_name = "B", value_parser = positive)]
    pub nbeta: f64,
    #[command(flatten)]
    pub prior: PriorArguments,
    /// Chains, each from a start of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub chains: u32,
    /// Recorded steps of each chain; a step is a gradient over all contexts
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(4..))]
    pub steps: u32,
    /// Steps before them, in which the step size is set; default: half as many
    #[arg(long)]
    pub burn_in: Option<u32>,
    /// Eigenvectors of largest curvature along which steps are scaled; changes how fast the chains mix and no
    /// expectation
    #[arg(long, value_name = "K", default_value_t = 32)]
    pub directions: u32,
    /// Leave out the quadratic coefficient, which costs 480 products
    #[arg(long)]
    pub no_quadratic: bool,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a number above 0 is wanted, as 1000 or 1e3".into()),
    }
}

/// Reads a value by its name, and lists all of them with what they are.
pub(super) fn choice<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let one = |value: &T| {
        let known = PossibleValue::new(value.name()).aliases(value.aliases().iter().copied());
        if value.about().is_empty() { known } else { known.help(value.about()) }
    };
    let names: Vec<PossibleValue> = T::ALL.iter().map(one).collect();
    PossibleValuesParser::new(names).map(|name| T::named(&name).expect("one of the names that are listed"))
}
