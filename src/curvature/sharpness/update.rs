//! The direction in which an optimiser would move the weights next, and its scale for each of them.

use crate::curvature::{CurvatureError, Refusal, Subject, norm};
use crate::model::Weights;
use crate::ops::UpdateRule;

/// What an optimiser keeps of a model, as a checkpoint has it.
#[derive(Clone, Debug)]
pub struct OptimizerState {
    /// Its rule with its constants.
    pub rule: UpdateRule,
    /// The norm to which a longer gradient is cut; 0 for none.
    pub clip: f64,
    /// Steps that were taken.
    pub steps: u64,
    /// As many as the rule has.
    pub moments: Vec<Weights>,
}

impl OptimizerState {
    /// The direction u of the next step, θ ← θ - η u, for a gradient: of AdamW m̂ / (√v̂ + ε) and, of matrices, λ θ,
    /// with the moments that this gradient leaves; of SGD the momentum that it leaves, λ θ in it.
    ///
    /// # Errors
    /// Moments that are not those of the rule.
    pub fn direction(&self, subject: &Subject, gradient: &[f32]) -> Result<Vec<f32>, CurvatureError> {
        self.check(subject)?;
        let weights = subject.vectors().gather(&subject.read_weights()?);
        let length = norm(gradient);
        let cut = if self.clip > 0.0 && length > self.clip { self.clip / length } else { 1.0 };
        let decays = decays(subject);
        let moments: Vec<Vec<f32>> = (0..self.moments.len()).map(|m| self.gathered(subject, m)).collect();
        let t = (self.steps + 1) as f64;
        let one = |i: usize| {
            let (g, w) = (cut * f64::from(gradient[i]), f64::from(weights[i]));
            let pull = if decays[i] { w } else { 0.0 };
            let kept = |m: usize| f64::from(moments[m][i]);
            match self.rule {
                UpdateRule::AdamW { betas: [b1, b2], eps, decay } => {
                    let first = (b1 * kept(0) + (1.0 - b1) * g) / (1.0 - b1.powf(t));
                    let second = (b2 * kept(1) + (1.0 - b2) * g * g) / (1.0 - b2.powf(t));
                    first / (second.sqrt() + eps) + decay * pull
                }
                UpdateRule::Sgd { momentum, decay } => {
                    let before = if momentum > 0.0 && self.steps > 0 { momentum * kept(0) } else { 0.0 };
                    before + g + decay * pull
                }
            }
        };
        Ok((0..gradient.len()).map(|i| one(i) as f32).collect())
    }

    /// P^-½ of each number, P = √v̂ + ε with the second moment as it stands, its bias taken off; `None` of other rules
    /// and before the first step.
    ///
    /// # Errors
    /// Moments that are not those of the rule.
    pub fn preconditioner(&self, subject: &Subject) -> Result<Option<Vec<f32>>, CurvatureError> {
        self.check(subject)?;
        let UpdateRule::AdamW { betas, eps, .. } = self.rule else { return Ok(None) };
        if self.steps == 0 {
            return Ok(None);
        }
        let correction = 1.0 - betas[1].powf(self.steps as f64);
        let one = |v: &f32| (((f64::from(*v) / correction).sqrt() + eps).sqrt().recip()) as f32;
        Ok(Some(self.gathered(subject, 1).iter().map(one).collect()))
    }

    fn gathered(&self, subject: &Subject, moment: usize) -> Vec<f32> {
        subject.vectors().gather(&self.moments[moment])
    }

    fn check(&self, subject: &Subject) -> Result<(), CurvatureError> {
        let sizes = |w: &Weights| w.0.iter().map(Vec::len).eq(subject.encoder().parameters.iter().map(|p| p.len()));
        match self.moments.len() == self.rule.moments() && self.moments.iter().all(sizes) {
            true => Ok(()),
            false => Err(Refusal::OtherMoments.into()),
        }
    }
}

/// Whether weight decay applies to each number: to those of matrices.
fn decays(subject: &Subject) -> Vec<bool> {
    let encoder = subject.encoder();
    let of = |(p, place): (&crate::model::Parameter, std::ops::Range<usize>)| {
        std::iter::repeat_n(encoder.matrices[p.matrix].decay, place.len())
    };
    subject.vectors().places(encoder).flat_map(of).collect()
}
