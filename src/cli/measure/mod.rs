//! `lowland measure`: curvature and gradient noise of a model on examples. A file a subcommand; what they share is
//! here: the model on the adapter, examples, evidence, progress, interruption.

mod flatness;
mod hvp;
mod llc;
mod noise;
mod perturb;
mod sharpness;
mod spectrum;
mod trace;
mod update;
mod volume;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::arguments::{Common, Measure, MeasureCommand};
use super::examples;
use super::failure::Failure;
use super::print;
use super::progress::Gauge;
use crate::curvature::{
    Chunks, CurvatureError, Examples, Flatness, LossNormaliser, Progress, Scope, Setting, Stage, WordGroups,
};
use crate::gpu::AdapterChoice;
use crate::interrupt::{self, Interrupted};
use crate::model::{self, Model, TokenIds};
use crate::ops::batch::Sentence;
use crate::ops::{Device, KernelChoice, LossDraw};
use crate::report::Figure;
use crate::statistics::{Estimate, Target};

pub use flatness::FlatnessReport;
pub use hvp::HvpReport;
pub use llc::LlcReport;
pub use noise::NoiseReport;
pub use perturb::PerturbReport;
pub use sharpness::SharpnessReport;
pub use spectrum::SpectrumReport;
pub use trace::TraceReport;

pub fn run(adapter: &AdapterChoice, kernel_choice: &KernelChoice, arguments: &Measure) -> Result<(), Failure> {
    let open = |common: &Common| Session::open(adapter, kernel_choice, common);
    match &arguments.command {
        MeasureCommand::Trace(a) => trace::run(open, a),
        MeasureCommand::Hvp(a) => hvp::run(open, a),
        MeasureCommand::Spectrum(a) => spectrum::run(open, a),
        MeasureCommand::Noise(a) => noise::run(open, a),
        MeasureCommand::Sharpness(a) => sharpness::run(open, a),
        MeasureCommand::Flatness(a) => flatness::run(open, a),
        MeasureCommand::Perturb(a) => perturb::run(open, a),
        MeasureCommand::Llc(a) => llc::run(|common| Session::open_exact(adapter, kernel_choice, common), a),
    }
}

/// What `measure flatness` measures, for a command that goes on from there.
pub(super) fn flatness(
    adapter: &AdapterChoice,
    kernel_choice: &KernelChoice,
    common: &Common,
    estimator: LossDraw,
    draws: Option<u64>,
) -> Result<(Flatness, Evidence), Failure> {
    let session = Session::open(adapter, kernel_choice, common)?;
    let (_, found, evidence) = flatness::measured(&session, common, estimator, draws, None)?;
    Ok((found, evidence))
}

/// What every report says of what was measured, over what, and at what cost.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Evidence {
    /// What the standard errors are about: `population` (the language, or what a file is a sample of) or
    /// `these examples`.
    target: String,
    /// The file that the examples came from.
    examples: String,
    /// Examples that were measured.
    count: usize,
    /// Masked positions, or predicted tokens, in them.
    masked_positions: usize,
    /// One of them in words.
    #[serde(skip)]
    predicted: &'static str,
    /// What the loss is the mean over that the matrix is of: `sentence` (each has one masked position, or counts with
    /// its loss summed over its predicted tokens: `empirical_fisher`, `noise_covariance`, noise per example) or
    /// `predicted_token`.
    loss_normaliser: LossNormaliser,
    /// Parameters that take part; a tied table counts once.
    parameters: usize,
    /// Names of the parameters that were held still.
    left_out: Vec<String>,
    /// Seed of probes and draws.
    seed: u64,
    /// Seed of a language's sentences; null for a file.
    sentences_seed: Option<u64>,
    adapter: String,
    seconds: f64,
    /// Arithmetic in multiples of one gradient over the same examples.
    gradient_equivalents: f64,
    /// Most bytes of buffers that there were on the adapter at once.
    peak_bytes: u64,
    /// Whether all that was asked for is there: the relative error of a trace, converged eigenvalues; never after an
    /// interrupt.
    reached: bool,
    /// Whether a signal ended it: then all numbers are of what was done until then, and the exit code is 130. Where
    /// nothing was, an object with `interrupted` and `reached` alone is printed.
    interrupted: bool,
}

