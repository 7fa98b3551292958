//! Curvature of `transformers` models in double precision against ours, recorded by `fixtures/make_curvature.py`.

use crate::MODELS;
use crate::common::adapter::gpu;
use crate::common::curvature::{DENSE, distance, norm, setting, subject, vectors};
use lowland::curvature::{
    Chunks, Drawing, Gradients, GramPass, Lanczos, Matrix, ModelOperator, Norms, Operator, Stopping, Subject,
    top_eigenpairs,
};
use lowland::model::{Encoder, Loaded, Model, ModelConfig, TokenIds, Weights};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw, Variants};
use lowland::statistics::Target;

fn floats(v: &[f64]) -> Vec<f32> {
    v.iter().map(|x| *x as f32).collect()
}

/// Products of several vectors at once within 2e-4 of their norm, for every kernel variant.
#[test]
fn products_are_those_of_double_precision() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let s = setting(name);
            let subject = subject(&gpu, &s, variants, 256, 3);
            let probes: Vec<Vec<f32>> =
                vectors(&s.truth, "probe", &s.loaded.encoder).iter().map(|v| floats(v)).collect();
            for (matrix, prefix) in [(Matrix::Hessian, "hessian_product"), (Matrix::Ggn, "ggn_product")] {
                let operator = ModelOperator::new(&subject, matrix);
                let products = operator.apply(&probes).unwrap();
                for (got, want) in products.iter().zip(vectors(&s.truth, prefix, &s.loaded.encoder)) {
                    let error = distance(got, &want) / norm(&want);
                    assert!(error <= 2e-4, "{name} {matrix:?} {variants:?}: {error:.1e}");
                }
            }
        }
    }
}

/// vᵀH_iv and vᵀG_iv of every example, without products.
#[test]
fn quadratic_forms_are_those_of_double_precision() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let s = setting(name);
            let subject = subject(&gpu, &s, variants, 256, 2);
            let probes: Vec<Vec<f32>> =
                vectors(&s.truth, "probe", &s.loaded.encoder).iter().map(|v| floats(v)).collect();
            let forms = ModelOperator::new(&subject, Matrix::Hessian).forms(&probes).unwrap();
            let hessian: Vec<f64> = forms.iter().flat_map(|f| f.hessian.clone()).collect();
            let ggn: Vec<f64> = forms.iter().flat_map(|f| f.ggn.clone()).collect();
            for (got, want) in [(hessian, "hessian_forms"), (ggn, "ggn_forms")] {
                let want = s.truth.values(want);
                let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (g, w) in got.iter().zip(&want) {
                    assert!((g - w).abs() <= 2e-4 * largest, "{name} {variants:?}: {g} against {w}");
                }
            }
        }
    }
}

/// Squared norms within 1e-5, per parameter too (plus 1e-6 of the whole).
#[test]
fn per_example_norms_are_those_of_double_precision() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let s = setting(name);
            let subject = subject(&gpu, &s, variants, 256, 1);
            let norms = Norms::measure(&subject, &mut |_| Ok(())).unwrap();
            let whole = s.truth.values("squared_norm");
            for (g, w) in norms.squared.iter().zip(&whole) {
                assert!((g / w - 1.0).abs() <= 1e-5, "{name} {variants:?}: {g} against {w}");
            }
            for (parameter, got) in s.loaded.encoder.parameters.iter().zip(&norms.per_parameter) {
                let want = s.truth.values(&format!("squared_norm.{}", parameter.name));
                for ((g, w), all) in got.iter().zip(&want).zip(&whole) {
                    let bound = 1e-5 * w + 1e-6 * all;
                    assert!((g - w).abs() <= bound, "{name} {variants:?} {}: {g} against {w}", parameter.name);
                }
            }
        }
    }
}

/// Inner products of per-example gradients within 1e-5 of the product of their norms, and what follows from them.
#[test]
fn inner_products_of_gradients_are_those_of_double_precision() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let s = setting(name);
            let subject = subject(&gpu, &s, variants, 256, 1);
            let gram = GramPass::new(&subject).unwrap().run(&subject).unwrap();
            let want = s.truth.values("gram");
            let n = subject.examples();
            for (k, (g, w)) in gram.numbers().iter().zip(&want).enumerate() {
                let scale = (want[k / n * (n + 1)] * want[k % n * (n + 1)]).sqrt();
                assert!((g - w).abs() <= 1e-5 * scale, "{name} {variants:?} {} {}: {g} against {w}", k / n, k % n);
            }
            let trace = gram.noise().trace_covariance.value;
            let truth = s.truth.values("trace_covariance")[0];
            assert!((trace / truth - 1.0).abs() <= 1e-5, "{name}: {trace} against {truth}");
            let eigenvalues = gram.covariance_eigenvalues();
            for (got, want) in eigenvalues.iter().zip(s.truth.values("covariance_eigenvalues")) {
                assert!((got - want).abs() <= 1e-5 * truth, "{name}: {got} against {want}");
            }
        }
    }
}

