//! Models of `transformers` in double precision against ours: logits, losses, gradients; recorded by
//! `fixtures/make_transformers.py`.

use crate::MODELS;
use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use crate::common::truth::Truth;
use lowland::model::{ForwardPass, GradientPass, Model, dims_for, load, read_examples};
use lowland::ops::{Device, Family, Labels, Variants};

#[test]
fn logits_losses_and_gradients_are_those_of_transformers() {
    let gpu = gpu();
    for variants in Variants::all(gpu.capabilities()) {
        for name in MODELS {
            let loaded = load(&fixture(name)).unwrap();
            let truth = Truth::read(name, "truth");
            let sentences = read_examples(&fixture(name).join("examples.jsonl"), &loaded.encoder.config).unwrap();
            let model = Model::new(&Device::new(&gpu, variants), &loaded.encoder, &loaded.weights).unwrap();
            let dims = dims_for(&sentences, sentences.len());
            let forward = ForwardPass::new(&model, dims, Labels::Hard, true).unwrap();
            let losses = forward.run(&sentences).unwrap();
            let logits = forward.logits(losses.len()).unwrap();
            for (got, want) in logits.iter().zip(&truth.values("logits")) {
                assert!((f64::from(*got) - want).abs() <= 2e-5, "{name} {variants:?}: logit {got} against {want}");
            }
            let mean = |v: Vec<f64>| v.iter().sum::<f64>() / v.len() as f64;
            let got = mean(losses.iter().map(|l| l.loss).collect());
            let want = mean(truth.values("losses"));
            assert!((got / want - 1.0).abs() <= 1e-6, "{name} {variants:?}: loss {got} against {want}");

            let pass = GradientPass::new(&model, dims, Labels::Hard).unwrap();
            pass.run(&sentences).unwrap();
            let gradient = pass.gradient().read(&gpu, &loaded.encoder).unwrap();
            let expected: Vec<Vec<f64>> =
                loaded.encoder.parameters.iter().map(|p| truth.values(&format!("gradient.{}", p.name))).collect();
            let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            let whole = norm(&expected.concat());
            for ((parameter, got), want) in loaded.encoder.parameters.iter().zip(&gradient.0).zip(&expected) {
                assert_eq!(got.len(), want.len(), "{}", parameter.name);
                let difference: Vec<f64> = got.iter().zip(want).map(|(g, w)| f64::from(*g) - w).collect();
                let bound = 1e-4 * norm(want) + 1e-6 * whole;
                assert!(
                    norm(&difference) <= bound,
                    "{name} {variants:?} {}: {:.2e} > {bound:.2e}",
                    parameter.name,
                    norm(&difference)
                );
            }
            for _ in 0..2 {
                pass.run(&sentences).unwrap();
                let again = pass.gradient().read(&gpu, &loaded.encoder).unwrap();
                assert_eq!(gradient, again, "{name}: a gradient repeats bit for bit");
            }
        }
    }
}

#[test]
fn f64_twins_are_transformers_itself() {
    use lowland::gpu::Step;
    use lowland::graph::Emit;
    use lowland::reference::{Frame, Values, run};
    for name in MODELS {
        let loaded = load(&fixture(name)).unwrap();
        let encoder = &loaded.encoder;
        let truth = Truth::read(name, "truth");
        let sentences = read_examples(&fixture(name).join("examples.jsonl"), &encoder.config).unwrap();
        let variants = Variants::choose(gpu().capabilities()).with(Family::Sums, "tiny").unwrap();
        let layout = encoder.batch_layout(&variants);
        let batch = lowland::ops::Batch::new(&layout, &sentences);
        let (graph, loss, weight, gradients) = encoder.with_gradient(Labels::Hard);
        let frame = Frame { graph: &graph, batch: &batch, step: Step::default() };
        let mut values = Values::new();
        let packed = loaded.weights.pack(&encoder.parameters, &encoder.matrices);
        for ((tensor, matrix), memory) in encoder.tensors.iter().zip(&encoder.matrices).zip(&packed) {
            let wide = matrix.cols.next_multiple_of(4) as usize;
            let rows = memory.chunks_exact(wide).take(matrix.rows as usize);
            values.insert(
                *tensor,
                rows.flat_map(|r| r[..matrix.cols as usize].iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
                    .collect(),
            );
        }
        let masked = batch.masked() as usize;
        values.insert(weight, (0..4 * masked).map(|i| if i % 4 == 0 { 1.0 / masked as f64 } else { 0.0 }).collect());
        run(&frame, graph.nodes(), &mut values);
        let worst =
            values[&encoder.logits].iter().zip(&truth.values("logits")).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{name}: logits within {worst:.1e}");
        let _ = (loss, gradients, graph.tensor(loss));
        assert!(worst < 1e-9, "{name}: {worst:.1e}");
    }
}