/// A value and the standard error of it.
#[derive(Clone, Copy, Debug, Default, Serialize, JsonSchema)]
pub struct Number {
    /// Null where it is not defined.
    value: Option<f64>,
    /// Null where it cannot be told.
    standard_error: Option<f64>,
}

impl From<Estimate> for Number {
    fn from(e: Estimate) -> Number {
        Number { value: finite(e.value), standard_error: finite(e.standard_error) }
    }
}

impl Number {
    fn text(&self) -> String {
        self.value.map_or("undefined".into(), |v| print::with_error(v, self.standard_error))
    }
}

/// JSON has no NaN: what is unknown is null.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// A model on an adapter, with its examples.
struct Session {
    model: Model,
    examples: Examples<'static>,
    /// Of a language's sentences.
    sentences_seed: Option<u64>,
    /// The tokens of a language's words.
    tokens: Option<Arc<TokenIds>>,
    start: Instant,
    gauge: Gauge,
}

impl Session {
    fn open(adapter: &AdapterChoice, kernel_choice: &KernelChoice, common: &Common) -> Result<Session, Failure> {
        let start = Instant::now();
        let gauge = Gauge::new();
        let (loaded, source) = examples::open(adapter, kernel_choice, &common.on)?;
        let tokens = source.tokens();
        let (examples, sentences_seed) = source.examples(&common.on)?;
        let model = loaded.moved_to(&Device::open(adapter, kernel_choice)?)?;
        Ok(Session { model, examples, sentences_seed, tokens, start, gauge })
    }

    /// A fixed set of contexts, with the exact distributions of what is predicted where the language knows them, and
    /// whether it does.
    fn open_exact(
        adapter: &AdapterChoice,
        kernel_choice: &KernelChoice,
        common: &Common,
    ) -> Result<(Session, bool), Failure> {
        let start = Instant::now();
        let gauge = Gauge::new();
        let (loaded, source) = examples::open(adapter, kernel_choice, &common.on)?;
        gauge.phase("examples");
        let tokens = source.tokens();
        let (examples, sentences_seed, conditional) = source.contexts()?;
        let model = loaded.moved_to(&Device::open(adapter, kernel_choice)?)?;
        Ok((Session { model, examples, sentences_seed, tokens, start, gauge }, conditional))
    }

    /// All the examples: the file's, or `count` sentences.
    fn sentences(&self) -> Result<Vec<Sentence>, Interrupted> {
        self.gauge.phase("examples");
        self.examples.all()
    }

    /// The same with the language's own conditionals as labels, and whether these are known.
    fn exact_sentences(&self) -> Result<(Vec<Sentence>, bool), Interrupted> {
        self.gauge.phase("examples");
        match self.examples.exact()? {
            Some(sentences) => Ok((sentences, true)),
            None => Ok((self.examples.all()?, false)),
        }
    }

    /// The group of each of the model's words by so many groups: of a language by the number of the word, else by that
    /// of the token.
    fn groups(&self, groups: u32) -> Result<WordGroups, CurvatureError> {
        let words = self.model.encoder.classes();
        let of = match &self.tokens {
            Some(tokens) => tokens.groups(groups),
            None => (0..words).map(|id| id % groups).collect(),
        };
        Ok(WordGroups::new(of)?.of_model(words as usize))
    }

    fn target(&self) -> Target {
        self.examples.target()
    }

    fn setting<'a>(&'a self, common: &'a Common) -> Setting<'a> {
        let classes = self.model.encoder.classes() as usize;
        let usual = || Chunks::batch_for(self.examples.most_predicted(), classes);
        let batch = common.on.batch.map_or_else(usual, |batch| batch as usize);
        let chunks = Chunks { batch, probes: common.probes };
        Setting { model: &self.model, only: &common.only, chunks }
    }

    /// A value so far on standard error; an interrupt ends the work here.
    fn watch(&self, what: &str, unit: &str, p: &Progress) -> Result<(), CurvatureError> {
        self.gauge.show(what, unit, p);
        Ok(interrupt::check()?)
    }

    /// The same of a procedure's parts.
    fn follow(&self, stage: &Stage<'_>) -> Result<(), CurvatureError> {
        match stage {
            Stage::Phase(what) => {
                self.gauge.phase(what);
                Ok(())
            }
            Stage::Counted { what, unit, progress } => self.watch(what, unit, progress),
            Stage::Tokens(count) => {
                self.gauge.done();
                print::note(&format!(
                    "the norms of {} gradients of single tokens are computed over {} tokens, {} times those of the {} \
                    examples",
                    count.gradients,
                    count.tokens,
                    print::short(count.times()),
                    count.examples
                ));
                Ok(())
            }
        }
    }

