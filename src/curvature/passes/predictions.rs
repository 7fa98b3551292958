//! What a forward pass tells of an example before its gradients are measured.

use crate::curvature::{CurvatureError, Subject};
use crate::model::ForwardPass;
use crate::ops::batch::Sentence;
use crate::ops::{Dims, Labels};

/// Tr(diag p − ppᵀ) = 1 − Σ p² of each example, the mean over its masked positions, p being the model's distribution:
/// the size of the loss's own Hessian, to which the example's Fisher trace is in proportion where Jacobians are alike.
pub fn uncertainty(subject: &Subject) -> Result<Vec<f64>, CurvatureError> {
    let pass = ForwardPass::new(&subject.model, one_probe(subject), Labels::Hard, true)?;
    let classes = subject.model.encoder.classes() as usize;
    let spreads = |sentences: &[Sentence]| {
        pass.run(sentences)?;
        let logits = pass.logits(sentences.iter().map(|s| s.masked.len()).sum())?;
        Ok(logits.chunks_exact(classes).map(spread).collect())
    };
    let sums = summed(subject, spreads)?;
    Ok(sums.into_iter().zip(&subject.sentences).map(|(sum, s)| sum / s.masked.len() as f64).collect())
}

/// KL(q ‖ p) of each example, summed over its masked positions, q being the exact distribution of the label and p the
/// model's; of the data's own labels the loss.
pub fn divergence(subject: &Subject) -> Result<Vec<f64>, CurvatureError> {
    let pass = ForwardPass::new(&subject.model, one_probe(subject), subject.labels, false)?;
    // Rounding takes it below 0 where the two agree.
    summed(subject, |sentences| Ok(pass.run(sentences)?.into_iter().map(|row| row.divergence.max(0.0)).collect()))
}

fn one_probe(subject: &Subject) -> Dims {
    Dims { probes: 1, ..subject.dims }
}

/// Sums over each example's masked positions of what a batch of sentences has at each.
fn summed(
    subject: &Subject,
    run: impl Fn(&[Sentence]) -> Result<Vec<f64>, CurvatureError>,
) -> Result<Vec<f64>, CurvatureError> {
    let mut all = Vec::with_capacity(subject.examples());
    for range in &subject.batches {
        let sentences = &subject.sentences[range.clone()];
        let mut rows = run(sentences)?.into_iter();
        all.extend(sentences.iter().map(|s| rows.by_ref().take(s.masked.len()).sum::<f64>()));
    }
    if all.iter().all(|u| u.is_finite()) { Ok(all) } else { Err(CurvatureError::NotFinite("a prediction")) }
}

/// 1 − Σ softmax².
fn spread(logits: &[f32]) -> f64 {
    let most = logits.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let (mut sum, mut squares) = (0.0, 0.0);
    for x in logits {
        let e = f64::from(x - most).exp();
        (sum, squares) = (sum + e, squares + e * e);
    }
    1.0 - squares / (sum * sum)
}
