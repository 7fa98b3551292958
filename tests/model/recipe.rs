//! The recipe of the paper's released code, option by option, against enumeration.

use std::collections::BTreeMap;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::config::{EvaluateSection, Positions, Resolved, RunConfig};
use lowland::downstream::{Dropping, Features, LinearProbe, Pooling, RateSchedule, probe, probe_fresh};
use lowland::gpu::Gpu;
use lowland::language::entropy;
use lowland::model::{
    Encoder, ForwardPass, GradientPass, Model, ModelConfig, ModelKind, Reach, RepresentationPass, TokenIds, Weights,
    dims_for, load,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use lowland::random::{Purpose, Stream};
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

/// For each sentence, cross-entropy and entropy of every position, in double precision from the logits of a sentence
/// with that position masked.
fn enumerated(gpu: &Gpu, corpus: &Corpus, count: u64) -> Vec<Vec<(f64, f64)>> {
    let model = model(gpu);
    let sentence = |i: u64| {
        let words = corpus.language.sample(held_out_seed(corpus.seed), i);
        let conditional = corpus.truth().unwrap().conditional(&words).unwrap().conditional;
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
        let own = found.entropy_floor.unwrap();
        assert!((own - floor).abs() < 1e-9, "{own} against {floor}");
        // Over sentences: the delta method for a ratio of sums.
        let excess = found.excess_loss.unwrap();
        let residuals: Vec<f64> = truth
            .iter()
            .map(|s| s.iter().map(|x| x.0 - x.1).sum::<f64>() - excess * s.len() as f64)
            .map(|r| r * 40.0 / n)
            .collect();
        let error = (residuals.iter().map(|r| r * r).sum::<f64>() / 39.0 / 40.0).sqrt();
        let said = found.excess_loss_standard_error.unwrap();
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
    assert!(found.excess_loss.is_some_and(|excess| excess > 0.0 && excess.is_finite()));
    // Another run goes on from it, row by row.
    let start = format!("train.start_from={:?}", folder.path().join("padded/model").display().to_string());
    let idle = "train.optimizer={ kind = \"sgd\", lr = 0.0 }";
    let (_, further) = run("further", &[&start, idle, "model.vocab_size=32"]);
    assert_eq!(further.weights.0, padded.weights.0);
    let (_, unpadded) = run("unpadded", &[&start, idle]);
    let words = padded.encoder.find("roberta_prelayernorm.embeddings.word_embeddings.weight").unwrap();
    assert_eq!(unpadded.weights.0[words], padded.weights.0[words][..13 * 20]);
    let larger = resolved(&[
        &start,
        "model.vocab_size=33",
        &format!("output={:?}", folder.path().join("larger").display().to_string()),
    ]);
    let error = train::run(&gpu, &larger, &train::Quiet).unwrap_err().to_string();
    assert!(error.contains("32 rows") && error.contains("33"), "{error}");
    let smaller = resolved(&["model.vocab_size=12"]);
    let error = plan(&gpu, &smaller).unwrap_err().to_string();
    assert!(error.contains("model.vocab_size") && error.contains("13 words"), "{error}");
}

/// What `scripts/released_recipe.py` recorded of `transformers` and PyTorch.
#[derive(serde::Deserialize)]
struct Recorded {
    /// Words by number.
    sentences: Vec<Vec<u32>>,
    schedules: Vec<Schedule>,
    padded: Vec<Padded>,
    pooled: Vec<Pooled>,
}

#[derive(serde::Deserialize)]
struct Schedule {
    lr: f64,
    warmup: u64,
    steps: u64,
    rates: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Padded {
    model: String,
    length: u32,
    features: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Pooled {
    model: String,
    loss: f64,
    weights: BTreeMap<String, Vec<f32>>,
    gradients: BTreeMap<String, Vec<f64>>,
}

fn recorded() -> Recorded {
    serde_json::from_str(include_str!("../fixtures/recipe.json")).unwrap()
}

#[test]
fn the_probes_rates_are_those_of_transformers() {
    for case in recorded().schedules {
        let probe = LinearProbe {
            lr: case.lr,
            schedule: RateSchedule::Polynomial,
            warmup_steps: case.warmup,
            ..LinearProbe::default()
        };
        assert_eq!(case.rates.len() as u64, case.steps);
        for (step, want) in case.rates.iter().enumerate() {
            let rate = probe.rate(step as u64, case.steps);
            assert!((rate - want).abs() < 1e-15, "step {step}: {rate} against {want}");
        }
    }
}

#[test]
fn padding_reads_the_sentence_and_is_read_by_none_of_it() {
    let gpu = gpu();
    let recorded = recorded();
    for case in &recorded.padded {
        let loaded = load(&fixture(&case.model)).unwrap();
        let model = loaded.on(&Device::of(&gpu)).unwrap();
        let tokens = TokenIds::new(loaded.encoder.config.vocab_size as usize - 4);
        let of =
            |pooling, longest| Features::of_model(&model, &tokens, 2, pooling, &recorded.sentences, longest).unwrap();
        let found = of(Pooling::Padded(case.length), 6);
        let d = loaded.encoder.config.hidden_size as usize;
        assert_eq!((found.rows(), found.width), (3, (case.length as usize - 2) * d));
        let off = found.values.iter().zip(&case.features).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        println!("{}: off by {off:.1e}", case.model);
        assert_eq!(found.values.len(), case.features.len());
        assert!(off < 2e-5, "{}: off by {off:.1e}", case.model);
        // The sentence's own tokens are what they are without padding.
        let plain = of(Pooling::Concat, 6);
        for (row, words) in recorded.sentences.iter().enumerate() {
            let own = (words.len() + 1) * d;
            let (a, b) = (&found.values[row * found.width..][..own], &plain.values[row * plain.width + d..][..own]);
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{off:.1e}");
        }
        let error = |length| Pooling::Padded(length).check(loaded.encoder.config.longest(), 6).unwrap_err();
        assert!(error(7).contains("8 are needed"), "{}", error(7));
        assert!(error(99).contains("positions"), "{}", error(99));
    }
}

#[test]
fn an_lstm_runs_through_its_padding() {
    let gpu = gpu();
    let config = ModelConfig {
        kind: ModelKind::Lstm,
        vocab_size: 13,
        hidden_size: 12,
        num_hidden_layers: 2,
        max_position_embeddings: 12,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.3, 7);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let (tokens, words) = (TokenIds::new(9), vec![vec![1, 4], vec![8, 0, 2, 2, 5], vec![3]]);
    let found = Features::of_model(&model, &tokens, 2, Pooling::Padded(9), &words, 5).unwrap();
    let as_tokens = |words: &Vec<u32>| Sentence { padding: 0, ..tokens.padded(words, 9).unwrap() };
    let inputs: Vec<Sentence> = words.iter().map(as_tokens).collect();
    let pass = RepresentationPass::new(&model, dims_for(&inputs, 3), 2).unwrap();
    let rows = pass.run(&inputs).unwrap();
    let want: Vec<f32> = rows.chunks_exact(9 * 12).flat_map(|s| s[12..8 * 12].to_vec()).collect();
    let off = found.values.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.values.len() == want.len() && off < 1e-6, "{off:.1e}");
}

#[test]
fn the_gradient_through_a_pooler_is_pytorchs() {
    let gpu = gpu();
    let recorded = recorded();
    for case in &recorded.pooled {
        let loaded = load(&fixture(&case.model)).unwrap();
        let encoder = Encoder::pooled_classifier(&loaded.encoder.config, 3).unwrap();
        let given = |name: &String| match case.weights.get(name) {
            Some(values) => values.clone(),
            None => loaded.weights.0[loaded.encoder.find(name).unwrap()].clone(),
        };
        let weights = Weights(encoder.parameters.iter().map(|p| given(&p.name)).collect());
        let tokens = TokenIds::new(loaded.encoder.config.vocab_size as usize - 4);
        let sentence = |(i, words): (usize, &Vec<u32>)| tokens.classified(words, i as u32 % 3, Reach::Sentence);
        let sentences: Vec<Sentence> = recorded.sentences.iter().enumerate().map(sentence).collect();
        let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
        let pass = GradientPass::new(&model, dims_for(&sentences, 3), Labels::Hard).unwrap();
        let loss = pass.run(&sentences).unwrap().iter().map(|l| l.loss).sum::<f64>() / 3.0;
        assert!((loss - case.loss).abs() < 1e-5, "{loss} against {}", case.loss);
        let found = pass.gradient().read(&gpu, &encoder).unwrap();
        for (name, want) in &case.gradients {
            let own = &found.0[encoder.find(name).unwrap()];
            let size = want.iter().map(|g| g * g).sum::<f64>().sqrt();
            let off = own.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum::<f64>().sqrt() / size;
            println!("{} {name}: off by {off:.1e}", case.model);
            assert!(own.len() == want.len() && size > 0.0 && off < 1e-4, "{name}: off by {off:.1e}");
        }
    }
}

/// Rows with two classes that a few steps of training do not tell apart fully.
fn rows(width: usize) -> (Features, Vec<u32>) {
    let mut random = Stream::new(4, Purpose::Test, 0);
    let labels: Vec<u32> = (0..360).map(|i| i % 2).collect();
    let row = |label: &u32| {
        let shift = if *label == 0 { -0.4 } else { 0.4 };
        (0..width).map(|_| (random.normal() + shift) as f32).collect::<Vec<f32>>()
    };
    let values = labels.iter().flat_map(row).collect();
    (Features { width, values }, labels)
}

const PARTS: [usize; 3] = [120, 40, 200];

fn parts(labels: &[u32]) -> [&[u32]; 3] {
    [&labels[..120], &labels[120..160], &labels[160..]]
}

/// Torch's AdamW on the whole training part at once, in double precision: the predictions of the best epoch.
fn by_hand(options: &LinearProbe, features: &Features, labels: &[u32], seed: u64) -> (Vec<u32>, u32) {
    let (w, classes) = (features.width, 2);
    let mut stream = Stream::new(seed, Purpose::Initialise, 0);
    let bound = 1.0 / (w as f64).sqrt();
    let mut theta: Vec<f64> =
        (0..classes * (w + 1)).map(|_| f64::from(((2.0 * stream.uniform() - 1.0) * bound) as f32)).collect();
    let (mut m, mut v) = (vec![0.0; theta.len()], vec![0.0; theta.len()]);
    let logits = |theta: &[f64], i: usize| -> Vec<f64> {
        let x = &features.values[i * w..(i + 1) * w];
        let one = |c: usize| {
            theta[classes * w + c] + x.iter().zip(&theta[c * w..]).map(|(x, t)| f64::from(*x) * t).sum::<f64>()
        };
        (0..classes).map(one).collect()
    };
    let loss = |z: &[f64], y: u32| z.iter().map(|z| z.exp()).sum::<f64>().ln() - z[y as usize];
    let best = |z: &[f64]| u32::from(z[1] > z[0]);
    let mut kept: Option<(f64, f64, Vec<u32>, u32)> = None;
    for step in 0..options.epochs {
        let mut g = vec![0.0; theta.len()];
        for (i, label) in labels[..PARTS[0]].iter().enumerate() {
            let z = logits(&theta, i);
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            for c in 0..classes {
                let r = (z[c].exp() / total - f64::from(u8::from(*label as usize == c))) / PARTS[0] as f64;
                g[classes * w + c] += r;
                (0..w).for_each(|k| g[c * w + k] += r * f64::from(features.values[i * w + k]));
            }
        }
        let lr = options.rate(step.into(), options.epochs.into());
        let t = f64::from(step + 1);
        for k in 0..theta.len() {
            if k < classes * w {
                theta[k] *= 1.0 - lr * options.weight_decay;
            }
            m[k] = 0.9 * m[k] + 0.1 * g[k];
            v[k] = 0.999 * v[k] + 0.001 * g[k] * g[k];
            let (first, second) = (m[k] / (1.0 - 0.9f64.powf(t)), v[k] / (1.0 - 0.999f64.powf(t)));
            theta[k] -= lr * first / (second.sqrt() + 1e-8);
        }
        let validation = PARTS[0]..PARTS[0] + PARTS[1];
        let right = validation.clone().filter(|i| best(&logits(&theta, *i)) == labels[*i]).count() as f64;
        let mean = validation.map(|i| loss(&logits(&theta, i), labels[i])).sum::<f64>() / PARTS[1] as f64;
        if kept.as_ref().is_none_or(|(a, l, ..)| right > *a || (right == *a && mean < *l)) {
            let test = (PARTS[0] + PARTS[1]..labels.len()).map(|i| best(&logits(&theta, i))).collect();
            kept = Some((right, mean, test, step + 1));
        }
    }
    let (_, _, predictions, epoch) = kept.unwrap();
    (predictions, epoch)
}

#[test]
fn a_probe_with_a_schedule_takes_torchs_steps() {
    let gpu = gpu();
    let (features, labels) = rows(9);
    let scheduled = LinearProbe {
        lr: 0.05,
        epochs: 12,
        batch: 120,
        schedule: RateSchedule::Polynomial,
        warmup_steps: 5,
        ..LinearProbe::default()
    };
    let constant = LinearProbe { schedule: RateSchedule::Constant, warmup_steps: 0, ..scheduled.clone() };
    let apart = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
    let mut differ = 0;
    for seed in 1..=3 {
        let of = |options: &LinearProbe| {
            probe(&Device::of(&gpu), options, &features, parts(&labels), 2, &[seed]).unwrap().remove(0)
        };
        let (found, (want, epoch)) = (of(&scheduled), by_hand(&scheduled, &features, &labels, seed));
        assert_eq!(found.epoch, epoch);
        assert!(apart(&found.predictions, &want) <= 1, "{} of 200 differ", apart(&found.predictions, &want));
        differ += apart(&of(&constant).predictions, &want);
    }
    assert!(differ > 5, "the schedule makes no difference here; the test would see nothing");
}

#[test]
fn dropped_features_are_drawn_by_the_seed_and_scaled_up() {
    let gpu = gpu();
    let (features, labels) = rows(9);
    let of = |dropout: f64, seed: u64| {
        let options = LinearProbe { lr: 0.05, epochs: 20, batch: 32, dropout, ..LinearProbe::default() };
        probe(&Device::of(&gpu), &options, &features, parts(&labels), 2, &[seed]).unwrap().remove(0)
    };
    assert_eq!(of(0.5, 1), of(0.5, 1));
    assert_ne!(of(0.5, 1).predictions, of(0.0, 1).predictions);
    // Features that are dropped half of the time still tell the classes: 0.88 is the best there is.
    assert!(of(0.5, 1).accuracy > 0.8, "{}", of(0.5, 1).accuracy);
    let refused = LinearProbe { dropout: 1.0, ..LinearProbe::default() }.check().unwrap_err();
    assert_eq!(refused.0, "feature_dropout");
}

#[test]
fn an_encoder_in_training_gives_other_features_in_each_epoch_with_the_same_mean() {
    let gpu = gpu();
    let corpus = corpus();
    let model = model(&gpu);
    let sentences: Vec<Vec<u32>> = (0..6).map(|i| corpus.language.sample(1, i)).collect();
    let of = |p: f64, seed: u64, draw: u64| {
        let dropping = Dropping { p, seed, draw };
        // The embedding, whose dropout is the first and the last thing that happens to it.
        let layer = 0;
        let of = (sentences.as_slice(), 9);
        Features::of_model_in_training(&model, &corpus.tokens, layer, Pooling::Concat, of, dropping).unwrap()
    };
    let still = of(0.0, 1, 0);
    assert_eq!(still, of(0.0, 2, 7), "nothing is drawn where nothing is dropped");
    assert_eq!(of(0.1, 1, 3), of(0.1, 1, 3), "a function of the draw");
    assert_ne!(of(0.1, 1, 3), of(0.1, 1, 4));
    assert_ne!(of(0.1, 1, 3), of(0.1, 2, 3));
    // A number is dropped or divided by 1 - p; over many draws its mean is what it is without.
    let (p, draws) = (0.25, 400);
    let mut sum = vec![0.0f64; still.values.len()];
    let mut dropped = 0usize;
    let alive = still.values.iter().filter(|x| **x != 0.0).count();
    for draw in 0..draws {
        let drawn = of(p, 5, draw);
        for ((sum, x), plain) in sum.iter_mut().zip(&drawn.values).zip(&still.values) {
            let kept = (f64::from(*x) - f64::from(*plain) / (1.0 - p)).abs() < 1e-5;
            assert!(kept || *x == 0.0, "{x} of {plain}");
            *sum += f64::from(*x);
            dropped += usize::from(*x == 0.0 && *plain != 0.0);
        }
    }
    let n = (alive as u64 * draws) as f64;
    let share = dropped as f64 / n;
    assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / n).sqrt(), "{share} are dropped");
    for (sum, plain) in sum.iter().zip(&still.values) {
        let deviation = f64::from(plain.abs()) * (p / (1.0 - p) / draws as f64).sqrt();
        assert!((sum / draws as f64 - f64::from(*plain)).abs() <= 5.5 * deviation + 1e-9);
    }
    // And a fit that sees each draw once is a function of its seed.
    let labels: Vec<u32> = sentences.iter().map(|words| words[0] % 2).collect();
    let whole = of(0.0, 0, 0);
    let options = LinearProbe { epochs: 3, batch: 2, ..LinearProbe::default() };
    let drawn = std::cell::RefCell::new(vec![]);
    let fresh = |seed, epoch: u32| {
        drawn.borrow_mut().push((seed, epoch));
        let of = of(0.1, seed, epoch.into());
        Ok(Features { width: of.width, values: of.values[..2 * of.width].to_vec() })
    };
    let parts = [&labels[..2], &labels[2..4], &labels[4..]];
    let fits = probe_fresh(&Device::of(&gpu), &options, &whole, &fresh, parts, 2, &[8, 9]).unwrap();
    assert_eq!(fits, probe_fresh(&Device::of(&gpu), &options, &whole, &fresh, parts, 2, &[8, 9]).unwrap());
    assert_eq!(drawn.borrow()[..6], [(8, 1), (8, 2), (8, 3), (9, 1), (9, 2), (9, 3)]);
}
