//! Enlarged models compute what the small ones do, over every ratio that divides.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::curvature::{Chunks, Drawing, Matrix, ModelOperator, Operator, Stopping, Subject};
use lowland::gpu::{Gpu, Step};
use lowland::model::{
    Encoder, Enlargement, ForwardPass, Loaded, Model, ModelConfig, Size, Weights, dims_for, enlarge, load,
    read_examples,
};
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::ops::{Batch, Device, Labels, LossDraw};
use lowland::reference::{Frame, Values, run};
use lowland::statistics::Target;

const MODELS: [&str; 13] = [
    "roberta-20",
    "roberta-32",
    "bert-24",
    "bert-18",
    "bert-untied",
    "postnorm-16",
    "postnorm-gelu-tanh",
    "bert-relu",
    "lstm-16",
    "lstm-20",
    "lstm-long",
    "lstm-untied",
    "lstm-plain",
];

/// A size that only some kinds have.
pub fn own(config: &ModelConfig, key: &str, size: u32) -> Option<u32> {
    config.kind.has_key(key).then_some(size)
}

fn logits(gpu: &Gpu, encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<f32> {
    let model = Model::new(&Device::of(gpu), encoder, weights).unwrap();
    let dims = dims_for(sentences, sentences.len());
    let pass = ForwardPass::new(&model, dims, Labels::Hard, true).unwrap();
    let rows = pass.run(sentences).unwrap().len();
    pass.logits(rows).unwrap()
}

/// Weights as the interpreter of graphs takes them: a matrix without padding each.
pub fn unpacked(encoder: &Encoder, weights: &Weights) -> Vec<Vec<f64>> {
    let packed = weights.pack(&encoder.parameters, &encoder.matrices);
    let plain = |(matrix, memory): (&lowland::model::Matrix, &Vec<f32>)| {
        let wide = matrix.cols.next_multiple_of(4) as usize;
        let rows = memory.chunks_exact(wide).take(matrix.rows as usize);
        rows.flat_map(|row| row[..matrix.cols as usize].iter().map(|v| f64::from(*v)).collect::<Vec<_>>()).collect()
    };
    encoder.matrices.iter().zip(&packed).map(plain).collect()
}

/// The same in double precision, by the interpreter of graphs.
pub fn exact_logits(encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<f64> {
    interpreted(encoder, &unpacked(encoder, weights), sentences)
}

pub fn interpreted(encoder: &Encoder, matrices: &[Vec<f64>], sentences: &[Sentence]) -> Vec<f64> {
    let layout = BatchLayout {
        tables: [encoder.config.vocab_size, encoder.config.max_position_embeddings, encoder.config.type_vocab_size],
        first_position: encoder.config.first_position(),
        segment: 4,
    };
    let batch = Batch::new(&layout, sentences);
    let frame = Frame { graph: &encoder.graph, batch: &batch, step: Step::default() };
    let mut values = Values::new();
    for (tensor, matrix) in encoder.tensors.iter().zip(matrices) {
        values.insert(*tensor, matrix.clone());
    }
    run(&frame, encoder.graph.nodes(), &mut values);
    values.remove(&encoder.logits).unwrap()
}

/// Weights that make attention far from uniform and norms far from their initial values.
pub fn livened(model: &Loaded) -> Weights {
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
                    heads: own(c, "num_attention_heads", h * c.num_attention_heads),
                    intermediate: own(c, "intermediate_size", f * c.intermediate_size),
                });
            }
        }
        sizes.push(Size { hidden: Some(2 * c.hidden_size), ..Size::default() });
        let zero = Size {
            intermediate: own(c, "intermediate_size", c.intermediate_size + 5),
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
    let refuse = |size: Size, method| enlarge(&model.encoder, &model.weights, size, method).unwrap_err().to_string();
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
    let error = enlarge(&encoder, &bert.weights, deeper, Enlargement::Duplicate).unwrap_err().to_string();
    assert!(error.contains("layer_norm_eps"), "{error}");

    let lstm = load(&fixture("lstm-16")).unwrap();
    let refuse =
        |size: Size| enlarge(&lstm.encoder, &lstm.weights, size, Enlargement::Duplicate).unwrap_err().to_string();
    assert_eq!(refuse(Size { heads: Some(4), ..hidden(32) }), "heads: a model of type \"lstm\" has none");
    assert!(refuse(Size { intermediate: Some(4), ..hidden(32) }).contains("intermediate"));
}

