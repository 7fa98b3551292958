//! Next words as an objective on the adapter: evaluation against enumeration, Fisher draws at several positions against
//! the interpreter in double precision, gradient noise, measurements along the way, resumed runs.

use crate::common::adapter::gpu;
use lowland::config::{EvaluateSection, Resolved};
use lowland::curvature::{
    Chunks, Drawing, Examples, LossNormaliser, NoiseRequest, Norms, Setting, Stopping, Subject, gradient_noise, unseen,
};
use lowland::gpu::{Gpu, Step};
use lowland::language::entropy;
use lowland::model::{Encoder, ForwardPass, Model, Weights, dims_for, load};
use lowland::ops::batch::Sentence;
use lowland::ops::{Batch, Device, Family, Labels, LossDraw, Variants};
use lowland::reference::{Frame, Values, run};
use lowland::statistics::{Estimate, Target};
use lowland::train::{self, Corpus, Evaluator, Instruments, held_out_seed, measured_seed, plan};

const CONFIG: &str = r#"
seed = 3
[language]
kind = "hmm"
hmm = { states = 3, vocabulary = 5, transition_concentration = 0.3, emission_concentration = 0.3, seed = 1 }
min_length = 1
max_length = 6
[model]
type = "lstm"
bidirectional = false
hidden_size = 8
num_hidden_layers = 1
[objective]
kind = "causal"
[train]
steps = 24
batch_size = 16
optimizer = { kind = "adamw", lr = 1e-2 }
checkpoint_every = 6
keep_checkpoints = 0
evaluate_every = 0
[evaluate]
sentences = 60
[measure]
every = 0
trace = { sentences = 40, draws = 2 }
noise = { sentences = 40 }
hessian_trace = { probes = 6, sentences = 40 }
top = { sentences = 20, products = 30 }
"#;

fn resolved(overrides: &[&str]) -> Resolved {
    let overrides: Vec<String> = overrides.iter().map(|o| o.to_string()).collect();
    Resolved::from_text(CONFIG, "run", &overrides).unwrap()
}

fn corpus() -> Corpus {
    let config = resolved(&[]).config;
    Corpus::open(&config.language, &config.objective, config.seed).unwrap()
}

/// Weights large enough that distributions are far from uniform.
fn small() -> (Encoder, Weights) {
    let config = resolved(&[]).config.model.model_config(9, 8);
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.6, 7);
    (encoder, weights)
}

fn model(gpu: &Gpu) -> Model {
    let (encoder, weights) = small();
    Model::new(&Device::of(gpu), &encoder, &weights).unwrap()
}

fn sentences(corpus: &Corpus, count: u64) -> Vec<Sentence> {
    (0..count).map(|i| corpus.held_out(11, i)).collect()
}

/// log softmax of the rows of logits.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let z = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
    logits.iter().map(|l| f64::from(*l) - z).collect()
}

