//! A training step, Hessian-vector products and mixed precision at one shape, and a case that others publish; each
//! until it has enough repeats or its time is over.

use std::time::Instant;

use super::content::{Mixed, Products, PublishedCase, Step};
use crate::cli::failure::Failure;
use crate::config::TrainSection;
use crate::curvature::{Chunks, Matrix, ProbeKind, ProductPass, Subject, probes};
use crate::gpu::Gpu;
use crate::model::{Encoder, ForwardPass, GradientPass, Model, ModelConfig, Published, TokenIds, Weights, dims_for};
use crate::ops::batch::Sentence;
use crate::ops::{Batch, Device, Labels, Variants};
use crate::random::{Purpose, Stream};
use crate::train::{Micro, Trainer};

/// Repeats of each, where there is time; the median counts.
const REPEATS: usize = 7;
/// Vectors in a block of products.
const VECTORS: usize = 8;
/// Words of the language.
const WORDS: u32 = 200;

/// The sizes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub width: u32,
    pub layers: u32,
    /// Of each sentence, its ends included.
    pub tokens: u32,
    pub sentences: u32,
}

impl Shape {
    /// `width/layers/tokens/sentences`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Shape, String> {
        let wrong = || format!("`{text}` is not width/layers/tokens/sentences, as 128/4/16/256");
        let numbers: Vec<u32> = text.split('/').map(|n| n.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        match numbers[..] {
            [width, layers, tokens, sentences] if width >= 4 && tokens >= 3 && sentences >= 1 => {
                Ok(Shape { width, layers, tokens, sentences })
            }
            _ => Err(wrong()),
        }
    }

    fn text(self) -> String {
        format!("{}/{}/{}/{}", self.width, self.layers, self.tokens, self.sentences)
    }
}

/// A model and a batch of that shape.
struct Workload {
    shape: Shape,
    encoder: Encoder,
    weights: Weights,
    sentences: Vec<Sentence>,
}

impl Workload {
    fn new(shape: Shape) -> Result<Workload, Failure> {
        let config = ModelConfig {
            vocab_size: WORDS + 4,
            hidden_size: shape.width,
            num_hidden_layers: shape.layers,
            num_attention_heads: (shape.width / 32).max(2),
            intermediate_size: 4 * shape.width,
            max_position_embeddings: shape.tokens + 2,
            ..ModelConfig::default()
        };
        let encoder = Encoder::new(&config).map_err(Failure::usage)?;
        let mut random = Stream::new(1, Purpose::Test, 0);
        let length = shape.tokens - 2;
        let tokens = TokenIds::new(WORDS as usize);
        let sentence = |_| {
            let words: Vec<u32> = (0..length).map(|_| random.below(WORDS)).collect();
            tokens.mask(&words, random.below(length) as usize)
        };
        let sentences = (0..shape.sentences).map(sentence).collect();
        let weights = Weights::initial(&encoder.parameters, 0.02, 1);
        Ok(Workload { shape, encoder, weights, sentences })
    }

    /// Multiplications and additions of a step.
    fn flops(&self) -> f64 {
        let (sentences, tokens) = (u64::from(self.shape.sentences), u64::from(self.shape.tokens));
        3.0 * self.encoder.forward_flops(sentences * tokens, sentences, sentences * tokens * tokens) as f64
    }
}

