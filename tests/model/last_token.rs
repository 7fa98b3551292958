//! What probes and fine-tuning read of decoders: the state of the last token, against `transformers` in double
//! precision, recorded by `tests/fixtures/make_last_token.py`.

use std::collections::HashMap;

use serde::Deserialize;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::downstream::{Features, Pooling};
use lowland::model::{
    Encoder, GradientPass, Loaded, Model, Reach, RepresentationPass, TokenIds, Weights, dims_for, load, parse_examples,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};

#[derive(Deserialize)]
struct Recorded {
    /// Words by number.
    sentences: Vec<Vec<u32>>,
    lines: Vec<serde_json::Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    states: Vec<f64>,
    inner: Vec<f64>,
    padded: Vec<f64>,
    padded_inner: Vec<f64>,
    loss: f64,
    table: Vec<f64>,
}

/// Of states of size 1.
const BOUND: f64 = 1e-5;
const CLASSES: u32 = 3;
/// Names of the table of words.
const TABLES: [&str; 4] = [
    "transformer.wte.weight",
    "model.decoder.embed_tokens.weight",
    "gpt_neox.embed_in.weight",
    "model.embed_tokens.weight",
];

fn recorded() -> Recorded {
    let recorded: Recorded = serde_json::from_str(include_str!("../fixtures/last_token.json")).unwrap();
    assert_eq!(recorded.cases.len(), 8, "every type of decoder");
    recorded
}

fn compare(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let off = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    println!("{what}: off by {off:.1e}");
    assert!(off <= BOUND, "{what}: off by {off:.1e}");
}

fn tokens(loaded: &Loaded) -> TokenIds {
    TokenIds::new(loaded.encoder.config.vocab_size as usize - 4)
}

#[test]
fn features_of_the_last_token_are_those_of_transformers() {
    let (gpu, recorded) = (gpu(), recorded());
    for case in &recorded.cases {
        let loaded = load(&fixture(&case.model)).unwrap();
        let model = loaded.on(&Device::of(&gpu)).unwrap();
        for (layer, want) in [(2, &case.states), (1, &case.inner)] {
            let (tokens, sentences) = (tokens(&loaded), &recorded.sentences);
            let found = Features::of_model(&model, &tokens, layer, Pooling::Last, sentences, 8).unwrap();
            compare(&format!("{}, layer {layer}", case.model), &found.values, want);
        }
    }
}

/// The positions of tokens are those that a plain forward pass of `transformers` gives them.
#[test]
fn padding_on_both_sides_leaves_the_last_token_that_of_transformers() {
    let (gpu, recorded) = (gpu(), recorded());
    let lines: Vec<String> = recorded.lines.iter().map(|line| line.to_string()).collect();
    for case in &recorded.cases {
        let loaded = load(&fixture(&case.model)).unwrap();
        let model = loaded.on(&Device::of(&gpu)).unwrap();
        let sentences = parse_examples(&lines.join("\n"), "lines", &loaded.encoder.config).unwrap();
        let d = loaded.encoder.config.hidden_size as usize;
        for (layer, want) in [(2, &case.padded), (1, &case.padded_inner)] {
            let pass = RepresentationPass::new(&model, dims_for(&sentences, 8), layer).unwrap();
            let rows = pass.run(&sentences).unwrap();
            let mut end = 0;
            let last = |sentence: &Sentence| {
                end += sentence.ids.len() * d;
                rows[end - d..end].to_vec()
            };
            let found: Vec<f32> = sentences.iter().flat_map(last).collect();
            compare(&format!("{}, padded, layer {layer}", case.model), &found, want);
        }
    }
}

#[test]
fn fine_tuning_reads_the_last_token_and_its_gradient_is_that_of_torch() {
    let (gpu, recorded) = (gpu(), recorded());
    for case in &recorded.cases {
        let loaded = load(&fixture(&case.model)).unwrap();
        let encoder = Encoder::classifier(&loaded.encoder.config, CLASSES).unwrap();
        let d = encoder.config.hidden_size;
        let weight = |c: u32, i: u32| ((7 * c + 3 * i) % 11) as f32 / 8.0 - 0.625;
        let head = HashMap::from([
            ("classifier.weight", (0..CLASSES).flat_map(|c| (0..d).map(move |i| weight(c, i))).collect::<Vec<f32>>()),
            ("classifier.bias", (0..CLASSES).map(|c| c as f32 / 4.0).collect()),
        ]);
        let given = |name: &str| match head.get(name) {
            Some(values) => values.clone(),
            None => loaded.weights.0[loaded.encoder.find(name).unwrap()].clone(),
        };
        let weights = Weights(encoder.parameters.iter().map(|p| given(&p.name)).collect());
        let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
        let reach = encoder.config.reach();
        assert_eq!(reach, Reach::Past);
        let sentence = |(i, words): (usize, &Vec<u32>)| tokens(&loaded).classified(words, i as u32 % CLASSES, reach);
        let sentences: Vec<Sentence> = recorded.sentences.iter().enumerate().map(sentence).collect();
        let pass = GradientPass::new(&model, dims_for(&sentences, 4), Labels::Hard).unwrap();
        let loss = pass.run(&sentences).unwrap().iter().map(|l| l.loss).sum::<f64>() / 4.0;
        assert!((loss / case.loss - 1.0).abs() < 1e-5, "{}: {loss} against {}", case.model, case.loss);
        let table = TABLES.iter().find_map(|name| encoder.find(name)).expect("a table of words");
        let found = &pass.gradient().read(&gpu, &encoder).unwrap().0[table];
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let size = norm(&mut case.table.iter().copied());
        let off = norm(&mut found.iter().zip(&case.table).map(|(a, b)| f64::from(*a) - b)) / size;
        println!("{}: loss {loss}, gradient off by {off:.1e}", case.model);
        assert!(found.len() == case.table.len() && size > 0.1 && off < 1e-4, "{}: off by {off:.1e}", case.model);
    }
}
