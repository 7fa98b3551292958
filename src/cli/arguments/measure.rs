//! Flags of `lowland measure`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::{Json, ModelAndExamples};
use crate::curvature::{CurvatureMatrix, Estimator, LabelSource, Named, ProbeKind, Sampling};
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
    /// Largest eigenvalue, batch sharpness and the loss's rise along the gradient
    Sharpness(MeasureSharpness),
    /// The Fisher trace with what does not change with scales that the function does not know
    Flatness(MeasureFlatness),
}

/// What every measurement is asked.
#[derive(Args, Debug)]
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
    /// At most so many pairs of example and draw (sampled-labels, random-signs) or probe vectors (the others); default:
    /// 4096 pairs, 64 probes, 96 for hutch++; with --rel-error 1048576 pairs or 8192 probes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub samples: Option<u64>,
    /// Stop when the standard error is at most this share of the estimate
    #[arg(long, value_name = "SHARE")]
    pub rel_error: Option<f64>,
    /// Do not stop before so many examples (drawn labels or signs; default 256) or probes (default 16, hutch++ 96). The
    /// range of hutch++ is a third of these; for xtrace they are the smallest of its independent runs (default 32)
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
    /// Write a figure (SVG): the density, or else the eigenvalues
    #[arg(long, value_name = "FILE.svg")]
    pub out: Option<PathBuf>,
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
    /// At most so many products for the largest eigenvalue
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(4..))]
    pub products: u32,
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
}

/// Reads a value by its name, and lists all of them with what they are.
fn choice<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let one = |value: &T| {
        let known = PossibleValue::new(value.name()).aliases(value.aliases().iter().copied());
        if value.about().is_empty() { known } else { known.help(value.about()) }
    };
    let names: Vec<PossibleValue> = T::ALL.iter().map(one).collect();
    PossibleValuesParser::new(names).map(|name| T::named(&name).expect("one of the names that are listed"))
}
