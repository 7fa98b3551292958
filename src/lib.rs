//! Lowland: why do language models with the same pre-training loss transfer differently, and does flatness tell?
//!
//! A laboratory in one binary. Transformers and their derivatives are WGSL kernels that run on any Vulkan, Metal or
//! DX12 adapter, a software one included; languages are grammars whose exact conditionals are known, so that a model's
//! distance from the truth is a number and not a guess. After Liu, Xie, Li, Ma, "Same Pre-training Loss, Better
//! Downstream: Implicit Bias Matters for Language Models" (ICML 2023, arXiv 2210.14199).
//!
//! The rooms, from the bottom: [`gpu`] (adapters, memory, kernels; knows no machine learning), [`ops`] (operations and
//! their rules), [`reference`](mod@reference) (the same in plain f64, the oracle), [`graph`] (graphs and their
//! transforms), [`language`] (grammars, hidden Markov models; needs no adapter), [`model`], [`train`], [`downstream`],
//! [`sweep`], [`report`], [`cli`].
//!
//! ```no_run
//! use lowland::{config, gpu::Gpu, train};
//! let resolved = config::load("configs/quickstart.toml".as_ref(), &["train.steps=200".into()])?;
//! let gpu = Gpu::open(&"software".parse()?, Default::default())?;
//! let outcome = train::run(&gpu, &resolved, &train::Quiet)?;
//! println!("excess loss {:.4} nats", outcome.evaluation.excess_loss);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod curvature;
pub mod downstream;
pub mod gpu;
pub mod graph;
pub mod interrupt;
pub mod kernels;
pub mod language;
pub mod model;
pub mod ops;
pub mod random;
pub mod reference;
#[cfg(feature = "report")]
pub mod report;
pub mod selftest;
pub mod statistics;
pub mod sweep;
pub mod text;
pub mod train;
