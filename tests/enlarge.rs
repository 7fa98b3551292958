//! Enlarged models compute what the small ones do, over every ratio that divides.

mod common;

use common::{fixture, gpu};
use lowland::gpu::{Gpu, Step};
use lowland::model::{
    Arena, Encoder, Enlargement, ForwardPass, Loaded, Size, Weights, dims_for, enlarge, load, read_examples,
};
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::ops::{Batch, Labels, Variants};
use lowland::reference::{Frame, Values, run};

const MODELS: [&str; 5] = ["roberta-20", "roberta-32", "bert-24", "bert-18", "bert-untied"];

fn logits(gpu: &Gpu, encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<f32> {
    let arena = Arena::of(gpu, encoder, weights).unwrap();
    let dims = dims_for(sentences, sentences.len());
    let variants = Variants::choose(gpu.capabilities());
    let pass = ForwardPass::new(gpu, encoder, &arena, dims, &variants, Labels::Hard, true).unwrap();
    let rows = pass.run(gpu, sentences).unwrap().len();
    pass.logits(gpu, rows).unwrap()
}

/// The same in double precision, by the interpreter of graphs.
fn exact_logits(encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<f64> {
    let layout = BatchLayout {
        tables: [encoder.config.vocab_size, encoder.config.max_position_embeddings, encoder.config.type_vocab_size],
        first_position: encoder.config.first_position(),
        segment: 4,
    };
    let batch = Batch::new(&layout, sentences);
    let frame = Frame { graph: &encoder.graph, batch: &batch, step: Step::default() };
    let mut values = Values::new();
    let packed = weights.pack(&encoder.parameters, &encoder.matrices);
    for ((tensor, matrix), memory) in encoder.tensors.iter().zip(&encoder.matrices).zip(&packed) {
        let wide = matrix.cols.next_multiple_of(4) as usize;
        let rows = memory.chunks_exact(wide).take(matrix.rows as usize);
        let plain = rows.flat_map(|row| row[..matrix.cols as usize].iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
        values.insert(*tensor, plain.collect());
    }
    run(&frame, encoder.graph.nodes(), &mut values);
    values.remove(&encoder.logits).unwrap()
}

/// Weights that make attention far from uniform and norms far from their initial values.
fn livened(model: &Loaded) -> Weights {
    let mut weights = model.weights.clone();
    for (parameter, values) in model.encoder.parameters.iter().zip(&mut weights.0) {
        let sharpens = parameter.name.contains(".self.query.") || parameter.name.contains(".self.key.");
        let norm = parameter.name.contains("LayerNorm") || parameter.name.contains("layer_norm");
        for (i, v) in values.iter_mut().enumerate() {
            let wave = ((i * 7 + parameter.name.len()) as f32).sin();
            match parameter.name.ends_with(".bias") {
                true => *v += 0.3 * wave,
                false if norm => *v += 0.4 * wave,
                false => *v *= if sharpens { 2.0 } else { 1.0 },
            }
        }
    }
    weights
}

#[test]
fn enlarged_models_give_the_same_logits() {
    let gpu = gpu();
    for name in MODELS {
        let model = load(&fixture(name)).unwrap();
        let sentences = read_examples(&fixture(name).join("examples.jsonl"), &model.encoder.config).unwrap();
        let weights = livened(&model);
        let wanted = logits(&gpu, &model.encoder, &model.weights, &sentences);
        let exact = exact_logits(&model.encoder, &weights, &sentences);
        let c = &model.encoder.config;
        let more_layers = c.layer_norm_eps < 1e-9 || name.starts_with("roberta");
        let mut sizes = vec![];
        for r in 1..=4u32 {
            for h in (1..=r).filter(|h| r % h == 0) {
                let f = 1 + (r + h) % 3;
                let layers = if more_layers { (r + h) % 3 } else { 0 };
                sizes.push(Size {
                    hidden: Some(r * c.hidden_size),
                    layers: Some(c.num_hidden_layers + layers),
                    heads: Some(h * c.num_attention_heads),
                    intermediate: Some(f * c.intermediate_size),
                });
            }
        }
        sizes.push(Size { hidden: Some(2 * c.hidden_size), ..Size::default() });
        let zero = Size {
            intermediate: Some(c.intermediate_size + 5),
            layers: Some(c.num_hidden_layers + u32::from(more_layers)),
            ..Size::default()
        };
        let cases = sizes.into_iter().map(|s| (s, Enlargement::Duplicate)).chain([(zero, Enlargement::Zero)]);
        for (size, method) in cases {
            let (large, larger) = enlarge(&model.encoder, &weights, size, method).unwrap();
            assert!(large.parameter_count() >= model.encoder.parameter_count());
            let spread = exact.iter().fold(0.0f64, |a, b| a.max(b.abs()));
            assert!(spread > 0.5, "{name}: logits that say nothing");
            // Weights of the larger model are rounded to single precision where they are divided by 3 or by √2.
            for (a, b) in exact_logits(&large, &larger, &sentences).iter().zip(&exact) {
                assert!((a - b).abs() <= 2e-6, "{name} {size:?} {method:?}, f64: {a} against {b}");
            }
            let (large, larger) = enlarge(&model.encoder, &model.weights, size, method).unwrap();
            let got = logits(&gpu, &large, &larger, &sentences);
            for (a, b) in got.iter().zip(&wanted) {
                assert!((a - b).abs() <= 1e-5, "{name} {size:?} {method:?}: {a} against {b}");
            }
        }
    }
}

#[test]
fn sizes_that_cannot_hold_the_model_are_refused_with_the_reason() {
    let model = load(&fixture("roberta-20")).unwrap();
    let refuse = |size: Size, method| enlarge(&model.encoder, &model.weights, size, method).unwrap_err();
    let hidden = |n: u32| Size { hidden: Some(n), ..Size::default() };
    assert!(refuse(hidden(30), Enlargement::Duplicate).contains("no multiple"));
    assert!(refuse(hidden(10), Enlargement::Duplicate).contains("smaller"));
    assert!(refuse(hidden(40), Enlargement::Zero).contains("layer norm"));
    let heads = Size { heads: Some(6), ..hidden(40) };
    assert!(refuse(heads, Enlargement::Duplicate).contains("heads would have to be cut"));

    let bert = load(&fixture("bert-24")).unwrap();
    let mut config = bert.encoder.config.clone();
    config.layer_norm_eps = 1e-5;
    let encoder = Encoder::new(&config).unwrap();
    let deeper = Size { layers: Some(4), ..Size::default() };
    let error = enlarge(&encoder, &bert.weights, deeper, Enlargement::Duplicate).unwrap_err();
    assert!(error.contains("layer_norm_eps"), "{error}");
}
