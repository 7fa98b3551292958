//! Kernels: against their twins on the adapter under test, and as text for every backend.

#[path = "../common"]
mod common {
    pub mod adapter;
}

#[path = "../../build/uniform_reads.rs"]
mod uniform_reads;

mod activations;
mod cross_compile;
mod grid;
mod kernels;
mod lstm;
