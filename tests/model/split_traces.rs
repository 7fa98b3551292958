//! Tr H as Tr F + Tr(H - F): the residual's forms by enumeration of all numbers of a vector, the whole without bias and
//! with errors that hold, by z-scores over fixed seeds.

use std::ops::Range;

use crate::common::adapter::gpu;
use crate::common::curvature::{DENSE, norm, setting, subject};
use lowland::curvature::{
    Chunks, CurvatureError, Drawing, Estimated, Estimator, Examples, FormPass, Numbered, Refusal, ResidualPass,
    Setting, Split, SplitTrace, Stopping, Subject, TraceRequest, estimate, split_trace, unseen,
};
use lowland::gpu::Gpu;
use lowland::interrupt::Interrupted;
use lowland::model::{Encoder, Model, ModelConfig, Weights};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw, Variants};
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Estimate, Target};

/// The vectors along each number of a subject.
fn units(subject: &Subject) -> Vec<Vec<f32>> {
    let n = subject.size();
    (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect()
}

/// Tr(H_i - G_i) of every example, of its summed loss: the forms of all single numbers.
fn enumerated(subject: &Subject) -> Vec<f64> {
    let pass = ResidualPass::new(subject).unwrap();
    let mut all = vec![];
    for batch in 0..subject.examples().div_ceil(256) {
        let forms = pass.run(subject, batch, &units(subject)).unwrap();
        all.extend((0..forms[0].len()).map(|i| forms.iter().map(|f| f[i]).sum::<f64>()));
    }
    all
}

/// Along single numbers the forms are the diagonal of H - G of models under 2,000 parameters, in double precision:
/// what is left out has no part in it. So their mean over all sign vectors is the trace.
#[test]
fn residual_forms_of_single_numbers_are_the_diagonal() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    for name in DENSE {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 256, 64);
        let n = subject.size();
        let forms = ResidualPass::new(&subject).unwrap().run(&subject, 0, &units(&subject)).unwrap();
        let positions: usize = subject.masked().iter().sum();
        let [hessian, ggn] = ["hessian", "ggn"].map(|key| s.truth.values(key));
        let scale = norm(&hessian) / (n as f64).sqrt();
        let places = s.places();
        assert_eq!((forms.len(), places.len()), (n, n), "{name}");
        for (j, form) in places.into_iter().zip(&forms) {
            let want = hessian[j * n + j] - ggn[j * n + j];
            let got = form.iter().sum::<f64>() / positions as f64;
            let bound = 2e-4 * want.abs() + 2e-5 * scale;
            assert!((got - want).abs() <= bound, "{name} {variants:?} number {j}: {got}, {want}");
        }
    }
}

/// Signs of a whole vector: the mean of both kinds of forms is one number, and what is left out was scatter.
#[test]
fn terms_without_a_mean_are_scatter() {
    let gpu = gpu();
    let s = setting("roberta-tiny");
    let subject = subject(&gpu, &s, Variants::choose(gpu.capabilities()), 256, 64);
    let mut random = Stream::new(1, Purpose::Test, 0);
    let mut sign = || if random.below(2) == 0 { 1.0f32 } else { -1.0 };
    let block: Vec<Vec<f32>> = (0..512).map(|_| (0..subject.size()).map(|_| sign()).collect()).collect();
    let whole: Vec<f64> = FormPass::new(&subject, true)
        .unwrap()
        .run(&subject, &block)
        .unwrap()
        .iter()
        .map(|f| f.hessian.iter().sum::<f64>() - f.ggn.iter().sum::<f64>())
        .collect();
    let forms = ResidualPass::new(&subject).unwrap().run(&subject, 0, &block).unwrap();
    let part: Vec<f64> = forms.iter().map(|f| f.iter().sum()).collect();
    let truth: f64 = enumerated(&subject).iter().sum();
    let [whole, part] = [whole, part].map(|values| Estimate::of_mean(&values));
    for (what, mean) in [("all terms", whole), ("terms with a mean", part)] {
        let z = (mean.value - truth) / mean.standard_error;
        assert!(z.abs() < 4.0, "{what}: {mean}, {truth}");
    }
    assert!(part.standard_error < whole.standard_error, "{part} beside {whole}");
}

