//! Words are matched by name: models whose tokenizers number the words of a language in their own way give the numbers
//! that `transformers` gives, or that the same model gives in Lowland's order; what cannot be matched is refused.

use std::collections::HashMap;
use std::path::Path;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::config::RunConfig;
use lowland::model::{Encoder, ForwardPass, Model, ModelConfig, ModelKind, Vocabulary, Weights, dims_for, load, save};
use lowland::ops::{Device, Labels};
use lowland::random::{Purpose, Stream};
use lowland::train::{Corpus, held_out_seed, masked_sentence};
use serde_json::{Value, json};

use crate::folder::{Folder, number, text};

const CONFIG: &str = include_str!("../fixtures/words/hmm.toml");
const SENTENCES: u64 = 60;

fn corpus() -> Corpus {
    let config = RunConfig::parse(CONFIG, "hmm.toml").unwrap();
    Corpus::open(&config.language, &config.objective, config.seed).unwrap()
}

/// A held-out sentence's words and the position that is masked.
fn sentence(corpus: &Corpus, i: u64) -> (Vec<String>, usize) {
    let seed = held_out_seed(corpus.seed);
    let words = corpus.language.sample(seed, i);
    let position = lowland::language::masked_position(seed, i, words.len());
    (corpus.language.decode(&words).into_iter().map(str::to_string).collect(), position)
}

/// What `make_words.py` is made from.
fn sentences() -> String {
    let corpus = corpus();
    let line = |i| {
        let (words, position) = sentence(&corpus, i);
        json!({ "words": words, "position": position }).to_string() + "\n"
    };
    (0..SENTENCES).map(line).collect()
}

#[test]
#[ignore = "writes a fixture"]
fn write_sentences() {
    std::fs::write(fixture("words/sentences.jsonl"), sentences()).unwrap();
}

/// A folder with the config and models.
struct Models(Folder);

impl std::ops::Deref for Models {
    type Target = Folder;
    fn deref(&self) -> &Folder {
        &self.0
    }
}

impl Models {
    fn new() -> Models {
        let f = Folder::empty();
        f.write("hmm.toml", CONFIG);
        Models(f)
    }

    /// What `eval` prints, and its notes.
    fn eval(&self, model: &str) -> (Value, String) {
        let (printed, notes) = self.printed(&["eval", model, "hmm.toml", "--count", "60", "--json", "--per-example"]);
        (serde_json::from_str(&printed).unwrap(), notes)
    }

    fn loss(&self, model: &str) -> f64 {
        self.eval(model).0["loss"].as_f64().unwrap()
    }

