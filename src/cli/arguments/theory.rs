//! Flags of `theory`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Json;

#[derive(Args, Debug)]
pub struct Theory {
    #[command(subcommand)]
    pub command: TheoryCommand,
}

#[derive(Subcommand, Debug)]
pub enum TheoryCommand {
    /// The Dyck-like language of Theorem 6.1: the flattest solution against random features, training with a weight on
    /// flatness, label noise, and how often a head on n examples transfers
    Dyck(TheoryDyck),
    /// Soft brackets under cross-entropy, where plain SGD drifts towards flat solutions: trace, alignment and transfer
    /// against learning rate² x steps / batch
    Brackets(TheoryBrackets),
}

#[derive(Args, Debug)]
pub struct TheoryDyck {
    /// Brackets in a sentence: even, 4 to 12
    #[arg(long, default_value_t = 6, value_name = "T")]
    pub length: usize,
    /// Neurons, 2 to 4096; random features need T C(T, T/2) / 2 + T of them (66 at T = 6)
    #[arg(long, default_value_t = 128, value_name = "M")]
    pub neurons: usize,
    /// Seed of all draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Starts of flatness-regularised training, of which the best counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub restarts: u32,
    /// Heads fitted for each number of examples
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub draws: u32,
    /// Steps of SGD with label noise; 0 leaves it out
    #[arg(long, default_value_t = 120_000)]
    pub noise_steps: u64,
    /// Write theory.json, and a page with figures, into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Args, Debug)]
pub struct TheoryBrackets {
    /// Brackets in a sentence: even, 4 to 12
    #[arg(long, default_value_t = 6, value_name = "T")]
    pub length: usize,
    /// Preference for balance: P(x) is proportional to exp(-kappa (opening - closing)²)
    #[arg(long, default_value_t = 0.1)]
    pub kappa: f64,
    /// Neurons, 2 to 1024
    #[arg(long, default_value_t = 32, value_name = "M")]
    pub neurons: usize,
    /// Seed of all draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Solutions that SGD starts from
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub starts: u32,
    /// Learning rate² x steps / batch at the end of every run
    #[arg(long, default_value_t = 60.0)]
    pub time: f64,
    /// Write theory.json, and a page with figures, into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}
