//! Encoders of the BERT family as graphs, and their files: what `transformers` writes loads, and what is written here
//! `transformers` loads.
//!
//! ```
//! use lowland::model::{Encoder, ModelConfig};
//! let config = ModelConfig { vocab_size: 24, hidden_size: 16, num_attention_heads: 2, ..ModelConfig::default() };
//! let encoder = Encoder::new(&config).unwrap();
//! assert_eq!(encoder.parameters[0].name, "roberta_prelayernorm.embeddings.word_embeddings.weight");
//! ```

mod config;
mod encoder;
mod enlarge;
mod examples;
mod files;
mod parameters;
mod passes;
mod representations;
mod sentence_head;
mod store;
mod vocabulary;

pub use config::{ModelConfig, ModelKind};
pub use encoder::{Encoder, Head};
pub use enlarge::{Enlargement, Size, check_enlarge, enlarge};
pub use examples::{ExampleError, parse_examples, read_examples};
pub use files::{Loaded, ModelError, WeightsFile, load, save};
pub(crate) use files::{save_tensors, write_synced};
pub use parameters::{Initialise, Matrix, Parameter, Weights};
pub use passes::{ForwardPass, GradientPass, RowLoss, dims_for};
pub use representations::RepresentationPass;
pub use sentence_head::{SentenceHead, SentenceHeadGraph, SentenceHeadPass, Side};
pub use store::{Arena, Chunk};
pub use vocabulary::{BOS, EOS, MASK, PAD, SPECIAL_TOKENS, Vocabulary};