    /// The error with which a model is refused.
    fn refused(&self, model: &str) -> String {
        let output = self.lowland(&["eval", model, "hmm.toml", "--count", "10"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{model}: {error}");
        assert!(output.stdout.is_empty(), "{model}");
        error
    }

    /// A random model in Lowland's own order.
    fn own(&self, name: &str, kind: ModelKind, seed: u64) -> (Encoder, Weights) {
        let config = ModelConfig {
            kind,
            vocab_size: 11,
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 24,
            max_position_embeddings: if kind == ModelKind::Bert { 8 } else { 10 },
            ..ModelConfig::default()
        };
        let encoder = Encoder::new(&config).unwrap();
        let weights = Weights::initial(&encoder.parameters, 0.4, seed);
        save(&self.path(name), &encoder, &weights, Some(&Vocabulary::new(corpus().language.vocabulary()))).unwrap();
        (encoder, weights)
    }

    /// The same model with its tokens in another order, as `PreTrainedTokenizerFast` saves it: a `tokenizer.json` and
    /// no `vocab.txt`. Gives the new id of each token.
    fn shuffled(&self, name: &str, (encoder, weights): &(Encoder, Weights), seed: u64) -> Vec<usize> {
        let n = encoder.config.vocab_size as usize;
        let mut new: Vec<usize> = (0..n).collect();
        let mut stream = Stream::new(seed, Purpose::Test, 0);
        (1..n).rev().for_each(|i| new.swap(i, stream.below(i as u32 + 1) as usize));
        let config = &encoder.config;
        let pad = new[1] as u32;
        let mut other = ModelConfig { pad_token_id: Some(pad), ..config.clone() };
        // Positions of RoBERTa are counted from behind the id of padding.
        other.max_position_embeddings = other.first_position() + config.longest();
        let moved = Encoder::new(&other).unwrap();
        let values = encoder.parameters.iter().zip(&weights.0).zip(&moved.parameters).map(|((p, values), q)| {
            assert_eq!(p.name, q.name);
            let over_words = p.name.ends_with("word_embeddings.weight") || p.shape == [n];
            let wide = p.len() / p.shape[0];
            let mut out = vec![0.0; q.len()];
            for row in 0..p.shape[0] {
                let to = match (over_words, p.name.contains("position_embeddings")) {
                    (true, _) => new[row],
                    (_, true) if row < config.first_position() as usize => continue,
                    (_, true) => row + other.first_position() as usize - config.first_position() as usize,
                    _ => row,
                };
                out[to * wide..][..wide].copy_from_slice(&values[row * wide..][..wide]);
            }
            out
        });
        save(&self.path(name), &moved, &Weights(values.collect()), None).unwrap();
        let words = corpus();
        let own = ["[CLS]", "[PAD]", "[SEP]", "[MASK]"]
            .into_iter()
            .chain(words.vocabulary.words().iter().map(String::as_str));
        let vocab: HashMap<&str, usize> = own.zip(new.iter().copied()).collect();
        self.tokenizer(name, &vocab);
        new
    }

    fn tokenizer(&self, model: &str, vocab: &HashMap<&str, usize>) {
        let around = |t: &str| json!({ "SpecialToken": { "id": t, "type_id": 0 } });
        let special = |t: &str| json!({ "id": t, "ids": [vocab[t]], "tokens": [t] });
        let tokenizer = json!({
            "added_tokens": [],
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [around("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, around("[SEP]")],
                "special_tokens": { "[CLS]": special("[CLS]"), "[SEP]": special("[SEP]") },
            },
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]" },
        });
        self.write(format!("{model}/tokenizer.json"), &tokenizer.to_string());
        let added = json!({ "__type": "AddedToken", "content": "[MASK]", "lstrip": false });
        let config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "mask_token": added, "pad_token": "[PAD]" });
        self.write(format!("{model}/tokenizer_config.json"), &config.to_string());
    }

