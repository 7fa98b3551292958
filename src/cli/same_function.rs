//! Whether two models of one vocabulary are the same function: their logits in double precision on the host, by the
//! interpreter of graphs, since single precision would show its own rounding.

use crate::gpu::Step;
use crate::model::{Encoder, Matrix, Rescaling, Weights};
use crate::ops::Batch;
use crate::ops::batch::{BatchLayout, Sentence};
use crate::random::{Purpose, Stream};
use crate::reference::{Frame, Values, run};

/// Largest difference of a logit, as a share of the logits' spread, within which two models are one function.
pub const SAME: f64 = 1e-6;

/// Largest share within which single precision may round a model's numbers: that of its own arithmetic.
pub const ROUNDED: f64 = 1e-5;

/// Sentences that are compared, and tokens in each.
const SENTENCES: usize = 4;
const TOKENS: usize = 10;

/// The largest difference of a logit over the standard deviation of the first model's logits; NaN where a logit is none
/// or all are equal. Every position of a few sentences is predicted. Half of their words are drawn, the others are
/// those with the smallest rows of the word table, for which the ε of the norm behind it weighs most.
pub fn difference(first: (&Encoder, &Weights), second: (&Encoder, &Weights)) -> f64 {
    let sentences = sentences(first.0, first.1);
    let [a, b] = [first, second].map(|(encoder, weights)| logits(encoder, numbers(weights), &sentences));
    apart(&a, &b) / spread(&a)
}

/// How far a model in another gauge is from the model, each figure as that of [`difference`].
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    /// As it is written.
    pub whole: f64,
    /// With its numbers not rounded to single precision: what is left is the ε of norms.
    pub exact: f64,
    /// Between these two.
    pub rounding: f64,
}

/// Compares a model with the same in another gauge.
pub fn regauged(encoder: &Encoder, weights: &Weights, rescaling: &Rescaling) -> Apart {
    let sentences = sentences(encoder, weights);
    let own = logits(encoder, numbers(weights), &sentences);
    let exact = logits(encoder, rescaling.numbers(encoder, weights), &sentences);
    let rounded = logits(encoder, numbers(&rescaling.apply(encoder, weights)), &sentences);
    let spread = spread(&own);
    Apart {
        whole: apart(&own, &rounded) / spread,
        exact: apart(&own, &exact) / spread,
        rounding: apart(&exact, &rounded) / spread,
    }
}

/// The largest difference, NaN where one is.
fn apart(a: &[f64], b: &[f64]) -> f64 {
    // Not `f64::max`, which passes over what is no number.
    let larger = |most: f64, d: f64| if d <= most { most } else { d };
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

/// The standard deviation.
fn spread(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn sentences(encoder: &Encoder, weights: &Weights) -> Vec<Sentence> {
    let config = &encoder.config;
    let length = (config.longest() as usize).min(TOKENS);
    let mut random = Stream::new(0, Purpose::Sample, 0);
    let words = config.vocab_size;
    let smallest = smallest_rows(encoder, weights, SENTENCES * length / 2);
    let mut word = |i: usize| match smallest.get(i / 2) {
        Some(word) if i % 2 == 1 => *word,
        _ => random.below(words),
    };
    let mut sentence = |s: usize| {
        let ids: Vec<u32> = (0..length).map(|t| word(s * length + t)).collect();
        let masked = (0..length as u32).map(|t| (t, 0)).collect();
        Sentence { ids, masked, ..Sentence::default() }
    };
    (0..SENTENCES).map(&mut sentence).collect()
}

/// The words whose rows vary least over their columns, which is what a norm divides by.
fn smallest_rows(encoder: &Encoder, weights: &Weights, count: usize) -> Vec<u32> {
    let table = encoder.parameters.iter().position(|p| p.role.is_over_words() && !p.role.bias);
    let Some(values) = table.map(|t| &weights.0[t]) else { return vec![] };
    let wide = encoder.config.hidden_size as usize;
    let variance = |row: &[f32]| {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / wide as f64;
        row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>()
    };
    let mut rows: Vec<(f64, u32)> = values.chunks_exact(wide).map(variance).zip(0..).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.into_iter().take(count).map(|(_, word)| word).collect()
}

/// Logits of all predicted positions with nothing dropped, row by row.
fn logits(encoder: &Encoder, numbers: impl Iterator<Item = Vec<f64>>, sentences: &[Sentence]) -> Vec<f64> {
    let encoder = &encoder.without_dropout();
    let config = &encoder.config;
    let layout = BatchLayout { tables: encoder.table_rows(), first_position: config.first_position(), segment: 4 };
    let batch = Batch::new(&layout, sentences);
    let mut values: Values = encoder.tensors.iter().copied().zip(unpadded(encoder, numbers)).collect();
    run(&Frame { graph: &encoder.graph, batch: &batch, step: Step::default() }, encoder.graph.nodes(), &mut values);
    values.remove(&encoder.logits).expect("the graph ends in its logits")
}

/// The numbers of each parameter.
fn numbers(weights: &Weights) -> impl Iterator<Item = Vec<f64>> + '_ {
    weights.0.iter().map(|own| own.iter().map(|w| f64::from(*w)).collect())
}

/// Each matrix without the padding that kernels want.
fn unpadded(encoder: &Encoder, numbers: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f64>> {
    let mut packed: Vec<Vec<f64>> = encoder.matrices.iter().map(|m| vec![0.0; m.padded_len()]).collect();
    for (parameter, own) in encoder.parameters.iter().zip(numbers) {
        let memory = &mut packed[parameter.matrix];
        let places = parameter.places(&encoder.matrices[parameter.matrix]);
        places.zip(own).for_each(|(place, number)| memory[place] = number);
    }
    let plain = |(matrix, memory): (&Matrix, Vec<f64>)| {
        let (rows, cols) = (matrix.rows as usize, matrix.cols as usize);
        let padded = memory.chunks_exact(cols.next_multiple_of(4)).take(rows);
        padded.flat_map(|row| row[..cols].iter().copied()).collect()
    };
    encoder.matrices.iter().zip(packed).map(plain).collect()
}
