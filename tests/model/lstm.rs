//! What holds of LSTMs beside the fixtures: symmetries, parameters, files, configs.

use std::collections::HashSet;

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::config::RunConfig;
use lowland::curvature::{Chunks, Matrix, ModelOperator, Operator, Subject};
use lowland::gpu::{Gpu, GpuError};
use lowland::model::{
    Direction, Encoder, ForwardPass, GradientPass, Loaded, Model, ModelConfig, ModelKind, Norm, Parameter, Part, Role,
    Weights, dims_for, load, read_examples,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Dims, Labels};

const BOTH_WAYS: [&str; 6] = ["lstm-16", "lstm-20", "lstm-long", "lstm-short", "lstm-untied", "lstm-silu"];

fn read(name: &str) -> (Loaded, Vec<Sentence>) {
    let loaded = load(&fixture(name)).unwrap();
    let sentences = read_examples(&fixture(name).join("examples.jsonl"), &loaded.encoder.config).unwrap();
    (loaded, sentences)
}

fn logits(gpu: &Gpu, encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<f32> {
    let model = Model::new(&Device::of(gpu), encoder, weights).unwrap();
    let pass = ForwardPass::new(&model, dims_for(sentences, sentences.len()), Labels::Hard, true).unwrap();
    let rows = pass.run(sentences).unwrap().len();
    pass.logits(rows).unwrap()
}

/// Backwards, each token with the position that it had.
fn reversed(sentence: &Sentence) -> Sentence {
    let n = sentence.ids.len() as u32;
    let back = |v: &[u32]| v.iter().rev().copied().collect();
    Sentence {
        ids: back(&sentence.ids),
        segments: back(&sentence.segments),
        positions: (0..n).rev().collect(),
        masked: sentence.masked.iter().map(|(t, y)| (n - 1 - t, *y)).collect(),
        ..Sentence::default()
    }
}

/// Weights of the other direction for each, and the two halves of the width exchanged everywhere.
fn swapped(encoder: &Encoder, weights: &Weights) -> Weights {
    let other = |d: Direction| if d == Direction::Forward { Direction::Reverse } else { Direction::Forward };
    let half = encoder.config.hidden_size as usize / 2;
    let exchange = |row: &[f32]| [&row[half..], &row[..half]].concat();
    let one = |parameter: &Parameter| {
        let part = match parameter.role.part {
            Part::GatesOfInput(d) => Part::GatesOfInput(other(d)),
            Part::GatesOfState(d) => Part::GatesOfState(other(d)),
            part => part,
        };
        let from = encoder.with_role(Role { part, ..parameter.role }).unwrap();
        let values = &weights.0[from];
        let columns = || values.chunks_exact(2 * half).flat_map(exchange).collect::<Vec<f32>>();
        match (part, parameter.role.bias) {
            (Part::GatesOfState(_), _) | (Part::GatesOfInput(_) | Part::Decoder, true) => values.clone(),
            // A vector over the width is a row.
            (Part::HeadDense, false) => {
                let columns = columns();
                let rows = columns.len() / 2;
                [&columns[rows..], &columns[..rows]].concat()
            }
            _ => columns(),
        }
    };
    Weights(encoder.parameters.iter().map(one).collect())
}

#[test]
fn reversing_sentences_and_swapping_directions_changes_no_logits() {
    let gpu = gpu();
    for name in BOTH_WAYS {
        let (loaded, sentences) = read(name);
        let Loaded { encoder, weights, .. } = &loaded;
        let want = logits(&gpu, encoder, weights, &sentences);
        let back: Vec<Sentence> = sentences.iter().map(reversed).collect();
        let got = logits(&gpu, encoder, &swapped(encoder, weights), &back);
        for (a, b) in got.iter().zip(&want) {
            assert!((a - b).abs() <= 2e-5, "{name}: {a} against {b}");
        }
        // Neither does nothing by itself.
        let apart = |a: &[f32]| a.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart(&logits(&gpu, encoder, weights, &back)) > 0.01 || name == "lstm-short", "{name}");
        assert!(apart(&logits(&gpu, encoder, &swapped(encoder, weights), &sentences)) > 0.01, "{name}");
    }
}