    fn copy(&self, from: &str, to: &str) {
        std::fs::create_dir_all(self.path(to)).unwrap();
        for file in std::fs::read_dir(self.path(from)).unwrap() {
            let path = file.unwrap().path();
            std::fs::copy(&path, self.path(to).join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn close(a: f64, b: f64, within: f64, what: &str) {
    assert!((a - b).abs() <= within * a.abs().max(b.abs()), "{what}: {a} against {b}");
}

const KINDS: [(&str, ModelKind); 2] = [("roberta", ModelKind::RobertaPreLayerNorm), ("bert", ModelKind::Bert)];

#[test]
fn a_tokenizer_with_another_order_gives_the_loss_of_transformers() {
    let recorded = std::fs::read_to_string(fixture("words/sentences.jsonl")).unwrap();
    assert_eq!(recorded, sentences(), "make_words.py was run on other sentences");
    let f = Models::new();
    for (name, _) in KINDS {
        let folder = fixture(&format!("words/{name}"));
        let truth: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("loss.json")).unwrap()).unwrap();
        let truth: Vec<f64> = serde_json::from_value(truth["losses"].clone()).unwrap();
        let (said, notes) = f.eval(folder.to_str().unwrap());
        close(number(&said, "loss"), truth.iter().sum::<f64>() / truth.len() as f64, 1e-6, name);
        for (got, want) in said["per_example"].as_array().unwrap().iter().zip(&truth) {
            close(got.as_f64().unwrap(), *want, 2e-5, name);
        }
        assert!(notes.contains("that are no words of the language"), "{notes}");
    }
}

/// KL of the exact conditional from a softmax over 16 tokens, the language having 7 words.
#[test]
fn excess_loss_is_over_all_tokens_of_the_model() {
    let gpu = gpu();
    let f = Models::new();
    let corpus = corpus();
    let seed = held_out_seed(corpus.seed);
    for (name, _) in KINDS {
        let folder = fixture(&format!("words/{name}"));
        let model = load(&folder).unwrap();
        let tokenizer: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("tokenizer.json")).unwrap()).unwrap();
        let (spoken, _) = corpus.spoken_by(&model).unwrap();
        let sentence = |i| masked_sentence(corpus.truth().unwrap(), &spoken.tokens, seed, i).sentence;
        let inputs: Vec<_> =
            (0..SENTENCES).map(|i| lowland::ops::batch::Sentence { soft: vec![], ..sentence(i) }).collect();
        let placed = Model::new(&Device::of(&gpu), &model.encoder, &model.weights).unwrap();
        let dims = dims_for(&inputs, inputs.len());
        let pass = ForwardPass::new(&placed, dims, Labels::Hard, true).unwrap();
        pass.run(&inputs).unwrap();
        let logits = pass.logits(inputs.len()).unwrap();
        let mut sum = 0.0;
        for (i, row) in logits.chunks_exact(16).enumerate() {
            let words = corpus.language.sample(seed, i as u64);
            let position = lowland::language::masked_position(seed, i as u64, words.len());
            let p = &corpus.truth().unwrap().conditional(&words).unwrap().conditional[position];
            let z = row.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
            for (word, p) in corpus.vocabulary.words().iter().zip(p).filter(|(_, p)| **p > 0.0) {
                let id = tokenizer["model"]["vocab"][word].as_u64().unwrap() as usize;
                sum += p * (p.ln() - f64::from(row[id]) + z);
            }
        }
        let (said, _) = f.eval(folder.to_str().unwrap());
        close(number(&said, "excess_loss"), sum / SENTENCES as f64, 1e-5, name);
    }
}

#[test]
fn moving_the_rows_along_with_the_ids_changes_no_number() {
    let f = Models::new();
    for (i, (name, kind)) in KINDS.into_iter().enumerate() {
        for seed in 0..3 {
            let (own, moved) = (format!("{name}-{seed}"), format!("{name}-{seed}-moved"));
            let model = f.own(&own, kind, 10 + seed);
            f.shuffled(&moved, &model, 100 * seed + i as u64);
            let (a, b) = (f.eval(&own).0, f.eval(&moved).0);
            for key in ["loss", "excess_loss", "entropy_floor"] {
                close(number(&a, key), number(&b, key), 2e-6, &format!("{moved}: {key}"));
            }
            if seed > 0 {
                continue;
            }
            let both = |arguments: &[&str], key: &str, within: f64| {
                let [a, b] = [&own, &moved].map(|model| {
                    let mut all = arguments.to_vec();
                    let at = if arguments[0] == "measure" { 2 } else { 1 };
                    all.splice(at..at, [model.as_str(), "hmm.toml"]);
                    let value = f.json(&all);
                    value.pointer(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("{key}: {value}"))
                });
                close(a, b, within, &format!("{arguments:?}"));
            };
            let trace = ["measure", "trace", "--estimator", "exact-labels", "--count", "40", "--json"];
            both(&trace, "/trace", 1e-5);
            both(&["measure", "noise", "--count", "40", "--json"], "/trace_covariance", 1e-5);
            let task =
                ["--task", "task-1", "--train", "60", "--validation", "30", "--test", "60", "--seeds", "1", "--json"];
            both(&[&["probe", "--method", "ridge", "--ridge", "0.1"], &task[..]].concat(), "/accuracy", 1e-9);
            both(&[&["finetune", "--epochs", "1"], &task[..]].concat(), "/accuracy", 0.05);
            f.json(&["enlarge", &moved, "hidden=32", &format!("{moved}-large"), "--json"]);
            close(f.loss(&format!("{moved}-large")), number(&a, "loss"), 1e-5, "enlarged");
        }
    }
}

