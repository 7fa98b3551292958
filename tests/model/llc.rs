//! Learning coefficients of models: answers that are known, what no change of scale moves, and units of zeros.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use lowland::curvature::*;
use lowland::gpu::Gpu;
use lowland::model::{
    Encoder, Enlargement, ForwardPass, Model, ModelConfig, Norm, Part, Size, Weights, dims_for, enlarge, load,
    read_examples,
};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels};
use nalgebra::{DMatrix, SymmetricEigen};

/// A model at a minimum of its loss.
pub struct Case {
    pub encoder: Encoder,
    pub weights: Weights,
    pub sentences: Vec<Sentence>,
}

/// softmax of each masked position, by the kernels.
fn softmax(gpu: &Gpu, encoder: &Encoder, weights: &Weights, sentences: &[Sentence]) -> Vec<Vec<f32>> {
    let model = Model::new(&Device::of(gpu), encoder, weights).unwrap();
    let dims = dims_for(sentences, sentences.len());
    let pass = ForwardPass::new(&model, dims, Labels::Hard, true).unwrap();
    let masked = pass.run(sentences).unwrap().len();
    let logits = pass.logits(masked).unwrap();
    let one = |z: &[f32]| {
        let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f64> = z.iter().map(|z| f64::from(z - top).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|e| (e / sum) as f32).collect()
    };
    logits.chunks_exact(logits.len() / masked).map(one).collect()
}

impl Case {
    /// A fixture at a minimum: labelled by its own distributions, its norms with next to no ε.
    pub fn of(gpu: &Gpu, name: &str) -> Case {
        let model = load(&fixture(name)).unwrap();
        let config = ModelConfig { layer_norm_eps: 1e-12, ..model.encoder.config.clone() };
        let encoder = Encoder::new(&config).unwrap();
        let mut sentences = read_examples(&fixture(name).join("examples.jsonl"), &config).unwrap();
        let mut own = softmax(gpu, &encoder, &model.weights, &sentences).into_iter();
        sentences.iter_mut().for_each(|s| s.soft = own.by_ref().take(s.masked.len()).collect());
        Case { encoder, weights: model.weights, sentences }
    }

    fn subject(&self, gpu: &Gpu, only: &[&str]) -> Subject {
        self.in_batches(gpu, only, 64)
    }

    pub fn in_batches(&self, gpu: &Gpu, only: &[&str], batch: usize) -> Subject {
        let model = Model::new(&Device::of(gpu), &self.encoder, &self.weights).unwrap();
        let only: Vec<String> = only.iter().map(|o| o.to_string()).collect();
        Subject::new(&model, &self.sentences, &only, &Chunks { batch, probes: 8 }).unwrap()
    }

    pub fn enlarged(&self, size: Size, method: Enlargement) -> Case {
        let (encoder, weights) = enlarge(&self.encoder, &self.weights, size, method).unwrap();
        Case { encoder, weights, sentences: self.sentences.clone() }
    }

    /// The tables times a factor, the norm before the head divided by it: the same function.
    fn regauged(&self, factor: f32) -> Case {
        let mut weights = self.weights.clone();
        for (parameter, values) in self.encoder.parameters.iter().zip(&mut weights.0) {
            match parameter.role.part {
                Part::Table(_) => values.iter_mut().for_each(|w| *w *= factor),
                Part::Norm(Norm::Head) => values.iter_mut().for_each(|w| *w /= factor),
                _ => {}
            }
        }
        Case { encoder: self.encoder.clone(), weights, sentences: self.sentences.clone() }
    }
}

pub fn quadratic(
    subject: &Subject,
    prior: Prior,
    (nbeta, gamma): (f64, f64),
    probes: usize,
    steps: usize,
) -> Quadratic {
    let scales = prior.scales(subject).unwrap();
    let ggn = ModelOperator::new(subject, Matrix::Ggn);
    let what = QuadratureOptions { probes, steps, block: 8, ..Default::default() };
    let found = quadrature(&ScaledOperator::new(&ggn, &scales).unwrap(), &what, &mut |_| Ok(())).unwrap();
    found.quadratic(nbeta, gamma).unwrap()
}

fn llc(subject: &Subject, prior: Prior, (nbeta, gamma): (f64, f64), steps: usize, seed: u64) -> LearningCoefficient {
    let chains = ChainOptions { chains: 4, burn_in: steps / 2, steps, seed };
    let what = CoefficientRequest { nbeta, prior, gamma, chains, directions: 40, quadratic: None, block: 8 };
    learning_coefficient(subject, &what, &mut unseen).unwrap()
}

