//! Models as graphs, BERT's family, decoders and LSTMs, and their files: what `transformers` writes loads, and what is
//! written here `transformers` loads (LSTMs: `scripts/lstm_mlm.py`).
//!
//! ```
//! use lowland::model::{Encoder, ModelConfig};
//! let config = ModelConfig { vocab_size: 24, hidden_size: 16, num_attention_heads: 2, ..ModelConfig::default() };
//! let encoder = Encoder::new(&config).unwrap();
//! assert_eq!(encoder.parameters[0].name, "roberta_prelayernorm.embeddings.word_embeddings.weight");
//! ```

mod blocks;
mod builder;
mod config;
mod encoder;
mod enlarge;
mod enlarged_trace;
mod examples;
mod family;
mod files;
mod gauges;
mod hidden_act;
mod hub;
mod kind;
mod match_words;
mod on_device;
mod own_tokenizer;
mod parameters;
mod passes;
mod recipe;
mod reorder;
mod representations;
mod role;
mod sentence_features;
mod sentence_head;
mod single_tokens;
mod store;
mod tensor_names;
mod token_ids;
mod tokenizer;
mod unknown_row;
mod vocabulary;
mod weights_file;
mod weights_folder;
mod weights_writer;

pub(crate) use blocks::{block_counts, segments};
pub use config::{ModelConfig, SizeError};
pub use encoder::{Encoder, Head};
pub use enlarge::{EnlargeError, Enlargement, Size, check_enlarge, enlarge};
pub use enlarged_trace::{Law, Shares, Unlawful};
pub use examples::{ExampleError, parse_examples, read_examples};
pub use family::Reach;
pub(crate) use files::write_synced;
pub use files::{Loaded, ModelError, config_of, load, load_body, save};
pub use gauges::{Gauge, NoGauge, Piece};
pub use hidden_act::HiddenAct;
pub use hub::model_folder;
pub use kind::ModelKind;
pub use match_words::match_words;
pub use on_device::{LoadError, Model};
pub use own_tokenizer::OwnTokenizer;
pub(crate) use parameters::in_order;
pub use parameters::{Initialise, Matrix, Parameter, Weights};
pub use passes::{ForwardPass, GradientPass, RowLoss, dims_for};
pub use recipe::{Bound, Given, Recipe};
pub(crate) use reorder::reordered;
pub use representations::RepresentationPass;
pub use role::{Direction, Norm, Part, Role};
pub use sentence_features::{FeatureDirection, SentenceFeaturesPass, SentenceReading};
pub use sentence_head::{SentenceHead, SentenceHeadPass, Side, SideMemory};
pub use single_tokens::{Per, TokenCount, single_tokens};
pub use store::{Arena, Chunk};
pub use token_ids::TokenIds;
pub use tokenizer::{Tokenizer, copy_tokenizer, tokenizer_files};
pub use vocabulary::{BOS, EOS, MASK, PAD, SPECIAL_TOKENS, Vocabulary};
pub use weights_file::WeightsFile;
pub use weights_folder::{check_weights, weight_files};
pub(crate) use weights_writer::save_tensors;