/// Tr F and Tr H of the mean loss in double precision: the Jacobian of the logits, every label, and second differences
/// of the loss, one parameter after another.
fn dense_traces(encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> (f64, f64) {
    let labels: Vec<u32> = sentences.iter().flat_map(|s| s.masked.iter().map(|(_, y)| *y)).collect();
    let n = labels.len() as f64;
    let classes = encoder.config.vocab_size as usize;
    let softmax = |row: &[f64]| {
        let most = row.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
        let e: Vec<f64> = row.iter().map(|z| (z - most).exp()).collect();
        let sum: f64 = e.iter().sum();
        (e.iter().map(|e| e / sum).collect::<Vec<f64>>(), most + sum.ln())
    };
    let loss = |logits: &[f64]| -> f64 {
        let one = |(row, y): (&[f64], &u32)| softmax(row).1 - row[*y as usize];
        logits.chunks_exact(classes).zip(&labels).map(one).sum::<f64>() / n
    };
    let mut matrices = unpacked(encoder, weights);
    let middle = interpreted(encoder, &matrices, sentences);
    let at = loss(&middle);
    let h = 1e-4;
    let (mut fisher, mut hessian) = (0.0, 0.0);
    for m in 0..matrices.len() {
        for i in 0..matrices[m].len() {
            let own = matrices[m][i];
            matrices[m][i] = own + h;
            let up = interpreted(encoder, &matrices, sentences);
            matrices[m][i] = own - h;
            let down = interpreted(encoder, &matrices, sentences);
            matrices[m][i] = own;
            hessian += (loss(&up) - 2.0 * at + loss(&down)) / (h * h);
            let rows = middle.chunks_exact(classes).zip(up.chunks_exact(classes)).zip(down.chunks_exact(classes));
            for ((row, up), down) in rows {
                let (p, _) = softmax(row);
                let j = |c: usize| (up[c] - down[c]) / (2.0 * h);
                let mean: f64 = (0..classes).map(|c| p[c] * j(c)).sum();
                fisher += (0..classes).map(|c| p[c] * (j(c) - mean).powi(2)).sum::<f64>() / n;
            }
        }
    }
    (fisher, hessian)
}

#[test]
fn traces_over_the_larger_parametrisation_are_those_of_a_dense_computation() {
    let gpu = gpu();
    let sizes = [
        (Size { hidden: Some(2), ..Size::default() }, Enlargement::Duplicate),
        (Size { layers: Some(1), intermediate: Some(3), ..Size::default() }, Enlargement::Zero),
    ];
    for name in ["roberta-tiny", "bert-tiny", "lstm-tiny"] {
        let model = load(&fixture(name)).unwrap();
        let sentences = read_examples(&fixture(name).join("examples.jsonl"), &model.encoder.config).unwrap();
        let c = &model.encoder.config;
        let (small, _) = dense_traces(&model.encoder, &model.weights, &sentences);
        for (by, method) in sizes {
            // Layers can be added behind a norm only where it is the identity after itself.
            let deeper = by.layers.unwrap_or(0) * u32::from(c.layer_norm_eps < 1e-9 && !name.starts_with("bert"));
            let size = Size {
                hidden: Some(by.hidden.unwrap_or(1) * c.hidden_size),
                layers: Some(c.num_hidden_layers + deeper),
                heads: None,
                intermediate: by.intermediate.and_then(|more| own(c, "intermediate_size", c.intermediate_size + more)),
            };
            let (encoder, weights) = enlarge(&model.encoder, &model.weights, size, method).unwrap();
            let (fisher, hessian) = dense_traces(&encoder, &weights, &sentences);
            let chunks = Chunks { batch: 4, probes: 64 };
            let subject =
                Subject::new(&Model::new(&Device::of(&gpu), &encoder, &weights).unwrap(), &sentences, &[], &chunks)
                    .unwrap();
            let mut drawing = Drawing::new(&subject, LossDraw::Exact, 0, 1).unwrap();
            let found = drawing
                .run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(()))
                .unwrap()
                .trace
                .estimate;
            assert!((found / fisher - 1.0).abs() < 1e-5, "{name} {method:?}: Tr F {found} against {fisher}");
            let operator = ModelOperator::new(&subject, Matrix::Hessian);
            let n = subject.size();
            let unit = |i: usize| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
            let forms = operator.quadratic_forms(&(0..n).map(unit).collect::<Vec<_>>()).unwrap();
            let weights: f64 = operator.weights().iter().sum();
            let mean = |per: &Vec<f64>| per.iter().zip(operator.weights()).map(|(v, w)| v * w).sum::<f64>() / weights;
            let found: f64 = forms.iter().map(mean).sum();
            assert!((found - hessian).abs() < 1e-4 * fisher, "{name} {method:?}: Tr H {found} against {hessian}");
            // The same function over other parameters has another trace; feed-forward units that are zero on both sides
            // have no gradient, so that they alone leave it as it is.
            match deeper == 0 && method == Enlargement::Zero {
                true => assert!((fisher / small - 1.0).abs() < 1e-9, "{name} {method:?}: {fisher} and {small}"),
                false => assert!((fisher / small - 1.0).abs() > 0.01, "{name} {method:?}: {fisher} and {small}"),
            }
        }
    }
}
