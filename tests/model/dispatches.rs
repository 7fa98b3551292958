//! What a training step hands to the adapter: on a software one a dispatch costs tens of microseconds whatever it does.

use crate::common::adapter::gpu;
use lowland::config::TrainSection;
use lowland::gpu::Gpu;
use lowland::model::dims_for;
use lowland::model::{
    Encoder, Given, GradientPass, HiddenAct, Model, ModelConfig, ModelKind, Recipe, TokenIds, Weights,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Batch, Device, Labels};
use lowland::random::{Purpose, Stream};
use lowland::train::Trainer;

const WORDS: usize = 30;

fn config(kind: ModelKind, layers: u32) -> ModelConfig {
    let llama = kind == ModelKind::Llama;
    ModelConfig {
        kind,
        vocab_size: WORDS as u32 + 4,
        hidden_size: 32,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        num_key_value_heads: llama.then_some(2),
        intermediate_size: 64,
        max_position_embeddings: 16,
        hidden_act: match kind {
            ModelKind::Gpt2 => HiddenAct::GeluNew,
            ModelKind::Opt => HiddenAct::Relu,
            ModelKind::Llama => HiddenAct::Silu,
            _ => HiddenAct::Gelu,
        },
        ..ModelConfig::default()
    }
}

/// So many that sums over rows fall into several blocks.
fn sentences(kind: ModelKind) -> Vec<Sentence> {
    let ids = TokenIds::new(WORDS);
    let mut random = Stream::new(1, Purpose::Test, 0);
    let sentence = |_| {
        let words: Vec<u32> = (0..8).map(|_| random.below(WORDS as u32)).collect();
        match kind.is_causal() {
            true => ids.next(&words, 0..9),
            false => ids.mask(&words, 3),
        }
    };
    (0..128).map(sentence).collect()
}

fn model(gpu: &Gpu, kind: ModelKind, layers: u32) -> Model {
    let encoder = Encoder::new(&config(kind, layers)).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.1, 1);
    Model::new(&Device::of(gpu), &encoder, &weights).unwrap()
}

#[test]
fn a_step_of_four_layers_is_few_dispatches() {
    let gpu = gpu();
    if !gpu.capabilities().software {
        return;
    }
    for (kind, most) in [
        (ModelKind::RobertaPreLayerNorm, 99),
        (ModelKind::Bert, 97),
        (ModelKind::Gpt2, 92),
        (ModelKind::Opt, 92),
        (ModelKind::Llama, 111),
    ] {
        let sentences = sentences(kind);
        let dims = dims_for(&sentences, sentences.len());
        let train = TrainSection { batch_size: sentences.len() as u32, steps: 10, ..TrainSection::default() };
        let trainer = Trainer::new(model(&gpu, kind, 4), &train, Labels::Hard, dims, 1).unwrap();
        let count = trainer.dispatches();
        println!("{}: {count}", kind.name());
        assert!(count <= most, "{}: {count} dispatches a step", kind.name());
    }
}

#[test]
fn sums_that_wait_to_the_end_are_the_same_bits() {
    let gpu = gpu();
    // Some twelve sums a layer: fewer than half of those that a dispatch has room for, more than half, more than all.
    for (kind, layers) in [(ModelKind::Bert, 1), (ModelKind::Llama, 1), (ModelKind::Bert, 4), (ModelKind::Bert, 7)] {
        let (model, sentences) = (model(&gpu, kind, layers), sentences(kind));
        let dims = dims_for(&sentences, sentences.len());
        let pass = GradientPass::new(&model, dims, Labels::Hard).unwrap();
        pass.run(&sentences).unwrap();
        let late = Recipe::gradient(&model.encoder, Labels::Hard).0;
        // Gradients that lie among the activations are added up where they are made.
        let mut encoder = model.encoder.clone();
        encoder.graph.gather_early();
        encoder.graph.gather_queries();
        let (mut graph, _, weight, gradients) = encoder.with_gradient(Labels::Hard);
        graph.prune(&gradients);
        graph.fuse();
        let recipe = Recipe::new(graph, &model.encoder, Labels::Hard).give(Given::Weight, [weight]).keep(&gradients);
        let bound = recipe.plan(&model, dims, &[]).unwrap();
        let batch = Batch::new(&bound.layout, &sentences);
        bound.write(&batch, 1.0 / batch.masked() as f32).unwrap();
        bound.plan.run(&gpu, &batch.step(1)).unwrap();
        let sums = bound.plan.program().len() - pass.dispatches();
        assert!(sums >= 4 * layers as usize, "{sums} sums waited");
        let (planned, _) = late.dispatches(&model, &dims).unwrap();
        assert_eq!(planned, pass.dispatches(), "{}: dispatches, as planned", kind.name());
        for ((late, id), matrix) in pass.gradient().matrices.iter().zip(&gradients).zip(&model.encoder.matrices) {
            // Behind the last row is memory of others.
            let numbers = (matrix.rows * matrix.cols.next_multiple_of(4)) as usize;
            let [late, now] = [late, bound.buffer(*id)].map(|buffer| gpu.read::<u32>(buffer, numbers).unwrap());
            assert_eq!(late, now, "{}: {}", kind.name(), matrix.name);
        }
    }
}
