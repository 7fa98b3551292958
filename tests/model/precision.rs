//! Loss scaling, and mixed precision where an adapter has it.

use crate::common::adapter::gpu;
use lowland::config::Resolved;
use lowland::ops::Variants;
use lowland::train::{self, RunError};

const CONFIG: &str = "
    [language]
    random = { levels = 3, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
    max_length = 8
    [model]
    hidden_size = 16
    num_hidden_layers = 1
    num_attention_heads = 2
    intermediate_size = 32
    [train]
    steps = 12
    batch_size = 16
    evaluate_every = 0
    [evaluate]
    sentences = 20
";

/// A run's weights and its lines of metrics.
fn trained(overrides: &[&str]) -> Result<(Vec<u8>, Vec<serde_json::Value>, f64), RunError> {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let output = format!("output={:?}", folder.path().join("run").display().to_string());
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).chain([output]).collect();
    let resolved = Resolved::from_text(CONFIG, "precision", &overrides).unwrap();
    let outcome = train::run(&gpu, &resolved, &train::Quiet)?;
    let weights = std::fs::read(outcome.folder.join("model/model.safetensors")).unwrap();
    let metrics = std::fs::read_to_string(outcome.folder.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let kept = lines.filter(|l| l["gradient_norm"].is_number()).map(|mut l| {
        for clock in ["seconds", "sentences_per_second", "queue_idle"] {
            l[clock] = serde_json::Value::Null;
        }
        l
    });
    Ok((weights, kept.collect(), outcome.evaluation.excess_loss.expect("of a grammar")))
}

#[test]
fn a_loss_scale_changes_no_bit_of_an_f32_run() {
    for more in [
        &[][..],
        &["train.micro_batch=8"],
        &["train.clip=0.5"],
        &["train.optimizer={ kind = \"sgd\", momentum = 0.9 }"],
    ] {
        let plain = trained(more).unwrap();
        assert_eq!(plain.1.len(), 2);
        for scale in ["train.loss_scale=1024", "train.loss_scale=0.25"] {
            let scaled = trained(&[more, &[scale]].concat()).unwrap();
            assert_eq!(scaled.1, plain.1, "{more:?} {scale}");
            assert!(scaled.0 == plain.0, "{more:?} {scale}: other weights");
        }
    }
}

#[test]
fn only_powers_of_two_scale_exactly() {
    for scale in ["3", "0", "-2", "1e30"] {
        let error = Resolved::from_text(CONFIG, "precision", &[format!("train.loss_scale={scale}")]).unwrap_err();
        assert!(error.to_string().contains("power of two"), "{error}");
    }
}

#[test]
fn mixed_precision_comes_near_f32_or_is_refused_with_the_reason() {
    let caps = gpu().capabilities().clone();
    match (Variants::choose(&caps).mixed(&caps), trained(&["train.precision=mixed"])) {
        (Ok(_), Ok((_, _, excess))) => {
            let plain = trained(&[]).unwrap().2;
            assert!((excess - plain).abs() < 0.02 * plain, "excess loss {excess} in mixed precision, {plain} in f32");
        }
        (Err(lack), Err(RunError::Config(error))) => {
            let why = lack.to_string();
            assert!(error.place == "train.precision" && error.message.contains(&why), "{error}");
            assert!(why.contains("cooperative"), "{why}");
        }
        (able, ran) => panic!("able: {able:?}, ran: {:?}", ran.map(|r| r.2)),
    }
}

#[test]
fn a_variant_of_mixed_precision_never_comes_silently() {
    let gpu = gpu();
    let kernel_choice = "linear=cooperative-16".parse().unwrap();
    let resolved = Resolved::from_text(CONFIG, "precision", &[]).unwrap().with_kernels(&kernel_choice);
    assert!(matches!(train::plan(&gpu, &resolved), Err(RunError::Config(_))));
    assert!(Variants::all(gpu.capabilities()).iter().all(|v| !v.is_mixed()));
}
