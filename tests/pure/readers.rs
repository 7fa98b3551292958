//! Readers of files never panic, whatever the bytes: config, grammar, examples, safetensors, tokenizers,
//! texts.

use std::path::Path;

use crate::common::fixtures::fixture;
use lowland::config::RunConfig;
use lowland::downstream::{Columns, Sizes, TaskRows};
use lowland::language::{Grammar, Language, Pcfg, Truth};
use lowland::model::{ModelConfig, WeightsFile, match_words, parse_examples};
use lowland::text::Pieces;
use proptest::prelude::*;

const CONFIG: &str = include_str!("../../configs/quickstart.toml");
const GRAMMAR: &str = "S A B 1\nA a 0.5\nA b 0.25\nA B B 0.25\nB A 0.3\nB c 0.7\n";
const NLTK: &str = "%start S\nS -> A 'b' B [0.5] | \"c\" [0.5] # more\nA -> 'a' [.5] | \\\n B [.5]\nB -> 'b' [1.0]\n";
const EXAMPLES: &str = "{\"input_ids\":[0,3,5,2],\"masked_positions\":[1],\"labels\":[4]}\n\
    {\"input_ids\":[1,0,3,5,2],\"attention_mask\":[0,1,1,0,1],\"labels\":[-100,-100,4,-100,-100]}\n";
const TOKENIZER: &str = include_str!("../fixtures/words/roberta/tokenizer.json");

/// A small safetensors file.
fn weights() -> Vec<u8> {
    let values = [1.0f32, 2.0, 3.0, 4.0];
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &bytes).unwrap();
    safetensors::serialize([("a.weight", view)], None).unwrap()
}

/// A text with some bytes replaced, cut out or put in.
fn damaged(text: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let text = text.to_vec();
    proptest::collection::vec((0..text.len(), any::<u8>(), 0..3u8), 1..6).prop_map(move |changes| {
        let mut bytes = text.clone();
        for (at, byte, how) in changes {
            let at = at.min(bytes.len().saturating_sub(1));
            match how {
                _ if bytes.is_empty() => bytes.push(byte),
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn bytes_like(text: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    prop_oneof![damaged(text), proptest::collection::vec(any::<u8>(), 0..200)]
}

/// What is read as a grammar gives sentences that it can judge.
fn a_grammar_that_is_read_speaks(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(grammar) = Grammar::parse(&String::from_utf8_lossy(bytes), "grammar")
        && let Ok(language) = Pcfg::new(grammar, 6)
    {
        let words = language.sample(1, 0);
        prop_assert!(!words.is_empty() && words.len() <= 6);
        prop_assert!(language.conditional(&words).is_some());
    }
    Ok(())
}

/// An index of weights in two files.
const SHARDS: &[u8] = br#"{"metadata":{},"weight_map":{"bert.x":"a.safetensors","bert.y":"b.safetensors"}}"#;

/// The beginning of a `config.json`.
const MODEL: &[u8] = br#"{"model_type":"bert","vocab_size":8,"hidden_size":4,"num_hidden_layers":1}"#;

/// Two values that a quicker reader of numbers, one digit off, takes for each other.
#[test]
fn numbers_of_json_files_keep_the_last_digit() {
    for text in ["0.3917912342591981", "0.39179123425919804"] {
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read.as_f64(), Some(text.parse().unwrap()));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configs(bytes in bytes_like(CONFIG.as_bytes())) {
        let _ = RunConfig::parse(&String::from_utf8_lossy(&bytes), "config");
    }

    #[test]
    fn numbers_of_json_files(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
        let text = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(serde_json::from_str::<f64>(&text).unwrap(), value);
    }

    #[test]
    fn grammars(bytes in bytes_like(GRAMMAR.as_bytes())) {
        a_grammar_that_is_read_speaks(&bytes)?;
    }

    #[test]
    fn nltk_grammars(bytes in bytes_like(NLTK.as_bytes())) {
        a_grammar_that_is_read_speaks(&bytes)?;
    }

    #[test]
    fn examples(bytes in bytes_like(EXAMPLES.as_bytes())) {
        let config = ModelConfig { vocab_size: 8, ..ModelConfig::default() };
        let _ = parse_examples(&String::from_utf8_lossy(&bytes), "examples", &config);
    }

    #[test]
    fn tokenizers(bytes in bytes_like(TOKENIZER.as_bytes()), name in 0..4usize) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), TOKENIZER).unwrap();
        let names = ["tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"];
        std::fs::write(folder.path().join(names[name]), bytes).unwrap();
        let config = ModelConfig { vocab_size: 16, pad_token_id: Some(12), ..ModelConfig::default() };
        if let Ok((ids, _)) = match_words(folder.path(), &["w0".into(), "w1".into()], &config) {
            let sentence = ids.mask(&[0, 1, 1], 1);
            prop_assert!(sentence.ids.iter().all(|id| *id < 16) && ids.soft_label(&[0.5, 0.5]).len() == 16);
        }
    }

    #[test]
    fn pieces(bytes in bytes_like(&std::fs::read(fixture("texts/bert/tokenizer.json")).unwrap())) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(framing) = Pieces::read(&path).and_then(|pieces| pieces.framing(9)) {
            let framed = framing.frame("The film \u{e9} isn't", Some("[SEP] slow"));
            prop_assert!(framed.is_err() || framed.is_ok_and(|f| f.ids.len() <= 9 && f.segments.len() == f.ids.len()));
        }
    }

    #[test]
    fn files_of_texts(
        bytes in bytes_like(b"question\tsentence\tlabel\r\na \"\tb\t0\r\n\n,\tc\t1\n"),
        ending in 0..3usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(["rows.tsv", "rows.csv", "rows.jsonl"][ending]);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(rows) = TaskRows::read(&path, &Columns::default()) {
            let parts = rows.parts(0, Sizes { train: 1, validation: 0, test: 0 }).unwrap().parts;
            prop_assert!(!parts[0][0].label.is_empty());
        }
    }

    #[test]
    fn safetensors_files(bytes in bytes_like(&weights())) {
        let _ = WeightsFile::parse(&bytes, Path::new("model.safetensors"));
    }

    #[test]
    fn indexes_of_shards(bytes in bytes_like(SHARDS)) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"model_type":"bert"}"#).unwrap();
        std::fs::write(folder.path().join("model.safetensors.index.json"), bytes).unwrap();
        std::fs::write(folder.path().join("a.safetensors"), weights()).unwrap();
        let _ = lowland::model::weight_files(folder.path());
        prop_assert!(lowland::model::load(folder.path()).is_err());
    }

    #[test]
    fn model_configs(bytes in bytes_like(MODEL)) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), bytes).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), weights()).unwrap();
        prop_assert!(lowland::model::load(folder.path()).is_err());
    }
}