/// The Fisher trace with every label enumerated within 1e-5, and its parts.
#[test]
fn exact_label_trace_is_that_of_double_precision() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let s = setting(name);
            let subject = subject(&gpu, &s, variants, 3, 5);
            let mut drawing = Drawing::new(&subject, LossDraw::Exact, 0, 1).unwrap();
            let result =
                drawing.run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap();
            let want = s.truth.values("fisher_trace")[0];
            let got = result.trace.estimate;
            assert!((got / want - 1.0).abs() <= 1e-5, "{name} {variants:?}: {got} against {want}");
            for (tensor, got) in &result.per_tensor {
                let own = s.truth.values(&format!("fisher_trace.{tensor}"))[0];
                assert!((got - own).abs() <= 1e-5 * own + 1e-6 * want, "{name} {tensor}: {got} against {own}");
            }
        }
    }
}

/// Long sentences and wide layers: a workgroup that went over all draws would run into llvmpipe's bound on loops, and
/// the norms came out too small without a word.
#[test]
fn draws_at_once_change_no_norm_of_long_sentences() {
    let gpu = gpu();
    let config = ModelConfig {
        vocab_size: 12,
        hidden_size: 32,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 1024,
        max_position_embeddings: 130,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.1, 3);
    let words: Vec<u32> = (0..124).map(|i| i * 7 % 8).collect();
    let tokens = TokenIds::new(8);
    let sentences = [tokens.mask_all(&words, &[3, 60]), tokens.mask_all(&words[..110], &[9])];
    let norms = |probes: u32| {
        let chunks = Chunks { batch: 2, probes };
        let subject =
            Subject::new(&Model::new(&Device::of(&gpu), &encoder, &weights).unwrap(), &sentences, &[], &chunks)
                .unwrap();
        let mut drawing = Drawing::new(&subject, LossDraw::Signs, 1, 8).unwrap();
        drawing.run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap();
        drawing.values().to_vec()
    };
    for (one, eight) in norms(1).iter().flatten().zip(norms(8).iter().flatten()) {
        assert!((one / eight - 1.0).abs() < 1e-5, "{one} against {eight}");
    }
}

/// llvmpipe ends the loops of an invocation after 65,535 iterations of all of them together. The norms of a
/// feed-forward layer of 2,048 numbers on sentences of 124 tokens took more than that at 8 lanes; at 510 tokens they
/// still would.
#[test]
fn norms_of_long_sentences_are_whole_or_refused() {
    let gpu = gpu();
    let config = ModelConfig {
        vocab_size: 12,
        hidden_size: 256,
        // Of the last layer masked rows alone take part.
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 2048,
        max_position_embeddings: 514,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.1, 3);
    let tokens = TokenIds::new(8);
    let sentence = |words: usize| {
        let words: Vec<u32> = (0..words as u32).map(|i| i * i % 7 + i % 2).collect();
        [tokens.mask_all(&words, &[3, words.len() / 2])]
    };
    let chunks = Chunks { batch: 1, probes: 1 };
    let on = |sentences: &[Sentence]| {
        Subject::new(&Model::new(&Device::of(&gpu), &encoder, &weights).unwrap(), sentences, &[], &chunks).unwrap()
    };
    let subject = on(&sentence(122));
    let norm = Norms::measure(&subject, &mut |_| Ok(())).unwrap().squared[0];
    let gradient = Gradients::new(&subject).unwrap().of_example(&subject, 0).unwrap();
    let formed: f64 = gradient.iter().map(|x| f64::from(*x).powi(2)).sum();
    assert!((norm / formed - 1.0).abs() < 1e-5, "{norm} against {formed}");
    if gpu.capabilities().software {
        let refused = Norms::measure(&on(&sentence(508)), &mut |_| Ok(())).err().expect("too long");
        assert!(refused.to_string().contains("510 tokens"), "{refused}");
    }
}

/// Every column of the dense matrices of models under 2,000 parameters.
#[test]
fn every_column_of_dense_matrices() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    for name in DENSE {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 256, 64);
        let n = subject.size();
        assert!(n < 2000);
        let place = s.places();
        for (matrix, key) in [(Matrix::Hessian, "hessian"), (Matrix::Ggn, "ggn")] {
            let operator = ModelOperator::new(&subject, matrix);
            let dense = s.truth.values(key);
            let unit = |i: usize| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
            let columns = operator.apply(&(0..n).map(unit).collect::<Vec<_>>()).unwrap();
            let scale = norm(&dense) / (n as f64).sqrt();
            for (i, column) in columns.iter().enumerate() {
                let want: Vec<f64> = place.iter().map(|j| dense[place[i] * n + j]).collect();
                let bound = 2e-4 * norm(&want) + 1e-5 * scale;
                assert!(
                    distance(column, &want) <= bound,
                    "{name} {matrix:?} column {i}: {:.1e}",
                    distance(column, &want)
                );
            }
        }
    }
}

