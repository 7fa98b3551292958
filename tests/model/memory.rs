//! Memory: what a run takes against its plan, and layers that are computed again instead of kept.

use crate::common::adapter::fresh as gpu;
use lowland::config::Resolved;
use lowland::curvature::{
    Chunks, FormPass, Hutchinson, Matrix, ModelOperator, ProductPass, Stopping, Subject, hutchinson,
    hutchinson_by_products,
};
use lowland::model::{Arena, Encoder, ForwardPass, GradientPass, Model, ModelConfig, ModelKind, Weights, dims_for};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use lowland::train;

fn resolved(overrides: &[&str]) -> (tempfile::TempDir, Resolved) {
    let folder = tempfile::tempdir().unwrap();
    let text = "
        [language]
        random = { levels = 4, symbols = 4, rules = 3, vocabulary = 40, seed = 1 }
        max_length = 16
        [model]
        hidden_size = 32
        num_hidden_layers = 2
        num_attention_heads = 2
        intermediate_size = 128
        [train]
        steps = 2
        batch_size = 64
        evaluate_every = 0
        [evaluate]
        sentences = 300
    ";
    let output = format!("output={:?}", folder.path().join("run").display().to_string());
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).chain([output]).collect();
    (folder, Resolved::from_text(text, "memory", &overrides).unwrap())
}

#[test]
fn a_run_takes_what_its_plan_says() {
    for overrides in [
        &[][..],
        &["train.micro_batch=16"],
        &["train.recompute=true", "model.num_hidden_layers=4"],
        &["train.optimizer={ kind = \"sgd\", momentum = 0.0 }", "model.hidden_size=128"],
        &["train.batch_size=512", "evaluate.sentences=100"],
        &["objective.labels=expected", "model.type=bert"],
        &["objective.mask={ bernoulli = 0.3 }", "model.hidden_dropout_prob=0.1"],
        &["train.algorithm={ kind = \"sam\" }", "train.micro_batch=16", "model.hidden_size=128"],
        &["train.algorithm={ kind = \"sam\", norm = \"block\" }", "model.vocab_size=3000"],
        &["train.ema=0.9", "train.micro_batch=16", "model.hidden_size=128"],
        &["train.algorithm={ kind = \"adversarial\", task = \"b\", sentences = 64, batch = 200 }"],
        &["train.algorithm={ kind = \"adversarial\", task = \"a\", sentences = 64 }", "model.hidden_size=128"],
        &["measure={ every = 0, trace = { sentences = 300 } }"],
        &["measure={ every = 0, trace = { sentences = 64, draws = 16 }, noise = { sentences = 100 } }"],
        &["measure={ every = 0, trace = { sentences = 64 }, hessian_trace = { sentences = 100, probes = 8 } }"],
        &["measure={ every = 0, trace = { sentences = 64 }, top = { sentences = 64, products = 4 } }"],
        &["measure={ every = 0, trace = { sentences = 20 }, noise = { sentences = 64 } }", "model.hidden_size=128"],
    ] {
        // An adapter of its own, so that the peak is this run's.
        let gpu = gpu();
        let (_folder, resolved) = resolved(overrides);
        let plan = train::plan(&gpu, &resolved).unwrap();
        let outcome = train::run(&gpu, &resolved, &train::Quiet).unwrap();
        let ratio = outcome.peak_bytes as f64 / plan.bytes.total as f64;
        println!("{overrides:?}: {} of {} bytes planned, {ratio:.3}", outcome.peak_bytes, plan.bytes.total);
        assert!((0.9..=1.1).contains(&ratio), "{overrides:?}: {ratio:.3}: {:?}", plan.bytes);
    }
}

/// The gradient's bits and the bytes of its activations.
fn gradient(config: &ModelConfig, recompute: bool) -> (Vec<u32>, u64) {
    let gpu = gpu();
    let mut encoder = Encoder::new(config).unwrap();
    encoder.recompute = recompute;
    let weights = Weights::initial(&encoder.parameters, 0.3, 7);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let sentences: Vec<Sentence> = (0..24u32)
        .map(|i| Sentence {
            ids: (0..4 + i % 9).map(|t| (i * 7 + t * 5) % 19).collect(),
            segments: vec![],
            masked: vec![(i % 3, i % 19)],
            soft: vec![],
            ..Sentence::default()
        })
        .collect();
    let dims = dims_for(&sentences, sentences.len());
    let pass = GradientPass::new(&model, dims, Labels::Hard).unwrap();
    pass.run(&sentences).unwrap();
    let gradient = pass.gradient().read(&gpu, &encoder).unwrap();
    (gradient.0.concat().iter().map(|v| v.to_bits()).collect(), pass.memory().bytes())
}