/// A plain LSTM does not see what comes: its logits hang on the words up to there.
#[test]
fn one_direction_reads_the_past_alone() {
    let gpu = gpu();
    let (loaded, sentences) = read("lstm-plain");
    let Loaded { encoder, weights, .. } = &loaded;
    let short: Vec<Sentence> = sentences
        .iter()
        .map(|s| {
            let end = s.masked.iter().map(|(t, _)| *t as usize).max().unwrap() + 1;
            Sentence { ids: s.ids[..end].to_vec(), ..s.clone() }
        })
        .collect();
    assert!(short.iter().zip(&sentences).any(|(a, b)| a.ids.len() < b.ids.len()));
    let (want, got) = (logits(&gpu, encoder, weights, &sentences), logits(&gpu, encoder, weights, &short));
    assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() <= 2e-6));
    let (both, sentences) = read("lstm-16");
    let Loaded { encoder, weights, .. } = &both;
    let first = |s: &Sentence| Sentence {
        ids: s.ids[..=s.masked[0].0 as usize].to_vec(),
        masked: vec![s.masked[0]],
        ..s.clone()
    };
    let cut: Vec<Sentence> = sentences[..1].iter().map(first).collect();
    let whole: Vec<Sentence> = vec![Sentence { masked: vec![sentences[0].masked[0]], ..sentences[0].clone() }];
    let (want, got) = (logits(&gpu, encoder, weights, &whole), logits(&gpu, encoder, weights, &cut));
    assert!(want.iter().zip(&got).any(|(a, b)| (a - b).abs() > 0.01), "two directions see both sides");
}

#[test]
fn parameters_have_roles_of_their_own_and_the_two_biases_of_a_gate_one_gradient() {
    let gpu = gpu();
    for name in ["lstm-16", "lstm-plain"] {
        let (loaded, sentences) = read(name);
        let Loaded { encoder, weights, .. } = &loaded;
        let roles: HashSet<Role> = encoder.parameters.iter().map(|p| p.role).collect();
        assert_eq!(roles.len(), encoder.parameters.len(), "{name}");
        let model = Model::new(&Device::of(&gpu), encoder, weights).unwrap();
        let pass = GradientPass::new(&model, dims_for(&sentences, sentences.len()), Labels::Hard).unwrap();
        pass.run(&sentences).unwrap();
        let gradient = pass.gradient().read(&gpu, encoder).unwrap();
        let mut pairs = 0;
        for parameter in &encoder.parameters {
            let Role { part: Part::GatesOfInput(direction), bias: true, layer } = parameter.role else { continue };
            let [a, b] = [Part::GatesOfInput(direction), Part::GatesOfState(direction)]
                .map(|part| &gradient.0[encoder.with_role(Role { part, bias: true, layer }).unwrap()]);
            let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(largest > 1e-3 && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * largest), "{name}");
            pairs += 1;
        }
        assert_eq!(pairs, encoder.config.num_hidden_layers * encoder.config.directions());
    }
}

/// Of single tokens, the weights of the state and the forget gates touch nothing; behind its last masked position a
/// plain LSTM reads nothing that reaches the loss.
#[test]
fn untouched_parameters_of_single_tokens_have_no_curvature() {
    let gpu = gpu();
    for name in ["lstm-tiny", "lstm-plain-tiny", "lstm-short"] {
        let (loaded, sentences) = read(name);
        let single: Vec<Sentence> = sentences.into_iter().filter(|s| s.ids.len() == 1).collect();
        assert!(!single.is_empty());
        let model = Model::new(&Device::of(&gpu), &loaded.encoder, &loaded.weights).unwrap();
        let subject = Subject::new(&model, &single, &[], &Chunks { batch: 8, probes: 32 }).unwrap();
        let mut flags = vec![false; subject.size()];
        subject.untouched().into_iter().flatten().for_each(|i| flags[i] = true);
        let operator = ModelOperator::new(&subject, Matrix::Ggn);
        let places: Vec<usize> = (0..subject.size()).collect();
        let unit = |i: &usize| (0..subject.size()).map(|j| f32::from(*i == j)).collect::<Vec<f32>>();
        let mut diagonal = Vec::new();
        for block in places.chunks(32) {
            let images = operator.apply(&block.iter().map(unit).collect::<Vec<_>>()).unwrap();
            diagonal.extend(block.iter().zip(images).map(|(i, image)| f64::from(image[*i])));
        }
        for (parameter, range) in subject.vectors().parts(subject.encoder()) {
            for i in range.clone() {
                let (entry, place) = (diagonal[i], i - range.start);
                assert_eq!(flags[i], entry == 0.0, "{name}, {parameter}, number {place}: {entry:.1e}");
            }
        }
    }
}

