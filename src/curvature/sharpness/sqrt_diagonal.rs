//! tr Diag(F)^½, which Adam's noise lowers as SGD's lowers the trace (Li, Wen, Lyu 2025, arXiv 2511.02773). Of the
//! Fisher matrix, whose diagonal is not below 0; at the entropy floor it is the Hessian's.
//!
//! The squares of gradients for drawn signs, summed over a group of examples, are the group's diagonal in the mean. A
//! root of an estimate is too small: to second order by Var / 8 F^(3/2) for each parameter. So the diagonal comes in
//! groups that are independent, examples of their own or, of given examples, draws of their own, and the jackknife over
//! them gives bias and error.

use crate::curvature::{CurvatureError, DrawnGradients, Observe, Progress, Refusal, Subject};
use crate::ops::LossDraw;
use crate::statistics::{Estimate, Target};

/// Groups of the jackknife.
pub const GROUPS: usize = 32;

/// Draws of each example where examples are the groups.
const DRAWS: usize = 4;

/// Σ_j √F_jj.
#[derive(Clone, Debug)]
pub struct SqrtDiagonal {
    /// With the bias taken off.
    pub value: Estimate,
    /// What was taken off, by the jackknife: the root of estimates is too small, so it is below 0.
    pub bias: f64,
    /// What it cost, in gradients over the same examples.
    pub gradient_equivalents: f64,
}

impl SqrtDiagonal {
    /// Measures a subject's; of a population at most [`GROUPS`] groups of its examples, two at least.
    ///
    /// # Errors
    /// One example of a population; an interrupt; what the adapter says.
    pub fn measure(
        subject: &Subject,
        seed: u64,
        target: Target,
        observe: Observe<'_>,
    ) -> Result<SqrtDiagonal, CurvatureError> {
        let masked = subject.masked();
        let own;
        let subject = match target {
            Target::TheseExamples => subject,
            Target::Population => {
                if masked.len() < 2 {
                    return Err(Refusal::OneExample.into());
                }
                own = subject.in_batches_of(masked.len().div_ceil(GROUPS));
                &own
            }
        };
        let pass = DrawnGradients::new(subject, LossDraw::Signs)?;
        let by_draw = target == Target::TheseExamples;
        let (groups, draws) = if by_draw { (GROUPS, GROUPS) } else { (subject.batches.len(), DRAWS) };
        let mut squares = vec![vec![0.0f32; subject.size()]; groups];
        let mut positions = vec![0.0; groups];
        for batch in 0..subject.batches.len() {
            let size: usize = masked[subject.batches[batch].clone()].iter().sum();
            match by_draw {
                true => positions.iter_mut().for_each(|p| *p += size as f64),
                false => positions[batch] += size as f64,
            }
            for first in (0..draws).step_by(pass.width()) {
                let count = pass.width().min(draws - first);
                let share = if by_draw { 1.0 } else { 1.0 / draws as f32 };
                pass.run(subject, batch, (seed, first as u32), count, &mut |k, range, values| {
                    let group = if by_draw { first + k } else { batch };
                    squares[group][range].iter_mut().zip(values).for_each(|(sum, g)| *sum += share * g * g);
                })?;
            }
            observe(&Progress { done: batch + 1, of: subject.batches.len(), value: None })?;
        }
        let (value, bias) = jackknife(&squares, &positions)?;
        let [once, each] = pass.flops();
        let cost = (once + draws as f64 * each) / subject.gradient_flops();
        Ok(SqrtDiagonal { value, bias, gradient_equivalents: cost })
    }
}

/// Σ_j √(Σ_g s_gj / Σ_g m_g), its bias taken off, and the bias.
fn jackknife(squares: &[Vec<f32>], positions: &[f64]) -> Result<(Estimate, f64), CurvatureError> {
    let groups = squares.len();
    let total: f64 = positions.iter().sum();
    let mut plain = 0.0;
    let mut without = vec![0.0; groups];
    for j in 0..squares[0].len() {
        let sum: f64 = squares.iter().map(|s| f64::from(s[j])).sum();
        plain += (sum / total).sqrt();
        for (g, without) in without.iter_mut().enumerate() {
            *without += ((sum - f64::from(squares[g][j])).max(0.0) / (total - positions[g])).sqrt();
        }
    }
    if !plain.is_finite() {
        return Err(CurvatureError::NotFinite("the Fisher matrix's diagonal"));
    }
    let n = groups as f64;
    let mean = without.iter().sum::<f64>() / n;
    let bias = (n - 1.0) * (mean - plain);
    let scatter: f64 = without.iter().map(|t| (t - mean).powi(2)).sum();
    let error = ((n - 1.0) / n * scatter).sqrt();
    Ok((Estimate { value: plain - bias, standard_error: error, samples: groups }, bias))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn the_jackknife_takes_the_roots_bias_off() {
        let (groups, size, truth) = (16, 40, [4.0, 0.25, 1.0, 9.0]);
        let (mut off, mut plain, mut covered, repeats) = (0.0, 0.0, 0, 300);
        let whole: f64 = (0..size).map(|j: usize| f64::sqrt(truth[j % 4])).sum();
        for repeat in 0..repeats {
            let mut random = Stream::new(repeat, Purpose::Test, 5);
            let one = |j: usize, random: &mut Stream| (truth[j % 4] * random.normal().powi(2)) as f32;
            let squares: Vec<Vec<f32>> =
                (0..groups).map(|_| (0..size).map(|j| one(j, &mut random)).collect()).collect();
            let (found, bias) = jackknife(&squares, &vec![1.0; groups]).unwrap();
            off += (found.value - whole) / repeats as f64;
            plain += (found.value + bias - whole) / repeats as f64;
            covered += usize::from((found.value - whole).abs() <= 2.13 * found.standard_error);
        }
        // One in 4 groups is missing of the plain root, 1 - 1 / (4 G) of a squared normal's.
        assert!((plain / whole + 1.0 / 64.0).abs() < 0.004, "{plain} of {whole}");
        assert!(off.abs() < 0.004 * whole, "{off} of {whole}");
        assert!(covered >= 274, "{covered} of {repeats}");
    }
}
