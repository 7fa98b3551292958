//! Tables of words that are larger than an adapter binds, against the same model with everything bound whole: on an
//! adapter whose bindings are kept so small that the table and its gradient fall into three windows, and nothing else
//! does. Products add up in another order, so that numbers agree to rounding.

use crate::common::adapter::gpu;
use lowland::config::Resolved;
use lowland::curvature::{
    Chunks, Drawing, Gradients, GramPass, Lanczos, Matrix, Measure, ModelOperator, Norms, Operator, Stopping, Subject,
    top_eigenpairs,
};
use lowland::gpu::{AdapterChoice, Gpu, Options};
use lowland::model::{
    Encoder, Enlargement, ForwardPass, GradientPass, Model, ModelConfig, ModelKind, Size, Weights, dims_for, enlarge,
    load,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels, LossDraw, Variants};
use lowland::random::{Purpose, Stream};
use lowland::statistics::Target;
use lowland::train;

/// Bytes of a binding: the table's 500 rows of 12 numbers take 24,000.
const BINDING: u64 = 8192;

fn limited(images: Option<bool>) -> Gpu {
    let choice = std::env::var("LOWLAND_ADAPTER").map_or(AdapterChoice::Best, |c| c.parse().expect("LOWLAND_ADAPTER"));
    let options = Options { binding: Some(BINDING), images, ..Options::default() };
    Gpu::open(&choice, options).expect("an adapter; `make test` installs a software one")
}

fn config(kind: ModelKind, tied: bool) -> ModelConfig {
    ModelConfig {
        kind,
        vocab_size: 498,
        hidden_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 16,
        max_position_embeddings: 12,
        tie_word_embeddings: tied,
        hidden_dropout_prob: 0.0,
        attention_probs_dropout_prob: 0.0,
        ..ModelConfig::default()
    }
}

fn models() -> Vec<Encoder> {
    let kinds = [(ModelKind::Bert, true), (ModelKind::RobertaPreLayerNorm, false), (ModelKind::Roberta, true)];
    kinds.into_iter().map(|(kind, tied)| Encoder::new(&config(kind, tied)).unwrap()).collect()
}

/// Sentences whose words, labels too, come from all three windows; some words several times.
fn sentences() -> Vec<Sentence> {
    let mut stream = Stream::new(7, Purpose::Test, 0);
    let one = |key: u64| {
        let mut ids: Vec<u32> = (0..4 + key % 3).map(|_| stream.below(498)).collect();
        ids.extend([497, 177, ids[0]]);
        let masked = vec![(1, stream.below(498)), (3, 175 + 177 * (key as u32 % 2))];
        Sentence { ids, masked, key, ..Sentence::default() }
    };
    (0..6).map(one).collect()
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Within rounding of each other, as vectors.
fn close<A: Copy + Into<f64>>(what: &str, got: &[A], want: &[A], bound: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let wide = |v: &[A]| -> Vec<f64> { v.iter().map(|x| (*x).into()).collect() };
    let (got, want) = (wide(got), wide(want));
    let difference: Vec<f64> = got.iter().zip(&want).map(|(a, b)| a - b).collect();
    let error = norm(&difference) / norm(&want);
    assert!(error <= bound, "{what}: {error:.1e} of {:.3e}", norm(&want));
}

fn on(gpu: &Gpu, variants: Variants, encoder: &Encoder) -> Model {
    let weights = Weights::initial(&encoder.parameters, 0.3, 3);
    Model::new(&Device::new(gpu, variants), encoder, &weights).unwrap()
}

fn batches(sentences: &[Sentence]) -> std::slice::Chunks<'_, Sentence> {
    sentences.chunks(2)
}

