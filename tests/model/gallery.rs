//! The examples that need an adapter, run as a user runs them.

use std::error::Error;

use crate::common::fixtures::fixture;

#[path = "../../examples/hessian_trace.rs"]
mod hessian_trace;
#[path = "../../examples/own_operation.rs"]
mod own_operation;
#[path = "../../examples/train_small.rs"]
mod train_small;

// What reads the arguments is not called: those of a test binary are filters.
type Main = fn() -> Result<(), Box<dyn Error>>;
const _: [Main; 2] = [hessian_trace::main, train_small::main];

#[test]
fn hessian_trace_measures_a_model() {
    hessian_trace::run(&fixture("bert-tiny")).unwrap();
}

#[test]
fn own_operation_matches_its_twin() {
    own_operation::main().unwrap();
}

#[test]
fn train_small_trains_and_measures() {
    let folder = tempfile::tempdir().unwrap();
    train_small::run(&folder.path().join("run")).unwrap();
}
