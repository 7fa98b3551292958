//! What a forward pass tells of an example before its gradients are measured.

use crate::curvature::{CurvatureError, Subject};
use crate::model::ForwardPass;
use crate::ops::{Dims, Labels};

/// Tr(diag p − ppᵀ) = 1 − Σ p² of each example, the mean over its masked positions, p being the model's distribution:
/// the size of the loss's own Hessian, to which the example's Fisher trace is in proportion where Jacobians are alike.
pub fn uncertainty(subject: &Subject) -> Result<Vec<f64>, CurvatureError> {
    let dims = Dims { probes: 1, ..subject.dims };
    let pass = ForwardPass::new(&subject.model, dims, Labels::Hard, true)?;
    let classes = subject.model.encoder.classes() as usize;
    let mut all = Vec::with_capacity(subject.examples());
    for range in &subject.batches {
        let sentences = &subject.sentences[range.clone()];
        pass.run(sentences)?;
        let logits = pass.logits(sentences.iter().map(|s| s.masked.len()).sum())?;
        let mut rows = logits.chunks_exact(classes).map(spread);
        for sentence in sentences {
            let sum: f64 = rows.by_ref().take(sentence.masked.len()).sum();
            all.push(sum / sentence.masked.len() as f64);
        }
    }
    if all.iter().all(|u| u.is_finite()) { Ok(all) } else { Err(CurvatureError::NotFinite("a prediction")) }
}

/// KL(q ‖ p) of each example, summed over its masked positions, q being the exact distribution of the label and p the
/// model's; of the data's own labels the loss.
pub fn divergence(subject: &Subject) -> Result<Vec<f64>, CurvatureError> {
    let dims = Dims { probes: 1, ..subject.dims };
    let pass = ForwardPass::new(&subject.model, dims, subject.labels, false)?;
    let mut all = Vec::with_capacity(subject.examples());
    for range in &subject.batches {
        let sentences = &subject.sentences[range.clone()];
        let mut rows = pass.run(sentences)?.into_iter();
        for sentence in sentences {
            // Rounding takes it below 0 where the two agree.
            all.push(rows.by_ref().take(sentence.masked.len()).map(|row| row.divergence.max(0.0)).sum());
        }
    }
    if all.iter().all(|u: &f64| u.is_finite()) { Ok(all) } else { Err(CurvatureError::NotFinite("a prediction")) }
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
