//! The recipe of the paper's released code, option by option, against enumeration.

use crate::common::adapter::gpu;
use lowland::config::{EvaluateSection, Positions, Resolved, RunConfig};
use lowland::gpu::Gpu;
use lowland::language::entropy;
use lowland::model::{Encoder, ForwardPass, Model, ModelConfig, Weights, dims_for};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use lowland::train::{self, Corpus, Evaluator, held_out_seed, plan};

const CONFIG: &str = r#"
seed = 3
[language]
kind = "hmm"
hmm = { states = 3, vocabulary = 9, transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }
min_length = 1
max_length = 9
[model]
hidden_size = 20
num_hidden_layers = 2
num_attention_heads = 2
intermediate_size = 32
[train]
steps = 40
batch_size = 32
checkpoint_every = 10
keep_checkpoints = 0
evaluate_every = 0
[evaluate]
sentences = 50
"#;

fn corpus() -> Corpus {
    let config = RunConfig::parse(CONFIG, "x").unwrap();
    Corpus::open(&config.language, &config.objective, config.seed).unwrap()
}

fn model(gpu: &Gpu) -> Model {
    let config = ModelConfig {
        vocab_size: 13,
        hidden_size: 20,
        num_attention_heads: 2,
        num_hidden_layers: 2,
        intermediate_size: 32,
        max_position_embeddings: 13,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.3, 7);
    Model::new(&Device::of(gpu), &encoder, &weights).unwrap()
}

/// For each sentence, cross-entropy and entropy of every position, in double precision from the logits of a sentence with
/// that position masked.
fn enumerated(gpu: &Gpu, corpus: &Corpus, count: u64) -> Vec<Vec<(f64, f64)>> {
    let model = model(gpu);
    let sentence = |i: u64| {
        let words = corpus.language.sample(held_out_seed(corpus.seed), i);
        let conditional = corpus.language.conditional(&words).unwrap().conditional;
        let inputs: Vec<Sentence> = (0..words.len()).map(|t| corpus.tokens.mask(&words, t)).collect();
        let pass = ForwardPass::new(&model, dims_for(&inputs, inputs.len()), Labels::Hard, true).unwrap();
        pass.run(&inputs).unwrap();
        let logits = pass.logits(inputs.len()).unwrap();
        let position = |(row, p): (&[f32], &Vec<f64>)| {
            let z = row.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
            let cross = p.iter().enumerate().map(|(w, p)| p * (z - f64::from(row[4 + w]))).sum::<f64>();
            (cross, entropy(p))
        };
        logits.chunks_exact(13).zip(&conditional).map(position).collect()
    };
    (0..count).map(sentence).collect()
}

#[test]
fn evaluation_over_all_positions_is_the_mean_over_positions_and_not_over_sentences() {
    let gpu = gpu();
    let corpus = corpus();
    let truth = enumerated(&gpu, &corpus, 40);
    let flat: Vec<(f64, f64)> = truth.iter().flatten().copied().collect();
    let n = flat.len() as f64;
    let loss = flat.iter().map(|x| x.0).sum::<f64>() / n;
    let floor = flat.iter().map(|x| x.1).sum::<f64>() / n;
    let by_sentence = truth.iter().map(|s| s.iter().map(|x| x.0).sum::<f64>() / s.len() as f64).sum::<f64>() / 40.0;
    assert!(
        (loss - by_sentence).abs() > 1e-3,
        "the two means are {loss} and {by_sentence}; the test would see nothing"
    );
    // Batches that cut sentences in the middle, and one that holds everything.
    for batch in [7, 256] {
        let asked = EvaluateSection { sentences: 40, positions: Positions::All };
        let found = Evaluator::new(&model(&gpu), &corpus, &asked, batch).unwrap().run().unwrap();
        println!("{found:?}, enumerated {loss} and {floor}");
        assert_eq!((found.sentences, found.positions), (40, Some(flat.len())));
        assert!((found.loss - loss).abs() < 1e-5, "{} against {loss}", found.loss);
        assert!((found.entropy_floor - floor).abs() < 1e-9, "{} against {floor}", found.entropy_floor);
        // Over sentences: the delta method for a ratio of sums.
        let excess = found.excess_loss;
        let residuals: Vec<f64> = truth
            .iter()
            .map(|s| s.iter().map(|x| x.0 - x.1).sum::<f64>() - excess * s.len() as f64)
            .map(|r| r * 40.0 / n)
            .collect();
        let error = (residuals.iter().map(|r| r * r).sum::<f64>() / 39.0 / 40.0).sqrt();
        let said = found.excess_loss_standard_error;
        assert!((said / error - 1.0).abs() < 1e-3, "{said} against {error}");
    }
    let one = EvaluateSection { sentences: 40, positions: Positions::One };
    let found = Evaluator::new(&model(&gpu), &corpus, &one, 256).unwrap().run().unwrap();
    let chosen = |(i, s): (usize, &Vec<(f64, f64)>)| {
        s[lowland::language::masked_position(held_out_seed(corpus.seed), i as u64, s.len())].0
    };
    let want = truth.iter().enumerate().map(chosen).sum::<f64>() / 40.0;
    assert!((found.loss - want).abs() < 1e-5 && found.positions.is_none(), "{} against {want}", found.loss);
}

