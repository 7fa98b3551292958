//! Every flag, documented once, where it is parsed.

mod downstream;
mod measure;
mod regauge;
mod sweep;
mod theory;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gpu::{ADAPTER_VARIABLE, AdapterChoice};
use crate::language::Task;
use crate::ops::KernelChoice;
pub use downstream::{
    Enlarge, EnlargeMethod, FeatureChoice, Finetune, LabelChoice, OutOfVocabularyChoice, Probe, ProbeMethod,
    ScheduleChoice, TaskArguments,
};
pub use measure::{
    Common, Measure, MeasureCommand, MeasureFlatness, MeasureHvp, MeasureLlc, MeasureNoise, MeasurePerturb,
    MeasureSharpness, MeasureSpectrum, MeasureTrace, PriorArguments,
};
pub use regauge::Regauge;
pub use sweep::{Engine, Sweep, SweepCommand, SweepFile, SweepRegister, SweepRun, SweepSubmit};
pub use theory::{Theory, TheoryBrackets, TheoryCommand, TheoryDyck};

/// Pre-train masked language models on languages whose truth is known, and ask why models with the same loss differ.
///
/// Runs on any Vulkan, Metal or DX12 adapter, a software one included.
#[derive(Parser, Debug)]
#[command(name = "lowland", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 2 bad config or usage; 3 diverged; 4 out of memory; 5 input or output; \
                        6 no usable adapter; 75 interrupted, what was done is kept, run again; 130 interrupted, what \
                        was measured is printed; 1 anything else.")]
pub struct Cli {
    /// Adapter: `pci:0000:01:00.0`, `index:1`, `name:part of its name`, `software` or `best`; `lowland doctor` lists
    /// them
    #[arg(long, global = true, env = ADAPTER_VARIABLE, value_name = "CHOICE")]
    pub adapter: Option<AdapterChoice>,
    /// Kernel variants other than the ones chosen for the adapter, as `linear=tiled,attention=row`; `lowland selftest
    /// --time` lists them
    #[arg(long, global = true, env = "LOWLAND_VARIANT", value_name = "OPERATION=VARIANT,..")]
    pub variant: Option<KernelChoice>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// The main job in small: a language, a model trained down to its entropy floor, a report
    Demo(Demo),
    /// What adapters there are, which one is chosen and why, and whether it computes
    Doctor(Json),
    /// Every kernel and variant against the f64 reference on the chosen adapter, with its speed
    Selftest(Selftest),
    /// Sentences, entropy floor, exact conditionals and labels of a config's language
    Language(Language),
    /// Pre-train as a config says; goes on by itself where the run folder has a checkpoint
    Train(Train),
    /// Loss of a model on examples; excess loss where the language is known
    Eval(Eval),
    /// Curvature and gradient noise of a model on examples, each number with its standard error
    Measure(Measure),
    /// Downstream accuracy of a linear probe on a model's representations
    Probe(Probe),
    /// Downstream accuracy of a model that is fine-tuned as a whole
    Finetune(Finetune),
    /// A small model inside a larger architecture, the same function
    Enlarge(Enlarge),
    /// The same function in another gauge: other scales, and with them another trace
    Regauge(Regauge),
    /// Many runs from one file
    Sweep(Sweep),
    /// The paper's theorem on the flattest model, by enumeration on the host
    Theory(Theory),
    /// A self-contained html page about a run, or about sweeps
    Report(Report),
    /// Show a config as it is resolved, its schema, or what a key means
    Config(Config),
    /// Completions for a shell, on standard output
    Completions(Completions),
    /// Manual pages
    Man(Man),
    /// The rate of one product on a software adapter, for the choice of its lanes
    #[command(hide = true)]
    Lanes,
}

impl Command {
    /// Whether kernels may run.
    pub fn uses_an_adapter(&self) -> bool {
        if let Command::Regauge(a) = self {
            return a.examples.is_some();
        }
        !matches!(
            self,
            Command::Language(_)
                | Command::Enlarge(_)
                | Command::Theory(_)
                | Command::Report(_)
                | Command::Config(_)
                | Command::Completions(_)
                | Command::Man(_)
                | Command::Lanes
        )
    }
}

