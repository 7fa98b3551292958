//! Fixture models with what `fixtures/make_curvature.py` recorded of their curvature.

use lowland::curvature::{Chunks, Subject};
use lowland::gpu::Gpu;
use lowland::model::{Encoder, Loaded, Model, Parameter, load, read_examples};
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

/// Models under 2,000 parameters, whose matrices are recorded whole.
pub const DENSE: [&str; 7] =
    ["roberta-tiny", "bert-tiny", "postnorm-tiny", "lstm-tiny", "lstm-plain-tiny", "gpt2-tiny", "llama-tiny"];

impl Setting {
    /// Where the numbers of our vectors are in a recorded matrix: the fixture's order of parameters is that of
    /// `transformers`, ours that of the graph.
    pub fn places(&self) -> Vec<usize> {
        let of = |p: &Parameter| {
            let offset = self.truth.values(&format!("offset.{}", p.name))[0] as usize;
            offset..offset + p.len()
        };
        self.loaded.encoder.parameters.iter().flat_map(of).collect()
    }
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
