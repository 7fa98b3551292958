//! The label dial by enumeration of a whole language: whatever the factors, the loss and its gradient are those of
//! exact labels, and the trace of the gradient's covariance is that of exact labels, plus the squared factors times
//! what the label's noise between and within groups adds.

use crate::common::adapter::gpu;
use lowland::config::{LabelMix, RunConfig};
use lowland::model::{Encoder, GradientPass, Model, Weights, dims_for};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use lowland::train::{Corpus, mixed_label};

const LANGUAGE: &str = "
[language]
kind = \"hmm\"
hmm = { states = 2, vocabulary = 5, seed = 3 }
min_length = 2
max_length = 2
[model]
hidden_size = 10
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 12
";

#[test]
fn mean_gradient_and_loss_stay_and_the_covariance_splits() {
    let config = RunConfig::parse(LANGUAGE, "test").unwrap();
    let corpus = Corpus::open(&config.language, &config.objective, 1).unwrap();
    let truth = corpus.truth().unwrap();
    let encoder = Encoder::new(&config.model.model_config(corpus.tokens.size() as u32, 4)).unwrap();
    let gpu = gpu();
    let weights = Weights::initial(&encoder.parameters, 0.4, 7);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    // Every sentence of two words, each of them masked: (probability, sentence, conditional, word).
    let mut all: Vec<(f64, Sentence, Vec<f64>, usize)> = Vec::new();
    for words in (0..5u32).flat_map(|a| (0..5u32).map(move |b| [a, b])) {
        let known = truth.conditional(&words).unwrap();
        for (position, p) in known.conditional.iter().enumerate() {
            let sentence = corpus.tokens.mask(&words, position);
            all.push((known.log_probability.exp() / 2.0, sentence, p.clone(), words[position] as usize));
        }
    }
    assert!((all.iter().map(|a| a.0).sum::<f64>() - 1.0).abs() < 1e-9);
    let sentences: Vec<Sentence> = all.iter().map(|a| a.1.clone()).collect();
    let dims = dims_for(&sentences, 1);
    let soft = GradientPass::new(&model, dims, Labels::Soft).unwrap();
    let hard = GradientPass::new(&model, dims, Labels::Hard).unwrap();
    // Mean loss, mean gradient and trace of the gradient's covariance.
    let moments = |pass: &GradientPass, label: &dyn Fn(&Sentence, &[f64], usize) -> Sentence| {
        let (mut loss, mut squares, mut mean) = (0.0, 0.0, Vec::new());
        for (probability, sentence, p, y) in &all {
            loss += probability * pass.run(&[label(sentence, p, *y)]).unwrap()[0].loss;
            let g = pass.gradient().read(&gpu, &encoder).unwrap().0.concat();
            mean.resize(g.len(), 0.0);
            for (mean, g) in mean.iter_mut().zip(&g) {
                *mean += probability * f64::from(*g);
                squares += probability * f64::from(*g).powi(2);
            }
        }
        let trace = squares - mean.iter().map(|g| g * g).sum::<f64>();
        (loss, mean, trace)
    };
    let mixed = |between: f64, within: f64| {
        let mix = LabelMix { between, within, groups: 2 };
        moments(&soft, &|sentence, p, y| {
            let label = corpus.tokens.soft_label(&mixed_label(&mix, p, y));
            Sentence { soft: vec![label], ..sentence.clone() }
        })
    };
    let (loss, gradient, exact) = mixed(0.0, 0.0);
    let (between, within) = (mixed(1.0, 0.0).2 - exact, mixed(0.0, 1.0).2 - exact);
    println!("trace of the covariance {exact:.5} of exact labels, + {between:.5} between, + {within:.5} within");
    assert!(between > 0.01 * exact && within > 0.01 * exact, "both parts are there to be seen");
    let sampled = moments(&hard, &|sentence, _, _| sentence.clone());
    let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
    for (name, (l, g, trace), want) in [
        ("sampled", sampled, exact + between + within),
        ("1, 1", mixed(1.0, 1.0), exact + between + within),
        ("1, 0.25", mixed(1.0, 0.25), exact + between + within / 16.0),
        ("0.5, 2", mixed(0.5, 2.0), exact + between / 4.0 + 4.0 * within),
    ] {
        assert!((l - loss).abs() < 1e-5 * loss, "{name}: the loss is {l}, not {loss}");
        let off = g.iter().zip(&gradient).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(off < 1e-5 * largest, "{name}: the mean gradient is off by {off:.1e} of {largest:.1e}");
        assert!((trace / want - 1.0).abs() < 1e-4, "{name}: {trace}, not {want}");
    }
}