    fn evidence(&self, common: &Common, scope: Scope) -> Evidence {
        self.gauge.done();
        Evidence {
            target: if scope.target == Target::Population { "population" } else { "these examples" }.into(),
            examples: common.on.examples.display().to_string(),
            count: scope.examples,
            masked_positions: scope.masked,
            predicted: self.model.encoder.config.reach().predicted(),
            loss_normaliser: scope.loss_normaliser(),
            parameters: scope.parameters,
            left_out: scope.left_out,
            seed: common.seed(),
            sentences_seed: self.sentences_seed,
            adapter: self.model.gpu().info().name.clone(),
            seconds: self.start.elapsed().as_secs_f64(),
            gradient_equivalents: scope.gradient_equivalents,
            peak_bytes: self.model.gpu().memory().1,
            reached: true,
            interrupted: false,
        }
    }
}

impl Evidence {
    /// Whether it was cut short, and whether what was asked for is there.
    fn ended(self, interrupted: bool, reached: bool) -> Evidence {
        Evidence { interrupted, reached: reached && !interrupted, ..self }
    }

    /// Rows of a table.
    fn rows(&self, matrix: &str) -> Vec<(String, String)> {
        let over = match self.target == "population" {
            true => format!("{} examples of {} as a sample of what they came from", self.count, self.examples),
            false => format!("the {} examples of {} (--as-sample for what they came from)", self.count, self.examples),
        };
        let held = match self.left_out.len() {
            0 => "nothing left out".to_string(),
            n => format!("{n} tensors left out"),
        };
        let loss = match self.loss_normaliser {
            LossNormaliser::Sentence if self.count == self.masked_positions => format!("that of a {}", self.predicted),
            LossNormaliser::Sentence => format!("the sum over an example's {}s", self.predicted),
            LossNormaliser::PredictedToken => format!("the mean over all {}s", self.predicted),
        };
        let gradients = print::short(self.gradient_equivalents);
        let cost =
            format!("{gradients} gradients, {:.1} s, {} on the adapter", self.seconds, print::bytes(self.peak_bytes));
        let row = |a: &str, b: String| (a.to_string(), b);
        vec![
            row("matrix", matrix.to_string()),
            row("over", format!("{over}, {} {}s", self.masked_positions, self.predicted)),
            row("loss", loss),
            row("parameters", format!("{}, {held}", self.parameters)),
            row("seed", self.seed.to_string()),
            row("cost", cost),
        ]
        .into_iter()
        .chain(self.interrupted.then(|| row("interrupted", "of what was done until then".into())))
        .collect()
    }
}

/// One object under `--json`, else a table. What an interrupt left is printed and is an error all the same.
fn print_report(json: bool, report: &impl Serialize, rows: &[(String, String)], e: &Evidence) -> Result<(), Failure> {
    match json {
        true => print::json(report)?,
        false => print::line(&print::table(rows))?,
    }
    match e.interrupted {
        true => Err(Failure::stopped("what was measured until then is printed")),
        false => Ok(()),
    }
}

/// Nothing where a part of a measurement was interrupted.
fn unless_interrupted<T>(result: Result<T, CurvatureError>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CurvatureError::Interrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a figure's name before anything is measured.
fn check_figure(path: Option<&Path>) -> Result<(), Failure> {
    match path {
        Some(path) if path.extension().is_none_or(|e| e != "svg") => {
            Err(Failure::usage(format!("--out {}: figures are SVG, name it FILE.svg", path.display())))
        }
        Some(path) => check_folder(path),
        None => Ok(()),
    }
}

/// Refuses a file whose folder is not there before anything is measured.
fn check_folder(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() {
        true => Ok(()),
        false => Err(Failure::io(path, &std::io::Error::other("its folder does not exist"))),
    }
}

fn write_figure(path: Option<&Path>, figure: impl FnOnce() -> Figure) -> Result<(), Failure> {
    match path {
        None => Ok(()),
        Some(path) => {
            model::write_synced(path, figure().document().as_bytes()).map_err(|e| Failure::io(path, &e))?;
            print::note(&format!("figure {}", path.display()));
            Ok(())
        }
    }
}