#[test]
fn logits_losses_and_gradients_are_those_of_a_whole_table() {
    let gpu = gpu();
    for small in [limited(None), limited(Some(false))] {
        for variants in Variants::all(gpu.capabilities()) {
            for encoder in models() {
                let all = sentences();
                let dims = dims_for(&all, 2);
                let run = |gpu: &Gpu| {
                    let model = on(gpu, variants, &encoder);
                    let forward = ForwardPass::new(&model, dims, Labels::Hard, true).unwrap();
                    let pass = GradientPass::new(&model, dims, Labels::Hard).unwrap();
                    let (mut logits, mut losses, mut gradients) = (vec![], vec![], vec![]);
                    for batch in batches(&all) {
                        losses.extend(forward.run(batch).unwrap().iter().map(|l| l.loss));
                        logits.extend(forward.logits(batch.iter().map(|s| s.masked.len()).sum()).unwrap());
                        pass.run(batch).unwrap();
                        gradients.push(pass.gradient().read(gpu, &encoder).unwrap());
                    }
                    (logits, losses, gradients, pass.dispatches())
                };
                let (got, want) = (run(&small), run(&gpu));
                assert!(got.3 > want.3, "{} dispatches, {} with a whole table", got.3, want.3);
                close("logits", &got.0, &want.0, 1e-6);
                close("losses", &got.1, &want.1, 1e-6);
                for (got, want) in got.2.iter().zip(&want.2) {
                    for ((parameter, got), want) in encoder.parameters.iter().zip(&got.0).zip(&want.0) {
                        // A key's bias moves all scores of a row alike: its gradient is rounding.
                        if want.iter().any(|v| v.abs() > 1e-5) {
                            close(&format!("{variants:?} {}", parameter.name), got, want, 5e-6);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn products_norms_and_traces_are_those_of_a_whole_table() {
    let (gpu, small) = (gpu(), limited(None));
    let all = sentences();
    for variants in Variants::all(gpu.capabilities()) {
        for encoder in models() {
            let models = [on(&small, variants, &encoder), on(&gpu, variants, &encoder)];
            let subject = |model: &Model| Subject::new(model, &all, &[], &Chunks { batch: 2, probes: 2 }).unwrap();
            let [small, whole] = [0, 1].map(|i| subject(&models[i]));
            let mut stream = Stream::new(1, Purpose::Test, 1);
            let mut vector = || (0..whole.size()).map(|_| stream.normal() as f32).collect::<Vec<f32>>();
            let probes = [vector(), vector()];
            for matrix in [Matrix::Hessian, Matrix::Ggn] {
                let [got, want] = [&small, &whole].map(|s| ModelOperator::new(s, matrix).apply(&probes).unwrap());
                for (got, want) in got.iter().zip(&want) {
                    close(&format!("{variants:?} {matrix:?}"), got, want, 2e-5);
                }
                let forms = |s: &Subject| ModelOperator::new(s, matrix).quadratic_forms(&probes).unwrap().concat();
                close("forms", &forms(&small), &forms(&whole), 2e-5);
            }
            let [got, want] = [&small, &whole].map(|s| Norms::measure(s, &mut |_| Ok(())).unwrap());
            close("norms", &got.squared, &want.squared, 1e-5);
            for ((parameter, got), want) in encoder.parameters.iter().zip(&got.per_parameter).zip(&want.per_parameter) {
                if want.iter().any(|v| *v > 1e-8) {
                    close(&parameter.name, got, want, 2e-5);
                }
            }
            // Inner products are of one batch.
            let gram = |model: &Model| {
                let one = Subject::new(model, &all[..2], &[], &Chunks { batch: 2, probes: 2 }).unwrap();
                GramPass::new(&one).unwrap().run(&one).unwrap().numbers().to_vec()
            };
            close("inner products", &gram(&models[0]), &gram(&models[1]), 1e-5);
            let own = |s: &Subject| Gradients::new(s).unwrap().of_example(s, 3).unwrap();
            close("one gradient", &own(&small), &own(&whole), 1e-5);
            for draw in [LossDraw::Signs, LossDraw::Label] {
                let traces = |s: &Subject| {
                    let mut drawing = Drawing::new(s, draw, 1, 3).unwrap();
                    let stop = Stopping::after(usize::MAX);
                    let result = drawing.run(s, Target::TheseExamples, &stop, &mut |_| Ok(())).unwrap();
                    (result.trace.estimate, result.per_tensor)
                };
                let (got, want) = (traces(&small), traces(&whole));
                close("trace", &[got.0], &[want.0], 1e-5);
                assert_eq!(got.1.len(), encoder.parameters.len(), "a number a parameter, not a window");
                for ((name, got), (_, tensor)) in got.1.iter().zip(&want.1) {
                    assert!((got - tensor).abs() <= 1e-5 * want.0, "{name}: {got} against {tensor}");
                }
            }
        }
    }
}

#[test]
fn spectra_are_those_of_a_whole_table() {
    let (gpu, small) = (gpu(), limited(None));
    let (all, encoder) = (sentences(), &models()[0]);
    let variants = Variants::choose(gpu.capabilities());
    let spectrum = |gpu: &Gpu| {
        let subject = Subject::new(&on(gpu, variants, encoder), &all, &[], &Chunks { batch: 2, probes: 2 }).unwrap();
        let hessian = subject.hessian();
        let what = Lanczos { top: 2, products: 60, ..Lanczos::default() };
        let top = top_eigenpairs(&hessian, &what, &mut |_| Ok(())).unwrap().eigenvalues;
        (top, hessian.trace().probes(4).unwrap().estimate)
    };
    let (got, want) = (spectrum(&small), spectrum(&gpu));
    close("eigenvalues", &got.0, &want.0, 1e-4);
    close("trace", &[got.1], &[want.1], 1e-4);
}

/// Training of a run's folder, its checkpoint taken up again, and what is written.
#[test]
fn training_and_checkpoints_are_those_of_a_whole_table() {
    let text = "
        [language]
        kind = \"hmm\"
        max_length = 5
        hmm = { states = 3, vocabulary = 494, transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }
        [model]
        hidden_size = 12
        num_hidden_layers = 1
        num_attention_heads = 2
        intermediate_size = 16
        [train]
        steps = 6
        batch_size = 8
        micro_batch = 2
        # So much decay that what decays too much or too little is far off.
        optimizer = { kind = \"adamw\", weight_decay = 1.0 }
        evaluate_every = 0
        checkpoint_every = 3
        keep_checkpoints = 0
        [evaluate]
        sentences = 4
    ";
    for more in [None, Some("train.algorithm={ kind = \"sam\" }")] {
        let run = |gpu: &Gpu| {
            let folder = tempfile::tempdir().unwrap();
            let output = folder.path().join("run");
            let place = format!("output={:?}", output.display().to_string());
            let overrides: Vec<String> = more.iter().map(|o| o.to_string()).chain([place]).collect();
            let resolved = Resolved::from_text(text, "windows", &overrides).unwrap();
            let plan = train::plan(gpu, &resolved).unwrap();
            assert!(plan.refused.is_none(), "{more:?}: {:?}", plan.refused.map(|r| r.limit.to_string()));
            train::run(gpu, &resolved, &train::Quiet).unwrap();
            (folder, resolved, load(&output.join("model")).unwrap().weights)
        };
        let (small, whole) = (limited(None), gpu());
        let ((folder, resolved, got), (_whole, _, want)) = (run(&small), run(&whole));
        close(&format!("{more:?}"), &got.0.concat(), &want.0.concat(), 1e-4);
        // As if killed after step 3.
        let output = folder.path().join("run");
        std::fs::remove_file(output.join("result.json")).unwrap();
        std::fs::remove_dir_all(output.join("model")).unwrap();
        std::fs::remove_dir_all(output.join("checkpoints/step-6")).unwrap();
        train::run(&small, &resolved, &train::Quiet).unwrap();
        assert_eq!(load(&output.join("model")).unwrap().weights, got, "{more:?}: the same bits from a checkpoint");
    }
}

/// The small model's table can be bound whole, the enlarged one's cannot.
#[test]
fn an_enlarged_model_may_be_too_large_to_bind_whole() {
    let small = limited(None);
    let slim = ModelConfig { hidden_size: 4, num_attention_heads: 1, ..config(ModelKind::Bert, true) };
    let encoder = Encoder::new(&slim).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.3, 3);
    let size = Size { hidden: Some(12), ..Size::default() };
    let (large, larger) = enlarge(&encoder, &weights, size, Enlargement::Duplicate).unwrap();
    let all = sentences();
    let logits = |encoder: &Encoder, weights: &Weights| {
        let model = Model::new(&Device::of(&small), encoder, weights).unwrap();
        let pass = ForwardPass::new(&model, dims_for(&all, 2), Labels::Hard, true).unwrap();
        let read = |batch: &[Sentence]| {
            pass.run(batch).unwrap();
            pass.logits(batch.iter().map(|s| s.masked.len()).sum()).unwrap()
        };
        batches(&all).flat_map(read).collect::<Vec<f32>>()
    };
    close("logits", &logits(&large, &larger), &logits(&encoder, &weights), 1e-5);
}

/// What no windows help with is refused by name, before anything is allocated.
#[test]
fn logits_that_cannot_be_bound_are_refused() {
    let small = limited(None);
    let (all, encoder) = (sentences(), &models()[0]);
    let model = on(&small, Variants::choose(small.capabilities()), encoder);
    let refused =
        ForwardPass::new(&model, dims_for(&all, 6), Labels::Hard, true).err().expect("12 rows of 498 numbers");
    let text = refused.to_string();
    assert!(text.contains("(12 x 498) takes 0.0 MiB, and this adapter binds at most 0.0 MiB"), "{text}");
}
