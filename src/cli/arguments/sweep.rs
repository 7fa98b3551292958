//! Flags of `sweep`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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
    /// Fix the plan and give what is missing of it to a queue; returns at once
    Submit(SweepSubmit),
    /// The hash of a sweep file, by which a plan of an experiment speaks of it, and whether its plan does; runs nothing
    Register(SweepRegister),
    /// How each run stands, and what the queue says of it
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
    /// Workers here, each a process with a run of its own; on a software adapter they share the cores. Default: one, or
    /// one on each discrete adapter where there are several
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
    /// Only run number N of the plan, from 1, and what it begins with: a task of a queue
    #[arg(long, value_name = "N", conflicts_with = "jobs", value_parser = clap::value_parser!(u32).range(1..))]
    pub index: Option<u32>,
    /// One of the workers of a command, by a name for these
    #[arg(long, hide = true)]
    pub crew: Option<String>,
}

#[derive(Args, Debug)]
pub struct SweepRegister {
    #[command(flatten)]
    pub file: SweepFile,
    /// Plan to check (TOML); default: the one that SWEEP names as `plan`
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PathBuf>,
}

/// Whose queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// Job arrays, submitted by sbatch; [slurm] of the sweep file has what they ask for
    Slurm,
    /// The command is printed
    Hyperqueue,
    /// The manifest of an Indexed Job is printed
    Kubernetes,
}

#[derive(Args, Debug)]
pub struct SweepSubmit {
    #[command(flatten)]
    pub file: SweepFile,
    /// Whose queue
    #[arg(long, value_enum)]
    pub engine: Engine,
    /// Print the scripts and submit nothing
    #[arg(long)]
    pub dry_run: bool,
}