#[test]
fn recomputed_layers_give_the_same_gradient_bit_for_bit_in_less_memory() {
    for kind in ModelKind::ALL {
        for dropout in [0.0, 0.2] {
            let config = ModelConfig {
                kind,
                vocab_size: 19,
                hidden_size: 16,
                num_hidden_layers: 6,
                num_attention_heads: 2,
                intermediate_size: 64,
                hidden_dropout_prob: dropout,
                attention_probs_dropout_prob: dropout,
                ..ModelConfig::default()
            };
            let (stored, stored_bytes) = gradient(&config, false);
            let (recomputed, recomputed_bytes) = gradient(&config, true);
            assert!(stored.iter().any(|b| *b != 0));
            assert_eq!(stored, recomputed, "{kind:?}, dropout {dropout}");
            println!("{kind:?}, dropout {dropout}: {recomputed_bytes} bytes instead of {stored_bytes}");
            assert!(2 * recomputed_bytes < stored_bytes, "{recomputed_bytes} bytes instead of {stored_bytes}");
        }
    }
}

/// The usual batch of a forward pass is halved until it takes 1 GiB at most, and no further.
#[test]
fn a_forward_batch_suits_memory() {
    let config = ModelConfig {
        vocab_size: 20_000,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 8,
        max_position_embeddings: 64,
        ..ModelConfig::small(ModelKind::Gpt2)
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let model = Model::new(&Device::of(&gpu()), &encoder, &weights).unwrap();
    // Logits of a sentence with 63 predicted tokens: 5.04 MB.
    let sentences = |predicted: u32| {
        let masked = (0..predicted).map(|t| (t, 4)).collect();
        vec![Sentence { ids: vec![5; 64], masked, ..Sentence::default() }; 300]
    };
    let batch = |predicted, exports| ForwardPass::batch_for(&model, &sentences(predicted), 256, Labels::Hard, exports);
    let logits = |batch: usize| batch as u64 * 63 * 20_000 * 4;
    let found = batch(63, true);
    assert!(found.is_power_of_two() && logits(found) <= 1 << 30, "{found}");
    let binds = model.gpu().capabilities().largest_binding;
    assert!(2 * logits(found) > (1 << 30).min(binds) / 2, "{found} where {binds} bytes are bound");
    assert_eq!(batch(1, false), 256);
    let few = ForwardPass::batch_for(&model, &sentences(1)[..3], 256, Labels::Hard, false);
    assert_eq!(few, 3);
}

#[test]
fn hessian_traces_take_what_their_passes_say() {
    let config = ModelConfig {
        vocab_size: 2000,
        hidden_size: 32,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 64,
        max_position_embeddings: 60,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let sentences: Vec<Sentence> = (0..6u32)
        .map(|i| Sentence { ids: (i..i + 20).collect(), masked: vec![(2, 7), (9, 8)], ..Sentence::default() })
        .collect();
    for by_products in [false, true] {
        // An adapter of its own, so that the peak is this trace's.
        let gpu = gpu();
        let model = Model::new(&Device::of(&gpu), &encoder, &Weights::initial(&encoder.parameters, 0.1, 1)).unwrap();
        let subject = Subject::new(&model, &sentences, &[], &Chunks { batch: 4, probes: 2 }).unwrap();
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let what = Hutchinson { stop: Stopping::after(4), ..Hutchinson::default() };
        let planned = match by_products {
            true => ProductPass::bytes(&subject, Matrix::Hessian),
            false => FormPass::bytes(&subject, true),
        };
        match by_products {
            true => drop(hutchinson_by_products(&operator, &[], &what, &mut |_| Ok(())).unwrap()),
            false => drop(hutchinson(&operator, &what, &mut |_| Ok(())).unwrap()),
        }
        let planned = planned.unwrap() + Arena::bytes(&encoder, gpu.alignment());
        let ratio = gpu.memory().1 as f64 / planned as f64;
        assert!((0.9..=1.1).contains(&ratio), "by products {by_products}: {ratio:.3}");
    }
}