/// The features that a probe reads, not only how well it does.
#[test]
fn probes_read_the_same_representations() {
    let f = Models::new();
    let model = f.own("own", ModelKind::RobertaPreLayerNorm, 5);
    f.shuffled("moved", &model, 6);
    let read = |model: &str| {
        let file = format!("{model}.safetensors");
        f.json(&[
            "probe",
            model,
            "hmm.toml",
            "--task",
            "task-1",
            "--train",
            "50",
            "--validation",
            "20",
            "--test",
            "20",
            "--method",
            "ridge",
            "--ridge",
            "1",
            "--export",
            &file,
            "--json",
        ]);
        lowland::model::WeightsFile::read(&f.path(&file)).unwrap().tensors["train"].1.clone()
    };
    let (a, b) = (read("own"), read("moved"));
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn training_from_a_model_with_another_order_gives_the_same_bits() {
    let f = Models::new();
    for (name, kind) in KINDS {
        let model = f.own(&format!("{name}-own"), kind, 8);
        f.shuffled(&format!("{name}-moved"), &model, 9);
        let trained = |start: &str| {
            let kind = if kind == ModelKind::Bert { "bert" } else { "roberta-prelayernorm" };
            let output = format!("{start}-run");
            let sizes = [
                format!("model.type={kind}"),
                "model.hidden_size=16".into(),
                "model.num_hidden_layers=1".into(),
                "model.num_attention_heads=2".into(),
                "model.intermediate_size=24".into(),
                "train.steps=5".into(),
                "train.batch_size=8".into(),
                "train.algorithm={kind=\"label-noise\", probability=0.5}".into(),
                format!("train.start_from={start}"),
                format!("output={output}"),
            ];
            let mut arguments = vec!["train", "hmm.toml"];
            arguments.extend(sizes.iter().map(String::as_str));
            let done = f.lowland(&arguments);
            assert!(done.status.success(), "{}", text(&done.stderr));
            let line = std::fs::read_to_string(f.path(&output).join("metrics.jsonl")).unwrap();
            let first: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
            let mut trained = load(&f.path(&output).join("model")).unwrap();
            let config = &trained.encoder.config;
            let i =
                trained.encoder.parameters.iter().position(|p| p.name.ends_with("position_embeddings.weight")).unwrap();
            // Rows of the position table before the first one are never used.
            trained.weights.0[i][..(config.first_position() * config.hidden_size) as usize].fill(0.0);
            (trained.weights, number(&first, "held_out_loss"))
        };
        let (own, moved) = (trained(&format!("{name}-own")), trained(&format!("{name}-moved")));
        let started = number(&f.eval(&format!("{name}-own")).0, "expected_loss");
        assert!(own.0 == moved.0, "{name}: other weights after five steps");
        // The run evaluates 2000 held-out sentences, `eval` here 60.
        close(own.1, started, 0.2, name);
        assert_eq!(own.1, moved.1);
        let exported: Value = f.value(&format!("{name}-moved-run/model/tokenizer.json"));
        let order: Vec<u64> = ["<s>", "<pad>", "</s>", "<mask>", "w0", "w6"]
            .iter()
            .map(|token| exported["model"]["vocab"][*token].as_u64().unwrap())
            .collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 10]);
    }
}

#[test]
fn an_exported_tokenizer_has_no_token_for_unknown_words() {
    let f = Models::new();
    f.own("own", ModelKind::Bert, 1);
    let tokenizer = f.value("own/tokenizer.json");
    let unknown = tokenizer["model"]["unk_token"].as_str().unwrap();
    assert!(tokenizer["model"]["vocab"].get(unknown).is_none(), "{unknown} would stand for what is no word");
    assert_eq!(tokenizer["model"]["vocab"].as_object().unwrap().len(), 11);
    assert!(f.value("own/tokenizer_config.json").get("unk_token").is_none(), "transformers would add a twelfth token");
}

