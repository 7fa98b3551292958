//! What needs no adapter: languages, statistics, estimators on matrices with known answers, files, pages.

#[path = "../common"]
mod common {
    pub mod fixtures;
    pub mod matrices;
    pub mod readers;
    pub mod rules;
    pub mod sentence_gradients;
    pub mod truth;
}

mod anisotropic_noise;
mod architecture;
mod brackets;
mod causal;
mod columns;
mod config;
mod correlation;
mod curvature_spectra;
mod curvature_statistics;
mod curvature_traces;
mod decoder;
mod derivatives;
mod docs;
mod gallery;
mod ghost;
mod grammars;
mod hmm;
mod interrupts;
mod language;
mod lstm;
mod mutated;
mod outcomes;
mod pieces;
mod posterior;
mod prefixes;
mod readers;
mod refusals;
mod registration;
mod report;
mod shaders;
mod sweep;
mod task_files;
mod text;
mod theory;
mod token_noise;
mod variants;
mod within;
