//! Noise of single predicted tokens on the adapter: against the interpreter in double precision, and against noise of
//! whole examples where these have one token each.

use crate::common::adapter::gpu;
use lowland::config::Resolved;
use lowland::curvature::{
    Comparison, Examples, GradientNoise, LabelSource, LossNormaliser, NoiseRequest, Setting, gradient_noise, unseen,
};
use lowland::gpu::{Gpu, Step};
use lowland::model::{Encoder, Model, Per, Weights};
use lowland::ops::batch::Sentence;
use lowland::ops::{Batch, Device, Family, Labels, Variants};
use lowland::reference::{Frame, Values, run};
use lowland::train::{Corpus, Instruments, measured_seed};

const CONFIG: &str = r#"
seed = 3
[language]
kind = "hmm"
hmm = { states = 3, vocabulary = 5, transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }
min_length = 2
max_length = 6
[model]
type = "lstm"
bidirectional = false
hidden_size = 8
num_hidden_layers = 1
[objective]
kind = "causal"
[measure]
every = 0
trace = { sentences = 24, draws = 2 }
noise = { sentences = 24, per = "token" }
"#;

fn resolved(overrides: &[&str]) -> Resolved {
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
    Resolved::from_text(CONFIG, "run", &overrides).unwrap()
}

fn corpus(overrides: &[&str]) -> Corpus {
    let config = resolved(overrides).config;
    Corpus::open(&config.language, &config.objective, config.seed).unwrap()
}

fn small(overrides: &[&str]) -> (Encoder, Weights) {
    let encoder = Encoder::new(&resolved(overrides).config.model.model_config(9, 8)).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.6, 7);
    (encoder, weights)
}

/// The gradient of the loss at one of a sentence's positions, all of the sentence being fed, in double precision.
fn token_gradient(encoder: &Encoder, weights: &Weights, sentence: &Sentence, token: usize, gpu: &Gpu) -> Vec<f64> {
    let variants = Variants::choose(gpu.capabilities()).with(Family::Sums, "tiny").unwrap();
    let (graph, _, weight, gradients) = encoder.with_gradient(Labels::Hard);
    let mut values = Values::new();
    let packed = weights.pack(&encoder.parameters, &encoder.matrices);
    for ((tensor, matrix), memory) in encoder.tensors.iter().zip(&encoder.matrices).zip(&packed) {
        let wide = matrix.cols.next_multiple_of(4) as usize;
        let row = |r: &[f32]| r[..matrix.cols as usize].iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        values.insert(*tensor, memory.chunks_exact(wide).take(matrix.rows as usize).flat_map(row).collect());
    }
    let batch = Batch::new(&encoder.batch_layout(&variants), std::slice::from_ref(sentence));
    let counted = |t: usize| [f64::from(u8::from(t == token)), 0.0, 0.0, 0.0];
    values.insert(weight, (0..sentence.masked.len()).flat_map(counted).collect());
    run(&Frame { graph: &graph, batch: &batch, step: Step::default() }, graph.nodes(), &mut values);
    gradients.iter().flat_map(|id| values[id].clone()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Tr Σ of tokens' gradients, ‖ḡ‖², and the mean of g · g' over pairs from different sentences.
fn by_hand(sentences: &[&Vec<Vec<f64>>]) -> [f64; 3] {
    let all: Vec<(usize, &Vec<f64>)> =
        sentences.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |g| (i, g))).collect();
    let n = all.len() as f64;
    let mean: Vec<f64> = (0..all[0].1.len()).map(|j| all.iter().map(|(_, g)| g[j]).sum::<f64>() / n).collect();
    let off = |g: &Vec<f64>| g.iter().zip(&mean).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
    let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a, b))).filter(|(a, b)| a.0 != b.0);
    let (total, count) = pairs.fold((0.0, 0.0), |(t, c), (a, b)| (t + dot(a.1, b.1), c + 1.0));
    [all.iter().map(|(_, g)| off(g)).sum::<f64>() / (n - 1.0), dot(&mean, &mean), total / count]
}