/// The five eigenvalues of largest absolute value within 1e-3.
#[test]
fn top_eigenvalues_are_those_of_double_precision() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    for name in MODELS {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 256, 2);
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let found = top_eigenpairs(&operator, &Lanczos::default(), &mut |_| Ok(())).unwrap();
        let want = match name.ends_with("tiny") {
            true => {
                let mut all = s.truth.values("hessian_eigenvalues");
                all.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
                all
            }
            false => s.truth.values("top_eigenvalues"),
        };
        for ((got, want), converged) in found.eigenvalues.iter().zip(&want).zip(&found.converged) {
            assert!((got / want - 1.0).abs() <= 1e-3 && *converged, "{name}: {got} against {want}");
        }
    }
}

/// uᵀHv = vᵀHu; linearity; vᵀGv ≥ 0; vᵀHv by quadratic form is v·(Hv).
#[test]
fn products_are_symmetric_linear_and_agree_with_forms() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for name in ["roberta-20", "bert-24", "postnorm-16"] {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 4, 4);
        let probes: Vec<Vec<f32>> = vectors(&s.truth, "probe", &s.loaded.encoder).iter().map(|v| floats(v)).collect();
        let sum: Vec<f32> = probes[0].iter().zip(&probes[1]).map(|(a, b)| a + 2.0 * b).collect();
        for matrix in [Matrix::Hessian, Matrix::Ggn] {
            let operator = ModelOperator::new(&subject, matrix);
            let block = [probes[0].clone(), probes[1].clone(), sum.clone()];
            let products = operator.apply(&block).unwrap();
            let scale = dot(&products[0], &products[0]).sqrt() * dot(&probes[1], &probes[1]).sqrt();
            assert!((dot(&probes[1], &products[0]) - dot(&probes[0], &products[1])).abs() <= 1e-4 * scale, "{name}");
            let want: Vec<f64> =
                products[0].iter().zip(&products[1]).map(|(a, b)| f64::from(*a) + 2.0 * f64::from(*b)).collect();
            assert!(distance(&products[2], &want) <= 1e-4 * norm(&want), "{name}: linear");
            let forms = operator.quadratic_forms(&block).unwrap();
            for ((v, product), form) in block.iter().zip(&products).zip(&forms) {
                let by_form: f64 = form.iter().zip(operator.weights()).map(|(f, w)| f * w).sum();
                let by_product = dot(v, product);
                let scale = dot(v, v).sqrt() * dot(product, product).sqrt();
                assert!((by_form - by_product).abs() <= 1e-5 * scale, "{name} {matrix:?}: {by_form} {by_product}");
                assert!(matrix == Matrix::Hessian || form.iter().all(|f| *f >= 0.0), "{name}: Gauss-Newton");
            }
        }
    }
}

/// Any chunks, any batches, any order of the examples: the same numbers, and the same weights afterwards.
#[test]
fn chunks_batches_and_order_do_not_matter() {
    let gpu = gpu();
    let s = setting("roberta-20");
    let before: Weights = s.loaded.weights.clone();
    let probes: Vec<Vec<f32>> = vectors(&s.truth, "probe", &s.loaded.encoder).iter().map(|v| floats(v)).collect();
    let mut reversed: Vec<Sentence> = s.sentences.clone();
    reversed.reverse();
    let measure = |sentences: &[Sentence], batch: usize, probe_count: u32| {
        let Loaded { encoder, weights, .. } = &s.loaded;
        let chunks = Chunks { batch, probes: probe_count };
        let subject =
            Subject::new(&Model::new(&Device::of(&gpu), encoder, weights).unwrap(), sentences, &[], &chunks).unwrap();
        let operator = ModelOperator::new(&subject, Matrix::Hessian);
        let products = operator.apply(&probes).unwrap();
        let forms = operator.quadratic_forms(&probes).unwrap();
        let form: Vec<f64> = forms.iter().map(|f| f.iter().zip(operator.weights()).map(|(f, w)| f * w).sum()).collect();
        let trace = |kind| {
            let mut drawing = Drawing::new(&subject, kind, 7, 4).unwrap();
            drawing
                .run(&subject, Target::TheseExamples, &Stopping::after(usize::MAX), &mut |_| Ok(()))
                .unwrap()
                .trace
                .estimate
        };
        let norms: f64 = Norms::measure(&subject, &mut |_| Ok(())).unwrap().squared.iter().sum();
        let numbers = [form, vec![trace(LossDraw::Label), trace(LossDraw::Signs), norms]].concat();
        assert_eq!(subject.read_weights().unwrap(), before, "measuring changes no weight");
        (products, numbers)
    };
    let (products, numbers) = measure(&s.sentences, 256, 8);
    for (sentences, batch, probe_count) in
        [(&s.sentences, 1, 1), (&s.sentences, 3, 2), (&reversed, 256, 8), (&reversed, 2, 3)]
    {
        let (other_products, other) = measure(sentences, batch, probe_count);
        for (a, b) in numbers.iter().zip(&other) {
            assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "batches of {batch}: {a} against {b}");
        }
        for (a, b) in products.iter().zip(&other_products) {
            let b: Vec<f64> = b.iter().map(|x| f64::from(*x)).collect();
            assert!(distance(a, &b) <= 1e-6 * norm(&b), "batches of {batch}: {:.1e}", distance(a, &b) / norm(&b));
        }
    }
}