/// The commands of three reports; each was accepted, with numbers of other words.
#[test]
fn files_that_disagree_are_told_apart() {
    let f = Models::new();
    let model = f.own("own", ModelKind::RobertaPreLayerNorm, 2);
    let loss = f.loss("own");

    f.copy("own", "special");
    let words = f.read("own/vocab.txt");
    let others = "[PAD]\n[CLS]\n[SEP]\n[MASK]\n".to_string() + words.splitn(5, '\n').last().unwrap();
    std::fs::write(f.path("special/vocab.txt"), &others).unwrap();
    let (said, notes) = f.eval("special");
    assert_eq!(number(&said, "loss"), loss);
    assert!(notes.contains("vocab.txt has `[PAD]` where tokenizer.json has `<s>` (id 0)"), "{notes}");
    std::fs::remove_file(f.path("special/tokenizer.json")).unwrap();
    let error = f.refused("special");
    assert!(
        error.contains("special/vocab.txt: has no token `<s>`, the `cls_token` of tokenizer_config.json"),
        "{error}"
    );
    std::fs::remove_file(f.path("special/tokenizer_config.json")).unwrap();
    let error = f.refused("special");
    assert!(error.contains("gives `[CLS]` the id 1, which config.json calls padding"), "{error}");

    f.copy("own", "exchanged");
    std::fs::remove_file(f.path("exchanged/vocab.txt")).unwrap();
    let mut tokenizer = f.value("exchanged/tokenizer.json");
    tokenizer["model"]["vocab"]["w0"] = json!(8);
    tokenizer["model"]["vocab"]["w4"] = json!(4);
    f.write("exchanged/tokenizer.json", &tokenizer.to_string());
    // The same as the rows exchanged under the tokenizer that was.
    let (encoder, mut weights) = model;
    for (parameter, values) in encoder.parameters.iter().zip(&mut weights.0) {
        if parameter.name.ends_with("word_embeddings.weight") || parameter.shape == [11] {
            let wide = parameter.len() / 11;
            (0..wide).for_each(|c| values.swap(4 * wide + c, 8 * wide + c));
        }
    }
    save(&f.path("rows"), &encoder, &weights, Some(&Vocabulary::new(corpus().language.vocabulary()))).unwrap();
    let (there, here) = (f.loss("exchanged"), f.loss("rows"));
    close(there, here, 2e-6, "two words exchanged");
    assert!((there - loss).abs() > 1e-3, "{there} is the loss of the words as they were");

    // Where both files are there and differ in a word, tokenizer.json counts.
    std::fs::copy(f.path("own/vocab.txt"), f.path("exchanged/vocab.txt")).unwrap();
    let (said, notes) = f.eval("exchanged");
    assert_eq!(number(&said, "loss"), there);
    assert!(notes.contains("vocab.txt has `w0` where tokenizer.json has `w4` (id 4)"), "{notes}");
}