/// Sign vectors whose second moments are those of all of them, the rows of a Hadamard matrix (Sylvester's): the mean of
/// their forms is the trace of every example, for the residual's terms with a mean as for all terms.
#[test]
fn enumerated_signs_have_the_trace() {
    let gpu = gpu();
    let model = on(&gpu);
    let pool: Vec<Sentence> = (0..POOL).map(|which| Few::of_pool(which, 3)).collect();
    let subject = Subject::new(&model, &pool, &[], &Chunks { batch: 256, probes: 64 }).unwrap();
    let exact = enumerated(&subject);
    let n = subject.size();
    let rows = n.next_power_of_two();
    let sign = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0f32 } else { -1.0 };
    let pass = ResidualPass::new(&subject).unwrap();
    let whole = FormPass::new(&subject, true).unwrap();
    let (mut means, mut of_all) = (vec![0.0; pool.len()], vec![0.0; pool.len()]);
    for first in (0..rows).step_by(64) {
        let block: Vec<Vec<f32>> =
            (first..rows.min(first + 64)).map(|i| (0..n).map(|j| sign(i, j)).collect()).collect();
        for form in pass.run(&subject, 0, &block).unwrap() {
            means.iter_mut().zip(form).for_each(|(mean, f)| *mean += f / rows as f64);
        }
        for form in whole.run(&subject, &block).unwrap() {
            let own = form.hessian.iter().zip(&form.ggn).map(|(h, g)| (h - g) / rows as f64);
            of_all.iter_mut().zip(own).for_each(|(mean, f)| *mean += f);
        }
    }
    let scale = exact.iter().map(|t| t.abs()).fold(0.0, f64::max);
    for (i, t) in exact.iter().enumerate() {
        for (what, mean) in [("terms with a mean", means[i]), ("all terms", of_all[i])] {
            let bound = 1e-3 * t.abs() + 1e-4 * scale;
            assert!((mean - t).abs() <= bound, "{what}, example {i}: {mean}, {t} by single numbers");
        }
    }
}

const WORDS: u32 = 8;
/// Sentences that there are in the language.
const POOL: u64 = 24;

fn model() -> (Encoder, Weights) {
    let config = ModelConfig {
        vocab_size: WORDS + 4,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 16,
        max_position_embeddings: 10,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.35, 1);
    (encoder, weights)
}

/// Of a few sentences, each with a distribution of every masked word of its own.
pub(super) struct Few {
    pub seed: u64,
    /// Whether anybody knows the distributions.
    pub known: bool,
    /// Most masked words of a sentence.
    pub masked: u32,
}

/// A stream beside that of the sentences, which no other seed's sentences come from.
const LABELS: u64 = 1 << 32;

impl Few {
    /// Of one masked word each.
    fn of_one(seed: u64, known: bool) -> Few {
        Few { seed, known, masked: 1 }
    }

    fn sentence(&self, number: u64) -> Sentence {
        let which = u64::from(Stream::new(self.seed, Purpose::Test, number).below(POOL as u32));
        let mut own = Few::of_pool(which, self.masked);
        if !self.known {
            let mut random = Stream::new(self.seed ^ LABELS, Purpose::Test, number);
            for (masked, soft) in own.masked.iter_mut().zip(&own.soft) {
                let (x, mut sum) = (random.uniform(), 0.0);
                let label = soft.iter().position(|q| {
                    sum += f64::from(*q);
                    sum > x
                });
                masked.1 = label.unwrap_or(4) as u32;
            }
            own.soft.clear();
        }
        own
    }

    fn of_pool(which: u64, masked: u32) -> Sentence {
        let mut random = Stream::new(9, Purpose::Test, which);
        let length = 2 + random.below(4);
        let mut ids = vec![0];
        ids.extend((0..length).map(|_| 4 + random.below(WORDS)));
        ids.push(2);
        let first = random.below(length);
        let count = if masked == 1 { 1 } else { 1 + random.below(masked.min(length)) };
        let mut own = Sentence::default();
        let mut positions: Vec<u32> = (0..count).map(|k| 1 + (first + k) % length).collect();
        positions.sort_unstable();
        for position in positions {
            ids[position as usize] = 3;
            let mut soft = vec![0.0f32; (WORDS + 4) as usize];
            let weights: Vec<f64> = (0..WORDS).map(|_| random.exponential().powi(2)).collect();
            let sum: f64 = weights.iter().sum();
            soft[4..].iter_mut().zip(&weights).for_each(|(q, w)| *q = (w / sum) as f32);
            own.masked.push((position, 4));
            own.soft.push(soft);
        }
        own.ids = ids;
        own
    }
}

