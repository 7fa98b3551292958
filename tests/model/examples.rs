//! Files of examples: as a collator of `transformers` makes them, and in the form of our own.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::model::{ForwardPass, GradientPass, Model, ModelConfig, dims_for, load, parse_examples, read_examples};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use serde_json::Value;

/// The sum of each sentence's losses.
fn losses(model: &str, sentences: &[Sentence]) -> Vec<f64> {
    let gpu = gpu();
    let loaded = load(&fixture(model)).unwrap();
    let model = Model::new(&Device::of(&gpu), &loaded.encoder, &loaded.weights).unwrap();
    let dims = dims_for(sentences, sentences.len());
    let pass = ForwardPass::new(&model, dims, Labels::Hard, false).unwrap();
    let rows = pass.run(sentences).unwrap();
    let mut rest = rows.as_slice();
    let sum = |s: &Sentence| {
        let (own, others) = rest.split_at(s.masked.len());
        rest = others;
        own.iter().map(|r| r.loss).sum()
    };
    sentences.iter().map(sum).collect()
}

#[test]
fn collated_batches_have_the_loss_of_transformers() {
    let text = std::fs::read_to_string(fixture("collated/losses.json")).unwrap();
    let truth: Value = serde_json::from_str(&text).unwrap();
    for model in ["roberta-32", "bert-24"] {
        let config = load(&fixture(model)).unwrap().encoder.config;
        for side in ["left", "right"] {
            let name = format!("{model}-{side}");
            let path = fixture(&format!("collated/{name}.jsonl"));
            let text = std::fs::read_to_string(&path).unwrap();
            // The cases that the fixture is there for.
            let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
            let has = |id: u64, attention: u64| {
                rows.iter().any(|r| {
                    let column = |key: &str| r[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap_or(0));
                    column("input_ids").zip(column("attention_mask")).any(|pair| pair == (id, attention))
                })
            };
            assert!(has(1, 0) && has(1, 1), "{name}: padding, and the pad token attended to");
            let sentences = read_examples(&path, &config).unwrap();
            let got = losses(model, &sentences);
            let want: Vec<f64> = serde_json::from_value(truth[&name]["losses"].clone()).unwrap();
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 2e-5 * want.abs(), "{name}: {got} against {want}");
            }
            let predicted: usize = sentences.iter().map(|s| s.masked.len()).sum();
            let mean = got.iter().sum::<f64>() / predicted as f64;
            let want = truth[&name]["loss"].as_f64().unwrap();
            assert!((mean / want - 1.0).abs() <= 1e-6, "{name}: {mean} against {want}");
        }
    }
}

/// Both forms of the same examples, padded in every way that leaves a RoBERTa's positions alone.
#[test]
fn both_forms_are_the_same_examples() {
    let name = "roberta-32";
    let config = load(&fixture(name)).unwrap().encoder.config;
    let text = std::fs::read_to_string(fixture(name).join("examples.jsonl")).unwrap();
    let own = parse_examples(&text, "own", &config).unwrap();
    for (left, right) in [(0, 0), (0, 3), (3, 0), (2, 2)] {
        for mask in [true, false] {
            let line = |line: &str| {
                let example: Value = serde_json::from_str(line).unwrap();
                let list = |key: &str| -> Vec<i64> { serde_json::from_value(example[key].clone()).unwrap() };
                let ids = list("input_ids");
                let mut labels = vec![-100; ids.len()];
                for (p, y) in list("masked_positions").iter().zip(list("labels")) {
                    labels[*p as usize] = y;
                }
                let pad = |values: Vec<i64>, with: i64| [vec![with; left], values, vec![with; right]].concat();
                let mut made = serde_json::json!({ "input_ids": pad(ids.clone(), 1), "labels": pad(labels, -100) });
                if mask {
                    made["attention_mask"] = serde_json::json!(pad(vec![1; ids.len()], 0));
                }
                made.to_string() + "\n"
            };
            let text: String = text.lines().map(line).collect();
            // As an editor on Windows saves it.
            let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            let collated = parse_examples(&text, "collated", &config).unwrap();
            for (a, b) in own.iter().zip(&collated) {
                let sorted = |s: &Sentence| {
                    let mut masked = s.masked.clone();
                    masked.sort_unstable();
                    (s.ids.clone(), masked, s.positions.clone())
                };
                assert_eq!(sorted(a), sorted(b));
            }
        }
    }
}

