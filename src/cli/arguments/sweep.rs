//! Flags of `sweep`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Json;

#[derive(Args, Debug)]
pub struct Sweep {
    #[command(subcommand)]
    pub command: SweepCommand,
}

#[derive(Subcommand, Debug)]
pub enum SweepCommand {
    /// Every run that a sweep file asks for, with its id and overrides; runs nothing
    Plan {
        /// Sweep file (TOML): base, [grid], [[zip]], [[exclude]]
        #[arg(value_name = "SWEEP")]
        sweep: PathBuf,
        #[command(flatten)]
        json: Json,
    },
}
