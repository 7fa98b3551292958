//! The Fisher trace in two parts by groups of words: against double precision, and what is known of it where the model
//! is the language.

use crate::common::adapter::gpu;
use crate::common::fixtures::fixture;
use crate::llc::Case;
use lowland::config::LabelMix;
use lowland::curvature::{Chunks, Drawing, LabelSplit, LabelSplitOptions, Stopping, Subject, WordGroups};
use lowland::gpu::Gpu;
use lowland::model::{GradientPass, Model, dims_for, load, read_examples};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Labels, LossDraw};
use lowland::statistics::Target;
use lowland::train::mixed_label;

fn subject(gpu: &Gpu, name: &str) -> Subject {
    let loaded = load(&fixture(name)).unwrap();
    let sentences = read_examples(&fixture(name).join("examples.jsonl"), &loaded.encoder.config).unwrap();
    let model = Model::new(&Device::of(gpu), &loaded.encoder, &loaded.weights).unwrap();
    Subject::new(&model, &sentences, &[], &Chunks { batch: 4, probes: 8 }).unwrap()
}

/// Word v in group v modulo this.
fn groups(subject: &Subject, count: u32) -> WordGroups {
    WordGroups::new((0..subject.encoder().config.vocab_size).map(|v| v % count).collect()).unwrap()
}

fn split(subject: &Subject, count: u32, kind: LossDraw, draws: usize) -> LabelSplit {
    let what = LabelSplitOptions { kind, seed: 3, draws, target: Target::TheseExamples };
    LabelSplit::measure(subject, &groups(subject, count), &what, &mut |_| Ok(())).unwrap()
}

/// Every label's trace.
fn trace(subject: &Subject) -> f64 {
    let mut drawing = Drawing::new(subject, LossDraw::Exact, 0, 1).unwrap();
    let all = Stopping::after(usize::MAX);
    drawing.run(subject, Target::TheseExamples, &all, &mut |_| Ok(())).unwrap().trace.estimate
}

#[test]
fn both_parts_are_those_of_double_precision_and_add_to_the_trace() {
    let gpu = gpu();
    let text = std::fs::read(fixture("label_split.json")).unwrap();
    let recorded: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
    assert!(recorded.len() >= 8);
    let mut far = 0;
    for (name, want) in &recorded {
        let subject = subject(&gpu, name);
        let whole = trace(&subject);
        for (count, want) in want.as_object().unwrap() {
            let want = [0, 1].map(|i| want[i].as_f64().unwrap());
            let count = count.parse().unwrap();
            let found = split(&subject, count, LossDraw::Exact, 1);
            for (part, want) in [found.between, found.within].into_iter().zip(want) {
                let what = format!("{name}, {count} groups");
                assert!((part.value / want - 1.0).abs() < 1e-5, "{what}: {part} for {want}");
                assert_eq!(part.standard_error, 0.0);
            }
            let sum = found.between.value + found.within.value;
            assert!((sum / whole - 1.0).abs() < 1e-5, "{name}, {count} groups: {sum} of {whole}");
            let drawn = split(&subject, count, LossDraw::Signs, 64);
            for (part, want) in [drawn.between, drawn.within].into_iter().zip(want) {
                let z = (part.value - want) / part.standard_error;
                assert!(z.abs() < 4.5, "{name}, {count} groups: {part} for {want}, z = {z}");
                assert!(part.standard_error < 0.2 * want, "{name}, {count} groups: {part}");
                far += usize::from(z.abs() > 2.0);
            }
        }
    }
    assert!(far <= 6, "{far} of {} are more than two errors off", 4 * recorded.len());
}

/// Labels of the dial about a model that is the language itself: the mean gradient is 0, and the gradient's second
/// moment over the words is k_b² of the one part and k_w² of the other.
#[test]
fn at_the_floor_the_dials_noise_has_the_parts_as_its_covariance() {
    let gpu = gpu();
    for name in ["roberta-tiny", "bert-tiny", "gpt2-tiny"] {
        let case = Case::of(&gpu, name);
        let found = split(&case.in_batches(&gpu, &[], 4), 2, LossDraw::Exact, 1);
        let model = Model::new(&Device::of(&gpu), &case.encoder, &case.weights).unwrap();
        let pass = GradientPass::new(&model, dims_for(&case.sentences, 1), Labels::Soft).unwrap();
        // Tr Σ over the noise of one position at a time, which is independent of the others'.
        let covariance = |between: f64, within: f64| {
            let mix = LabelMix { between, within, groups: 2 };
            let (mut sum, mut positions) = (0.0, 0.0);
            for sentence in &case.sentences {
                for (place, masked) in sentence.masked.iter().enumerate() {
                    let p: Vec<f64> = sentence.soft[place].iter().map(|p| f64::from(*p)).collect();
                    let total: f64 = p.iter().sum();
                    let p: Vec<f64> = p.iter().map(|x| x / total).collect();
                    positions += 1.0;
                    for (y, share) in p.iter().enumerate() {
                        let label = mixed_label(&mix, &p, y).into_iter().map(|t| t as f32).collect();
                        let one = Sentence { masked: vec![*masked], soft: vec![label], ..sentence.clone() };
                        pass.run(&[one]).unwrap();
                        let gradient = pass.gradient().read(&gpu, &case.encoder).unwrap().0.concat();
                        sum += share * gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
                    }
                }
            }
            sum / positions
        };
        for (k, want) in [
            ([1.0, 0.0], found.between.value),
            ([0.0, 1.0], found.within.value),
            ([0.5, 2.0], 0.25 * found.between.value + 4.0 * found.within.value),
        ] {
            let got = covariance(k[0], k[1]);
            println!("{name}: Tr Σ at {k:?} is {got}, {want} of the parts");
            assert!((got / want - 1.0).abs() < 1e-4, "{name}: Tr Σ at {k:?} is {got}, not {want}");
        }
    }
}

#[test]
fn what_is_no_partition_is_refused() {
    let gpu = gpu();
    let refused = |of: Vec<u32>| WordGroups::new(of).unwrap_err().to_string();
    assert!(refused(vec![0, 0]).contains("1 groups of words"));
    assert!(refused(vec![0, 64]).contains("2 to 64"));
    let subject = subject(&gpu, "roberta-tiny");
    let what = LabelSplitOptions { kind: LossDraw::Signs, seed: 0, draws: 1, target: Target::TheseExamples };
    let other = WordGroups::new(vec![0, 1, 0]).unwrap();
    let error = LabelSplit::measure(&subject, &other, &what, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("groups of 3 words for a model of 9"), "{error}");
}
