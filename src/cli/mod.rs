//! The commands: arguments in, text or JSON out, an exit code. A file a command; everything that talks to people is here.
//!
//! Standard output carries results alone (one JSON object under `--json`); progress, notes and errors go to standard
//! error. Exit codes: 0 done; 2 bad config or usage; 3 diverged; 4 out of memory; 5 input or output; 6 no usable adapter;
//! 75 interrupted with a checkpoint saved; 130 interrupted with nothing written; 1 anything else.
//!
//! ```no_run
//! // The whole command line; the value is the exit code.
//! let code: u8 = lowland::cli::main();
//! std::process::exit(code.into());
//! ```

mod arguments;
mod config;
mod demo;
mod doctor;
mod enlarge;
mod eval;
mod examples;
mod failure;
mod finetune;
mod lanes;
mod language;
mod measure;
mod print;
mod probe;
mod progress;
mod report;
mod selftest;
mod shell;
mod sweep;
mod task;
mod train;
mod tune;

use clap::Parser;

pub use arguments::Cli;
use arguments::Command;
use failure::Failure;

use crate::gpu::{self, AdapterChoice};

/// Runs the command of this process and gives its exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; printing them can only fail on a closed pipe.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    // Where a software adapter will be used, its lanes are chosen by measuring once.
    let software = match &cli.adapter {
        Some(AdapterChoice::Software) => true,
        choice => choice.clone().unwrap_or_default() == AdapterChoice::Best && !gpu::gpu_in_sight(),
    };
    let measure: Option<&dyn Fn(u32) -> Option<f64>> =
        if software && cli.command.uses_an_adapter() { Some(&lanes::measure) } else { None };
    gpu::prepare_process(measure);
    match run(cli) {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.message.is_empty() {
                let _ = print::error(&failure.message);
            }
            failure.code
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let adapter = cli.adapter.unwrap_or_default();
    let wishes = cli.variant.unwrap_or_default();
    match cli.command {
        Command::Demo(a) => demo::run(&adapter, &wishes, &a),
        Command::Doctor(a) => doctor::run(&adapter, &wishes, &a),
        Command::Lanes => lanes::run(&adapter),
        Command::Selftest(a) => selftest::run(&adapter, &wishes, &a),
        Command::Language(a) => language::run(&a),
        Command::Train(a) => train::run(&adapter, &wishes, &a),
        Command::Eval(a) => eval::run(&adapter, &wishes, &a),
        Command::Measure(a) => measure::run(&adapter, &wishes, &a),
        Command::Probe(a) => probe::run(&adapter, &wishes, &a),
        Command::Finetune(a) => finetune::run(&adapter, &wishes, &a),
        Command::Enlarge(a) => enlarge::run(&a),
        Command::Sweep(a) => sweep::run(&adapter, &wishes, &a),
        Command::Report(a) => report::run(&a),
        Command::Config(a) => config::run(&a),
        Command::Completions(a) => shell::completions(&a),
        Command::Man(a) => shell::man(&a),
    }
}
