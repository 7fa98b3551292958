//! The commands: arguments in, text or JSON out, an exit code. One file per command; everything that talks to people is
//! here.
//!
//! Standard output carries results alone (one JSON object under `--json`); progress, notes and errors go to standard
//! error. Exit codes: 0 done; 2 bad config or usage; 3 diverged; 4 out of memory; 5 input or output; 6 no usable
//! adapter; 75 interrupted, what was done is kept and the same command goes on; 130 interrupted, what was measured is
//! printed; 1 anything else. SIGINT and SIGTERM are one interrupt, answered within seconds; a second one ends at once.
//!
//! ```no_run
//! // The whole command line; the value is the exit code.
//! let code: u8 = lowland::cli::main();
//! std::process::exit(code.into());
//! ```

mod advice;
mod arguments;
mod bench_report;
mod config;
mod crew;
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
mod perplexity;
mod print;
mod probe;
mod progress;
mod regauge;
mod report;
mod same_function;
mod selftest;
mod shell;
mod submit;
mod sweep;
mod task;
mod text;
mod theory;
mod train;
mod tune;

use clap::Parser;

use crate::interrupt;
pub use arguments::Cli;
use arguments::{Command, LanguageCommand};
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
    if patient(&cli.command) {
        listen();
    }
    match run(cli) {
        Ok(()) => 0,
        Err(failure) => {
            // Whoever reads JSON gets an object, also where there was nothing to put into it.
            if failure.interrupted() && !print::printed() && std::env::args_os().any(|a| a == "--json") {
                let _ = print::json(&serde_json::json!({ "interrupted": true, "reached": false }));
            }
            if !failure.message.is_empty() {
                let _ = print::error(&failure.message);
            }
            failure.code
        }
    }
}

/// Commands that stop in an orderly way. The others print as they go, or wait for their input, and a signal ends them
/// as it ends any program.
fn patient(command: &Command) -> bool {
    match command {
        Command::Language(a) => matches!(a.command, LanguageCommand::Floor { .. }),
        Command::Config(_) | Command::Completions(_) | Command::Man(_) => false,
        _ => true,
    }
}

/// From here on the first SIGINT or SIGTERM asks for an end and the second one is the end.
fn listen() {
    // Refused only where there is a handler already, which then does the same.
    let _ = ctrlc::set_handler(|| {
        if !interrupt::request() {
            crate::train::release_all();
            crate::gpu::leave(failure::STOPPED.into());
        }
        print::note("stopping; once more ends at once");
    });
}

fn run(cli: Cli) -> Result<(), Failure> {
    let adapter = cli.adapter.unwrap_or_default();
    let kernel_choice = cli.variant.unwrap_or_default().asked_at("--variant");
    match cli.command {
        Command::Demo(a) => demo::run(&adapter, &kernel_choice, &a),
        Command::Doctor(a) => doctor::run(&adapter, &kernel_choice, &a),
        Command::Lanes => lanes::run(&adapter),
        Command::Selftest(a) => selftest::run(&adapter, &kernel_choice, &a),
        Command::Language(a) => language::run(&adapter, &kernel_choice, &a),
        Command::Train(a) => train::run(&adapter, &kernel_choice, &a),
        Command::Eval(a) => eval::run(&adapter, &kernel_choice, &a),
        Command::Measure(a) => measure::run(&adapter, &kernel_choice, &a),
        Command::Probe(a) => probe::run(&adapter, &kernel_choice, &a),
        Command::Finetune(a) => finetune::run(&adapter, &kernel_choice, &a),
        Command::Enlarge(a) => enlarge::run(&a),
        Command::Regauge(a) => regauge::run(&adapter, &kernel_choice, &a),
        Command::Sweep(a) => sweep::run(&adapter, &kernel_choice, &a),
        Command::Theory(a) => theory::run(&a),
        Command::Report(a) => report::run(&a),
        Command::Config(a) => config::run(&a),
        Command::Completions(a) => shell::completions(&a),
        Command::Man(a) => shell::man(&a),
    }
}
