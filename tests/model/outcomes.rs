//! What an adapter has to do with outcomes in nats: probes taught posteriors, and what tuning makes a model forget.

use crate::common::adapter::gpu;
use crate::downstream::{hmm, random_model};
use lowland::config::{EvaluateSection, Resolved};
use lowland::downstream::{
    Features, FineTuning, LinearProbe, Memory, NoMemory, Sizes, TaskData, Teaching, finetune_sentences, probe,
    ridge_path,
};
use lowland::language::{Task, Words};
use lowland::model::{Encoder, Loaded, ModelKind, Weights};
use lowland::ops::Device;
use lowland::train::{Corpus, Evaluator};

const SIZES: Sizes = Sizes { train: 200, validation: 60, test: 150 };
const CONFIG: &str = "seed = 3\n[language]\nkind = \"hmm\"\nhmm = { states = 4, vocabulary = 8, \
                      transition_concentration = 0.2, emission_concentration = 0.2, seed = 2 }\nmin_length = 3\n\
                      max_length = 8\n";

fn taught(teaching: Teaching) -> TaskData {
    TaskData::of_language_taught(&hmm(), Task::State(3), false, 1, SIZES, teaching).unwrap()
}

/// How often each word stands in a sentence.
fn counts(data: &TaskData) -> Features {
    let row = |words: &Words| (0..8).map(|w| words.iter().filter(|v| **v == w).count() as f32).collect::<Vec<f32>>();
    let values = data.parts().into_iter().flat_map(|part| part.sentences.iter().flat_map(row)).collect();
    Features { width: 8, values }
}

#[test]
fn a_probe_taught_the_posterior_comes_to_where_the_ridge_does() {
    let device = Device::of(&gpu());
    let data = taught(Teaching::Posterior);
    let (features, classes) = (counts(&data), data.classes.len());
    let options = LinearProbe { lr: 2e-2, epochs: 60, weight_decay: 0.0, batch: 50, ..LinearProbe::default() };
    let fits = probe(&device, &options, &features, data.targets(), classes as u32, &[1]).unwrap();
    let (_, exact, _) = ridge_path(&features, data.targets(), classes, &[1e-6]).unwrap();
    let (ours, least) = (fits[0].excess().unwrap(), exact.excess().unwrap());
    assert!((ours - least).abs() < 0.02 && least > 0.05, "{ours} by AdamW, {least} to convergence");
    // The epoch is that of the least validation cross-entropy, of which this is the value.
    let entropies = data.validation.posteriors.iter().map(|p| lowland::language::entropy(p)).sum::<f64>() / 60.0;
    assert!(fits[0].validation_loss > entropies, "{} above {entropies}", fits[0].validation_loss);
    let drawn = taught(Teaching::Drawn);
    let fits = probe(&device, &options, &features, drawn.targets(), classes as u32, &[1]).unwrap();
    assert!(fits[0].excess().unwrap() > ours, "200 labels tell less than their posteriors");
    let modes = taught(Teaching::Mode);
    let fits = probe(&device, &options, &features, modes.targets(), modes.classes.len() as u32, &[1]).unwrap();
    assert_eq!((fits[0].excess(), fits[0].divergences.len()), (None, 0));
}

#[test]
fn what_a_model_forgets_is_its_excess_loss_after_less_before() {
    let device = Device::of(&gpu());
    let config = Resolved::from_text(CONFIG, "run", &[]).unwrap().config;
    let corpus = Corpus::open(&config.language, &config.objective, config.seed).unwrap();
    let asked = EvaluateSection { sentences: 100, ..EvaluateSection::default() };
    for kind in [ModelKind::RobertaPreLayerNorm, ModelKind::Lstm] {
        let model = random_model(kind, &hmm(), 1);
        let memory = Memory::of(&device, &model, &corpus, &asked, 32).unwrap().unwrap();
        let excess = |weights: &Weights| {
            let (encoder, weights) = (model.encoder.clone(), weights.clone());
            let own = Loaded { encoder, weights, folder: Default::default(), notes: vec![] };
            Evaluator::new(&own.on(&device).unwrap(), &corpus, &asked, 32).unwrap().run().unwrap()
        };
        let before = excess(&model.weights).excess_loss.unwrap();
        let same = memory.after(&model.encoder, &model.weights).unwrap();
        assert!(same.sums.iter().all(|d| *d == 0.0) && (same.before - before).abs() < 1e-12, "{same:?}");
        // Another model's weights under this one's names.
        let other = random_model(kind, &hmm(), 2);
        let forgotten = memory.after(&other.encoder, &other.weights).unwrap();
        let after = excess(&other.weights);
        assert!((forgotten.mean().value - (after.excess_loss.unwrap() - before)).abs() < 1e-9, "{kind:?}");
        // Paired: the error of the difference, not that of both.
        assert!(forgotten.mean().standard_error < 1.2 * after.excess_loss_standard_error.unwrap() + 0.1);

        let data = taught(Teaching::Drawn).fed(&corpus.tokens, model.encoder.config.reach());
        let tune = |lr: f64| {
            let options = FineTuning { lr, epochs: 2, batch: 32, warmup_steps: 4, ..FineTuning::default() };
            finetune_sentences(&device, &model, &data, &options, &[1], Some(&memory)).unwrap().remove(0)
        };
        let (still, moved) = (tune(1e-12), tune(1e-2));
        assert!(still.forgotten.unwrap().mean().value.abs() < 1e-6, "{kind:?}");
        let moved = moved.forgotten.unwrap();
        assert!(moved.mean().value.abs() > 1e-3, "{kind:?}: {:?}", moved.mean());
        assert_eq!(moved.sums.len(), 100);
    }
    let model = random_model(ModelKind::RobertaPreLayerNorm, &hmm(), 1);
    let encoder = Encoder::body(&model.encoder.config).unwrap();
    let body = Loaded { weights: Weights::initial(&encoder.parameters, 0.1, 1), encoder, ..model };
    assert_eq!(Memory::of(&device, &body, &corpus, &asked, 32).unwrap().err(), Some(NoMemory::NoHead));
}
