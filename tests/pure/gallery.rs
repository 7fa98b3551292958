//! The examples that need no adapter, run as a user runs them without an argument.

#[path = "../../examples/language.rs"]
mod language;
#[path = "../../examples/own_operator.rs"]
mod own_operator;

// What reads the arguments is not called: those of a test binary are filters.
const _: fn() -> Result<(), Box<dyn std::error::Error>> = language::main;

#[test]
fn language_knows_its_truth() {
    language::run("S dogs VP 1\nVP sleep 0.5\nVP bark 0.5\n", "toy").unwrap();
}

#[test]
fn own_operator_is_measured() {
    own_operator::main().unwrap();
}
