//! Pre-training: data that is a function of (seed, step), the loop, optimisers, checkpoints, evaluation, curvature
//! along the way.
//!
//! ```no_run
//! use lowland::{config, gpu::Gpu, train};
//! let resolved = config::load("configs/quickstart.toml".as_ref(), &[])?;
//! let gpu = Gpu::open(&Default::default(), Default::default())?;
//! let outcome = train::run(&gpu, &resolved, &train::Quiet)?;
//! println!("{:?}", outcome.evaluation);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adversary;
mod branch;
mod checkpoint;
mod claim;
mod data;
mod diverged;
mod evaluate;
mod events;
mod example_loss;
mod folder;
mod held_out;
mod kernels;
mod labels;
mod masks;
mod measure;
mod measured_sharpness;
mod measurement;
mod measurement_schedule;
mod observer;
mod optimizer_state;
mod order;
mod past;
mod plan;
mod result;
mod run;
mod session;
mod setup;
mod start;
mod trainer;
mod trouble;
mod tune;
mod windows;

pub use adversary::{Adversary, AdversaryData, AdversaryLine};
pub(crate) use checkpoint::sync_folder;
pub use checkpoint::{Checkpoint, Contents, Damage, MissingTensor, NamedTensor, Recent, State, checkpoints, newest};
pub(crate) use claim::is_claimed;
pub use claim::{Claim, Holder, Lost, Pace, Taken, release_all};
pub use data::{Corpus, Micro, held_out_seed};
pub(crate) use evaluate::mean_of_sums;
#[cfg(feature = "cli")]
pub(crate) use evaluate::sums_by_sentence;
pub use evaluate::{Evaluation, Evaluator, KnownSentence, held_out_sentence, masked_sentence, masked_sentences};
pub use events::EventWriter;
pub use example_loss::ExampleLoss;
pub(crate) use folder::{CLAIM, is_of_training, settle};
pub use held_out::HeldOut;
pub use kernels::{Kernels, Source};
pub use labels::mixed_label;
pub use measure::{Instruments, measured_seed};
pub use measurement::{Measurement, Ratios, Sides};
pub use observer::{Observer, Progress, Quiet};
pub use optimizer_state::{NoOptimizer, optimizer_of};
pub use order::Example;
pub use past::Length;
pub use plan::{PlanBytes, PlanReport, Refusal, plan};
pub use result::{Divergence, RunResult};
pub use run::{Outcome, RunError, Status, Stopping, tune};
pub use trainer::{LogLine, Trainer};
pub use trouble::{WrongNumbers, run};
pub use tune::{Measured, Subject, Tuning};
pub use windows::{PartSums, Windows};