/// A gradient is that of the sentence alone: nothing goes to the rows of what is not attended to.
#[test]
fn what_is_not_attended_to_has_no_gradient() {
    let gpu = gpu();
    let name = "bert-24";
    let loaded = load(&fixture(name)).unwrap();
    let line = r#"{"input_ids":[1,0,9,3,2],"attention_mask":[0,1,0,1,1],"labels":[-100,-100,-100,7,-100]}"#;
    let sentences = parse_examples(line, "line", &loaded.encoder.config).unwrap();
    assert_eq!((&sentences[0].ids, &sentences[0].positions), (&vec![0, 3, 2], &vec![1, 3, 4]));
    let model = Model::new(&Device::of(&gpu), &loaded.encoder, &loaded.weights).unwrap();
    let dims = dims_for(&sentences, 1);
    let pass = GradientPass::new(&model, dims, Labels::Hard).unwrap();
    pass.run(&sentences).unwrap();
    let gradient = pass.gradient().read(&gpu, &loaded.encoder).unwrap();
    let table = loaded.encoder.find("bert.embeddings.position_embeddings.weight").unwrap();
    let used: Vec<bool> = gradient.0[table].chunks_exact(24).map(|row| row.iter().any(|g| *g != 0.0)).collect();
    assert_eq!(used[..6], [false, true, false, true, true, false]);
}

