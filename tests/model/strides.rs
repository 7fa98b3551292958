//! Where results lie and how they are stored: that no number depends on it.

use crate::common::adapter::gpu;
use lowland::graph::TensorId;
use lowland::model::{
    Encoder, Given, GradientPass, HiddenAct, Model, ModelConfig, ModelKind, Recipe, TokenIds, Weights, dims_for,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Batch, Device, Dims, Family, Labels, Variants};
use lowland::random::{Purpose, Stream};

const WORDS: usize = 30;

/// Feed-forward units 1 KiB wide, and by the second width products that subgroups of 8 lanes do by twice as many rows.
fn model(kind: ModelKind, hidden: u32, units: u32) -> Model {
    let config = ModelConfig {
        kind,
        vocab_size: WORDS as u32 + 4,
        hidden_size: hidden,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: (kind == ModelKind::Llama).then_some(2),
        intermediate_size: units,
        max_position_embeddings: 16,
        hidden_act: if kind == ModelKind::Llama { HiddenAct::Silu } else { HiddenAct::Gelu },
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.1, 1);
    Model::new(&Device::of(&gpu()), &encoder, &weights).unwrap()
}

/// The bits of a pass's gradient.
fn bits(pass: &GradientPass, model: &Model) -> Vec<Vec<u32>> {
    let numbers = model.encoder.matrices.iter().map(|m| (m.rows * m.cols.next_multiple_of(4)) as usize);
    let matrices = pass.gradient().matrices.iter();
    matrices.zip(numbers).map(|(buffer, n)| model.gpu().read::<u32>(buffer, n).unwrap()).collect()
}

fn sentences(kind: ModelKind, count: usize) -> Vec<Sentence> {
    let ids = TokenIds::new(WORDS);
    let mut random = Stream::new(3, Purpose::Test, 0);
    let sentence = |i: usize| {
        let words: Vec<u32> = (0..3 + i % 6).map(|_| random.below(WORDS as u32)).collect();
        if kind.is_causal() { ids.next(&words, 0..words.len() + 1) } else { ids.mask(&words, 2) }
    };
    (0..count).map(sentence).collect()
}

#[test]
fn gradients_are_the_same_bits_with_and_without_room_between_rows() {
    let kinds = [ModelKind::RobertaPreLayerNorm, ModelKind::Bert, ModelKind::Llama];
    for (kind, hidden, units) in kinds.map(|kind| (kind, 16, 256)).into_iter().chain([(kinds[0], 128, 512)]) {
        let (model, sentences) = (model(kind, hidden, units), sentences(kind, 37));
        let gpu = model.gpu();
        // The pass has room for more sentences than there are.
        let mut dims = dims_for(&sentences, sentences.len());
        dims.rows += 50;
        let pass = GradientPass::new(&model, dims, Labels::Hard).unwrap();
        pass.run(&sentences).unwrap();
        let strides = &pass.memory().strides;
        let by_subgroups = model.variants().linear(Family::LinearNt).lanes().is_some();
        assert_eq!(!strides.is_empty(), by_subgroups, "{}: {strides:?}", kind.name());
        assert!(strides.values().all(|stride| *stride == units / 4 + 4), "{strides:?}");

        // What is kept is read by others, and so has none.
        let mut encoder = model.encoder.clone();
        encoder.graph.gather_early();
        encoder.graph.gather_queries();
        let (mut graph, _, weight, gradients) = encoder.with_gradient(Labels::Hard);
        graph.prune(&gradients);
        graph.fuse();
        let values: Vec<TensorId> = graph.nodes().iter().flat_map(|node| node.outputs.clone()).collect();
        let recipe = Recipe::new(graph, &model.encoder, Labels::Hard).give(Given::Weight, [weight]).keep(&values);
        assert!(recipe.memory(&model.device, &dims).strides.is_empty());
        let bound = recipe.plan(&model, dims, &[]).unwrap();
        let batch = Batch::new(&bound.layout, &sentences);
        bound.write(&batch, 1.0 / batch.masked() as f32).unwrap();
        bound.plan.run(gpu, &batch.step(1)).unwrap();
        for ((apart, id), matrix) in pass.gradient().matrices.iter().zip(&gradients).zip(&model.encoder.matrices) {
            let numbers = (matrix.rows * matrix.cols.next_multiple_of(4)) as usize;
            let [apart, dense] = [apart, bound.buffer(*id)].map(|buffer| gpu.read::<u32>(buffer, numbers).unwrap());
            assert_eq!(apart, dense, "{}: {}", kind.name(), matrix.name);
        }
    }
}

/// Long runs take variants of their own, which make the same numbers: here results are stored a lane after another
/// where the driver gains by that.
#[test]
fn gradients_are_the_same_bits_with_the_variants_of_long_runs() {
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Llama] {
        let (short, sentences) = (model(kind, 64, 128), sentences(kind, 1301));
        let variants = Variants::for_long(short.gpu().capabilities());
        let device = Device::new(short.gpu(), variants);
        let long = Model::new(&device, &short.encoder, &short.weights().unwrap()).unwrap();
        if variants == *short.variants() {
            println!("this adapter has no variants for long runs");
        }
        let mut dims = dims_for(&sentences, sentences.len());
        (dims.rows, dims.sentences) = (dims.rows + 50, dims.sentences + 3);
        // Where it is not known how long sentences are, attention takes those of any length.
        let of_any = Dims { longest: 0, ..dims };
        let [of_short, any @ ..] = [(&short, dims), (&long, dims), (&short, of_any)].map(|(model, dims)| {
            let pass = GradientPass::new(model, dims, Labels::Hard).unwrap();
            pass.run(&sentences).unwrap();
            bits(&pass, model)
        });
        assert!(any.iter().all(|other| *other == of_short), "{}", kind.name());
    }
}