#[test]
fn folders_without_a_tokenizer_and_of_earlier_versions_are_read() {
    let f = Models::new();
    f.own("own", ModelKind::Bert, 3);
    let (said, notes) = f.eval("own");
    assert!(!notes.contains("note") && !notes.contains("token"), "{notes}");
    let loss = number(&said, "loss");
    // As Lowland wrote it once.
    f.copy("own", "earlier");
    let mut tokenizer = f.value("earlier/tokenizer.json");
    tokenizer["model"]["unk_token"] = json!("<mask>");
    f.write("earlier/tokenizer.json", &tokenizer.to_string());
    assert_eq!(f.loss("earlier"), loss);
    // vocab.txt alone, with a byte-order mark and the line ends of Windows.
    f.copy("own", "lines");
    std::fs::remove_file(f.path("lines/tokenizer.json")).unwrap();
    let words = f.read("own/vocab.txt");
    std::fs::write(f.path("lines/vocab.txt"), format!("\u{feff}{}", words.replace('\n', "\r\n"))).unwrap();
    assert_eq!(f.loss("lines"), loss);
    // Special tokens by special_tokens_map.json, and by their usual spelling.
    std::fs::rename(f.path("lines/tokenizer_config.json"), f.path("lines/special_tokens_map.json")).unwrap();
    assert_eq!(f.loss("lines"), loss);
    std::fs::remove_file(f.path("lines/special_tokens_map.json")).unwrap();
    assert_eq!(f.loss("lines"), loss);
    std::fs::remove_file(f.path("lines/vocab.txt")).unwrap();
    let (said, notes) = f.eval("lines");
    assert_eq!(number(&said, "loss"), loss);
    assert!(
        notes.contains("lines: no tokenizer.json or vocab.txt, so that its words could not be compared"),
        "{notes}"
    );
    let output = f.lowland(&["eval", "lines", "hmm.toml", "language.hmm.vocabulary=8"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("it has 11 tokens where the language has 8 words and 4 special tokens"), "{error}");
}

/// A name, the file that is changed, how, and what the refusal says.
type Case = (&'static str, &'static str, Box<dyn Fn(&mut Value)>, String);

#[test]
fn what_cannot_be_matched_is_refused() {
    let f = Models::new();
    let model = f.own("own", ModelKind::RobertaPreLayerNorm, 4);
    let new = f.shuffled("base", &model, 5);
    let tokenizer = f.value("base/tokenizer.json");
    let refused = |name: &str, file: &str, change: &dyn Fn(&mut Value)| {
        let folder = format!("m-{name}");
        f.copy("base", &folder);
        let mut value = f.value(&format!("{folder}/{file}"));
        change(&mut value);
        f.write(format!("{folder}/{file}"), &value.to_string());
        f.refused(&folder)
    };
    let rename = |value: &mut Value| {
        let map = value["model"]["vocab"].as_object_mut().unwrap();
        let id = map.remove("w3").unwrap();
        map.insert("dogs".into(), id);
    };
    let (sep, w2) = (new[2], new[6]);
    let cases: Vec<Case> = vec![
        (
            "word",
            "tokenizer.json",
            Box::new(rename),
            "m-word/tokenizer.json: has no token for the language's word `w3` (1 of its 7 words are missing); it has \
             `dogs`"
                .into(),
        ),
        (
            "twice",
            "tokenizer.json",
            Box::new(move |v: &mut Value| v["model"]["vocab"]["w2"] = json!(sep)),
            format!("gives `w2` the id {sep}, which is that of `end of a sentence` too"),
        ),
        (
            "beyond",
            "tokenizer.json",
            Box::new(|v: &mut Value| v["model"]["vocab"]["w2"] = json!(11)),
            "gives `w2` the id 11, config.json has vocab_size 11".into(),
        ),
        (
            "no-id",
            "tokenizer.json",
            Box::new(|v: &mut Value| v["model"]["vocab"]["w2"] = json!(-1)),
            "token `w2` has the id -1, which is no id".into(),
        ),
        (
            "padding",
            "config.json",
            Box::new(move |v: &mut Value| v["pad_token_id"] = json!(w2)),
            format!("gives `w2` the id {w2}, which config.json calls padding"),
        ),
        (
            "mask",
            "tokenizer_config.json",
            Box::new(|v: &mut Value| v["mask_token"] = json!("<mask>")),
            "has no token `<mask>`, the `mask_token` of tokenizer_config.json".into(),
        ),
        (
            "no-mask",
            "tokenizer.json",
            Box::new(|v: &mut Value| {
                let map = v["model"]["vocab"].as_object_mut().unwrap();
                let id = map.remove("[MASK]").unwrap();
                map.insert("<hidden>".into(), id);
            }),
            "has no token `[MASK]`".into(),
        ),
        (
            "frame",
            "tokenizer.json",
            Box::new(|v: &mut Value| drop(v["post_processor"]["single"].as_array_mut().unwrap().pop())),
            "puts `[CLS]` the words around a sentence".into(),
        ),
        (
            "kind",
            "tokenizer.json",
            Box::new(|v: &mut Value| v["model"]["type"] = json!("BPE")),
            "its model is of the type BPE; words can be found by name in `WordLevel` and `WordPiece`".into(),
        ),
    ];
    for (name, file, change, wanted) in cases {
        let error = refused(name, file, &*change);
        assert!(error.contains(&wanted), "{name}: `{wanted}` is not in: {error}");
    }
    std::fs::write(f.path("base/tokenizer.json"), "{").unwrap();
    assert!(f.refused("base").contains("base/tokenizer.json: EOF"));
    // A file of examples has ids, and needs no words.
    std::fs::write(f.path("examples.jsonl"), "{\"input_ids\":[0,4,2],\"masked_positions\":[1],\"labels\":[5]}\n")
        .unwrap();
    let line =
        format!("{{\"input_ids\":[{},{},{}],\"masked_positions\":[1],\"labels\":[5]}}\n", new[0], new[3], new[2]);
    std::fs::write(f.path("examples.jsonl"), line).unwrap();
    f.json(&["eval", "base", "examples.jsonl", "--json"]);
    // Training is refused as evaluation is.
    f.write("base/tokenizer.json", &tokenizer.to_string());
    let start = ["train", "hmm.toml", "language.hmm.vocabulary=9", "train.start_from=base", "output=run"];
    let output = f.lowland(&start);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("train.start_from = ") && error.contains("the language's word `w7`"), "{error}");
    // A tokenizer that adds nothing by itself is told.
    let mut silent = tokenizer.clone();
    silent["post_processor"] = Value::Null;
    f.write("base/tokenizer.json", &silent.to_string());
    let (said, notes) = f.eval("base");
    close(number(&said, "loss"), f.loss("own"), 2e-6, "fed as it is here");
    assert!(notes.contains("puts nothing around a sentence; it is fed as `[CLS] ... [SEP]`"), "{notes}");
}

