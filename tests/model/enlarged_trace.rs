//! The law by which a small model's trace by tensor gives the trace of every larger model that it is embedded in.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use crate::enlarge::{exact_logits, interpreted, livened, own, unpacked};
use lowland::curvature::{Chunks, Conventions, ConventionsOptions, Drawing, Stopping, Subject};
use lowland::gpu::Gpu;
use lowland::model::{Encoder, Enlargement, Law, Model, Size, Unlawful, Weights, enlarge, load, read_examples};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw};
use lowland::statistics::{Estimate, Target};

const MODELS: [&str; 13] = [
    "roberta-tiny",
    "roberta-20",
    "bert-tiny",
    "bert-18",
    "bert-relu",
    "postnorm-tiny",
    "postnorm-untied",
    "bert-untied",
    "lstm-16",
    "lstm-tiny",
    "lstm-long",
    "lstm-untied",
    "lstm-plain",
];

struct Case {
    encoder: Encoder,
    weights: Weights,
    sentences: Vec<Sentence>,
}

impl Case {
    fn of(name: &str) -> Case {
        let model = load(&fixture(name)).unwrap();
        let sentences = read_examples(&fixture(name).join("examples.jsonl"), &model.encoder.config).unwrap();
        assert!(model.encoder.config.layer_norm_eps < 1e-9, "{name}: tables that are scaled are another function");
        let weights = livened(&model);
        Case { encoder: model.encoder, weights, sentences }
    }

    fn subject(&self, gpu: &Gpu) -> Subject {
        let model = Model::new(&Device::of(gpu), &self.encoder, &self.weights).unwrap();
        Subject::new(&model, &self.sentences, &[], &Chunks { batch: 4, probes: 32 }).unwrap()
    }

    /// Tr F of these examples by tensor, every label in turn.
    fn traces(&self, gpu: &Gpu) -> Vec<f64> {
        let subject = self.subject(gpu);
        let mut drawing = Drawing::new(&subject, LossDraw::Exact, 0, 1).unwrap();
        let drawn =
            drawing.run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap();
        drawn.per_tensor.into_iter().map(|(_, trace)| trace).collect()
    }

    fn enlarged(&self, size: Size, method: Enlargement) -> Case {
        let (encoder, weights) = enlarge(&self.encoder, &self.weights, size, method).unwrap();
        Case { encoder, weights, sentences: self.sentences.clone() }
    }

    fn size(&self, [width, heads, units, layers]: [u32; 4]) -> Size {
        let c = &self.encoder.config;
        Size {
            hidden: Some(width * c.hidden_size),
            layers: Some(c.num_hidden_layers + layers),
            heads: own(c, "num_attention_heads", heads * c.num_attention_heads),
            intermediate: own(c, "intermediate_size", units * c.intermediate_size),
        }
    }
}

/// Factors of width, heads and feed-forward units, and more layers.
const SIZES: [[u32; 4]; 9] = [
    [1, 1, 1, 0],
    [2, 2, 2, 0],
    [3, 3, 3, 0],
    [4, 4, 4, 0],
    [2, 1, 3, 0],
    [3, 1, 1, 0],
    [4, 2, 1, 0],
    [1, 1, 1, 2],
    [2, 2, 2, 1],
];