/// OPT counts positions over what is attended to, whatever token stands in the padding.
#[test]
fn positions_of_opt_are_those_of_attended_tokens() {
    let opt = load(&fixture("opt-18")).unwrap().encoder.config;
    let read = |line: &str| parse_examples(line, "line", &opt).unwrap().remove(0);
    let plain = read(r#"{"input_ids":[2,5,6,7,8]}"#);
    for line in [
        r#"{"input_ids":[4,4,2,5,6,7,8],"attention_mask":[0,0,1,1,1,1,1]}"#,
        r#"{"input_ids":[1,1,2,5,6,7,8],"attention_mask":[0,0,1,1,1,1,1]}"#,
        r#"{"input_ids":[2,5,6,7,8,4],"attention_mask":[1,1,1,1,1,0]}"#,
    ] {
        let padded = read(line);
        assert_eq!((&padded.ids, &padded.positions, &padded.masked), (&plain.ids, &plain.positions, &plain.masked));
    }
    let typed = r#"{"input_ids":[2,5,6],"token_type_ids":[0,0,0]}"#;
    let error = parse_examples(typed, "f", &opt).unwrap_err().to_string();
    assert!(error.starts_with("f:1: ") && error.contains("token_type_ids"), "{error}");
}

#[test]
fn wrong_examples_are_refused_with_their_line() {
    let roberta = ModelConfig { vocab_size: 12, max_position_embeddings: 8, ..ModelConfig::default() };
    let bert = ModelConfig { kind: lowland::model::ModelKind::Bert, ..roberta.clone() };
    let bert = ModelConfig { max_position_embeddings: 6, ..bert };
    for (line, wanted) in [
        (r#"{"input_ids":[0,3,2],"labels":[-100,-100,-100]}"#, "all labels are -100"),
        (r#"{"input_ids":[0,3,2],"labels":[-100,5]}"#, "2 labels and 3 input_ids; without masked_positions"),
        (
            r#"{"input_ids":[0,3,2],"labels":[-100,-1,-100]}"#,
            "label -1 is no token; where nothing is predicted it is -100",
        ),
        (r#"{"input_ids":[0,3,2],"masked_positions":[1],"labels":[-100]}"#, "label -100 is no token"),
        (r#"{"input_ids":[0,3,2],"masked_positions":[1],"labels":[5,6]}"#, "1 masked positions and 2 labels"),
        (r#"{"input_ids":[0,3,2],"masked_positions":[],"labels":[]}"#, "no masked position"),
        (r#"{"input_ids":[0,3,2],"masked_positions":[3],"labels":[5]}"#, "masked position 3 of 3 tokens"),
        (r#"{"input_ids":[0,3,2],"masked_positions":[1,1],"labels":[5,5]}"#, "masked twice"),
        (r#"{"input_ids":[0,3,2],"labels":[-100,12,-100]}"#, "token 12 is not in the vocabulary of 12"),
        (r#"{"input_ids":[0,3,12],"attention_mask":[1,1,0],"labels":[-100,5,-100]}"#, "token 12 is not"),
        (r#"{"input_ids":[0,3,2],"attention_mask":[1,1],"labels":[-100,5,-100]}"#, "2 attention_mask and 3 input_ids"),
        (r#"{"input_ids":[0,3,2],"attention_mask":[1,1,2],"labels":[-100,5,-100]}"#, "attention_mask 2; it is 1 or 0"),
        (
            r#"{"input_ids":[0,3,2],"attention_mask":[1,0,1],"labels":[-100,5,-100]}"#,
            "position 1 is predicted, and its attention_mask is 0",
        ),
        (r#"{"input_ids":[0,3,2,1],"labels":[-100,-100,-100,5]}"#, "position 3 is predicted, and is padding"),
        (
            r#"{"input_ids":[0,1,3,2],"labels":[-100,-100,5,-100]}"#,
            "the pad token 1 stands at position 1, before the end",
        ),
        (r#"{"input_ids":[1,1],"labels":[5,-100]}"#, "no token but padding"),
        (r#"{"input_ids":[],"labels":[]}"#, "all labels are -100"),
        (r#"{"input_ids":[0,3,2],"attention_mask":[0,0,0],"labels":[-100,5,-100]}"#, "no token but padding"),
        (r#"{"input_ids":[0,3,2],"token_type_ids":[0,0],"labels":[-100,5,-100]}"#, "2 token_type_ids and 3 input_ids"),
        (r#"{"input_ids":[0,3,2],"token_type_ids":[0,1,0],"labels":[-100,5,-100]}"#, "token type 1, the model has 1"),
        (
            r#"{"input_ids":[0,3,4,4,4,4,2],"labels":[-100,5,-100,-100,-100,-100,-100]}"#,
            "7 tokens, the model has positions for 6",
        ),
        (r#"{"input_ids":[0,3,2],"mask":[1,1,1],"labels":[-100,5,-100]}"#, "unknown field `mask`"),
        (r#"{"input_ids":[0,3,2],"labels":["w"]}"#, "an example is"),
    ] {
        for config in [&roberta, &bert] {
            let good = r#"{"input_ids":[0,3,2],"labels":[-100,5,-100]}"#;
            let error = parse_examples(&format!("{good}\n\n{line}\n"), "file.jsonl", config).unwrap_err().to_string();
            assert!(error.starts_with("file.jsonl:3: ") && error.contains(wanted), "{line}: {error}");
        }
    }
    // BERT counts the padding before a sentence, RoBERTa does not.
    let padded = r#"{"input_ids":[1,1,0,3,4,4,2],"labels":[-100,-100,-100,5,-100,-100,-100]}"#;
    assert!(parse_examples(padded, "f", &roberta).is_ok());
    let error = parse_examples(padded, "f", &bert).unwrap_err().to_string();
    assert!(error.contains("7 tokens, the model has positions for 6"), "{error}");
}