/// Rows that no word of the language has are dropped where training starts, and the rest is as it was.
#[test]
fn training_leaves_out_what_is_no_word() {
    let f = Models::new();
    let start = fixture("words/roberta");
    let start: &Path = &start;
    let arguments = [
        "model.hidden_size=16",
        "model.num_hidden_layers=2",
        "model.num_attention_heads=2",
        "model.intermediate_size=24",
        "train.steps=1",
        "train.batch_size=4",
        "train.optimizer={kind=\"sgd\", lr=1e-12}",
        "train.clip=0",
        "output=run",
    ];
    let from = format!("train.start_from={}", start.display());
    let done = f.lowland(&[&["train", "hmm.toml", from.as_str()], &arguments[..]].concat());
    let notes = text(&done.stderr);
    assert!(done.status.success(), "{notes}");
    assert!(notes.contains("training leaves out the rows of 5 tokens that are no words"), "{notes}");
    assert!(notes.contains("training leaves out the positions beyond 8 tokens"), "{notes}");
    let (before, after) = (load(start).unwrap(), load(&f.path("run/model")).unwrap());
    let tokenizer: Value =
        serde_json::from_str(&std::fs::read_to_string(start.join("tokenizer.json")).unwrap()).unwrap();
    let row = |model: &lowland::model::Loaded, name: &str, row: usize| {
        let i = model.encoder.find(name).unwrap();
        let wide = model.encoder.parameters[i].len() / model.encoder.parameters[i].shape[0];
        model.weights.0[i][row * wide..][..wide].to_vec()
    };
    let table = "roberta_prelayernorm.embeddings.word_embeddings.weight";
    for (token, own) in [("<s>", 0), ("<pad>", 1), ("</s>", 2), ("<mask>", 3), ("w0", 4), ("w6", 10)] {
        let id = tokenizer["model"]["vocab"][token].as_u64().unwrap() as usize;
        assert_eq!(row(&before, table, id), row(&after, table, own), "{token}");
        assert_eq!(row(&before, "lm_head.bias", id), row(&after, "lm_head.bias", own), "{token}");
    }
    let positions = "roberta_prelayernorm.embeddings.position_embeddings.weight";
    let pad = before.encoder.config.pad_token_id.unwrap() as usize;
    for place in 0..8 {
        assert_eq!(row(&before, positions, pad + 1 + place), row(&after, positions, 2 + place), "place {place}");
    }
}
