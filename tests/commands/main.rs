//! The program as scripts see it, each command in a process of its own: exit codes, messages, JSON, files,
//! interruption.

#[path = "../common"]
mod common {
    pub mod adapter;
    pub mod fixtures;
    pub mod truth;
}

mod folder;
mod schema;

mod causal;
#[cfg(unix)]
mod claims;
mod cli;
mod compiled_once;
mod course;
#[cfg(unix)]
mod disks;
mod downstream;
mod enlarge;
mod experiments;
mod flatness;
mod folders;
mod generated;
mod given_models;
mod grammars;
#[cfg(unix)]
mod interrupts;
mod knobs;
mod lanes;
mod llc;
mod measure;
#[cfg(unix)]
mod measure_training;
mod regauge;
mod run_files;
mod selftest_report;
mod sharpness;
mod sweep_run;
mod text;
mod texts;
mod theory;
mod tuning;
mod words;
#[cfg(unix)]
mod workers;

/// A run of about a second, behind [`folder::SMALL`]; the rate does not depend on the length.
const RUN: &str = r#"
hidden_dropout_prob = 0.1
[train]
steps = 60
batch_size = 32
optimizer = { kind = "adamw", lr = 2e-3 }
schedule = { kind = "constant", warmup = 0.0 }
checkpoint_every = 20
keep_checkpoints = 2
evaluate_every = 20
[evaluate]
sentences = 100
"#;
