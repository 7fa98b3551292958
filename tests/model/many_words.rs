//! Vocabularies of language models: losses, draws and norms whose loops over the words, one after another, would be
//! longer than a software driver lets them be.

use crate::common::adapter::gpu;
use lowland::curvature::{
    Chunks, Gradients, GramPass, Matrix, ModelOperator, Norms, Operator, ProbeKind, Probes, ProductSums, Subject, dot,
};
use lowland::gpu::Step;
use lowland::graph::{Emit, Graph, TensorId};
use lowland::model::{Encoder, Model, ModelConfig, ModelKind, Weights};
use lowland::ops::batch::{BatchLayout, Sentence};
use lowland::ops::counts::MASKED;
use lowland::ops::{Batch, Device, Labels, LossDraw, Rule, Variants, call};
use lowland::random::{Purpose, Stream};
use lowland::reference::{Frame, Values, run};

const ROWS: u32 = 2;

/// Within a bound of the tensor's largest number.
fn close(what: &str, got: &[f32], want: &[f64], bound: f64) {
    let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let off = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
    assert_eq!(got.len(), want.len(), "{what}");
    assert!(off <= bound * largest, "{what}: off by {off:.1e} of {largest:.1e}");
}

#[test]
fn losses_and_draws_over_many_words_are_those_of_double_precision() {
    let gpu = gpu();
    for words in [50_257u32, 100_000, 152_001] {
        let mut graph = Graph::default();
        let logits = graph.input("logits", MASKED, words);
        let loss = graph.cross_entropy(logits, Labels::Hard);
        let weight = graph.input("weight", MASKED, 4);
        let z_bar = graph.gradient_for(&[(loss, weight)], |id| id == logits)[&logits];
        let direction = graph.probe("direction", MASKED, words);
        let tangents = graph.tangent(&[(logits, direction)]);
        let draw =
            |graph: &mut Graph, kind: LossDraw| graph.push(call(kind, Rule::Forward, &[logits, loss]), "draw")[0];
        let signs = draw(&mut graph, LossDraw::Signs);
        let label = draw(&mut graph, LossDraw::Label);
        let mut stream = Stream::new(u64::from(words), Purpose::Test, 0);
        // The first word, which all labels are, and some at the end have much of the mass.
        let mut values: Vec<f32> = (0..ROWS * words).map(|_| stream.normal() as f32).collect();
        for row in values.chunks_exact_mut(words as usize) {
            row[0] += 9.0;
            row[words as usize - 1] += 10.0;
        }
        let moved: Vec<f32> = (0..ROWS * words).map(|_| stream.normal() as f32).collect();
        let weights = [0.5, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        let given: [(TensorId, &[f32]); 3] = [(logits, &values), (weight, &weights), (direction, &moved)];

        let layout = BatchLayout { tables: [1, ROWS, 1], first_position: 0, segment: 4 };
        let masked = (0..ROWS).map(|position| (position, 0)).collect();
        let batch = Batch::new(&layout, &[Sentence { ids: vec![0; ROWS as usize], masked, ..Sentence::default() }]);
        let mut exact = Values::new();
        exact.extend(given.iter().map(|(id, v)| (*id, v.iter().map(|x| f64::from(*x)).collect())));
        let wanted = [loss, z_bar, tangents[&loss], tangents[&z_bar], signs, label];
        run(
            &Frame { graph: &graph, batch: &batch, step: Step { probes: 1, ..batch.step(1) } },
            graph.nodes(),
            &mut exact,
        );
        for variants in Variants::all(gpu.capabilities()) {
            let got = graph.evaluate(&Device::new(&gpu, variants), ROWS, &given, &wanted).unwrap();
            for (id, got) in wanted.iter().zip(&got) {
                let what = format!("{words} words: `{}`", graph.tensor(*id).name);
                // Sums of so many numbers, one after another in f32.
                close(&what, got, &exact[id], 2e-4);
            }
        }
    }
}

#[test]
fn norms_over_many_words_are_those_of_formed_gradients() {
    let gpu = gpu();
    for (kind, tied) in [(ModelKind::Roberta, true), (ModelKind::Bert, false)] {
        let config = ModelConfig {
            kind,
            vocab_size: 20_000,
            hidden_size: 12,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 16,
            max_position_embeddings: 60,
            tie_word_embeddings: tied,
            ..ModelConfig::default()
        };
        let encoder = Encoder::new(&config).unwrap();
        let weights = Weights::initial(&encoder.parameters, 0.3, 3);
        let mut stream = Stream::new(5, Purpose::Test, 0);
        let mut sentence = |words: u32| {
            let ids: Vec<u32> = (0..words).map(|_| 10 + stream.below(40) * 400).collect();
            let masked = (1..words - 1).map(|at| (at, 10 + stream.below(40) * 400)).collect();
            Sentence { ids, masked, key: u64::from(words), ..Sentence::default() }
        };
        let sentences = [sentence(40), sentence(21)];
        let chunks = Chunks { batch: 2, probes: 1 };
        for variants in Variants::all(gpu.capabilities()) {
            let model = Model::new(&Device::new(&gpu, variants), &encoder, &weights).unwrap();
            let subject = Subject::new(&model, &sentences, &[], &chunks).unwrap();
            let pass = Gradients::new(&subject).unwrap();
            let formed = [0, 1].map(|i| pass.of_example(&subject, i).unwrap());
            let inner = |i: usize, j: usize| -> f64 {
                formed[i].iter().zip(&formed[j]).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
            };
            let of_rows = |error: String| {
                // The plain kernels' loops over so many pairs and words are refused where a driver would end them.
                assert!(gpu.capabilities().software && error.contains("iterations"), "{variants:?}: {error}");
            };
            match Norms::measure(&subject, &mut |_| Ok(())) {
                Ok(norms) => {
                    for (i, norm) in norms.squared.iter().enumerate() {
                        let want = inner(i, i);
                        assert!((norm / want - 1.0).abs() < 2e-5, "{kind:?} {variants:?}: {norm} against {want}");
                    }
                }
                Err(error) => of_rows(error.to_string()),
            }
            match GramPass::new(&subject).and_then(|pass| pass.run(&subject)) {
                Ok(gram) => {
                    let scale = (inner(0, 0) * inner(1, 1)).sqrt();
                    let (got, want) = (gram.numbers()[2], inner(1, 0));
                    assert!((got - want).abs() < 2e-5 * scale, "{kind:?} {variants:?}: {got} against {want}");
                }
                Err(error) => of_rows(error.to_string()),
            }
        }
        let chosen = Device::of(&gpu);
        let model = Model::new(&chosen, &encoder, &weights).unwrap();
        let subject = Subject::new(&model, &sentences, &[], &chunks).unwrap();
        assert!(
            Norms::measure(&subject, &mut |_| Ok(())).is_ok() && GramPass::new(&subject).unwrap().run(&subject).is_ok()
        );
    }
}

/// A table of more than a step of what goes between host and adapter (8 MiB), with rows of padding behind it.
#[test]
fn products_of_probes_over_a_large_table_are_those_of_whole_vectors() {
    let config = ModelConfig {
        vocab_size: 66_001,
        hidden_size: 36,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 16,
        max_position_embeddings: 60,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let mut stream = Stream::new(6, Purpose::Test, 0);
    let mut sentence = |words: u32| {
        let ids: Vec<u32> = (0..words).map(|_| 10 + stream.below(65_000)).collect();
        Sentence { ids, masked: vec![(1, 70), (3, 65_999)], key: u64::from(words), ..Sentence::default() }
    };
    let sentences = [sentence(8), sentence(5)];
    let weights = Weights::initial(&encoder.parameters, 0.3, 3);
    let model = Model::new(&Device::of(&gpu()), &encoder, &weights).unwrap();
    assert!(model.weights().unwrap() == weights, "the weights are not read as they were written");
    // Both in one batch, and one after another: the sums over batches lie on the host.
    for batch in [2, 1] {
        let subject = Subject::new(&model, &sentences, &[], &Chunks { batch, probes: 2 }).unwrap();
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let probes = Probes { kind: ProbeKind::Rademacher, seed: 4, numbers: 1..4, size: subject.size() };
        let whole = probes.vectors();
        let images = operator.apply(&whole).unwrap();
        let parts: Vec<_> = subject.vectors().parts(&encoder).map(|(_, place)| place).collect();
        let of_whole: Vec<ProductSums> =
            whole.iter().zip(&images).map(|(v, a)| ProductSums::of(v, a, &parts)).collect();
        let forms = operator.quadratic_forms(&whole).unwrap();
        assert_eq!(operator.products_of_probes(&probes, &parts).unwrap(), of_whole);
        assert_eq!(operator.quadratic_forms_of_probes_so_far(&probes).unwrap(), forms);
        for ((v, image), (sums, forms)) in whole.iter().zip(&images).zip(of_whole.iter().zip(&forms)) {
            assert_eq!((sums.form, sums.square), (dot(v, image), dot(image, image)));
            for (own, part) in sums.parts.iter().zip(&parts) {
                assert_eq!(*own, dot(&v[part.clone()], &image[part.clone()]));
            }
            // Quadratic forms go by no product.
            let mean: f64 = forms.iter().zip(subject.weights()).map(|(form, weight)| form * weight).sum();
            assert!((sums.form - mean).abs() < 1e-3 * mean.abs().max(dot(image, image).sqrt()), "{sums:?} {mean}");
        }
    }
}
