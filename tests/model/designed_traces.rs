//! Traces over sentences that a design draws from a frame: no bias, and stated errors that hold, by z-scores over fixed
//! seeds.

use std::ops::Range;

use crate::common::adapter::gpu;
use lowland::curvature::{
    Chunks, CurvatureError, Design, Designed, DesignedTrace, Drawing, Numbered, Setting, Stopping, Subject,
    designed_trace,
};
use lowland::gpu::Gpu;
use lowland::interrupt::Interrupted;
use lowland::model::{Encoder, Model, ModelConfig, Weights};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, LossDraw};
use lowland::random::{Purpose, Stream};
use lowland::statistics::{Estimate, Target};

const WORDS: u32 = 12;

/// A model with weights large enough that its certainty, and with it the traces, differ much between sentences.
fn model() -> (Encoder, Weights) {
    let config = ModelConfig {
        vocab_size: WORDS + 4,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        max_position_embeddings: 12,
        ..ModelConfig::default()
    };
    let encoder = Encoder::new(&config).unwrap();
    let weights = Weights::initial(&encoder.parameters, 0.35, 1);
    (encoder, weights)
}

/// Sentence `number` of a seed: 3 to 8 words, one of them masked.
fn sentence(seed: u64, number: u64) -> Sentence {
    let mut random = Stream::new(seed, Purpose::Test, number);
    let length = 3 + random.below(6);
    let mut ids = vec![0];
    ids.extend((0..length).map(|_| 4 + random.below(WORDS)));
    ids.push(2);
    let position = 1 + random.below(length);
    let label = std::mem::replace(&mut ids[position as usize], 3);
    Sentence { ids, masked: vec![(position, label)], ..Sentence::default() }
}

/// Sentences of a seed as a language.
struct Random(u64);

impl Numbered for Random {
    fn sentences(&self, numbers: Range<u64>) -> Result<Vec<Sentence>, Interrupted> {
        Ok(numbers.map(|i| sentence(self.0, i)).collect())
    }

    fn longest(&self) -> u32 {
        12
    }

    fn most_predicted(&self) -> u32 {
        1
    }
}

struct Ground<'g> {
    gpu: &'g Gpu,
    encoder: Encoder,
    weights: Weights,
    batch: usize,
}

impl<'g> Ground<'g> {
    fn subject(&self, sentences: &[Sentence]) -> Result<Subject, CurvatureError> {
        let chunks = Chunks { batch: self.batch, probes: 4 };
        Subject::new(&Model::new(&Device::of(self.gpu), &self.encoder, &self.weights).unwrap(), sentences, &[], &chunks)
    }

    fn trace(&self, what: &Designed) -> Result<DesignedTrace, CurvatureError> {
        let model = Model::new(&Device::of(self.gpu), &self.encoder, &self.weights).unwrap();
        let setting = Setting { chunks: Chunks { batch: self.batch, probes: 4 }, ..Setting::of(&model) };
        designed_trace(&setting, &Random(what.seed), what, &mut |_| Ok(()))
    }
}

fn ground(gpu: &Gpu, batch: usize) -> Ground<'_> {
    let (encoder, weights) = model();
    Ground { gpu, encoder, weights, batch }
}

#[test]
fn designs_are_unbiased_and_their_errors_hold() {
    let gpu = gpu();
    let ground = ground(&gpu, 256);
    let all: Vec<Sentence> = (0..8192).map(|i| sentence(1 << 40, i)).collect();
    let subject = ground.subject(&all).unwrap();
    let mut exact = Drawing::new(&subject, LossDraw::Exact, 0, 1).unwrap();
    let truth = exact.run(&subject, Target::Population, &Stopping::after(usize::MAX), &mut |_| Ok(())).unwrap().trace;
    for design in [Design::Importance, Design::Stratified] {
        let runs: Vec<DesignedTrace> = (0..60)
            .map(|seed| {
                let what = Designed {
                    design,
                    kind: if seed % 2 == 0 { LossDraw::Signs } else { LossDraw::Label },
                    seed,
                    draws: 2,
                    stop: Stopping::after(128).not_before(128),
                    frame: Some(512),
                };
                ground.trace(&what).unwrap()
            })
            .collect();
        assert!(runs.iter().all(|r| r.frame == 512 && (100..160).contains(&r.measured)));
        let estimates: Vec<f64> = runs.iter().map(|r| r.trace.estimate).collect();
        let mean = Estimate::of_mean(&estimates);
        let bias = (mean.value - truth.estimate) / mean.standard_error.hypot(truth.standard_error);
        assert!(bias.abs() < 3.5, "{design:?}: {bias:.2} standard errors of bias");
        let z: Vec<f64> = runs.iter().map(|r| (r.trace.estimate - truth.estimate) / r.trace.standard_error).collect();
        let covered = z.iter().filter(|z| z.abs() < 1.96).count() as f64 / z.len() as f64;
        assert!((0.86..=1.0).contains(&covered), "{design:?}: {covered:.2} of the intervals cover");
        // The stated errors are those that the runs show: neither part is left out.
        let seen = mean.standard_error * (z.len() as f64).sqrt();
        let stated = (runs.iter().map(|r| r.trace.standard_error.powi(2)).sum::<f64>() / z.len() as f64).sqrt();
        assert!((0.7..1.4).contains(&(stated / seen)), "{design:?}: stated {stated}, seen {seen}");
        // A part whose estimate comes out negative is taken as 0: of strata that is often the data's, small beside the
        // draws'.
        let both = |r: &&DesignedTrace| r.trace.standard_error_data > 0.0 && r.trace.standard_error_probe > 0.0;
        let told = runs.iter().filter(both).count();
        assert!(told > 30, "{design:?}: both parts in {told} of the runs");
    }
}

#[test]
fn a_relative_error_is_reached_and_batches_change_nothing() {
    let gpu = gpu();
    let what = Designed {
        design: Design::Importance,
        kind: LossDraw::Signs,
        seed: 3,
        draws: 2,
        stop: Stopping::at(0.05).not_before(128).at_most(1 << 14),
        frame: None,
    };
    let found = ground(&gpu, 256).trace(&what).unwrap();
    assert!(found.trace.reached && found.trace.standard_error <= 0.05 * found.trace.estimate);
    assert!(found.frame >= 128 && found.measured >= 128 && found.trace.samples == 2 * found.measured);
    let other = ground(&gpu, 50).trace(&what).unwrap();
    assert_eq!((found.frame, found.measured), (other.frame, other.measured));
    assert!((found.trace.estimate / other.trace.estimate - 1.0).abs() < 1e-6);
    let stop = Stopping::at(1e-4).not_before(128).at_most(300);
    let short = ground(&gpu, 256).trace(&Designed { stop, frame: Some(400), ..what.clone() });
    assert!(!short.unwrap().trace.reached, "not reached, and says so");
    let error = ground(&gpu, 256).trace(&Designed { frame: Some(9), ..what }).unwrap_err().to_string();
    assert!(error.contains("128 sentences of the pilot"), "{error}");
}
