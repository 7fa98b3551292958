//! Flags of `probe`, `finetune` and `enlarge`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Json;

/// A model, a config and a task.
#[derive(Args, Clone, Debug)]
pub struct TaskArguments {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Run config: its language labels the sentences or has the words of TASK's texts, its seed draws them. Without it
    /// TASK is a file or a folder of texts, which the model's own tokenizer cuts into pieces
    #[arg(value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// Overrides of the run config
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Of a grammar `A`, `B`, `C` or `span:K`, of a hidden Markov model `task-K`, of brackets
    /// `positive`, `sign` or `sum`; or a file that ends in .csv, .jsonl or .tsv
    /// with `text` and `label`, or a folder with such files train, validation and test, or train and dev (GLUE:
    /// dev is the test part, the validation part is split off train)
    #[arg(long, value_name = "TASK")]
    pub task: String,
    /// Column of the texts in TASK's files; twice for a pair. Default: `text`, or those of GLUE's SST-2, QNLI, RTE,
    /// WNLI and QQP
    #[arg(long, value_name = "NAME")]
    pub text_column: Vec<String>,
    /// Column of the labels in TASK's files; default: `label`, or QQP's `is_duplicate`
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// Without CONFIG: a tokenizer.json, or a folder with one, in place of that in the model's folder
    #[arg(long, value_name = "PATH")]
    pub tokenizer: Option<PathBuf>,
    /// Of texts: tokens that one or a pair may have, special ones included; the end of a longer one is cut off, of a
    /// pair that of the longer text first. Default: the model's positions, 128 at most; with --out-of-vocabulary the
    /// length of the language's longest sentence
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// With the CONFIG of a generated language: TASK's texts are no words of it, the tokenizer of its model cuts them,
    /// and this stands for a piece that is none of its words
    #[arg(long, value_name = "POLICY", value_enum)]
    pub out_of_vocabulary: Option<OutOfVocabularyChoice>,
    /// Draws the parts and begins the fits; default: the config's, 0 without one
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Label a grammar's sentences with the probability of the rest of the sentence, not by inside probability alone
    #[arg(long)]
    pub with_prior: bool,
    /// What is taught of a language's task; but for `mode` the result has an excess in nats over the exact posterior
    #[arg(long, value_enum, default_value_t = LabelChoice::Mode)]
    pub labels: LabelChoice,
    /// Labelled sentences to train on
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pub train: u32,
    /// Several numbers of sentences to train on, in place of `--train`; the result is the mean over them
    #[arg(long, value_name = "N,..", value_delimiter = ',', conflicts_with = "train",
          value_parser = clap::value_parser!(u32).range(2..))]
    pub train_sizes: Vec<u32>,
    /// Label sets, drawn apart; the result is the mean over them, with its components of variance
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub label_sets: u32,
    /// Labelled sentences that choose the epoch or the ridge
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub validation: u32,
    /// Labelled sentences that the accuracy is measured on
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub test: u32,
    /// Fits with other initial weights and another order of sentences
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,
    #[command(flatten)]
    pub json: Json,
}

/// What stands for a piece of a text that is no word of a generated language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutOfVocabularyChoice {
    /// One unknown word, whose row begins as the mean of the rows of the language's words
    Unk,
    /// Nothing
    Drop,
    /// The longest words that its spelling is made of, an unknown word where none fits
    Split,
}

/// What a fit is taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelChoice {
    /// The most likely name of each sentence, which is a function of the sentence: the paper's
    Mode,
    /// What truly stood behind each sentence: a name drawn from the exact posterior
    Drawn,
    /// The exact posterior as a soft label; of linear probes
    Posterior,
}

/// What a probe reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeatureChoice {
    /// The representations of all tokens one after another, zeros behind a shorter sentence
    Concat,
    /// Their mean
    Mean,
    /// The representation of the first token, `<s>`; of models that see a whole sentence
    First,
    /// The representation of the last token, `</s>` or the last of a text, where a model that reads in one direction
    /// has seen the sentence
    Last,
    /// Those of all tokens but the first and the last of a sentence padded to `--padded-length`, padding with them: as
    /// in the paper's released code
    Padded,
    /// The exact conditionals of all words one after another, the paper's lookup table; nothing of the model
    Lookup,
}

/// The course of a learning rate behind its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleChoice {
    /// Stays
    Constant,
    /// Falls linearly to 1e-7 at the last step, as `polynomial` of transformers: the paper's released code
    Polynomial,
}

