//! Fixture models with what `fixtures/make_curvature.py` recorded of their curvature.

use lowland::curvature::{Chunks, Subject};
use lowland::gpu::Gpu;
use lowland::model::{Encoder, Loaded, Model, load, read_examples};
use lowland::ops::batch::Sentence;
use lowland::ops::{Device, Variants};

use super::fixtures::fixture;
use super::truth::Truth;

/// A model with its examples and the recorded numbers.
pub struct Setting {
    pub loaded: Loaded,
    pub sentences: Vec<Sentence>,
    pub truth: Truth,
}

pub fn setting(name: &str) -> Setting {
    let loaded = load(&fixture(name)).unwrap();
    let sentences = read_examples(&fixture(name).join("examples.jsonl"), &loaded.encoder.config).unwrap();
    Setting { loaded, sentences, truth: Truth::read(name, "curvature") }
}

pub fn subject(gpu: &Gpu, s: &Setting, variants: Variants, batch: usize, probes: u32) -> Subject {
    let Loaded { encoder, weights, .. } = &s.loaded;
    Subject::new(
        &Model::new(&Device::new(gpu, variants), encoder, weights).unwrap(),
        &s.sentences,
        &[],
        &Chunks { batch, probes },
    )
    .unwrap()
}

/// Three vectors recorded by parameter, in our order.
pub fn vectors(truth: &Truth, prefix: &str, encoder: &Encoder) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new(); 3];
    for parameter in &encoder.parameters {
        let values = truth.values(&format!("{prefix}.{}", parameter.name));
        for (k, own) in values.chunks_exact(parameter.len()).enumerate() {
            all[k].extend(own);
        }
    }
    all
}

pub fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

pub fn distance(a: &[f32], b: &[f64]) -> f64 {
    norm(&a.iter().zip(b).map(|(a, b)| f64::from(*a) - b).collect::<Vec<_>>())
}
