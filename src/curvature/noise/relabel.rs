//! Labels drawn from the model in the place of the data's.

use crate::curvature::{CurvatureError, Setting};
use crate::model::{ForwardPass, dims_for};
use crate::ops::Labels;
use crate::ops::batch::Sentence;
use crate::random::{Purpose, Stream};

/// The examples with labels drawn from the model: a function of the seed and an example's number.
pub(super) fn relabelled(
    setting: &Setting<'_>,
    sentences: &[Sentence],
    seed: u64,
) -> Result<Vec<Sentence>, CurvatureError> {
    let batch = setting.chunks.batch;
    let pass = ForwardPass::new(setting.model, dims_for(sentences, batch), Labels::Hard, true)?;
    let classes = setting.model.encoder.classes() as usize;
    let mut drawn = Vec::with_capacity(sentences.len());
    for chunk in sentences.chunks(batch) {
        pass.run(chunk)?;
        let logits = pass.logits(chunk.iter().map(|s| s.masked.len()).sum())?;
        let mut rows = logits.chunks_exact(classes);
        for sentence in chunk {
            let mut stream = Stream::new(seed, Purpose::Label, drawn.len() as u64);
            let mut sentence = Sentence { soft: Vec::new(), ..sentence.clone() };
            for ((_, label), row) in sentence.masked.iter_mut().zip(rows.by_ref()) {
                *label = draw(row, stream.uniform());
            }
            drawn.push(sentence);
        }
    }
    Ok(drawn)
}

/// The class at which the cumulative softmax passes u.
fn draw(logits: &[f32], u: f64) -> u32 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let weights: Vec<f64> = logits.iter().map(|x| f64::from(x - most).exp()).collect();
    let mut left = u * weights.iter().sum::<f64>();
    for (class, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return class as u32;
        }
    }
    // Rounding only: the last class that can be.
    weights.iter().rposition(|w| *w > 0.0).unwrap_or(0) as u32
}