/// Within 3 standard errors, or said to be unreliable.
fn agrees(found: &Coefficient, want: f64, of: f64, what: &str) {
    let z = (found.llc.value - want) / found.llc.standard_error.hypot(of);
    println!("{what}: {} against {want:.3} ± {of:.3}, z = {z:.2}, {:?}", found.llc, found.doubts);
    assert!(z.abs() < 3.0 || !found.reliable(), "{what}: {} against {want}, z = {z}", found.llc);
}

#[test]
fn with_only_the_output_bias_free_the_curvature_is_that_of_the_softmax() {
    let gpu = gpu();
    let case = Case::of(&gpu, "roberta-20");
    let subject = case.subject(&gpu, &["lm_head.bias"]);
    let v = subject.size();
    // They add to 1 in single precision: in double, so that the shift of all logits is flat.
    let in_double = |row: &Vec<f32>| {
        let row: Vec<f64> = row.iter().map(|p| f64::from(*p)).collect();
        let sum: f64 = row.iter().sum();
        row.iter().map(|p| p / sum).collect()
    };
    let rows: Vec<Vec<f64>> = case.sentences.iter().flat_map(|s| s.soft.iter().map(in_double)).collect();
    let mean = DMatrix::from_fn(v, v, |i, j| {
        let of = |p: &Vec<f64>| p[i] * (f64::from(u8::from(i == j)) - p[j]);
        rows.iter().map(of).sum::<f64>() / rows.len() as f64
    });
    let values = SymmetricEigen::new(mean).eigenvalues;
    let exact = |nbeta: f64, gamma: f64| {
        let share: f64 = values.iter().map(|h| nbeta * h / (nbeta * h + gamma)).sum();
        let volume: f64 = values.iter().map(|h| (nbeta * h / gamma).max(-0.5).ln_1p()).sum();
        [0.5 * share, 0.5 * volume]
    };
    for at in [(100.0, 1.0), (1e4, 1.0), (1e4, 300.0)] {
        let found = quadratic(&subject, Prior::Isotropic, at, 64, v);
        for (sum, want) in [found.lambda_q, found.log_volume].iter().zip(exact(at.0, at.1)) {
            let z = (sum.value.value - want) / sum.value.standard_error;
            assert!(z.abs() < 4.0 && sum.truncation.unwrap() < 1e-3 * want, "{at:?}: {sum:?} against {want}");
        }
    }
    // The shift of all logits counts 0: at most half of one less than there are words.
    let most = exact(1e9, 1.0)[0];
    assert!((most - 0.5 * (v as f64 - 1.0)).abs() < 0.01, "{most} of {v} words");
    // The chains have it too, where the loss is quadratic over the prior's width.
    let at = (3e4, 3000.0);
    let found = llc(&subject, Prior::Isotropic, at, 700, 1).coefficient;
    assert!(found.reliable(), "{:?}", found.doubts);
    let want = exact(at.0, at.1)[0];
    // What is of third and fourth order, here a few hundredths.
    assert!((found.llc.value - want).abs() < 3.0 * found.llc.standard_error + 0.02 * want, "{} {want}", found.llc);
}

#[test]
fn no_change_of_scale_moves_a_coefficient_by_blocks() {
    let gpu = gpu();
    for name in ["roberta-20", "bert-tiny"] {
        let case = Case::of(&gpu, name);
        let at = (1000.0, 10.0);
        let of = |case: &Case, prior| quadratic(&case.subject(&gpu, &[]), prior, at, 4, 40);
        let [before, round] = [Prior::Block, Prior::Isotropic].map(|prior| of(&case, prior));
        let mut apart: f64 = 0.0;
        for factor in [0.25, 4.0] {
            let moved = case.regauged(factor);
            let after = of(&moved, Prior::Block);
            // The same matrix, and the same probes.
            for (a, b) in [(before.lambda_q, after.lambda_q), (before.log_volume, after.log_volume)] {
                let off = (a.value.value / b.value.value - 1.0).abs();
                assert!(off < 1e-3, "{name} by {factor}: {} and {}", a.value, b.value);
            }
            let other = of(&moved, Prior::Isotropic);
            let sums = |q: &Quadratic| [q.lambda_q, q.log_volume].map(|sum| sum.value.value);
            apart = sums(&other).iter().zip(sums(&round)).map(|(a, b)| (a / b - 1.0).abs()).fold(apart, f64::max);
        }
        assert!(apart > 0.02, "{name}: the isotropic ones move by {apart}");
        // Copies have the same spectrum beside zeros; probes are others.
        let small = quadratic(&case.subject(&gpu, &[]), Prior::Block, at, 12, 40);
        for r in [2, 4] {
            let size = Size { hidden: Some(r * case.encoder.config.hidden_size), ..Size::default() };
            let copied = case.enlarged(size, Enlargement::Duplicate).subject(&gpu, &[]);
            let large = quadratic(&copied, Prior::Block, at, 12, 40);
            for (a, b) in [(small.lambda_q, large.lambda_q), (small.log_volume, large.log_volume)] {
                let error = a.value.standard_error.hypot(b.value.standard_error).hypot(a.truncation.unwrap());
                let z = (a.value.value - b.value.value) / error;
                assert!(z.abs() < 4.0, "{name}: {r} copies have {} for {}, z = {z}", b.value, a.value);
            }
        }
    }
}