fn measured(model: &Model, sentences: &[Sentence], request: &NoiseRequest) -> GradientNoise {
    gradient_noise(&Setting::of(model), &Examples::These(sentences.into()), request, &mut unseen).unwrap()
}

fn of_tokens() -> NoiseRequest {
    NoiseRequest { per: Per::Token, ..NoiseRequest::default() }
}

fn close(a: f64, b: f64, bound: f64) {
    assert!((a / b - 1.0).abs() < bound, "{a} against {b}");
}

fn is_that_of_vectors(overrides: &[&str], sentences: &[Sentence]) {
    let gpu = gpu();
    let (encoder, weights) = small(overrides);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let gradients = |s: &Sentence| -> Vec<Vec<f64>> {
        (0..s.masked.len()).map(|t| token_gradient(&encoder, &weights, s, t, &gpu)).collect()
    };
    let gradients: Vec<Vec<Vec<f64>>> = sentences.iter().map(gradients).collect();
    let all: Vec<&Vec<Vec<f64>>> = gradients.iter().collect();
    let found = measured(&model, sentences, &of_tokens());
    let tokens: usize = sentences.iter().map(|s| s.masked.len()).sum();
    assert!(tokens > 2 * sentences.len());
    assert_eq!((found.gradients, found.scope.examples, found.scope.masked), (tokens, sentences.len(), tokens));
    assert_eq!(found.scope.loss_normaliser(), LossNormaliser::PredictedToken);
    for (square, g) in found.squared_norms.iter().zip(gradients.iter().flatten()) {
        close(*square, dot(g, g), 1e-4);
    }
    let [trace, square, signal] = by_hand(&all);
    let noise = found.noise.unwrap();
    close(noise.trace_covariance.value, trace, 1e-5);
    close(noise.mean_gradient_squared_norm, square, 1e-4);
    close(found.mean_gradient_squared_norm.unwrap(), square, 1e-4);
    assert!((noise.gradient_squared_norm.value - signal).abs() < 1e-5 * trace);
    close(found.covariance_eigenvalues.unwrap().iter().sum(), trace, 1e-4);
    let without: Vec<[f64; 3]> = (0..all.len()).map(|i| by_hand(&[&all[..i], &all[i + 1..]].concat())).collect();
    let n = all.len() as f64;
    for (place, stated) in [(0, noise.trace_covariance), (2, noise.gradient_squared_norm)] {
        let mean = without.iter().map(|w| w[place]).sum::<f64>() / n;
        let squares = without.iter().map(|w| (w[place] - mean).powi(2)).sum::<f64>();
        close(stated.standard_error, (squares * (n - 1.0) / n).sqrt(), 1e-3);
        assert_eq!(stated.samples, all.len(), "over sentences");
    }
}

#[test]
fn next_words_have_the_gradients_of_double_precision() {
    let corpus = corpus(&[]);
    let sentences: Vec<Sentence> = (0..7).map(|i| corpus.held_out(11, i)).collect();
    is_that_of_vectors(&[], &sentences);
}

#[test]
fn several_masks_of_a_sentence_have_the_gradients_of_double_precision() {
    let masked = |i: u32| Sentence {
        ids: vec![0, 3, 4 + i % 5, 3, 3, 2],
        masked: vec![(1, 4 + i % 4), (3, 5 + i % 3), (4, 4 + 3 * i % 5)],
        ..Sentence::default()
    };
    is_that_of_vectors(&["objective.kind=mlm", "model.bidirectional=true"], &(0..6).map(masked).collect::<Vec<_>>());
}

fn traces(c: &Comparison) -> String {
    format!("{:?} {:?} {:?} {:?} {:?}", c.trace_covariance, c.trace_fisher, c.trace_hessian, c.ratios, c.alignment)
}

