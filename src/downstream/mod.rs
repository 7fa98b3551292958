//! Measures what a pre-trained model is good for: tasks as data, features of sentences, linear probes, fine-tuning.
//!
//! As in the paper (Liu, Xie, Li, Ma 2023, section 3): a linear probe reads the concatenated token representations, or
//! the whole encoder is fine-tuned with a classifier on the representation of `<s>`. Accuracies come with their spread
//! over seeds and beside chance, the majority class and, where the language gives it, the Bayes-optimal accuracy.
//!
//! What is less noisy than an accuracy: an excess in nats over the exact posterior ([`Teaching`]), what an encoder
//! forgot ([`Memory`]), and averages over label sets ([`LabelSets`]).
//!
//! [`alignment`] asks without labels how much of what the head reads is a function of the truth.
//!
//! ```
//! use lowland::downstream::{Sizes, TaskData};
//! use lowland::language::{Hmm, RandomHmm, Task};
//! let shape = RandomHmm {
//!     states: 4, vocabulary: 10, transition_concentration: 0.2, emission_concentration: 0.2, seed: 1
//! };
//! let language = Hmm::random(&shape, 8, 8).unwrap();
//! let sizes = Sizes { train: 100, validation: 20, test: 50 };
//! let data = TaskData::of_language(&language, Task::State(6), false, 0, sizes).unwrap();
//! assert_eq!(data.test.len(), 50);
//! assert!(data.bayes.unwrap() > data.chance());
//! ```

mod alignment;
mod data;
mod epochs;
mod features;
mod file;
mod finetune;
mod forgetting;
mod label_sets;
mod outcome;
mod probe;
mod restricted;
mod ridge;
mod rows;
mod texts;

pub use alignment::{Alignment, NoAlignment, alignment};
pub use data::{Losses, Part, Sizes, Targets, TaskData, TaskError, Teaching, part_seed};
pub use features::{Dropping, Features, NoSuchLayer, Pooling, layer_in, layer_number};
pub use file::{Encoded, Limits, TaskRows, TaskTexts};
pub use finetune::{FineTuning, finetune, finetune_sentences, read_token};
pub use forgetting::{Forgotten, Memory, NoMemory};
pub use label_sets::{Averaged, Averages, LabelSets, SetFits, SizeAverages};
pub use outcome::{Accuracy, DownstreamError, Fit, Nats, Outcome, Room};
pub use probe::{Fresh, LinearProbe, RateSchedule, check_room, probe, probe_fresh};
pub use restricted::Words as RestrictedWords;
pub use ridge::{RidgeFit, ridge, ridge_path};
pub use rows::{Columns, Row};