#[test]
fn chains_have_one_coefficient_in_every_gauge() {
    let gpu = gpu();
    let case = Case::of(&gpu, "bert-tiny");
    let only = ["*word_embeddings*", "*predictions.transform.LayerNorm*"];
    let at = (1000.0, 100.0);
    let of = |case: &Case, prior| llc(&case.subject(&gpu, &only), prior, at, 250, 2).coefficient;
    let (before, after) = (of(&case, Prior::Block), of(&case.regauged(3.0), Prior::Block));
    let error = before.llc.standard_error.hypot(after.llc.standard_error);
    assert!((before.llc.value - after.llc.value).abs() < 3.0 * error, "{} and {}", before.llc, after.llc);
    let (before, after) = (of(&case, Prior::Isotropic), of(&case.regauged(3.0), Prior::Isotropic));
    let error = before.llc.standard_error.hypot(after.llc.standard_error);
    assert!((before.llc.value - after.llc.value).abs() > 5.0 * error, "{} and {}", before.llc, after.llc);
}

#[test]
fn units_of_zeros_leave_the_trace_and_raise_the_coefficient() {
    let gpu = gpu();
    let case = Case::of(&gpu, "bert-tiny");
    let units = Size { intermediate: Some(case.encoder.config.intermediate_size + 16), ..Size::default() };
    let wider = case.enlarged(units, Enlargement::Zero);
    let only = ["*layer.0.intermediate.dense.weight", "*layer.0.output.dense.weight"];
    let at = (300.0, 10.0);
    let [small, large] = [&case, &wider].map(|c| {
        let subject = c.subject(&gpu, &only);
        let trace = quadratic(&subject, Prior::Block, at, 32, 40).lambda_q.value;
        (trace, llc(&subject, Prior::Block, at, 400, 3).coefficient)
    });
    let error = small.0.standard_error.hypot(large.0.standard_error);
    assert!((small.0.value - large.0.value).abs() < 4.0 * error, "the curvature is as it was");
    let error = small.1.llc.standard_error.hypot(large.1.llc.standard_error);
    let rise = large.1.llc.value - small.1.llc.value;
    println!("{} {:?} and {} {:?}", small.1.llc, small.1.doubts, large.1.llc, large.1.doubts);
    assert!(rise > 5.0 * error, "{} and {} with units of zeros", small.1.llc, large.1.llc);
}

#[test]
fn a_models_coefficient_is_the_quadratic_one_where_the_prior_is_narrow() {
    let gpu = gpu();
    for name in ["roberta-20", "gpt2-tiny"] {
        let case = Case::of(&gpu, name);
        let subject = case.subject(&gpu, &[]);
        // So narrow that third orders do not count.
        let at = (1e4, 1e6);
        let want = quadratic(&subject, Prior::Block, at, 32, 60).lambda_q;
        let found = llc(&subject, Prior::Block, at, 250, 4).coefficient;
        agrees(&found, want.value.value, want.value.standard_error.hypot(want.truncation.unwrap()), name);
        assert!(found.resolution < 0.1, "{}", found.resolution);
    }
}

#[test]
fn blocks_of_zeros_are_held_still() {
    let gpu = gpu();
    let mut case = Case::of(&gpu, "bert-tiny");
    let zeroed = case.encoder.parameters.iter().position(|p| p.name.ends_with("layer.0.output.dense.bias")).unwrap();
    case.weights.0[zeroed].fill(0.0);
    let subject = case.subject(&gpu, &[]);
    let scales = Prior::Block.scales(&subject).unwrap();
    let (_, place) = subject
        .vectors()
        .places(subject.encoder())
        .find(|(p, _)| p.name.ends_with("layer.0.output.dense.bias"))
        .unwrap();
    assert!(scales[place.clone()].iter().all(|s| *s == 0.0));
    let target = ModelTarget::new(&subject, &scales, 100.0, 1.0).unwrap();
    assert!(target.places().iter().all(|at| !place.contains(at)));
    let only = case.subject(&gpu, &["*layer.0.output.dense.bias"]);
    assert!(matches!(Prior::Block.scales(&only), Err(CurvatureError::Refused(Refusal::NoScale))));
}