#[test]
fn measured_traces_of_enlarged_models_are_those_of_the_law() {
    let gpu = gpu();
    let mut compared = 0;
    for name in MODELS {
        let case = Case::of(name);
        let traces = case.traces(&gpu);
        let whole: f64 = traces.iter().sum();
        for by in SIZES {
            let pre = case.encoder.config.kind == lowland::model::ModelKind::RobertaPreLayerNorm;
            if by[3] > 0 && !pre {
                continue;
            }
            let size = case.size(by);
            let law = Law::new(&case.encoder, size, Enlargement::Duplicate).unwrap();
            assert_eq!(law.width(), f64::from(by[0]));
            let shares = law.shares(&traces);
            let flattest = law.flattest(&shares);
            assert_eq!(flattest.is_ok(), case.encoder.config.tie_word_embeddings, "{name}");
            // Any scale has the law, not only the least trace's.
            let mut methods = vec![Enlargement::Duplicate, Enlargement::Paper, Enlargement::Balanced(1.7)];
            methods.extend(flattest.ok().map(Enlargement::Balanced));
            for method in methods {
                let large = case.enlarged(size, method);
                let found: f64 = large.traces(&gpu).iter().sum();
                let wanted = shares.at(method.table_scale(law.width()));
                assert!((found / wanted - 1.0).abs() < 1e-5, "{name} {by:?} {method:?}: {found} against {wanted}");
                compared += 1;
                if method == Enlargement::Duplicate && by == [1, 1, 1, 0] {
                    assert!((found / whole - 1.0).abs() < 1e-6);
                }
            }
        }
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn zeros_add_the_biases_of_new_layers_and_nothing_else() {
    let gpu = gpu();
    for name in ["roberta-tiny", "roberta-20", "bert-tiny"] {
        let case = Case::of(name);
        let traces = case.traces(&gpu);
        let own: f64 = traces.iter().sum();
        for layers in 0..=2 * u32::from(name.starts_with("roberta")) {
            let mut size = case.size([1, 1, 1, layers]);
            size.intermediate = size.intermediate.map(|units| units + 3);
            let law = Law::new(&case.encoder, size, Enlargement::Zero).unwrap();
            let wanted = law.shares(&traces).at(1.0);
            let found: f64 = case.enlarged(size, Enlargement::Zero).traces(&gpu).iter().sum();
            assert!((found / wanted - 1.0).abs() < 1e-5, "{name} {layers}: {found} against {wanted}");
            assert_eq!(layers > 0, wanted > 1.001 * own, "{name} {layers}: {wanted} and {own}");
        }
    }
}

/// Tr F and Tr H by parameter in double precision: the Jacobian of the logits by central differences and every label,
/// and second differences of the loss.
fn dense(case: &Case) -> [Vec<f64>; 2] {
    let classes = case.encoder.config.vocab_size as usize;
    let mut matrices = unpacked(&case.encoder, &case.weights);
    let middle = interpreted(&case.encoder, &matrices, &case.sentences);
    let positions = (middle.len() / classes) as f64;
    let labels: Vec<u32> = case.sentences.iter().flat_map(|s| s.masked.iter().map(|(_, word)| *word)).collect();
    let loss = |logits: &[f64]| {
        let one = |(row, y): (&[f64], &u32)| row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[*y as usize];
        logits.chunks_exact(classes).zip(&labels).map(one).sum::<f64>() / positions
    };
    let chances: Vec<Vec<f64>> = middle
        .chunks_exact(classes)
        .map(|row| {
            let sum: f64 = row.iter().map(|z| z.exp()).sum();
            row.iter().map(|z| z.exp() / sum).collect()
        })
        .collect();
    let h = 1e-4;
    let zeros = vec![0.0; case.encoder.parameters.len()];
    let [mut fisher, mut hessian] = [zeros.clone(), zeros];
    for (t, parameter) in case.encoder.parameters.iter().enumerate() {
        let matrix = &case.encoder.matrices[parameter.matrix];
        let (padded, wide) = (matrix.cols.next_multiple_of(4) as usize, matrix.cols as usize);
        for place in parameter.places(matrix) {
            let i = place / padded * wide + place % padded;
            let own = matrices[parameter.matrix][i];
            let mut at = |value: f64| {
                matrices[parameter.matrix][i] = value;
                interpreted(&case.encoder, &matrices, &case.sentences)
            };
            let (up, down) = (at(own + h), at(own - h));
            at(own);
            hessian[t] += (loss(&up) - 2.0 * loss(&middle) + loss(&down)) / (h * h);
            for (k, p) in chances.iter().enumerate() {
                let slope = |c: usize| (up[k * classes + c] - down[k * classes + c]) / (2.0 * h);
                let mean: f64 = (0..classes).map(|c| p[c] * slope(c)).sum();
                fisher[t] += (0..classes).map(|c| p[c] * (slope(c) - mean).powi(2)).sum::<f64>() / positions;
            }
        }
    }
    [fisher, hessian]
}

#[test]
fn the_law_holds_in_double_precision_tensor_by_tensor() {
    let case = Case::of("roberta-tiny");
    let [small, small_hessian] = dense(&case);
    for (by, method) in [
        ([2, 2, 2, 0], Enlargement::Duplicate),
        ([2, 1, 1, 0], Enlargement::Paper),
        ([2, 2, 2, 1], Enlargement::Balanced(1.3)),
    ] {
        let size = case.size(by);
        let law = Law::new(&case.encoder, size, method).unwrap();
        let large = case.enlarged(size, method);
        let s = method.table_scale(law.width());
        let [tables, norm, rest] = law.factors();
        let [large_fisher, large_hessian] = dense(&large);
        // It is a law of squared gradients: the Hessian has second derivatives along single copies, which have none.
        let (found, wanted) = (large_hessian.iter().sum::<f64>(), law.shares(&small_hessian).at(s));
        assert!((found - wanted).abs() > 1e-3 * wanted.abs(), "{method:?}: Tr H {found} and {wanted}");
        for (i, (parameter, found)) in large.encoder.parameters.iter().zip(large_fisher).enumerate() {
            let Some(from) = case.encoder.with_role(parameter.role) else {
                // A new layer: what is added to the residual stream has the trace of the last layer's, no other has
                // any.
                let last = case.encoder.config.num_hidden_layers - 1;
                let added = lowland::model::Role {
                    part: lowland::model::Part::FeedForwardOutput,
                    bias: true,
                    layer: Some(last),
                };
                let added = small[case.encoder.with_role(added).unwrap()] / law.width();
                let ends = parameter.role.bias && parameter.name.ends_with("output.dense.bias");
                let wanted = if ends { added } else { 0.0 };
                assert!((found - wanted).abs() < 1e-6 * added, "{}: {found} against {wanted}", parameter.name);
                continue;
            };
            let deeper = parameter.name.contains(".layer.0.output.dense.bias") && by[3] > 0;
            let times = if deeper { f64::from(1 + 2 * by[3]) } else { 1.0 };
            let factor = (tables[from] / (s * s) + norm[from] * s * s + rest[from]) / times;
            let wanted = factor * small[from];
            let total: f64 = small.iter().sum();
            let error = (found - wanted).abs();
            assert!(error < 1e-6 * wanted + 1e-9 * total, "{i} {}: {found} against {wanted}", parameter.name);
        }
    }
}

#[test]
fn the_flattest_scale_has_the_least_trace() {
    let gpu = gpu();
    for name in ["roberta-20", "bert-18", "postnorm-tiny", "lstm-16"] {
        let case = Case::of(name);
        let traces = case.traces(&gpu);
        let least = |width: u32| {
            let size = case.size([width, width, width, 0]);
            let law = Law::new(&case.encoder, size, Enlargement::Duplicate).unwrap();
            let shares = law.shares(&traces);
            let s = law.flattest(&shares).unwrap();
            let trace = |s: f64| case.enlarged(size, Enlargement::Balanced(s)).traces(&gpu).iter().sum::<f64>();
            let at = trace(s);
            assert!(at < trace(1.1 * s) && at < trace(s / 1.1), "{name} {width}");
            assert!(at < trace(1.0) && at < trace(1.0 / f64::from(width)), "{name} {width}");
            let formula = 2.0 * (shares.tables * shares.norm).sqrt() + shares.rest;
            assert!((at / formula - 1.0).abs() < 1e-5, "{name} {width}: {at} against {formula}");
            // E G does not depend on the width.
            2.0 * (shares.tables * shares.norm).sqrt()
        };
        let (one, three) = (least(1), least(3));
        assert!((one / three - 1.0).abs() < 1e-12, "{name}: {one} and {three}");
    }
}

#[test]
fn every_method_gives_the_same_logits() {
    for name in MODELS {
        let case = Case::of(name);
        let exact = exact_logits(&case.encoder, &case.weights, &case.sentences);
        let mean = exact.iter().sum::<f64>() / exact.len() as f64;
        let spread = (exact.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / exact.len() as f64).sqrt();
        for width in 1..=4 {
            for method in [Enlargement::Paper, Enlargement::Balanced(0.4), Enlargement::Balanced(2.3)] {
                let large = case.enlarged(case.size([width, width, width, 0]), method);
                let found = exact_logits(&large.encoder, &large.weights, &case.sentences);
                let most = exact.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(most <= 1e-6 * spread, "{name} {width} {method:?}: {most:e} of {spread}");
            }
        }
    }
}

/// One measurement of the small model has the values and the errors of a measurement of each large one.
#[test]
fn all_conventions_come_out_of_one_measurement() {
    let gpu = gpu();
    for (name, kind, draws) in [
        ("roberta-20", LossDraw::Signs, 3),
        ("roberta-20", LossDraw::Label, 1),
        ("bert-18", LossDraw::Exact, 1),
        ("postnorm-tiny", LossDraw::Signs, 2),
        ("lstm-16", LossDraw::Signs, 2),
    ] {
        let case = Case::of(name);
        for target in [Target::Population, Target::TheseExamples] {
            let size = case.size([2, 2, 2, 0]);
            let law = Law::new(&case.encoder, size, Enlargement::Duplicate).unwrap();
            let what = ConventionsOptions { kind, seed: 5, draws, target };
            let found = Conventions::measure(&case.subject(&gpu), &law, &what, &mut |_| Ok(())).unwrap();
            let balanced = found.balanced.unwrap();
            let same = |a: Estimate, large: &Case, what: &str| {
                let subject = large.subject(&gpu);
                let mut drawing = Drawing::new(&subject, kind, 5, draws).unwrap();
                let b = drawing.run(&subject, target, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap().trace;
                assert!((a.value / b.estimate - 1.0).abs() < 1e-5, "{name} {what}: {a} against {}", b.estimate);
                let error = (a.standard_error - b.standard_error).abs();
                assert!(error <= 1e-4 * b.standard_error, "{name} {what}: {a} against ± {}", b.standard_error);
            };
            same(found.own, &case, "own");
            same(found.duplicate, &case.enlarged(size, Enlargement::Duplicate), "duplicate");
            same(found.paper, &case.enlarged(size, Enlargement::Paper), "paper");
            same(balanced.trace, &case.enlarged(size, Enlargement::Balanced(balanced.scale)), "balanced");
            let exact = kind == LossDraw::Exact && target == Target::TheseExamples;
            assert_eq!(exact, balanced.bias == 0.0, "{name}: {}", balanced.bias);
            assert!(balanced.bias <= 0.0 && -balanced.bias < 0.2 * balanced.trace.value);
        }
    }
}

#[test]
fn what_does_not_follow_is_refused_with_the_reason() {
    let case = Case::of("bert-18");
    let law = |case: &Case, by: [u32; 4]| Law::new(&case.encoder, case.size(by), Enlargement::Duplicate);
    assert_eq!(law(&case, [1, 1, 1, 1]), Err(Unlawful::Depth));
    assert!(matches!(law(&case, [3, 2, 1, 0]), Err(Unlawful::Sizes(_))));
    let mut traces = vec![1.0; case.encoder.parameters.len()];
    let width = law(&case, [2, 2, 2, 0]).unwrap();
    assert!(width.flattest(&width.shares(&traces)).is_ok());
    traces.iter_mut().zip(&case.encoder.parameters).for_each(|(t, p)| {
        *t = if p.name.contains("embeddings.weight") || p.name.contains("_embeddings.") { 0.0 } else { *t };
    });
    assert!(matches!(width.flattest(&width.shares(&traces)), Err(Unlawful::Nothing { tables: 0.0, .. })));
    let lstm = Case::of("lstm-16");
    assert_eq!(law(&lstm, [1, 1, 1, 1]), Err(Unlawful::Depth));
    let untied = Case::of("postnorm-untied");
    let traces = vec![1.0; untied.encoder.parameters.len()];
    let width = law(&untied, [2, 2, 2, 0]).unwrap();
    assert_eq!(width.flattest(&width.shares(&traces)), Err(Unlawful::Untied));
}