impl Numbered for Few {
    fn sentences(&self, numbers: Range<u64>) -> Result<Vec<Sentence>, Interrupted> {
        Ok(numbers.map(|i| Sentence { soft: vec![], ..self.sentence(i) }).collect())
    }

    fn exact_sentences(&self, numbers: Range<u64>) -> Result<Option<Vec<Sentence>>, Interrupted> {
        Ok(self.known.then(|| numbers.map(|i| self.sentence(i)).collect()))
    }

    fn longest(&self) -> u32 {
        8
    }

    fn most_predicted(&self) -> u32 {
        self.masked
    }
}

/// Tr F and Tr(H - F) of the language: all of its sentences, all labels, all numbers of a vector.
pub(super) fn truth(model: &Model, masked: u32) -> [f64; 2] {
    let pool: Vec<Sentence> = (0..POOL).map(|which| Few::of_pool(which, masked)).collect();
    let positions: usize = pool.iter().map(|s| s.masked.len()).sum();
    let subject = Subject::new(model, &pool, &[], &Chunks { batch: 256, probes: 64 }).unwrap();
    let mut exact = Drawing::new(&subject, LossDraw::Exact, 0, 1).unwrap();
    let fisher = exact.run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap();
    [fisher.trace.estimate, enumerated(&subject).iter().sum::<f64>() / positions as f64]
}

pub(super) fn on(gpu: &Gpu) -> Model {
    let (encoder, weights) = model();
    Model::new(&Device::of(gpu), &encoder, &weights).unwrap()
}

/// With the language's seed as the estimator's.
pub(super) fn split(model: &Model, of: &Few, stop: Stopping, batch: usize) -> Result<SplitTrace, CurvatureError> {
    let setting = Setting { chunks: Chunks { batch, probes: 4 }, ..Setting::of(model) };
    split_trace(&setting, of, &Split { seed: of.seed, draws: None, stop }, &mut |_| Ok(()))
}

/// Of the Hessian.
pub(super) fn whole(found: &SplitTrace) -> Estimate {
    let trace = &found.trace;
    Estimate { value: trace.estimate, standard_error: trace.standard_error, samples: trace.samples }
}

/// No bias of a part or of their sum, and errors that are those which the runs show.
fn holds(what: &str, of: &[(Estimate, f64)]) {
    let mean = Estimate::of_mean(&of.iter().map(|(e, truth)| e.value - truth).collect::<Vec<_>>());
    let bias = mean.value / mean.standard_error;
    assert!(bias.abs() < 3.5, "{what}: {bias:.2} standard errors of bias");
    let seen = mean.standard_error * (of.len() as f64).sqrt();
    let stated = (of.iter().map(|(e, _)| e.standard_error.powi(2)).sum::<f64>() / of.len() as f64).sqrt();
    // Of 16 seeds; those of 200 are `split_coverage`.
    assert!((0.6..1.7).contains(&(stated / seen)), "{what}: stated {stated}, seen {seen}");
    let z = of.iter().map(|(e, truth)| (e.value - truth) / e.standard_error);
    let covered = z.filter(|z| z.abs() < 1.96).count() as f64 / of.len() as f64;
    println!("{what}: bias {bias:.2} standard errors, stated / seen {:.2}, {covered:.3} cover", stated / seen);
    assert!(covered >= 0.75, "{what}: {covered:.2} of the intervals cover");
}

#[test]
fn both_parts_are_unbiased_and_their_errors_hold() {
    let gpu = gpu();
    let model = on(&gpu);
    let truth = truth(&model, 1);
    assert!(truth[1].abs() > 0.02 * truth[0], "a residual that nothing would show: {truth:?}");
    for known in [true, false] {
        let stop = Stopping::after(512).not_before(64);
        let runs: Vec<SplitTrace> =
            (0..16).map(|seed| split(&model, &Few::of_one(seed, known), stop, 256).unwrap()).collect();
        assert!(runs.iter().all(|r| r.sentences == [512, 512] && r.measured >= 128 && r.trace.reached));
        let of = |f: &dyn Fn(&SplitTrace) -> Estimate, truth: f64| -> Vec<(Estimate, f64)> {
            runs.iter().map(|r| (f(r), truth)).collect()
        };
        holds(&format!("Tr F, {known}"), &of(&|r| r.fisher, truth[0]));
        holds(&format!("Tr(H - F), {known}"), &of(&|r| r.residual, truth[1]));
        holds(&format!("Tr H, {known}"), &of(&whole, truth[0] + truth[1]));
    }
}

