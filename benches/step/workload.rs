//! What is timed: a model and a batch.

use std::path::Path;

use lowland::config;
use lowland::model::{HiddenAct, ModelConfig, ModelKind, Published, TokenIds};
use lowland::ops::batch::Sentence;
use lowland::random::{Purpose, Stream};
use lowland::train::Corpus;
use serde_json::{Value, json};

use crate::Error;

/// The sizes that the cost of a step depends on.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub kind: ModelKind,
    pub width: u32,
    pub layers: u32,
    pub tokens: u32,
    pub batch: u32,
    /// Words, the four special tokens not counted.
    pub words: u32,
}

impl Sizes {
    /// `width/layers/tokens/batch`, and after another slash the number of words where it is not 200; before it a type
    /// of model, as `lstm:` or `gpt2:`, where it is not `roberta-prelayernorm`.
    pub fn parse(text: &str) -> Result<Sizes, Error> {
        let (kind, sizes) = match text.split_once(':') {
            Some((name, sizes)) => {
                let kind = ModelKind::ALL.into_iter().find(|kind| kind.name() == name);
                (kind.ok_or_else(|| format!("`{name}` is no type of model"))?, sizes)
            }
            None => (ModelKind::default(), text),
        };
        let numbers: Vec<u32> = sizes.split('/').map(str::parse).collect::<Result<_, _>>()?;
        match numbers[..] {
            [width, layers, tokens, batch] => Ok(Sizes { kind, width, layers, tokens, batch, words: 200 }),
            [width, layers, tokens, batch, words] => Ok(Sizes { kind, width, layers, tokens, batch, words }),
            _ => Err(format!("`{text}` is not width/layers/tokens/batch").into()),
        }
    }
}

/// A model and a batch of sentences.
pub struct Workload {
    pub name: String,
    pub model: ModelConfig,
    pub sentences: Vec<Sentence>,
}

impl Workload {
    /// Sentences all of one length, one masked word each, of decoders all next words; heads of 32 numbers, or two where
    /// the width is less.
    pub fn of(name: &str, sizes: Sizes) -> Workload {
        let Sizes { kind, width, layers, tokens, batch, words } = sizes;
        let model = ModelConfig {
            kind,
            vocab_size: words + 4,
            hidden_size: width,
            num_hidden_layers: layers,
            num_attention_heads: (width / 32).max(2),
            intermediate_size: 4 * width,
            max_position_embeddings: tokens + 2,
            hidden_act: match kind {
                ModelKind::Gpt2 => HiddenAct::GeluNew,
                ModelKind::Llama => HiddenAct::Silu,
                _ => HiddenAct::Gelu,
            },
            tie_word_embeddings: kind != ModelKind::Llama,
            ..ModelConfig::default()
        };
        let ids = TokenIds::new(words as usize);
        let mut random = Stream::new(1, Purpose::Test, 0);
        let sentences = (0..batch)
            .map(|_| {
                let drawn: Vec<u32> = (0..tokens - 2).map(|_| random.below(words)).collect();
                match kind.is_causal() {
                    true => ids.next(&drawn, 0..tokens as usize - 1),
                    false => ids.mask(&drawn, random.below(tokens - 2) as usize),
                }
            })
            .collect();
        Workload { name: name.into(), model, sentences }
    }

    /// What others publish times of.
    pub fn of_published(case: Published) -> Workload {
        Workload { name: case.name.into(), model: case.model, sentences: case.sentences }
    }

    /// The first batch of a run config.
    pub fn of_config(path: &Path, overrides: &[String]) -> Result<Workload, Error> {
        let resolved = config::load(path, overrides)?;
        let config = &resolved.config;
        let corpus = Corpus::open(&config.language, &config.objective, config.seed)?;
        let model = config.model.model_config(corpus.vocabulary.len() as u32, corpus.language.longest() as u32);
        let sentences = (0..u64::from(config.train.batch_size)).map(|i| corpus.sentence(i)).collect();
        Ok(Workload { name: resolved.name, model, sentences })
    }

    /// The order that makes the peer build the same.
    pub fn for_peer(&self) -> Value {
        let batch: Vec<Value> = self
            .sentences
            .iter()
            .map(|s| {
                let (positions, labels): (Vec<u32>, Vec<u32>) = s.masked.iter().copied().unzip();
                json!({ "input_ids": s.ids, "positions": positions, "labels": labels })
            })
            .collect();
        json!({ "prepare": { "model": self.model.to_json(), "batch": batch } })
    }
}
