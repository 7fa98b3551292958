//! What a config makes before anything is allocated.

use std::sync::Arc;

use super::adversary::head_of;
use super::data::Corpus;
use super::kernels::Kernels;
use super::run::RunError;
use super::tune::Subject;
use crate::config::{AlgorithmKind, ConfigError, Resolved};
use crate::gpu::Gpu;
use crate::interrupt;
use crate::model::{Encoder, ModelConfig, SentenceHead};
use crate::ops::{Device, Dims, Labels};

/// What a config makes before anything is allocated.
pub(super) struct Setup {
    /// The adapter with the run's kernel variants.
    pub device: Device,
    pub corpus: Corpus,
    pub encoder: Encoder,
    pub labels: Labels,
    /// Of the adversarial algorithm.
    pub head: Option<SentenceHead>,
    /// Of the largest micro-batch.
    pub dims: Dims,
    pub kernels: Kernels,
}

impl Setup {
    pub fn new(gpu: &Gpu, resolved: &Resolved) -> Result<Setup, RunError> {
        let config = &resolved.config;
        let (language, objective, seed) = (config.language.clone(), config.objective.clone(), config.seed);
        let mut corpus = interrupt::or_stop(move || Corpus::open(&language, &objective, seed))??;
        if config.train.stop.is_some() {
            corpus
                .truth()
                .map_err(|none| ConfigError::at("train.stop", format!("needs an excess loss, and {none}")))?;
        }
        let (longest, tokens) = (corpus.language.longest() as u32, corpus.vocabulary.len() as u32);
        config.model.check_vocabulary(tokens)?;
        let given = corpus.vocabulary.given();
        let pad = |own| given.map_or(own, |given| given.specials().pad);
        let model = config.model.model_config_padding(tokens, longest, pad);
        if given.is_some() {
            check_text(&model, longest)?;
        }
        corpus.tokens = Arc::new(corpus.tokens.with_rows(model.vocab_size));
        let head = match &config.train.algorithm {
            AlgorithmKind::Adversarial(algorithm) => Some(head_of(algorithm, corpus.language.as_ref())?),
            _ => None,
        };
        let mut encoder = Encoder::new(&model).map_err(|error| ConfigError::at("[model]", error))?;
        encoder.recompute = config.train.recompute;
        let sentences = config.train.micro_batch();
        let dims =
            Dims { rows: sentences * longest, masked: corpus.most_masked(sentences), sentences, probes: 1, longest };
        let labels = if config.objective.labels.is_soft() { Labels::Soft } else { Labels::Hard };
        let kernels = Kernels::choose(gpu, resolved, &Subject::new(gpu, &encoder, &dims, labels))?;
        let device = Device::new(gpu, kernels.variants);
        Ok(Setup { device, corpus, encoder, labels, head, dims, kernels })
    }
}

/// That a model has positions for examples of text, and that they can be counted.
fn check_text(model: &ModelConfig, longest: u32) -> Result<(), ConfigError> {
    if model.kind.counts_from_pad() && model.pad_token_id.is_none() {
        let message = format!(
            "a model of type \"{}\" counts its positions from padding, and the tokenizer names no padding token; name \
             one as `pad_token` in a tokenizer_config.json beside it, or take another type",
            model.kind.name()
        );
        return Err(ConfigError::at("language.tokenizer", message));
    }
    if model.longest() < longest {
        let message = format!("{longest} tokens are too many: the model has positions for {}", model.longest());
        return Err(ConfigError::at("language.length", message));
    }
    Ok(())
}
