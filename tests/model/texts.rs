//! Features of texts, their ids and models without a head against `transformers`, recorded by `fixtures/make_texts.py`.

use std::path::Path;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::downstream::{Dropping, Features, FineTuning, Pooling, Row, TaskData, TaskTexts, finetune_sentences};
use lowland::model::{Head, Loaded, ModelConfig, WeightsFile, load, load_body};
use lowland::ops::Device;
use lowland::ops::batch::Sentence;
use lowland::text::Pieces;
use serde_json::Value;

const MODELS: [&str; 5] = ["bert", "bert-body", "roberta", "gpt2", "llama"];

fn recorded() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("texts/features.json")).unwrap()).unwrap()
}

fn folder(name: &str) -> std::path::PathBuf {
    fixture("texts").join(name)
}

fn row(line: usize, first: &str, second: Option<&str>) -> Row {
    let label = if line.is_multiple_of(2) { "even" } else { "odd" };
    Row {
        file: "rows".into(),
        line: line as u64,
        first: first.into(),
        second: second.map(str::to_string),
        label: label.into(),
    }
}

/// The texts of recorded cases, each of them once in the training part.
fn texts(cases: &[Value]) -> TaskTexts {
    let rows: Vec<Row> = (1..)
        .zip(cases)
        .map(|(line, case)| row(line, case["first"].as_str().unwrap(), case["second"].as_str()))
        .collect();
    TaskTexts { task: "rows".into(), parts: [rows.clone(), rows[..1].to_vec(), rows[..2].to_vec()], skipped: 0 }
}