#[test]
fn excess_losses_are_those_of_enumerated_prefixes() {
    let gpu = gpu();
    let (corpus, model) = (corpus(), model(&gpu));
    let seed = held_out_seed(corpus.seed);
    let (mut excess, mut floor, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..60 {
        let known = corpus.truth().unwrap().prefixes(&corpus.language.sample(seed, i)).unwrap();
        let fed = [corpus.held_out(seed, i)];
        let pass = ForwardPass::new(&model, dims_for(&fed, 1), Labels::Hard, true).unwrap();
        let rows = pass.run(&fed).unwrap().len();
        let logits = pass.logits(rows).unwrap();
        // Words are the ids from 4 on, the end is 2.
        let of = |(row, p): (&[f32], &Vec<f64>)| {
            let q = log_softmax(row);
            let id = |w: usize| if w == p.len() - 1 { 2 } else { w + 4 };
            p.iter().enumerate().filter(|(_, p)| **p > 0.0).map(|(w, p)| p * (p.ln() - q[id(w)])).sum::<f64>()
        };
        excess.push(logits.chunks_exact(9).zip(&known.next).map(of).sum::<f64>());
        floor.push(known.next.iter().map(|p| entropy(p)).sum::<f64>());
        tokens.push(known.next.len() as f64);
    }
    let want = Estimate::of_ratio(&excess, &tokens);
    for batch in [7, 256] {
        let asked = EvaluateSection { sentences: 60, ..EvaluateSection::default() };
        let found = Evaluator::new(&model, &corpus, &asked, batch).unwrap().run().unwrap();
        assert_eq!((found.sentences, found.positions), (60, Some(tokens.iter().sum::<f64>() as usize)));
        let [excess, error] = [found.excess_loss, found.excess_loss_standard_error].map(Option::unwrap);
        let own_floor = found.entropy_floor.unwrap();
        assert!((excess - want.value).abs() < 2e-5, "{found:?} {want}");
        assert!((error / want.standard_error - 1.0).abs() < 1e-3, "{found:?} {want}");
        assert!((own_floor - Estimate::of_ratio(&floor, &tokens).value).abs() < 1e-9, "{found:?}");
        assert!((found.loss - excess - own_floor).abs() < 1e-12);
    }
}

/// Σ over positions of tr F at each, the labels enumerated one at a time: one gradient in double precision for each
/// position and word; and the squared norm of the gradient of the summed loss.
fn oracle(encoder: &Encoder, weights: &Weights, sentence: &Sentence, gpu: &Gpu) -> (f64, f64) {
    let variants = Variants::choose(gpu.capabilities()).with(Family::Sums, "tiny").unwrap();
    let layout = encoder.batch_layout(&variants);
    let (graph, _, weight, gradients) = encoder.with_gradient(Labels::Hard);
    let packed = weights.pack(&encoder.parameters, &encoder.matrices);
    let mut parameters = Values::new();
    for ((tensor, matrix), memory) in encoder.tensors.iter().zip(&encoder.matrices).zip(&packed) {
        let wide = matrix.cols.next_multiple_of(4) as usize;
        let row = |r: &[f32]| r[..matrix.cols as usize].iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        let rows = memory.chunks_exact(wide).take(matrix.rows as usize);
        parameters.insert(*tensor, rows.flat_map(row).collect());
    }
    // (log p of the labels at each position, ‖∇ Σ w_t ℓ_t‖²).
    let gradient = |sentence: &Sentence, counted: &dyn Fn(usize) -> bool| {
        let batch = Batch::new(&layout, std::slice::from_ref(sentence));
        let frame = Frame { graph: &graph, batch: &batch, step: Step::default() };
        let mut values = parameters.clone();
        let weights = (0..sentence.masked.len()).flat_map(|t| [f64::from(u8::from(counted(t))), 0.0, 0.0, 0.0]);
        values.insert(weight, weights.collect());
        run(&frame, graph.nodes(), &mut values);
        let square: f64 = gradients.iter().flat_map(|id| &values[id]).map(|g| g * g).sum();
        (values[&encoder.logits].clone(), square)
    };
    let vocabulary = encoder.config.vocab_size as usize;
    let mut fisher = 0.0;
    for t in 0..sentence.masked.len() {
        for y in 0..vocabulary {
            let mut labelled = sentence.clone();
            labelled.masked[t].1 = y as u32;
            let (logits, square) = gradient(&labelled, &|other| other == t);
            let row = &logits[t * vocabulary..(t + 1) * vocabulary];
            let z: f64 = row.iter().map(|l| l.exp()).sum();
            fisher += row[y].exp() / z * square;
        }
    }
    (fisher, gradient(sentence, &|_| true).1)
}

#[test]
fn fisher_draws_at_several_positions_are_those_of_double_precision() {
    let gpu = gpu();
    let (corpus, (encoder, weights)) = (corpus(), small());
    let sentences = sentences(&corpus, 6);
    assert!(sentences.iter().map(|s| s.masked.len()).max() > Some(4), "several positions");
    let truth: Vec<(f64, f64)> = sentences.iter().map(|s| oracle(&encoder, &weights, s, &gpu)).collect();
    let model = model(&gpu);
    let subject = Subject::new(&model, &sentences, &[], &Chunks { batch: 4, probes: 8 }).unwrap();
    let stop = Stopping::after(usize::MAX);
    let mut all = |_: &_| Ok(());
    let mut exact = Drawing::new(&subject, LossDraw::Exact, 1, 1).unwrap();
    let trace = exact.run(&subject, Target::TheseExamples, &stop, &mut all).unwrap().trace;
    let tokens: usize = sentences.iter().map(|s| s.masked.len()).sum();
    let want = truth.iter().map(|t| t.0).sum::<f64>() / tokens as f64;
    assert!((trace.estimate / want - 1.0).abs() < 1e-5, "{} against {want}: of the loss per token", trace.estimate);
    for ((value, positions), (fisher, _)) in exact.per_example().iter().zip(&truth) {
        assert!((value * *positions as f64 / fisher - 1.0).abs() < 1e-5, "of a summed loss");
    }
    let norms = Norms::measure(&subject, &mut all).unwrap();
    for (square, (_, want)) in norms.squared.iter().zip(&truth) {
        assert!((square / want - 1.0).abs() < 1e-5, "{square} against {want}");
    }
    // Draws that hung together over positions would bring the cross terms in.
    for kind in [LossDraw::Label, LossDraw::Signs] {
        let mut drawing = Drawing::new(&subject, kind, 1, 2000).unwrap();
        drawing.run(&subject, Target::TheseExamples, &stop, &mut all).unwrap();
        for ((draws, sentence), (fisher, _)) in drawing.values().iter().zip(&sentences).zip(&truth) {
            let summed: Vec<f64> = draws.iter().map(|v| v * sentence.masked.len() as f64).collect();
            let found = Estimate::of_mean(&summed);
            let z = (found.value - fisher) / found.standard_error;
            assert!(z.abs() < 4.0 && found.standard_error < 0.1 * fisher, "{kind:?}: {found} against {fisher}");
        }
    }
}

#[test]
fn noise_is_of_whole_sentences_and_its_ratio_of_like_with_like() {
    let gpu = gpu();
    let (corpus, model) = (corpus(), model(&gpu));
    let sentences = sentences(&corpus, 30);
    let n = sentences.len() as f64;
    let tokens: Vec<f64> = sentences.iter().map(|s| s.masked.len() as f64).collect();
    let each = tokens.iter().sum::<f64>() / n;
    let of = |s: &[Sentence]| Subject::new(&model, s, &[], &Chunks::default()).unwrap();
    // g_i, by the mean loss of a sentence alone.
    let gradients: Vec<Vec<f64>> = sentences
        .iter()
        .zip(&tokens)
        .map(|(s, m)| of(std::slice::from_ref(s)).loss_gradient().unwrap().iter().map(|g| f64::from(*g) * m).collect())
        .collect();
    let size = gradients[0].len();
    let mean: Vec<f64> = (0..size).map(|j| gradients.iter().map(|g| g[j]).sum::<f64>() / n).collect();
    let off = |g: &Vec<f64>| g.iter().zip(&mean).map(|(g, m)| (g - m).powi(2)).sum::<f64>();
    let covariance = gradients.iter().map(off).sum::<f64>() / (n - 1.0);
    let subject = of(&sentences);
    let mut exact = Drawing::new(&subject, LossDraw::Exact, 1, 1).unwrap();
    let stop = Stopping::after(usize::MAX);
    let fisher = exact.run(&subject, Target::TheseExamples, &stop, &mut |_| Ok(())).unwrap().trace.estimate;

    let request = NoiseRequest { bartlett: Some(32), ..NoiseRequest::default() };
    let found =
        gradient_noise(&Setting::of(&model), &Examples::These((&sentences).into()), &request, &mut unseen).unwrap();
    assert_eq!(found.scope.loss_normaliser(), LossNormaliser::Sentence, "summed losses");
    assert!((found.scope.tokens_per_example() - each).abs() < 1e-12);
    let trace = found.noise.unwrap().trace_covariance.value;
    assert!((trace / covariance - 1.0).abs() < 1e-4, "{trace} against {covariance}");
    let compared = found.comparison.unwrap();
    let of_sentences = compared.trace_fisher;
    let want = covariance / (fisher * each);
    let ratio = compared.ratios.covariance_over_fisher.unwrap();
    assert!((ratio.value - trace / of_sentences.value).abs() < 1e-4 * ratio.value);
    // 16 draws of signs for each of 30 sentences.
    assert!((ratio.value / want - 1.0).abs() < 0.1, "{ratio} against {want}");
    assert!((of_sentences.value / (fisher * each) - 1.0).abs() < 0.1, "{of_sentences} against {fisher} x {each}");
}

#[test]
fn measurements_along_the_way_are_of_the_objective() {
    let gpu = gpu();
    let (corpus, model, config) = (corpus(), model(&gpu), resolved(&[]).config);
    let settings = config.measure.unwrap();
    let found = Instruments::new(&corpus, &settings, 16).unwrap().measure(&model, 0, &|| true).unwrap();
    let sentences: Vec<Sentence> = (0..40).map(|i| corpus.held_out(measured_seed(3), i)).collect();
    let each = sentences.iter().map(|s| s.masked.len()).sum::<usize>() as f64 / 40.0;
    assert_eq!(found.loss_normaliser, LossNormaliser::PredictedToken);
    assert!((found.tokens_per_example.unwrap() - each).abs() < 1e-12);
    let request = NoiseRequest::default();
    let noise =
        gradient_noise(&Setting::of(&model), &Examples::These((&sentences).into()), &request, &mut unseen).unwrap();
    let noise = noise.noise.unwrap();
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-4, "{a} against {b}");
    close(found.noise_trace.unwrap(), noise.trace_covariance.value);
    close(found.gradient_squared_norm.unwrap(), noise.gradient_squared_norm.value);
    let ratios = found.bartlett.unwrap();
    close(ratios.noise_fisher.unwrap(), noise.trace_covariance.value / (found.fisher_trace * each));
    // By the same probes as the trace beyond F, so only near.
    let near = found.hessian_trace.unwrap() / found.fisher_trace;
    let error = 4.0 * ratios.hessian_fisher_standard_error.unwrap()
        + 4.0 * found.hessian_trace_standard_error.unwrap() / found.fisher_trace;
    assert!((ratios.hessian_fisher.unwrap() - near).abs() < error, "{} and {near}", ratios.hessian_fisher.unwrap());
}