fn resolved(overrides: &[&str]) -> Resolved {
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
    Resolved::from_text(CONFIG, "run", &overrides).unwrap()
}

const SEVERAL: &str = "objective.mask={ several = { share = 0.3, at_most = 3, maskings = 2 } }";

#[test]
fn a_run_over_a_finite_set_with_several_masks_learns_and_goes_on_with_the_same_bits() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let output = format!("output={:?}", folder.path().join("run").display().to_string());
    let resolved =
        resolved(&[SEVERAL, "train.sentences=100", "evaluate.positions=all", "train.micro_batch=12", &output]);
    let evaluation = train::run(&gpu, &resolved, &train::Quiet).unwrap().evaluation;
    let read = |file: &str| std::fs::read(folder.path().join("run").join(file)).unwrap();
    let model = read("model/model.safetensors");
    assert_eq!(evaluation.sentences, 50);
    assert!(evaluation.positions.unwrap() > 100, "{evaluation:?}");
    for step in [30, 40] {
        let _ = std::fs::remove_dir_all(folder.path().join(format!("run/checkpoints/step-{step}")));
    }
    std::fs::remove_dir_all(folder.path().join("run/model")).unwrap();
    std::fs::remove_file(folder.path().join("run/result.json")).unwrap();
    train::run(&gpu, &resolved, &train::Quiet).unwrap();
    assert_eq!(read("model/model.safetensors"), model);
}

#[test]
fn the_plan_has_room_for_as_many_masks_as_a_sentence_may_have() {
    let gpu = gpu();
    let bytes = |mask: &str| plan(&gpu, &resolved(&[mask])).unwrap().bytes.batch;
    let one = bytes("objective.mask=one");
    let three = bytes("objective.mask={ several = { share = 0.3, at_most = 3 } }");
    let every = bytes("objective.mask={ bernoulli = 0.3 }");
    assert!(one < three && three < every, "{one}, {three}, {every}");
}

#[test]
fn rows_without_a_word_are_tokens_of_the_softmax_and_go_along() {
    let gpu = gpu();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, overrides: &[&str]| {
        let output = format!("output={:?}", folder.path().join(name).display().to_string());
        let overrides = [overrides, &[output.as_str(), "train.steps=20", "train.checkpoint_every=0"]].concat();
        let outcome = train::run(&gpu, &resolved(&overrides), &train::Quiet).unwrap();
        (outcome.evaluation, lowland::model::load(&folder.path().join(name).join("model")).unwrap())
    };
    let masks = "objective.mask={ several = { share = 0.3, random = 0.2, random_from = \"table\" } }";
    // 9 words and 4 special tokens.
    let (evaluation, padded) = run("padded", &["model.vocab_size=30", "model.vocab_multiple_of=8", masks]);
    assert_eq!(padded.encoder.config.vocab_size, 32);
    // What training says of the model is what its folder says, words matched by name.
    let (spoken, notes) = corpus().spoken_by(&padded).unwrap();
    assert!(notes.iter().any(|n| n.contains("19 tokens")), "{notes:?}");
    let asked = EvaluateSection { sentences: 50, positions: Positions::One };
    let placed = padded.on(&Device::of(&gpu)).unwrap();
    let found = Evaluator::new(&placed, &spoken, &asked, 64).unwrap().run().unwrap();
    assert_eq!(found.loss.to_bits(), evaluation.loss.to_bits());
    assert!(found.excess_loss > 0.0 && found.excess_loss.is_finite());
    // Another run goes on from it, row by row.
    let start = format!("train.start_from={:?}", folder.path().join("padded/model").display().to_string());
    let idle = "train.optimizer={ kind = \"sgd\", lr = 0.0 }";
    let (_, further) = run("further", &[&start, idle, "model.vocab_size=32"]);
    assert_eq!(further.weights.0, padded.weights.0);
    let (_, unpadded) = run("unpadded", &[&start, idle]);
    let words = padded.encoder.find("roberta_prelayernorm.embeddings.word_embeddings.weight").unwrap();
    assert_eq!(unpadded.weights.0[words], padded.weights.0[words][..13 * 20]);
    let larger = resolved(&[&start, "model.vocab_size=33", &format!("output={:?}", folder.path().join("larger").display().to_string())]);
    let error = train::run(&gpu, &larger, &train::Quiet).unwrap_err().to_string();
    assert!(error.contains("32 rows") && error.contains("33"), "{error}");
    let smaller = resolved(&["model.vocab_size=12"]);
    let error = plan(&gpu, &smaller).unwrap_err().to_string();
    assert!(error.contains("model.vocab_size") && error.contains("13 words"), "{error}");
}