/// How a probe is fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProbeMethod {
    /// On the adapter, the epoch by validation accuracy: the paper's
    Adamw,
    /// On the host in f64 to convergence, the ridge by validation accuracy; nothing in it is random, so one seed
    Ridge,
}

#[derive(Args, Debug)]
pub struct Probe {
    #[command(flatten)]
    pub task: TaskArguments,
    /// Layer: 0 is the embedding, 1 the first layer, -1 the last (behind its final norm, as the head sees it)
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub layer: i64,
    /// What the probe reads; default: concat, without CONFIG mean, or last of a model that reads in one direction
    #[arg(long, value_enum)]
    pub features: Option<FeatureChoice>,
    /// Tokens that sentences are padded to, of `--features padded`; default: those of the longest. The paper's released
    /// code pads to 20
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(3..))]
    pub padded_length: Option<u32>,
    /// Project the features to so many by a random matrix first
    #[arg(long, value_name = "WIDTH", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub projection: Option<u32>,
    /// Standardise each feature by the training part first
    #[arg(long)]
    pub standardise: bool,
    /// How the probe is fitted
    #[arg(long, value_enum, default_value_t = ProbeMethod::Adamw)]
    pub method: ProbeMethod,
    /// Learning rate of adamw
    #[arg(long, default_value_t = 1e-3)]
    pub lr: f64,
    /// Epochs of adamw
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Sentences a step of adamw
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Course of adamw's learning rate behind the warm-up
    #[arg(long, value_enum, default_value_t = ScheduleChoice::Constant)]
    pub schedule: ScheduleChoice,
    /// Steps of adamw over which the learning rate rises linearly from 0
    #[arg(long, default_value_t = 0)]
    pub warmup_steps: u64,
    /// Probability with which adamw drops a feature in training; 0.1 in the paper's released code
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub feature_dropout: f64,
    /// Probability with which the encoder, whose weights stay, drops hidden states and attention weights while adamw
    /// trains: features are computed anew in every epoch; 0.1 in the paper's released code
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub encoder_dropout: f64,
    /// Ridges to choose from: λ of mean loss + λ/2 ‖W‖²
    #[arg(long, value_name = "λ", value_delimiter = ',', default_values_t = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])]
    pub ridge: Vec<f64>,
    /// Write the features and classes of all three parts to FILE (safetensors)
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Finetune {
    #[command(flatten)]
    pub task: TaskArguments,
    /// Peak learning rate
    #[arg(long, default_value_t = 1e-4)]
    pub lr: f64,
    /// Epochs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub epochs: u32,
    /// Sentences a step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Steps over which the learning rate rises; it falls linearly to 0 afterwards
    #[arg(long, default_value_t = 200)]
    pub warmup_steps: u64,
    /// Put a new layer of the model's width with tanh and dropout before the classifier, as the paper's released code
    #[arg(long)]
    pub pooled: bool,
    /// Largest norm of the gradient; 0 is no clipping
    #[arg(long, value_name = "NORM", default_value_t = 0.0)]
    pub clip: f64,
    /// Also what the encoder forgot: its exact excess loss on N held-out sentences of CONFIG's language, after less
    /// before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1048576))]
    pub forgetting: Option<u32>,
}

/// How new width is filled. The first three copy, so that widths are multiples of the small model's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnlargeMethod {
    /// Tables as they are, the norm before a tied head divided by the factor of the width
    Duplicate,
    /// All tables divided by that factor, as in the script released with the paper
    Paper,
    /// Tables times the factor that gives the least trace by tensor (--trace)
    Balanced,
    /// Zeros: more layers and feed-forward units only, since layer norm forbids a wider model
    Zero,
}

#[derive(Args, Debug)]
pub struct Enlarge {
    /// Folder with config.json and model.safetensors
    #[arg(value_name = "SMALL")]
    pub small: PathBuf,
    /// As `hidden=128,layers=4,heads=8,intermediate=512`, or a run config (its `[model]`); heads and feed-forward
    /// layers that are left out grow with hidden
    #[arg(value_name = "SIZE")]
    pub size: String,
    /// Folder to write the larger model to
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// How new width is filled; traces of the result depend on it
    #[arg(long, value_enum, default_value_t = EnlargeMethod::Duplicate)]
    pub method: EnlargeMethod,
    /// The small model's trace by tensor, as `lowland measure trace SMALL EXAMPLES --matrix fisher --json` prints it:
    /// for `balanced`, and for the larger model's trace without measuring it
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}