#[test]
fn initial_weights_and_names_are_those_of_the_release() {
    let config = ModelConfig {
        kind: ModelKind::Lstm,
        vocab_size: 30,
        hidden_size: 32,
        num_hidden_layers: 1,
        ..ModelConfig::default()
    };
    let largest = |config: &ModelConfig, end: &str| {
        let encoder = Encoder::new(config).unwrap();
        let at = encoder.find(&format!("rnn.encoder.layer.0.{end}")).unwrap_or_else(|| panic!("{end}"));
        let weights = Weights::initial(&encoder.parameters, 0.02, 3);
        let values = &weights.0[at];
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        (encoder.parameters[at].shape.clone(), values.iter().fold(0.0f32, |m, v| m.max(v.abs())), mean)
    };
    for end in ["", "_reverse"] {
        for (called, shape) in
            [("weight_ih", vec![64, 32]), ("weight_hh", vec![64, 16]), ("bias_ih", vec![64]), ("bias_hh", vec![64])]
        {
            let (found, largest, mean) = largest(&config, &format!("lstm.{called}_l0{end}"));
            assert_eq!(found, shape);
            assert!(largest < 0.25 && largest > 0.22 && mean.abs() < 0.05, "{called}: {largest} {mean}");
        }
    }
    let narrow = ModelConfig { lstm_initializer_range: Some(0.01), ..config.clone() };
    assert!(largest(&narrow, "lstm.weight_hh_l0").1 < 0.01);
    let plain = ModelConfig { bidirectional: false, ..config.clone() };
    assert_eq!(largest(&plain, "lstm.weight_hh_l0").0, [128, 32]);
    let encoder = Encoder::new(&config).unwrap();
    assert_eq!(encoder.parameter_count(), 30 * 32 + 36 * 32 + 32 + 6 * 1024 + 12 * 32 + 2 * 64 + 1024 + 96 + 30);
    let decays = |name: &str| encoder.matrices[encoder.parameters[encoder.find(name).unwrap()].matrix].decay;
    assert!(decays("rnn.encoder.layer.0.lstm.weight_hh_l0") && !decays("rnn.encoder.layer.0.lstm.bias_hh_l0"));
    for (name, role) in [
        ("rnn.encoder.FinalLayerNorm.weight", Role { part: Part::Norm(Norm::Final), bias: false, layer: None }),
        ("cls.predictions.transform.dense_act.bias", Role { part: Part::HeadDense, bias: true, layer: None }),
        ("cls.predictions.bias", Role { part: Part::Decoder, bias: true, layer: None }),
    ] {
        assert_eq!(encoder.find(name), encoder.with_role(role), "{name}");
        assert!(encoder.find(name).is_some(), "{name}");
    }
}

#[test]
fn a_config_has_the_keys_of_its_type() {
    let parse = |text: &str| RunConfig::parse(text, "run.toml");
    let lstm = parse("[model]\ntype = \"lstm\"\nhidden_size = 32\n").unwrap();
    let written = lstm.to_toml();
    assert!(written.contains("bidirectional = true") && !written.contains("heads"), "{written}");
    assert_eq!(parse(&written).unwrap(), lstm);
    let json = lstm.model.model_config(12, 10).to_json();
    assert_eq!((&json["model_type"], &json["bidirectional"]), (&"lstm".into(), &true.into()));
    assert!(
        ["num_attention_heads", "intermediate_size", "lstm_initializer_range"].iter().all(|k| json.get(k).is_none())
    );
    let bert = parse("[model]\ntype = \"bert\"\n").unwrap();
    assert!(bert.to_toml().contains("num_attention_heads = 4") && !bert.to_toml().contains("bidirectional"));
    for (text, key) in [
        ("[model]\ntype = \"lstm\"\nnum_attention_heads = 2\n", "model.num_attention_heads"),
        ("[model]\ntype = \"lstm\"\nattention_probs_dropout_prob = 0.1\n", "model.attention_probs_dropout_prob"),
        ("[model]\ntype = \"bert\"\nbidirectional = true\n", "model.bidirectional"),
        ("[model]\nlstm_initializer_range = 0.1\n", "model.lstm_initializer_range"),
    ] {
        let error = parse(text).unwrap_err();
        let line = text.lines().count();
        assert_eq!(error.place, format!("run.toml:{line}"), "{error}");
        assert!(error.message.contains(key) && error.message.contains("no such key"), "{error}");
    }
    let error = parse("[model]\ntype = \"lstm\"\nhidden_size = 33\n").unwrap_err().to_string();
    assert!(error.contains("33 is odd") && error.contains("bidirectional = false"), "{error}");
    assert!(parse("[model]\ntype = \"lstm\"\nhidden_size = 33\nbidirectional = false\n").is_ok());
}

/// Mesa ends the loops of an invocation after 65,535 iterations and says nothing: what would need more is refused.
#[test]
fn a_sentence_beyond_a_software_drivers_loops_is_refused() {
    let gpu = gpu();
    if !gpu.capabilities().software {
        println!("skipped: this adapter does not bound loops");
        return;
    }
    let config = ModelConfig {
        kind: ModelKind::Lstm,
        vocab_size: 8,
        hidden_size: 512,
        num_hidden_layers: 1,
        bidirectional: false,
        max_position_embeddings: 80,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.02, 1);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let of = |tokens: u32| Sentence { ids: vec![3; tokens as usize], masked: vec![(0, 4)], ..Sentence::default() };
    let dims = Dims { rows: 80, masked: 2, sentences: 2, probes: 1, longest: 0 };
    let pass = ForwardPass::new(&model, dims, Labels::Hard, false).unwrap();
    assert!(pass.run(&[of(2), of(40)]).is_ok());
    let refused = pass.run(&[of(2), of(70)]).unwrap_err();
    assert!(matches!(refused, GpuError::Loops { needed: 65_001.., .. }), "{refused}");
    assert!(refused.to_string().contains("a sentence of 70 tokens"), "{refused}");
}