#[derive(Args, Clone, Debug)]
pub struct Json {
    /// One JSON object on standard output and nothing else there
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct Demo {
    /// Folder of the run
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Args, Debug)]
pub struct Selftest {
    /// Only the timings, of every variant, without the comparison
    #[arg(long)]
    pub time: bool,
    /// Time only operations with this in their name, as `embedding`
    #[arg(long, value_name = "NAME", requires = "time")]
    pub operation: Option<String>,
    /// Time all variants on the shapes of a run config instead, and keep the fastest for its runs on this adapter
    #[arg(long, value_name = "CONFIG")]
    pub tune: Option<PathBuf>,
    /// Overrides of that config, as `train.batch_size=64`
    #[arg(value_name = "KEY=VALUE", requires = "tune")]
    pub overrides: Vec<String>,
    /// Everything that tells of an adapter, within 10 minutes, into DIR/report.json and DIR/report.md: doctor, every
    /// variant against f64, rates, a training step, Hessian-vector products, mixed precision
    #[arg(long, value_name = "DIR", conflicts_with_all = ["time", "tune"])]
    pub report: Option<PathBuf>,
    /// Seconds that the report is planned for
    #[arg(long, value_name = "SECONDS", default_value_t = 480, requires = "report", hide = true)]
    pub budget: u64,
    /// Shape of its step as width/layers/tokens/sentences
    #[arg(long, value_name = "SHAPE", default_value = "128/4/16/256", requires = "report", hide = true)]
    pub shape: String,
    #[command(flatten)]
    pub json: Json,
}

/// A config file with overrides.
#[derive(Args, Debug, Clone)]
pub struct ConfigArguments {
    /// Config file (TOML)
    #[arg(value_name = "CONFIG")]
    pub config: PathBuf,
    /// Overrides, as `train.steps=500`
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Language {
    #[command(subcommand)]
    pub command: LanguageCommand,
}

#[derive(Subcommand, Debug)]
pub enum LanguageCommand {
    /// Sentences, one a line
    Sample {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        draw: Draw,
    },
    /// The entropy floor, exact for each sentence, with the standard error of its mean over sentences
    Floor {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        draw: Draw,
        #[command(flatten)]
        json: Json,
    },
    /// Reads sentences from standard input, prints p(. | the other words) at every position, one JSON object a line
    Conditional {
        #[command(flatten)]
        config: ConfigArguments,
        /// p(next word | the words before) instead, behind 0, 1, .. words, the sentence's end last
        #[arg(long)]
        causal: bool,
    },
    /// Downstream labels, one JSON object a line: of sentences from standard input, or of sampled ones with --count
    Label {
        #[command(flatten)]
        config: ConfigArguments,
        /// Of a grammar `A` (symbol below the root), `B` (first 4 words), `C` (first 2 words) or `span:K` (first K
        /// words); of a hidden Markov model `task-K` (the state at word K); of brackets `positive`, `sign`, `sum`
        #[arg(long)]
        task: Task,
        /// Weigh a grammar's candidates by the probability of the rest of the sentence, not by inside probability
        /// alone; hidden states are always weighed so
        #[arg(long)]
        with_prior: bool,
        /// Label so many sampled sentences instead of those on standard input
        #[arg(long)]
        count: Option<u64>,
        /// Seed of the sampled sentences; default: the config's
        #[arg(long, requires = "count")]
        seed: Option<u64>,
    },
    /// The words in the order of the conditionals, one a line
    Vocabulary {
        #[command(flatten)]
        config: ConfigArguments,
    },
}

#[derive(Args, Debug)]
pub struct Draw {
    /// Sentences
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Seed of the sentences; default: the config's
    #[arg(long)]
    pub seed: Option<u64>,
}

#[derive(Args, Debug)]
pub struct Train {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Print parameters, memory plan, dispatches and FLOPs, and train nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub json: Json,
}

/// A model and what it is looked at with.
#[derive(Args, Clone, Debug)]
pub struct ModelAndExamples {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// A run config (its language) or a file of JSON lines:
    /// {"input_ids":[...],"masked_positions":[t,...],"labels":[y,...]}, or as a collator of transformers makes them;
    /// for `eval` also plain text
    #[arg(value_name = "EXAMPLES")]
    pub examples: PathBuf,
    /// Overrides of the run config
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Seed of a language's sentences; default: the held-out seed of the config
    #[arg(long)]
    pub seed: Option<u64>,
    /// Sentences of a language, or the first so many examples of a file; default: `evaluate.sentences`, or all
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Examples in one batch on the adapter; default: 256, or as many as the logits of their predicted tokens are
    /// within 256 MiB, and of eval all that it keeps within 1 GiB
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// A file of examples is a sample of something larger: its numbers get a standard error for that
    #[arg(long)]
    pub as_sample: bool,
}

#[derive(Args, Debug)]
pub struct Eval {
    #[command(flatten)]
    pub on: ModelAndExamples,
    /// Positions of a language's sentence that are masked, one at a time; default: `evaluate.positions`
    #[arg(long, value_enum)]
    pub positions: Option<PositionChoice>,
    /// Also the loss of every example
    #[arg(long)]
    pub per_example: bool,
    /// EXAMPLES is plain text, whatever its ending; .txt, .text and .md are taken for text without it
    #[arg(long)]
    pub text: bool,
    /// How a text holds documents; default: documents, of a .jsonl file jsonl
    #[arg(long, value_enum)]
    pub format: Option<FormatChoice>,
    /// Tokens of a window over a text; default: all that the model has positions for
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub length: Option<u32>,
    /// Tokens between the beginnings of windows over a text, each predicting what none before it did; default: half a
    /// window
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub stride: Option<u32>,
    /// Write the masked rows' logits, or every layer's hidden states, to FILE (safetensors)
    #[arg(long, value_name = "WHAT", num_args = 2, value_names = ["logits|hidden", "FILE"])]
    pub export: Option<Vec<String>>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Args, Debug)]
