//! Flags of `sweep`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Json;

#[derive(Args, Debug)]
pub struct Sweep {
    #[command(subcommand)]
    pub command: SweepCommand,
}

/// A sweep file.
#[derive(Args, Debug)]
pub struct SweepFile {
    /// Sweep file (TOML): base, [grid], [[zip]], [[exclude]], [start], or [[model]]; [examine]
    #[arg(value_name = "SWEEP")]
    pub sweep: PathBuf,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Subcommand, Debug)]
pub enum SweepCommand {
    /// Every run that a sweep file asks for, with its id and overrides; runs nothing
    Plan(SweepFile),
    /// Do what is missing: train, examine, then collect and report; may be stopped and started at any time, and by
    /// several processes at once
    Run(SweepRun),
    /// How each run stands
    Status(SweepFile),
    /// Write table.json from what is there, and the report; runs nothing
    Collect(SweepFile),
}

#[derive(Args, Debug)]
pub struct SweepRun {
    #[command(flatten)]
    pub file: SweepFile,
    /// Stop at the first run that fails
    #[arg(long)]
    pub fail_fast: bool,
    /// Try runs again that diverged before
    #[arg(long)]
    pub retry_diverged: bool,
}
