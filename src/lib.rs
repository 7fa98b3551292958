//! Lowland: why do language models with the same pre-training loss transfer differently, and does flatness tell?
//!
//! A laboratory for the curvature of language models. Transformers and their derivatives are WGSL kernels that run on
//! any Vulkan, Metal or DX12 adapter, a software one included; languages are grammars and hidden Markov models whose
//! exact conditionals are known, so that a model's distance from the truth is a number and not a guess. After Liu, Xie,
//! Li, Ma, "Same Pre-training Loss, Better Downstream: Implicit Bias Matters for Language Models" (ICML 2023, arXiv
//! 2210.14199).
//!
//! The program `lowland` is one use of this library. Five others follow; each is a whole program in
//! [`examples/`](https://github.com/lowland-lab/lowland/tree/main/examples), of which this page shows the middle; run
//! one by `cargo run --release --example NAME`. A program of yours needs
//! `lowland = { version = "0.1", default-features = false }`: the command line's dependencies are then left out. Which
//! adapter [`Device::from_env`](ops::Device::from_env) opens is said by the variable `LOWLAND_ADAPTER` (`best`,
//! `software`, `name:rtx`).
//!
//! # Curvature of a model: `hessian_trace`
//!
//! A folder that `transformers` writes, and examples as JSON lines. Every estimate comes with its standard error.
//!
//! ```no_run
//! use lowland::prelude::*;
//! let device = Device::from_env()?;
//! let model = Model::load(&device, "runs/quickstart/model")?;
//! let loss = model.over(&model.read_examples("held_out.jsonl")?)?;
//! let hessian = loss.hessian();
//! let trace = hessian.trace().of_population().relative_error(0.01)?;
//! println!("{trace}"); // 41.32 ± 0.37 (probes 0.31, sentences 0.20)
//! let product = hessian.times(&loss.loss_gradient()?)?;
//! println!("{} numbers\n{}", product.len(), hessian.top(5)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A matrix of your own: `own_operator`
//!
//! Whatever multiplies vectors has a trace and a spectrum: implement [`Operator`](curvature::Operator), and
//! [`Measure`](curvature::Measure) comes with it. [`Dense`](curvature::Dense) is a matrix that is written down.
//!
//! ```
//! use lowland::prelude::*;
//! let matrix = Dense::new(2, vec![3.0, 1.0, 1.0, 2.0])?;
//! let trace = matrix.trace().relative_error(0.05)?;
//! assert!((trace.estimate - 5.0).abs() < 4.0 * trace.standard_error);
//! assert!((matrix.top(1)?.eigenvalues[0] - 3.618).abs() < 1e-3);
//! # Ok::<(), CurvatureError>(())
//! ```
//!
//! # A language without an adapter: `language`
//!
//! ```
//! use lowland::prelude::*;
//! let grammar = Grammar::parse("S NP VP 1\nNP dogs 0.7\nNP cats 0.3\nVP sleep 1\n", "toy.txt")?;
//! let language = Pcfg::new(grammar, 8)?;
//! let known = language.conditional(&language.sample(1, 0)).expect("a sentence of the language");
//! assert_eq!(known.conditional.len(), 2);
//! let floor = entropy_floor(&language, 1, 100);
//! assert!((floor.entropy_floor - 0.3054).abs() < 1e-3); // (H(0.7, 0.3) + 0) / 2 nats
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A training run: `train_small`
//!
//! ```no_run
//! use lowland::{config, prelude::*, train};
//! let resolved = config::load("configs/quickstart.toml".as_ref(), &["train.steps=200".into()])?;
//! let outcome = train::run(&Device::from_env()?.gpu, &resolved, &train::Quiet)?;
//! println!("excess loss {:.4?} nats, in {}", outcome.evaluation.excess_loss, outcome.folder.display());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # An operation of your own: `own_operation`
//!
//! A model is a [`Graph`](graph::Graph) of operations, and so are its gradient and its Hessian-vector products. An
//! operation is a type with its shapes, its rules and its WGSL, which [`Operation`](ops::Operation) asks for (with
//! defaults for what is linear); [`Own`](ops::Own) puts yours beside those that are here, and
//! [`Graph::evaluate`](graph::Graph::evaluate) runs a graph once.
//!
//! ```no_run
//! use lowland::graph::{Count, Emit, Graph};
//! use lowland::ops::counts::ROWS;
//! let mut graph = Graph::default();
//! let (x, w) = (graph.input("x", ROWS, 6), graph.parameter("w", 10, 6));
//! let y = graph.linear(x, w, None, None);
//! let y_bar = graph.input("cotangent", ROWS, 10);
//! let w_bar = graph.gradient(&[(y, y_bar)])[&w];
//! let given = [(x, &[1.0, 2.0][..]), (w, &[0.0; 6]), (y_bar, &[1.0, 0.0, 2.0])];
//! let values = graph.evaluate(&lowland::ops::Device::from_env()?, 1, &given, &[w_bar])?;
//! assert_eq!(values, [[1.0, 2.0, 0.0, 0.0, 2.0, 4.0]]); // W̄ = ȳᵀ x
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rooms, from the bottom
//!
//! - [`gpu`]: adapters, memory, kernels, lists of dispatches; knows no machine learning. [`kernels`]: those of
//!   `shaders/` as types.
//! - [`ops`]: operations and their rules. [`reference`](mod@reference): the same in plain f64, the oracle. [`graph`]:
//!   graphs, their transforms, their plan on an adapter. [`selftest`]: kernels against their twins, with timings.
//! - [`language`]: grammars, hidden Markov models, brackets; needs no adapter. [`generated`]: what a causal model
//!   generates, as a language; runs on one.
//! - [`model`]: encoders, their files, their passes. [`curvature`]: products, traces, spectra, gradient noise.
//! - [`config`]: run configs. [`train`]: pre-training. [`downstream`]: tasks, probes, fine-tuning. [`sweep`]: many runs
//!   and their table. [`report`]: pages and figures. [`cli`]: the program.
//! - [`theory`]: the paper's theorem on the flattest model, by enumeration on the host.
//! - Beside them [`random`] (streams that are functions of a seed), [`statistics`] (means and correlations with their
//!   errors), [`text`], [`interrupt`] (how long work is asked to stop), and [`prelude`].

pub(crate) mod cache;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod curvature;
pub mod downstream;
pub(crate) mod files;
pub mod generated;
pub mod gpu;
pub mod graph;
pub mod interrupt;
pub mod kernels;
pub mod language;
pub mod model;
pub mod ops;
pub mod prelude;
pub mod random;
pub mod reference;
#[cfg(feature = "report")]
pub mod report;
pub mod selftest;
pub mod statistics;
pub mod sweep;
pub mod text;
pub mod theory;
pub mod train;

/// The version of `wgpu` whose types stand in this library's signatures.
pub use wgpu;
