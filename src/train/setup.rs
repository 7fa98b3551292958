//! What a config makes before anything is allocated.

use std::sync::Arc;

use super::adversary::head_of;
use super::data::Corpus;
use super::kernels::Kernels;
use super::run::RunError;
use super::tune::Subject;
use crate::config::{AlgorithmKind, ConfigError, LabelKind, Resolved};
use crate::gpu::Gpu;
use crate::interrupt;
use crate::model::{Encoder, SentenceHead};
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
        let (longest, tokens) = (corpus.language.longest() as u32, corpus.vocabulary.len() as u32);
        config.model.check_vocabulary(tokens)?;
        let model = config.model.model_config(tokens, longest);
        corpus.tokens = Arc::new(corpus.tokens.with_rows(model.vocab_size));
        let head = match &config.train.algorithm {
            AlgorithmKind::Adversarial(algorithm) => Some(head_of(algorithm, corpus.language.as_ref())?),
            _ => None,
        };
        let mut encoder = Encoder::new(&model).map_err(|error| ConfigError::at("[model]", error))?;
        encoder.recompute = config.train.recompute;
        let sentences = config.train.micro_batch();
        let dims = Dims {
            rows: sentences * longest,
            masked: corpus.most_masked(sentences),
            sentences,
            probes: 1,
        };
        let labels = match config.objective.labels {
            LabelKind::Sampled => Labels::Hard,
            LabelKind::Expected => Labels::Soft,
        };
        let kernels = Kernels::choose(gpu, resolved, &Subject::new(gpu, &encoder, &dims, labels))?;
        let device = Device::new(gpu, kernels.variants);
        Ok(Setup { device, corpus, encoder, labels, head, dims, kernels })
    }
}