/// Of one to three masked words, thousands of signs each: their mean beside every label's gradients.
#[test]
fn signs_along_axes_have_the_trace_of_several_words() {
    let gpu = gpu();
    let model = on(&gpu);
    let pool: Vec<Sentence> = (0..POOL).map(|which| Few::of_pool(which, 3)).collect();
    let subject = Subject::new(&model, &pool, &[], &Chunks { batch: 256, probes: 64 }).unwrap();
    let [exact, _] = truth(&model, 3);
    let mut signs = Drawing::along_axes(&subject, 3, 4096).unwrap();
    let found = signs.run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap();
    let (value, error) = (found.trace.estimate, found.trace.standard_error);
    assert!(error < 0.005 * exact, "{value} ± {error}");
    assert!((value - exact).abs() < 3.5 * error, "{value} ± {error}, {exact} by every label");
}

#[test]
fn a_relative_error_is_reached_whatever_the_batches_are() {
    let gpu = gpu();
    let model = on(&gpu);
    let few = Few::of_one(3, true);
    // Tr F = 90 and Tr(H - F) = -78 here: a quarter of what is left.
    let stop = Stopping::at(0.25).not_before(64).at_most(1 << 14);
    let found = split(&model, &few, stop, 256).unwrap();
    let within = found.trace.reached && found.trace.standard_error <= 0.25 * found.trace.estimate;
    assert!(within, "{found:?}");
    assert!(found.trace.standard_error > 0.125 * found.trace.estimate, "much more than was asked for");
    let other = split(&model, &few, stop, 50).unwrap();
    assert_eq!((found.sentences, found.frame, found.measured), (other.sentences, other.frame, other.measured));
    assert!((found.trace.estimate / other.trace.estimate - 1.0).abs() < 1e-4);
    // Nor is it called reached where there is not enough.
    assert!(!split(&model, &few, Stopping::at(1e-4).not_before(64).at_most(300), 256).unwrap().trace.reached);
    let small = split(&model, &few, Stopping::after(100).not_before(8), 256).unwrap_err();
    assert!(matches!(small, CurvatureError::Refused(Refusal::SmallSplit)), "{small}");
}

/// Of given examples, and of these as a sample.
#[test]
fn given_examples_have_the_trace_of_the_dense_matrix() {
    let gpu = gpu();
    let model = on(&gpu);
    let truth: f64 = truth(&model, 1).iter().sum();
    let language = Few::of_one(5, true);
    let soft = Few::of_one(0, true);
    let of = |examples: Examples<'_>, seed: u64| -> Estimated {
        let setting = Setting { chunks: Chunks { batch: 64, probes: 4 }, ..Setting::of(&model) };
        let estimator = Some(Estimator::SignsAndResidual);
        let samples = Some(2 * 4 * POOL);
        let plan = TraceRequest { estimator, seed, samples, ..TraceRequest::default() }.plan().unwrap();
        estimate(&setting, &examples, &plan, &mut unseen).unwrap()
    };
    let value = |found: &Estimated| Estimate {
        value: found.trace.estimate,
        standard_error: found.trace.standard_error,
        samples: found.trace.samples,
    };
    let pool: Vec<Sentence> = (0..POOL).map(|which| Few::of_pool(which, 1)).collect();
    let these: Vec<(Estimate, f64)> =
        (0..16).map(|seed| (value(&of(Examples::These((&pool).into()), seed)), truth)).collect();
    holds("these examples", &these);
    let sampled: Vec<(Estimate, f64)> = (0..16)
        .map(|seed| {
            let own = language.exact_sentences(100 * seed..100 * seed + 96).unwrap().unwrap();
            (value(&of(Examples::SampleOf(own.into()), seed)), truth)
        })
        .collect();
    holds("a sample", &sampled);
    let found = of(Examples::SampleOf(soft.exact_sentences(0..96).unwrap().unwrap().into()), 1);
    let parts = found.parts.unwrap();
    assert!((parts.fisher.value + parts.residual.value - found.trace.estimate).abs() < 1e-9);
    assert!(found.trace.standard_error_data > 0.0 && found.trace.standard_error_probe > 0.0);
}