/// Largest number in each column of a matrix, over the largest of all.
fn columns(numbers: &[f64]) -> Vec<f64> {
    let n = numbers.len().isqrt();
    let each: Vec<f64> = (0..n).map(|i| (0..n).map(|j| numbers[j * n + i].abs()).fold(0.0, f64::max)).collect();
    let all = each.iter().copied().fold(0.0, f64::max);
    each.into_iter().map(|c| c / all).collect()
}

#[test]
fn untouched_parameters_are_the_columns_of_zeros() {
    let gpu = gpu();
    let variants = Variants::choose(gpu.capabilities());
    let untouched = |name: &str| {
        let s = setting(name);
        let subject = subject(&gpu, &s, variants, 3, 1);
        let mut flags = vec![false; subject.size()];
        subject.untouched().into_iter().flatten().for_each(|i| flags[i] = true);
        let s = setting(name);
        (flags, s)
    };
    // Dense matrices in double precision of `transformers` and of torch's LSTM, by their own order of parameters.
    for name in ["roberta-tiny", "bert-tiny", "lstm-tiny", "lstm-plain-tiny", "gpt2-tiny", "llama-tiny"] {
        let (flags, s) = untouched(name);
        for matrix in ["hessian", "ggn"] {
            let zeros = columns(&s.truth.values(matrix));
            let mut at = 0;
            for parameter in &s.loaded.encoder.parameters {
                let offset = s.truth.values(&format!("offset.{}", parameter.name))[0] as usize;
                for i in 0..parameter.len() {
                    let (column, place) = (zeros[offset + i], format!("{name}, {matrix}, {} {i}", parameter.name));
                    assert_eq!(flags[at + i], column < 1e-13, "{place}: {column:.1e}");
                }
                at += parameter.len();
            }
        }
        // A Llama has neither positions nor biases.
        assert!(flags.iter().filter(|f| **f).count() > flags.len() / 40 || name == "llama-tiny");
    }
    // An untied head leaves the table of inputs with rows of words in no sentence. By products with unit vectors: the
    // loss's Gauss-Newton matrix has a zero on its diagonal where no label's gradient is anything but zero.
    let (flags, s) = untouched("bert-untied");
    let own = subject(&gpu, &s, variants, 256, 32);
    let operator = ModelOperator::new(&own, Matrix::Ggn);
    let unit = |i: usize| (0..own.size()).map(|j| f32::from(i == j)).collect::<Vec<f32>>();
    let places: Vec<usize> = (0..own.size()).collect();
    let mut diagonal = Vec::new();
    for block in places.chunks(32) {
        let images = operator.apply(&block.iter().map(|i| unit(*i)).collect::<Vec<_>>()).unwrap();
        diagonal.extend(block.iter().zip(images).map(|(i, image)| f64::from(image[*i])));
    }
    let largest = diagonal.iter().copied().fold(0.0, f64::max);
    for (name, range) in own.vectors().parts(own.encoder()) {
        for i in range {
            let share = diagonal[i] / largest;
            assert_eq!(flags[i], share.abs() < 1e-12, "{name}, number {i}: {share:.1e}");
        }
    }
    let words = s.loaded.encoder.find("bert.embeddings.word_embeddings.weight").unwrap();
    assert_eq!(words, 0, "the first numbers are the table of words");
    let first = s.loaded.encoder.parameters[0].len();
    assert!(flags[..first].iter().any(|f| *f) && flags[..first].iter().any(|f| !*f));
    // Parameters that are held still are not counted.
    let only = ["*.key.bias".to_string()];
    let Loaded { encoder, weights, .. } = &s.loaded;
    let few = Subject::new(
        &Model::new(&Device::new(&gpu, variants), encoder, weights).unwrap(),
        &s.sentences,
        &only,
        &Chunks { batch: 256, probes: 1 },
    )
    .unwrap();
    assert_eq!(few.untouched().into_iter().map(|r| r.len()).sum::<usize>(), few.size());
}