fn data(cases: &[Value], name: &str, config: &ModelConfig, most: u64) -> TaskData<Sentence> {
    let pieces = Pieces::read(&folder(name).join("tokenizer.json")).unwrap();
    TaskData::of_texts(texts(cases), &pieces, config, most as usize).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn features_of_texts_and_pairs_are_the_hidden_states_of_transformers() {
    let (gpu, recorded) = (gpu(), recorded());
    for name in MODELS {
        let cases = recorded["models"][name].as_array().unwrap();
        let model = load_body(&folder(name)).unwrap();
        let data = data(cases, name, &model.encoder.config, recorded["max_tokens"].as_u64().unwrap());
        for (sentence, case) in data.train.sentences.iter().zip(cases) {
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(sentence.ids, ids, "{name}: {}", case["first"]);
        }
        let losses = data.losses.unwrap();
        assert!(
            losses.truncated >= 1 && (losses.truncated as usize) < cases.len() && losses.max_tokens == 38,
            "{losses:?}"
        );
        assert_eq!(losses.unknown_share > 0.0, name.starts_with("bert"), "{name}: {losses:?}");
        let placed = model.on(&Device::of(&gpu)).unwrap();
        for (key, pooling) in [("mean", Pooling::Mean), ("first", Pooling::First), ("last", Pooling::Last)] {
            for layer in [1, 2] {
                let of = (data.train.sentences.as_slice(), data.longest);
                let found = Features::of_sentences(&placed, layer, pooling, of, Dropping::NONE).unwrap();
                assert_eq!((found.width, found.rows()), (8, cases.len()));
                for (got, case) in found.values.chunks(8).zip(cases) {
                    let wanted: Vec<f32> = serde_json::from_value(case[format!("layer_{layer}")][key].clone()).unwrap();
                    let apart = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(apart <= 1e-5, "{name} {key} of layer {layer}, {}: {apart:.1e}", case["first"]);
                }
            }
        }
    }
}

/// A fixture's tensors under other names, or without them.
fn renamed(name: &str, rename: impl Fn(&str) -> Option<String>, more: &[(&str, usize)]) -> tempfile::TempDir {
    use safetensors::tensor::{Dtype, TensorView};
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder(name).join("config.json"), copy.path().join("config.json")).unwrap();
    let tensors = WeightsFile::read(&folder(name).join("model.safetensors")).unwrap().tensors;
    let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .filter_map(|(n, (shape, v))| Some((rename(&n)?, shape, v.iter().flat_map(|x| x.to_le_bytes()).collect())))
        .collect();
    bytes.extend(more.iter().map(|(name, n)| (name.to_string(), vec![*n], vec![0; 4 * n])));
    let views = bytes.iter().map(|(n, s, b)| (n.as_str(), TensorView::new(Dtype::F32, s.clone(), b).unwrap()));
    std::fs::write(copy.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    copy
}

fn message(result: Result<Loaded, lowland::model::ModelError>) -> String {
    result.err().expect("a refusal").to_string()
}

#[test]
fn bodies_are_read_with_and_without_what_stands_before_their_names() {
    let same = |copy: &Path, name: &str| {
        let (copied, own) = (load_body(copy).unwrap(), load_body(&folder(name)).unwrap());
        assert_eq!(copied.weights, own.weights, "{name}");
        assert_eq!(copied.encoder.head, Head::Nothing, "{name}");
        copied.notes
    };
    for (name, prefix) in [("bert-body", "bert."), ("roberta", "roberta."), ("llama", "model.")] {
        let notes = same(&folder(name), name);
        assert!(notes.iter().any(|n| n.contains("no language model's head")), "{notes:?}");
        assert!(notes.iter().any(|n| n.contains(&format!("`{prefix}` put before"))), "{notes:?}");
        let with = renamed(name, |n| Some(format!("{prefix}{n}")), &[]);
        assert!(!same(with.path(), name).iter().any(|n| n.contains("put before")), "{name}");
        let error = message(load(with.path()));
        assert!(error.contains("no language model's head") && error.contains("save "), "{name}: {error}");
        let classifier =
            renamed(name, |n| Some(format!("{prefix}{n}")), &[("classifier.bias", 3), ("score.weight", 3)]);
        let notes = same(classifier.path(), name);
        for aside in ["`classifier.bias` left aside", "`score.weight` left aside"] {
            assert!(notes.iter().any(|n| n.contains(aside)), "{name}: {notes:?}");
        }
        assert!(message(load(classifier.path())).contains("no language model's head"));
    }
    // Tied, so that the body is the whole model.
    let gpt2 = load_body(&folder("gpt2")).unwrap();
    assert_eq!(gpt2.encoder.head, Head::Words);
    let with = renamed("gpt2", |n| Some(format!("transformer.{n}")), &[]);
    assert_eq!(load(with.path()).unwrap().weights, gpt2.weights);

    let whole = load_body(&folder("bert")).unwrap();
    assert_eq!((whole.encoder.head, &whole.weights), (Head::Words, &load(&folder("bert")).unwrap().weights));
    let part = renamed("bert", |n| (!n.contains("transform.dense")).then(|| n.into()), &[]);
    assert!(message(load_body(part.path())).contains("cls.predictions.transform.dense"));
    let strange = renamed("bert-body", |n| Some(n.into()), &[("adapter.weight", 2)]);
    assert!(message(load_body(strange.path())).contains("unknown tensor `bert.adapter.weight`"));
    let lacking = renamed("bert-body", |n| (!n.contains("layer.1.output.dense.bias")).then(|| n.into()), &[]);
    assert!(message(load_body(lacking.path())).contains("`bert.encoder.layer.1.output.dense.bias` is missing"));
}

#[test]
fn fine_tuning_learns_what_texts_say_with_and_without_a_head() {
    let gpu = gpu();
    let words = ["charming", "slow", "the film", "a story", "it's", "very"];
    // Odd lines have one word, even ones another, at different places.
    let rows = |from: usize, n: usize, pair: bool| -> Vec<Row> {
        (from..from + n)
            .map(|i| {
                let text = format!("{} {} {}", words[2 + i % 4], words[i % 2], words[2 + i / 2 % 4]);
                let row = row(i, &text, pair.then_some("the river was named in 1849"));
                Row { second: row.second.map(|s| s[..s.len() - i % 9].to_string()), ..row }
            })
            .collect()
    };
    let options = FineTuning { lr: 1e-2, epochs: 8, batch: 16, warmup_steps: 5, ..FineTuning::default() };
    for name in MODELS {
        let model = load_body(&folder(name)).unwrap();
        let pieces = Pieces::read(&folder(name).join("tokenizer.json")).unwrap();
        for pair in [false, true] {
            let parts = [rows(0, 96, pair), rows(100, 20, pair), rows(200, 40, pair)];
            let texts = TaskTexts { task: "rows".into(), parts, skipped: 0 };
            let data = TaskData::of_texts(texts, &pieces, &model.encoder.config, 40).unwrap();
            let fits = finetune_sentences(&Device::of(&gpu), &model, &data, &options, &[1], None).unwrap();
            assert!(fits[0].accuracy > 0.9, "{name}, pairs {pair}: {}", fits[0].accuracy);
        }
    }
}

#[test]
fn what_a_model_has_no_row_for_is_refused_with_the_line() {
    let model = load_body(&folder("gpt2")).unwrap();
    let pieces = Pieces::read(&folder("gpt2").join("tokenizer.json")).unwrap();
    let wrong = |config: &ModelConfig, first: &str, most: usize| {
        let rows = vec![row(1, "the film", None), row(2, first, None)];
        let texts = TaskTexts { task: "rows".into(), parts: [rows.clone(), rows.clone(), rows], skipped: 0 };
        TaskData::of_texts(texts, &pieces, config, most).unwrap_err().to_string()
    };
    let config = &model.encoder.config;
    assert_eq!(wrong(config, "", 9), "rows:2: a text without a token: the tokenizer puts nothing around it");
    let few = ModelConfig { vocab_size: 257, ..config.clone() };
    let error = wrong(&few, "the film", 9);
    assert!(error.starts_with("rows:1: `") && error.ends_with("the model has rows for 257 tokens"), "{error}");
    let short = ModelConfig { max_position_embeddings: 2, ..config.clone() };
    assert!(wrong(&short, "the film", 9).contains("the model has positions for 2"));
}