#[test]
fn one_token_an_example_is_noise_of_examples_bit_for_bit() {
    let gpu = gpu();
    let (encoder, weights) = small(&[]);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let corpus = corpus(&[]);
    let one = |i: u64| {
        let sentence = corpus.held_out(11, i);
        let place = i as usize % sentence.masked.len();
        Sentence { masked: vec![sentence.masked[place]], ..sentence }
    };
    let sentences: Vec<Sentence> = (0..12).map(one).collect();
    for labels in [LabelSource::Data, LabelSource::Model] {
        let request = NoiseRequest { labels, bartlett: Some(16), ..NoiseRequest::default() };
        let a = measured(&model, &sentences, &request);
        let b = measured(&model, &sentences, &NoiseRequest { per: Per::Token, ..request });
        assert_eq!(a.squared_norms, b.squared_norms);
        assert_eq!(a.covariance_eigenvalues, b.covariance_eigenvalues);
        assert_eq!(format!("{:?}", a.noise), format!("{:?}", b.noise));
        assert_eq!(traces(&a.comparison.unwrap()), traces(&b.comparison.unwrap()));
        assert_eq!((a.scope.loss_normaliser(), b.scope.loss_normaliser()), Default::default());
    }
}

#[test]
fn ratios_of_tokens_are_of_the_loss_per_token() {
    let gpu = gpu();
    let (encoder, weights) = small(&[]);
    let model = Model::new(&Device::of(&gpu), &encoder, &weights).unwrap();
    let corpus = corpus(&[]);
    let sentences: Vec<Sentence> = (0..24).map(|i| corpus.held_out(measured_seed(3), i)).collect();
    let of = |per| {
        let request = NoiseRequest { per, labels: LabelSource::Model, bartlett: Some(16), ..NoiseRequest::default() };
        measured(&model, &sentences, &request)
    };
    let (token, example) = (of(Per::Token), of(Per::Example));
    let each = token.scope.tokens_per_example();
    let noise = token.noise.unwrap();
    let (token, example) = (token.comparison.unwrap(), example.comparison.unwrap());
    close(token.trace_fisher.value * each, example.trace_fisher.value, 1e-9);
    close(token.trace_hessian.value * each, example.trace_hessian.value, 1e-9);
    let ratio = token.ratios.covariance_over_fisher.unwrap();
    close(ratio.value, noise.trace_covariance.value / token.trace_fisher.value, 1e-4);
    // Labels of the model: 1 in the mean but for ḡ, whose square is small beside the trace.
    let off = noise.mean_gradient_squared_norm / noise.trace_covariance.value;
    assert!((ratio.value - 1.0).abs() < 4.0 * ratio.standard_error + off, "{ratio}");
    assert_eq!(ratio.samples, 24, "over sentences");
    let (alignment, whole) = (token.alignment.unwrap(), example.alignment.unwrap());
    assert!(alignment > 0.0 && whole > 0.0 && token.alignment_gradients == 64, "{alignment} and {whole}");

    // Measurements along the way have the same, with the data's labels.
    let settings = resolved(&[]).config.measure.unwrap();
    let found = Instruments::new(&corpus, &settings, 16).unwrap().measure(&model, 0, &|| true).unwrap();
    assert_eq!(found.noise_per, Some(Per::Token));
    let data = measured(&model, &sentences, &of_tokens()).noise.unwrap();
    close(found.noise_trace.unwrap(), data.trace_covariance.value, 1e-4);
    close(found.noise_trace_standard_error.unwrap(), data.trace_covariance.standard_error, 1e-3);
    close(found.gradient_squared_norm.unwrap(), data.gradient_squared_norm.value, 1e-3);
    let ratio = found.bartlett.unwrap().noise_fisher.unwrap();
    close(ratio, data.trace_covariance.value / found.fisher_trace, 1e-4);
}