pub struct Report {
    /// Folder of a run, of a sweep, or with sweeps in it
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Where to write the page; default: report.html in the folder
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Config {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// The config with every key, and where each value came from
    Show {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        json: Json,
    },
    /// The JSON schema of run configs, of sweep files, or of what a command prints under --json
    Schema {
        /// What to describe
        #[arg(value_enum, default_value = "run")]
        of: SchemaOf,
    },
    /// What a key means, its type and default; without a key, the sections
    Explain {
        /// As `train.optimizer`
        #[arg(value_name = "KEY", default_value = "")]
        key: String,
    },
}

#[derive(Args, Debug)]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct Man {
    /// Write a page for every command into this folder instead of one to standard output
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// What has a JSON schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    Run,
    /// Sweep files
    Sweep,
    /// Plans of experiments, which a sweep file names
    Plan,
    /// `table.json` of a sweep, and what `sweep collect` prints
    Table,
    Eval,
    /// `eval` of plain text
    EvalText,
    MeasureTrace,
    MeasureHvp,
    MeasureSpectrum,
    MeasureNoise,
    MeasureSharpness,
    MeasureFlatness,
    Regauge,
    MeasurePerturb,
    MeasureLlc,
    TheoryDyck,
    TheoryBrackets,
    /// `report.json` of `selftest --report`
    SelftestReport,
}

/// How a text holds documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatChoice {
    /// A document a line
    Lines,
    /// The file is one
    Documents,
    /// A JSON object a line, the document in its field `text`
    Jsonl,
}

/// The positions of a sentence that a model is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PositionChoice {
    /// One, drawn uniformly; every sentence weighs the same
    One,
    /// Every one in turn; every position weighs the same, as in the paper's released code
    All,
}

/// What `eval --export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Export {
    Logits,
    Hidden,
}