/// Times of a gradient and of a step.
struct Times {
    first: f64,
    gradient: Vec<f64>,
    step: Vec<f64>,
    /// The first gradient.
    values: Weights,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn seconds<E>(what: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = Instant::now();
    what()?;
    Ok(start.elapsed().as_secs_f64())
}

fn times(gpu: &Gpu, work: &Workload, variants: &Variants, deadline: Instant) -> Result<Times, Failure> {
    let start = Instant::now();
    let Workload { encoder, weights, sentences, .. } = work;
    let dims = dims_for(sentences, sentences.len());
    let train = TrainSection { batch_size: sentences.len() as u32, steps: 1_000_000, ..TrainSection::default() };
    let model = Model::new(&Device::new(gpu, *variants), encoder, weights)?;
    let mut trainer = Trainer::new(model, &train, Labels::Hard, dims, 1)?;
    let pass = GradientPass::new(&trainer.model, dims, Labels::Hard)?;
    let micros = [Micro { batch: Batch::new(pass.layout(), sentences), weight: 1.0 / sentences.len() as f32 }];
    // At the first weights, so that kernels can be compared.
    pass.run(sentences)?;
    let values = pass.gradient().read(gpu, encoder)?;
    let mut step = || {
        trainer.advance(&micros)?;
        gpu.finish()
    };
    step()?;
    let mut times = Times { first: start.elapsed().as_secs_f64(), gradient: vec![], step: vec![], values };
    while times.step.len() < REPEATS && (times.step.is_empty() || Instant::now() < deadline) {
        times.gradient.push(seconds(|| pass.run(sentences).map(|_| ()))?);
        times.step.push(seconds(&mut step)?);
    }
    Ok(times)
}

/// A step and the gradient in it.
pub fn step(gpu: &Gpu, variants: &Variants, shape: Shape, deadline: Instant) -> Result<Step, Failure> {
    let work = Workload::new(shape)?;
    let times = times(gpu, &work, variants, deadline)?;
    let (gradient, step) = (median(&times.gradient), median(&times.step));
    Ok(Step {
        shape: shape.text(),
        parameters: work.encoder.parameter_count(),
        tokens: work.sentences.iter().map(|s| s.ids.len()).sum(),
        repeats: times.step.len(),
        first_seconds: times.first,
        gradient_seconds: gradient,
        step_seconds: step,
        step_in_gradients: step / gradient,
        sentences_per_second: f64::from(shape.sentences) / step,
        gflops: work.flops() / step / 1e9,
    })
}

/// Hv of one vector and of a block, beside a gradient in the same rounds.
pub fn products(gpu: &Gpu, variants: &Variants, shape: Shape, deadline: Instant) -> Result<Products, Failure> {
    let work = Workload::new(shape)?;
    let chunks = Chunks { batch: work.sentences.len(), probes: VECTORS as u32 };
    let model = Model::new(&Device::new(gpu, *variants), &work.encoder, &work.weights)?;
    let subject = Subject::new(&model, &work.sentences, &[], &chunks)?;
    let pass = ProductPass::new(&subject, Matrix::Hessian)?;
    let vectors = pass.width().min(VECTORS);
    let block = probes(ProbeKind::Rademacher, 1, 0..vectors, subject.size());
    let product = |n: usize| {
        seconds(|| {
            pass.forget();
            pass.run(&subject, &block[..n]).map(|_| ())
        })
    };
    // Kernels are compiled in the first round.
    product(vectors)?;
    let [mut gradients, mut firsts, mut blocks] = [vec![], vec![], vec![]];
    let dims = dims_for(&work.sentences, work.sentences.len());
    let one = GradientPass::new(&model, dims, Labels::Hard)?;
    one.run(&work.sentences)?;
    while firsts.len() < REPEATS && (firsts.is_empty() || Instant::now() < deadline) {
        gradients.push(seconds(|| one.run(&work.sentences).map(|_| ()))?);
        firsts.push(product(1)?);
        blocks.push(product(vectors)?);
    }
    let [gradient, first, whole] = [median(&gradients), median(&firsts), median(&blocks)];
    Ok(Products {
        shape: shape.text(),
        vectors,
        repeats: firsts.len(),
        gradient_seconds: gradient,
        first_seconds: first,
        block_seconds: whole,
        first_in_gradients: first / gradient,
        further_in_gradients: (vectors > 1).then(|| (whole - first) / (vectors - 1) as f64 / gradient),
    })
}

/// A step with products of mixed precision; `single` is the time of one without.
pub fn mixed(
    gpu: &Gpu,
    variants: &Variants,
    mixed: &Variants,
    shape: Shape,
    single: Option<f64>,
    deadline: Instant,
) -> Result<Mixed, Failure> {
    let work = Workload::new(shape)?;
    let own = times(gpu, &work, mixed, deadline)?;
    let exact = times(gpu, &work, variants, Instant::now())?;
    let pairs = || own.values.0.iter().flatten().zip(exact.values.0.iter().flatten());
    let difference: f64 = pairs().map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let norm: f64 = pairs().map(|(_, b)| f64::from(*b).powi(2)).sum();
    let step = median(&own.step);
    Ok(Mixed {
        shape: shape.text(),
        variants: mixed.to_string(),
        repeats: own.step.len(),
        gradient_seconds: median(&own.gradient),
        step_seconds: step,
        faster: single.map(|s| s / step),
        gradient_difference: (difference / norm).sqrt(),
    })
}

/// Multiplications and additions of a published case's gradient.
pub fn published_flops(case: &Published) -> Result<f64, Failure> {
    let encoder = Encoder::new(&case.model).map_err(Failure::usage)?;
    let sum = |f: fn(&Sentence) -> usize| case.sentences.iter().map(f).sum::<usize>() as u64;
    let (rows, masked) = (sum(|s| s.ids.len()), sum(|s| s.masked.len()));
    Ok(3.0 * encoder.forward_flops(rows, masked, sum(|s| s.ids.len().pow(2))) as f64)
}

/// Forward, and forward with backward, of a case that others publish.
pub fn published(
    gpu: &Gpu,
    variants: &Variants,
    case: &Published,
    deadline: Instant,
) -> Result<PublishedCase, Failure> {
    let flops = published_flops(case)?;
    let start = Instant::now();
    let encoder = Encoder::new(&case.model).map_err(Failure::usage)?;
    let dims = dims_for(&case.sentences, case.sentences.len());
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let model = Model::new(&Device::new(gpu, *variants), &encoder, &weights)?;
    drop(weights);
    let forward = ForwardPass::new(&model, dims, Labels::Hard, false)?;
    let gradient = GradientPass::new(&model, dims, Labels::Hard)?;
    // Kernels are compiled in the first round.
    let losses = forward.run(&case.sentences)?;
    gradient.run(&case.sentences)?;
    let first_seconds = start.elapsed().as_secs_f64();
    let [mut forwards, mut gradients] = [vec![], vec![]];
    while gradients.len() < REPEATS && (gradients.is_empty() || Instant::now() < deadline) {
        forwards.push(seconds(|| forward.run(&case.sentences).map(|_| ()))?);
        gradients.push(seconds(|| gradient.run(&case.sentences).map(|_| ()))?);
    }
    let [forward_seconds, gradient_seconds] = [median(&forwards), median(&gradients)];
    Ok(PublishedCase {
        name: case.name.into(),
        parameters: encoder.parameter_count(),
        tokens: case.sentences.iter().map(|s| s.ids.len()).sum(),
        repeats: gradients.len(),
        first_seconds,
        forward_seconds,
        gradient_seconds,
        gflops: flops / gradient_seconds / 1e9,
        loss: losses.iter().map(|l| l.loss).sum::<f64>() / losses.len() as f64,
    })
}