#[test]
fn a_causal_run_goes_on_with_the_same_bits() {
    let gpu = gpu();
    for labels in ["sampled", "expected"] {
        let folder = tempfile::tempdir().unwrap();
        let output = format!("output={:?}", folder.path().join("run").display().to_string());
        let resolved = resolved(&[&format!("objective.labels={labels}"), "train.micro_batch=6", &output]);
        let first = train::run(&gpu, &resolved, &train::Quiet).unwrap();
        let read = |file: &str| std::fs::read(folder.path().join("run").join(file)).unwrap();
        let model = read("model/model.safetensors");
        for step in [18, 24] {
            std::fs::remove_dir_all(folder.path().join(format!("run/checkpoints/step-{step}"))).unwrap();
        }
        std::fs::remove_dir_all(folder.path().join("run/model")).unwrap();
        std::fs::remove_file(folder.path().join("run/result.json")).unwrap();
        let again = train::run(&gpu, &resolved, &train::Quiet).unwrap();
        assert_eq!(read("model/model.safetensors"), model, "{labels}");
        assert_eq!(again.evaluation, first.evaluation, "{labels}");
        let loaded = load(&folder.path().join("run/model")).unwrap();
        let asked = EvaluateSection { sentences: 60, ..EvaluateSection::default() };
        let model = loaded.on(&Device::of(&gpu)).unwrap();
        let found = Evaluator::new(&model, &corpus(), &asked, 16).unwrap().run().unwrap();
        assert!((found.loss - first.evaluation.loss).abs() < 1e-6, "{labels}");
    }
}

#[test]
fn the_plan_has_room_for_every_token() {
    let gpu = gpu();
    let bytes = |overrides: &[&str]| plan(&gpu, &resolved(overrides)).unwrap().bytes;
    let (mlm, every) = (bytes(&["objective.kind=mlm"]), bytes(&[]));
    let some = bytes(&["objective.positions={ from = 1, to = 3 }"]);
    assert!(mlm.activations < some.activations && some.activations < every.activations);
    assert!(mlm.evaluation < some.evaluation && some.evaluation < every.evaluation);
    let soft = bytes(&["objective.labels=expected"]);
    // 16 sentences of up to 7 predicted tokens, 12 numbers of 4 bytes for each; buffers are multiples of 256 bytes.
    assert!(soft.batch >= every.batch + 16 * 7 * 48 - 256, "{} and {}", soft.batch, every.batch);
}
